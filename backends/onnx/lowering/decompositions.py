"""What stands for an operator at opsets that do not have it, in terms of older ones: a row per operator.

A row builds canonical nodes in front of the one that it stands for and gives a value for each of its outputs (None for
one that nobody uses). The bodies follow the operators' function definitions in the ONNX specification, in the shape
that runtimes know how to fuse again where there is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ....ir import Array, Builder, Dense, DType, Node, TensorType, Value, constant
from .attention import attention, rotary_embedding
from .form import Inexpressible
from .forms import REDUCTIONS
from .norms import group_normalization, layer_normalization, rms_normalization
from .operands import dtype_of, number, shape_of

Results = Sequence[Value | None]
LAST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Decomposition:
    """How to build what stands for a node, and which nodes need that (all, unless said otherwise).

    `always` is for an operator that opsets have and the pinned ONNX Runtime does not: it is never written.
    """

    build: Callable[[Node, Builder], Results]
    needed: Callable[[Node], bool] = lambda _: True
    always: bool = False


def cast_like(node: Node, op: Builder) -> Results:
    attrs = {k: v for k, v in node.attrs.items() if k in ("saturate", "round_mode")}
    return [op.Cast(node.operand(0), to=dtype_of(node.operand(1)).code, **attrs)]


def gelu(node: Node, op: Builder) -> Results:
    x = node.operand(0)
    if node.str("approximate") == "tanh":
        cubic = op.Add(x, op.Mul(op.Pow(x, number(3, x)), number(0.044715, x)))
        bounded = op.Tanh(op.Mul(cubic, number(math.sqrt(2 / math.pi), x)))
    else:
        bounded = op.Erf(op.Div(x, number(math.sqrt(2), x)))
    return [op.Mul(op.Mul(x, op.Add(bounded, number(1, x))), number(0.5, x))]


def hard_swish(node: Node, op: Builder) -> Results:
    x = node.operand(0)
    return [op.Mul(x, op.HardSigmoid(x, alpha=1 / 6, beta=0.5))]


def mish(node: Node, op: Builder) -> Results:
    x = node.operand(0)
    return [op.Mul(x, op.Tanh(op.Softplus(x)))]


def swish(node: Node, op: Builder) -> Results:
    x, alpha = node.operand(0), node.float("alpha")
    return [op.Mul(x, op.Sigmoid(x if alpha == 1 else op.Mul(x, number(alpha, x))))]


def trilu(node: Node, op: Builder) -> Results:
    x, k = node.operand(0), node.input(1)
    sizes = op.Shape(x)
    zero, one = constant(np.array(0, np.int64)), constant(np.array(1, np.int64))
    rows, columns = (op.Range(zero, op.Gather(sizes, constant(np.array(axis, np.int64))), one) for axis in (-2, -1))
    offset = op.Sub(columns, op.Unsqueeze(rows, [1]))
    diagonal = zero if k is None else k
    kept = op.GreaterOrEqual(offset, diagonal) if node.int("upper") else op.LessOrEqual(offset, diagonal)
    return [op.Where(kept, x, number(0, x))]


def shape_part(node: Node, op: Builder) -> Results:
    return [op.Slice(op.Shape(node.operand(0)), [node.int("start", 0)], [node.int("end", LAST)], [0])]


def is_part(node: Node) -> bool:
    return bool(node.int("start", 0)) or node.attr("end") is not None


def window(coefficients: Sequence[float]) -> Callable[[Node, Builder], Results]:
    """A sum of cosines over `size` points (HannWindow, HammingWindow, BlackmanWindow); the size must be a constant."""

    def build(node: Node, _: Builder) -> Results:
        size = node.operand(0).const
        if size is None:
            raise Inexpressible("its size is computed")
        count = int(size.item())
        period = count if node.int("periodic") else count - 1
        turns = 2 * np.pi * np.arange(count) / max(1, period)
        array: Array = np.zeros(count)
        for i, c in enumerate(coefficients):
            array += (-1) ** i * c * np.cos(i * turns)
        return [constant(Dense(array, DType.of_code(node.int("output_datatype"))))]

    return build


def unreduced(node: Node, op: Builder) -> Results:
    """A reduction over no axes: what it does to single elements."""
    x = node.operand(0)
    single: dict[str, Callable[[], Value]] = {
        "ReduceL1": lambda: op.Abs(x),
        "ReduceL2": lambda: op.Abs(x),
        "ReduceLogSum": lambda: op.Log(x),
        "ReduceSumSquare": lambda: op.Mul(x, x),
    }
    return [single.get(node.op, lambda: op.Identity(x))()]


def reduces_nothing(node: Node) -> bool:
    axes = node.input(1)
    empty = axes is None or (axes.const is not None and axes.const.count == 0)
    return empty and bool(node.int("noop_with_empty_axes", 0))


def batch_first(states: int) -> Callable[[Node, Builder], Results]:
    """A recurrent layer with the batch first (layout=1) between transposes; `states` is 2 for LSTM, else 1."""

    def build(node: Node, op: Builder) -> Results:
        operands = list(node.inputs)
        for index in (0, 5, 6)[: 1 + states]:
            value = node.input(index)
            if value is not None:
                operands[index] = op.Transpose(value, perm=[1, 0, 2])
        attrs = {k: v for k, v in node.attrs.items() if k != "layout"}
        made = op.node(node.op, operands, attrs, outputs=len(node.outputs))
        assert isinstance(made, Node)
        perms = [[2, 0, 1, 3], [1, 0, 2], [1, 0, 2]]
        return [
            op.Transpose(new, perm=perm) if old.users else None
            for old, new, perm in zip(node.outputs, made.outputs, perms, strict=False)
        ]

    return build


def is_batch_first(node: Node) -> bool:
    return bool(node.int("layout", 0))


def center_crop_pad(node: Node, op: Builder) -> Results:
    """Slice and Pad with the sizes worked out here, so they must be known (CenterCropPad-18)."""
    x, wanted = node.operand(0), node.operand(1).const
    sizes = x.type.static_shape if isinstance(x.type, TensorType) else None
    if wanted is None or sizes is None:
        raise Inexpressible("its sizes are not known")
    axes = [a % len(sizes) for a in node.ints("axes", tuple(range(len(sizes))))]
    starts, ends, pads = [0] * len(axes), [sizes[a] for a in axes], [0] * (2 * len(sizes))
    for i, (axis, size) in enumerate(zip(axes, wanted.numpy().tolist(), strict=True)):
        excess = sizes[axis] - size
        if excess > 0:
            starts[i], ends[i] = excess // 2, excess // 2 + size
        elif excess < 0:
            pads[axis], pads[len(sizes) + axis] = -excess // 2, -excess - (-excess // 2)
    cut = op.Slice(x, starts, ends, axes)
    return [op.Pad(cut, pads, number(0, x))]


def along_last(node: Node, op: Builder) -> Results:
    """A softmax along another axis than the last, between transposes."""
    rank = len(shape_of(node.operand(0)))
    axis, perm = node.int("axis", -1) % rank, list(range(rank))
    perm[axis], perm[-1] = perm[-1], perm[axis]
    last = op.node(node.op, [op.Transpose(node.operand(0), perm=perm)], {"axis": rank - 1})
    assert isinstance(last, Node)
    return [op.Transpose(last.output, perm=perm)]


def is_along_another(node: Node) -> bool:
    """True where the axes after that of a softmax are not known to have size 1."""
    shape, axis = node.operand(0).shape, node.int("axis", -1)
    return axis != -1 and shape is not None and any(size != 1 for size in shape[axis % len(shape) + 1 :])


DECOMPOSITIONS: dict[tuple[str, int], Decomposition] = {
    ("Attention", 23): Decomposition(attention),
    ("BlackmanWindow", 17): Decomposition(window([0.42, 0.5, 0.08])),
    ("CastLike", 15): Decomposition(cast_like),
    ("CenterCropPad", 18): Decomposition(center_crop_pad),
    ("GRU", 14): Decomposition(batch_first(1), is_batch_first),
    ("Gelu", 20): Decomposition(gelu),
    # Version 18 had a scale for each group instead of each channel, and runtimes dropped it.
    ("GroupNormalization", 21): Decomposition(group_normalization),
    ("HammingWindow", 17): Decomposition(window([25 / 46, 21 / 46])),
    ("HannWindow", 17): Decomposition(window([0.5, 0.5])),
    ("HardSwish", 14): Decomposition(hard_swish),
    ("LSTM", 14): Decomposition(batch_first(2), is_batch_first),
    ("LayerNormalization", 17): Decomposition(layer_normalization),
    ("Mish", 18): Decomposition(mish),
    ("RMSNormalization", 23): Decomposition(rms_normalization),
    ("RNN", 14): Decomposition(batch_first(1), is_batch_first),
    ("RotaryEmbedding", 23): Decomposition(rotary_embedding),
    ("Shape", 15): Decomposition(shape_part, is_part),
    ("Swish", 24): Decomposition(swish, always=True),
    ("Trilu", 14): Decomposition(trilu),
    **{(op, 13): Decomposition(along_last, is_along_another) for op in ("Hardmax", "LogSoftmax", "Softmax")},
    **{(op, 18): Decomposition(unreduced, reduces_nothing) for op in REDUCTIONS},
}
"""By operator and version: what stands for a node of that version where the opset is older."""
