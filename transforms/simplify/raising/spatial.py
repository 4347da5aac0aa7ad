"""Operators on images that are written out by Reshape and Transpose: pixels moved to channels and back, enlarging."""

from __future__ import annotations

import numpy as np

from ....ir import Builder, DType, Node, TensorType, Value
from ....ir.rewrite import P, Result, Rule, decline, rule
from .parts import integers

x = P.var("x")
MOVED = frozenset([DType.F16, DType.F32, DType.F64, DType.U8])
"""Element types in which runtimes move pixels to channels and back."""

DEPTH_TO_SPACE: dict[tuple[int, ...], tuple[str, int, tuple[int, int], tuple[int, int]]] = {
    (0, 1, 4, 2, 5, 3): ("CRD", 1, (2, 3), (4, 5)),
    (0, 3, 4, 1, 5, 2): ("DCR", 3, (1, 2), (4, 5)),
}
"""By the order of the six axes: the mode, and which of them before it are channels, block and space (DepthToSpace-13).
"""
SPACE_TO_DEPTH = (0, 3, 5, 1, 2, 4)


@rule(P.Reshape(P.Transpose(P.Reshape(x, P.var("split")).named("parts")).named("order"), P.var("joined")).named("root"))
def raise_depth_and_space(op: Builder, x: Value, parts: Node, order: Node, root: Node) -> Result:
    """Channels split into blocks of pixels are DepthToSpace, pixels joined into channels SpaceToDepth."""
    shape, six, out = x.shape, parts.output.shape, root.output.shape
    if shape is None or six is None or out is None:
        return decline("its shapes are not known")
    perm = order.ints("perm", ())
    if len(shape) != 4 or len(six) != 6 or len(out) != 4:
        return decline("it does not split two axes of an image")
    if not isinstance(x.type, TensorType) or x.type.dtype not in MOVED:
        return decline("runtimes do not have it in its element type")
    if perm == SPACE_TO_DEPTH:
        block = six[3]
        if not isinstance(block, int) or six[5] != block or six[0] != shape[0] or six[1] != shape[1]:
            return decline("it does not split the image into square blocks")
        if (six[2] * block, six[4] * block) != tuple(shape[2:]) or tuple(out[2:]) != (six[2], six[4]):
            return decline("it does not join each block")
        if out[0] != shape[0]:
            return decline("it does not join each block")
        return op.SpaceToDepth(x, blocksize=block)
    row = DEPTH_TO_SPACE.get(perm)
    if row is None:
        return decline("it is another order of the axes")
    mode, channels, (first, second), (height, width) = row
    block = six[first]
    if not isinstance(block, int) or block < 2 or six[second] != block or six[0] != shape[0]:
        return decline("it does not split the channels into square blocks")
    if (six[height], six[width]) != tuple(shape[2:]):
        return decline("it does not keep the pixels")
    if tuple(out) != (shape[0], six[channels], shape[2] * block, shape[3] * block):
        return decline("it does not join each block with its pixel")
    return op.DepthToSpace(x, blocksize=block, mode=mode)


@rule(P.DepthToSpace(P.Gather(x, P.const("order"), axis=1), mode="DCR").named("root"))
def order_channels_by_mode(op: Builder, x: Value, order: Value, root: Node) -> Result:
    """DepthToSpace of channels in the order of its other mode has that mode."""
    block, places = root.int("blocksize"), integers(order)
    channels = None if x.shape is None else x.shape[1]
    if places is None or not isinstance(channels, int) or channels % block**2 or order.rank != 1:
        return decline("its channels are not known")
    if places != np.arange(channels).reshape(-1, block**2).T.reshape(-1).tolist():
        return decline("it is another order of the channels")
    return op.DepthToSpace(x, blocksize=block, mode="CRD")


repeated = P.Expand(
    P.Unsqueeze(x, P.var("axes")).named("apart") | P.Reshape(x, P.var("split")).named("apart"), P.var("to")
)
tiled = P.Tile(
    P.Unsqueeze(x, P.var("axes")).named("apart") | P.Reshape(x, P.var("split")).named("apart"), P.var("times")
)


@rule(P.Reshape(repeated.named("copies") | tiled.named("copies"), P.var("joined")).named("root"))
def raise_enlarging(op: Builder, x: Value, apart: Node, copies: Node, root: Node) -> Result:
    """Every pixel repeated along the axes of space is Resize by the nearest one."""
    shape, thin, thick, out = x.shape, apart.output.shape, copies.output.shape, root.output.shape
    if shape is None or thin is None or thick is None or out is None:
        return decline("its shapes are not known")
    space = len(shape) - 2
    if space < 2 or len(thin) != 2 + 2 * space or len(thick) != len(thin) or x.type.dtype is not DType.F32:  # pyright: ignore
        return decline("it does not repeat along every axis of the space of an image in single precision")
    interleaved = [*shape[:2], *(size for axis in shape[2:] for size in (axis, 1))]
    factors = [thick[3 + 2 * axis] for axis in range(space)]
    if list(thin) != interleaved or any(not isinstance(f, int) or f < 1 for f in factors):
        return decline("it does not repeat along the axes of space alone")
    if list(thick) != [*shape[:2], *(size for a, f in zip(shape[2:], factors, strict=True) for size in (a, f))]:
        return decline("it does not repeat along the axes of space alone")
    if list(out) != [*shape[:2], *(a * f for a, f in zip(shape[2:], factors, strict=True))]:
        return decline("it does not join copies with their pixel")
    scales = op.operand(np.array([1, 1, *factors], np.float32))
    return op.Resize(x, None, scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")


RULES: tuple[Rule, ...] = (raise_depth_and_space, order_channels_by_mode, raise_enlarging)
