"""Rows for operators that give elements another shape, join and split tensors, or make them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ...ir import DType, Node, Size, Value
from .code import Code, Piece, call, form, literal, method, raw, sequence
from .emitter import Emitter, Outputs, Result, Row, Unpacked
from .members import TORCH_TYPES
from .sizes import constant_of


def reshape(node: Node, e: Emitter) -> Code | None:
    """Zeros copy a size unless allowzero is set (Reshape-25)."""
    x, wanted = node.operand(0), e.integers(node.operand(1))
    if x.shape is not None and x.shape == node.output.shape and e.resolve(x) not in e.sizes:
        return e.alias(node.output, x)
    if wanted is None:
        if node.int("allowzero") or e.static(node.operand(1)) is not None:
            return method(e.tensor(x), "reshape", e.shape_argument(node.operand(1)))
        template = "{0}.reshape([n or {0}.shape[i] for i, n in enumerate({1}.tolist())])"
        return form(template, e.tensor(x), e.tensor(node.operand(1)))
    sizes = [
        e.size(x, i) if isinstance(d, Code) and constant_of(d) == 0 and not node.int("allowzero") else d
        for i, d in enumerate(wanted)
    ]
    shorter = _flattening(node, e, sizes) or _regrouped(node, e)
    return shorter if shorter is not None else method(e.tensor(x), "reshape", *(sizes or [()]))


def _regrouped(node: Node, e: Emitter) -> Code | None:
    """`x.unflatten(1, (2, 8))` and `x.flatten(1, 2)` where a reshape only parts axes or only joins neighbours."""
    x = node.operand(0)
    before, after = e.resolve(x).shape, node.output.shape
    groups = aligned(before, after) if before and after and e.resolve(x) not in e.sizes else None
    if groups is None:
        return None
    made = e.tensor(x)
    for place, (old, new) in reversed(list(enumerate(groups))):
        axis = sum(len(o) for o, _ in groups[:place])
        if len(old) > 1 and len(new) == 1:
            made = method(made, "flatten", axis, axis + len(old) - 1)
        elif len(new) > 1 and len(old) == 1:
            sizes = [d if isinstance(d, int) else -1 for d in new]
            if sizes.count(-1) > 1 or 1 in sizes:
                return None
            made = method(made, "unflatten", axis, tuple(sizes))
    return made


def aligned(before: Sequence[Size], after: Sequence[Size]) -> list[tuple[list[Size], list[Size]]] | None:
    """Groups of axes with equal products, of one axis on one side at least; None where there are none or more than two
    groups that change."""
    groups: list[tuple[list[Size], list[Size]]] = []
    old, new = list(before), list(after)
    while old and new:
        left, right = [old.pop(0)], [new.pop(0)]
        while (a := product(left)) != (b := product(right)):
            smaller = isinstance(a, int) and isinstance(b, int) and a < b
            side, rest = (left, old) if smaller or (not isinstance(b, int) and isinstance(a, int)) else (right, new)
            if not rest:
                return None
            side.append(rest.pop(0))
        if len(left) > 1 and len(right) > 1:
            return None
        groups.append((left, right))
    changed = sum(len(a) + len(b) > 2 for a, b in groups)
    return groups if not old and not new and 0 < changed <= 2 else None


def product(sizes: Sequence[Size]) -> Size:
    total: Size = 1
    for size in sizes:
        total = size * total
    return total


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
    perm = (
        node.ints("perm")
        if node.attr("perm") is not None
        else tuple(reversed(range(e.need_rank(node, node.operand(0)))))
    )
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
        return method(x, "squeeze", form("tuple({0}.tolist())", e.tensor(node.input(1))))
    return method(x, "squeeze", axes[0] if len(axes) == 1 else axes)


def unsqueeze(node: Node, e: Emitter) -> Code:
    axes, x = e.static(node.operand(1)), e.tensor(node.operand(0))
    if axes is None:
        return call(e.helper("insert_axes"), x, form("{0}.tolist()", e.tensor(node.operand(1))))
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
    if wanted is None:
        target = form("tuple({0})", e.shape_argument(node.operand(1)))
        return method(e.tensor(x), "expand", call("torch.broadcast_shapes", form("{0}.shape", e.tensor(x)), target))
    offset = len(wanted) - len(shape) if shape is not None else -1
    if offset < 0 or shape is None:
        return method(
            e.tensor(x), "expand", call("torch.broadcast_shapes", form("{0}.shape", e.tensor(x)), tuple(wanted))
        )
    sizes = [-1 if i >= offset and isinstance(d, Code) and constant_of(d) == 1 else d for i, d in enumerate(wanted)]
    if all(i < offset or s == -1 or shape[i - offset] == 1 or s == e.size(x, i - offset) for i, s in enumerate(sizes)):
        return method(e.tensor(x), "expand", *(sizes or [()]))
    return method(e.tensor(x), "expand", call("torch.broadcast_shapes", form("{0}.shape", e.tensor(x)), tuple(wanted)))


def concat(node: Node, e: Emitter) -> Code:
    rolls = list(rolls_of(node.output))
    if rolls:
        shifts, axes = [s for _, s, _ in rolls][::-1], [a for _, _, a in rolls][::-1]
        several = len(rolls) > 1
        x = e.tensor(rolls[-1][0])
        return call("torch.roll", x, tuple(shifts) if several else shifts[0], tuple(axes) if several else axes[0])
    return call("torch.cat", sequence([e.tensor(v) for v in node.inputs], "(", ")"), dim=node.int("axis"))


def rolls_of(value: Value) -> Iterator[tuple[Value, int, int]]:
    """The rolls that a Concat of two parts in the other order is, and those before it: operand, shift and axis."""
    node = value.node
    if node is None or node.op != "Concat" or node.domain or len(node.inputs) != 2:
        return
    second, first = node.operand(0), node.operand(1)
    parts, axis = first.node, node.int("axis")
    if parts is None or parts is not second.node or parts.op != "Split" or len(parts.outputs) != 2:
        return
    rank = value.rank or 0
    if (first.index, second.index) != (0, 1) or not rank or parts.int("axis") % rank != axis % rank:
        return
    lengths = [v.shape[axis] if v.shape is not None else None for v in (first, second)]
    known = [(n, sign) for n, sign in zip(lengths, (-1, 1), strict=True) if isinstance(n, int) and n > 0]
    if known:
        shift = min(n * sign for n, sign in known) if len(known) == 1 else min((n * s for n, s in known), key=abs)
        yield parts.operand(0), shift, axis
        yield from rolls_of(parts.operand(0)) if parts.operand(0).only_user is parts else ()


def split(node: Node, e: Emitter) -> Result:
    x, axis = e.tensor(node.operand(0)), node.int("axis")
    options: dict[str, Piece] = {"dim": axis} if axis else {}
    if node.input(1) is not None:
        parts = e.integers(node.input(1))
        sizes: Piece = sequence(parts) if parts is not None else form("{0}.tolist()", e.tensor(node.input(1)))
        numbers = {constant_of(p) if isinstance(p, Code) else None for p in parts or ()}
        if len(numbers) == 1 and not numbers & {None, 0} and parts is not None:
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


def shape_of(node: Node, e: Emitter) -> Code:
    """Shape of a tensor whose rank is not known."""
    e.need(node.int("start") == 0 and node.attr("end") is None, node, "a part of a shape of unknown rank")
    return call("torch.tensor", form("{0}.shape", e.tensor(node.operand(0))), **e.on_device())


ROWS: dict[str, Row] = {
    "Reshape": reshape, "Flatten": flatten, "Transpose": transpose, "Squeeze": squeeze, "Unsqueeze": unsqueeze,
    "Expand": expand, "Concat": concat, "Split": split, "Tile": tile, "Range": range_,
    "ConstantOfShape": constant_of_shape, "EyeLike": eye_like, "Trilu": trilu, "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth, "Shape": shape_of,
}  # fmt: skip
