"""Attention in terms of MatMul and Softmax, for opsets before 23 and for what later versions added to it.

Written in as few nodes as there are, none of them for what the attention does not do: heads are split off by one
Transpose each (one for all where queries, keys and values are parts of one projection), the scale is one factor on the
smaller side, shared keys and values are broadcast, and what masks have in common is computed once for a whole graph.
"""

from __future__ import annotations

import math
from itertools import islice

import numpy as np

from ....ir import Builder, DType, Node, Value, constant
from ....ir.dims import Size
from .heads import MASK, PAST_KEY, VALID, Heads, K, Q
from .masks import HIDING, NEAR, WIDE, common, may_hide_rows, once, unexpanded
from .operands import cast, dtype_of, number, shape_of

PER_SAMPLE = [-1, 1, 1, 1]
"""The shape of a number for each sample next to the scores."""


def attention(node: Node, op: Builder) -> list[Value | None]:
    """softmax(Q K' scale + bias) V with an optional cache, grouped heads, soft cap and masks (Attention-25)."""
    return _Attention(node, op).build()


def has_window(node: Node) -> bool:
    """True for an Attention whose queries see a limited distance."""
    return any(node.int(name, -1) >= 0 for name in ("left_window_size", "right_window_size"))


def has_valid_lengths(node: Node) -> bool:
    """True for an Attention that is told how many keys of each sample are valid."""
    return node.input(VALID) is not None


def shares_a_row(node: Node) -> bool:
    """True for an Attention whose mask has one row for several queries, which ONNX Runtime refuses."""
    mask = node.input(MASK)
    shape = None if mask is None else mask.shape
    return shape is not None and len(shape) > 1 and shape[-2] == 1 and _length(node) != 1


def with_rows(node: Node, op: Builder) -> list[Value | None]:
    """The same Attention with a row of the mask for each query."""
    query, mask, length = node.operand(Q), node.operand(MASK), _length(node)
    axis = len(shape_of(query)) - 2
    rows = [length] if isinstance(length, int) else op.Shape(query, start=axis, end=axis + 1)
    before = [1] * (len(shape_of(mask)) - 2)
    operands = list(node.inputs)
    operands[MASK] = op.Expand(mask, op.Concat(*([before] if before else []), rows, [1], axis=0))
    made = op.node(node.op, operands, node.attrs, outputs=len(node.outputs))
    return list(made.outputs) if isinstance(made, Node) else [made]


def _length(node: Node) -> Size:
    return shape_of(node.operand(Q))[-2]


