"""numpy kernels for the operators that constant folding meets most, exact in element type and in the corner cases of
the ONNX specification. What a kernel does not cover it leaves to the reference implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Union

import numpy as np

from ...ir import Array, DType, Node, Tensor, TensorType

Operands = Sequence[Union[Array, None]]
Results = Union[Array, "list[Array]", None]
Kernel = Callable[[Node, Operands], Results]
"""Gives the first output, or all outputs, or None where the reference implementation must decide."""


def is_plain(array: Array | None) -> bool:
    """True for element types whose arithmetic numpy has itself: booleans, integers of whole bytes, IEEE floats."""
    return array is not None and array.dtype.kind in "biuf" and array.dtype.isbuiltin == 1


def elementwise(function: Callable[..., Any]) -> Kernel:
    """A numpy function of the operands broadcast against each other; the result has the type that numpy gives."""
    return lambda node, xs: np.asarray(function(*xs)) if all(is_plain(x) for x in xs) else None


def folded(function: Callable[[Any, Any], Any]) -> Kernel:
    """A function of two operands over any number of them."""

    def kernel(node: Node, xs: Operands) -> Results:
        if not xs or not all(is_plain(x) for x in xs):
            return None
        out: Any = xs[0]
        for x in xs[1:]:
            out = function(out, x)
        return np.asarray(out)

    return kernel


def division(node: Node, xs: Operands) -> Results:
    """Integers round towards zero (Div-14)."""
    a, b = xs
    if a is None or b is None or not is_plain(a) or not is_plain(b):
        return None
    if a.dtype.kind == "f":
        return np.asarray(a / b)
    if not np.all(b):
        return None
    quotient = a // b
    return np.asarray(quotient + ((a % b != 0) & ((a < 0) != (b < 0))).astype(quotient.dtype))


def modulo(node: Node, xs: Operands) -> Results:
    """The remainder has the divisor's sign, or with `fmod` the dividend's (Mod-13)."""
    a, b = xs
    if a is None or b is None or not is_plain(a) or not is_plain(b) or (b.dtype.kind != "f" and not np.all(b)):
        return None
    if node.int("fmod", 0):
        return np.asarray(np.fmod(a, b))
    return np.asarray(np.mod(a, b)) if a.dtype.kind != "f" else None


def power(node: Node, xs: Operands) -> Results:
    """The result has the base's type (Pow-15); integers to negative powers are left alone."""
    a, b = xs
    if a is None or b is None or not is_plain(a) or not is_plain(b):
        return None
    if a.dtype.kind == "f":
        return np.asarray(np.power(a, b.astype(a.dtype)))
    return np.asarray(np.power(a, b.astype(a.dtype))) if b.dtype.kind in "iu" and np.all(b >= 0) else None


def where(node: Node, xs: Operands) -> Results:
    """Elements of the second operand where the first is true, else of the third (Where-16)."""
    condition, a, b = xs
    return None if condition is None or a is None or b is None else np.where(condition, a, b)


def clip(node: Node, xs: Operands) -> Results:
    """min(max(x, low), high) with either bound missing (Clip-13)."""
    x, low, high = (*xs, None, None)[:3]
    if x is None or not is_plain(x):
        return None
    out: Any = x if low is None else np.maximum(x, low)
    return np.asarray(out if high is None else np.minimum(out, high))


def cast(node: Node, xs: Operands) -> Results:
    """To the type in `to`, or to that of the second operand. Floats that an integer type cannot hold are left alone:
    what becomes of them depends on the machine (Cast-25).
    """
    x = xs[0]
    to = xs[1].dtype if node.op == "CastLike" and xs[1] is not None else DType.of_code(node.int("to")).numpy
    if x is None or not is_plain(x) or to.kind not in "biuf" or to.isbuiltin != 1:
        return None
    if x.dtype.kind == "f" and to.kind in "iu":
        limits = np.iinfo(to.type)  # pyright: ignore[reportCallIssue, reportArgumentType]
        whole = np.trunc(x)
        if not np.all(np.isfinite(x)) or np.any(whole < limits.min) or np.any(whole >= float(limits.max) + 1):
            return None
    with np.errstate(all="ignore"):
        return x.astype(to)


# Movement: any element type


def reshape(node: Node, xs: Operands) -> Results:
    """0 copies a size unless `allowzero`, -1 takes what is left (Reshape-25)."""
    x, target = xs
    if x is None or target is None:
        return None
    keep = node.int("allowzero", 0)
    return x.reshape([x.shape[i] if d == 0 and not keep else d for i, d in enumerate(target.tolist())])


