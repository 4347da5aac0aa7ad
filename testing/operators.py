"""Which operands and attributes an operator takes: a row per operator, read by the instances of patterns.

A row fills its site: it asks for operands by number with the type that fits, operators first, because their types are
what they are and variables can follow. What a row leaves open, and every operator without a row, is of one shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..ir import Attribute, DType, Value, lookup
from ..ir.attributes import same as same_attribute
from ..ir.rewrite.patterns import Alternatives, Operator, Pattern, Variable
from .instances import Drawer, Reject, Want

Row = Callable[["Site"], None]
Shape = tuple[int, ...]


class Site:
    """One operator of a pattern that is being built: its operands by number, its attributes, its number of outputs."""

    def __init__(self, draw: Drawer, pattern: Operator, want: Want) -> None:
        self.draw, self.pattern, self.want = draw, pattern, want
        self.attrs: dict[str, Attribute] = {}
        self.made: dict[int, Value | None] = {}
        schema = lookup(pattern.op, pattern.domain)
        self.outputs = max(1 if schema is None else schema.outputs[0], (pattern.index or 0) + 1)
        self.count = len(pattern.operands)
        self.dtype = want.dtype if want.dtype is not None else draw.dtype

    def inputs(self) -> list[Value | None]:
        """All operands in order, after the row has run; those that it did not ask for are of the first one's shape."""
        for index in range(self.count):
            if index not in self.made:
                self.operand(index, self.known_shape(0) if 0 in self.made else None)
        for name, wanted in self.pattern.attrs.items():
            if name not in self.attrs and not callable(wanted):
                self.attrs[name] = _plain(wanted)
            elif name not in self.attrs:
                self.attr(name, None, *GUESSES)
        return [self.made[i] for i in range(self.count)]

    def attr(self, name: str, *choices: Any) -> Any:
        """Chooses an attribute that the pattern takes; None leaves it out. Gives the value that then counts."""
        schema = lookup(self.pattern.op, self.pattern.domain)
        default = schema.defaults.get(name) if schema is not None else None
        wanted = self.pattern.attrs.get(name)
        if wanted is None and name not in self.pattern.attrs:
            chosen = self.draw.one(choices)
        elif callable(wanted):
            fits = [c for c in (*choices, *GUESSES) if _fits(wanted, default if c is None else c)]
            if not fits:
                raise Reject
            chosen = self.draw.one(fits)
        else:
            chosen = _plain(wanted)
            if default is not None and same_attribute(default, chosen) and self.draw.chance(0.5):
                chosen = None
        if chosen is None:
            return default
        self.attrs[name] = chosen
        return chosen

    def has(self, index: int) -> bool:
        return index < self.count

    def is_operator(self, index: int) -> bool:
        """True where the operand's type follows from what computes it, or from an earlier occurrence."""
        return self.has(index) and _is_settled(self.pattern.operands[index], self.draw)

    def operand(
        self,
        index: int,
        shape: Sequence[int] | None = None,
        dtype: DType | None = None,
        *,
        contents: Any = None,
        positive: bool = False,
    ) -> Shape:
        """Builds an operand, if the pattern has it; gives its shape, () for a missing one."""
        if not self.has(index):
            return ()
        if index not in self.made:
            if contents is not None:
                contents = np.asarray(contents, (dtype or self.dtype).numpy)
            want = Want(dtype or self.dtype, None if shape is None else tuple(shape), contents, positive)
            self.made[index] = self.draw.build(self.pattern.operands[index], want)
        return self.known_shape(index)

    def known_shape(self, index: int) -> Shape:
        value = self.made[index]
        if value is None:
            return ()
        if value.shape is None or not all(isinstance(s, int) for s in value.shape):
            raise Reject
        return value.shape

    def shape(self, ranks: Sequence[int] = (1, 2, 3, 3, 4, 4)) -> Shape:
        """The wanted shape where it has one of the ranks, else a random one."""
        wanted = self.want.shape
        return wanted if wanted is not None and len(wanted) in ranks else self.draw.shape(ranks)


GUESSES = (0, 1, 2, 3, -1, -2, 0.5, 1.0, 2.0, 1e-5, "constant", "linear", "nearest")
"""What is tried for an attribute that a pattern's own function judges."""


