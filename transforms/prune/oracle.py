"""The mask oracle: does a pruned graph compute what the original computes with the removed channels masked?

Every value of the two graphs is compared, not only the outputs: `take(masked, kept) == pruned` as max|a-b| /
max|reference|. A wrong index, group count or offset shows at the first value that it touches. The original's own
outputs are the negative control: they have to differ from the masked ones, or the comparison says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...backends.compare import max_error
from ...backends.runners import DoubleRunner, Feeds, OrtRunner, Runner, in_stages
from ...ir import Array, DType, Model, TensorType, TersorError, Value
from ..cost import Sizes, bind_sizes, parameter_count, static_shape
from ..portions import portions
from .axes import SIZES
from .kept import Kept
from .rules.semantic import MASKED_STATISTICS

TOLERANCES: Mapping[DType, float] = {DType.F32: 1e-5, DType.F64: 1e-9, DType.F16: 1e-2, DType.BF16: 8e-2}
"""Largest difference by element type; other types, and float values of no listed type, have to agree exactly."""


@dataclass(frozen=True)
class Comparison:
    """The oracle's report.

    `worst` is the largest difference, at the value `where`; `changed` says how far masking moved the outputs. `settled`
    values agreed only in double precision and do not count for `worst`. `parameters` are counted before and after.
    `passed` says that every value agreed within the tolerance of its type.
    """

    values: int
    settled: int
    worst: float
    where: str
    changed: float
    parameters: tuple[int, int]
    passed: bool


@dataclass(frozen=True)
class Pair:
    """A value of the masked graph, its counterpart in the pruned one, and the indices that stay along each pruned
    axis.
    """

    reference: Value
    candidate: Value
    kept: dict[int, Array]
    where: str


def pairs(masked: Model, pruned: Model, kept: Kept) -> list[Pair]:
    """Every tensor that nodes of both graphs compute. Sizes differ on purpose and are left out."""
    found: list[Pair] = []
    counterparts = (node for node in masked.graph if node.loc.rule != MASKED_STATISTICS)
    for old, new in zip(counterparts, pruned.graph, strict=True):
        for reference, candidate in zip(old.outputs, new.outputs, strict=True):
            tensor = isinstance(reference.type, TensorType) and reference.type.dtype is not DType.STRING
            if tensor and candidate.users and new.op not in ("Shape", "Size") and not says_sizes(candidate):
                found.append(Pair(reference, candidate, dict(kept.changed(candidate)), new.where))
    return found


def says_sizes(value: Value) -> bool:
    """True for computed sizes: what they are the sizes of is compared."""
    return all(user.op in SIZES and user.input(SIZES[user.op]) is value for user in value.users)


def check(original: Model, masked: Model, pruned: Model, kept: Kept, feeds: Feeds) -> Comparison:
    """Runs the three models on one input and compares every value.

    `kept` belongs to the values of `pruned`, which has the nodes of `masked` in the same order.
    """
    return compared(original, masked, pruned, pairs(masked, pruned, kept), feeds)


def compared(original: Model, masked: Model, pruned: Model, found: Sequence[Pair], feeds: Feeds) -> Comparison:
    """Runs the three models on one input and compares these values.

    What single precision leaves open (ONNX Runtime's sigmoid of -16 has no correct digit) is computed once more in
    double.
    """
    errors, outputs = errors_of(masked, pruned, found, feeds, once, masked.graph.outputs)
    undecided = [i for i, pair in enumerate(found) if errors[i] > tolerance(pair.reference)]
    settled = settle(masked, pruned, [found[i] for i in undecided], feeds) if undecided else []
    failed = [i for i, agrees in zip(undecided, settled, strict=True) if not agrees]
    shown = failed or sorted(set(range(len(found))) - set(undecided))
    worst = max(shown, key=lambda i: errors[i], default=None)
    before = once(original).run(feeds)
    parameters = (parameter_count(original.graph), parameter_count(pruned.graph))
    return Comparison(
        values=len(found),
        settled=len(undecided) - len(failed),
        worst=0.0 if worst is None else errors[worst],
        where="" if worst is None else found[worst].where,
        changed=max(difference(a, b, {}) for a, b in zip(before.values(), outputs, strict=True)),
        parameters=parameters,
        passed=not failed,
    )


def once(model: Model) -> Runner:
    return OrtRunner(model, optimize=False, once=True)


def settle(masked: Model, pruned: Model, found: Sequence[Pair], feeds: Feeds) -> list[bool]:
    """Which of the pairs agree in double precision; none where the models cannot be computed in it."""
    try:
        errors, _ = errors_of(masked, pruned, found, feeds, DoubleRunner)
    except TersorError:
        return [False] * len(found)
    return [error <= TOLERANCES[DType.F64] for error in errors]


def errors_of(
    masked: Model,
    pruned: Model,
    found: Sequence[Pair],
    feeds: Feeds,
    runner: Callable[[Model], Runner],
    also: Sequence[Value] = (),
) -> tuple[list[float], list[Array]]:
    """How far the values of each pair are apart, a portion at a time, and the numbers of further values of the masked
    model.
    """
    sizes = bind_sizes(masked.graph, {name: np.shape(array) for name, array in feeds.items()})
    parts = list(portions(found, lambda pair: value_bytes(pair, sizes)))
    reference = in_stages(masked, feeds, [*([p.reference for p in part] for part in parts), also], runner)
    candidate = in_stages(pruned, feeds, [[p.candidate for p in part] for part in parts], runner)
    errors = [error for part in parts for error in differences(part, next(reference), next(candidate))]
    return errors, next(reference)


def differences(found: Sequence[Pair], reference: Sequence[Array], candidate: Sequence[Array]) -> list[float]:
    return [difference(a, b, p.kept) for p, a, b in zip(found, reference, candidate, strict=True)]


def tolerance(value: Value) -> float:
    return TOLERANCES.get(value.type.dtype, 0.0) if isinstance(value.type, TensorType) else 0.0


def difference(reference: Array, candidate: Array, kept: Mapping[int, Array]) -> float:
    """max|a-b| / max|reference| over what stays; infinite for other shapes and for entries that are finite in only one
    of them.
    """
    for axis, left in kept.items():
        reference = np.take(reference, left, axis)
    if reference.shape != candidate.shape:
        return math.inf
    return max_error(reference, candidate)


def value_bytes(pair: Pair, sizes: Sizes) -> int:
    """What the values of a pair take, as single precision."""
    return 4 * math.prod(static_shape(pair.reference, sizes) or ())
