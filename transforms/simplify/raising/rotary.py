"""Rotary positions written out as products with cosines and sines become RotaryEmbedding-23.

Both forms are covered: the halves of a head turned against each other, and neighbours. The tables of the operator have
one column per pair, so they must provably say the same twice: what they are computed from is followed upwards and
computed once. The operator wants them for every sample of the batch, where exporters let one be broadcast.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....ir import Builder, Node, Size, Value, constant
from ....ir.rewrite import P, Result, decline, rule
from .parts import integers, number, size_of

x = P.var("x")
READ = 1 << 24
"""Bytes up to which a constant table is read."""

ELEMENTWISE = frozenset(["Cast", "Cos", "Neg", "Sin"])
BROADCAST = frozenset(["Add", "Div", "Mul", "Sub"])
HALVES, PAIRS = 0, 1


@rule(P.Add(P.Mul(P.var("a"), P.var("b")), P.Mul(P.var("c"), P.var("d"))))
def raise_rotary(op: Builder, a: Value, b: Value, c: Value, d: Value) -> Result:
    """x cos + rotated(x) sin is RotaryEmbedding of x."""
    for x, cos, turned, sin in _roles((a, b), (c, d)):
        form = rotated(turned, x)
        if form is not None:
            return _rotary(op, x, cos, sin, form)
    return None


def _roles(first: tuple[Value, Value], second: tuple[Value, Value]) -> list[tuple[Value, Value, Value, Value]]:
    """Every way in which four factors can be x, cos, rotated x and sin."""
    ways = [(first, second), (second, first)]
    return [
        (plain[i], plain[1 - i], turned[j], turned[1 - j])
        for plain, turned in ways
        for i in (0, 1)
        for j in (0, 1)
        if turned[j].op in ("Concat", "Reshape", "Flatten") and plain[i].node is not None
    ]


def rotated(value: Value, x: Value) -> int | None:
    """HALVES where `value` is the second half of x, negative, then the first; PAIRS where that holds for neighbours."""
    node = value.node
    if node is None or node.domain or x.shape is None or value.shape != x.shape:
        return None
    size, rank = x.shape[-1], len(x.shape)
    if not isinstance(size, int) or size % 2:
        return None
    if node.op == "Concat" and len(node.inputs) == 2 and node.int("axis") in (-1, rank - 1):
        second, first = negated(node.operand(0)), node.operand(1)
        if second is not None and taken(first, x) == range(size // 2) and taken(second, x) == range(size // 2, size):
            return HALVES
        return None
    pairs = node.operand(0).node if node.op == "Reshape" else None
    if pairs is None or pairs.op != "Concat" or len(pairs.inputs) != 2:
        return None
    if pairs.output.shape != (*x.shape[:-1], size // 2, 2) or pairs.int("axis") not in (-1, rank):
        return None
    odd, even = (unsqueezed(pairs.operand(i)) for i in (0, 1))
    odd = None if odd is None else negated(odd)
    if odd is None and (outer := negated(pairs.operand(0))) is not None:
        odd = unsqueezed(outer)
    if even is None or odd is None:
        return None
    return PAIRS if taken(even, x) == range(0, size, 2) and taken(odd, x) == range(1, size, 2) else None


def negated(value: Value) -> Value | None:
    return value.node.operand(0) if value.node is not None and value.op == "Neg" else None


def unsqueezed(value: Value) -> Value | None:
    """What `value` has a last axis of size 1 more than."""
    node = value.node
    if node is None or node.op not in ("Unsqueeze", "Reshape") or value.shape is None:
        return None
    return node.operand(0) if node.operand(0).shape == value.shape[:-1] and value.shape[-1] == 1 else None


def taken(value: Value, x: Value) -> range | None:
    """The entries of the last axis of `x` that `value` is."""
    node = value.node
    if node is None or node.domain or node.input(0) is not x or x.shape is None or not isinstance(x.shape[-1], int):
        return None
    last, size = (-1, len(x.shape) - 1), x.shape[-1]
    if node.op == "Split" and node.int("axis") in last:
        sizes = [None if v.shape is None else v.shape[-1] for v in node.outputs]
        widths = [s for s in sizes if isinstance(s, int)]
        start = sum(widths[: value.index])
        return range(start, start + widths[value.index]) if len(widths) == len(sizes) else None
    if node.op == "Slice" and len(node.inputs) > 3:
        start, stop, axes, step = (integers(node.input(i)) for i in (1, 2, 3, 4))
        if start is None or stop is None or axes is None or len(axes) != 1 or axes[0] not in last:
            return None
        by = 1 if node.input(4) is None else step[0] if step is not None else 0
        return range(*slice(start[0], stop[0], by).indices(size)) if by > 0 else None
    return None


def _rotary(op: Builder, x: Value, cos: Value, sin: Value, form: int) -> Result:
    shape = x.shape
    if shape is None or len(shape) != 4:
        return decline("its heads are not on an axis of their own")
    axis = axis_of_heads(cos, shape)
    if axis is None or axis != axis_of_heads(sin, shape):
        return decline("its tables are not known to have an angle for each position alone")
    tables = [table(op, v, axis, shape[0], shape[3 - axis], x, form) for v in (cos, sin)]
    if any(t is None for t in tables):
        return decline("its tables are not known to have one angle for both features of a pair")
    attrs = {"interleaved": form} if form else {}
    if axis == 1:
        return op.RotaryEmbedding(x, *tables, **attrs)
    heads, size = shape[2], shape[3]
    if not isinstance(heads, int):
        return decline("its number of heads is not known")
    packed = op.Reshape(x, [0, 0, heads * size])
    return op.Reshape(op.RotaryEmbedding(packed, *tables, num_heads=heads, **attrs), [0, 0, heads, size])


def axis_of_heads(value: Value, x: Sequence[Size]) -> int | None:
    """The axis of x along which a table is broadcast for the heads; None where it does not fit."""
    if value.shape is None or len(value.shape) > 4:
        return None
    shape = (*(1,) * (4 - len(value.shape)), *value.shape)
    if shape[0] not in (1, x[0]) or shape[3] != x[3]:
        return None
    return next((axis for axis in (1, 2) if shape[axis] == 1 and shape[3 - axis] == x[3 - axis]), None)


def table(op: Builder, value: Value, heads: int, batch: Size, length: Size, x: Value, form: int) -> Value | None:
    """A table [batch, length, size / 2] of what multiplies x."""
    rank = value.rank
    assert rank is not None
    flat, axis = value, rank - 4 + heads
    node = value.node
    if axis >= 0 and node is not None and node.op == "Unsqueeze" and node.operand(0).rank == rank - 1:
        axes = integers(node.input(1))
        if axes is not None and axes[0] % rank == axis:
            flat, axis = node.operand(0), -1
    once = Once(op, form).of(flat)
    if once is None:
        return None
    if axis >= 0:
        once = op.Squeeze(once, [axis])
    if once.rank == 2:
        once = op.Unsqueeze(once, [0])
    if once.shape is None or once.rank != 3 or once.shape[1] != length:
        return None
    if once.shape[0] == batch:
        return once
    if isinstance(batch, int):
        return op.Expand(once, [batch, 1, 1])
    return op.Expand(once, op.Concat(size_of(op, x, batch), [1, 1], axis=0))


class Once:
    """The first of two equal numbers for each pair along the last axis, computed from what the pairs are made of."""

    def __init__(self, op: Builder, form: int) -> None:
        self.op, self.form = op, form

    def of(self, value: Value, depth: int = 12) -> Value | None:
        node, shape = value.node, value.shape
        if not depth or shape is None or not shape or not isinstance(shape[-1], int) or shape[-1] % 2:
            return None
        if value.const is not None:
            return self.of_constant(value)
        if node is None or node.domain:
            return None
        if node.op == "Concat" and self.form == HALVES:
            doubled = len(node.inputs) == 2 and node.inputs[0] is node.inputs[1]
            return node.operand(0) if doubled and node.int("axis") in (-1, len(shape) - 1) else None
        if node.op == "Reshape" and self.form == PAIRS:
            return self.of_pairs(node)
        if node.op in ELEMENTWISE:
            return self.again(node, depth)
        if node.op in BROADCAST:
            return self.of_operands(node, depth)
        return self.again(node, depth) if leaves_last_axis(node) else None

    def again(self, node: Node, depth: int) -> Value | None:
        inner = self.of(node.operand(0), depth - 1)
        if inner is None:
            return None
        made = self.op.node(node.op, [inner, *node.inputs[1:]], node.attrs)
        return made if isinstance(made, Value) else made.output

    def of_operands(self, node: Node, depth: int) -> Value | None:
        made: list[Value] = []
        for value in (node.operand(0), node.operand(1)):
            broadcast = number(value) is not None or (value.shape is not None and value.shape[-1:] in ((), (1,)))
            inner = value if broadcast else self.of(value, depth - 1)
            if inner is None:
                return None
            made.append(inner)
        out = self.op.node(node.op, made, node.attrs)
        return out if isinstance(out, Value) else out.output

    def of_constant(self, value: Value) -> Value | None:
        if value.tensor.nbytes > READ:
            return None
        array = value.tensor.numpy()
        half = array.shape[-1] // 2
        first, second = (
            (array[..., :half], array[..., half:]) if self.form == HALVES else (array[..., ::2], array[..., 1::2])
        )
        return constant(np.ascontiguousarray(first), value.name) if np.array_equal(first, second) else None

    def of_pairs(self, node: Node) -> Value | None:
        """c where the Reshape makes [..., 2 n] of c [..., n] twice on a last axis."""
        wide, shape = node.operand(0), node.output.shape
        twice = wide.node
        if twice is None or shape is None or wide.shape != (*shape[:-1], shape[-1] // 2, 2):
            return None
        if twice.op == "Expand" or (twice.op == "Concat" and len(set(twice.inputs)) == 1 and len(twice.inputs) == 2):
            return unsqueezed(twice.operand(0))
        return None


def leaves_last_axis(node: Node) -> bool:
    """True for a node that moves whole rows of its first operand's last axis."""
    source = node.input(0)
    if source is None:
        return False
    rank, out = source.rank, node.output.rank
    if rank is None or out is None:
        return False
    if node.op in ("Unsqueeze", "Squeeze"):
        axes = integers(node.input(1))
        larger = max(rank, out)
        return axes is not None and all(a % larger != larger - 1 for a in axes)
    if node.op == "Gather":
        return node.int("axis") % rank != rank - 1
    if node.op == "Slice":
        axes = integers(node.input(3))
        return axes is not None and all(a % rank != rank - 1 for a in axes)
    return node.op == "Transpose" and node.ints("perm", (0,))[-1] == rank - 1


@rule("Concat")
def widen_rotary(op: Builder, node: Node) -> Result:
    """RotaryEmbedding of the first features beside the other features is one of the first ones alone."""
    value = node.operand(0)
    inner, rest = value.node, node.input(1)
    if inner is None or inner.op != "RotaryEmbedding" or inner.domain or rest is None or len(node.inputs) != 2:
        return None
    part = inner.operand(0)
    x = None if part.node is None else part.node.input(0)
    if x is None or x.rank != 4 or node.int("axis") not in (-1, 3) or not isinstance(x.type.shape[3], int):  # pyright: ignore
        return decline("it is not along the features of a head")
    first, others = taken(part, x), taken(rest, x)
    if first is None or others is None or first.step != 1 or others.step != 1:
        return decline("its parts are not those of one value")
    if first.start or first.stop != others.start or others.stop != x.shape[3]:  # pyright: ignore
        return decline("its parts are not those of one value")
    if value.only_user is not node:
        return decline("the rotated part has other users")
    attrs = {**inner.attrs, "rotary_embedding_dim": len(first)}
    return op.node("RotaryEmbedding", [x, *inner.inputs[1:]], attrs).output  # pyright: ignore


RULES = (raise_rotary, widen_rotary)