def _plain(wanted: Any) -> Attribute:
    return tuple(wanted) if isinstance(wanted, list) else wanted


def _fits(wanted: Callable[[Any], bool], value: Any) -> bool:
    try:
        return bool(wanted(value))
    except (TypeError, ValueError):
        return False


def _is_settled(pattern: Pattern, draw: Drawer) -> bool:
    if isinstance(pattern, Alternatives):
        return all(_is_settled(p, draw) for p in pattern.patterns)
    return isinstance(pattern, Operator) or (isinstance(pattern, Variable) and pattern.name in draw.bound)


def in_order(site: Site, count: int | None = None) -> list[int]:
    """The operands' numbers, those that are operators first."""
    return sorted(range(site.count if count is None else min(count, site.count)), key=lambda i: not site.is_operator(i))


# Elementwise


def alike(site: Site) -> None:
    """All operands of one shape."""
    shape: Shape | None = site.shape()
    for index in in_order(site):
        shape = site.operand(index, shape) or shape


def narrower(draw: Drawer, shape: Shape) -> Shape:
    """A shape that broadcasts to another one: the same, a scalar, the last axes, ones here and there."""
    kind = draw.random.random()
    if kind < 0.3 or not shape:
        return shape if kind < 0.97 else (1, *shape)
    if kind < 0.5:
        return ()
    if kind < 0.58:
        return (1,) * int(draw.random.integers(1, len(shape) + 2))
    if kind < 0.72:
        return shape[-1:]
    ones = tuple(s if draw.chance(0.5) else 1 for s in shape)
    return ones[int(draw.random.integers(len(shape))) :] if draw.chance(0.4) else ones


def broadcast(site: Site, dtypes: Sequence[DType | None] = ()) -> None:
    """Operands that broadcast to the first that is built."""
    shape: Shape | None = None
    for index in in_order(site):
        wanted = site.shape((0, 1, 2, 3, 3, 4, 4)) if shape is None else narrower(site.draw, shape)
        found = site.operand(index, wanted, dtypes[index] if index < len(dtypes) else None)
        shape = found if shape is None else tuple(np.broadcast_shapes(shape, found))


def comparison(site: Site) -> None:
    site.dtype = site.draw.dtype
    broadcast(site)


def logical(site: Site) -> None:
    site.dtype = DType.BOOL
    broadcast(site)


def where(site: Site) -> None:
    broadcast(site, [DType.BOOL])


def power(site: Site) -> None:
    shape = site.operand(0, site.shape(), positive=True)
    if site.has(1) and isinstance(site.pattern.operands[1], Variable):
        site.operand(1, (), contents=site.draw.one([2.0, 3.0, 1.0, 2.0]))
    else:
        site.operand(1, narrower(site.draw, shape))


def clip(site: Site) -> None:
    site.operand(0, site.shape())
    site.operand(1, (), contents=site.draw.one([0.0, -1.0, 1.0]))
    site.operand(2, (), contents=site.draw.one([6.0, 1.0, 2.0]))


def parameter(name: str, *choices: Any) -> Row:
    """One operand, one float attribute."""

    def fill(site: Site) -> None:
        alike(site)
        site.attr(name, None, *choices)

    return fill


def cast(site: Site) -> None:
    source = site.draw.one([site.draw.dtype, DType.F32, DType.I64, DType.BOOL])
    site.operand(0, site.shape(), source)
    wanted = site.want.dtype or site.draw.one([DType.F32, DType.I64, DType.F16, DType.F64, DType.BOOL, DType.I32])
    site.attr("to", wanted.code)


# Products


def matmul(site: Site) -> None:
    draw = site.draw
    wanted = site.want.shape
    batch, m, n = (
        (wanted[:-2], *wanted[-2:])
        if wanted and len(wanted) >= 2
        else (draw.shape((0, 0, 1, 2)), draw.size(), draw.size())
    )
    k = draw.size()
    left, right = (*batch, m, k), (k, n)
    if site.is_operator(1) and not site.is_operator(0):
        right = site.operand(1, draw.one([(k, n), (*batch, k, n)]))
        if len(right) < 2:
            raise Reject
        site.operand(0, (*(batch if len(right) == 2 else right[:-2]), m, right[-2]))
        return
    left = site.operand(0, left)
    if not left:
        raise Reject
    both = site.is_operator(1) and bool(batch)
    site.operand(1, (*left[:-2], *left[-1:], n) if (both or draw.chance(0.25)) and len(left) > 2 else (*left[-1:], n))


