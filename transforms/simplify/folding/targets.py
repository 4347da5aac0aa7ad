"""Operands that state sizes become constants: known sizes as numbers, symbolic ones by what the operator itself offers
for "as the operand has it" (0 and -1 in a Reshape, 1 in an Expand, the largest integer as a Slice's end).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....ir import Builder, Node, Size
from ....ir.dims import at_least, exact_div
from ....ir.rewrite import Result, decline, rule
from ....ir.types import Shape

LAST = 2**63 - 1
"""The end of a slice that goes to the end of its axis."""


def is_exactly(size: Size | None, number: int) -> bool:
    return isinstance(size, int) and size == number


def reshape_target(source: Shape | None, wanted: Sequence[Size]) -> tuple[int, ...] | None:
    """A constant target that reshapes `source` to `wanted` (-1 there: what is left), or None where there is none.

    One symbolic size becomes -1, so that an empty batch still works and nothing is copied that a preceding reshape
    may move; of several, those that the operand has at the same axis become 0 and at most one -1.
    """
    if any(is_exactly(size, 0) or not at_least(size, -1) for size in wanted):
        return None
    numbers = [size if isinstance(size, int) else None for size in wanted]
    free = [i for i, size in enumerate(numbers) if size is None or size == -1]
    if len(free) > 1:
        for i in free:
            if source is not None and i < len(source) and source[i] is wanted[i]:
                numbers[i] = 0
        free = [i for i in free if numbers[i] != 0]
    if len(free) > 1:
        return None
    return tuple(-1 if size is None else size for size in numbers)


def resolved(node: Node, wanted: Sequence[Size], source: Shape | None) -> tuple[Size, ...]:
    """The sizes that a Reshape's target asks for, with 0 resolved, and -1 where the type says what is left."""
    copies = not node.int("allowzero", 0)
    made = node.output.shape
    out: list[Size] = []
    for i, size in enumerate(wanted):
        if is_exactly(size, 0) and copies and source is not None and i < len(source):
            out.append(source[i])
        elif is_exactly(size, -1) and made is not None and len(made) == len(wanted):
            out.append(made[i])
        else:
            out.append(size)
    return tuple(out)


def constant_target(node: Node, wanted: Sequence[Size]) -> tuple[int, ...] | None:
    """A constant target, without `allowzero`, for a Reshape to sizes that are known, or None where there is none."""
    source = node.operand(0).shape
    return reshape_target(source, resolved(node, wanted, source)) or reshape_target(source, wanted)


@rule("Reshape")
def constant_reshape_target(op: Builder, node: Node) -> Result:
    """A Reshape to sizes that are known, symbolically too, has a constant target."""
    x, target = node.operand(0), node.operand(1)
    if target.is_const:
        return decline("its target is a constant")
    wanted = op.sizes(target)
    if wanted is None:
        return decline("its target depends on more than sizes")
    numbers = constant_target(node, wanted)
    if numbers is None:
        return decline("several sizes are not those of its operand")
    return op.Reshape(x, list(numbers))


@rule("Expand")
def constant_expand_shape(op: Builder, node: Node) -> Result:
    """An Expand that keeps every symbolic size of its operand has a constant shape with 1 there; one that keeps all
    sizes is its operand.
    """
    x, target = node.operand(0), node.operand(1)
    wanted = op.sizes(target)
    if wanted is None or x.shape is None:
        return decline("its shape or its operand's is not known")
    padded = (*(1,) * (len(wanted) - len(x.shape)), *x.shape)
    aligned = (*(1,) * (len(padded) - len(wanted)), *wanted)
    numbers = [expanded(size, to) for size, to in zip(padded, aligned, strict=True)]
    known = [n for n in numbers if n is not None]
    if len(known) != len(numbers):
        return decline("a size is known at run time only")
    if all(n == 1 for n in known):
        added = len(padded) - len(x.shape)
        return op.Unsqueeze(x, list(range(added))) if added else x
    if target.is_const:
        return decline("its shape is a constant")
    return op.Expand(x, known[len(known) - len(wanted) :])


def expanded(size: Size, wanted: Size) -> int | None:
    """What a constant shape has for an axis of `size` that broadcasts against `wanted`; None where it has nothing."""
    if size is wanted or is_exactly(wanted, 1):
        return 1
    if isinstance(wanted, int):
        return 1 if size == wanted else wanted
    return 1 if at_least(size, 2) else None


@rule("Slice")
def constant_slice_bounds(op: Builder, node: Node) -> Result:
    """Symbolic starts and ends of a Slice become constants where they are the axis's size, or so much less than it."""
    x = node.operand(0)
    bounds = [node.operand(1), node.operand(2)]
    if all(v.is_const for v in bounds):
        return decline("its bounds are constants")
    starts, ends = (op.sizes(v) for v in bounds)
    if starts is None or ends is None or x.shape is None:
        return decline("its bounds or its operand's shape are not known")
    axes = op.sizes(node.input(3)) if node.input(3) is not None else tuple(range(len(starts)))
    steps = op.sizes(node.input(4)) if node.input(4) is not None else (1,) * len(starts)
    if axes is None or steps is None or any(not isinstance(step, int) or step < 1 for step in steps):
        return decline("it may run backwards")
    rows = [(x.shape[int(a) % len(x.shape)], s, e) for a, s, e in zip(axes, starts, ends, strict=True)]  # pyright: ignore[reportArgumentType]
    first = [bound(size, start) for size, start, _ in rows]
    last = [bound(size, end) for size, _, end in rows]
    if None in first or None in last:
        return decline("a bound is known at run time only")
    return op.Slice(x, *(np.asarray(v, np.int64) for v in (first, last)), *node.inputs[3:])


