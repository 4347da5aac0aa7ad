"""Convolutions over one axis and transposed ones as convolutions over two axes, for which there are int8 kernels.

A line of pixels is an image of height one. A transposed convolution with stride s computes each of s x s phases of its
result by a convolution of its own (Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016):
all of them at once give s x s times the channels, which DepthToSpace puts into their places. That takes up to
2.3 times the products, and pays in int8 only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ...ir import Array, Attribute, Builder, Dense, Graph, Node, TensorType, Value, constant, fuse
from ...ir.tensors.lazy import reshape
from .layers import Integer, Layer, is_f32, layer_of
from .placement import clip_range
from .scheme import amplitude

RULE = "quantize"
LINE_RANK = 3
UNIT = 2
"""Where the axis of length one is put into a line."""

WIDENED: dict[str, Callable[[tuple[int, ...]], tuple[int, ...]]] = {
    "kernel_shape": lambda v: (1, *v),
    "strides": lambda v: (1, *v),
    "dilations": lambda v: (1, *v),
    "pads": lambda v: (0, v[0], 0, v[1]),
}

FOLLOWERS = frozenset(
    [
        *("Relu", "Clip", "LeakyRelu", "Sigmoid", "Add", "Mul", "Concat"),
        *("MaxPool", "AveragePool", "GlobalAveragePool"),
    ]
)
"""What has an int8 kernel between convolutions, and would else want lines again."""

ENDS = ("Clip",)
"""Followers of which the first operand alone is data."""


def candidate(node: Node) -> Layer | None:
    """The layer that a convolution over one axis or a transposed one is; None where it has no other form."""
    if node.domain or not all(v is None or is_f32(v) for v in node.inputs) or len(node.inputs) < 2:
        return None
    x, weight, bias = node.operand(0), node.operand(1), node.input(2)
    if weight.const is None or not weight.tensor.count or (bias is not None and bias.const is None):
        return None
    if x.op == "DequantizeLinear":
        return None
    if not (is_line(node) or (is_transposed(node) and phases(node) is not None)):
        return None
    axis = 1 if node.op == "ConvTranspose" else 0
    found = amplitude(weight.tensor, axis)
    if not np.isfinite(found).all() or (bias is not None and not np.isfinite(bias.tensor.numpy()).all()):
        return None
    return Layer(node, x, weight, axis, found, bias)


def is_line(node: Node) -> bool:
    return node.op == "Conv" and node.operand(0).rank == LINE_RANK


def is_transposed(node: Node) -> bool:
    return node.op == "ConvTranspose" and node.operand(0).rank == LINE_RANK + 1


def as_images(graph: Graph, chosen: Mapping[Node, Integer], *, lines: bool = True) -> dict[Node, Integer]:
    """Rewrites those of the layers that are transposed, and with `lines` those over one axis; gives all in the same
    order, as they are then.
    """
    now = dict(zip(chosen, chosen, strict=True))
    images: dict[Value, Value] = {}
    for node in list(graph):
        if node.graph is not graph:
            continue
        if node in chosen and is_line(node) and lines:
            now[node] = _convolution(graph, node, images)
        elif node in chosen and is_transposed(node):
            now[node] = _phases(graph, node)
        elif node.op in FOLLOWERS and not node.domain and node not in chosen:
            _follow(graph, node, images)
    for line in images:
        if not line.users and line.node is not None:
            line.node.erase()
    return {now[node]: _layer(now[node], layer) for node, layer in chosen.items()}


def _layer(node: Node, before: Integer) -> Integer:
    found = before if node is before.node else layer_of(node)
    assert not isinstance(found, str), found
    return found


def _convolution(graph: Graph, node: Node, images: dict[Value, Value]) -> Node:
    """A convolution over lines as one over images of height one."""
    x, weight, y = node.operand(0), node.operand(1), node.output
    op = Builder(graph, node, loc=fuse(node.loc, [], RULE))
    image = images.get(x)
    if image is None:
        image = op.Unsqueeze(x, [UNIT])
        image.type, image.name = _raised(x), x.name
    shape = weight.tensor.shape
    wide = constant(reshape(weight.tensor, [*shape[:UNIT], 1, *shape[UNIT:]]), weight.name)
    return _widened(op, node, [image, wide, *node.inputs[2:]], y, images)


def _follow(graph: Graph, node: Node, images: dict[Value, Value]) -> None:
    """What reads images of height one alone computes on these, too."""
    data = node.inputs[:1] if node.op in ENDS else node.inputs
    rest = list(node.inputs[len(data) :])
    if not data or any(v is None or v not in images or v.rank != LINE_RANK for v in data):
        return
    if any(v.users for v in node.outputs[1:]):
        return
    op = Builder(graph, node, loc=fuse(node.loc, [], RULE))
    _widened(op, node, [*(images[v] for v in data if v is not None), *rest], node.output, images)


def _widened(op: Builder, node: Node, operands: list[Value | None], y: Value, images: dict[Value, Value]) -> Node:
    """The node with images as operands; its users get lines."""
    attrs = {key: _wide(key, value) for key, value in node.attrs.items()}
    made = op.node(node.op, operands, attrs)
    assert isinstance(made, Node), "its input is computed"
    made.output.type, made.output.name = _raised(y), y.name
    line = op.Squeeze(made.output, [UNIT])
    line.type, line.name = y.type, y.name
    images[line] = made.output
    y.replace_by(line)
    node.erase()
    return made


def _wide(key: str, value: Attribute) -> Attribute:
    """An attribute of an operator over lines as that of one over images."""
    if key == "axis" and isinstance(value, int):
        axis = value % LINE_RANK
        return axis if axis < UNIT else axis + 1
    if key in WIDENED and isinstance(value, tuple):
        return WIDENED[key](tuple(int(v) for v in value if isinstance(v, int)))
    return value


def _raised(line: Value) -> TensorType:
    assert isinstance(line.type, TensorType)
    assert line.type.shape is not None, "it is of known rank"
    shape = line.type.shape
    return TensorType(line.type.dtype, (*shape[:UNIT], 1, *shape[UNIT:]))


@dataclass(frozen=True)
class Phases:
    """A transposed convolution with stride s in both axes as one with kernels of `taps` for s x s phases.

    Per axis: zeros `before` the kernel, that make what is cut off at the front whole pixels of the input, the `pads` of
    the new convolution, how many pixels of each phase there are more than of the input (`grown`), and how many rows or
    columns are cut off at the `end` of the result.
    """

    stride: int
    taps: tuple[int, int]
    before: tuple[int, int]
    pads: tuple[int, int, int, int]
    grown: tuple[int, int]
    end: tuple[int, int]


def phases(node: Node) -> Phases | None:
    """How a ConvTranspose becomes a Conv; None for forms that are not covered."""
    kernel = node.operand(1).tensor.shape[2:]
    stride = node.ints("strides", (1, 1))
    if len(kernel) != 2 or len(stride) != 2 or stride[0] != stride[1] or stride[0] < 2:
        return None
    if node.str("auto_pad") not in ("", "NOTSET") or node.ints("output_shape", ()):
        return None
    if any(d != 1 for d in node.ints("dilations", (1, 1))):
        return None
    pads, more = node.ints("pads", (0, 0, 0, 0)), node.ints("output_padding", (0, 0))
    axes = [_phase(kernel[a], stride[0], pads[a], pads[a + 2], more[a]) for a in (0, 1)]
    if any(axis is None for axis in axes):
        return None
    (t0, b0, p0, q0, g0, e0), (t1, b1, p1, q1, g1, e1) = (axis for axis in axes if axis is not None)
    return Phases(stride[0], (t0, t1), (b0, b1), (p0, p1, q0, q1), (g0, g1), (e0, e1))


def _phase(kernel: int, stride: int, begin: int, end: int, more: int) -> tuple[int, int, int, int, int, int] | None:
    """Taps, zeros before the kernel, pads on both sides, growth and what is cut off at the end, along one axis.

    Element o of the uncut result is the sum over i of x[i] w[o - stride i] (ONNX ConvTranspose). With o = stride q + r
    that is, for each phase r, a convolution of x with every stride-th weight.
    """
    before = -begin % stride
    skipped = (begin + before) // stride
    taps = -(-(kernel + before + max(0, more - end)) // stride)
    beyond = more + kernel - begin - end
    cut = -beyond % stride
    grown = (beyond + cut) // stride - 1
    left = taps - 1 - skipped
    right = grown - left + taps - 1
    return None if left < 0 or right < 0 else (taps, before, left, right, grown, cut)


def _phases(graph: Graph, node: Node) -> Node:
    """A transposed convolution, with the Relu or Clip behind it, as Conv, the same behind that, and DepthToSpace."""
    form = phases(node)
    assert form is not None, "a candidate has a form"
    weight, bias, y = node.operand(1), node.input(2), node.output
    last = y.only_user
    clip = last if last is not None and clip_range(last) is not None else None
    op = Builder(graph, node, loc=fuse(node.loc, [], RULE))
    group = node.int("group")
    wide = constant(Dense(kernels(weight.tensor.numpy(), group, form)), weight.name)
    operands = [node.operand(0), wide]
    if bias is not None:
        operands.append(constant(Dense(np.repeat(bias.tensor.numpy(), form.stride**2)), bias.name))
    conv = op.Conv(*operands, pads=list(form.pads), group=group)
    assert isinstance(y.type, TensorType)
    shape = node.operand(0).shape
    assert shape is not None, "a candidate is of known rank"
    batch, sizes = shape[0], shape[2:]
    square = form.stride**2
    rows, columns = (d + more for d, more in zip(sizes, form.grown, strict=True))
    conv.type, conv.name = TensorType(y.type.dtype, (batch, wide.tensor.shape[0], rows, columns)), y.name
    made = conv.node
    assert made is not None, "its input is computed"
    result, old = conv, y
    if clip is not None:
        bounded = op.node(clip.op, [conv, *clip.inputs[1:]], clip.attrs)
        assert isinstance(bounded, Node), "its input is computed"
        result, old = bounded.output, clip.output
        result.type, result.name = conv.type, clip.output.name
    result = op.DepthToSpace(result, blocksize=form.stride, mode="CRD")
    channels = wide.tensor.shape[0] // square
    result.type = TensorType(y.type.dtype, (batch, channels, rows * form.stride, columns * form.stride))
    if any(form.end):
        axes = [a for a in (0, 1) if form.end[a]]
        ends = [-form.end[a] for a in axes]
        result = op.Slice(result, [0] * len(axes), ends, [a + 2 for a in axes])
    result.type, result.name = old.type, old.name
    old.replace_by(result)
    if clip is not None:
        clip.erase()
    node.erase()
    return made


def kernels(weight: Array, group: int, form: Phases) -> Array:
    """Weights [inputs, outputs / group, rows, columns] of a transposed convolution as those of the phases: [outputs *
    s * s, inputs / group, taps, taps], with the phases of an output next to each other."""
    inputs, outputs, *kernel = weight.shape
    s, (rows, columns), (top, left) = form.stride, form.taps, form.before
    padded = np.zeros((inputs, outputs, s * rows, s * columns), weight.dtype)
    padded[:, :, top : top + kernel[0], left : left + kernel[1]] = weight
    split = padded.reshape(group, inputs // group, outputs, rows, s, columns, s)[:, :, :, ::-1, :, ::-1, :]
    return np.ascontiguousarray(split.transpose(0, 2, 4, 6, 1, 3, 5)).reshape(-1, inputs // group, rows, columns)