def gemm(site: Site) -> None:
    draw = site.draw
    m, k, n = draw.size(), draw.size(), draw.size()
    ta, tb = site.attr("transA", None, 0, 1), site.attr("transB", None, 0, 1, 1)
    site.attr("alpha", None, None, 0.5, 2.0)
    site.attr("beta", None, None, 0.5, 2.0)
    left = site.operand(0, (k, m) if ta else (m, k))
    if len(left) != 2:
        raise Reject
    m, k = left[::-1] if ta else left
    right = site.operand(1, (n, k) if tb else (k, n))
    n = right[0] if tb else right[-1]
    site.operand(2, draw.one([(n,), (n,), (1, n), (m, n), (), (m, 1)]))


def window(site: Site, rank: int) -> tuple[int, ...]:
    """Kernel, strides, pads and dilations of a convolution or pool; gives the kernel."""
    draw = site.draw
    kernel = tuple(draw.one([1, 2, 3]) for _ in range(rank))
    site.attr("strides", None, tuple(draw.one([1, 2]) for _ in range(rank)))
    low, high = [tuple(int(draw.random.integers(0, k)) for k in kernel) for _ in range(2)]
    site.attr("pads", None, (*low, *low), (*low, *high))
    return kernel


def convolution(transposed: bool) -> Row:
    def fill(site: Site) -> None:
        draw = site.draw
        rank = draw.one([1, 2, 2, 2, 3])
        shape = site.operand(0, (draw.one([1, 2]), draw.one([1, 2, 4]), *(draw.one([4, 5, 6]) for _ in range(rank))))
        if len(shape) < 3:
            raise Reject
        rank, channels = len(shape) - 2, shape[1]
        kernel = window(site, rank)
        if "dilations" in site.pattern.attrs or draw.chance(0.2):
            site.attr("dilations", None, (2,) * rank)
        group = site.attr("group", None, 1, channels, *([2] if channels % 2 == 0 else []))
        if channels % group:
            raise Reject
        per_group = draw.one([1, 2, 3])
        weight = (channels, per_group, *kernel) if transposed else (per_group * group, channels // group, *kernel)
        weight = site.operand(1, weight)
        site.operand(2, (weight[1] * group if transposed else weight[0],))
        if draw.chance(0.5):
            site.attr("kernel_shape", weight[2:])

    return fill


def pool(site: Site) -> None:
    draw = site.draw
    rank = draw.one([1, 2, 2])
    shape = site.operand(0, (draw.one([1, 2]), draw.size(), *(draw.one([4, 5, 6]) for _ in range(rank))))
    kernel = window(site, len(shape) - 2)
    site.attr("kernel_shape", kernel)


def images(site: Site) -> None:
    """One operand [N, C, D1, ...]."""
    site.operand(0, site.shape((3, 4, 4, 5)))


# Normalisation

EPSILONS = (None, 1e-5, 1e-3, 0.1)


def batch_normalization(site: Site) -> None:
    shape = site.operand(0, site.shape((2, 3, 4, 4)))
    if len(shape) < 2:
        raise Reject
    for index in (1, 2, 3):
        site.operand(index, shape[1:2])
    site.operand(4, shape[1:2], positive=True)
    site.attr("epsilon", *EPSILONS)


def channel_normalization(site: Site) -> None:
    shape = site.operand(0, site.shape((3, 4)))
    if site.pattern.op == "GroupNormalization":
        site.attr("num_groups", *[g for g in range(1, shape[1] + 1) if shape[1] % g == 0])
    site.operand(1, shape[1:2])
    site.operand(2, shape[1:2])
    site.attr("epsilon", *EPSILONS)


def last_axes_normalization(site: Site) -> None:
    shape = site.operand(0, site.shape((2, 3, 4)))
    axis = site.attr("axis", None, -1, -1, -2)
    for index in (1, 2):
        site.operand(index, shape[axis:])
    site.attr("epsilon", *EPSILONS)


def along_axis(site: Site) -> None:
    """One operand and an axis of it."""
    shape = site.operand(0, site.shape((1, 2, 3, 4)))
    if not shape:
        raise Reject
    site.attr("axis", None, *range(-len(shape), len(shape)))


# Movement


def transpose(site: Site) -> None:
    shape = site.shape((2, 3, 4))
    if site.want.shape is not None and len(shape) == len(site.want.shape):
        perm = site.draw.random.permutation(len(shape))
        shape = tuple(shape[int(np.flatnonzero(perm == axis)[0])] for axis in range(len(shape)))
        perm_wanted = site.pattern.attrs.get("perm")
        if isinstance(perm_wanted, (list, tuple)) and len(perm_wanted) == len(shape):
            perm = np.asarray(perm_wanted)
            shape = tuple(site.want.shape[int(np.flatnonzero(perm == axis)[0])] for axis in range(len(shape)))
        site.operand(0, shape)
        site.attr("perm", tuple(int(p) for p in perm))
        return
    rank = len(site.operand(0, shape))
    site.attr("perm", None, *(tuple(int(p) for p in site.draw.random.permutation(rank)) for _ in range(4)))


def grouped(draw: Drawer, shape: Shape) -> list[int]:
    """Sizes with the same product: neighbours joined, or a size split in two."""
    out = list(shape)
    for _ in range(int(draw.random.integers(1, 3))):
        place = int(draw.random.integers(len(out) + 1))
        if place + 1 < len(out) and draw.chance(0.5):
            out[place : place + 2] = [out[place] * out[place + 1]]
        else:
            even = place < len(out) and out[place] % 2 == 0
            out[place : place + 1] = [2, out[place] // 2] if even else [1, *out[place : place + 1]]
    return out


def reshape(site: Site) -> None:
    draw = site.draw
    shape = site.operand(0, site.shape((1, 2, 3, 4)))
    wanted = site.want.shape
    target = list(wanted) if wanted is not None and math.prod(wanted) == math.prod(shape) else grouped(draw, shape)
    if draw.chance(0.4) and target:
        target[int(draw.random.integers(len(target)))] = -1
    for axis in range(min(len(target), len(shape))):
        if target[axis] == shape[axis] and draw.chance(0.2):
            target[axis] = 0
    site.operand(1, (len(target),), DType.I64, contents=target)


def flatten(site: Site) -> None:
    shape = site.operand(0, site.shape((2, 3, 4)))
    site.attr("axis", None, 0, 1, len(shape), -1)


def squeeze(site: Site) -> None:
    draw = site.draw
    if not site.is_operator(0):
        shape = list(site.shape((1, 2, 3)))
        shape.insert(int(draw.random.integers(len(shape) + 1)), 1)
        site.operand(0, shape)
    shape = site.operand(0)
    ones = [axis for axis, size in enumerate(shape) if size == 1]
    if not ones:
        raise Reject
    axes = sorted(draw.random.choice(ones, int(draw.random.integers(1, len(ones) + 1)), replace=False).tolist())
    site.operand(1, (len(axes),), DType.I64, contents=[a - len(shape) if draw.chance(0.3) else a for a in axes])


def unsqueeze(site: Site) -> None:
    draw = site.draw
    rank = len(site.operand(0, site.shape((1, 2, 3))))
    count = draw.one([1, 1, 2])
    axes = sorted(draw.random.choice(rank + count, count, replace=False).tolist())
    negative = draw.chance(0.3)
    site.operand(1, (count,), DType.I64, contents=[a - rank - count if negative else a for a in axes])


def concat(site: Site) -> None:
    draw = site.draw
    shape: Shape | None = None
    axis = 0
    for index in in_order(site):
        if shape is None:
            shape = site.operand(index, site.shape((1, 2, 3, 4)))
            if not shape:
                raise Reject
            axis = site.attr("axis", *range(-len(shape), len(shape)))
        else:
            other = list(shape)
            other[axis] = draw.size()
            site.operand(index, other)


def split(site: Site) -> None:
    draw = site.draw
    parts = max(2, (site.pattern.index or 0) + 1)
    shape = list(site.shape((2, 3)))
    axis = draw.one(range(len(shape)))
    shape[axis] = parts * draw.one([1, 2])
    shape = list(site.operand(0, shape))
    axis = site.attr("axis", None, *(a for a in range(-len(shape), len(shape)) if shape[a] >= parts))
    if shape[axis] < parts:
        raise Reject
    site.outputs = parts
    if site.has(1):
        first = [shape[axis] // parts] * (parts - 1)
        site.operand(1, (parts,), DType.I64, contents=[*first, shape[axis] - sum(first)])
    else:
        site.attr("num_outputs", parts)


def slice_(site: Site) -> None:
    draw = site.draw
    shape = site.operand(0, site.shape((1, 2, 3, 4)))
    if not shape:
        raise Reject
    count = int(draw.random.integers(1, len(shape) + 1))
    axes = sorted(draw.random.choice(len(shape), count, replace=False).tolist())
    steps = [draw.one([1, 1, 1, 2, -1]) for _ in axes] if site.has(4) else [1] * count
    if not site.has(3):
        axes = list(range(count))
    starts, ends = [], []
    for axis, step in zip(axes, steps, strict=True):
        low = int(draw.random.integers(0, shape[axis]))
        high = draw.one([shape[axis], 2**31 - 1, shape[axis] + 3, max(low + 1, shape[axis] - 1)])
        starts.append(shape[axis] - 1 if step < 0 else draw.one([low, low - shape[axis], 0]))
        ends.append(-(2**31) if step < 0 else high)
    for index, numbers in ((1, starts), (2, ends), (3, axes), (4, steps)):
        site.operand(index, (count,), DType.I64, contents=numbers)


def pad(site: Site) -> None:
    draw = site.draw
    shape = site.operand(0, site.shape((2, 3, 4)))
    site.attr("mode", None, "constant", "constant", "edge", "reflect")
    bound = 1 if site.attrs.get("mode") != "reflect" else 0
    pads = [int(draw.random.integers(0, min(2, max(s - 1, bound)) + 1)) for s in (*shape, *shape)]
    if draw.chance(0.3):
        pads = [p if axis % len(shape) >= 2 else 0 for axis, p in enumerate(pads)]
    site.operand(1, (len(pads),), DType.I64, contents=pads)
    site.operand(2, (), contents=draw.one([0.0, 0.0, 1.0]))
    site.operand(3, (len(shape),), DType.I64, contents=range(len(shape)))


def expand(site: Site) -> None:
    draw = site.draw
    shape = site.operand(0, tuple(1 if draw.chance(0.4) else s for s in site.shape((1, 2, 3))))
    target = [draw.size() if s == 1 and draw.chance(0.7) else s for s in shape]
    if draw.chance(0.2):
        target = [draw.size(), *target]
    target = [1 if draw.chance(0.2) else s for s in target]
    site.operand(1, (len(target),), DType.I64, contents=target)


def tile(site: Site) -> None:
    shape = site.operand(0, site.shape((1, 2, 3)))
    site.operand(1, (len(shape),), DType.I64, contents=[site.draw.one([1, 1, 2]) for _ in shape])


def gather(site: Site) -> None:
    draw = site.draw
    shape = site.operand(0, site.shape((1, 2, 3)))
    if not shape:
        raise Reject
    axis = site.attr("axis", None, *range(-len(shape), len(shape)))
    indices = draw.random.integers(-shape[axis], shape[axis], draw.shape((0, 1, 1, 2)))
    site.operand(1, indices.shape, DType.I64, contents=indices)


def reduce(site: Site) -> None:
    draw = site.draw
    shape = site.operand(0, site.shape((1, 2, 3, 4)))
    if not shape:
        raise Reject
    count = int(draw.random.integers(1, min(2, len(shape)) + 1))
    axes = draw.one([[-1], sorted(draw.random.choice(len(shape), count, replace=False).tolist())])
    site.operand(1, (len(axes),), DType.I64, contents=axes)
    site.attr("keepdims", None, 0, 1)


def argument(site: Site) -> None:
    along_axis(site)
    site.attr("keepdims", None, 0, 1)


def shape_of(site: Site) -> None:
    site.dtype = site.draw.dtype
    rank = len(site.operand(0, site.draw.shape((1, 2, 3, 4))))
    site.attr("start", None, None, 0, rank - 1)


def depth_to_space(site: Site) -> None:
    block = 2
    site.operand(0, (1, 4 * site.draw.one([1, 2]), 2 * site.draw.one([1, 2]), 4))
    site.attr("blocksize", block)


def quantize(site: Site) -> None:
    """QuantizeLinear and DequantizeLinear per tensor, in 8 bits."""
    numbers = site.draw.one([DType.U8, DType.I8])
    if site.pattern.op == "QuantizeLinear" and site.want.dtype in (DType.U8, DType.I8):
        numbers = site.want.dtype
    real = DType.F32
    site.operand(0, site.shape(), numbers if site.pattern.op == "DequantizeLinear" else real)
    site.operand(1, (), real, positive=True)
    site.operand(2, (), numbers)


def einsum(site: Site) -> None:
    draw = site.draw
    equation = site.attr("equation", "ij,jk->ik", "bij,bjk->bik", "bhid,bhjd->bhij", "ij,kj->ik", "bij,jk->bik")
    sizes = {letter: draw.size() for letter in equation if letter.isalpha()}
    terms = equation.split("->")[0].replace(" ", "").split(",")
    if len(terms) != site.count or "." in equation:
        raise Reject
    for index, term in enumerate(terms):
        site.operand(index, [sizes[letter] for letter in term])


def dropout(site: Site) -> None:
    site.operand(0, site.shape())
    site.operand(1, (), DType.F32, contents=0.5)
    site.operand(2, (), DType.BOOL, contents=False)


def attention(site: Site) -> None:
    """Queries [N, heads, length, size], keys and values with as many heads or fewer, a mask that fits the scores."""
    draw = site.draw
    kept, size, length, keys = draw.one([1, 2]), draw.one([2, 4]), draw.one([3, 4]), draw.one([3, 4])
    query = site.operand(0, (draw.one([1, 2]), kept * draw.one([1, 1, 2]), length, size))
    if len(query) != 4:
        raise Reject
    key = site.operand(1, (query[0], kept, keys, query[3]))
    if len(key) != 4 or query[1] % key[1] or key[3] != query[3]:
        raise Reject
    site.operand(2, (*key[:3], size))
    if site.has(3):
        shape = draw.one([(query[2], key[2]), (1, 1, query[2], key[2]), (query[0], query[1], query[2], key[2])])
        site.operand(3, shape, draw.one([None, None, DType.BOOL]))
    site.attr("scale", None, None, 0.5, 1.0)


def rotary(site: Site) -> None:
    """Heads of an even size, tables of half of it for each position."""
    draw = site.draw
    shape = site.operand(0, (draw.one([1, 2]), draw.one([1, 2]), 3, draw.one([2, 4])))
    if len(shape) != 4 or shape[3] % 2:
        raise Reject
    for index in (1, 2):
        site.operand(index, (shape[0], shape[2], shape[3] // 2))
    site.attr("interleaved", None, 0, 1)


def regional(site: Site) -> None:
    """Operators with regions are for examples."""
    raise Reject


GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(site: Site) -> None:
    """Steps [length, batch, inputs] of one direction, now and then with biases, lengths and states of zeros."""
    draw, gates, units = site.draw, GATES[site.pattern.op], 2
    length, batch, inputs = site.operand(0, (3, 2, draw.one([2, 4])))
    site.operand(1, (1, gates * units, inputs))
    site.operand(2, (1, gates * units, units))
    zeros: Any = np.zeros((1, 2 * gates * units)) if draw.chance(0.5) else None
    site.operand(3, (1, 2 * gates * units), contents=zeros)
    site.operand(4, (batch,), DType.I32, contents=[draw.one([length, length, length - 1])] * batch)
    for index in (5, 6):
        zeros = np.zeros((1, batch, units)) if draw.chance(0.5) else None
        site.operand(index, (1, batch, units), contents=zeros)
    site.operand(7, (1, 3 * units))
    site.attr("hidden_size", units)
    site.attr("direction", None, "forward", "reverse")


def resize(site: Site) -> None:
    """Images enlarged by scales, some of which are 1, or to sizes."""
    draw = site.draw
    shape = site.operand(0, (draw.one([1, 2]), draw.size(), draw.one([2, 3]), draw.one([2, 3])))
    if len(shape) != 4:
        raise Reject
    factors = draw.one([(1, 1), (2, 2), (1, 2)])
    site.made[1] = None
    if site.has(3):
        site.made[2] = None
        site.operand(
            3, (4,), DType.I64, contents=[*shape[:2], *(s * f for s, f in zip(shape[2:], factors, strict=True))]
        )
    elif site.has(2):
        site.operand(2, (4,), DType.F32, contents=[1, 1, *factors])
    else:
        raise Reject
    site.attr("mode", "nearest", "linear")
    site.attr("coordinate_transformation_mode", "asymmetric", "half_pixel", "align_corners")


def gather_points(site: Site) -> None:
    """GatherND by constant indices of one number or of several."""
    draw = site.draw
    shape = site.operand(0, site.shape((1, 2, 3)))
    if not shape:
        raise Reject
    count = draw.one([1, 1, len(shape)])
    rows = draw.shape((1, 1, 2))
    index = np.stack([draw.random.integers(-s, s, rows) for s in shape[:count]], -1)
    site.operand(1, index.shape, DType.I64, contents=index)


ROWS: dict[str, Row] = {
    **dict.fromkeys(["Add", "Sub", "Mul", "Div", "Max", "Min", "Mean", "Sum", "PRelu", "Mod"], broadcast),
    **dict.fromkeys(["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"], comparison),
    **dict.fromkeys(["And", "Or", "Xor", "Not"], logical),
    **dict.fromkeys(["Softmax", "LogSoftmax", "Hardmax", "LpNormalization"], along_axis),
    **dict.fromkeys(
        ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
         "ReduceLogSum", "ReduceLogSumExp"], reduce),
    **dict.fromkeys(["ArgMax", "ArgMin"], argument),
    **dict.fromkeys(["MaxPool", "AveragePool", "LpPool"], pool),
    **dict.fromkeys(["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"], images),
    **dict.fromkeys(["QuantizeLinear", "DequantizeLinear"], quantize),
    **dict.fromkeys(["LayerNormalization", "RMSNormalization"], last_axes_normalization),
    **dict.fromkeys(["InstanceNormalization", "GroupNormalization"], channel_normalization),
    **dict.fromkeys(GATES, recurrent),
    **dict.fromkeys(["If", "Loop", "Scan"], regional),
    "Attention": attention, "BatchNormalization": batch_normalization, "Cast": cast, "Clip": clip, "Concat": concat,
    "Conv": convolution(False), "ConvTranspose": convolution(True), "DepthToSpace": depth_to_space,
    "Dropout": dropout, "Einsum": einsum, "Elu": parameter("alpha", 0.5, 2.0), "Expand": expand, "Flatten": flatten,
    "Gather": gather, "GatherND": gather_points, "Gemm": gemm, "HardSigmoid": parameter("alpha", 1 / 6, 0.5),
    "LeakyRelu": parameter("alpha", 0.01, 0.3), "MatMul": matmul, "Pad": pad, "Pow": power, "Reshape": reshape,
    "Resize": resize, "RotaryEmbedding": rotary, "Shape": shape_of, "Slice": slice_, "Split": split,
    "Squeeze": squeeze, "Swish": parameter("alpha", 1.0, 0.5), "Tile": tile, "Transpose": transpose,
    "Unsqueeze": unsqueeze, "Where": where,
}  # fmt: skip

OPERANDS = {
    "Clip": (1, 3), "Concat": (1, 3), "Conv": (2, 3), "Gemm": (2, 3), "Pad": (2, 3), "Slice": (3, 5),
    "Attention": (3, 4), "RotaryEmbedding": (3, 3), "Resize": (3, 4), "LSTM": (3, 8), "GRU": (3, 6), "RNN": (3, 6),
    "Squeeze": (1, 2), "Dropout": (1, 1), "Reshape": (2, 2), "BatchNormalization": (5, 5),
}  # fmt: skip
"""How many operands single nodes get where the schema allows more than make sense without others."""


def row(op: str, domain: str) -> Row:
    """What fills a site of the operator."""
    return alike if domain else ROWS.get(op, alike)