def bound(size: Size, position: Size) -> int | None:
    """A constant bound for `position` on an axis of `size`: the number itself, from the end, or the end."""
    if isinstance(position, int):
        return position
    if at_least(position, size):
        return LAST
    behind = size - position
    return -behind if isinstance(behind, int) and at_least(position, 0) else None


@rule("Resize")
def constant_resize_scales(op: Builder, node: Node) -> Result:
    """A Resize to sizes of which some are symbolic states constant scales, where float32 scales give those sizes."""
    x, sizes = node.operand(0), node.input(3)
    if sizes is None or sizes.is_const or node.input(2) is not None:
        return decline("it states no sizes, or constant ones")
    if node.str("keep_aspect_ratio_policy", "stretch") != "stretch":
        return decline("it keeps the aspect ratio")
    if node.str("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return decline("it crops")
    wanted = op.sizes(sizes)
    if wanted is None or x.shape is None:
        return decline("its sizes or its operand's shape are not known")
    axes = [a % len(x.shape) for a in node.ints("axes", range(len(x.shape)))]
    scales = [scale(x.shape[axis], size) for axis, size in zip(axes, wanted, strict=True)]
    if any(s is None for s in scales):
        return decline("a scale is known at run time only")
    return op.Resize(x, node.input(1), np.asarray(scales, np.float32), **node.attrs)


@rule("Resize")
def resize_of_all_axes(op: Builder, node: Node) -> Result:
    """A Resize of some axes has a scale or a size for every axis, which runtimes can move Transposes past: ONNX Runtime
    forgets about `axes` there, and fails.
    """
    x, scales, sizes = node.operand(0), node.input(2), node.input(3)
    if node.attr("axes") is None:
        return decline("it names all axes")
    if node.input(1) is not None or node.str("keep_aspect_ratio_policy", "stretch") != "stretch":
        return decline("it crops or keeps the aspect ratio")
    if x.shape is None:
        return decline("the rank of its operand is not known")
    axes = [a % len(x.shape) for a in node.ints("axes")]
    if scales is not None and scales.const is not None:
        factors: list[float | None] = scales.const.numpy().tolist()
    elif sizes is not None and sizes.const is not None:
        wanted = sizes.const.numpy().tolist()
        factors = [scale(x.shape[axis], size) for axis, size in zip(axes, wanted, strict=True)]
    elif sizes is not None and axes == list(range(2, len(x.shape))):
        attrs = {name: value for name, value in node.attrs.items() if name != "axes"}
        return op.Resize(x, None, None, op.Concat(op.Shape(x, end=2), sizes, axis=0), **attrs)
    else:
        return decline("its scales are not constant")
    if any(f is None for f in factors):
        return decline("a scale is known at run time only")
    full = np.ones(len(x.shape), np.float32)
    full[axes] = factors
    return op.Resize(x, None, full, **{name: value for name, value in node.attrs.items() if name != "axes"})


def scale(size: Size, wanted: Size) -> float | None:
    """The factor from a size to another one, where rounding it to float32 does no harm."""
    if size is wanted or (isinstance(size, int) and size == wanted):
        return 1.0
    if isinstance(size, int) and isinstance(wanted, int) and size > 0:
        factor = np.float32(wanted) / np.float32(size)
        return float(factor) if int(np.floor(np.float32(size) * factor)) == wanted else None
    factor = exact_div(wanted, size)
    return float(factor) if isinstance(factor, int) and factor >= 1 else None


@rule("Split")
def equal_split_sizes(op: Builder, node: Node) -> Result:
    """A Split into pieces of one symbolic size needs no sizes."""
    x, sizes = node.operand(0), node.input(1)
    if sizes is None or sizes.is_const:
        return decline("it states no sizes, or constant ones")
    wanted = op.sizes(sizes)
    if wanted is None or len(wanted) != len(node.outputs) or len(set(wanted)) != 1:
        return decline("its sizes are not known to be equal")
    return list(
        op.Split(x, outputs=len(node.outputs), num_outputs=len(node.outputs), axis=node.int("axis", 0))
        if len(node.outputs) > 1
        else [x]
    )


@rule("Tile")
def constant_tile_repeats(op: Builder, node: Node) -> Result:
    """A Tile along axes of size 1 is an Expand, which consumers that broadcast do without."""
    x, repeats = node.operand(0), node.operand(1)
    wanted = op.sizes(repeats)
    if wanted is None or x.shape is None or len(wanted) != len(x.shape):
        return decline("its repeats or its operand's shape are not known")
    if not all(is_exactly(size, 1) or is_exactly(times, 1) for size, times in zip(x.shape, wanted, strict=True)):
        return decline("it repeats more than single entries")
    return op.Expand(x, repeats)


RULES = (
    constant_reshape_target,
    constant_expand_shape,
    constant_slice_bounds,
    constant_resize_scales,
    resize_of_all_axes,
    equal_split_sizes,
    constant_tile_repeats,
)
