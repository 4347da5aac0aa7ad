"""Residual blocks, found from the graph alone: what is computed from a stream and added to it again.

A sum of computed terms of one type, x + f(x) or x + f(x) + g(x), has a stream and branches. A branch ends at its Add;
what it consists of is everything between its stream and there that no other branch of the sum reads. Other things that
it reads (masks, positions, the states of an encoder) do not matter. Blocks may be nested.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ...ir import Graph, Node, TensorType, Value
from ..select import Selection

LONGEST_LAYER = 8
"""Blocks that one layer may have."""


@dataclass(frozen=True, eq=False)
class Block:
    """An operand `branch` of the sum `add`, computed by `nodes` from `stream`, or why that is no block of its own."""

    add: Node
    branch: Value
    stream: Value | None
    nodes: tuple[Node, ...]
    why: str = ""

    @property
    def signature(self) -> tuple[str, ...]:
        """Its operators: blocks that do the same have the same."""
        return tuple(node.op for node in self.nodes)


def blocks(graph: Graph) -> list[Block]:
    """The blocks of the outermost graph, in its order; sums without a stream are among them, with the reason."""
    places = {node: place for place, node in enumerate(graph)}
    found: list[Block] = []
    for node in graph:
        if joins(node) and not continues(node):
            found += of_sum(list(terms(node)), places)
    return sorted(found, key=lambda block: places[block.add])


def joins(node: Node) -> bool:
    """True for a sum of two computed tensors of its own type, of floats."""
    if node.op != "Add" or node.domain or node.regions:
        return False
    a, b, sum_ = node.operand(0), node.operand(1), node.output
    same = isinstance(sum_.type, TensorType) and a.type == b.type == sum_.type and sum_.type.shape is not None
    return same and sum_.is_float and not a.is_const and not b.is_const and a is not b


def continues(node: Node) -> bool:
    """True for a sum that only another one reads: both are one sum of more terms."""
    user = node.output.only_user
    return user is not None and user in node.output.users and joins(user)


def terms(node: Node) -> Iterator[tuple[Node, Value]]:
    """The terms of a sum, each with the Add that reads it."""
    for value in (node.operand(0), node.operand(1)):
        if value.node is not None and joins(value.node) and value.only_user is node:
            yield from terms(value.node)
        else:
            yield node, value


def of_sum(found: Sequence[tuple[Node, Value]], places: dict[Node, int]) -> list[Block]:
    """The branches of a sum: the terms that are computed from another one."""
    values = [value for _, value in found]
    made: list[Block] = []
    for add, value in found:
        streams = sorted((v for v in values if v is not value), key=lambda v: position(v, places), reverse=True)
        for stream in streams:
            nodes = between(stream, value, places)
            if nodes:
                beside = {n for v in values if v is not value for n in between(stream, v, places)}
                own = tuple(node for node in nodes if node not in beside)
                made.append(Block(add, value, stream, own, escapes(own, add, value)))
                break
    if made:
        return made
    add, value = found[-1]
    shortcut = next((v.node for v in values if v.node is not None and v.node.inputs), None)
    layer = f" ({shortcut.where})" if shortcut is not None else ""
    why = f"no term of this sum is computed from another one: what it is added to has layers of its own{layer}"
    return [Block(add, value, None, (), why)]


def position(value: Value, places: dict[Node, int]) -> int:
    """Where a value is made; inputs of the graph come first."""
    return places.get(value.node, -1) if value.node is not None else -1


def between(stream: Value, end: Value, places: dict[Node, int]) -> tuple[Node, ...]:
    """The nodes on the ways from one value to another, in the order of the graph."""
    first = position(stream, places)
    waiting, seen = [end], set[Node]()
    while waiting:
        node = waiting.pop().node
        if node is None or node in seen or places.get(node, -1) <= first:
            continue
        seen.add(node)
        waiting += [v for v in node.inputs if v is not None]
    found: list[Node] = []
    reached = {stream}
    for node in sorted(seen, key=places.__getitem__):
        if any(v in reached for v in node.inputs):
            found.append(node)
            reached.update(node.outputs)
    return tuple(found) if end in reached else ()


def escapes(nodes: Sequence[Node], add: Node, branch: Value) -> str:
    """Who else reads what a branch computes; '' where nobody does."""
    inside = set(nodes)
    for node in nodes:
        for value in node.outputs:
            for user in value.users:
                if user in inside or (user is add and value is branch and value.users[add] == 1):
                    continue
                name = (
                    f"it gives the output {value.name!r}" if not user.outputs else f"{user.where} reads %{value.name}"
                )
                return f"{name}, which is computed in it"
    return ""


def layers(found: Sequence[Block]) -> list[tuple[Block, ...]]:
    """Blocks in a row that come again: (attention, hidden units) of one transformer layer. Others are alone.

    At each place the shortest row that is repeated is taken, with all of its repetitions. Nested blocks belong to the
    outer one.
    """
    rest, made = [b for b in outermost(found) if b.stream is not None], list[tuple[Block, ...]]()
    while rest:
        length = next((n for n in range(1, LONGEST_LAYER + 1) if repeats(rest, n) > 1), 1)
        for _ in range(max(1, repeats(rest, length))):
            made.append(tuple(rest[:length]))
            rest = rest[length:]
    return made


def outermost(found: Sequence[Block]) -> list[Block]:
    inner = {node for block in found for node in block.nodes}
    return [block for block in found if block.add not in inner]


def repeats(found: Sequence[Block], length: int) -> int:
    """How often the first `length` blocks come in a row."""
    wanted = [block.signature for block in found[:length]]
    count = 0
    while [b.signature for b in found[count * length : (count + 1) * length]] == wanted and wanted:
        count += 1
    return count


def reason(block: Block, selection: Selection) -> str:
    """Why a block stays whatever it is worth; '' where it may go. A pattern selects it by any of its nodes."""
    if block.why:
        return block.why
    told = [selection.reason(node) for node in (block.add, *block.nodes)]
    skipped = next((why for why in told if why.startswith("skipped")), "")
    return skipped or (told[0] if all(told) else "")


def cut(branches: Iterable[Value]) -> None:
    """Takes branches out of their sums: what reads a sum reads its other term. Nodes stay, without users."""
    for branch in branches:
        add = next(user for user in branch.users if user.output.users)
        add.output.replace_by(add.operand(1 if add.operand(0) is branch else 0))
