"""Rows for operators that move elements: reshaping, slicing, joining, gathering, padding, resizing."""

from __future__ import annotations

import math

from ...ir import DType, Node, Value
from .code import Code, Piece, call, form, infix, literal, method, raw, sequence
from .emitter import Emitter, Outputs, Result, Row, Unpacked
from .members import TORCH_TYPES
from .sizes import constant_of

FAR = 1 << 31


def reshape(node: Node, e: Emitter) -> Code:
    """Zeros copy a size unless allowzero is set (Reshape-25)."""
    x, wanted = node.operand(0), e.integers(node.operand(1))
    if wanted is None:
        shape = e.static(node.operand(1))
        e.need(bool(node.int("allowzero")) or shape is not None or _has_no_zero(node), node, "its shape may hold zeros that copy sizes")
        return method(e.tensor(x), "reshape", e.shape_argument(node.operand(1)))
    sizes = [
        e.size(x, i) if isinstance(d, Code) and constant_of(d) == 0 and not node.int("allowzero") else d for i, d in enumerate(wanted)
    ]
    flat = _flattening(node, e, sizes)
    return flat if flat is not None else method(e.tensor(x), "reshape", *(sizes or [()]))


def _has_no_zero(node: Node) -> bool:
    """A computed shape is taken to hold sizes, not copy marks, when the result's type has no size of zero."""
    shape = node.output.shape
    return shape is not None and all(d != 0 for d in shape)


def _flattening(node: Node, e: Emitter, sizes: list[Piece]) -> Code | None:
    """`x.flatten(1)` for a reshape to [N, -1] or [N, product of the rest]."""
    shape = e.resolve(node.operand(0)).shape
    if shape is None or len(sizes) != 2 or len(shape) < 3 or e.resolve(node.operand(0)) in e.sizes:
        return None
    rest = math.prod(d for d in shape[1:] if isinstance(d, int)) if all(isinstance(d, int) for d in shape[1:]) else None
    first, second = (constant_of(s) if isinstance(s, Code) else None for s in sizes)
    keeps_first = sizes[0] == e.size(node.operand(0), 0)
    if (second == -1 and keeps_first) or (rest is not None and second == rest and (keeps_first or first == -1)):
        return method(e.tensor(node.operand(0)), "flatten", 1)
    return None


def flatten(node: Node, e: Emitter) -> Code:
    x, axis = node.operand(0), node.int("axis")
    rank = e.rank(x)
    axis = axis + rank if axis < 0 and rank is not None else axis
    if axis == 1 and rank is not None and rank >= 2:
        return method(e.tensor(x), "flatten", 1)
    if axis == 0:
        return method(e.tensor(x), "reshape", 1, -1)
    rank = e.need_rank(node, x)
    if axis == rank:
        return method(e.tensor(x), "reshape", -1, 1)
    flat = method(e.tensor(x), "flatten", axis) if axis < rank - 1 else e.tensor(x)
    return method(flat, "flatten", 0, axis - 1) if axis > 1 else flat


def transpose(node: Node, e: Emitter) -> Code:
    x = e.tensor(node.operand(0))
    perm = node.ints("perm") if node.attr("perm") is not None else tuple(reversed(range(e.need_rank(node, node.operand(0)))))
    moved = [i for i, p in enumerate(perm) if i != p]
    if len(moved) == 2:
        rank = len(perm)
        a, b = (m - rank if rank - m <= 2 and min(moved) >= rank - 2 else m for m in moved)
        return method(x, "transpose", a, b)
    return method(x, "permute", *perm)


def squeeze(node: Node, e: Emitter) -> Code:
    x = e.tensor(node.operand(0))
    if node.input(1) is None:
        return method(x, "squeeze")
    axes = e.static(node.input(1))
    if axes is None:
        e.refuse(node, "its axes are not constant")
    return method(x, "squeeze", axes[0] if len(axes) == 1 else axes)


def unsqueeze(node: Node, e: Emitter) -> Code:
    axes = e.static(node.operand(1))
    if axes is None:
        e.refuse(node, "its axes are not constant")
    x = e.tensor(node.operand(0))
    if len(axes) == 1:
        return method(x, "unsqueeze", axes[0])
    if all(a >= 0 for a in axes):
        for axis in sorted(axes):
            x = method(x, "unsqueeze", axis)
        return x
    return call(e.helper("insert_axes"), x, sequence(list(axes)))


