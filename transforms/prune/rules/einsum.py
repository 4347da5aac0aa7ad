"""Einsum: the same letter is the same axis."""

from __future__ import annotations

from ....ir import Node, Value
from ..atoms import UNIT, Ids
from ..axes import AxisMap, Frozen, Layer, shape
from .linear import COMPUTED, is_weight
from .row import Rule


def einsum(node: Node, axes: AxisMap) -> None:
    """Ties every letter over the operands; one that is summed over needs an operand that is zero at what goes
    (Einsum-12).
    """
    operands = [v for v in node.inputs if v is not None]
    terms, result = letters(node, operands)
    found: dict[str, Ids] = {}
    holders: dict[str, list[Value]] = {}
    for value, term in zip(operands, terms, strict=True):
        for axis, letter in enumerate(term):
            if shape(value)[axis] == 1:
                continue
            ids = axes[value, axis]
            found[letter] = axes.tie(found[letter], ids) if letter in found else ids
            holders.setdefault(letter, []).append(value)
    for letter, values in holders.items():
        if letter not in result and not any(v in axes.quiet for v in values):
            axes.freeze(found[letter], node, COMPUTED)
    axes.bind(node.output, [found.get(letter, axes.atoms.frozen(UNIT)) for letter in result])
    active = [letter for letter in result if letter in found and axes.is_active(found[letter])]
    axes.hush(node.output, all(any(v in axes.quiet for v in holders[letter]) for letter in active))
    note_layer(node, axes, operands, terms, result)


def letters(node: Node, operands: list[Value]) -> tuple[list[str], str]:
    """The axes of each operand and of the result. An ellipsis becomes letters that no equation has."""
    left, _, right = node.str("equation").replace(" ", "").partition("->")
    terms = left.split(",")
    if "->" not in node.str("equation"):
        plain = left.replace(",", "").replace(".", "")
        right = ("..." if "..." in left else "") + "".join(c for c in sorted(set(plain)) if plain.count(c) == 1)
    wide = max((len(shape(v)) - len(t) + 3 for v, t in zip(operands, terms, strict=True) if "..." in t), default=0)
    for term in terms:
        plain = term.replace("...", "")
        if len(set(plain)) < len(plain):
            raise Frozen("it takes a diagonal")
    rest = "".join(chr(0x2460 + i) for i in range(wide))

    def spelled(term: str, rank: int) -> str:
        return term.replace("...", rest[wide - (rank - len(term) + 3) :] if "..." in term else "")

    named = [spelled(term, len(shape(v))) for term, v in zip(terms, operands, strict=True)]
    return named, right.replace("...", rest)


def note_layer(node: Node, axes: AxisMap, operands: list[Value], terms: list[str], result: str) -> None:
    """The axis of the output that a weight makes."""
    for value, term in zip(operands, terms, strict=True):
        others = "".join(t for t in terms if t is not term)
        own = [i for i, letter in enumerate(result) if letter in term and letter not in others]
        if is_weight(value) and own:
            axes.layers.append(Layer(node, own[-1]))
            return


ROWS: dict[str, Rule] = {"Einsum": Rule(einsum)}
