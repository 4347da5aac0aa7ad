"""Weight arithmetic as expressions: a few array functions over tensors, evaluated block by block when they are written.

An expression holds a function's name, its operands and plain attributes, never a closure, so it can be hashed, printed,
pickled to a worker and evaluated for some rows alone. Floating-point arithmetic inside one expression is done in double
precision and rounded once, at the root: folding a BatchNormalization is then as accurate as float32 allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Union

import numpy as np

from ..types import DType
from .base import BLOCK_BYTES, Array, Tensor, raw_bytes
from .stored import Dense

Parameter = Union[int, float, str, tuple[int, ...], None]
Parameters = Mapping[str, Parameter]
CACHE_BYTES = 1 << 16
PART = 1 << 16
"""Elements of a large result that are computed at a time: what is in double precision stays in a core's cache."""
ROUNDED = frozenset(["cast", "quantize"])
"""Functions whose result is of its element type at once: to cast is to round."""

MOVEMENT = frozenset(["reshape", "broadcast", "transpose", "slice", "take", "concat"])
"""Functions that only place elements elsewhere."""


@dataclass(frozen=True)
class Function:
    """A row of the table: how shape and dtype follow from the operands', how arrays are computed, and how rows are.

    `leading` says which part of an operand the rows [a:b] of the result need: "same" (the same rows, with broadcasting
    of a first axis of 1 or of lower rank) or "all". `rounds_operands` says that operands count as they are stored, not
    in double.
    """

    shape: Callable[[Sequence[tuple[int, ...]], Parameters], tuple[int, ...]]
    compute: Callable[..., Array]
    leading: str = "all"
    dtype: Callable[[Sequence[DType], Parameters], DType] = lambda dtypes, _: dtypes[0]
    rows: Callable[[Lazy, int, int], Array] | None = None
    rounds_operands: bool = False


class Lazy(Tensor):
    """`function(*operands, **parameters)`, not evaluated yet. Small results are kept, large ones are computed at each
    use.
    """

    __slots__ = ("_cache", "exact", "function", "operands", "parameters")

    def __init__(self, function: str, operands: Sequence[Tensor], **parameters: Parameter) -> None:
        row = FUNCTIONS[function]
        super().__init__(
            row.dtype([t.dtype for t in operands], parameters), row.shape([t.shape for t in operands], parameters)
        )
        self.function, self.operands, self.parameters = function, tuple(operands), parameters
        self.exact = function in MOVEMENT and all(not isinstance(t, Lazy) or t.is_rounded for t in operands)
        """Whether nothing is computed, so that nothing has to be computed in double precision."""
        self._cache: Array | None = None

    @property
    def is_rounded(self) -> bool:
        """Whether the value is of its element type before it is rounded."""
        return self.exact or self.function in ROUNDED

    def numpy(self) -> Array:
        if self.count <= PART or not self.is_elementwise:
            return _round(self.wide(), self.dtype).reshape(self.shape)
        array = np.empty(self.shape, self.dtype.numpy)
        step = max(1, PART * self.shape[0] // self.count)
        for start in range(0, self.shape[0], step):
            array[start : start + step] = self.rows(start, min(start + step, self.shape[0]))
        return array

    def rows(self, start: int, stop: int) -> Array:
        return _round(self.wide_rows(start, stop), self.dtype)

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes | memoryview]:
        if self.streams:
            yield from super().blocks(block_bytes)
        else:  # asking for rows would evaluate everything again for each block
            yield raw_bytes(self.numpy(), self.dtype)

    @property
    def streams(self) -> bool:
        """Whether some rows cost no more than their share of the whole; operands that are kept cost nothing."""
        row = FUNCTIONS[self.function]
        if row.rows is None and row.leading != "same":
            return False
        if self.function in ("reshape", "transpose") and not _keeps_first(self):
            # A view of what is not an expression costs nothing.
            return self.function == "transpose" and not isinstance(self.operands[0], Lazy)
        return all(not isinstance(t, Lazy) or 8 * t.count <= CACHE_BYTES or t.streams for t in self.operands)

    @property
    def is_elementwise(self) -> bool:
        """Whether rows need those of stored tensors alone: each part is then read once."""
        return FUNCTIONS[self.function].leading == "same" and all(
            not isinstance(t, Lazy) or 8 * t.count <= CACHE_BYTES or t.is_elementwise for t in self.operands
        )

    def unrounded(self) -> Array:
        return super().unrounded() if self.is_rounded else self.wide().astype(np.float64).reshape(self.shape)

    def wide(self) -> Array:
        """The value in double precision where it is a float that was computed; small ones are kept like this.

        What is kept is not rounded, so a value does not depend on who asked for it first.
        """
        if self._cache is not None:
            return self._cache
        row = FUNCTIONS[self.function]
        operands = [t.numpy() if row.rounds_operands or self.exact else _wide(t) for t in self.operands]
        value = row.compute(*operands, **self.parameters)
        if value.nbytes <= CACHE_BYTES:
            self._cache = value
        return value

    def wide_rows(self, start: int, stop: int) -> Array:
        """Rows [start:stop] of `wide`, reading no more of the operands than they need."""
        if self._cache is not None:
            return self._cache[start:stop]
        row = FUNCTIONS[self.function]
        if row.rows is not None:
            return row.rows(self, start, stop)
        if row.leading != "same":
            return self.wide()[start:stop]
        parts: list[Array] = []
        for t in self.operands:
            whole = t.rank != self.rank or t.shape[0] == 1
            if row.rounds_operands:
                parts.append(t.numpy() if whole else t.rows(start, stop))
            else:
                parts.append(_wide(t) if whole else _wide_rows(t, start, stop))
        return row.compute(*parts, **self.parameters)

    def __repr__(self) -> str:
        inside = [repr(t) for t in self.operands] + [f"{k}={v}" for k, v in self.parameters.items()]
        return f"{self.function}({', '.join(inside)})"