def expand(node: Node, e: Emitter) -> Code:
    """Two-way broadcasting: sizes of 1 in the shape keep the operand's (Expand-13)."""
    x, wanted = node.operand(0), e.integers(node.operand(1))
    shape = e.resolve(x).shape
    if wanted is not None and shape is not None and len(wanted) >= len(shape) and e.resolve(x) not in e.sizes:
        offset = len(wanted) - len(shape)
        sizes = [
            -1 if i >= offset and isinstance(d, Code) and constant_of(d) == 1 else d for i, d in enumerate(wanted)
        ]
        plain = all(
            i < offset or s == -1 or shape[i - offset] == 1 or _same_size(e, x, i - offset, s) for i, s in enumerate(sizes)
        )
        if plain:
            return method(e.tensor(x), "expand", *(sizes or [()]))
    target = call("torch.broadcast_shapes", form("{0}.shape", e.tensor(x)), form("tuple({0})", e.shape_argument(node.operand(1))))
    return method(e.tensor(x), "expand", target)


def _same_size(e: Emitter, x: Value, axis: int, size: Piece) -> bool:
    shape = e.resolve(x).shape
    return shape is not None and isinstance(size, Code) and isinstance(shape[axis], int) and constant_of(size) == shape[axis]


def concat(node: Node, e: Emitter) -> Code:
    return call("torch.cat", sequence([e.tensor(v) for v in node.inputs], "(", ")"), dim=node.int("axis"))


