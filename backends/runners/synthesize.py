"""Made-up inputs of the right types, for comparing two computations; they say nothing about accuracy on real data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...ir import Array, DType, Graph, TensorType, UsageError, Value
from ...ir.dims import Dim, Size, Symbol, free_symbols, parse, substitute, symbols_of
from ...ir.tensors import integer_range
from .base import Feeds

BATCH, SPATIAL, LENGTH, SIGNAL = 2, 64, 16, 512
"""What symbolic sizes become: a first one; the sizes of an image, all but the first two in a tensor of rank 4 and up;
any other; and that of a float matrix, which may be a sampled signal that networks cut into windows."""

COUNTING = 4
"""Integers of which nothing is known are below this: valid as indices, counts and flags nearly everywhere."""

PASSED_ON = frozenset(
    ["Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Flatten", "Expand", "Slice", "Concat"]
)
"""Operators whose output holds the numbers of their first operand: a bound on the one is a bound on the other."""


@dataclass(frozen=True)
class Filling:
    """How one input is filled: `span` is the range [low, high) of integers, None for a standard normal distribution."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    span: tuple[int, int] | None
    why: str

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype!r}[{','.join(map(str, self.shape))}], {self.why}"

    def draw(self, generator: np.random.Generator) -> Array:
        if self.dtype is DType.STRING:
            words = np.array([f"text {i}" for i in range(COUNTING)], object)
            return words[generator.integers(0, COUNTING, self.shape)]
        if self.span is not None:
            return generator.integers(*self.span, self.shape, np.int64).astype(self.dtype.numpy)
        array = generator.standard_normal(self.shape)
        if self.dtype in (DType.C64, DType.C128):
            array = array + 1j * generator.standard_normal(self.shape)
        return array.astype(self.dtype.numpy)


def synthesize(graph: Graph, count: int = 1, seed: int = 0, sizes: Mapping[str, int] | None = None) -> list[Feeds]:
    """`count` seeded feeds for a graph; `plan` says how they are filled.

    Raises UsageError for an input that is no tensor or has an unknown rank, and for sizes that do not exist or do not
    fit.
    """
    fillings = plan(graph, sizes)
    generator = np.random.default_rng(seed)
    return [{f.name: f.draw(generator) for f in fillings} for _ in range(count)]


def plan(graph: Graph, sizes: Mapping[str, int] | None = None) -> list[Filling]:
    """How each input is filled; inputs with a default keep it and are left out. Print the rows to say what was made up.

    `sizes` gives sizes by symbol. The others are small and equal wherever the symbol is. Floats are standard normal,
    booleans random, masks ones; integers are below the size of the tables that they index, as far as this can be seen,
    else small. Raises as `synthesize`.
    """
    wanted = [v for v in graph.inputs if v not in graph.defaults]
    shapes = _Sizes(wanted, sizes or {})
    return [_filling(value, shapes) for value in wanted]


def _filling(value: Value, sizes: _Sizes) -> Filling:
    if not isinstance(value.type, TensorType) or value.type.shape is None:
        raise UsageError(
            "no input can be made up for the model",
            where=f"input {value.name!r}",
            why=f"its type is {value.type!r}",
            do="give sample inputs",
        )
    dtype, longest = value.type.dtype, _longest(value, value.type)
    shape = tuple(sizes.of(size, BATCH if axis == 0 else longest) for axis, size in enumerate(value.type.shape))
    span, why = _span(value, dtype)
    return Filling(value.name, dtype, shape, span, why)


def _longest(value: Value, type_: TensorType) -> int:
    """What symbolic sizes behind the first one become."""
    shape = type_.shape or ()
    if len(shape) >= 4 and not any(isinstance(size, int) for size in shape[2:]):
        return SPATIAL
    return SIGNAL if len(shape) == 2 and type_.dtype.is_float and not _is_mask(value) else LENGTH


def _is_mask(value: Value) -> bool:
    return "mask" in value.name.lower()


