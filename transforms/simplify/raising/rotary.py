"""Rotary positions written out as products with cosines and sines become RotaryEmbedding-23.

Both forms are covered: the halves of a head turned against each other, and neighbours. The tables of the operator have
one column per pair, so they must provably say the same twice: what they are computed from is followed upwards and
computed once. The operator wants them for every sample of the batch, where exporters let one be broadcast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....ir import Builder, DType, Node, Size, Value, constant
from ....ir.dims import bounds, exact_div
from ....ir.rewrite import P, Result, decline, rule
from .grouped import Shape, squeezed
from .parts import integers, number, size_of, unshaped

x = P.var("x")
READ = 1 << 24
"""Bytes up to which a constant table is read."""

ELEMENTWISE = frozenset(["Cast", "Cos", "Neg", "Sin"])
BROADCAST = frozenset(["Add", "Div", "Mul", "Sub"])


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


@dataclass(frozen=True)
class Form:
    """What pairs are: neighbours, or a feature of each half; and whether the second of a pair comes first negated, or
    as it is, so that the signs are in the table of sines.
    """

    interleaved: bool
    negated: bool


def rotated(value: Value, x: Value) -> Form | None:
    """The form in which `value` has the features of every pair of x the other way round; None where it has not."""
    node = value.node
    if node is None or node.domain or x.shape is None or value.shape != x.shape:
        return None
    size, rank = x.shape[-1], len(x.shape)
    if not isinstance(size, int) or size % 2:
        return None
    if node.op == "Concat" and len(node.inputs) == 2 and node.int("axis") in (-1, rank - 1):
        second = negated(node.operand(0))
        first, last = taken(node.operand(1), x), taken(second or node.operand(0), x)
        halves = first == range(size // 2) and last == range(size // 2, size)
        return Form(False, second is not None) if halves else None
    pairs = node.operand(0).node if node.op == "Reshape" else None
    if pairs is None or pairs.op != "Concat" or len(pairs.inputs) != 2:
        return None
    if pairs.output.shape != (*x.shape[:-1], size // 2, 2) or pairs.int("axis") not in (-1, rank):
        return None
    second = negated(pairs.operand(0))
    odd, even = entries(second or pairs.operand(0), x), entries(pairs.operand(1), x)
    if second is None and odd is None and (apart := unsqueezed(pairs.operand(0))) is not None:
        second = negated(apart)
        odd = None if second is None else taken(second, x)
    return Form(True, second is not None) if even == range(0, size, 2) and odd == range(1, size, 2) else None


def entries(value: Value, x: Value) -> range | None:
    """The entries of the last axis of `x` that `value` has, each on an axis of its own."""
    inner = unsqueezed(value)
    if inner is not None and (found := taken(inner, x)) is not None:
        return found
    node, shape = value.node, x.shape
    pairs = None if node is None or node.op != "Split" or node.domain else node.operand(0).node
    if node is None or pairs is None or pairs.op != "Reshape" or unshaped(node.operand(0)) is not unshaped(x):
        return None
    if shape is None:
        return None
    size, rank = shape[-1], len(shape)
    if not isinstance(size, int) or node.operand(0).shape != (*shape[:-1], size // 2, 2):
        return None
    return range(value.index, size, 2) if node.int("axis") in (-1, rank) and len(node.outputs) == 2 else None


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


def _rotary(op: Builder, x: Value, cos: Value, sin: Value, form: Form) -> Result:
    shape = x.shape
    # Heads that share keys come with an axis of size 1 behind them.
    lone = shape is not None and len(shape) == 5 and shape[2] == 1
    if shape is None or len(shape) != (5 if lone else 4):
        return decline("its heads are not on an axis of their own")
    places = [axes_of_heads(v, shape) for v in (cos, sin)]
    if places[0] is None or places[0] != places[1]:
        return decline("its tables are not known to have an angle for each position alone")
    heads, *_ = places[0]
    four = (*shape[:2], *shape[3:]) if lone else shape
    batch, length, size = four[0], four[3 - heads], four[3]
    tables = [
        table(op, v, places[0], batch, length, x, Once(op, form.interleaved, signed=not form.negated and v is sin))
        for v in (cos, sin)
    ]
    if any(t is None for t in tables):
        return decline("its tables are not known to have one angle for both features of a pair")
    attrs = {"interleaved": 1} if form.interleaved else {}
    if heads == 1:
        made = op.RotaryEmbedding(squeezed(op, x, 2) if lone else x, *tables, **attrs)
        return op.Unsqueeze(made, [2]) if lone else made
    count = four[2]
    if not isinstance(count, int) or not isinstance(size, int):
        return decline("its number of heads is not known")
    packed = op.Reshape(x, [0, 0, count * size])
    return op.Reshape(op.RotaryEmbedding(packed, *tables, num_heads=count, **attrs), [0, 0, count, size])


def axes_of_heads(value: Value, x: Shape) -> list[int] | None:
    """The axes of x along which a table is the same for the heads, the one of the heads first; None where it does not
    fit.
    """
    if value.shape is None or len(value.shape) > len(x):
        return None
    shape = (*(1,) * (len(x) - len(value.shape)), *value.shape)
    if shape[0] not in (1, x[0]) or shape[-1] != x[-1]:
        return None
    if len(x) == 5:
        return [1, 2] if shape[1] == shape[2] == 1 and shape[3] == x[3] else None
    return next(([axis] for axis in (1, 2) if shape[axis] == 1 and shape[3 - axis] == x[3 - axis]), None)


def table(op: Builder, value: Value, heads: list[int], batch: Size, length: Size, x: Value, once: Once) -> Value | None:
    """A table [batch, length, size / 2] of what multiplies x."""
    rank = value.rank
    assert rank is not None
    assert x.rank is not None
    flat, axes = value, [axis + rank - x.rank for axis in heads if axis + rank >= x.rank]
    node = value.node
    if axes and node is not None and node.op == "Unsqueeze" and not node.domain:
        given = integers(node.input(1))
        if given is not None and sorted(axis % rank for axis in given) == axes:
            flat, axes = node.operand(0), []
    made = once.of(flat)
    if made is None:
        return None
    if axes:
        made = op.Squeeze(made, axes)
    if made.rank == 2:
        made = op.Unsqueeze(made, [0])
    if made.shape is None or made.rank != 3 or made.shape[1] != length:
        return None
    if made.shape[0] == batch:
        return made
    if isinstance(batch, int):
        return op.Expand(made, [batch, 1, 1])
    return op.Expand(made, op.Concat(size_of(op, x, batch), [1, 1], axis=0))


class Once:
    """One of two equal numbers for each pair along the last axis, computed from what the pairs are made of.

    `signed`: the first of them is the negative of the second, which is taken.
    """

    def __init__(self, op: Builder, interleaved: bool, *, signed: bool = False) -> None:
        self.op, self.interleaved, self.signed = op, interleaved, signed

    def of(self, value: Value, depth: int = 12) -> Value | None:
        node, shape = value.node, value.shape
        if not depth or shape is None or not shape or not isinstance(shape[-1], int) or shape[-1] % 2:
            return None
        if value.const is not None:
            return self.of_constant(value)
        if node is None or node.domain:
            return None
        if node.op == "Concat" and not self.interleaved:
            beside = len(node.inputs) == 2 and node.int("axis") in (-1, len(shape) - 1)
            return self.second(node.operand(0), node.operand(1)) if beside else None
        if node.op == "Reshape" and self.interleaved and (found := self.of_pairs(node)) is not None:
            return found
        if node.op == "Reshape":
            return self.of_rows(node, depth)
        if node.op in ELEMENTWISE and not (self.signed and node.op == "Cos"):
            return self.again(node, depth)
        if node.op in BROADCAST:
            return self.of_operands(node, depth)
        return self.again(node, depth) if leaves_last_axis(node) else None

    def second(self, first: Value, second: Value) -> Value | None:
        """The second of two values where the first is the same, or its negative."""
        return second if (negated(first) if self.signed else first) is second else None

    def again(self, node: Node, depth: int) -> Value | None:
        inner = self.of(node.operand(0), depth - 1)
        if inner is None:
            return None
        made = self.op.node(node.op, [inner, *node.inputs[1:]], node.attrs)
        return made if isinstance(made, Value) else made.output

    def of_operands(self, node: Node, depth: int) -> Value | None:
        made: list[Value] = []
        broadcast = [number(v) is not None or (v.shape is not None and v.shape[-1:] in ((), (1,))) for v in both(node)]
        if self.signed and (sum(broadcast) != 1 or node.op not in ("Mul", "Div")):
            return None
        for value, alone in zip(both(node), broadcast, strict=True):
            inner = value if alone else self.of(value, depth - 1)
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
            (array[..., ::2], array[..., 1::2]) if self.interleaved else (array[..., :half], array[..., half:])
        )
        same = np.array_equal(first, -second if self.signed else second)
        return constant(np.ascontiguousarray(second), value.name) if same else None

    def of_rows(self, node: Node, depth: int) -> Value | None:
        """A Reshape that leaves the last axis alone."""
        source, out, target = node.operand(0).shape, node.output.shape, integers(node.operand(1))
        if source is None or out is None or target is None or not source or source[-1] != out[-1]:
            return None
        inner = self.of(node.operand(0), depth - 1)
        if inner is None or inner.shape is None or node.int("allowzero"):
            return None
        return self.op.Reshape(inner, [*target[:-1], inner.shape[-1]])

    def of_pairs(self, node: Node) -> Value | None:
        """c where the Reshape makes [..., 2 n] of c [..., n] twice on a last axis."""
        wide, shape = node.operand(0), node.output.shape
        twice = wide.node
        if twice is None or shape is None or not wide.shape or wide.shape[-2:] != (exact_div(shape[-1], 2), 2):
            return None
        apart = inserted(wide.shape[:-2], shape[:-1])
        if apart is None:
            return None
        if twice.op == "Expand" and not self.signed:
            made = unsqueezed(twice.operand(0))
        elif twice.op == "Concat" and len(twice.inputs) == 2 and twice.int("axis") in (-1, len(wide.shape) - 1):
            made = self.of_columns(twice.operand(0), twice.operand(1))
        else:
            return None
        return made if made is None or not apart else self.op.Unsqueeze(made, apart)

    def of_columns(self, first: Value, second: Value) -> Value | None:
        """The second of two columns without their axis of size 1."""
        left, right = unsqueezed(first), unsqueezed(second)
        if left is None and self.signed and (inner := negated(first)) is not None:
            return right if unsqueezed(inner) is right else None
        return None if left is None or right is None else self.second(left, right)


def inserted(before: Shape, after: Shape) -> list[int] | None:
    """The axes of size 1 that `after` has more than `before`; None where they differ by anything else."""
    axes: list[int] = []
    for axis, size in enumerate(after):
        if axis - len(axes) < len(before) and before[axis - len(axes)] == size:
            continue
        if size != 1:
            return None
        axes.append(axis)
    return axes if len(after) - len(axes) == len(before) else None


def both(node: Node) -> tuple[Value, Value]:
    return node.operand(0), node.operand(1)


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
    value, rest = node.operand(0), node.input(1)
    found = rotated_part(value)
    if found is None or rest is None or len(node.inputs) != 2:
        return None
    inner, part = found
    x = None if part.node is None else part.node.input(0)
    if x is None or x.shape is None or node.int("axis") not in (-1, len(x.shape) - 1):
        return decline("it is not along the features of a head")
    if value.only_user is not node or inner.output.only_user is None:
        return decline("the rotated part has other users")
    first, others, size = taken(part, x), taken(rest, x), x.shape[-1]
    if first is None or others is None or first.step != 1 or others.step != 1 or not isinstance(size, int):
        return decline("its parts are not those of one value")
    if first.start or first.stop != others.start or others.stop != size:
        return decline("its parts are not those of one value")
    attrs = {**inner.attrs, "rotary_embedding_dim": len(first)}
    if inner.output is value:
        return op.node("RotaryEmbedding", [x, *inner.inputs[1:]], attrs).output  # pyright: ignore
    if len(x.shape) == 5:
        made = op.node("RotaryEmbedding", [squeezed(op, x, 2), *inner.inputs[1:]], attrs).output  # pyright: ignore
        return op.Unsqueeze(made, [2])
    heads = inner.int("num_heads")
    packed = op.Reshape(x, [0, 0, heads * size])
    made = op.node("RotaryEmbedding", [packed, *inner.inputs[1:]], attrs).output  # pyright: ignore
    return op.Reshape(made, [0, 0, heads, size])


def rotated_part(value: Value) -> tuple[Node, Value] | None:
    """The rotation that makes a value, and what is rotated: also where its heads are on an axis of their own, or have
    one of size 1 behind them, that the rotation has not.
    """
    node = value.node
    if node is None or node.domain:
        return None
    if node.op == "RotaryEmbedding":
        return (node, node.operand(0)) if value.rank == 4 else None
    inner = node.operand(0).node if node.op in ("Reshape", "Unsqueeze") else None
    if inner is None or inner.op != "RotaryEmbedding" or inner.domain or inner.int("rotary_embedding_dim", 0):
        return None
    before = inner.operand(0).node
    if before is None or before.op not in ("Reshape", "Squeeze") or before.operand(0).shape != value.shape:
        return None
    lone = value.rank == 5 and inner.output.rank == 4
    return (inner, before.operand(0)) if lone or (value.rank == 4 and inner.output.rank == 3) else None


@rule("RotaryEmbedding")
def rotate_by_positions(op: Builder, node: Node) -> Result:
    """Tables that rows are taken from for every sample and position are given whole, and the positions with them."""
    tables = [v.node if v is not None else None for v in node.inputs[1:3]]
    if node.input(3) is not None:
        return decline("it has positions already")
    if any(t is None or t.op != "Gather" or t.domain or t.int("axis", 0) or t.operand(0).rank != 2 for t in tables):
        return decline("its tables are no rows of others")
    cos, sin = (t for t in tables if t is not None)
    positions = cos.operand(1)
    if positions is not sin.operand(1) or positions.rank != 2 or positions.dtype is not DType.I64:
        return decline("its tables are not for the same positions of each sample")
    rows, length = cos.operand(0).shape, positions.shape
    most = None if length is None else bounds(length[1])[1]
    fewest = None if rows is None else bounds(rows[0])[0]
    if most is None or fewest is None or most > fewest:
        return decline("runtimes refuse more positions than rows, and there may be")
    return op.node("RotaryEmbedding", [node.operand(0), cos.operand(0), sin.operand(0), positions], node.attrs).output  # pyright: ignore


RULES = (raise_rotary, widen_rotary, rotate_by_positions)
