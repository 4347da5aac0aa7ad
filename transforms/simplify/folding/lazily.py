"""Nodes over large constants as expressions, which are computed piece by piece when they are written."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ....ir import Lazy, Node, Tensor, TensorType
from ....ir.builder import fold
from ....ir.tensors import cast, reshape


def unevaluated(node: Node) -> list[Tensor] | None:
    """The outputs of a node of constants as expressions, of the types that inference gives; None without any."""
    operands = [v.const for v in node.inputs if v is not None]
    known = [t for t in operands if t is not None]
    if node.domain or len(known) != len(node.inputs):
        return None
    made = MAKERS.get(node.op, folded)(node, known)
    if made is None or len(made) != len(node.outputs):
        return None
    return made if all(t.type == v.type for t, v in zip(made, node.outputs, strict=True)) else None


Maker = Callable[[Node, list[Tensor]], "list[Tensor] | None"]


def folded(node: Node, operands: list[Tensor]) -> list[Tensor] | None:
    """By the weight algebra that rules use."""
    found = fold(node.op, operands, node.attrs)
    return None if found is None else [found]


def gathered(node: Node, operands: list[Tensor]) -> list[Tensor] | None:
    """Indices out of range are left to fail at run time (Gather-13)."""
    size, indices = operands[0].shape[node.int("axis", 0)], operands[1].numpy()
    return folded(node, operands) if not indices.size or -size <= indices.min() <= indices.max() < size else None


def arranged(node: Node, operands: list[Tensor]) -> list[Tensor] | None:
    """Axes of size 1 and joined axes: the same elements in the output's shape."""
    shape = static(node, 0)
    return None if shape is None else [reshape(operands[0], shape)]


def expanded(node: Node, operands: list[Tensor]) -> list[Tensor] | None:
    shape = static(node, 0)
    return None if shape is None else [Lazy("broadcast", [operands[0]], shape=shape)]


def cast_(node: Node, operands: list[Tensor]) -> list[Tensor] | None:
    """Between floats, and from integers to anything; floats may be too large for an integer."""
    type_ = node.output.type
    if not isinstance(type_, TensorType) or (operands[0].dtype.is_float and not type_.dtype.is_float):
        return None
    plain = all(d.bits >= 16 and d.label[0] in "fiub" for d in (operands[0].dtype, type_.dtype))
    return [cast(operands[0], type_.dtype)] if plain else None


def cut(tensor: Tensor, axis: int, start: int, stop: int) -> Tensor:
    """The part [start:stop] along an axis."""
    whole = start == 0 and stop == tensor.shape[axis]
    return tensor if whole else Lazy("slice", [tensor], axis=axis, start=start, stop=stop)


def sliced(node: Node, operands: list[Tensor]) -> list[Tensor] | None:
    """Steps of 1 (Slice-13)."""
    x, starts, ends, *more = (operands[0], *(t.numpy().reshape(-1) for t in operands[1:]))
    axes = more[0] if more else np.arange(len(starts))
    if len(more) > 1 and not np.all(more[1] == 1):
        return None
    for start, end, axis in zip(starts.tolist(), ends.tolist(), axes.tolist(), strict=True):
        begin, stop, _ = slice(start, end).indices(x.shape[axis])
        x = cut(x, axis % x.rank, begin, max(begin, stop))
    return [x]


def split(node: Node, operands: list[Tensor]) -> list[Tensor] | None:
    """As long as the outputs' types say (Split-18)."""
    axis, start = node.int("axis", 0) % operands[0].rank, 0
    out: list[Tensor] = []
    for index in range(len(node.outputs)):
        shape = static(node, index)
        if shape is None:
            return None
        out.append(cut(operands[0], axis, start, start + shape[axis]))
        start += shape[axis]
    return out


def static(node: Node, index: int) -> tuple[int, ...] | None:
    """An output's shape in numbers."""
    type_ = node.outputs[index].type
    return type_.static_shape if isinstance(type_, TensorType) else None


MAKERS: dict[str, Maker] = {
    "Cast": cast_,
    "Expand": expanded,
    "Flatten": arranged,
    "Gather": gathered,
    "Slice": sliced,
    "Split": split,
    "Squeeze": arranged,
    "Unsqueeze": arranged,
}