class _Attention(Heads):
    def __init__(self, node: Node, op: Builder) -> None:
        super().__init__(node, op)
        self.shows = len(node.outputs) > 3 and bool(node.outputs[3].users)

    @property
    def scale(self) -> float:
        given = self.node.attr("scale")
        return float(given) if isinstance(given, (int, float)) else 1 / math.sqrt(self.size)

    def build(self) -> list[Value | None]:
        op = self.op
        query, turned, value, present = self.split()
        if self.scale != 1:
            factor = number(self.scale, self.dtype)
            if self.heads > self.kept and self.length == self.keys:
                turned = op.Mul(turned, factor)
            else:
                query = op.Mul(query, factor)
        raw = op.MatMul(query, turned)
        capped = self.cap(raw)
        bias, seen = self.bias()
        scores = capped if bias is None else op.Add(capped, bias)
        probabilities = self.softmax(scores)
        if seen is not None and self.classic:
            probabilities = op.Where(seen, probabilities, number(0, self.dtype))
        y = op.MatMul(probabilities, value)
        if seen is not None and not self.classic:
            y = op.Mul(y, seen)
        shown = (raw, capped, scores, probabilities)[self.node.int("qk_matmul_output_mode")] if self.shows else None
        if shown is not None and self.grouped:
            shown = op.Reshape(shown, op.Concat(op.Shape(query, end=1), [self.heads], op.Shape(shown, start=3), axis=0))
        return [self.joined(y), *present, shown][: len(self.node.outputs)]

    def joined(self, y: Value) -> Value:
        """The result in the layout of the queries."""
        op = self.op
        if self.packed:
            moved = op.Transpose(y, perm=[0, 3, 1, 2, 4] if self.grouped else [0, 2, 1, 3])
            return moved if self.is_reshaped() else op.Reshape(moved, [0, 0, -1])
        return op.Reshape(y, [0, self.heads, -1, self.value_size]) if self.grouped else y

    def is_reshaped(self) -> bool:
        """True where all that is done to the result is a Reshape that copies none of the axes that heads are on."""
        user = self.node.output.only_user
        target = None if user is None or user.op != "Reshape" or user.domain else user.operand(1).const
        return target is not None and 0 not in target.numpy()[2:]

    # Scores

    def cap(self, scores: Value) -> Value:
        limit = self.node.float("softcap")
        if limit <= 0:
            return scores
        bound = number(limit, self.dtype)
        return self.op.Mul(self.op.Tanh(self.op.Div(scores, bound)), bound)

    def softmax(self, scores: Value) -> Value:
        code = self.node.attr("softmax_precision")
        wide = DType.of_code(code) if isinstance(code, int) and code else self.dtype
        return cast(self.op, self.op.Softmax(cast(self.op, scores, self.dtype, wide), axis=-1), wide, self.dtype)

    # Masks

    @property
    def classic(self) -> bool:
        """Hidden is minus infinity, and rows without keys are cleared before the product with the values.

        Elsewhere hidden is a finite number, and the result is cleared, which is less work.
        """
        return self.shows or self.dtype not in WIDE

    @property
    def positional(self) -> bool:
        return bool(self.node.int("is_causal")) or has_window(self.node)

    def bias(self) -> tuple[Value | None, Value | None]:
        """What is added to the scores, and what tells the queries that see some key; None where there is none."""
        op, mask, hides = self.op, self.mask(), self.hides()
        if mask is not None and dtype_of(mask) is not DType.BOOL:
            return self.added(mask, hides)
        visible = mask
        for more in (self.seen_by_position(), self.valid_keys()):
            if more is not None:
                visible = more if visible is None else self.shared("And", [visible, more])
        if visible is None:
            return None, None
        never = number(-np.inf if self.classic else HIDING, self.dtype)
        if visible.const is not None:
            array = np.where(visible.const.numpy(), 0, -np.inf if self.classic else HIDING)
            bias = common(op, array.astype(self.dtype.numpy))
        else:
            bias = once(op, "Where", [visible, number(0, self.dtype), never])
        bias = self.apart(bias)
        if not hides:
            return bias, None
        best = once(op, "ReduceMax", [bias, [-1]])
        # exp of 0 and of a huge negative number: 1 where a key is seen, else 0
        return bias, once(op, "Greater", [best, never]) if self.classic else once(op, "Exp", [best])

    def added(self, mask: Value, hides: bool) -> tuple[Value, Value | None]:
        """A mask of numbers, and hidden keys on top of it."""
        op, bias = self.op, mask
        for visible in (self.seen_by_position(), self.valid_keys()):
            if visible is not None:
                bias = self.shared("Where", [visible, bias, number(-np.inf, self.dtype)])
        bias = self.apart(bias)
        if not hides:
            return bias, None
        best = once(op, "ReduceMax", [bias, [-1]])
        seen = once(op, "Greater", [best, number(-np.inf, self.dtype)])
        if self.classic:
            return bias, seen
        lowest = float(np.finfo(np.float64 if self.dtype is DType.F64 else np.float32).min)
        floor = number(lowest if self.dtype is not DType.BF16 else -3.38e38, self.dtype)
        return once(op, "Max", [bias, floor]), once(op, "Cast", [seen], to=self.dtype.code)

    def hides(self) -> bool:
        """True unless every query provably sees some key."""
        mask = self.node.input(MASK)
        windowed = has_window(self.node)
        if has_valid_lengths(self.node) or (mask is not None and (windowed or may_hide_rows(mask))):
            return True
        return windowed and self.length != self.keys

    def mask(self) -> Value | None:
        """The mask, as long as the keys."""
        mask, op = self.node.input(MASK), self.op
        if mask is None:
            return None
        mask = unexpanded(mask)
        shape = shape_of(mask)
        last, total = shape[-1], self.keys
        if not self.cached and isinstance(last, int) and isinstance(total, int) and 1 < last < total:
            if dtype_of(mask) is DType.BOOL:
                mask = op.Where(mask, number(0, self.dtype), number(-np.inf, self.dtype))
            mask = op.Pad(mask, [0] * (2 * len(shape) - 1) + [total - last], number(-np.inf, self.dtype))
        return mask

    def apart(self, bias: Value) -> Value:
        """What is added to scores, with an axis for the heads that share keys where there is one."""
        op, shape = self.op, shape_of(bias)
        if not self.grouped or len(shape) < 3:
            return bias
        if shape[-3] == 1:
            return once(op, "Unsqueeze", [bias, [-4]])
        groups, front = [self.kept, self.heads // self.kept], len(shape) - 3
        sizes = [0] * front + groups + [size if isinstance(size, int) else -1 for size in shape[-2:]]
        if sizes.count(-1) < 2:
            return op.Reshape(bias, sizes)
        before = [op.Shape(bias, end=1)] if front else []
        return op.Reshape(bias, op.Concat(*before, groups, op.Shape(bias, start=front + 1), axis=0))

    def seen_by_position(self) -> Value | None:
        """Keys that are not later than a query at position p, and in its window: p - left <= j <= p + right."""
        if not self.positional:
            return None
        node, op = self.node, self.op
        left, right = node.int("left_window_size", -1), node.int("right_window_size", -1)
        late = 0 if node.int("is_causal") else right
        past = None if not self.cached else shape_of(node.operand(PAST_KEY))[2]
        sizes = (self.length, self.keys, past or 0)
        if all(isinstance(s, int) for s in sizes) and not has_valid_lengths(node):
            length, keys, before = (int(s) for s in sizes)  # pyright: ignore[reportArgumentType]
            rows, columns = np.arange(length)[:, None] + before, np.arange(keys + before)[None]
            seen = np.ones((length, keys + before), bool)
            seen &= columns <= rows + late if late >= 0 else True
            seen &= columns >= rows - left if left >= 0 else True
            return constant(seen)
        columns, rows = self.positions()
        tests: list[Value] = []
        for bound, distance, test in ((late, late, "LessOrEqual"), (left, -left, "GreaterOrEqual")):
            if bound >= 0:
                limit = once(op, "Add", [rows, constant(np.array(distance))]) if distance else rows
                # Where keys and queries are counted apart, either may come later.
                alone = self.length != self.keys or self.cached
                tests.append(self.shared(test, [columns, limit]) if alone else once(op, test, [columns, limit]))
        return tests[0] if len(tests) == 1 else op.And(*tests)

    def positions(self) -> tuple[Value, Value]:
        """The positions of the keys as a row, those of the queries as a column (for each sample where they differ)."""
        node, op, valid = self.node, self.op, self.node.input(VALID)
        axis = 1 if self.packed else 2
        rows = self.count(node.operand(Q), axis)
        if self.cached:
            past, size = self.extent(node.operand(PAST_KEY), 2), shape_of(node.operand(PAST_KEY))[2] + self.keys
            columns = _counted(op, size)
            if columns is None:
                total = self.shared("Add", [past, self.extent(node.operand(K), axis)])
                columns = self.shared("Range", [constant(np.array(0)), total, constant(np.array(1))])
            return columns, self.shared("Add", [past, once(op, "Unsqueeze", [rows, [1]])])
        columns = rows if self.length == self.keys else self.count(node.operand(K), axis)
        rows = once(op, "Unsqueeze", [rows, [1]])
        if valid is None:
            return columns, rows
        length = op.Gather(op.Shape(node.operand(Q)), constant(np.array(axis)))
        offset = op.Sub(op.Reshape(_wide(op, valid), PER_SAMPLE), length)
        return columns, op.Add(rows, offset)

    def count(self, value: Value, axis: int) -> Value:
        """0, 1, 2 ... along an axis; from an input of the graph where one has that size, so that all share it."""
        size: Size = shape_of(value)[axis]
        if (made := _counted(self.op, size)) is not None:
            return made
        return _range(self.op, self.extent(value, axis))

    def extent(self, value: Value, axis: int) -> Value:
        """The size of an axis as a scalar; of an input of the graph where one has that size, so that all share it."""
        size: Size = shape_of(value)[axis]
        source, place = next(
            ((v, i) for v in self.op.graph.inputs for i, s in enumerate(v.shape or ()) if s == size and v.users),
            (value, axis),
        )
        return once(self.op, "Gather", [once(self.op, "Shape", [source]), constant(np.array(place))])

    def shared(self, operator: str, operands: list[Value]) -> Value:
        """A node with several computed operands, made once for the attentions that follow."""
        first = next(v for v in operands if v.const is None)
        return once(self.op, operator, operands, behind=first, after=self.op.before)

    def valid_keys(self) -> Value | None:
        """Keys before the padding of each sample."""
        valid, op = self.node.input(VALID), self.op
        if valid is None:
            return None
        columns = self.count(self.node.operand(K), 1 if self.packed else 2)
        return op.Less(columns, op.Reshape(_wide(op, valid), PER_SAMPLE))


def _counted(op: Builder, size: Size) -> Value | None:
    """0, 1, 2 ... up to a size, where one of the first nodes of the graph makes it."""
    for node in islice(op.graph, NEAR):
        if node is op.before:
            break
        if node.op == "Range" and not node.domain and node.output.shape == (size,) and node.output.dtype is DType.I64:
            start, step = (v.const for v in (node.operand(0), node.operand(2)))
            if start is not None and step is not None and (int(start.item()), int(step.item())) == (0, 1):
                return node.output
    return None


def _range(op: Builder, size: Value) -> Value:
    zero, one = (constant(np.array(i, np.int64)) for i in (0, 1))
    return once(op, "Range", [zero, size, one])


def _wide(op: Builder, integers: Value) -> Value:
    return cast(op, integers, dtype_of(integers), DType.I64)
