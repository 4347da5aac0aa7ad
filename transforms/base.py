"""What a pass is: a frozen dataclass whose fields are its options, with a contract that the manager checks."""

from __future__ import annotations

import ast
import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, ClassVar, Literal, cast

from ..backends.runners import Samples
from ..ir import Model, Node, UsageError
from ..ir.inference import Fallback
from ..ir.rewrite import Fuel, RuleStatistics
from .select import label

Contract = Literal["exact", "masked", "approximate"]
"""exact: the same function up to floating-point reassociation; masked: equals the original with the removed channels
masked; approximate: another function whose distance is measured and reported."""

Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, how many units are done and how many there are (None: not known)."""


def silent(label: str, done: int, total: int | None) -> None:
    """A progress callback that shows nothing."""


@dataclass(frozen=True)
class Decision:
    """One row of the per-layer table: what was decided for a layer and why."""

    layer: str
    op: str
    decision: str
    reason: str
    scope: str = ""
    source: str = ""
    sqnr_db: float | None = None

    @staticmethod
    def of(node: Node, decision: str, reason: str, sqnr_db: float | None = None) -> Decision:
        return Decision(label(node), node.op, decision, reason, node.loc.scope, node.loc.source, sqnr_db)


@dataclass
class Outcome:
    """What a pass did besides changing the model.

    `reference` is the model that the result must equal where the contract is "masked"; `changed` counts rewrites or
    changed layers; `checks` are named results of checks that the pass ran itself (the mask oracle). `contract` is what
    this run kept where that is not what the pass says in general.
    """

    changed: int = 0
    decisions: list[Decision] = field(default_factory=list[Decision])
    rules: Mapping[str, RuleStatistics] = field(default_factory=dict[str, RuleStatistics])
    notes: list[str] = field(default_factory=list[str])
    warnings: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    reference: Model | None = None
    checks: dict[str, Any] = field(default_factory=dict[str, Any])
    contract: Contract | None = None


@dataclass(frozen=True)
class Context:
    """What a pass may use: calibration samples (None: the user gave none), a seed, type inference for unusual
    operators, progress.

    A pass that rewrites gives `fuel` to its rewriter and sweeps, so that the rewrite which breaks something can be
    found.
    """

    samples: Samples | None = None
    seed: int = 0
    fallback: Fallback | None = None
    progress: Progress = silent
    fuel: Fuel = field(default_factory=Fuel)


@dataclass(frozen=True)
class Pass(ABC):
    """Changes a model in place. Subclasses are frozen dataclasses; every field is an option of the same name
    everywhere.
    """

    name: ClassVar[str]
    contract: ClassVar[Contract]

    @abstractmethod
    def run(self, model: Model, context: Context) -> Outcome:
        """Changes `model` in place and says what was done."""

    def __str__(self) -> str:
        """The pass in pipeline text, without the options that have their default."""
        options = [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != f.default
        ]
        return f"{self.name}({', '.join(options)})" if options else self.name


def options_of(kind: type[Pass]) -> dict[str, Any]:
    """The names of a pass's options and their defaults."""
    return {f.name: f.default for f in dataclasses.fields(kind)}


def make(kind: type[Pass], options: Mapping[str, Any]) -> Pass:
    """An instance of a pass. Raises UsageError for an option that it does not have."""
    known = options_of(kind)
    for name in options:
        if name not in known:
            raise UsageError(
                f"pass {kind.name!r} has no option {name!r}", do=f"its options are {', '.join(known) or 'none'}"
            )
    frozen: dict[str, Any] = {k: (*cast(list[Any], v),) if isinstance(v, list) else v for k, v in options.items()}
    return kind(**frozen)


NAME = re.compile(r"\s*([A-Za-z_][\w-]*)\s*(?:\((.*)\))?\s*\Z", re.DOTALL)
"""One pass in pipeline text: its name, and what stands in its parentheses."""


def parse_pipeline(text: str, passes: Mapping[str, type[Pass]]) -> list[Pass]:
    """Passes from text such as `simplify,prune(ratio=0.3),quantize(mode="static")`. Raises UsageError with what is
    wrong.
    """
    return [_pass(item, passes) for item in _items(text)]


def _items(text: str) -> list[str]:
    """The parts of a pipeline between the commas that stand outside of parentheses and strings."""
    items, depth, quote = [""], 0, ""
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote and text[place - 1] != "\\" else quote
        elif letter in "'\"":
            quote = letter
        else:
            depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth and not quote:
            items.append("")
        else:
            items[-1] += letter
    return items if len(items) == 1 or items[-1].strip() else items[:-1]


def _pass(item: str, passes: Mapping[str, type[Pass]]) -> Pass:
    found = NAME.match(item)
    if found is None:
        raise UsageError(f"not a pass: {item.strip()!r}", do="write passes as in simplify,prune(ratio=0.3)")
    name, options = found.group(1), _options(found.group(2) or "", item)
    if name not in passes:
        close = get_close_matches(name, passes, 1)
        raise UsageError(
            f"there is no pass called {name!r}",
            why=f"did you mean {close[0]!r}?" if close else "",
            do=f"the passes are {', '.join(sorted(passes))}",
        )
    return make(passes[name], options)


def _options(text: str, item: str) -> dict[str, Any]:
    """The options between the parentheses of a pass. Raises UsageError for anything but plain values by name."""
    try:
        call = ast.parse(f"options({text})", mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise UsageError(
            f"not a pass: {item.strip()!r}", why=str(error), do="write passes as in simplify,prune(ratio=0.3)"
        ) from error
    if not isinstance(call, ast.Call) or call.args or any(k.arg is None for k in call.keywords):
        raise UsageError(f"not a pass: {item.strip()!r}", do="give options by name, as in prune(ratio=0.3)")
    try:
        return {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    except ValueError as error:
        raise UsageError(f"an option in {item.strip()!r} is not a plain value", why=str(error)) from error
