"""Repeated blocks as classes: what containers of a model have in common is written once.

A part is a container whose statements can stand together and that touches no other part's modules. A chain of calls
becomes an `nn.Sequential`; anything else that occurs more than once becomes a class: the statements its `forward`, the
modules its `__init__`, in which the numbers and functions that differ between the parts are arguments; the statements
themselves shrink to a call. Parts are alike when the two texts are equal. The innermost containers come first, so that
classes are made of classes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from .chains import sequential
from .code import Code, Member, Variable, call, code
from .columns import Columns, written
from .members import Container, Leaf, Members, Path
from .names import RESERVED, class_name, unused
from .parts import Part, cut
from .program import Assign, Block, name_variables, render, tidy
from .regions import Region, Regions
from .rolling import returned, roll, roll_series, shortened
from .signatures import DEFAULTS, stated
from .variants import Option, unified

MOST_ROUNDS = 8
OFTEN = 4
"""From how many chains on that had a class of their own they get one."""


def extract(
    block: Block,
    members: Members,
    arguments: Sequence[Variable],
    sizes: Collection[Variable],
    title: str,
    origins: Mapping[str, str],
) -> list[str]:
    """Moves repeated parts into classes, whose lines are given; `arguments` are those of the network, `origins` the
    classes that its modules had, by path."""
    return _Extraction(block, members, {*arguments, *sizes}, set(sizes), title, origins).run()


class _Extraction:
    def __init__(
        self,
        block: Block,
        members: Members,
        fixed: set[Variable],
        sizes: set[Variable],
        title: str,
        origins: Mapping[str, str],
    ) -> None:
        self.block, self.members, self.fixed, self.sizes, self.origins = block, members, fixed, sizes, origins
        self.regions = Regions(block, members)
        self.taken = {title, *RESERVED}
        self.signatures: dict[str, Mapping[str, str]] = {f"nn.Conv{n}d": DEFAULTS for n in (1, 2, 3)}
        self.text: list[str] = []
        self.chains: dict[int, Code] = {}

    def run(self) -> list[str]:
        for paths in levels(self.members.root, self.kind):
            others: list[Region] = []
            chains: dict[tuple[str, ...], list[Part]] = {}
            found = [(region, sequential(region)) for region in self.regions.find(paths)]
            apart = {self.kind(region.path) for region, made in found if made is None} - {""}
            for region, made in found:
                shared = made is not None and self.kind(region.path) in apart
                if made is not None and shared:
                    self.chains[id(region)] = made
                if made is not None and not shared:
                    text = f"super().__init__{made.render({})[len('nn.Sequential') :]}"
                    part = Part(region, [], [], "", stated(text, self.signatures), made)
                    own = self.origins.get(".".join(region.path), "Sequential") not in PLAIN_CLASSES
                    chains.setdefault((str(own), *part.key), []).append(part)
                elif region.container.kind == "block":
                    others.append(region)
                elif made is not None:
                    self.put(region, made)
            for (own, *_), parts in chains.items():
                if own == "True" and len(parts) >= OFTEN:
                    self.write(parts, set())
                else:
                    for part in parts:
                        assert part.chain is not None
                        self.put(part.region, part.chain)
            self.classes(others)
        return self.text

    def put(self, region: Region, value: Code) -> bool:
        """Makes a container a module of its own, which the region's statements shrink to a call of."""
        member = Member(region.path[-1])
        item = Assign(region.outputs, call(member, *region.inputs), "", ".".join(region.path), region.path)
        if not self.regions.replace(region, item):
            return False
        parent = self.members.at(region.path[:-1])
        assert isinstance(parent, Container)
        parent.children[region.path[-1]] = Leaf(member, value, is_module=True)
        return True

    def classes(self, regions: Sequence[Region]) -> None:
        """Writes a class for each kind of region that there are several of."""
        readers = Counter((v, tuple(n for n in r.path if not n.isdigit())) for r in regions for v in r.inputs)
        shared = {v for (v, _), count in readers.items() if count > 1}
        groups: dict[tuple[str, ...], list[Part]] = {}
        for region in regions:
            part = self.part(region, shared)
            groups.setdefault(part.key, []).append(part)
        for parts, options in self.forms(list(groups.values())):
            if len(parts) > 1 and not parts[0].is_plain:
                self.write(parts, shared, options)
                continue
            for part in parts:
                chain = self.chains.get(id(part.region))
                if chain is not None:
                    self.put(part.region, chain)

    def forms(self, groups: list[list[Part]]) -> Iterator[tuple[list[Part], list[Option]]]:
        """Kinds of parts that had one class, as one kind with options where there is such a form; else as they are."""
        waiting = sorted(groups, key=len, reverse=True)
        while waiting:
            parts, options = waiting.pop(0), list[Option]()
            own = self.kind(parts[0].region.path)
            for other in [g for g in waiting if own and self.kind(g[0].region.path) == own]:
                found = self.united([*parts, *other])
                if found is not None:
                    waiting.remove(other)
                    parts, options = found
            yield parts, options

    @staticmethod
    def united(parts: list[Part]) -> tuple[list[Part], list[Option]] | None:
        """Parts in their common form, which comes with its options."""
        originals = [p.original or p for p in parts]
        form = unified([(p.made, p.body, p.result, p.parameters) for p in originals], cut)
        if form is None:
            return None
        united = [Part(p.region, p.parameters, form.body, form.result, form.made, original=p) for p in originals]
        if any(len(t) != len(u.tokens) for t, u in zip(form.tokens, united, strict=True)):
            return None
        for part, tokens in zip(united, form.tokens, strict=True):
            part.tokens = tokens
        return united, form.options

    def ownwritten(self, path: Path) -> str:
        """The class that a module had, where it was no general one."""
        origin = self.origins.get(".".join(path), "")
        return "" if origin in PLAIN_CLASSES else origin

    def kind(self, path: Path) -> str:
        """What parts that may have one class have in common: their class in the original, else the list they are in."""
        if self.origins:
            return self.ownwritten(path)
        return ".".join(path[:-1]) if path[-1].isdigit() and len(path) > 1 else ""

    def write(self, parts: Sequence[Part], shared: Collection[Variable], options: Sequence[Option] = ()) -> None:
        name = unused(self.name(parts[0].region.path), self.taken)
        self.taken.add(name)
        columns = Columns(parts, options)
        self.text += ["", "", *written(name, parts, columns, self.sizes, self.signatures)]
        self.signatures[name] = columns.defaults
        for row, part in enumerate(parts):
            if self.put(part.region, columns.call(name, row)):
                for variable in (*part.region.inputs, *part.region.outputs):
                    variable.generic = variable.generic or variable not in {*self.fixed, *shared}

    def name(self, path: Path) -> str:
        """The original class's name; layer.3 -> Layer, layer1.0 -> LayerBlock."""
        origin = self.origins.get(".".join(path), "")
        if origin and origin not in PLAIN_CLASSES:
            return class_name(origin)
        stems = [p for p in reversed(path) if not p.isdigit()] or ["Part"]
        stem = stems[0]
        plain = re.sub(r"[_\d]+$", "", stem)
        if plain in ("block", "blocks") and len(stems) > 1:
            outer = re.sub(r"[_\d]+$", "", stems[1])
            return class_name(
                f"{outer.removesuffix('s')}_part" if path[-1].isdigit() else f"{outer.removesuffix('s')}_block"
            )
        numbered = path[-1].isdigit() or stem != path[-1]
        return class_name(plain if not numbered or stem in ("layer", "stage") else f"{plain.removesuffix('s')}_block")

    def part(self, region: Region, shared: Collection[Variable]) -> Part:
        """A region as text, with variables named for it alone."""
        members, container = self.members, region.container
        used = [leaf for item in region.statements for leaf in item.value.leaves() if isinstance(leaf, Member)]
        for member in dict.fromkeys(used):
            place = members.path_of(member)
            if place is not None and place[: len(region.path)] != region.path:
                members.move(member, region.path)
        keeps = {v for v in region.inputs if v in self.fixed or v in shared}
        local = {v: v if v in keeps else Variable(v.hint, v.note, generic=True) for v in region.inputs}
        local |= {v: Variable(v.hint, v.note, generic=True) for v in region.outputs}
        body = Block([_renamed(item, local) for item in region.statements], [code(local[v]) for v in region.outputs])
        inside = members.names_in(container)
        tidy(body, inside)
        names = {**name_variables(body, [local[v] for v in region.inputs]), **inside}
        lists, taken = members.lists_in(container), set(names.values())
        items = roll_series(roll(render(body, names), lists, taken), members.series_in(container), taken)
        items = shortened(items, lists, members.groups_in(container), taken)
        made = "\n".join(
            stated(line, self.signatures)
            for name, child in container.children.items()
            for line in members.registered(name, child)
        )
        items, result, _ = returned(items, ", ".join(r.render(names) for r in body.results))
        return Part(region, [names[local[v]] for v in region.inputs], items, result, made)


