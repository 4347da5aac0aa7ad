"""Which statements of `forward` belong to a container of modules, and how they come to stand together.

All expressions are pure, so statements may change places as long as each comes after those it reads. A region can be
made one statement when nothing outside of it lies between two of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from .code import Member, Variable
from .members import Attribute, Container, Leaf, Members, Path, leaves
from .program import Assign, Block, Statement, members_in, targets_of, uses

MOST_INPUTS, MOST_RESULTS = 8, 3


@dataclass
class Region:
    """The statements of a container; `inputs` are what they read and others define, `outputs` what others read."""

    path: Path
    container: Container
    statements: list[Assign]
    inputs: list[Variable]
    outputs: list[Variable]


class Regions:
    """Finds and replaces regions in a block."""

    def __init__(self, block: Block, members: Members) -> None:
        self.block, self.members = block, members
        self.touched = {id(item): members_of(item) for item in block.statements}
        self.read = {id(item): set(uses(item)) for item in block.statements}
        self.results = {v for result in block.results for v in result.variables()}

    def find(self, paths: Collection[Path]) -> list[Region]:
        """The regions of those containers that can stand alone; no container lies in another one."""
        places = {leaf.member: path for path, leaf in leaves(self.members.root, ())}
        owners: dict[Path, list[Assign]] = {path: [] for path in paths}
        lengths = sorted({len(p) for p in paths}, reverse=True)
        for item in self.block.statements:
            if not isinstance(item, Assign):
                continue
            found = [item.scope, *(places[m] for m in self.touched[id(item)] if m in places)]
            for path in {p[:n] for p in found for n in lengths if p[:n] in owners}:
                owners[path].append(item)
        regions = [self.region(path, items) for path, items in owners.items() if items]
        return [r for r in regions if r is not None]

    def region(self, path: Path, items: list[Assign]) -> Region | None:
        node = self.members.at(path)
        if not isinstance(node, Container):
            return None
        inside = {leaf.member for _, leaf in leaves(node, ())}
        items = self.trimmed(items, inside)
        own = {id(i) for i in items}
        others = [item for item in self.block.statements if id(item) not in own]
        tied = {m for tie in self.members.ties for m in (tie[0], tie[2])} | {m for _, m in self.members.aliases}
        tied |= {m.module for m in tied if isinstance(m, Attribute)}
        homes = {p[: len(path)] for p, _ in self.members.aliases}
        foreign = {m for i in items for m in self.touched[id(i)]} - inside
        if not items or tied & inside or path in homes or any(self.touched[id(o)] & inside for o in others):
            return None
        if not all(self.is_movable(m, others) for m in foreign) or self.parted(items) is None:
            return None
        defined = {t for i in items for t in i.targets}
        wanted = self.results.union(*(self.read[id(o)] for o in others))
        inputs = [v for v in dict.fromkeys(v for i in items for v in uses(i)) if v not in defined]
        outputs = [t for i in items for t in i.targets if t in wanted]
        if not 0 < len(inputs) <= MOST_INPUTS or not 0 < len(outputs) <= MOST_RESULTS:
            return None
        return Region(path, node, items, inputs, outputs)

    def trimmed(self, items: list[Assign], inside: Collection[Member]) -> list[Assign]:
        """Without what only prepares operands: statements in front that use no module of the container, and that
        others use too or that join values."""
        kept = list(items)
        changed = True
        while changed:
            changed = False
            defined = {t for i in kept for t in i.targets}
            own = {id(i) for i in kept}
            outside = set[Variable]().union(
                self.results, *(self.read[id(o)] for o in self.block.statements if id(o) not in own)
            )
            for item in kept:
                if self.touched[id(item)] & set(inside) or self.read[id(item)] & defined:
                    continue
                if outside.intersection(item.targets) or item.value.parts[0] == "torch.cat":
                    kept = [i for i in kept if i is not item]
                    changed = True
                    break
        return kept

    def is_movable(self, member: Member, others: Sequence[Statement]) -> bool:
        """True for a constant that no state_dict names and nothing else uses: it can move into the container."""
        path = self.members.path_of(member)
        if path is None or len(path) > 1 or path in self.members.keys:
            return False
        leaf = self.members.at(path)
        alone = not any(member in self.touched[id(o)] for o in others)
        return alone and isinstance(leaf, Leaf) and not leaf.is_module

    def parted(self, items: Sequence[Assign]) -> tuple[list[Statement], list[Statement]] | None:
        """The other statements, those that can stand in front of the items and those that have to stand behind; None
        where one lies between two of them."""
        own = {id(i) for i in items}
        defined = {t for i in items for t in i.targets}
        late = set[Variable]()
        before: list[Statement] = []
        after: list[Statement] = []
        remaining = len(own)
        for item in self.block.statements:
            read = self.read[id(item)]
            if id(item) in own:
                remaining -= 1
                if read & late:
                    return None
            elif not remaining or read & defined or read & late:
                after.append(item)
                late.update(targets_of(item))
            else:
                before.append(item)
        return before, after

    def replace(self, region: Region, item: Assign) -> bool:
        """Puts one statement in the place of a region's; False where others have come in between."""
        parts = self.parted(region.statements)
        if parts is None:
            return False
        self.block.statements = [*parts[0], item, *parts[1]]
        self.touched[id(item)], self.read[id(item)] = members_of(item), set(uses(item))
        return True


def members_of(item: Statement) -> set[Member]:
    """The members that a statement uses; the module for one of its parameters."""
    found = members_in(Block([item]))
    return {m.module if isinstance(m, Attribute) else m for m in found}