def _widen(array: Array, dtype: DType) -> Array:
    return array.astype(np.float64) if dtype.is_float and dtype is not DType.F64 else array


def _wide(tensor: Tensor) -> Array:
    if isinstance(tensor, Lazy) and not tensor.is_rounded:
        return tensor.wide()
    return _widen(tensor.numpy(), tensor.dtype)


def _wide_rows(tensor: Tensor, start: int, stop: int) -> Array:
    if isinstance(tensor, Lazy) and not tensor.is_rounded:
        return tensor.wide_rows(start, stop)
    return _widen(tensor.rows(start, stop), tensor.dtype)


def _rows_of(lazy: Lazy, place: int, start: int, stop: int) -> Array:
    """Rows of an operand, in double precision where the expression computes."""
    operand = lazy.operands[place]
    return operand.rows(start, stop) if lazy.exact else _wide_rows(operand, start, stop)


def _round(array: Array, dtype: DType) -> Array:
    return array if array.dtype == dtype.numpy else array.astype(dtype.numpy)


def _broadcast(shapes: Sequence[tuple[int, ...]], _: Parameters) -> tuple[int, ...]:
    return np.broadcast_shapes(*shapes)


def _unary(compute: Callable[[Array], Array]) -> Function:
    return Function(lambda shapes, _: shapes[0], compute, "same")


def _binary(compute: Callable[[Array, Array], Array]) -> Function:
    return Function(_broadcast, compute, "same")


def _ints(value: Parameter) -> tuple[int, ...]:
    assert isinstance(value, tuple)
    return value


def _int(value: Parameter) -> int:
    assert isinstance(value, int)
    return value


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind in "iu":  # ONNX integer division truncates towards zero
        return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)
    return a / b


def _slice_shape(shapes: Sequence[tuple[int, ...]], p: Parameters) -> tuple[int, ...]:
    axis = _int(p["axis"])
    return (*shapes[0][:axis], _int(p["stop"]) - _int(p["start"]), *shapes[0][axis + 1 :])


def _slice(x: Array, axis: int, start: int, stop: int) -> Array:
    return x[(slice(None),) * axis + (slice(start, stop),)]


def _slice_rows(lazy: Lazy, start: int, stop: int) -> Array:
    axis, first = _int(lazy.parameters["axis"]), _int(lazy.parameters["start"])
    if axis == 0:
        return _rows_of(lazy, 0, first + start, first + stop)
    return _slice(_rows_of(lazy, 0, start, stop), axis, first, _int(lazy.parameters["stop"]))


def _take_shape(shapes: Sequence[tuple[int, ...]], p: Parameters) -> tuple[int, ...]:
    axis = _int(p["axis"])
    return (*shapes[0][:axis], *shapes[1], *shapes[0][axis + 1 :])


def _take(x: Array, indices: Array, axis: int) -> Array:
    """np.take, which would first copy a transposed array into the order that this has only as a whole."""
    if indices.ndim == 1 and x.flags.f_contiguous and not x.flags.c_contiguous:
        return np.take(x.T, indices, x.ndim - 1 - axis).T
    return np.take(x, indices, axis)


