"""Symbolic tensor sizes: integer polynomials over named symbols, compared by identity.

A size is a Python int or a `Dim`. A `Dim` is a sum of products of atoms; an atom is a `Symbol` or an opaque call
(`//`, `%`, `max`, `min`) whose arguments are sizes. Equal expressions are one object, so `is` and `==` agree, and an
unknown size is a fresh symbol that equals nothing but itself. Arithmetic gives an int again as soon as no symbol is
left.
"""

from __future__ import annotations

import ast
import itertools
import json
import keyword
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Union

Size = Union[int, "Dim"]


class Symbol:
    """A named size with an inclusive range; `upper` None means unbounded. Names of fresh symbols start with '?'.

    Fresh symbols are ordered by when they were made, so that how a sum is spelled does not depend on how many there
    were before.
    """

    __slots__ = ("lower", "name", "sort_key", "upper")

    def __init__(self, name: str, lower: int, upper: int | None) -> None:
        self.name, self.lower, self.upper = name, lower, upper
        self.sort_key = f"0{_order(self.name)}|{self.lower}|{self.upper}"

    @property
    def is_fresh(self) -> bool:
        return self.name.startswith("?")

    def bounds(self) -> tuple[int, int | None]:
        return self.lower, self.upper


class Call:
    """An opaque integer function of sizes: floordiv, mod, max or min."""

    __slots__ = ("args", "function", "sort_key")

    def __init__(self, function: str, args: tuple[Size, ...]) -> None:
        self.function, self.args = function, args
        self.sort_key = f"1{self.function}({','.join(_key(a) for a in self.args)})"

    def bounds(self) -> tuple[int | None, int | None]:
        """The range over all arguments for which the call has a value: a divisor that is at least 0 is at least 1."""
        (lo_a, hi_a), (lo_b, hi_b) = bounds(self.args[0]), bounds(self.args[1])
        if self.function in ("mod", "floordiv"):
            if lo_b is None or lo_b < 0 or hi_b == 0:
                return None, None
            if self.function == "mod":
                return 0, None if hi_b is None else hi_b - 1
            if lo_a is None or lo_a < 0:
                return None, None
            return (0 if hi_b is None else lo_a // hi_b), (None if hi_a is None else hi_a // max(lo_b, 1))
        lows, highs = [x for x in (lo_a, lo_b) if x is not None], [x for x in (hi_a, hi_b) if x is not None]
        if self.function == "max":
            return (max(lows) if lows else None), (max(highs) if len(highs) == 2 else None)
        return (min(lows) if len(lows) == 2 else None), (min(highs) if highs else None)


Atom = Union[Symbol, Call]
Monomial = tuple[Atom, ...]
_symbols: dict[tuple[str, int, int | None], Symbol] = {}
_calls: dict[tuple[str, tuple[Size, ...]], Call] = {}
_dims: dict[tuple[tuple[Monomial, int], ...], Dim] = {}
_fresh = itertools.count()


def symbol(name: str, lower: int = 0, upper: int | None = None) -> Dim:
    """The size called `name`, known to lie in [lower, upper]."""
    key = (name, lower, upper)
    if key not in _symbols:
        _symbols[key] = Symbol(*key)
    return of_atom(_symbols[key])


def fresh(lower: int = 0, upper: int | None = None) -> Dim:
    """A size about which nothing is known: equal only to itself."""
    return of_atom(Symbol(f"?{next(_fresh)}", lower, upper))


def of_atom(atom: Atom) -> Dim:
    """The size that is one atom."""
    made = _make({(atom,): 1})
    assert isinstance(made, Dim)
    return made


def _make(terms: Mapping[Monomial, int]) -> Size:
    kept = {m: c for m, c in terms.items() if c}
    if not kept:
        return 0
    if len(kept) == 1 and () in kept:
        return kept[()]
    key = tuple(sorted(kept.items(), key=lambda t: (-len(t[0]), [a.sort_key for a in t[0]])))
    found = _dims.get(key)
    if found is None:
        found = _dims[key] = Dim(key)
    return found


def _terms(size: Size) -> dict[Monomial, int]:
    return dict(size.terms) if isinstance(size, Dim) else {(): size}


def _times(a: Size, b: Size) -> Size:
    out: dict[Monomial, int] = {}
    for m, c in _terms(a).items():
        for n, d in _terms(b).items():
            key = tuple(sorted(m + n, key=lambda atom: atom.sort_key))
            out[key] = out.get(key, 0) + c * d
    return _make(out)


def _plus(a: Size, b: Size, sign: int = 1) -> Size:
    out = _terms(a)
    for m, c in _terms(b).items():
        out[m] = out.get(m, 0) + sign * c
    return _make(out)


def _call(function: str, a: Size, b: Size) -> Size:
    key = (function, (a, b))
    if key not in _calls:
        _calls[key] = Call(*key)
    return of_atom(_calls[key])


def _extremum(function: str, a: Size, b: Size) -> Size:
    """A max or min in canonical form: nested calls flattened, operands that another one covers left out, in order."""
    parts = dict.fromkeys((*_operands(function, a), *_operands(function, b)))
    kept = [x for x in parts if not any(y is not x and y != x and _covers(function, y, x) for y in parts)]
    known = [x for x in kept if isinstance(x, int)]
    out, *rest = [*known, *sorted((x for x in kept if isinstance(x, Dim)), key=_key)]
    for part in rest:
        out = _call(function, out, part)
    return out


def _covers(function: str, a: Size, b: Size) -> bool:
    """True where a settles the max or min of the two for every value of the symbols."""
    return at_least(a, b) if function == "max" else at_least(b, a)


def _operands(function: str, size: Size) -> tuple[Size, ...]:
    if isinstance(size, Dim) and len(size.terms) == 1 and size.terms[0][1] == 1 and len(size.terms[0][0]) == 1:
        atom = size.terms[0][0][0]
        if isinstance(atom, Call) and atom.function == function:
            return tuple(x for arg in atom.args for x in _operands(function, arg))
    return (size,)


class Dim:
    """An interned integer polynomial; build it with `symbol`, `fresh` and arithmetic, never directly."""

    __slots__ = ("_text", "has_fresh", "terms")

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]) -> None:
        self.terms = terms
        self.has_fresh = any(_mentions_fresh(atom) for mono, _ in terms for atom in mono)
        """True where a fresh symbol is part of it."""
        self._text: str | None = None

    def __add__(self, other: Size) -> Size:
        return _plus(self, other)

    __radd__ = __add__

    def __sub__(self, other: Size) -> Size:
        return _plus(self, other, -1)

    def __rsub__(self, other: Size) -> Size:
        return _plus(other, self, -1)

    def __mul__(self, other: Size) -> Size:
        return _times(self, other)

    __rmul__ = __mul__

    def __neg__(self) -> Size:
        return _times(self, -1)

    def __floordiv__(self, other: Size) -> Size:
        return floordiv(self, other)

    def __rfloordiv__(self, other: Size) -> Size:
        return floordiv(other, self)

    def __mod__(self, other: Size) -> Size:
        return mod(self, other)

    def __rmod__(self, other: Size) -> Size:
        return mod(other, self)

    def __str__(self) -> str:
        if self._text is None:
            self._text = to_text(self)
        return self._text

    __repr__ = __str__

    def __deepcopy__(self, memo: object) -> Dim:
        return self

    def __copy__(self) -> Dim:
        return self

    def __reduce__(
        self,
    ) -> tuple[Callable[[str, dict[str, tuple[int, int | None]]], Size], tuple[str, dict[str, tuple[int, int | None]]]]:
        ranges = {s.name: (s.lower, s.upper) for s in free_symbols(self)}
        return _rebuild, (str(self), ranges)


