"""What is known of attention masks, and the parts of them that many attentions share.

A query whose keys are all hidden has a row of zeros in Attention (ONNX specification, version 23 on) and NaN in a plain
softmax. Hidden means minus infinity: a large finite number leaves a softmax over whatever is there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ....ir import Array, Attribute, Builder, DType, Node, TensorType, TersorError, Value, constant
from ....ir.builder import AttributeArgument, Operand, attribute

HIDING = -1.7e38
"""Next to it a score means nothing, in the types of WIDE. The lowest number of a type will not do: ONNX Runtime's
Attention takes it for minus infinity.
"""

WIDE = frozenset([DType.F32, DType.F64, DType.BF16])

NEAR = 500
"""Nodes in front of an attention among whose operands its mask is looked for."""

READ = 1 << 22
"""Bytes up to which a constant is read."""

MOVEMENT = frozenset(
    ["Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Reshape", "Slice", "Squeeze", "Tile",
     "Transpose", "Unsqueeze"]
)  # fmt: skip
LARGEST = {DType.F16: 6.5e4, DType.BF16: 3.3e38, DType.F32: 3.402823e38, DType.F64: 1.79e308}
INTEGER_BOUND = {DType.BOOL: 1.0, DType.U8: 255.0, DType.I8: 128.0, DType.I32: 2.0**31, DType.I64: 2.0**63}


def magnitude(value: Value | None, depth: int = 8) -> float:
    """An upper bound of the absolute values of a tensor; infinity where none is known."""
    if value is None or depth == 0 or not isinstance(value.type, TensorType):
        return math.inf
    if value.const is not None:
        return _constant_magnitude(value)
    integer = INTEGER_BOUND.get(value.type.dtype)
    if integer is not None:
        return integer
    node = value.node
    if node is None or node.domain:
        return math.inf
    bounds = [magnitude(v, depth - 1) for v in _terms(node)]
    if not bounds or math.inf in bounds:
        return math.inf
    bound = math.prod(bounds) if node.op == "Mul" else sum(bounds) if node.op in ("Add", "Sub") else max(bounds)
    return bound if bound <= LARGEST.get(value.type.dtype, 0.0) else math.inf


def _terms(node: Node) -> list[Value | None]:
    """The operands that the values of a result come from."""
    if node.op in ("Add", "Sub", "Mul", "Min", "Max", "Neg", "Abs", "Cast"):
        return list(node.inputs)
    if node.op == "Where":
        return list(node.inputs[1:])
    return [node.input(0)] if node.op in MOVEMENT else []


def _constant_magnitude(value: Value) -> float:
    tensor = value.tensor
    if tensor.nbytes > READ or tensor.dtype.numpy.kind in "OcV":
        return math.inf
    try:
        array = tensor.numpy().astype(np.float64)
    except TersorError:
        return math.inf
    largest = float(np.abs(array).max(initial=0.0))
    return largest if math.isfinite(largest) else math.inf


def may_hide_rows(mask: Value | None) -> bool:
    """True unless every query provably sees some key, as far as `mask` says."""
    if mask is None:
        return False
    if mask.const is None:
        if mask.node is not None and mask.node.op == "Max" and any(magnitude(v) < math.inf for v in mask.node.inputs):
            return False
        return _is_boolean(mask) or magnitude(mask) == math.inf
    if mask.tensor.nbytes > READ:
        return True
    array = mask.tensor.numpy()
    hidden = ~array if array.dtype == bool else np.isneginf(array.astype(np.float64))
    return bool(hidden.all(axis=-1).any()) if hidden.ndim else bool(hidden)


def _is_boolean(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.dtype is DType.BOOL


def unexpanded(value: Value) -> Value:
    """What `value` is broadcast from along some axes, where its last one is not among them."""
    node, shape = value.node, value.shape
    if node is None or node.op != "Expand" or node.domain or shape is None:
        return value
    source = node.operand(0)
    same_rank = source.shape is not None and len(source.shape) == len(shape)
    return source if same_rank and source.shape is not None and source.shape[-1] == shape[-1] else value


def once(
    op: Builder,
    operator: str,
    operands: Sequence[Operand],
    *,
    behind: Value | None = None,
    after: Node | None = None,
    **attrs: AttributeArgument,
) -> Value:
    """A node made once for all who ask for it.

    It stands right behind what makes `behind`, the operand that comes last (the last one that is computed, if not
    given), so that it comes before everyone who asks. Where it is not known which operand comes last, it stands where
    it is first asked for, in front of `after`.
    """
    values, given = op.operands(operands), {name: attribute(value) for name, value in attrs.items()}
    source = behind or next((v for v in reversed(values) if v is not None and v.const is None), None)
    for user in () if source is None else tuple(source.users):
        if user.op == operator and not user.domain and user.graph is op.graph and _same(user, values, given):
            if after is None:
                _behind(user, source)
            elif not _precedes(user, after):
                continue
            return user.output
    made = op.node(operator, values, attrs)
    if isinstance(made, Value):
        return made
    if after is None:
        _behind(made, source)
    return made.output


def _precedes(node: Node, other: Node) -> bool:
    """True where a node is among those NEAR in front of another one."""
    before = other.prev
    for _ in range(NEAR):
        if before is node or before is None:
            break
        before = before.prev
    return before is node


def common(op: Builder, array: Array) -> Value:
    """A constant that an earlier node uses already, where one of the nearest does."""
    made, node = constant(array), op.before
    if made.tensor.nbytes > READ:
        return made
    for _ in range(NEAR):
        node = None if node is None else node.prev
        if node is None:
            break
        for value in node.inputs:
            if value is not None and _equal(value, made):
                return value
    return made


def _same(node: Node, operands: Sequence[Value | None], attrs: dict[str, Attribute]) -> bool:
    return (
        len(node.inputs) == len(operands)
        and len(node.outputs) == 1
        and node.attrs == attrs
        and all(a is b or _equal(a, b) for a, b in zip(node.inputs, operands, strict=True))
    )


def _equal(a: Value | None, b: Value | None) -> bool:
    """True for two constants with the same elements that are small enough to be compared."""
    if a is None or b is None or a.const is None or b.const is None or a.const.type != b.const.type:
        return False
    return a.const.nbytes <= READ and a.const.digest == b.const.digest


def _behind(node: Node, source: Value | None) -> None:
    """Moves a node right behind what makes its operand."""
    graph, maker = node.graph, None if source is None else source.node
    if graph is not None and maker is not None and maker.graph is graph and maker.next is not node:
        node.unlink()
        graph.insert(node, maker.next)