def split(node: Node, e: Emitter) -> Result:
    x, axis = e.tensor(node.operand(0)), node.int("axis")
    options: dict[str, Piece] = {"dim": axis} if axis else {}
    if node.input(1) is not None:
        parts = e.integers(node.input(1))
        sizes: Piece = sequence(parts) if parts is not None else form("{0}.tolist()", e.tensor(node.input(1)))
        numbers = {constant_of(p) if isinstance(p, Code) else None for p in parts or ()}
        if len(numbers) == 1 and None not in numbers and parts is not None:
            sizes = parts[0]
        value = method(x, "split", sizes, **options)
    else:
        shape = e.resolve(node.operand(0)).shape
        length = shape[axis] if shape is not None else None
        count = len(node.outputs)
        if isinstance(length, int):
            value = method(x, "split", -(-length // count), **options)
        else:
            value = method(x, "chunk", count, **options)
    return Unpacked(value) if len(node.outputs) > 1 else Outputs([form("{0}[0]", value)])


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
            made, start, end = _flipped(node, e, made, axis, start, end)
            step = -step
        parts[axis] = _part(start, end, step)
    if set(parts) == {-1}:
        return form("{0}[..., {1}]", made, parts[-1])
    if rank is not None and len(parts) == 1 and rank - 1 in parts and rank > 2:
        return form("{0}[..., {1}]", made, parts[rank - 1])
    items: list[Piece] = [parts.get(i, raw(":")) for i in range(max(parts) + 1)] if parts else [raw("...")]
    return form("{0}[{1}]", made, sequence(items, "", ""))


def _part(start: Piece, end: Piece, step: int) -> Code:
    """`start:end:step` without what Python assumes anyway."""
    first, last = (constant_of(p) if isinstance(p, Code) else None for p in (start, end))
    from_ = raw("") if first == 0 else start
    until = raw("") if last is not None and last >= FAR - 1 else end
    return form("{0}:{1}", from_, until) if step == 1 else form(f"{{0}}:{{1}}:{step}", from_, until)


def _flipped(node: Node, e: Emitter, x: Code, axis: int, start: Piece, end: Piece) -> tuple[Code, Piece, Piece]:
    """A backward range as a forward one over the flipped axis. Index i becomes size - 1 - i."""
    first, last = (constant_of(p) if isinstance(p, Code) else None for p in (start, end))
    e.need(first is not None and last is not None, node, "a backward slice has bounds that are not constant")
    assert first is not None and last is not None
    shape = e.resolve(node.operand(0)).shape
    size = shape[axis] if shape is not None else None
    if first == -1 or first >= FAR - 1 or (isinstance(size, int) and first >= size - 1):
        begin = 0
    else:
        e.need(first < 0 or isinstance(size, int), node, "a backward slice starts inside an axis of unknown size")
        begin = -first - 1 if first < 0 else int(size) - 1 - first  # pyright: ignore[reportArgumentType]
    if last <= -FAR + 1 or (isinstance(size, int) and last < -size):
        until = FAR
    else:
        e.need(last < 0 or isinstance(size, int), node, "a backward slice ends inside an axis of unknown size")
        until = -last - 1 if last < 0 else int(size) - 1 - last  # pyright: ignore[reportArgumentType]
    return method(x, "flip", axis), literal(begin), literal(until)


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
        low, high = (_element(e, node.operand(n), i) for n in (1, 2))
        parts[axis % rank if axis < 0 else axis] = _part(low, high, step)
    items: list[Piece] = [parts.get(i, raw(":")) for i in range(max(parts) + 1)]
    return form("{0}[{1}]", e.tensor(node.operand(0)), sequence(items, "", ""))


def _element(e: Emitter, vector: Value, index: int) -> Code:
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
    if e.is_owned(table) or not e.placement.keeps_key(data):
        return call("F.embedding", index, e.tensor(data))
    made = call("nn.Embedding", *table.shape, **float_type(table.dtype))
    path = e.placement.module(node, data, "embedding")
    return call(e.module(node, made, {"weight": table}, {"weight": table}, path), index)


def float_type(dtype: DType) -> dict[str, Piece]:
    """The dtype option of a module's constructor."""
    return {} if dtype is DType.F32 else {"dtype": raw(f"torch.{TORCH_TYPES[dtype]}")}


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
    return call(e.helper("gather_nd"), e.tensor(node.operand(0)), e.tensor(node.operand(1)), *([batch] if batch else []))


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


def pad(node: Node, e: Emitter) -> Code:
    """F.pad where the padded axes are the last ones, otherwise by index."""
    x, mode = node.operand(0), node.str("mode")
    pads = e.static(node.operand(1))
    value = e.number(node.input(2)) if node.input(2) is not None else 0.0
    axes = e.static(node.input(3)) if node.input(3) is not None else None
    e.need(node.input(3) is None or axes is not None, node, "its axes are not constant")
    if pads is None or value is None:
        e.refuse(node, "its pads or its value are not constant")
    rank = e.need_rank(node, x)
    full = [[0, 0] for _ in range(rank)]
    for i, axis in enumerate(axes if axes is not None else range(rank)):
        full[axis % rank] = [pads[i], pads[i + len(pads) // 2]]
    first = next((i for i, p in enumerate(full) if p != [0, 0]), rank)
    if first == rank:
        return form("{0}", e.tensor(x))
    if mode == "constant":
        flat = [n for pair in reversed(full[first:]) for n in pair]
        return call("F.pad", e.tensor(x), tuple(flat), **({"value": value} if value else {}))
    names = {"reflect": "reflect", "edge": "replicate"}
    padded = rank - 2
    if mode in names and rank in (3, 4, 5) and first >= 2 and all(n >= 0 for p in full for n in p):
        flat = [n for pair in reversed(full[rank - padded :]) for n in pair]
        return call("F.pad", e.tensor(x), tuple(flat), mode=names[mode])
    return call(e.helper("pad_axes"), e.tensor(x), sequence([n for p in full for n in p]), mode)


def tile(node: Node, e: Emitter) -> Code:
    repeats = e.integers(node.operand(1))
    if repeats is not None:
        return method(e.tensor(node.operand(0)), "repeat", *repeats)
    return method(e.tensor(node.operand(0)), "repeat", e.shape_argument(node.operand(1)))


def range_(node: Node, e: Emitter) -> Code:
    known = [e.known(v) for v in node.inputs]
    numbers = [e.number(v) for v in node.inputs]
    items: list[Piece] = [
        k.items[0] if k is not None else literal(n) if n is not None else method(e.tensor(v), "item")
        for k, n, v in zip(known, numbers, node.inputs, strict=True)
    ]
    if numbers[2] == 1:
        items = items[1:2] if numbers[0] == 0 else items[:2]
    dtype = e.dtype(node.output) or e.dtype(node.operand(0))
    options: dict[str, Piece] = {} if dtype is DType.I64 else {"dtype": e.torch_type(node.operand(0))}
    return call("torch.arange", *items, **options, **e.on_device())


def constant_of_shape(node: Node, e: Emitter) -> Code:
    value = node.attr("value")
    number: int | float | bool = 0.0
    dtype = DType.F32
    if value is not None and hasattr(value, "numpy"):
        number, dtype = value.numpy().reshape(-1)[0].item(), value.dtype  # pyright: ignore
    e.need(dtype in TORCH_TYPES, node, f"PyTorch has no element type {dtype.label}")
    options: dict[str, Piece] = {} if dtype is DType.F32 else {"dtype": raw(f"torch.{TORCH_TYPES[dtype]}")}
    shape = e.shape_argument(node.operand(0))
    if number in (0, 1) and dtype is not DType.BOOL:
        return call("torch.ones" if number else "torch.zeros", shape, **options, **e.on_device())
    return call("torch.full", shape, number, **options, **e.on_device())


def eye_like(node: Node, e: Emitter) -> Code:
    x, k = node.operand(0), node.int("k")
    code = node.attr("dtype")
    dtype = DType.of_code(code) if isinstance(code, int) else e.dtype(x)
    if dtype is None or dtype not in TORCH_TYPES:
        e.refuse(node, "the element type of its result is not known")
    ones = call("torch.ones", form("{0}.shape", e.tensor(x)), dtype=raw(f"torch.{TORCH_TYPES[dtype]}"), **e.on_device())
    return method(method(ones, "triu", k), "tril", k)


def trilu(node: Node, e: Emitter) -> Code:
    k = e.number(node.input(1)) if node.input(1) is not None else 0
    if k is None:
        k = e.integer(node.operand(1))
    return method(e.tensor(node.operand(0)), "triu" if node.int("upper") else "tril", *([k] if k != 0 else []))


def depth_to_space(node: Node, e: Emitter) -> Code:
    x, block = e.tensor(node.operand(0)), node.int("blocksize")
    return call("F.pixel_shuffle" if node.str("mode") == "CRD" else e.helper("depth_to_space"), x, block)


def space_to_depth(node: Node, e: Emitter) -> Code:
    return call(e.helper("space_to_depth"), e.tensor(node.operand(0)), node.int("blocksize"))


def one_hot(node: Node, e: Emitter) -> Code:
    values = e.tensor(node.operand(2))
    depth = e.integer(node.operand(1))
    return call(
        e.helper("one_hot"), e.tensor(node.operand(0)), depth, form("{0}[0]", values), form("{0}[1]", values), node.int("axis")
    )


def compress(node: Node, e: Emitter) -> Code:
    x, axis = e.tensor(node.operand(0)), node.attr("axis")
    condition = e.tensor(node.operand(1))
    if axis is None:
        return form("{0}[{1}]", method(x, "flatten"), method(condition, "nonzero", as_tuple=True))
    index = form("{0}[0]", method(condition, "nonzero", as_tuple=True))
    assert isinstance(axis, int)
    return method(x, "index_select", axis, index)


def resize(node: Node, e: Emitter) -> Code:
    """F.interpolate where it means the same, otherwise axis by axis (Resize-19)."""
    x = node.operand(0)
    mode, transform, rounding = node.str("mode"), node.str("coordinate_transformation_mode"), node.str("nearest_mode")
    e.need(mode in ("nearest", "linear") and not node.int("antialias"), node, f"there is no row for mode {mode!r} or for antialiasing")
    e.need(transform != "tf_crop_and_resize" and node.attr("axes") is None, node, "cropping and given axes are not supported")
    e.need(node.str("keep_aspect_ratio_policy") == "stretch", node, "only stretching is supported")
    rank = e.need_rank(node, x)
    scales = e.const(node.input(2)) if node.input(2) is not None else None
    factors = [float(s) for s in scales.numpy().reshape(-1)] if scales is not None and scales.count else None
    sizes: list[Piece] | None = None
    if node.input(3) is not None:
        sizes = e.integers(node.input(3)) or [_element(e, node.operand(3), i) for i in range(rank)]
    if factors is None and sizes is None:
        e.refuse(node, "its scales are not constant")
    if factors is not None and sizes is None:
        fast = _interpolate_by_scale(e, x, rank, factors, mode, transform, rounding)
        if fast is not None:
            return fast
        sizes = [_scaled(node, e, x, i, f) for i, f in enumerate(factors)]
    assert sizes is not None
    shape = e.resolve(x).shape
    if mode == "linear" and factors is None and transform in ("half_pixel", "pytorch_half_pixel", "align_corners") and _outer_kept(e, x, sizes):
        name = {3: "linear", 4: "bilinear", 5: "trilinear"}.get(rank)
        if name is not None and (transform != "half_pixel" or all(s != "1" for s in (c.render({}) for c in sizes[2:] if isinstance(c, Code) and constant_of(c) is not None))):
            corners: dict[str, Piece] = {"align_corners": True} if transform == "align_corners" else {}
            return call("F.interpolate", e.tensor(x), size=tuple(sizes[2:]), mode=name, **corners)
    made = e.tensor(x)
    for axis, size in enumerate(sizes):
        same_size = isinstance(size, Code) and shape is not None and constant_of(size) is not None and constant_of(size) == shape[axis]
        if (factors is not None and factors[axis] == 1) or same_size:
            continue
        scale = factors[axis] if factors is not None else infix("/", size, e.size(x, axis))
        made = call(e.helper("resize_axis"), made, axis, size, scale, mode, transform, rounding)
    return made


def _outer_kept(e: Emitter, x: Value, sizes: list[Piece]) -> bool:
    """True when the sizes of the batch and channel axes are the operand's own."""
    value = e.resolve(x)
    return all(isinstance(s, Code) and s == e.size(value, i) for i, s in enumerate(sizes[:2]))


def _scaled(node: Node, e: Emitter, x: Value, axis: int, factor: float) -> Code:
    size = e.size(x, axis)
    number = constant_of(size)
    if number is not None:
        return literal(math.floor(number * factor))
    return infix("*", size, int(factor)) if factor == int(factor) else form("int({0})", infix("*", size, factor))


def _interpolate_by_scale(
    e: Emitter, x: Value, rank: int, factors: list[float], mode: str, transform: str, rounding: str
) -> Code | None:
    whole = all(f == int(f) and f >= 1 for f in factors)
    if rank not in (3, 4, 5) or factors[:2] != [1.0, 1.0] or not whole:
        return None
    inner = [int(f) for f in factors[2:]]
    scale: Piece = inner[0] if len(set(inner)) == 1 else tuple(inner)
    # By half-pixel centres a whole factor f gives the source floor(i / f) too: no centre lies halfway between two pixels.
    floors = (transform, rounding) == ("asymmetric", "floor") or (transform == "half_pixel" and rounding.startswith("round_prefer"))
    if mode == "nearest" and floors:
        return call("F.interpolate", e.tensor(x), scale_factor=scale, mode="nearest")
    if mode == "linear" and transform in ("half_pixel", "pytorch_half_pixel") and all(f > 1 for f in inner):
        name = {3: "linear", 4: "bilinear", 5: "trilinear"}[rank]
        return call("F.interpolate", e.tensor(x), scale_factor=scale, mode=name)
    return None


def grid_sample(node: Node, e: Emitter) -> Code:
    mode = {"linear": "bilinear", "nearest": "nearest", "cubic": "bicubic"}.get(node.str("mode"))
    e.need(mode is not None, node, "its mode is unknown")
    return call(
        "F.grid_sample", e.tensor(node.operand(0)), e.tensor(node.operand(1)), mode=mode,
        padding_mode=node.str("padding_mode"), align_corners=bool(node.int("align_corners")),
    )  # fmt: skip


def shape_of(node: Node, e: Emitter) -> Code:
    """Shape of a tensor whose rank is not known."""
    e.need(node.int("start") == 0 and node.attr("end") is None, node, "a part of a shape of unknown rank")
    return call("torch.tensor", form("{0}.shape", e.tensor(node.operand(0))), **e.on_device())


ROWS: dict[str, Row] = {
    "Reshape": reshape, "Flatten": flatten, "Transpose": transpose, "Squeeze": squeeze, "Unsqueeze": unsqueeze, "Expand": expand,
    "Concat": concat, "Split": split, "Slice": slice_, "Gather": gather, "GatherElements": gather_elements, "GatherND": gather_nd,
    "ScatterElements": scatter_elements, "ScatterND": scatter_nd, "Pad": pad, "Tile": tile, "Range": range_,
    "ConstantOfShape": constant_of_shape, "EyeLike": eye_like, "Trilu": trilu, "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth, "OneHot": one_hot, "Compress": compress, "Resize": resize, "GridSample": grid_sample,
    "Shape": shape_of,
}  # fmt: skip
