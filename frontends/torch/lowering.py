"""What a lowering row works with: a builder that knows the exported node at hand, its fake result and the program's
symbolic sizes.

A row is a function `row(op, *args, **kwargs)` with the parameters of the ATen operator's schema. Tensors arrive as
Values, symbolic integers as sizes, lists as lists. Arguments that say nothing about numbers (device, layout, memory
format) do not arrive, and neither does `dtype`: the element type of the result is `op.out.dtype`. A row gives a Value,
or as many as the operator has results.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np
import torch

from ...ir import (
    Builder,
    DType,
    Graph,
    Size,
    TensorType,
    UnsupportedError,
    Value,
    constant,
    fresh,
)
from ...ir.builder import AttributeArgument, Operand
from ...ir.dims import is_known, known_product
from .sizes import Sizes

Row = Callable[..., Any]
"""Gives a Value, or a sequence of them with None for results that nothing but training reads."""
Rows = dict[str, Row]

DTYPES: dict[torch.dtype, DType] = {
    torch.float32: DType.F32, torch.float64: DType.F64, torch.float16: DType.F16, torch.bfloat16: DType.BF16,
    torch.int64: DType.I64, torch.int32: DType.I32, torch.int16: DType.I16, torch.int8: DType.I8, torch.uint8: DType.U8,
    torch.uint16: DType.U16, torch.uint32: DType.U32, torch.uint64: DType.U64, torch.bool: DType.BOOL,
    torch.complex64: DType.C64, torch.complex128: DType.C128, torch.float8_e4m3fn: DType.F8E4M3FN,
    torch.float8_e4m3fnuz: DType.F8E4M3FNUZ, torch.float8_e5m2: DType.F8E5M2, torch.float8_e5m2fnuz: DType.F8E5M2FNUZ,
}  # fmt: skip
TORCH_DTYPES = {ours: theirs for theirs, ours in DTYPES.items()}

SMALL = 4096
"""Tensors of up to so many elements are made constant where that is a choice."""

MOST = 2**63 - 1
"""What torch and ONNX both read as "to the end" in a slice."""


class Declined(Exception):
    """A row has no form for the node at hand; `why` says what is in the way."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Refused(Declined):
    """As Declined, where a decomposition would be no help."""