def _mentions_fresh(atom: Atom) -> bool:
    if isinstance(atom, Symbol):
        return atom.is_fresh
    return any(isinstance(arg, Dim) and arg.has_fresh for arg in atom.args)


def _rebuild(text: str, ranges: dict[str, tuple[int, int | None]]) -> Size:
    return parse(text, lambda name: symbol(name, *ranges[name]))


def exact_div(a: Size, b: Size) -> Size | None:
    """a / b where b divides a as a polynomial with one-term b, else None."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b if b and a % b == 0 else None
    divisor = list(_terms(b).items())
    if a is b:
        return 1
    if a == 0:
        return 0
    if len(divisor) != 1 or divisor[0][1] == 0:
        return None
    (mono, coefficient) = divisor[0]
    out: dict[Monomial, int] = {}
    for m, c in _terms(a).items():
        rest = list(m)
        for atom in mono:
            if atom not in rest:
                return None
            rest.remove(atom)
        if c % coefficient:
            return None
        out[tuple(rest)] = c // coefficient
    return _make(out)


def floordiv(a: Size, b: Size) -> Size:
    """Floor division; multiples of an integer divisor leave the opaque part. Raises ZeroDivisionError for 0."""
    if b == 0:
        raise ZeroDivisionError(f"{a} // 0")
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    if b == 1:
        return a
    exact = exact_div(a, b)
    if exact is not None:
        return exact
    if isinstance(b, int) and b > 0:
        whole = _make({m: c // b for m, c in _terms(a).items()})
        rest = _make({m: c % b for m, c in _terms(a).items()})
        return whole + (_whole_part(rest, b) if isinstance(rest, Dim) else rest // b)
    return _call("floordiv", a, b)


def _whole_part(a: Dim, b: int) -> Size:
    """a // b, with a division inside a joined to it: (x // c + k) // b is (x + k*c) // (c*b) for positive c and b."""
    inner = next((m[0] for m, _ in a.terms if m), None)
    if isinstance(inner, Call) and inner.function == "floordiv":
        constant = a - of_atom(inner)
        x, c = inner.args
        if isinstance(constant, int) and isinstance(c, int) and c > 0:
            return floordiv(x + constant * c, c * b)
    return _call("floordiv", a, b)


