"""Rows for operators that pad and resample: Pad, Resize, GridSample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...ir import Node, Value
from .code import Code, Piece, call, form, infix, literal, sequence
from .emitter import Emitter, Row
from .indexing import element_of
from .sizes import constant_of

MODES = {
    "linear": {3: "linear", 4: "bilinear", 5: "trilinear"},
    "cubic": {4: "bicubic"},
    "nearest": {3: "nearest", 4: "nearest", 5: "nearest"},
}
"""F.interpolate's name for a mode, by rank."""

HALF_PIXELS = ("half_pixel", "pytorch_half_pixel")


@dataclass(frozen=True, slots=True)
class Resampling:
    """What Resize-19 asks for: per axis of the operand the new size, and the factor where it is given."""

    mode: str
    transform: str
    rounding: str
    sizes: list[Code]
    factors: list[float] | None

    def keeps(self, axis: int, e: Emitter, x: Value) -> bool:
        if self.factors is not None:
            return self.factors[axis] == 1
        return self.sizes[axis] == e.size(x, axis)


def pad(node: Node, e: Emitter) -> Code:
    """F.pad where the padded axes are the last ones, otherwise by index."""
    x, mode = node.operand(0), node.str("mode")
    pads = e.static(node.operand(1))
    value = e.number(node.input(2)) if node.input(2) is not None else 0.0
    axes = e.static(node.input(3)) if node.input(3) is not None else None
    if pads is None or value is None or (node.input(3) is not None and axes is None):
        return pad_by_tensors(node, e)
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


def pad_by_tensors(node: Node, e: Emitter) -> Code:
    """Pads or a value that are known when the model runs."""
    x, axes = node.operand(0), None if node.input(3) is None else e.static(node.operand(3))
    pairs = form("{0}.unflatten(0, (2, -1)).t().flatten().tolist()", e.tensor(node.operand(1)))
    value = [] if node.input(2) is None else [form("{0}.item()", e.tensor(node.input(2)))]
    options: dict[str, Piece] = {}
    if axes is not None:
        options["axes"] = tuple(a % e.need_rank(node, x) for a in axes)
    elif node.input(3) is not None:
        options["axes"] = form("{0}.tolist()", e.tensor(node.operand(3)))
    return call(e.helper("pad_axes"), e.tensor(x), pairs, node.str("mode"), *value, **options)


def grid_sample(node: Node, e: Emitter) -> Code:
    mode = {"linear": "bilinear", "nearest": "nearest", "cubic": "bicubic"}.get(node.str("mode"))
    e.need(mode is not None, node, "its mode is unknown")
    return call(
        "F.grid_sample", e.tensor(node.operand(0)), e.tensor(node.operand(1)), mode=mode,
        padding_mode=node.str("padding_mode"), align_corners=bool(node.int("align_corners")),
    )  # fmt: skip


def resize(node: Node, e: Emitter) -> Code:
    """F.interpolate where it means the same, otherwise axis by axis."""
    x = node.operand(0)
    wanted = resampling(node, e, x)
    rank = len(wanted.sizes)
    name = MODES[wanted.mode].get(rank)
    if name is not None and rank > 2 and all(wanted.keeps(axis, e, x) for axis in (0, 1)) and interpolates(wanted):
        target: dict[str, Piece] = {"size": tuple(wanted.sizes[2:])}
        if wanted.factors is not None:
            target = {"scale_factor": one_or_all(wanted.factors[2:])}
        corners: dict[str, Piece] = {"align_corners": True} if wanted.transform == "align_corners" else {}
        return call("F.interpolate", e.tensor(x), **target, mode=name, **corners)
    e.need(wanted.mode != "cubic", node, "cubic interpolation is only supported for whole images")
    made = e.tensor(x)
    for axis, size in enumerate(wanted.sizes):
        if not wanted.keeps(axis, e, x):
            scale = wanted.factors[axis] if wanted.factors is not None else infix("/", size, e.size(x, axis))
            made = call(
                e.helper("resize_axis"), made, axis, size, scale, wanted.mode, wanted.transform, wanted.rounding
            )
    return made


def one_or_all(factors: Sequence[float]) -> Piece:
    """One factor for equal ones; whole numbers as integers."""
    shown: list[Piece] = [int(f) if f == int(f) else f for f in factors]
    return shown[0] if len(set(factors)) == 1 else tuple(shown)


def interpolates(wanted: Resampling) -> bool:
    """True where F.interpolate computes the same positions.

    By half-pixel centres a whole factor f gives the source floor(i / f), as F.interpolate does: no centre lies halfway
    between pixels.
    """
    factors = wanted.factors
    whole = factors is not None and all(f == int(f) and f >= 1 for f in factors)
    if wanted.mode == "nearest":
        floors = (wanted.transform, wanted.rounding) == ("asymmetric", "floor")
        return whole and (floors or (wanted.transform == "half_pixel" and wanted.rounding.startswith("round_prefer")))
    if wanted.transform == "align_corners":
        return factors is None or whole
    if (
        wanted.transform == "pytorch_half_pixel"
        and factors is None
        and any(constant_of(s) in (1, None) for s in wanted.sizes[2:])
    ):
        return False
    return wanted.transform in HALF_PIXELS and (factors is None or whole)


def resampling(node: Node, e: Emitter, x: Value) -> Resampling:
    """The attributes and operands of a Resize, for all axes. Refuses what has no equivalent here."""
    mode, transform = node.str("mode"), node.str("coordinate_transformation_mode")
    e.need(mode in MODES and not node.int("antialias"), node, f"there is no row for mode {mode!r} with antialiasing")
    e.need(transform != "tf_crop_and_resize", node, "it crops")
    e.need(node.str("keep_aspect_ratio_policy") == "stretch", node, "it keeps the aspect ratio")
    plain = not node.int("exclude_outside") and node.float("cubic_coeff_a") == -0.75
    e.need(mode != "cubic" or plain, node, "its cubic coefficients are not the usual ones")
    rank = e.need_rank(node, x)
    axes = [a % rank for a in node.ints("axes", tuple(range(rank)))]
    scales = e.const(node.input(2))
    sizes = [e.size(x, axis) for axis in range(rank)]
    factors: list[float] | None = None
    if scales is not None and scales.count:
        factors = [1.0] * rank
        for axis, factor in zip(axes, scales.numpy().reshape(-1).tolist(), strict=True):
            factors[axis] = float(factor)
        sizes = [scaled(size, factor) for size, factor in zip(sizes, factors, strict=True)]
    elif node.input(3) is not None:
        for index, axis in enumerate(axes):
            sizes[axis] = element_of(e, node.operand(3), index)
    else:
        e.refuse(node, "its scales are not constant")
    return Resampling(mode, transform, node.str("nearest_mode"), sizes, factors)


def scaled(size: Code, factor: float) -> Code:
    """floor(size * factor)."""
    number = constant_of(size)
    if number is not None:
        return literal(math.floor(number * factor))
    return infix("*", size, int(factor)) if factor == int(factor) else form("int({0})", infix("*", size, factor))


ROWS: dict[str, Row] = {"Pad": pad, "Resize": resize, "GridSample": grid_sample}