class Lowering(Builder):
    """Builds the ONNX nodes for one exported node after another. `outs` are the types of the node's results, `out` the
    first; `used` are the places of those that something reads, of an operator with several."""

    def __init__(self, graph: Graph, sizes: Sizes) -> None:
        self.kept: set[int] = set()
        super().__init__(graph, keep=self.kept)
        self.symbols = sizes
        self.outs: list[TensorType] = []
        self.used: frozenset[int] = frozenset()
        self._transposed: dict[Value, Value] = {}

    @property
    def out(self) -> TensorType:
        return self.outs[0]

    @property
    def out_shape(self) -> tuple[Size, ...]:
        """The shape of the first result; its rank is always known."""
        shape = self.outs[0].shape
        assert shape is not None
        return shape

    @contextmanager
    def computing(self) -> Generator[None]:
        """Within it, operators on parameters are computed: for what an operator wants in another form."""
        self.keep = frozenset[int]()
        yield
        self.keep = self.kept

    def decline(self, why: str) -> NoReturn:
        """Gives up on the node at hand; its operator is decomposed where torch can do that."""
        raise Declined(why)

    def refuse_training(self) -> NoReturn:
        """Gives up on a node that does what only training does."""
        raise Refused("it works as in training; export the module after module.eval()")

    def type_of(self, fake: Any) -> TensorType:
        """The type of a fake tensor; a size without an expression becomes a fresh one."""
        if fake.dtype not in DTYPES:
            self.decline(f"ONNX has no element type for {fake.dtype}")
        sizes = [self.symbols.of(d) for d in fake.shape]
        return TensorType(DTYPES[fake.dtype], tuple(fresh() if s is None else s for s in sizes))

    def call(self, name: str, *operands: Operand, **attrs: AttributeArgument) -> Value:
        """The operator `name`, which a row takes from a table."""
        return getattr(self, name)(*operands, **attrs)

    def call_many(self, name: str, outputs: int, *operands: Operand, **attrs: Any) -> tuple[Value, ...]:
        """The operator `name` with several results."""
        return getattr(self, name)(*operands, outputs=outputs, **attrs)

    def full(self, shape: Sequence[Size], number: Any, dtype: DType) -> Value:
        """A tensor filled with one number: a constant when it is small, else computed."""
        if is_known(shape) and known_product(shape) <= SMALL:
            return constant(np.full(self.ints(shape), number).astype(dtype.numpy))
        filler = constant(np.asarray([number]).astype(dtype.numpy)).tensor
        return typed(self.ConstantOfShape(self.dims(shape), value=filler), dtype, shape)

    def scalar(self, number: Any, dtype: DType) -> Value:
        """A constant of rank 0."""
        return constant(np.asarray(number).astype(dtype.numpy))

    def number(self, value: Any, dtype: DType) -> Value:
        """A Scalar argument, which may be a Python number or a symbolic size, as a value of rank 0 and element type
        `dtype`."""
        if isinstance(value, Value):
            return self.cast(value, dtype)
        if isinstance(value, (bool, int, float)):
            return self.scalar(value, dtype)
        if isinstance(value, complex):
            self.decline("complex numbers are not covered")
        return self.cast(self.size(value), dtype)

    def tensor(self, value: Any, dtype: DType) -> Value:
        """A Tensor or Scalar argument with element type `dtype`."""
        return self.cast(value, dtype) if isinstance(value, Value) else self.number(value, dtype)

    def cast(self, x: Value, dtype: DType) -> Value:
        """x with element type `dtype`; small constants are converted at once."""
        if dtype_of(x) is dtype:
            return x
        if x.const is not None and x.const.count <= SMALL and x.const.dtype is not DType.STRING:
            return constant(x.const.numpy().astype(dtype.numpy), x.name)
        return typed(self.Cast(x, to=dtype.code), dtype, x.shape)

    def size(self, size: Size) -> Value:
        """A size as an int64 scalar."""
        if isinstance(size, int):
            return self.scalar(size, DType.I64)
        return typed(self.Squeeze(self.symbols.vector(self, size), [0]), DType.I64, ())

    def places(self, count: Size) -> Value:
        """The int64 vector 0, 1, ... count - 1."""
        if isinstance(count, int):
            return constant(np.arange(count))
        return typed(self.Range(*[self.size(n) for n in (0, count, 1)]), DType.I64, [count])

    def dims(self, sizes: Iterable[Size]) -> Value:
        """Sizes as an int64 vector: a constant where all are known, else put together from the shapes of values."""
        sizes = list(sizes)
        if is_known(sizes):
            return constant(np.asarray(sizes, np.int64))
        parts: list[Value] = []
        run: list[int] = []
        for size in (*sizes, None):
            if isinstance(size, int):
                run.append(size)
                continue
            if run:
                parts.append(constant(np.asarray(run, np.int64)))
                run = []
            if size is not None:
                parts.append(self.symbols.vector(self, size))
        return parts[0] if len(parts) == 1 else self.Concat(*parts, axis=0)

    def reshape(self, x: Value, shape: Sequence[Size]) -> Value:
        """x in another shape of as many elements; x itself where it has that shape."""
        if x.shape is not None and tuple(x.shape) == tuple(shape):
            return x
        wanted = self.reshape_operand(x, shape)
        return typed(self.Reshape(x, wanted), dtype_of(x), shape)

    def reshape_operand(self, x: Value, shape: Sequence[Size]) -> Value:
        """The second operand of Reshape: a constant with 0 for kept and -1 for the only other symbolic size, where that
        says it all."""
        if 0 in shape:
            return self.dims(shape)
        source = x.shape or ()
        wanted: list[Size] = [
            0 if not isinstance(d, int) and source[i : i + 1] == (d,) else d for i, d in enumerate(shape)
        ]
        open_axes = [i for i, d in enumerate(wanted) if not isinstance(d, int)]
        if len(open_axes) == 1:
            wanted[open_axes[0]] = -1
        return self.dims(wanted if len(open_axes) <= 1 else shape)

    def expand(self, x: Value, shape: Sequence[Size]) -> Value:
        """x broadcast to `shape`; x itself where it has that shape."""
        source = (1,) * (len(shape) - rank_of(x)) + shape_of(x)
        if source == tuple(shape) and rank_of(x) == len(shape):
            return x
        made = self.Expand(x, self.dims([1 if a == b else b for a, b in zip(source, shape, strict=True)]))
        return typed(made, dtype_of(x), shape)

    def transposed(self, weight: Value) -> Value:
        """A matrix with its axes swapped; all uses of one constant share one transposed constant, which keeps its
        name."""
        if weight not in self._transposed or weight.const is None:
            made = self.Transpose(weight, perm=[1, 0])
            if weight.const is None:
                return made
            self._transposed[weight] = made
        return self._transposed[weight]

    def squeeze(self, x: Value, axes: Sequence[int]) -> Value:
        """x without the axes, which have size 1."""
        shape = [d for i, d in enumerate(shape_of(x)) if i not in axes]
        if x.is_const:
            return self.reshape(x, shape)
        return typed(self.Squeeze(x, list(axes)), dtype_of(x), shape)

    def unsqueeze(self, x: Value, axes: Sequence[int]) -> Value:
        """x with axes of size 1 at these places of the result."""
        rank = rank_of(x) + len(axes)
        old = iter(shape_of(x))
        shape = [1 if i in axes else next(old) for i in range(rank)]
        if x.is_const:
            return self.reshape(x, shape)
        return typed(self.Unsqueeze(x, list(axes)), dtype_of(x), shape)

    def ints(self, values: Any, count: int | None = None) -> list[int]:
        """Numbers that ONNX wants as attributes; one number stands for `count` equal ones. Declines symbolic ones."""
        numbers = list(values) if isinstance(values, (list, tuple)) else [values]
        if not all(isinstance(n, int) for n in numbers):
            self.decline("ONNX takes only a fixed number where this graph has a symbolic size")
        return numbers * count if count is not None and len(numbers) == 1 else numbers


