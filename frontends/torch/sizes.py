"""Symbolic sizes: torch's sympy expressions as `Dim`s, and `Dim`s as ONNX arithmetic on the shapes of values.

The arithmetic on symbolic integers in an exported graph is not lowered node by node: each symbolic integer carries its
expression, and what a node needs at run time is computed from the expression alone. Every symbol has one source: the
size of an input (or of a result of data-dependent shape) along one axis, or a scalar integer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, Union

import sympy
import torch
from torch.utils._sympy.functions import CleanDiv, FloorDiv, Max, Min, Mod, PythonMod

from ...ir import Dim, Size, Value, symbol
from ...ir.dims import Call, Symbol, at_least, floordiv, free_symbols, maximum, minimum, mod

if TYPE_CHECKING:
    from .lowering import Lowering

UNBOUNDED = 1 << 62
"""Upper bounds from here on mean that there is none."""

_Fold = Callable[[Size, Size], Size]
_CALLS: dict[type[Any], _Fold] = {
    sympy.Add: lambda a, b: a + b,
    sympy.Mul: lambda a, b: a * b,
    FloorDiv: floordiv,
    CleanDiv: floordiv,
    Mod: mod,
    PythonMod: mod,
    Max: maximum,
    Min: minimum,
    sympy.Max: maximum,
    sympy.Min: minimum,
}

Source = Union[tuple[Value, int], Value]
"""Where a symbol's number is at run time: the size of a value along an axis, or a scalar."""


class Sizes:
    """The symbols of one exported program.

    `ranges` gives torch's range constraints by symbol, `names` the names that symbols shall have. torch compiles for
    sizes of at least 2 wherever it was not told otherwise; that assumption is not repeated as a fact here, since
    exported graphs do run with a size of 1.
    """

    def __init__(self, ranges: Mapping[Any, Any], names: Mapping[str, str]) -> None:
        self.ranges, self.names = ranges, names
        self.sources: dict[Symbol, Source] = {}
        self._dims: dict[Any, Size | None] = {}
        self._vectors: dict[Size, Value] = {}

    def of(self, size: Any) -> Size | None:
        """The size that a torch size (int or SymInt) stands for; None when its expression has a form that sizes
        lack."""
        if not isinstance(size, torch.SymInt):
            return int(size)
        raw = size.node._expr
        if raw not in self._dims:
            self._dims[raw] = self._convert(size.node.expr)
        return self._dims[raw]

    def _convert(self, expression: Any) -> Size | None:
        if expression.is_Integer:
            return int(expression)
        if expression.is_Symbol:
            return self._symbol(expression)
        if isinstance(expression, sympy.Pow) and expression.exp.is_Integer and expression.exp > 0:
            base = self._convert(expression.base)
            return None if base is None else reduce(lambda a, b: a * b, [base] * int(expression.exp))
        fold = _CALLS.get(type(expression))
        if fold is None:
            return None
        parts = [self._convert(part) for part in expression.args]
        known = [part for part in parts if part is not None]
        return reduce(fold, known) if len(known) == len(parts) else None

    def _symbol(self, name: Any) -> Size:
        found = self.ranges.get(name)
        lower, upper = (0, None) if found is None else (_bound(found.lower, 0), _bound(found.upper, None))
        return symbol(self.names.get(str(name), str(name)), 1 if lower == 2 else lower or 0, upper)

    def define(self, size: Size, source: Source) -> None:
        """Says where a size can be read at run time; a symbol keeps its first source, and only a bare symbol gets
        one."""
        found = bare(size)
        if found is not None:
            self.sources.setdefault(found, source)

    def is_defined(self, size: Size) -> bool:
        return all(s in self.sources for s in free_symbols(size))

    def vector(self, op: Lowering, size: Size) -> Value:
        """The size as an int64 vector of one element, computed once per graph."""
        found = self._vectors.get(size)
        if found is None:
            found = self._vectors[size] = self._compute(op, size)
        return found

    def _compute(self, op: Lowering, size: Size) -> Value:
        if isinstance(size, int):
            return op.operand([size])  # pyright: ignore[reportReturnType]  # never None for a list
        found = bare(size)
        if found is not None:
            return self._read(op, found)
        return reduce(op.Add, [self._term(op, atoms, factor) for atoms, factor in size.terms])

    def _term(self, op: Lowering, atoms: Sequence[Symbol | Call], factor: int) -> Value:
        parts = [self._call(op, a) if isinstance(a, Call) else self._read(op, a) for a in atoms]
        if factor != 1 or not parts:
            parts.append(self.vector(op, factor))
        return reduce(op.Mul, parts)

    def _read(self, op: Lowering, atom: Symbol) -> Value:
        source = self.sources.get(atom)
        if source is None:
            op.decline(f"the size {atom.name} is not that of any input")
        if isinstance(source, Value):
            return op.Reshape(source, [1])
        value, axis = source
        return op.Shape(value, start=axis, end=axis + 1)

    def _call(self, op: Lowering, call: Call) -> Value:
        first, second = call.args
        a, b = self.vector(op, first), self.vector(op, second)
        match call.function:
            case "max":
                return op.Max(a, b)
            case "min":
                return op.Min(a, b)
            case "mod":
                return op.Mod(a, b)
            case _ if at_least(first, 0):
                return op.Div(a, b)
            case _:  # ONNX division truncates, floor division takes the remainder (of the divisor's sign) away first
                return op.Div(op.Sub(a, op.Mod(a, b)), b)


def bare(size: Size) -> Symbol | None:
    """The symbol, when the size is one symbol and nothing else."""
    if isinstance(size, Dim) and len(size.terms) == 1:
        atoms, factor = size.terms[0]
        if factor == 1 and len(atoms) == 1 and isinstance(atoms[0], Symbol):
            return atoms[0]
    return None


def _bound(number: Any, default: int | None) -> int | None:
    """A bound of a torch value range; infinite ones and those that no size reaches give the default."""
    if not getattr(number, "is_Integer", False) or abs(int(number)) >= UNBOUNDED:
        return default
    return int(number)