def _take_rows(lazy: Lazy, start: int, stop: int) -> Array:
    axis, indices = _int(lazy.parameters["axis"]), lazy.operands[1].numpy()
    if axis:
        return _take(_rows_of(lazy, 0, start, stop), indices, axis)
    wanted = indices[start:stop]
    if wanted.ndim != 1 or not wanted.size:
        return np.take(lazy.operands[0].numpy() if lazy.exact else _wide(lazy.operands[0]), wanted, 0)
    low = int(wanted.min())
    return np.take(_rows_of(lazy, 0, low, int(wanted.max()) + 1), wanted - low, 0)


def _concat_shape(shapes: Sequence[tuple[int, ...]], p: Parameters) -> tuple[int, ...]:
    axis = _int(p["axis"])
    return (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])


def _concat(*parts: Array, axis: int) -> Array:
    return np.concatenate(parts, axis)


def _concat_rows(lazy: Lazy, start: int, stop: int) -> Array:
    axis = _int(lazy.parameters["axis"])
    if axis:
        return np.concatenate([_rows_of(lazy, i, start, stop) for i in range(len(lazy.operands))], axis)
    parts: list[Array] = []
    first = 0
    for place, t in enumerate(lazy.operands):
        low, high = max(start, first), min(stop, first + t.shape[0])
        if low < high:
            parts.append(_rows_of(lazy, place, low - first, high - first))
        first += t.shape[0]
    return np.concatenate(parts, 0) if parts else lazy.wide()[start:stop]


def _transpose(x: Array, perm: tuple[int, ...]) -> Array:
    return x.transpose(perm)


def _sum(x: Array, axes: tuple[int, ...]) -> Array:
    return np.sum(x, axes, keepdims=True)


def _matmul_shape(shapes: Sequence[tuple[int, ...]], _: Parameters) -> tuple[int, ...]:
    return np.matmul(*[np.broadcast_to(np.zeros(()), s) for s in shapes]).shape


def _transpose_rows(lazy: Lazy, start: int, stop: int) -> Array:
    perm = _ints(lazy.parameters["perm"])
    operand = lazy.operands[0]
    if _keeps_first(lazy):
        return _rows_of(lazy, 0, start, stop).transpose(perm)
    if lazy.exact:
        return operand.numpy().transpose(perm)[start:stop]
    source = operand.wide() if isinstance(operand, Lazy) else operand.numpy()
    return _widen(source.transpose(perm)[start:stop], operand.dtype)


def _reshape_rows(lazy: Lazy, start: int, stop: int) -> Array:
    if _keeps_first(lazy):
        return _rows_of(lazy, 0, start, stop).reshape(stop - start, *lazy.shape[1:])
    return lazy.wide()[start:stop]


def _keeps_first(lazy: Lazy) -> bool:
    """Whether the first axis of a reshape or transpose is its operand's."""
    if lazy.function == "transpose":
        return _ints(lazy.parameters["perm"])[:1] == (0,)
    return lazy.rank > 0 and lazy.operands[0].shape[:1] == lazy.shape[:1]


def _reduce_shape(shapes: Sequence[tuple[int, ...]], p: Parameters) -> tuple[int, ...]:
    return tuple(1 if axis in _ints(p["axes"]) else d for axis, d in enumerate(shapes[0]))


def _quantize(x: Array, scale: Array, zero: Array, axis: int, dtype: str) -> Array:
    kind = DType.of_label(dtype)
    if scale.ndim == 1 and x.ndim:
        shape = tuple(-1 if a == axis else 1 for a in range(x.ndim))
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    low, high = integer_range(kind)
    return np.clip(np.rint(x / scale) + zero.astype(np.float64), low, high).astype(kind.numpy)


def _quantize_rows(lazy: Lazy, start: int, stop: int) -> Array:
    scale, zero = lazy.operands[1].numpy(), lazy.operands[2].numpy()
    if _int(lazy.parameters["axis"]) == 0 and scale.ndim == 1:
        scale, zero = scale[start:stop], zero[start:stop]
    x = _wide_rows(lazy.operands[0], start, stop)
    return _quantize(x, scale.astype(np.float64), zero, _int(lazy.parameters["axis"]), str(lazy.parameters["dtype"]))


def _cast(x: Array, to: str) -> Array:
    return x.astype(DType.of_label(to).numpy)


def integer_range(dtype: DType) -> tuple[int, int]:
    """The smallest and largest number of an integer type."""
    if dtype.is_signed:
        return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1
    return 0, (1 << dtype.bits) - 1


