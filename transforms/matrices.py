"""Layers as linear maps: Y = W X + b with X in columns.

A convolution's X are its patches, one column of W for each (input channel, position in the kernel); a matrix product's
are its rows. Statistics of X tell what a change of the weight does to the result, and what makes up for it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..ir import Array, Dense, Node, Value

FLAT_OPS = ("Gemm", "MatMul")

Places = NDArray[np.int64]
"""Indices of rows or channels."""


def input_axis(node: Node) -> int | None:
    """The axis of a constant weight along which the input channels lie; None for forms that are no linear map here.

    Transposed convolutions, padding that depends on sizes and stacks of matrices are not covered.
    """
    weight = node.input(1)
    if node.domain or weight is None or weight.const is None or not weight.tensor.dtype.is_float:
        return None
    if node.op == "Conv":
        return 1 if node.str("auto_pad", "NOTSET") == "NOTSET" else None
    if node.op == "Gemm":
        plain = not node.int("transA") and node.float("alpha", 1.0) == 1 and node.float("beta", 1.0) == 1
        return (1 if node.int("transB") else 0) if plain else None
    if node.op == "MatMul" and weight.tensor.rank == 2 and node.operand(0).rank not in (None, 0, 1):
        return 0
    return None


def groups(node: Node) -> int:
    return node.int("group", 1) if node.op == "Conv" else 1


def kernel(node: Node) -> int:
    """Columns of the matrix for each input channel."""
    return math.prod(node.operand(1).tensor.shape[2:])


def matrix(node: Node) -> Array:
    """The weight as [groups, outputs of a group, columns] in double precision."""
    weight = node.operand(1).tensor.numpy().astype(np.float64)
    if node.op in FLAT_OPS and input_axis(node) == 0:
        weight = weight.T
    return weight.reshape(groups(node), weight.shape[0] // groups(node), -1)


def set_matrix(node: Node, array: Array) -> None:
    """Gives the node another weight of the same shape."""
    old = node.operand(1)
    flat = array.reshape(-1, array.shape[-1])
    flat = flat.T if node.op in FLAT_OPS and input_axis(node) == 0 else flat
    made = Dense(np.ascontiguousarray(flat.reshape(old.tensor.shape).astype(old.tensor.dtype.numpy)), old.tensor.dtype)
    node.set_input(1, Value(old.name, made.type, const=made))


def columns(node: Node, x: Array, places: Array | None = None) -> Array:
    """The node's input as [groups, rows, columns]: rows are the positions of the output, or those of `places` alone."""
    if node.op in FLAT_OPS:
        flat = x.reshape(1, -1, x.shape[-1])
        return flat if places is None else flat[:, places]
    space = x.ndim - 2
    size = node.operand(1).tensor.shape[2:]
    pads, strides = node.ints("pads", (0,) * (2 * space)), node.ints("strides", (1,) * space)
    dilations = node.ints("dilations", (1,) * space)
    x = np.pad(x, [(0, 0), (0, 0), *((pads[i], pads[space + i]) for i in range(space))])
    spans = tuple(d * (k - 1) + 1 for d, k in zip(dilations, size, strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(x, spans, axis=tuple(range(2, x.ndim)))
    steps = (*(slice(None, None, s) for s in strides), *(slice(None, None, d) for d in dilations))
    windows = np.moveaxis(windows[(slice(None), slice(None), *steps)], 1, 1 + space)
    shape = windows.shape[: 1 + space]
    if places is None:
        places = np.arange(math.prod(shape))
    rows = windows[np.unravel_index(places, shape)].reshape(len(places), groups(node), -1)
    return np.moveaxis(rows, 1, 0)


def results(node: Node, y: Array, places: Array | None = None) -> Array:
    """An output as [groups, rows, outputs of a group], rows as in `columns`."""
    flat = y.reshape(-1, y.shape[-1]) if node.op in FLAT_OPS else np.moveaxis(y, 1, -1).reshape(-1, y.shape[1])
    flat = flat if places is None else flat[places]
    return np.moveaxis(flat.reshape(len(flat), groups(node), -1), 1, 0)


def row_count(node: Node, y: Array) -> int:
    """Rows that an output has."""
    return y.size // (y.shape[-1] if node.op in FLAT_OPS else y.shape[1])
