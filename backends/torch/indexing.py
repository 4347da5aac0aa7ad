"""Rows for operators that pick elements: slices, gathers, scatters, embeddings."""

from __future__ import annotations

from ...ir import DType, Node, Value
from .code import Code, Piece, call, form, infix, literal, method, raw, sequence
from .emitter import Emitter, Row, float_type
from .sizes import constant_of

FAR = 1 << 31


def slice_(node: Node, e: Emitter) -> Code:
    """Slicing by Python's rules, except that backward steps flip first (Slice-13)."""
    x = node.operand(0)
    starts, ends = e.integers(node.operand(1)), e.integers(node.operand(2))
    axes = e.static(node.input(3)) if node.input(3) is not None else tuple(range(len(starts or ())))
    steps = e.static(node.input(4)) if node.input(4) is not None else (1,) * len(starts or ())
    if starts is None or ends is None or axes is None or steps is None:
        return _slice_by_tensors(node, e)
    rank = e.rank(x)
    if any(a < 0 for a in axes) and not (rank is None and all(a == -1 for a in axes)):
        known_rank = e.need_rank(node, x)
        axes = tuple(a % known_rank for a in axes)
    made = e.tensor(x)
    parts: dict[int, Code] = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 0:
            made = method(made, "flip", axis)
            parts[axis] = _part(*_flipped(node, e, axis, (start, end)), -step)
        else:
            parts[axis] = _part(start, end, step)
    if set(parts) == {-1}:
        return form("{0}[..., {1}]", made, parts[-1])
    if rank is not None and len(parts) == 1 and rank - 1 in parts and rank > 2:
        return form("{0}[..., {1}]", made, parts[rank - 1])
    items: list[Piece] = [parts.get(i, raw(":")) for i in range(max(parts) + 1)] if parts else [raw("...")]
    return form("{0}[{1}]", made, sequence(items, "", ""))


def _part(start: Piece, end: Piece, step: int) -> Code:
    """`start:end:step` without what Python assumes anyway."""
    first, last = (p if isinstance(p, int) else constant_of(p) if isinstance(p, Code) else None for p in (start, end))
    from_ = raw("") if first == 0 else start
    until = raw("") if last is not None and last >= FAR - 1 else end
    colon = ":" if all(is_simple(p) for p in (from_, until)) else " : "
    if colon == " : ":
        colon = f"{'' if first == 0 else ' '}:{'' if last is not None and last >= FAR - 1 else ' '}"
    return (
        form("{0}" + colon + "{1}", from_, until)
        if step == 1
        else form("{0}" + colon + "{1}" + f"{colon}{step}", from_, until)
    )


def is_simple(piece: Piece) -> bool:
    """True for a name, a number or nothing, between which a colon stands without spaces."""
    return not isinstance(piece, Code) or piece.depth == 0


def _flipped(node: Node, e: Emitter, axis: int, bounds: tuple[Piece, Piece]) -> tuple[Piece, Piece]:
    """A backward range as a forward one over the flipped axis: index i becomes size - 1 - i, index -i becomes i - 1."""
    first, last = (constant_of(p) if isinstance(p, Code) else None for p in bounds)
    shape = e.resolve(node.operand(0)).shape
    size = shape[axis] if shape is not None and isinstance(shape[axis], int) else None
    if first is None or last is None or (size is None and (0 <= first < FAR - 1 or last >= 0)):
        e.refuse(node, "a backward slice has bounds that are not constant, or counts from the start of an unknown size")
    low, high = -FAR if size is None else -size, FAR - 1 if size is None else size - 1
    begin = 0 if first >= high else -first - 1 if first < 0 else high - first
    end = FAR if last < low else -last - 1 if last < 0 else high - last
    return begin, end


def _slice_by_tensors(node: Node, e: Emitter) -> Code:
    """Bounds that are computed: one slice object per axis."""
    axes = e.static(node.input(3)) if node.input(3) is not None else None
    steps = e.static(node.input(4)) if node.input(4) is not None else (1,)
    e.need(steps is not None and all(s > 0 for s in steps), node, "its steps are not constant and positive")
    bounds = [e.resolve(node.operand(i)) for i in (1, 2)]
    lengths = {v.shape[0] for v in bounds if v.shape is not None and len(v.shape) == 1 and isinstance(v.shape[0], int)}
    count = len(axes) if axes is not None else next(iter(lengths), None)
    if count is None or steps is None:
        e.refuse(node, "the number of its axes is not known")
    axes = axes or tuple(range(count))
    steps = steps * count if len(steps) == 1 else steps
    rank = e.need_rank(node, node.operand(0)) if any(a < 0 for a in axes) else 0
    parts: dict[int, Code] = {}
    for i, (axis, step) in enumerate(zip(axes, steps, strict=True)):
        low, high = (element_of(e, node.operand(n), i) for n in (1, 2))
        parts[axis % rank if axis < 0 else axis] = _part(low, high, step)
    items: list[Piece] = [parts.get(i, raw(":")) for i in range(max(parts) + 1)]
    return form("{0}[{1}]", e.tensor(node.operand(0)), sequence(items, "", ""))


