"""Padding: by constants twice, and with zeros before a Conv or an average that pads by itself."""

from __future__ import annotations

import math

from ....ir import Builder, Node
from ....ir.rewrite import Result, decline, rule
from .identities import NEVER_NEGATIVE
from .spans import integers

Amounts = tuple[tuple[int, int], ...]
"""Elements before and after each axis; negative ones are cut off."""


def amounts(node: Node) -> Amounts | None:
    """What a Pad with constant operands adds to each axis; None where that is not known."""
    pads, rank = integers(node.input(1)), node.operand(0).rank
    if pads is None or rank is None:
        return None
    axes = tuple(range(rank)) if node.input(3) is None else integers(node.input(3))
    if axes is None:
        return None
    out = [(0, 0)] * rank
    for index, axis in enumerate(axes):
        out[axis % rank] = (pads[index], pads[index + len(axes)])
    return tuple(out)


def filling(node: Node) -> float | None:
    """The number that a Pad fills with; None where it copies from its operand or the number is not known."""
    if node.str("mode", "constant") != "constant":
        return None
    number = node.input(2)
    if number is None:
        return 0.0
    tensor = number.const
    return None if tensor is None or tensor.dtype.numpy.kind in "OcbV" else float(tensor.item())


@rule("Pad")
def merge_pads(op: Builder, node: Node) -> Result:
    """Two Pads with one number are one."""
    inner = node.operand(0).node
    if inner is None or inner.op != "Pad" or inner.domain:
        return decline("its operand is no Pad")
    first, second = amounts(inner), amounts(node)
    if first is None or second is None:
        return decline("amounts are not known")
    if filling(node) is None or filling(node) != filling(inner):
        return decline("they fill with different things")
    if any(n < 0 for pads in (first, second) for pair in pads for n in pair):
        return decline("one cuts off")
    both = [(a[0] + b[0], a[1] + b[1]) for a, b in zip(first, second, strict=True)]
    pads = [n for n, _ in both] + [n for _, n in both]
    return op.Pad(inner.operand(0), pads, *([] if node.input(2) is None else [node.input(2)]))


def spatial(node: Node) -> Amounts | None:
    """The amounts that a Pad adds to the axes behind the channels; None where it does anything else."""
    found = amounts(node)
    if found is None or len(found) < 3:
        return None
    if found[:2] != ((0, 0), (0, 0)) or any(n < 0 for pair in found for n in pair):
        return None
    return found[2:]


def padded(node: Node, more: Amounts) -> list[int] | None:
    """The `pads` of a window operator with more added; None where it computes them itself."""
    if node.str("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    count = len(more)
    pads = node.ints("pads", (0,) * (2 * count)) if node.str("auto_pad", "NOTSET") == "NOTSET" else (0,) * (2 * count)
    return [pads[i] + more[i % count][i // count] for i in range(2 * count)]


@rule("Conv", "AveragePool")
def pad_inside_window(op: Builder, node: Node) -> Result:
    """Zeros around the operand of a Conv, or of an average that counts padding, are its own padding."""
    above = node.operand(0).node
    if above is None or above.op != "Pad" or above.domain:
        return decline("its operand is no Pad")
    more = spatial(above) if filling(above) == 0 else None
    if more is None:
        return decline("the Pad does more than to add zeros around images")
    pads = padded(node, more)
    if pads is None:
        return decline("it computes its padding itself")
    attrs = {name: value for name, value in node.attrs.items() if name != "auto_pad"} | {"pads": tuple(pads)}
    if node.op == "AveragePool":
        if any(node.ints("pads", ())) and not node.int("count_include_pad"):
            return decline("it does not count its own padding")
        if node.int("ceil_mode"):
            return decline("its last windows may go beyond the padding")
        if any(n >= node.ints("kernel_shape")[i % len(more)] for i, n in enumerate(pads)):
            return decline("a window would lie in the padding entirely")
        attrs["count_include_pad"] = 1
    made = op.node(node.op, [above.operand(0), *node.inputs[1:]], attrs)
    assert isinstance(made, Node)
    return made.output


@rule("MaxPool", above=["Pad"])
def pad_inside_maximum(op: Builder, node: Node) -> Result:
    """Padding with minus infinity, or with zeros around what is never negative, is a MaxPool's own padding."""
    above, count = node.operand(0).node, len(node.ints("kernel_shape"))
    if above is None or node.operand(0).op != "Pad":
        return decline("its operand is no Pad")
    more, number = spatial(above), filling(above)
    if more is None or number is None:
        return decline("the Pad does more than to add a number around images")
    if number != -math.inf and not (number == 0 and above.operand(0).op in NEVER_NEGATIVE):
        return decline("the number may be the greatest of its window")
    pads = padded(node, more)
    if pads is None or node.int("ceil_mode") or any(v.users for v in node.outputs[1:]):
        return decline("it computes its padding itself, or places in the padded image are used")
    if any(n != 1 for n in node.ints("dilations", ())):
        return decline("its windows have holes")
    if any(n >= node.ints("kernel_shape")[i % count] for i, n in enumerate(pads)):
        return decline("a window would lie in the padding entirely")
    attrs = {name: value for name, value in node.attrs.items() if name != "auto_pad"} | {"pads": tuple(pads)}
    made = op.node("MaxPool", [above.operand(0)], attrs)
    assert isinstance(made, Node)
    return [made.output]


RULES = (merge_pads, pad_inside_window, pad_inside_maximum)