FUNCTIONS: dict[str, Function] = {
    "add": _binary(np.add),
    "sub": _binary(np.subtract),
    "mul": _binary(np.multiply),
    "div": _binary(_divide),
    "pow": _binary(np.power),
    "maximum": _binary(np.maximum),
    "minimum": _binary(np.minimum),
    "neg": _unary(np.negative),
    "abs": _unary(np.abs),
    "sqrt": _unary(np.sqrt),
    "exp": _unary(np.exp),
    "reciprocal": _unary(np.reciprocal),
    "reshape": Function(lambda _, p: _ints(p["shape"]), np.reshape, rows=_reshape_rows),
    "broadcast": Function(lambda _, p: _ints(p["shape"]), np.broadcast_to),
    "transpose": Function(
        lambda shapes, p: tuple(shapes[0][i] for i in _ints(p["perm"])),
        _transpose,
        rows=_transpose_rows,
    ),
    "slice": Function(_slice_shape, _slice, rows=_slice_rows),
    "take": Function(_take_shape, _take, rows=_take_rows),
    "concat": Function(_concat_shape, _concat, rows=_concat_rows),
    "matmul": Function(_matmul_shape, np.matmul),
    "sum": Function(_reduce_shape, _sum),
    "cast": Function(
        lambda shapes, _: shapes[0],
        _cast,
        "same",
        dtype=lambda _, p: DType.of_label(str(p["to"])),
        rounds_operands=True,
    ),
    "quantize": Function(
        lambda shapes, _: shapes[0], _quantize, dtype=lambda _, p: DType.of_label(str(p["dtype"])), rows=_quantize_rows
    ),
}

TensorLike = Union[Tensor, Array, float, int, bool]


def as_tensor(value: TensorLike, like: DType | None = None) -> Tensor:
    """A tensor from an array or a Python number; a number takes the element type `like`."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (bool, int, float)):
        return Dense(np.asarray(value), like)
    return Dense(value)


def take(x: Tensor, indices: Sequence[int] | Array, axis: int) -> Tensor:
    """Entries `indices` of `x` along `axis`; `x` itself where these are all of them in order."""
    index = np.asarray(indices, np.int64)
    if index.ndim == 1 and index.size == x.shape[axis] and bool((index == np.arange(index.size)).all()):
        return x
    return Lazy("take", [x, Dense(index)], axis=axis)


def transpose(x: Tensor, perm: Sequence[int]) -> Tensor:
    """`x` with its axes permuted; two transposes in a row are one."""
    order = tuple(int(p) for p in perm)
    if isinstance(x, Lazy) and x.function == "transpose":
        return transpose(x.operands[0], [_ints(x.parameters["perm"])[p] for p in order])
    return x if order == tuple(range(x.rank)) else Lazy("transpose", [x], perm=order)


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """`x` with another shape of as many elements."""
    wanted = tuple(int(d) for d in shape)
    if isinstance(x, Lazy) and x.function == "reshape":
        return reshape(x.operands[0], wanted)
    return x if wanted == x.shape else Lazy("reshape", [x], shape=wanted)


def cast(x: Tensor, dtype: DType) -> Tensor:
    """`x` with another element type."""
    return x if x.dtype is dtype else Lazy("cast", [x], to=dtype.label)


def binary(function: str, a: TensorLike, b: TensorLike) -> Tensor:
    """A broadcasting arithmetic function of the table; Python numbers take the other operand's element type."""
    if isinstance(a, Tensor):
        return Lazy(function, [a, as_tensor(b, a.dtype)])
    other = as_tensor(b)
    return Lazy(function, [as_tensor(a, other.dtype), other])


def quantize(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int) -> Tensor:
    """QuantizeLinear: saturate(round_half_even(x / scale) + zero_point), `scale` scalar or one per entry of `axis`."""
    return Lazy("quantize", [x, scale, zero_point], axis=axis, dtype=zero_point.dtype.label)


def channelwise(x: Tensor, rank: int, axis: int = 0) -> Tensor:
    """A vector shaped so that it broadcasts along `axis` of a tensor of `rank`."""
    return reshape(x, [x.count if i == axis else 1 for i in range(rank)])


def comes_from(x: Tensor, identities: Set[int]) -> bool:
    """True for a tensor whose `id` is among `identities`, and for an expression over one."""
    return id(x) in identities or (isinstance(x, Lazy) and any(comes_from(t, identities) for t in x.operands))


def evaluated(x: Tensor) -> Dense:
    """The tensor with its numbers in memory."""
    return x if isinstance(x, Dense) else Dense(x.numpy(), x.dtype)