def element_of(e: Emitter, vector: Value, index: int) -> Code:
    known = e.integers(vector)
    if known is not None:
        item = known[index]
        assert isinstance(item, Code)
        return item
    return form(f"int({{0}}[{index}])", e.tensor(vector))


def gather(node: Node, e: Emitter) -> Code:
    """A constant number selects, constant numbers index, a constant float matrix is an embedding."""
    data, indices, axis = node.operand(0), node.operand(1), node.int("axis")
    table = e.const(data)
    rank = e.rank(data)
    if axis < 0:
        axis %= e.need_rank(node, data)
    number = e.number(indices)
    known = e.known(indices)
    if number is not None and not (e.rank(indices) or 0):
        return _select(e.tensor(data), axis, literal(int(number)), rank)
    if table is not None and axis == 0 and table.rank == 2 and table.dtype.is_float and e.const(indices) is None:
        return _embedding(node, e)
    if known is not None and known.rank == 0:
        return _select(e.tensor(data), axis, known.items[0], rank)
    index = e.tensor(indices)
    if e.dtype(indices) is DType.I32:
        index = method(index, "long")
    return _select(e.tensor(data), axis, index, rank)


def _select(x: Code, axis: int, index: Code, rank: int | None) -> Code:
    if axis and rank is not None and axis == rank - 1 and rank > 2:
        return form("{0}[..., {1}]", x, index)
    colons = ":, " * axis
    return form(f"{{0}}[{colons}{{1}}]", x, index)


def _embedding(node: Node, e: Emitter) -> Code:
    data = e.resolve(node.operand(0))
    table = data.tensor
    index = e.tensor(node.operand(1))
    if e.is_owned(table) or not e.placement.fits({"weight": table}) or not e.placement.keeps_key(data):
        return call("F.embedding", index, e.tensor(data))
    made = call("nn.Embedding", *table.shape, **float_type(table.dtype))
    path = e.placement.module(node, data, "embedding")
    return call(e.module(node, made, {"weight": table}, {"weight": table}, path), index)


def gather_elements(node: Node, e: Emitter) -> Code:
    """Negative indices count from the end, which torch.gather does not know."""
    x, index, axis = e.tensor(node.operand(0)), e.tensor(node.operand(1)), node.int("axis")
    static = e.static(node.operand(1))
    if static is None or min(static, default=0) < 0:
        index = infix("%", index, form(f"{{0}}.shape[{axis}]", x))
    if e.dtype(node.operand(1)) is not DType.I64:
        index = method(index, "long")
    return call("torch.gather", x, axis, index)


def gather_nd(node: Node, e: Emitter) -> Code:
    batch = node.int("batch_dims")
    return call(
        e.helper("gather_nd"), e.tensor(node.operand(0)), e.tensor(node.operand(1)), *([batch] if batch else [])
    )


def scatter_elements(node: Node, e: Emitter) -> Code:
    x, index, updates = (e.tensor(node.operand(i)) for i in range(3))
    axis, reduction = node.int("axis"), node.str("reduction")
    static = e.static(node.operand(1))
    if static is None or min(static, default=0) < 0:
        index = infix("%", index, form(f"{{0}}.shape[{axis}]", x))
    if e.dtype(node.operand(1)) is not DType.I64:
        index = method(index, "long")
    if reduction == "none":
        return call("torch.scatter", x, axis, index, updates)
    names = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
    e.need(reduction in names, node, "its reduction is unknown")
    return call("torch.scatter_reduce", x, axis, index, updates, reduce=names[reduction])


def scatter_nd(node: Node, e: Emitter) -> Code:
    reduction = node.str("reduction")
    e.need(reduction in ("none", "add"), node, f"there is no row for its reduction {reduction!r}")
    more = [reduction] if reduction != "none" else []
    return call(e.helper("scatter_nd"), *[e.tensor(node.operand(i)) for i in range(3)], *more)


def compress(node: Node, e: Emitter) -> Code:
    x, axis = e.tensor(node.operand(0)), node.attr("axis")
    condition = e.tensor(node.operand(1))
    if axis is None:
        return form("{0}[{1}]", method(x, "flatten"), method(condition, "nonzero", as_tuple=True))
    index = form("{0}[0]", method(condition, "nonzero", as_tuple=True))
    assert isinstance(axis, int)
    return method(x, "index_select", axis, index)


def one_hot(node: Node, e: Emitter) -> Code:
    values = e.tensor(node.operand(2))
    depth = e.integer(node.operand(1))
    return call(
        e.helper("one_hot"),
        e.tensor(node.operand(0)),
        depth,
        form("{0}[0]", values),
        form("{0}[1]", values),
        node.int("axis"),
    )


ROWS: dict[str, Row] = {
    "Slice": slice_, "Gather": gather, "GatherElements": gather_elements, "GatherND": gather_nd,
    "ScatterElements": scatter_elements, "ScatterND": scatter_nd, "Compress": compress, "OneHot": one_hot,
}  # fmt: skip
