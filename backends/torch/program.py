"""The body of `forward`: statements over variables, unused ones dropped, short ones nested, named by liveness.

All expressions are pure, so dropping and nesting need no more than counts of uses. Names are chosen last: a variable
takes over the name of one that is not needed any more, which is what makes `x = F.relu(self.bn1(self.conv1(x)))` out of
three nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Union

from .code import Code, Member, Slot, Variable
from .names import identifier, numbered
from .rolling import Item, Line, Suite

NESTED_WIDTH = 72
NESTED_DEPTH = 3
GENERIC = ("x", "y", "z", "u", "v", "w")


@dataclass(slots=True)
class Assign:
    """`targets = value`; `section` is the part of the model that it belongs to, `scope` the module."""

    targets: list[Variable]
    value: Code
    heading: str = ""
    section: str = ""
    scope: tuple[str, ...] = ()


@dataclass(slots=True)
class Block:
    """Statements and the expressions that they yield to what surrounds them."""

    statements: list[Statement] = field(default_factory=list["Statement"])
    results: list[Code] = field(default_factory=list[Code])


@dataclass(slots=True)
class Branch:
    """`if condition: targets = then else: targets = otherwise`."""

    targets: list[Variable]
    condition: Code
    then: Block
    otherwise: Block
    heading: str = ""


@dataclass(slots=True)
class Repeat:
    """A loop: `targets = initial; for counter in range(trips): ... ; targets = results`.

    `trips` None means an endless count; `condition` is tested before each trip when given, and the body's first result
    is its next value. `collected[i]` is a list that result i of the body's last results is appended to.
    """

    targets: list[Variable]
    counter: Variable
    trips: Code | None
    condition: tuple[Variable, Code] | None
    initial: list[Code]
    collected: list[Variable]
    body: Block
    heading: str = ""


Statement = Union[Assign, Branch, Repeat]


def blocks_of(item: Statement) -> tuple[Block, ...]:
    """The blocks inside a statement."""
    if isinstance(item, Branch):
        return item.then, item.otherwise
    return (item.body,) if isinstance(item, Repeat) else ()


def codes_of(item: Statement) -> list[Code]:
    """The expressions that a statement evaluates itself, not those in its blocks."""
    if isinstance(item, Assign):
        return [item.value]
    if isinstance(item, Branch):
        return [item.condition]
    return [*([item.trips] if item.trips else []), *([item.condition[1]] if item.condition else []), *item.initial]


def targets_of(item: Statement) -> list[Variable]:
    """What a statement defines for those after it."""
    return [*item.targets, *item.collected] if isinstance(item, Repeat) else item.targets


def uses(item: Statement | Block) -> Iterator[Variable]:
    """Every use of a variable in a statement or block and in the blocks inside it."""
    if isinstance(item, Block):
        for inner in item.statements:
            yield from uses(inner)
        for result in item.results:
            yield from result.variables()
        return
    for expression in codes_of(item):
        yield from expression.variables()
    for block in blocks_of(item):
        yield from uses(block)


def members_in(block: Block) -> set[Member]:
    """The members that a block uses, in the blocks inside it as well."""
    found = {leaf for result in block.results for leaf in result.leaves() if isinstance(leaf, Member)}
    for item in block.statements:
        found |= {leaf for expression in codes_of(item) for leaf in expression.leaves() if isinstance(leaf, Member)}
        for inner in blocks_of(item):
            found |= members_in(inner)
    return found


# Tidying


def tidy(block: Block, names: Mapping[Variable, str]) -> None:
    """Drops what nobody uses and nests short expressions in the statement after them; `names` are those of members."""
    for member in members_in(block):
        member.columns = len(names.get(member, member.hint))
    drop(block)
    _nest(block, Counter(uses(block)))


def drop(block: Block) -> None:
    """Drops what nobody uses."""
    _drop(block, Counter(uses(block)))


def _drop(block: Block, counts: Counter[Variable]) -> None:
    kept: list[Statement] = []
    for item in reversed(block.statements):
        if not any(counts[v] for v in targets_of(item)):
            counts.subtract(uses(item))
            continue
        for inner in blocks_of(item):
            _drop(inner, counts)
        kept.append(item)
    block.statements = kept[::-1]


def _nest(block: Block, counts: Counter[Variable]) -> None:
    kept: list[Statement] = []
    for item in block.statements:
        while kept and _nested(kept[-1], item, counts):
            kept.pop()
        for inner in blocks_of(item):
            _nest(inner, counts)
        kept.append(item)
    while kept and isinstance(kept[-1], Assign) and len(block.results) == 1 and _nested_result(kept[-1], block, counts):
        kept.pop()
    block.statements = kept


def _nested(first: Statement, second: Statement, counts: Counter[Variable]) -> bool:
    """Puts the value of `first` into `second` when this is its only use and the line stays readable."""
    if not isinstance(first, Assign) or not isinstance(second, Assign) or len(first.targets) != 1:
        return False
    target = first.targets[0]
    if counts[target] != 1 or target not in set(second.value.variables()):
        return False
    if first.section and first.section != second.section:
        return False
    if leaves_list(first, second) or (first.value.parts[0] == "torch.cat" and outside(second, first.scope)):
        return False
    joined = second.value.substitute(target, first.value)
    if joined.width > NESTED_WIDTH or joined.depth > NESTED_DEPTH:
        return False
    second.value = joined
    second.heading = second.heading or first.heading
    return True


def element_of(item: Assign) -> tuple[str, ...] | None:
    """The path of the list whose element a statement calls, None where it calls none."""
    head = item.value.parts[0]
    called = isinstance(head, Slot) and isinstance(head.child, Member) and head.child.hint.isdigit()
    return item.scope[:-1] if called and item.scope and item.scope[-1].isdigit() else None


def leaves_list(first: Assign, second: Assign) -> bool:
    """True for a list's element whose result goes to a module outside of the list: nested, it would not roll into a
    loop with the other elements."""
    path = element_of(first)
    return path is not None and outside(second, path) and any(isinstance(v, Member) for v in second.value.leaves())


def outside(item: Assign, path: tuple[str, ...]) -> bool:
    return item.scope[: len(path)] != path


def _nested_result(last: Assign, block: Block, counts: Counter[Variable]) -> bool:
    target = last.targets[0]
    if len(last.targets) != 1 or counts[target] != 1 or target not in set(block.results[0].variables()):
        return False
    joined = block.results[0].substitute(target, last.value)
    grown = last.value.parts[0] == "torch.cat" or element_of(last) is not None
    if joined.width > NESTED_WIDTH or joined.depth > NESTED_DEPTH or grown:
        return False
    block.results = [joined]
    return True


# Naming


def name_variables(block: Block, parameters: Sequence[Variable]) -> dict[Variable, str]:
    """Identifiers for all variables: no two that are alive at once share one."""
    namer = _Namer()
    live = set(parameters)
    for variable in parameters:
        namer.choose(variable, {namer.names[v] for v in live if v in namer.names}, [])
    namer.block(block, live, frozenset())
    return namer.names


class _Namer:
    def __init__(self) -> None:
        self.names: dict[Variable, str] = {}

    def choose(self, variable: Variable, taken: set[str], freed: Sequence[Variable]) -> None:
        """The name of an operand that ends here for a value without a name of its own; else its own, made unique."""
        if variable.generic:
            heirs = sorted({self.names[v] for v in freed if v.generic or self.names[v] in GENERIC} - taken)
            free = [n for n in GENERIC if n in heirs] or heirs or [n for n in GENERIC if n not in taken]
            name = free[0] if free else next(n for n in numbered("x") if n not in taken)
        else:
            stem = identifier(variable.hint, "value")
            name = stem if stem not in taken else next(n for n in numbered(stem) if n not in taken)
        self.names[variable] = name

    def block(self, block: Block, live: set[Variable], kept: frozenset[str]) -> None:
        """`live` are the variables bound so far; `kept` are names that code after the block needs."""
        last: dict[Variable, int] = {}
        for index, item in enumerate(block.statements):
            for variable in uses(item):
                last[variable] = index
        for result in block.results:
            for variable in result.variables():
                last[variable] = len(block.statements)
        alive = {v for v in live if v in last}
        for index, item in enumerate(block.statements):
            used = list(dict.fromkeys(uses(item)))
            after = {v for v in alive if last[v] > index}
            needed = {self.names[v] for v in after} | kept
            if isinstance(item, Assign):
                freed = [v for v in used if v in self.names and v not in after]
                for target in item.targets:
                    self.choose(target, needed, freed)
                    needed.add(self.names[target])
            else:
                self.compound(item, alive, needed | {self.names[v] for v in used if v in self.names})
            alive = after | {t for t in targets_of(item) if last.get(t, -1) > index}

    def compound(self, item: Branch | Repeat, alive: set[Variable], taken: set[str]) -> None:
        """Nothing inside may take a name that is alive outside or used inside, nor one of the targets."""
        own = list(targets_of(item))
        if isinstance(item, Repeat):
            own += [item.counter, *([item.condition[0]] if item.condition else [])]
        for target in own:
            self.choose(target, taken, [])
            taken.add(self.names[target])
        bound = alive | (set(own) if isinstance(item, Repeat) else set())
        for block in blocks_of(item):
            self.block(block, bound, frozenset(taken))


# Rendering


def render(block: Block, names: dict[Variable, str]) -> list[Item]:
    """The statements of a block as text, without its results."""
    items: list[Item] = []
    used = Counter(uses(block))
    for item in block.statements:
        if isinstance(item, Assign):
            shown = [names[t] if used[t] else "_" for t in item.targets]
            note = item.targets[0].note if len(item.targets) == 1 else ""
            items.append(Line(f"{', '.join(shown)} = {item.value.render(names)}", note, item.heading))
        elif isinstance(item, Branch):
            items += _branch(item, names)
        else:
            items += _repeat(item, names)
    return items


def assignment(targets: Sequence[str], values: Sequence[str]) -> list[Item]:
    """`a, b = c, d` without the pairs that are equal; nothing when none is left."""
    pairs = [(t, v) for t, v in zip(targets, values, strict=True) if t != v]
    return [Line(f"{', '.join(t for t, _ in pairs)} = {', '.join(v for _, v in pairs)}")] if pairs else []


def _branch(item: Branch, names: dict[Variable, str]) -> list[Item]:
    targets = [names[t] for t in item.targets]
    suites: list[Item] = []
    for header, block in ((f"if {item.condition.render(names)}:", item.then), ("else:", item.otherwise)):
        body = [*render(block, names), *assignment(targets, [r.render(names) for r in block.results])]
        suites.append(Suite(header, tuple(body or [Line("pass")]), item.heading if header != "else:" else ""))
    return suites


def _repeat(item: Repeat, names: dict[Variable, str]) -> list[Item]:
    lines: list[Item] = []
    for variable, value in zip(item.targets, item.initial, strict=True):
        lines += assignment([names[variable]], [value.render(names)])
    lines += [Line(f"{names[variable]} = []") for variable in item.collected]
    body: list[Item] = []
    if item.condition:
        lines.append(Line(f"{names[item.condition[0]]} = {item.condition[1].render(names)}"))
        body.append(Suite(f"if not {names[item.condition[0]]}:", (Line("break"),)))
    carried = [*([item.condition[0]] if item.condition else []), *item.targets]
    results = [r.render(names) for r in item.body.results]
    body += render(item.body, names)
    body += [Line(f"{names[v]}.append({r})") for v, r in zip(item.collected, results[len(carried) :], strict=True)]
    body += assignment([names[v] for v in carried], results[: len(carried)])
    trips = item.trips.render(names) if item.trips else "2**63 - 1"
    return [*lines, Suite(f"for {names[item.counter]} in range({trips}):", tuple(body or [Line("pass")]))]