def end_of(dtype: DType, *, largest: bool) -> float:
    """The largest or smallest number of an element type: an infinity where it has one."""
    if not dtype.is_integer:
        return np.inf if largest else -np.inf
    limits = np.iinfo(dtype.numpy.name)
    return int(limits.max if largest else limits.min)


def typed(made: Value, dtype: DType, shape: Sequence[Size] | None) -> Value:
    """Sets the type of an intermediate result that a row goes on to ask about; a folded constant has its own."""
    if made.const is None:
        made.type = TensorType(dtype, None if shape is None else tuple(shape))
    return made


def dtype_of(x: Value) -> DType:
    """The element type of a tensor that has one."""
    if not isinstance(x.type, TensorType):
        raise UnsupportedError("an intermediate tensor has no element type", where=repr(x))
    return x.type.dtype


def shape_of(x: Value) -> tuple[Size, ...]:
    """The shape of a tensor whose rank is known."""
    shape = x.shape
    if shape is None:
        raise UnsupportedError("an intermediate tensor has no rank", where=repr(x))
    return shape


def rank_of(x: Value) -> int:
    return len(shape_of(x))


def broadcast(shapes: Sequence[tuple[Size, ...]]) -> list[Size]:
    """The common shape; sizes are equal or 1, which the export has checked."""
    rank = max(len(shape) for shape in shapes)
    out: list[Size] = [1] * rank
    for shape in shapes:
        for place, size in enumerate(shape, rank - len(shape)):
            if size != 1:
                out[place] = size
    return out


def axis_of(x: Value, dim: int) -> int:
    """A dimension counted from the front; a scalar counts as a vector."""
    return dim % max(1, rank_of(x))