def mod(a: Size, b: Size) -> Size:
    """a modulo b; multiples of an integer divisor vanish. Raises ZeroDivisionError for 0."""
    if b == 0:
        raise ZeroDivisionError(f"{a} % 0")
    if isinstance(a, int) and isinstance(b, int):
        return a % b
    if b == 1 or exact_div(a, b) is not None:
        return 0
    if isinstance(b, int) and b > 0:
        rest = _make({m: c % b for m, c in _terms(a).items()})
        return _call("mod", rest, b) if isinstance(rest, Dim) else rest % b
    return _call("mod", a, b)


def maximum(a: Size, b: Size) -> Size:
    """The larger of two sizes, decided by their ranges where these settle it."""
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    if at_least(a, b):
        return a
    return b if at_least(b, a) else _extremum("max", a, b)


def minimum(a: Size, b: Size) -> Size:
    """The smaller of two sizes, decided by their ranges where these settle it."""
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    if at_least(a, b):
        return b
    return a if at_least(b, a) else _extremum("min", a, b)


def product(sizes: Iterable[Size]) -> Size:
    """The product of sizes; 1 for none."""
    out: Size = 1
    for s in sizes:
        out = out * s
    return out


def bounds(size: Size) -> tuple[int | None, int | None]:
    """Inclusive (lower, upper) of a size from its symbols' ranges; None where unbounded or unknown."""
    if isinstance(size, int):
        return size, size
    low: int | None = 0
    high: int | None = 0
    for mono, c in size.terms:
        lo, hi = _monomial_bounds(mono)
        if c < 0:
            lo, hi = hi, lo
        low = None if low is None or lo is None else low + c * lo
        high = None if high is None or hi is None else high + c * hi
    return low, high


def _monomial_bounds(mono: Monomial) -> tuple[int | None, int | None]:
    low, high = 1, 1
    unbounded = False
    for atom in mono:
        lo, hi = atom.bounds()
        if lo is None or lo < 0:
            return None, None
        low *= lo
        unbounded |= hi is None
        high *= 1 if hi is None else hi
    return low, (None if unbounded else high)


def at_least(a: Size, b: Size) -> bool:
    """True only when a >= b holds for every value of the symbols."""
    low = bounds(a - b)[0]
    return low is not None and low >= 0


def free_symbols(size: Size) -> set[Symbol]:
    """The symbols in a size, also those inside its opaque calls."""
    out: set[Symbol] = set()
    for mono, _ in _terms(size).items():
        for atom in mono:
            if isinstance(atom, Symbol):
                out.add(atom)
            else:
                for arg in atom.args:
                    out |= free_symbols(arg)
    return out


FUNCTIONS: dict[str, Callable[[Size, Size], Size]] = {"floordiv": floordiv, "mod": mod, "max": maximum, "min": minimum}


def substitute(size: Size, values: Mapping[Symbol, Size]) -> Size:
    """The size with symbols replaced."""
    if isinstance(size, int):
        return size
    total: Size = 0
    for mono, c in size.terms:
        term: Size = c
        for atom in mono:
            if isinstance(atom, Symbol):
                term = term * values.get(atom, of_atom(atom))
            else:
                a, b = (substitute(x, values) for x in atom.args)
                term = term * FUNCTIONS[atom.function](a, b)
        total = total + term
    return total


def symbols_of(sizes: Iterable[Size]) -> dict[str, Symbol]:
    """The free symbols of several sizes by name, in order of name."""
    found = {s.name: s for size in sizes for s in free_symbols(size)}
    return dict(sorted(found.items()))