def flatten(node: Node, xs: Operands) -> Results:
    (x,) = xs
    if x is None:
        return None
    axis = node.int("axis", 1)
    axis += x.ndim if axis < 0 else 0
    return x.reshape(int(np.prod(x.shape[:axis], dtype=np.int64)), int(np.prod(x.shape[axis:], dtype=np.int64)))


def squeeze(node: Node, xs: Operands) -> Results:
    x, axes = (*xs, None)[:2]
    return None if x is None else np.squeeze(x, None if axes is None else tuple(axes.reshape(-1).tolist()))


def unsqueeze(node: Node, xs: Operands) -> Results:
    x, axes = xs
    if x is None or axes is None:
        return None
    rank = x.ndim + axes.size
    new = {axis % rank for axis in axes.reshape(-1).tolist()}
    sizes = iter(x.shape)
    return x.reshape([1 if i in new else next(sizes) for i in range(rank)]) if len(new) == axes.size else None


def transpose(node: Node, xs: Operands) -> Results:
    (x,) = xs
    return None if x is None else x.transpose(node.ints("perm", tuple(reversed(range(x.ndim)))))


def expand(node: Node, xs: Operands) -> Results:
    """Broadcasting in both directions (Expand-13)."""
    x, shape = xs
    if x is None or shape is None:
        return None
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape.tolist())))


def tile(node: Node, xs: Operands) -> Results:
    x, repeats = xs
    return None if x is None or repeats is None else np.tile(x, repeats.tolist())


def concat(node: Node, xs: Operands) -> Results:
    parts = [x for x in xs if x is not None]
    return np.concatenate(parts, node.int("axis")) if len({p.dtype for p in parts}) == 1 else None


