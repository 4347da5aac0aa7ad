"""Rows that choose, reorder or replace whole entries, which take a function of their own in PyTorch."""

from __future__ import annotations

from ...ir import DType, Node, Value
from .code import Code, Piece, call, form, method, raw, sequence
from .emitter import Emitter, Row, Unpacked
from .members import TORCH_TYPES


def non_max_suppression(node: Node, e: Emitter) -> Code:
    """NonMaxSuppression-11: nothing is chosen without a limit."""
    limit, overlap, least = (node.input(i) for i in (2, 3, 4))
    options: dict[str, Piece] = {} if least is None else {"least": number_of(e, least)}
    if node.int("center_point_box"):
        options["centered"] = True
    limits = [0 if limit is None else e.integer(limit), 0.0 if overlap is None else number_of(e, overlap)]
    boxes, scores = e.tensor(node.operand(0)), e.tensor(node.operand(1))
    return call(e.helper("non_max_suppression"), boxes, scores, *limits, **options)


def number_of(e: Emitter, value: Value) -> Piece:
    """A scalar as a Python number."""
    known = e.number(value)
    return form("{0}.item()", e.tensor(value)) if known is None else known


def reverse_sequence(node: Node, e: Emitter) -> Code:
    axes = {"batch_axis": node.int("batch_axis"), "time_axis": node.int("time_axis")}
    return call(e.helper("reverse_sequence"), e.tensor(node.operand(0)), e.tensor(node.operand(1)), **axes)


def unique(node: Node, e: Emitter) -> Code | Unpacked:
    """Unique-11: values, their first places, each entry's value, and how often each stands there."""
    axis, count = node.attr("axis"), len(node.outputs)
    options: dict[str, Piece] = {"dim": axis} if isinstance(axis, int) else {}
    if not node.int("sorted"):
        options["ordered"] = False
    made = call(e.helper("unique"), e.tensor(node.operand(0)), **options)
    if count == 1:
        return form("{0}[0]", made)
    return Unpacked(made if count == 4 else form(f"{{0}}[:{count}]", made))


def center_crop_pad(node: Node, e: Emitter) -> Code:
    rank = e.need_rank(node, node.operand(0))
    axes = [a % rank for a in node.ints("axes", tuple(range(rank)))]
    sizes = e.shape_argument(node.operand(1))
    return call(e.helper("center_crop_pad"), e.tensor(node.operand(0)), sizes, sequence(axes, "(", ")"))


def tensor_scatter(node: Node, e: Emitter) -> Code:
    """TensorScatter-24: an update of a cache, from a place of its own in each sample."""
    start = node.input(2)
    options: dict[str, Piece] = {} if start is None else {"start": e.tensor(start)}
    if node.int("axis") != -2:
        options["axis"] = node.int("axis")
    if node.str("mode") == "circular":
        options["circular"] = True
    return call(e.helper("write_cache"), e.tensor(node.operand(0)), e.tensor(node.operand(1)), **options)


def affine_grid(node: Node, e: Emitter) -> Code:
    corners = bool(node.int("align_corners"))
    return call("F.affine_grid", e.tensor(node.operand(0)), e.shape_argument(node.operand(1)), align_corners=corners)


def bit_cast(node: Node, e: Emitter) -> Code:
    dtype = DType.of_code(node.int("to"))
    e.need(dtype in TORCH_TYPES, node, f"PyTorch has no element type {dtype.label}")
    return method(e.tensor(node.operand(0)), "view", raw(f"torch.{TORCH_TYPES[dtype]}"))


ROWS: dict[str, Row] = {
    "NonMaxSuppression": non_max_suppression, "ReverseSequence": reverse_sequence, "Unique": unique,
    "CenterCropPad": center_crop_pad, "TensorScatter": tensor_scatter, "AffineGrid": affine_grid, "BitCast": bit_cast,
}  # fmt: skip
