"""Python expressions under construction: trees that know where parentheses are needed and which variables they use.

Nothing from a model enters an expression as text: names are `Variable`s, which get their identifier later and from a
sanitised hint; strings and numbers go through `literal`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Union

ATOM, POWER, UNARY, PRODUCT, SUM, SHIFT, BITS, COMPARISON, ANYTHING = 20, 16, 15, 14, 13, 12, 9, 5, 0
INFIX = {
    "**": POWER, "*": PRODUCT, "/": PRODUCT, "//": PRODUCT, "%": PRODUCT, "@": PRODUCT, "+": SUM, "-": SUM,
    "<<": SHIFT, ">>": SHIFT, "&": BITS, "^": BITS - 1, "|": BITS - 2,
    "==": COMPARISON, "<": COMPARISON, ">": COMPARISON, "<=": COMPARISON, ">=": COMPARISON,
}  # fmt: skip
"""How tightly each binary operator binds."""

ATTRIBUTE = re.compile(r"\.\w+\Z")
PLACEHOLDER = re.compile(r"\{(\d+)\}")


class Variable:
    """A local variable of `forward`; `hint` is what it would like to be called, `note` describes its shape."""

    __slots__ = ("generic", "hint", "note")

    def __init__(self, hint: str, note: str = "", *, generic: bool = False) -> None:
        self.hint, self.note, self.generic = hint, note, generic

    @property
    def width(self) -> int:
        """About how long the name will be."""
        return 1 if self.generic else len(self.hint)


class Member(Variable):
    """A module, parameter or buffer of the emitted class; it is named by where it stands in the tree of modules, in
    `columns` letters."""

    __slots__ = ("columns",)

    def __init__(self, hint: str) -> None:
        super().__init__(hint)
        self.columns = len(hint) + len("self.")

    @property
    def width(self) -> int:
        return self.columns


@dataclass(frozen=True, slots=True)
class Slot:
    """A child of an expression and how tightly it has to bind to stand there without parentheses."""

    child: Code | Variable
    need: int


@dataclass(frozen=True, slots=True)
class Code:
    """An expression: pieces of text and children. `level` is how tightly its outermost operator binds.

    `signed` marks an integer that may be negative (a difference of sizes), for which Python's and ONNX's divisions
    differ.
    """

    parts: tuple[str | Slot, ...]
    level: int = ATOM
    signed: bool = False

    def variables(self) -> Iterator[Variable]:
        """Every use of a local variable, from left to right."""
        return (leaf for leaf in self.leaves() if not isinstance(leaf, Member))

    def leaves(self) -> Iterator[Variable]:
        """Every use of a variable or member, from left to right."""
        for part in self.parts:
            if isinstance(part, Slot):
                if isinstance(part.child, Code):
                    yield from part.child.leaves()
                else:
                    yield part.child

    @property
    def only(self) -> Variable | None:
        """The local variable that this is and nothing else."""
        found = self.parts[0].child if len(self.parts) == 1 and isinstance(self.parts[0], Slot) else None
        return found if isinstance(found, Variable) and not isinstance(found, Member) else None

    @property
    def depth(self) -> int:
        """How deeply calls and operators are nested; 0 for a name or a literal."""
        inner = [0 if isinstance(p.child, Variable) else p.child.depth for p in self.parts if isinstance(p, Slot)]
        last = self.parts[-1]
        plain = (
            len(self.parts) == 1
            or self.parts[0] in ("(", "[")
            or (len(self.parts) == 2 and isinstance(last, str) and ATTRIBUTE.match(last))
        )
        return max(inner) + (not plain) if inner else 0

    @property
    def width(self) -> int:
        """About how many columns the expression will take."""
        return sum(len(p) if isinstance(p, str) else p.child.width for p in self.parts)

    def substitute(self, variable: Variable, by: Code) -> Code:
        """The expression with one variable replaced."""
        if len(self.parts) == 1 and isinstance(self.parts[0], Slot) and self.parts[0].child is variable:
            return by

        def replaced(part: str | Slot) -> str | Slot:
            if isinstance(part, str):
                return part
            if isinstance(part.child, Variable):
                return Slot(by, part.need) if part.child is variable else part
            return Slot(part.child.substitute(variable, by), part.need)

        return Code(tuple(replaced(p) for p in self.parts), self.level, self.signed)

    def render(self, names: dict[Variable, str]) -> str:
        out: list[str] = []
        for part in self.parts:
            if isinstance(part, str):
                out.append(part)
            elif isinstance(part.child, Variable):
                out.append(names[part.child])
            else:
                text = part.child.render(names)
                out.append(f"({text})" if part.child.level < part.need else text)
        return "".join(out)


Piece = Union[Code, Variable, int, float, bool, str, None, Sequence["Piece"]]
"""What builders accept: expressions, and Python values that become literals. Use `raw` for text that is code."""


def raw(text: str, level: int = ATOM) -> Code:
    """Text that is code already; never text from a model."""
    return Code((text,), level)


def code(piece: Piece) -> Code:
    """Anything as an expression."""
    if isinstance(piece, Code):
        return piece
    if isinstance(piece, Variable):
        return Code((Slot(piece, ANYTHING),))
    if isinstance(piece, (tuple, list)):
        return sequence(piece, "(", ")")
    return literal(piece)  # pyright: ignore[reportArgumentType]  # what is left are Python scalars


def sequence(items: Sequence[Piece], opening: str = "[", closing: str = "]") -> Code:
    """A list or tuple display."""
    parts: list[str | Slot] = [opening]
    for index, item in enumerate(items):
        if index:
            parts.append(", ")
        parts.append(Slot(code(item), ANYTHING))
    if opening == "(" and len(items) == 1:
        parts.append(",")
    return Code((*parts, closing))


def literal(value: int | float | bool | str | None) -> Code:
    """A Python literal that evaluates to `value`; infinities and NaN become `float("inf")` and the like."""
    if isinstance(value, float) and not isinstance(value, bool):
        if math.isnan(value) or math.isinf(value):
            return raw(f'float("{value}")')
        return Code((repr(value).replace("e+", "e"),), ATOM if value >= 0 else UNARY)
    if isinstance(value, int) and not isinstance(value, bool):
        return Code((repr(value),), ATOM if value >= 0 else UNARY, value < 0)
    if isinstance(value, str):
        return raw(quoted(value))
    return raw(repr(value))


def quoted(text: str) -> str:
    """A string literal in ASCII with double quotes where that needs no escaping."""
    shown = ascii(text)
    return f'"{shown[1:-1]}"' if shown[0] == "'" and '"' not in shown and "\\" not in shown else shown


def form(template: str, *pieces: Piece, level: int = ATOM) -> Code:
    """An expression from a template such as "{0}.reshape({1})".

    A piece in front of a dot, a bracket or a parenthesis binds like an atom there; anywhere else it stands between
    commas or brackets and needs no parentheses. Operators are built by `infix`.
    """
    parts: list[str | Slot] = []
    position = 0
    for found in PLACEHOLDER.finditer(template):
        if found.start() > position:
            parts.append(template[position : found.start()])
        position = found.end()
        need = ATOM if template[position : position + 1] in (".", "[", "(") else ANYTHING
        piece = pieces[int(found.group(1))]
        parts.append(Slot(piece if isinstance(piece, Variable) else code(piece), need))
    if position < len(template):
        parts.append(template[position:])
    return Code(tuple(parts), level)


def call(function: str | Code | Variable, *args: Piece, **options: Piece) -> Code:
    """`function(args, option=value)`; a function given as text is a name of PyTorch's or of the emitted file."""
    parts: list[str | Slot] = [function if isinstance(function, str) else Slot(function, ATOM), "("]
    for index, item in enumerate(args):
        parts += [", "] if index else []
        parts.append(Slot(code(item), ANYTHING))
    for index, (key, item) in enumerate(options.items()):
        parts += [", "] if index or args else []
        parts += [f"{key}=", Slot(code(item), ANYTHING)]
    return Code((*parts, ")"))


def method(receiver: Piece, name: str, *args: Piece, **options: Piece) -> Code:
    """`receiver.name(args, option=value)`."""
    return call(form("{0}." + name, receiver), *args, **options)


def infix(operator: str, left: Piece, right: Piece) -> Code:
    """`left operator right`, left-associative (`**` and comparisons: both sides bind tighter)."""
    level = INFIX[operator]
    strict = operator == "**" or level == COMPARISON
    a, b = code(left), code(right)
    signed = operator == "-" or a.signed or b.signed
    close = operator == "**" and not (a.depth or b.depth or a.signed or b.signed)
    shown = operator if close else f" {operator} "
    return Code((Slot(a, level + 1 if strict else level), shown, Slot(b, level + 1)), level, signed)


def negative(piece: Piece) -> Code:
    return Code(("-", Slot(code(piece), UNARY)), UNARY, True)