def split(node: Node, xs: Operands) -> Results:
    """Pieces of the given sizes, or equal ones of which the last may be smaller (Split-18)."""
    x, sizes = (*xs, None)[:2]
    if x is None:
        return None
    axis, count = node.int("axis", 0), len(node.outputs)
    if sizes is not None:
        ends = np.cumsum(sizes)
    else:
        piece = -(-x.shape[axis] // node.int("num_outputs", count))
        ends = np.arange(1, count + 1) * piece
    return list(np.split(x, ends[:-1], axis))


def slice_(node: Node, xs: Operands) -> Results:
    """Starts and ends count from the end where negative and are clamped (Slice-13)."""
    x, starts, ends, axes, steps = (*xs, None, None)[:5]
    if x is None or starts is None or ends is None:
        return None
    named = range(len(starts)) if axes is None else axes.tolist()
    window = [slice(None)] * x.ndim
    for i, axis in enumerate(named):
        size, step = x.shape[axis], 1 if steps is None else int(steps[i])
        start, end = (int(v) + size if v < 0 else int(v) for v in (starts[i], ends[i]))
        if step > 0:
            window[axis] = slice(min(max(start, 0), size), min(max(end, 0), size), step)
        else:
            first, last = min(max(start, 0), size - 1), min(max(end, -1), size - 1)
            window[axis] = slice(first, None if last < 0 else last, step)
    return x[tuple(window)]


def in_range(indices: Array, size: int) -> bool:
    """True where every index, counted from the end if negative, is one of an axis of `size` entries."""
    return not indices.size or bool(indices.min() >= -size and indices.max() < size)


def gather(node: Node, xs: Operands) -> Results:
    """Negative indices count from the end; those out of range are left to fail (Gather-13)."""
    x, indices = xs
    axis = node.int("axis", 0)
    if x is None or indices is None:
        return None
    return np.take(x, indices, axis) if in_range(indices, x.shape[axis]) else None


def gather_nd(node: Node, xs: Operands) -> Results:
    """The last axis of the indices counts along the axes behind `batch_dims` common ones (GatherND-13)."""
    x, indices = xs
    batch = node.int("batch_dims", 0)
    if x is None or indices is None or not indices.ndim or x.shape[:batch] != indices.shape[:batch]:
        return None
    places = np.moveaxis(indices.reshape(-1, *indices.shape[batch:]), -1, 0)
    if not all(in_range(p, size) for p, size in zip(places, x.shape[batch:], strict=False)):
        return None
    rows = np.arange(places.shape[1]).reshape(-1, *(1,) * (places.ndim - 2))
    taken = x.reshape(-1, *x.shape[batch:])[(rows, *places)]
    return taken.reshape(*x.shape[:batch], *taken.shape[1:])


def gather_elements(node: Node, xs: Operands) -> Results:
    x, indices = xs
    axis = node.int("axis", 0)
    if x is None or indices is None:
        return None
    size = x.shape[axis]
    if not in_range(indices, size) or not same_axes(x, indices, axis):
        return None
    return np.take_along_axis(x, np.where(indices < 0, indices + size, indices), axis)


def same_axes(x: Array, indices: Array, axis: int) -> bool:
    """True where numpy and ONNX agree on what is picked: all axes but one have the same size."""
    axis %= x.ndim
    return x.ndim == indices.ndim and all(
        a == b for i, (a, b) in enumerate(zip(x.shape, indices.shape, strict=True)) if i != axis
    )


def scatter_nd(node: Node, xs: Operands) -> Results:
    """Slices of the data replaced by updates, in order (ScatterND-18)."""
    x, indices, updates = xs
    if x is None or indices is None or updates is None or node.str("reduction", "none") != "none":
        return None
    depth = indices.shape[-1]
    if indices.size and any(
        np.any((k < -n) | (k >= n)) for k, n in zip(np.moveaxis(indices, -1, 0), x.shape, strict=False)
    ):
        return None
    out = x.copy()
    out[tuple(indices[..., i] for i in range(depth))] = updates
    return out


# Making numbers


def constant_of_shape(node: Node, xs: Operands) -> Results:
    shape, value = xs[0], node.attr("value")
    if shape is None:
        return None
    filler = value.numpy().reshape(()) if isinstance(value, Tensor) else np.zeros((), np.float32)
    return np.broadcast_to(filler, tuple(shape.tolist()))


def range_(node: Node, xs: Operands) -> Results:
    """start + i * delta (Range-11)."""
    start, limit, delta = xs
    if start is None or limit is None or delta is None or not is_plain(start) or delta.item() == 0:
        return None
    if start.dtype.kind == "f":
        count = max(int(np.ceil((float(limit) - float(start)) / float(delta))), 0)
    else:
        count = max(-((int(start) - int(limit)) // int(delta)), 0)
    return (start + np.arange(count).astype(start.dtype) * delta).astype(start.dtype)


def shape(node: Node, xs: Operands) -> Results:
    (x,) = xs
    end = node.attr("end")
    return (
        None if x is None else np.array(x.shape[node.int("start", 0) : end if isinstance(end, int) else None], np.int64)
    )


def size(node: Node, xs: Operands) -> Results:
    return None if xs[0] is None else np.array(xs[0].size, np.int64)


def non_zero(node: Node, xs: Operands) -> Results:
    (x,) = xs
    return None if x is None or not is_plain(x) or not x.ndim else np.array(np.nonzero(x), np.int64).reshape(x.ndim, -1)


def trilu(node: Node, xs: Operands) -> Results:
    x, k = (*xs, None)[:2]
    if x is None or not is_plain(x):
        return None
    return (np.triu if node.int("upper", 1) else np.tril)(x, 0 if k is None else int(k.item()))


def reduction(function: Callable[..., Any]) -> Kernel:
    """A reduction over the axes in the second operand, all of them without it (ReduceSum-13 and its kin)."""

    def kernel(node: Node, xs: Operands) -> Results:
        x, axes = (*xs, None)[:2]
        if x is None or not is_plain(x) or not x.size:
            return None
        named = None if axes is None or not axes.size else tuple(axes.tolist())
        if named is None and node.int("noop_with_empty_axes", 0):
            return x
        return np.asarray(function(x, axis=named, keepdims=bool(node.int("keepdims", 1)))).astype(x.dtype)

    return kernel


def matmul(node: Node, xs: Operands) -> Results:
    a, b = xs
    return (
        np.asarray(np.matmul(a, b)) if a is not None and b is not None and is_plain(a) and a.dtype.kind == "f" else None
    )


def batch_normalization(node: Node, xs: Operands) -> Results:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias along axis 1; in training mode with the statistics of x
    itself (BatchNormalization-15). New running statistics are left to the reference.
    """
    if any(v.users for v in node.outputs[1:]) or not all(is_plain(x) for x in xs):
        return None
    x, *rest = (np.asarray(operand) for operand in xs)
    if x.ndim < 2:
        return None
    scale, bias, mean, variance = (v.reshape(-1, *(1,) * (x.ndim - 2)) for v in rest)
    if node.int("training_mode", 0):
        axes = (0, *range(2, x.ndim))
        mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    factor = scale / np.sqrt(variance + node.float("epsilon"))
    return ((x - mean) * factor + bias).astype(x.dtype)


KERNELS: dict[str, Kernel] = {
    "Abs": elementwise(np.abs),
    "Add": elementwise(np.add),
    "And": elementwise(np.logical_and),
    "BatchNormalization": batch_normalization,
    "BitwiseAnd": elementwise(np.bitwise_and),
    "BitwiseNot": elementwise(np.invert),
    "BitwiseOr": elementwise(np.bitwise_or),
    "BitwiseXor": elementwise(np.bitwise_xor),
    "Cast": cast,
    "CastLike": cast,
    "Ceil": elementwise(np.ceil),
    "Clip": clip,
    "Concat": concat,
    "ConstantOfShape": constant_of_shape,
    "Cos": elementwise(np.cos),
    "Div": division,
    "Equal": elementwise(np.equal),
    "Exp": elementwise(np.exp),
    "Expand": expand,
    "Flatten": flatten,
    "Floor": elementwise(np.floor),
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "Greater": elementwise(np.greater),
    "GreaterOrEqual": elementwise(np.greater_equal),
    "IsNaN": elementwise(np.isnan),
    "Less": elementwise(np.less),
    "LessOrEqual": elementwise(np.less_equal),
    "Log": elementwise(np.log),
    "MatMul": matmul,
    "Max": folded(np.maximum),
    "Min": folded(np.minimum),
    "Mod": modulo,
    "Mul": elementwise(np.multiply),
    "Neg": elementwise(np.negative),
    "NonZero": non_zero,
    "Not": elementwise(np.logical_not),
    "Or": elementwise(np.logical_or),
    "Pow": power,
    "Range": range_,
    "ReduceMax": reduction(np.max),
    "ReduceMean": reduction(np.mean),
    "ReduceMin": reduction(np.min),
    "ReduceProd": reduction(np.prod),
    "ReduceSum": reduction(np.sum),
    "Reshape": reshape,
    "Round": elementwise(np.rint),
    "ScatterND": scatter_nd,
    "Shape": shape,
    "Sign": elementwise(np.sign),
    "Sin": elementwise(np.sin),
    "Size": size,
    "Slice": slice_,
    "Split": split,
    "Sqrt": elementwise(np.sqrt),
    "Squeeze": squeeze,
    "Sub": elementwise(np.subtract),
    "Sum": folded(np.add),
    "Tanh": elementwise(np.tanh),
    "Tile": tile,
    "Transpose": transpose,
    "Trilu": trilu,
    "Unsqueeze": unsqueeze,
    "Where": where,
    "Xor": elementwise(np.logical_xor),
}


def run_kernel(node: Node) -> list[Array] | None:
    """All outputs of a node whose operands are constants or missing, or None where no kernel covers it.

    The results have the element types and, where these are known, the shapes of the node's outputs.
    """
    if node.op not in KERNELS:
        return None
    found = run_kernel_of(KERNELS, node, [None if v is None else v.tensor.numpy() for v in node.inputs])
    return found if found is not None and len(found) == len(node.outputs) else None


def run_kernel_of(kernels: Mapping[str, Kernel], node: Node, operands: Operands) -> list[Array] | None:
    """As `run_kernel`, for these operands and by one of `kernels`; outputs that nobody uses may be missing at the
    end.
    """
    kernel = kernels.get(node.op) if node.domain in ("", "ai.onnx") else None
    if kernel is None:
        return None
    try:
        with np.errstate(all="ignore"):
            found = kernel(node, operands)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    results = found if isinstance(found, list) else [found]
    if any(v.users for v in node.outputs[len(results) :]):
        return None
    out: list[Array] = []
    for array, value in zip(results, node.outputs, strict=False):
        if array is None or not fits(array, value.type):
            return None
        out.append(array)
    return out


def fits(array: Array, type_: object) -> bool:
    """True where an array is what a tensor type promises."""
    if not isinstance(type_, TensorType) or array.dtype != type_.dtype.numpy:
        return False
    wanted = type_.shape
    return wanted is None or (
        len(wanted) == array.ndim
        and all(not isinstance(d, int) or d == n for d, n in zip(wanted, array.shape, strict=True))
    )
