"""Weight-only int8 and int4: matrices and embedding tables are stored as integers with one scale per block.

The portable form: DequantizeLinear with a block size (opset 21) in front of a MatMul, which ONNX Runtime turns into
MatMulNBits. Rows of an int8 table are looked up as integers, and only they are dequantized; an int4 table is restored
before its Gather, which takes no four bits in ONNX Runtime. Everything is computed from the weight, some rows at a
time, when it is written, so memory does not grow with the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...ir import Array, Builder, DType, Graph, Node, Tensor, TensorType, Value, constant, fuse
from ..select import Selection

BITS: Mapping[int, tuple[DType, int]] = {8: (DType.I8, 127), 4: (DType.I4, 7)}
"""Element type and largest integer; symmetric, so that zero is exact and there is no zero point."""

SMALLEST = 4096
"""Elements below which a weight is not worth a second node."""


class Blocked(Tensor):
    """What blocked tensors share: the weight, and that `block` neighbours along `axis` (0 or 1) have one scale."""

    __slots__ = ("axis", "block", "largest", "weight")

    def __init__(self, weight: Tensor, axis: int, block: int, bits: int, dtype: DType, shape: tuple[int, ...]) -> None:
        super().__init__(dtype, shape)
        self.weight, self.axis, self.block, self.largest = weight, axis, block, BITS[bits][1]

    def numpy(self) -> Array:
        return self.rows(0, self.shape[0])

    def split(self, start: int, stop: int) -> tuple[Array, Array]:
        """Rows of the weight with the axis split into blocks, in double precision, and the scale of each block as it is
        stored; rows are whole blocks where those go along axis 0.
        """
        rows = self.weight.rows(start, stop).astype(np.float64)
        count = rows.shape[self.axis] // self.block
        blocks = rows.reshape(*rows.shape[: self.axis], count, self.block, *rows.shape[self.axis + 1 :])
        scale = np.abs(blocks).max(self.axis + 1, keepdims=True) / self.largest
        return blocks, np.where(scale > 0, scale, 1.0).astype(self.weight.dtype.numpy)


class BlockScales(Blocked):
    """The scale of each block, max|w| / `largest`; 1 for a block of zeros."""

    __slots__ = ()

    def __init__(self, weight: Tensor, axis: int, block: int, bits: int) -> None:
        shape = tuple(d // block if a == axis else d for a, d in enumerate(weight.shape))
        super().__init__(weight, axis, block, bits, weight.dtype, shape)

    def rows(self, start: int, stop: int) -> Array:
        step = 1 if self.axis else self.block
        return self.split(start * step, stop * step)[1].squeeze(self.axis + 1)


class BlockIntegers(Blocked):
    """round(w / scale), scale by scale as stored."""

    __slots__ = ()

    def __init__(self, weight: Tensor, axis: int, block: int, bits: int) -> None:
        super().__init__(weight, axis, block, bits, BITS[bits][0], weight.shape)

    def rows(self, start: int, stop: int) -> Array:
        step = 1 if self.axis else self.block
        first = start // step * step
        blocks, scale = self.split(first, min(-(-stop // step) * step, self.shape[0]))
        rounded = np.clip(np.rint(blocks / scale.astype(np.float64)), -self.largest, self.largest)
        rows = rounded.reshape(rounded.size // max(1, self.shape[1]), self.shape[1]).astype(np.int8)
        return rows[start - first : stop - first].astype(self.dtype.numpy)


@dataclass(frozen=True)
class Stored:
    """A node whose weight is to be stored as integers: which operand, and the axis of the blocks."""

    node: Node
    index: int
    axis: int

    @property
    def weight(self) -> Value:
        return self.node.operand(self.index)


FORMS = {"MatMul": (1, 0), "Gather": (0, 1)}
"""Operator -> the operand that is the weight, and the axis along which its blocks go."""


def candidates(graph: Graph, selection: Selection, block: int) -> dict[Node, Stored | str]:
    """Every MatMul and Gather of a floating-point constant: how it is stored, or why it stays as it is."""
    found: dict[Node, Stored | str] = {}
    for node in graph.walk():
        if node.op not in FORMS or node.domain:
            continue
        stored = Stored(node, *FORMS[node.op])
        if stored.weight.const is not None and stored.weight.tensor.dtype.is_float:
            found[node] = selection.reason(node) or _why_not(graph, stored, block) or stored
    taken = {node for node, row in found.items() if isinstance(row, Stored)}
    for node, row in found.items():
        if isinstance(row, Stored) and any(user not in taken for user in row.weight.users):
            found[node] = "its weight is used elsewhere too, so it would be stored twice"
    return found


def _why_not(graph: Graph, stored: Stored, block: int) -> str:
    tensor, node = stored.weight.tensor, stored.node
    if node.graph is not graph:
        return "inside a control-flow region"
    if tensor.dtype not in (DType.F32, DType.F16):
        return f"it is stored as {tensor.dtype.label}"
    if tensor.rank != 2:
        return "its weight is not a matrix"
    if node.op == "Gather" and node.int("axis") % 2:
        return "it selects columns"
    if tensor.count < SMALLEST:
        return f"it has {tensor.count} elements: too few to be worth it"
    if tensor.shape[stored.axis] % block:
        return f"its {tensor.shape[stored.axis]} entries per scale are no multiple of the block of {block}"
    return ""


def store(graph: Graph, chosen: Mapping[Node, Stored], bits: int, block: int) -> None:
    """Rewrites the chosen nodes."""
    made: dict[tuple[Value, int], tuple[Value, Value]] = {}
    for node, stored in chosen.items():
        weight, axis = stored.weight, stored.axis
        if (weight, axis) not in made:
            name = weight.name
            made[weight, axis] = (
                constant(BlockIntegers(weight.tensor, axis, block, bits), f"{name}_quantized"),
                constant(BlockScales(weight.tensor, axis, block, bits), f"{name}_scale"),
            )
        rows = node.op == "Gather" and BITS[bits][0] is DType.I8
        _look_up(graph, stored, made[weight, axis], block) if rows else _restore(
            graph, stored, made[weight, axis], block
        )


def _restore(graph: Graph, stored: Stored, parts: tuple[Value, Value], block: int) -> None:
    """A DequantizeLinear between the weight and the node."""
    node = stored.node
    op = Builder(graph, node, loc=fuse(node.loc, [], "quantize"))
    restored = op.DequantizeLinear(*parts, axis=stored.axis, block_size=block)
    restored.type, restored.name = stored.weight.type, f"{stored.weight.name}_dequantized"
    node.set_input(stored.index, restored)


def _look_up(graph: Graph, stored: Stored, parts: tuple[Value, Value], block: int) -> None:
    """Integers and scales of the wanted rows, dequantized after the look-up."""
    node, y, weight = stored.node, stored.node.output, stored.weight
    indices = node.operand(1)
    op = Builder(graph, node, loc=fuse(node.loc, [], "quantize"))
    rows = [op.Gather(part, indices, axis=0) for part in parts]
    for value, part in zip(rows, parts, strict=True):
        value.type = TensorType(part.tensor.dtype, (*(indices.shape or ()), part.tensor.shape[1]))
    result = op.DequantizeLinear(*rows, axis=-1, block_size=block)
    result.type, result.name = (y.type if indices.shape is not None else weight.type), y.name
    y.replace_by(result)
    node.erase()
