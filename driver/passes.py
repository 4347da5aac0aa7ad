"""The passes that can be asked for by name, built in and from other packages."""

from __future__ import annotations

from collections.abc import Sequence

from ..ir import UsageError
from ..transforms.base import Pass, options_of
from ..transforms.options import make, parse_pipeline
from ..transforms.prune import Factorize, Prune, PruneDepth, PruneExperts, Sparsify
from ..transforms.quantize import AdaRound, Equalize, Gptq, Half, Quantize, Smooth, ToQdq, ToQOperator
from ..transforms.simplify import Simplify
from .plugins import Registry

BUILT_IN: dict[str, type[Pass]] = {
    "simplify": Simplify,
    "prune": Prune,
    "prune_depth": PruneDepth,
    "prune_experts": PruneExperts,
    "factorize": Factorize,
    "sparsify": Sparsify,
    "equalize": Equalize,
    "smooth": Smooth,
    "gptq": Gptq,
    "adaround": AdaRound,
    "half": Half,
    "quantize": Quantize,
    "int8": Quantize,
    "qdq": ToQdq,
    "qoperator": ToQOperator,
}
"""Name -> pass; "int8" is what `methods` calls quantize."""


def available() -> Registry:
    """The built-in passes and those that installed packages register under the entry-point group `tersor.passes`."""
    return Registry(BUILT_IN)


def resolve(methods: str | Sequence[str | Pass]) -> list[Pass]:
    """Passes from pipeline text, or from a list of names, pipeline texts and passes."""
    if isinstance(methods, str):
        return parse_pipeline(methods, available())
    return [p for item in methods for p in ([item] if isinstance(item, Pass) else parse_pipeline(item, available()))]


def with_selection(passes: Sequence[Pass], only: Sequence[str], skip: Sequence[str]) -> list[Pass]:
    """The passes with `only` and `skip` given to those that select layers. Raises UsageError when none of them does."""
    if not only and not skip:
        return list(passes)
    out: list[Pass] = []
    used = False
    for each in passes:
        options = {k: getattr(each, k) for k in options_of(type(each))}
        if "only" not in options or "skip" not in options:
            out.append(each)
            continue
        used = True
        selection = {"only": (*options["only"], *only), "skip": (*options["skip"], *skip)}
        out.append(make(type(each), options | selection))
    if not used:
        raise UsageError(
            "only and skip select layers to prune or quantize",
            why="none of the passes does either",
            do="leave them out",
        )
    return out