def to_text(size: Size, name: Callable[[Symbol], str] | None = None) -> str:
    """A size as text that `parse` reads back; `name` may rename symbols (fresh ones, for stable printing).

    Terms and factors with renamed symbols stand in the order of the new names.
    """
    if isinstance(size, int):
        return str(size)
    terms = [(c, [_atom_text(a, name) for a in mono]) for mono, c in size.terms]
    if name is not None and size.has_fresh:
        terms = [(c, sorted(factors, key=_order)) for c, factors in terms]
        terms.sort(key=lambda term: (-len(term[1]), [_order(f) for f in term[1]]))
    parts: list[str] = []
    for c, factors in terms:
        whole = factors if abs(c) == 1 and factors else [str(abs(c)), *factors]
        parts.append(("-" if c < 0 else "+" if parts else "") + "*".join(whole))
    return "".join(parts)


def _atom_text(atom: Atom, name: Callable[[Symbol], str] | None) -> str:
    if isinstance(atom, Symbol):
        label = name(atom) if name else atom.name
        return label if _is_plain(label) else json.dumps(label)
    if atom.function in ("max", "min"):
        numbers = [str(x) for x in _operands(atom.function, of_atom(atom)) if isinstance(x, int)]
        rest = [to_text(x, name) for x in _operands(atom.function, of_atom(atom)) if isinstance(x, Dim)]
        if name is not None:
            rest.sort(key=_order)
        out, *others = [*numbers, *rest]
        for other in others:
            out = f"{atom.function}({out},{other})"
        return out
    a, b = (to_text(x, name) for x in atom.args)
    return f"(({a})//({b}))" if atom.function == "floordiv" else f"(({a})%({b}))"


def _key(size: Size) -> str:
    """What orders sizes: their text, with fresh symbols in the order in which they were made."""
    return _order(str(size))


def _order(text: str) -> str:
    """Text with the numbers of fresh symbols padded, so that they are compared as numbers."""
    return _NUMBER.sub(lambda found: f"?{int(found[0][1:]):012}", text) if "?" in text else text


_NUMBER = re.compile(r"\?\d+")


def _is_plain(label: str) -> bool:
    """True for names that stand in text without quotes: identifiers that mean nothing else, and fresh symbols."""
    if not label.isascii() or label in FUNCTIONS or keyword.iskeyword(label) or label.startswith(_FRESH):
        return False
    return label.isidentifier() or re.fullmatch(r"\?\d+", label) is not None


_FRESH = "__fresh"
_FRESH_OR_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\?')

_OPERATORS: dict[type[ast.operator], Callable[[Size, Size], Size]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: floordiv,
    ast.Mod: mod,
}


def parse(text: str, resolve: Callable[[str], Size]) -> Size:
    """Reads what `to_text` wrote; `resolve` gives the size for a symbol's name. Raises ValueError on anything else."""
    source = _FRESH_OR_QUOTED.sub(lambda found: _FRESH if found[0] == "?" else found[0], text)
    try:
        return _evaluate(ast.parse(source, mode="eval").body, resolve, text)
    except (SyntaxError, ZeroDivisionError, RecursionError) as error:
        raise ValueError(f"not a size: {text!r}") from error


def _evaluate(tree: ast.expr, resolve: Callable[[str], Size], text: str) -> Size:
    match tree:
        case ast.Constant(value=int(number)) if not isinstance(number, bool):
            return number
        case ast.Constant(value=str(name)):
            # JSON writes characters beyond 16 bits as two escapes; Python reads each as a character of its own
            return resolve(name.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass"))
        case ast.Name(id=name):
            return resolve("?" + name.removeprefix(_FRESH) if name.startswith(_FRESH) else name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand, resolve, text)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_evaluate(left, resolve, text), _evaluate(right, resolve, text))
        case ast.Call(func=ast.Name(id=("max" | "min") as function), args=[a, b]):
            return FUNCTIONS[function](_evaluate(a, resolve, text), _evaluate(b, resolve, text))
        case _:
            raise ValueError(f"not a size: {text!r}")


def is_known(sizes: Iterable[Size]) -> bool:
    """True when every size is an int."""
    return all(isinstance(s, int) for s in sizes)


def known_product(sizes: Iterable[Size]) -> int:
    """The product of sizes that are all ints; raises ValueError where one is symbolic."""
    sizes = tuple(sizes)
    if any(not isinstance(s, int) for s in sizes):
        raise ValueError(f"symbolic sizes in {sizes}")
    return math.prod(s for s in sizes if isinstance(s, int))