def _span(value: Value, dtype: DType) -> tuple[tuple[int, int] | None, str]:
    if dtype is DType.STRING:
        return None, "a few words"
    if _is_mask(value):
        return (1, 2), "ones, for it is called a mask"
    if dtype is DType.BOOL:
        return (0, 2), "random"
    if not dtype.is_integer:
        return None, "standard normal"
    low, high = integer_range(dtype)
    rows = _indexed(value, set())
    if rows is not None:
        return (0, min(rows, high + 1)), f"0 to {rows - 1}, for it indexes {rows} entries"
    if dtype in (DType.U8, DType.I8):
        return (low, high + 1), "random bytes"
    return (0, min(COUNTING, high + 1)), "small numbers"


def _indexed(value: Value, seen: set[Value]) -> int | None:
    """The number of entries that a value's numbers index; the smallest where there are several uses."""
    if value in seen:
        return None
    seen.add(value)
    found: list[int] = []
    for user in value.users:
        for index, operand in enumerate(user.inputs):
            if operand is not value or user.domain:
                continue
            own = len(user.inputs) - user.captures
            if index >= own:
                inner = (
                    _indexed(r.inputs[len(r.inputs) - user.captures + index - own], seen) for r in user.regions.values()
                )
                found += [n for n in inner if n is not None]
            elif index == 0 and user.op in PASSED_ON:
                deeper = _indexed(user.output, seen)
                found += [deeper] if deeper is not None else []
            elif index == 1 and user.op in ("Gather", "GatherElements"):
                shape = user.operand(0).shape
                size = shape[user.int("axis", 0)] if shape else None
                found += [size] if isinstance(size, int) and size > 0 else []
    return min(found, default=None)


class _Sizes:
    """Numbers for symbols: those given, else small ones that are the same wherever the symbol is."""

    def __init__(self, inputs: list[Value], given: Mapping[str, int]) -> None:
        self.known: dict[Symbol, int] = {}
        dims = [d for v in inputs for d in v.shape or () if isinstance(d, Dim)]
        self.symbols = symbols_of(d for d in dims)
        unknown = sorted(set(given) - set(self.symbols))
        if unknown:
            named = [n for n in self.symbols if not n.startswith("?")]
            raise UsageError(
                f"no input has a size called {', '.join(unknown)}",
                why=f"the sizes of the inputs are called {', '.join(named) or 'nothing: none has a name'}",
            )
        for dim in dims:
            for symbol in free_symbols(dim):
                if symbol.name in given:
                    self.known[symbol] = self.checked(symbol, given[symbol.name])

    def checked(self, symbol: Symbol, size: int) -> int:
        if size < symbol.lower or (symbol.upper is not None and size > symbol.upper):
            limit = "" if symbol.upper is None else f" to {symbol.upper}"
            raise UsageError(f"size {symbol.name} cannot be {size}", why=f"it goes from {symbol.lower}{limit}")
        return size

    def of(self, size: Size, default: int) -> int:
        if isinstance(size, int):
            return size
        for symbol in sorted(free_symbols(size), key=lambda s: s.name):
            if symbol not in self.known:
                self.known[symbol] = self.derived(symbol, default)
        number = substitute(size, dict(self.known))
        assert isinstance(number, int)
        return max(0, number)

    def derived(self, symbol: Symbol, default: int) -> int:
        """The value of a name that is arithmetic over others ("past + new"), else the default within its range."""
        other = self.arithmetic(symbol.name)
        if other is not None:
            return other
        upper = default if symbol.upper is None else min(default, symbol.upper)
        return max(symbol.lower, upper)

    def arithmetic(self, name: str) -> int | None:
        if name in self.symbols and not any(c in name for c in "+-*/"):
            return None
        try:
            size = parse(name, self.of_name)
        except (ValueError, KeyError):
            return None
        return size if isinstance(size, int) and size >= 0 else None

    def of_name(self, name: str) -> int:
        """The number of another symbol; raises KeyError for one that the inputs do not have."""
        symbol = self.symbols[name]
        if symbol not in self.known:
            self.known[symbol] = self.derived(symbol, LENGTH)
        return self.known[symbol]
