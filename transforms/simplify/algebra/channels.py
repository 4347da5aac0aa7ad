"""Constants that differ per channel, and where they go when axes are moved, split and merged.

A scale or a summand of a tensor is an array in double precision of the tensor's rank, of size 1 along every axis on
which it does not vary. The functions here say what that array is for the operand of a node, given what it is for the
node's output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....ir import DType, Size, Value
from ....ir.dims import exact_div
from ....ir.tensors import Dense, Lazy, Placeholder, Tensor, binary

Wide = NDArray[np.float64]
"""A scale or summand: double precision, size 1 where it does not vary."""

LARGEST = 1 << 18
"""Elements of a constant beyond which it is not looked at: no layer has so many channels."""

SHARED = 1 << 12
"""Bytes up to which a constant that other nodes use may be changed for one of them, which makes a second one."""


def known(value: Value | None) -> Tensor | None:
    """The tensor of a floating-point constant whose numbers are there; else None."""
    if value is None or value.const is None or isinstance(value.const, Placeholder):
        return None
    return value.const if value.const.dtype.is_float else None


def numbers(value: Value | None) -> Wide | None:
    """A small floating-point constant in double precision; None where it is none, is large or is not finite."""
    tensor = known(value)
    if tensor is None or tensor.count > LARGEST:
        return None
    array = tensor.wide() if isinstance(tensor, Lazy) else tensor.numpy()
    wide = np.asarray(array, np.float64).reshape(tensor.shape)
    return wide if bool(np.isfinite(wide).all()) else None


def aligned(array: Wide, rank: int) -> Wide | None:
    """The array with leading axes of size 1 up to `rank`, of size 1 where it is the same everywhere; None where it has
    more axes than that.
    """
    if array.ndim > rank:
        return None
    out = array.reshape((1,) * (rank - array.ndim) + array.shape)
    for axis in range(rank):
        first = out.take([0], axis) if out.shape[axis] else out
        if out.shape[axis] > 1 and bool((out == first).all()):
            out = first
    return out


def varies(array: Wide) -> list[int]:
    """The axes along which it is not one number."""
    return [axis for axis, size in enumerate(array.shape) if size != 1]


def along(array: Wide, axis: int, channels: int) -> Wide | None:
    """One number per entry of `axis`; None where it varies along another one."""
    axis %= max(1, array.ndim)
    if any(a != axis for a in varies(array)) or array.size not in (1, channels):
        return None
    return np.broadcast_to(array.reshape(-1), (channels,))


def reshaped(array: Wide, shape: Sequence[Size], source: Sequence[Size]) -> Wide | None:
    """The array for the operand of `shape` `source` of a reshaping node whose output has `shape`.

    Axes are matched in groups with equal products, from the left; a group in which the array varies must have known
    sizes.
    """
    spread: list[int] = []
    target: list[int] = []
    for axes, origins in groups(shape, source):
        sizes = [shape[a] for a in axes]
        origin = [source[a] for a in origins]
        if all(array.shape[a] == 1 for a in axes):
            spread += [1] * len(axes)
            target += [1] * len(origins)
        elif len(axes) == len(origins) == 1:
            spread.append(array.shape[axes[0]])
            target.append(array.shape[axes[0]])
        else:
            whole, parts = [s for s in sizes if isinstance(s, int)], [s for s in origin if isinstance(s, int)]
            if len(whole) != len(sizes) or len(parts) != len(origin):
                return None
            spread += whole
            target += parts
    return np.broadcast_to(array, spread).reshape(target)


def groups(a: Sequence[Size], b: Sequence[Size]) -> list[tuple[list[int], list[int]]]:
    """Runs of axes of two shapes of equally many elements whose products agree, as short as they can be."""
    out: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(a) and j < len(b):
        left, right, start = a[i], b[j], (i, j)
        i, j = i + 1, j + 1
        while left != right:
            if j < len(b) and exact_div(left, right) is not None:
                right, j = right * b[j], j + 1
            elif i < len(a) and exact_div(right, left) is not None:
                left, i = left * a[i], i + 1
            else:
                i, j = len(a), len(b)
                break
        out.append((list(range(start[0], i)), list(range(start[1], j))))
    if out:
        out[-1][0].extend(range(i, len(a)))
        out[-1][1].extend(range(j, len(b)))
    else:
        out.append((list(range(len(a))), list(range(len(b)))))
    return out


def embedded(array: Wide, axis: int, length: int, entries: Sequence[int], neutral: float) -> Wide:
    """The array at `entries` of an axis of `length`, `neutral` elsewhere."""
    shape = [*array.shape]
    shape[axis] = length
    out = np.full(shape, neutral)
    index: list[Any] = [slice(None)] * len(shape)
    index[axis] = list(entries)
    out[tuple(index)] = array
    return out


def scaled(tensor: Tensor, factor: Wide | None) -> Tensor:
    """The tensor times an array that broadcasts to it, lazily."""
    return tensor if factor is None else binary("mul", tensor, Dense(factor))


def shifted(tensor: Tensor | None, summand: Wide, dtype: DType) -> Tensor:
    """The tensor (zero where there is none) plus an array, lazily and in double precision."""
    return binary("add", Dense(np.zeros(()), dtype) if tensor is None else tensor, Dense(summand))


def is_shared(value: Value) -> bool:
    """True for a constant too large to have twice and used more than once."""
    return value.tensor.nbytes > SHARED and sum(value.users.values()) > 1
