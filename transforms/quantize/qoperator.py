"""Both forms of a quantized graph: pairs of QuantizeLinear and DequantizeLinear around float operators (QDQ), and
operators on integers (QOperator), for runtimes that fuse no pairs and for files that come in that form.

One table has the operators of either form. ONNX has QLinearConv and QLinearMatMul; the rest is ONNX Runtime's domain
com.microsoft (its ContribOperators page).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...ir import Builder, DType, Graph, Model, Node, TensorType, Value, constant, fuse
from ...ir.attributes import Attribute
from ...ir.inference import infer
from ...ir.tensors import integer_range
from ..base import Context, Contract, Outcome, Pass
from ..simplify.structure import erase_dead
from .placement import CONNECTORS, clip_range
from .scheme import PER_CHANNEL_OPSET

MICROSOFT = "com.microsoft"

Quantized = tuple[Value, Value, Value]
"""Integers, their scale and their zero point."""


@dataclass(frozen=True)
class Form:
    """An operator on integers.

    `triples` are the places where an operand's integers, scale and zero point begin, which stand `apart` places from
    each other; `repeats`: they go on like that.
    `bias` is the place of int32 integers, `result` that of the result's scale and zero point, without which the result
    is float where `may_give_float`. `weight_axis` is the axis along which the second operand may have scales. `covers`
    and `restores` say for which nodes there is a way to this form, and back.
    """

    op: str
    domain: str = ""
    triples: tuple[int, ...] = (0,)
    apart: int = 1
    repeats: bool = False
    bias: int | None = None
    result: int = 3
    may_give_float: bool = False
    weight_axis: Callable[[Node], int | None] = lambda _: None
    covers: Callable[[Node], bool] = lambda _: True
    restores: Callable[[Node], bool] = lambda _: True

    def places(self, start: int) -> tuple[int, int, int]:
        """Of an operand's integers, scale and zero point."""
        return start, start + self.apart, start + 2 * self.apart


def _columns(node: Node) -> int:
    return 0 if node.int("transB", 0) else 1


def _plain_gemm(node: Node) -> bool:
    return node.float("alpha", 1.0) == 1.0 and (node.input(2) is None or node.float("beta", 1.0) == 1.0)


def _undilated(node: Node) -> bool:
    return all(d == 1 for d in node.ints("dilations", ()))


FORMS: dict[str, Form] = {
    "Conv": Form("QLinearConv", triples=(0, 3), result=6, bias=8, weight_axis=lambda _: 0),
    "MatMul": Form("QLinearMatMul", triples=(0, 3), result=6, weight_axis=lambda _: 1),
    "Gemm": Form(
        "QGemm", MICROSOFT, triples=(0, 3), bias=6, result=7, may_give_float=True, weight_axis=_columns,
        covers=_plain_gemm,
    ),
    "Add": Form("QLinearAdd", MICROSOFT, triples=(0, 3), result=6),
    "Mul": Form("QLinearMul", MICROSOFT, triples=(0, 3), result=6),
    "Concat": Form("QLinearConcat", MICROSOFT, triples=(2,), repeats=True, result=0),
    "Sigmoid": Form("QLinearSigmoid", MICROSOFT),
    "LeakyRelu": Form("QLinearLeakyRelu", MICROSOFT),
    "AveragePool": Form("QLinearAveragePool", MICROSOFT, covers=_undilated),
    "GlobalAveragePool": Form("QLinearGlobalAveragePool", MICROSOFT),
}  # fmt: skip
"""Float operator -> its form on integers."""

FLOAT_RESULTS: dict[str, Form] = {
    "MatMul": Form(
        "MatMulIntegerToFloat", MICROSOFT, triples=(0, 1), apart=2, result=7, may_give_float=True,
        weight_axis=lambda node: 1 if node.operand(1).rank == 2 else None, restores=lambda node: node.input(6) is None,
    ),
}  # fmt: skip
"""Float operator -> another form, for results that are not quantized."""

BACK = {(form.op, form.domain): (op, form) for forms in (FORMS, FLOAT_RESULTS) for op, form in forms.items()}
DROPPED = ("beta", "dilations", "channels_last")
"""Attributes that only one of the two forms has, where they mean nothing."""


@dataclass(frozen=True)
class ToQOperator(Pass):
    """QDQ as operators on integers, where there is one for a node and all around it is quantized."""

    name: ClassVar[str] = "qoperator"
    contract: ClassVar[Contract] = "approximate"

    def run(self, model: Model, context: Context) -> Outcome:
        infer(model.graph, context.fallback)
        changed = to_qoperator(model.graph)
        return Outcome(changed=changed, notes=[f"{changed} nodes on integers"])