PLAIN_CLASSES = frozenset({"Sequential", "ModuleList", "ModuleDict", "Module"})


def levels(root: Container, kinds: Callable[[Path], str]) -> Iterator[list[Path]]:
    """The paths of all containers, the innermost ones first; none of a level lies in another one of it. Those of one
    kind are on one level, so that they are seen together."""
    heights = dict.fromkeys(containers(root, ()), 1)
    of_kind: dict[str, list[Path]] = {}
    for path in heights:
        if kinds(path):
            of_kind.setdefault(kinds(path), []).append(path)
    outwards = sorted(heights, key=len, reverse=True)
    for _ in range(MOST_ROUNDS):
        before = dict(heights)
        for path in outwards:
            if path[:-1] in heights:
                heights[path[:-1]] = max(heights[path[:-1]], heights[path] + 1)
        for paths in of_kind.values():
            if not any(a != b and b[: len(a)] == a for a in paths[:1] for b in paths):
                highest = max(heights[p] for p in paths)
                heights.update(dict.fromkeys(paths, highest))
        if heights == before:
            break
    for path in outwards:  # a parent stays above its children, whatever the rounds came to
        if path[:-1] in heights:
            heights[path[:-1]] = max(heights[path[:-1]], heights[path] + 1)
    found: dict[int, list[Path]] = {}
    for path, height in heights.items():
        found.setdefault(height, []).append(path)
    yield from (found[height] for height in sorted(found))


def containers(node: Container, path: Path) -> Iterator[Path]:
    """The paths of all containers inside of one."""
    for name, child in node.children.items():
        if isinstance(child, Container):
            yield (*path, name)
            yield from containers(child, (*path, name))


def _renamed(item: Assign, local: Mapping[Variable, Variable]) -> Assign:
    value = item.value
    for old in set(value.variables()) & local.keys():
        if local[old] is not old:
            value = value.substitute(old, code(local[old]))
    return Assign([local.get(t, t) for t in item.targets], value, scope=item.scope)