@dataclass(frozen=True)
class ToQdq(Pass):
    """Operators on integers as float ones between QuantizeLinear and DequantizeLinear, as other passes know them."""

    name: ClassVar[str] = "qdq"
    contract: ClassVar[Contract] = "approximate"

    def run(self, model: Model, context: Context) -> Outcome:
        changed = to_qdq(model.graph)
        if changed and model.source_opset:
            model.source_opset = max(model.source_opset, PER_CHANNEL_OPSET)
        infer(model.graph, context.fallback)
        return Outcome(changed=changed, notes=[f"{changed} nodes between pairs"])


# QDQ -> QOperator


def to_qoperator(graph: Graph) -> int:
    """Rewrites in place; gives the number of nodes that now take integers."""
    changed = 0
    for node in graph:
        if node.domain:
            continue
        if node.op in FORMS:
            forms = (some[node.op] for some in (FORMS, FLOAT_RESULTS) if node.op in some)
            changed += any(_to_integers(graph, node, form) for form in forms)
        elif node.op in CONNECTORS and CONNECTORS[node.op].keeps:
            changed += _moves_integers(graph, node)
    erase_dead(graph)
    return changed


def _to_integers(graph: Graph, node: Node, form: Form) -> bool:
    data = node.inputs if form.repeats else node.inputs[: len(form.triples)]
    axes = [None if i == 0 else form.weight_axis(node) for i in range(len(data))]
    parts = [_integers_of(v, axis) for v, axis in zip(data, axes, strict=True)]
    if not form.covers(node) or not all(parts):
        return False
    bias = node.input(2) if form.bias is not None else None
    stored = None if bias is None else _integers_of(bias, 0, (DType.I32,))
    if bias is not None and stored is None:
        return False
    end = _quantizer(node)
    if end is None and not form.may_give_float:
        return False
    operands = _operands(form, [p for p in parts if p is not None], None if stored is None else stored[0], end)
    attrs = {name: value for name, value in node.attrs.items() if name not in DROPPED or form.op == "QLinearConv"}
    op = Builder(graph, node, loc=fuse(node.loc, [], "quantize"))
    made = op.node(form.op, operands, attrs, domain=form.domain)
    assert isinstance(made, Node), "its operands are computed"
    old = node.output if end is None else end.output
    made.output.type, made.output.name = old.type, old.name
    old.replace_by(made.output)
    return True


def _operands(form: Form, parts: Sequence[Quantized], bias: Value | None, end: Node | None) -> list[Value | None]:
    """The operands in the order of the form."""
    found: dict[int, Value] = {}
    for index, triple in enumerate(parts):
        start = form.triples[0] + 3 * index if form.repeats else form.triples[index]
        found.update(zip(form.places(start), triple, strict=True))
    if bias is not None and form.bias is not None:
        found[form.bias] = bias
    if end is not None:
        found[form.result], found[form.result + 1] = end.operand(1), _zero_of(end)
    return [found.get(i) for i in range(max(found) + 1)]


def _integers_of(
    value: Value | None, axis: int | None, dtypes: Sequence[DType] = (DType.U8, DType.I8)
) -> Quantized | None:
    """What a DequantizeLinear restores, where one scale is for all or, along `axis`, one for each entry."""
    node = None if value is None else value.node
    if node is None or node.op != "DequantizeLinear" or node.domain or node.int("block_size", 0):
        return None
    integers, scale = node.operand(0), node.operand(1)
    if integers.dtype not in dtypes or scale.const is None or (node.input(2) is not None and not _is_const(node, 2)):
        return None
    if scale.tensor.rank and (axis is None or node.int("axis", 1) % (integers.rank or 1) != axis):
        return None
    return integers, scale, _zero_of(node)


def _is_const(node: Node, index: int) -> bool:
    return node.operand(index).const is not None


def _zero_of(node: Node) -> Value:
    """The zero point of a QuantizeLinear or DequantizeLinear, written out."""
    zero = node.input(2)
    if zero is not None:
        return zero
    integers = node.operand(0) if node.op == "DequantizeLinear" else node.output
    dtype = integers.dtype or DType.U8
    return constant(np.zeros(node.operand(1).tensor.shape, dtype.numpy), "")


def _quantizer(node: Node) -> Node | None:
    """The QuantizeLinear that alone reads a node's result, past a Relu or Clip that its range makes idle."""
    user = node.output.only_user
    clip = None if user is None else clip_range(user)
    end = user.output.only_user if user is not None and clip is not None else user
    if end is None or end.op != "QuantizeLinear" or end.domain or end.int("block_size", 0):
        return None
    if not _is_const(end, 1) or end.operand(1).tensor.rank or (end.input(2) is not None and not _is_const(end, 2)):
        return None
    zero = _zero_of(end)
    if zero.tensor.dtype not in (DType.U8, DType.I8):
        return None
    if clip is not None:
        scale, edges = float(end.operand(1).tensor.item()), integer_range(zero.tensor.dtype)
        low, high = ((edge - float(zero.tensor.item())) * scale for edge in edges)
        slack = 1e-6 * scale
        if low < clip.low - slack or (math.isfinite(clip.high) and high > clip.high + slack):
            return None
    return end


def _moves_integers(graph: Graph, node: Node) -> bool:
    """What only moves or chooses elements does so with integers, where scale and zero point stay the same."""
    source = _integers_of(node.operand(0), None)
    ends = [v.only_user for v in node.outputs if v.users]
    if source is None or not ends or not CONNECTORS[node.op].accepts(node):
        return False
    for end in ends:
        if end is None or end.op != "QuantizeLinear" or not _is_const(end, 1):
            return False
        if not all(_same(a, b) for a, b in zip(source[1:], (end.operand(1), _zero_of(end)), strict=True)):
            return False
    node.set_input(0, source[0])
    for value, end in [(v, v.only_user) for v in node.outputs if v.users]:
        assert end is not None, "looked at above"
        value.type = end.output.type
        end.output.replace_by(value)
        end.erase()
    return True


def _same(a: Value, b: Value) -> bool:
    return a is b or (a.const is not None and b.const is not None and a.const.digest == b.const.digest)


# QOperator -> QDQ


def to_qdq(graph: Graph) -> int:
    """Rewrites in place; gives the number of nodes that were on integers."""
    changed = 0
    for node in list(graph.walk()):
        op, form = BACK.get((node.op, node.domain), ("", None))
        place = node.graph
        if form is not None and place is not None and form.restores(node) and not node.int("channels_last", 0):
            _between_pairs(place, node, op, form)
            changed += 1
    return changed


def has_qoperators(graph: Graph) -> bool:
    """True where a node is one of ONNX Runtime's operators on integers, which ONNX does not have."""
    return any(node.domain == MICROSOFT and (node.op, node.domain) in BACK for node in graph.walk())


def _between_pairs(graph: Graph, node: Node, op: str, form: Form) -> None:
    build = Builder(graph, node, loc=fuse(node.loc, [], "quantize"))
    starts = range(form.triples[0], len(node.inputs), 3) if form.repeats else form.triples
    floats: list[Value | None] = []
    for index, start in enumerate(starts):
        axis = form.weight_axis(node) if index else None
        floats.append(_restored(build, [node.input(i) for i in form.places(start)], axis))
    bias = node.input(form.bias) if form.bias is not None else None
    if bias is not None:
        floats.append(_restored_bias(build, node, bias))
    attrs: dict[str, Attribute] = {k: v for k, v in node.attrs.items() if k != "channels_last"}
    made = build.node(op, floats, attrs)
    assert isinstance(made, Node), "its operands are computed"
    result, scale = made.output, node.input(form.result)
    result.name = node.output.name
    if scale is not None:
        shape = node.output.shape
        result.type = TensorType(DType.F32, shape)
        result = build.QuantizeLinear(result, scale, node.input(form.result + 1))
        result.name = node.output.name
    result.type = node.output.type
    node.output.replace_by(result)
    node.erase()


def _restored(build: Builder, parts: Sequence[Value | None], axis: int | None) -> Value:
    integers, scale, zero = parts
    assert integers is not None, "an operand on integers has them"
    assert scale is not None, "an operand on integers has a scale"
    per_channel = scale.rank == 1 and (scale.shape or (0,))[0] != 1
    attrs = {"axis": axis} if per_channel and axis is not None else {}
    scale, zero = (_scalar(v) if not per_channel else v for v in (scale, zero))
    restored = build.node("DequantizeLinear", [integers, scale, zero], attrs)
    assert isinstance(restored, Node), "constants are kept as integers"
    restored.output.type = TensorType(DType.F32, integers.shape)
    return restored.output


def _scalar(value: Value | None) -> Value | None:
    """A scale of shape [1] as one of shape []."""
    if value is None or value.const is None or value.const.rank == 0 or value.const.count != 1:
        return value
    return constant(value.const.numpy().reshape(()), value.name)


def _restored_bias(build: Builder, node: Node, bias: Value) -> Value:
    """A bias in units of both scales (QLinearConv-10, QGemm)."""
    scales = [node.operand(1).tensor.numpy(), node.operand(4).tensor.numpy()]
    scale = (scales[0].astype(np.float32).reshape(()) * scales[1].astype(np.float32)).astype(np.float32)
    per_channel = scale.size > 1
    made = constant(scale if per_channel else scale.reshape(()), f"{bias.name}_scale" if bias.name else "")
    rank = bias.rank or 1
    restored = build.node("DequantizeLinear", [bias, made], {"axis": rank - 1} if per_channel else {})
    assert isinstance(restored, Node), "constants are kept as integers"
    restored.output.type = TensorType(DType.F32, bias.shape)
    return restored.output
