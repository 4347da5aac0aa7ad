"""Repeated blocks as classes: what the numbered parts of a model have in common is written once.

A part is a container with an index for a name ("layer1.0") whose statements stand together and touch no other part's
modules. Its statements become the `forward` of a class and its modules the class's `__init__`, in which the integers
that differ between the parts are arguments; the statements themselves shrink to a call. Parts are alike when the two
texts are equal.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from .code import Code, Member, Variable, call, code
from .layout import INDENT, statement
from .members import Container, Leaf, Members, Path
from .names import RESERVED, class_name, unused
from .program import Assign, Block, members_in, name_variables, render, tidy, uses
from .rolling import Item, Line, common, flat, lines, roll, shortened

MOST_RESULTS = 3
NUMBER = re.compile(r'(?<![\w.\-"])\d+(?![\w."])')
CONVOLUTION = re.compile(r"(nn\.Conv\dd\()((?:[^()]|\([^()]*\))*)\)")
STRIDE = ", stride=1"
ROLES = {
    "Conv": ("in_channels", "channels", "kernel_size"),
    "Linear": ("in_features", "features"),
    "BatchNorm": ("channels",),
    "LayerNorm": ("features",),
}
"""What the positional arguments of modules are called."""


@dataclass
class Part:
    """One numbered part: where it stands, its statements, and the two texts that decide what it is like."""

    path: Path
    first: int
    last: int
    inputs: list[Variable]
    outputs: list[Variable]
    parameters: list[str]
    body: list[Item]
    result: str
    made: str
    numbers: list[int]

    @property
    def key(self) -> tuple[str, ...]:
        return (*self.parameters, *(flat(item) for item in self.body), self.result, self.made)


def extract(
    block: Block, members: Members, arguments: Sequence[Variable], sizes: Collection[Variable], title: str
) -> list[str]:
    """Moves repeated parts into classes, whose lines are given; `arguments` are those of the network."""
    groups: dict[tuple[str, ...], list[Part]] = {}
    for part in _parts(block, members, arguments, sizes):
        groups.setdefault(part.key, []).append(part)
    text: list[str] = []
    taken = {title, *RESERVED}
    chosen: list[tuple[Part, Code]] = []
    for parts in groups.values():
        if len(parts) < 2:
            continue
        name = unused(_class_name(parts[0].path), taken)
        taken.add(name)
        columns = _arguments(parts)
        text += ["", "", *_class(name, parts, columns, sizes)]
        for part in parts:
            given = {n: part.numbers[c[0]] for n, c in columns.items()}
            plain = [v for n, v in given.items() if n not in KEYWORDS]
            chosen.append((part, call(name, *plain, **{n: v for n, v in given.items() if n in KEYWORDS})))
    for part, value in sorted(chosen, key=lambda pair: -pair[0].first):
        member = Member(part.path[-1])
        _parent(members.root, part.path).children[part.path[-1]] = Leaf(member, value, is_module=True)
        for variable in (*part.inputs, *part.outputs):
            variable.generic = variable.generic or variable not in {*arguments, *sizes, *_shared(chosen)}
        found = Assign(part.outputs, call(member, *part.inputs), "", ".".join(part.path))
        block.statements[part.first : part.last + 1] = [found]
    return text


KEYWORDS = frozenset({"stride", "padding", "dilation", "groups", "kernel_size", "eps"})


def _shared(chosen: Sequence[tuple[Part, Code]]) -> set[Variable]:
    """What several parts read, such as a mask."""
    counts = Counter(v for part, _ in chosen for v in part.inputs)
    return {v for v, count in counts.items() if count > 1}


def _parent(root: Container, path: Path) -> Container:
    node = root
    for name in path[:-1]:
        child = node.children[name]
        assert isinstance(child, Container)
        node = child
    return node


# Finding parts


def _parts(block: Block, members: Members, arguments: Sequence[Variable], sizes: Collection[Variable]) -> list[Part]:
    places = dict(_places(members.root, ()))
    spans: dict[Path, tuple[int, int]] = {}
    for index, item in enumerate(block.statements):
        scope = item.scope if isinstance(item, Assign) else ()
        owner = next((scope[:n] for n in range(1, len(scope) + 1) if scope[:n] in places), None)
        if owner is not None:
            spans[owner] = (spans.get(owner, (index, index))[0], index)
    apart = [p for p, (a, b) in spans.items() if all(q == p or b < c or d < a for q, (c, d) in spans.items()) and b > a]
    readers = Counter(v for p in apart for v in set(_inputs(block, *spans[p])))
    tied = {m for tie in members.ties for m in (tie[0], tie[2])} | {m for _, m in members.aliases}
    found = [_part(block, members, p, places[p], spans[p], {*arguments, *sizes}, readers, tied) for p in apart]
    return [p for p in found if p is not None]


def _places(node: Container, path: Path) -> list[tuple[Path, Container]]:
    """The outermost containers of named members that have a number for a name."""
    found: list[tuple[Path, Container]] = []
    for name, child in node.children.items():
        if isinstance(child, Container):
            here = (*path, name)
            found += [(here, child)] if name.isdigit() and child.kind == "block" else _places(child, here)
    return found


def _inputs(block: Block, first: int, last: int) -> list[Variable]:
    """What statements read and others define, in the order of first use."""
    region = block.statements[first : last + 1]
    defined = {t for item in region if isinstance(item, Assign) for t in item.targets}
    return [v for v in dict.fromkeys(v for item in region for v in uses(item)) if v not in defined]


def _part(
    block: Block,
    members: Members,
    path: Path,
    container: Container,
    span: tuple[int, int],
    fixed: Collection[Variable],
    readers: Mapping[Variable, int],
    tied: Collection[Member],
) -> Part | None:
    """The part at a path; None where its statements do more than a class of its own could."""
    first, last = span
    region = [item for item in block.statements[first : last + 1] if isinstance(item, Assign)]
    inside = members.names_in(container)
    around = Block([*block.statements[:first], *block.statements[last + 1 :]], block.results)
    touched = {m for m in members_in(Block([*region])) if m not in inside}
    if len(region) <= last - first or touched or (members_in(around) | set(tied)) & inside.keys():
        return None
    read = set(uses(around))
    inputs, outputs = _inputs(block, first, last), [t for item in region for t in item.targets if t in read]
    if not 0 < len(outputs) <= MOST_RESULTS or not inputs:
        return None
    keeps = {v for v in inputs if v in fixed or readers[v] > 1}
    local = {v: v if v in keeps else Variable(v.hint, v.note, generic=True) for v in inputs}
    local |= {v: Variable(v.hint, v.note, generic=True) for v in outputs}
    body = Block([_renamed(item, local) for item in region], [code(local[v]) for v in outputs])
    tidy(body)
    names = {**name_variables(body, [local[v] for v in inputs]), **inside}
    lists, taken = members.lists_in(container), set(names.values())
    items = shortened(roll(render(body, names), lists, taken), lists, taken)
    made = "\n".join(_with_strides(members.registered(name, child)) for name, child in container.children.items())
    return Part(
        path, first, last, inputs, outputs, [names[local[v]] for v in inputs], items,
        ", ".join(r.render(names) for r in body.results),
        NUMBER.sub("\0", made), [int(n) for n in NUMBER.findall(made)],
    )  # fmt: skip


def _renamed(item: Assign, local: Mapping[Variable, Variable]) -> Assign:
    value = item.value
    for old in set(value.variables()) & local.keys():
        if local[old] is not old:
            value = value.substitute(old, code(local[old]))
    return Assign([local.get(t, t) for t in item.targets], value)


def _with_strides(text: str) -> str:
    """Convolutions with their stride, which is what most often differs between parts."""

    def explicit(found: re.Match[str]) -> str:
        inner = found.group(2)
        if "stride=" in inner:
            return found.group(0)
        position = next((m.start() for m in re.finditer(r", \w+=", inner)), len(inner))
        return f"{found.group(1)}{inner[:position]}{STRIDE}{inner[position:]})"

    return CONVOLUTION.sub(explicit, text)


# Writing classes


def _class_name(path: Path) -> str:
    """layer.3 -> Layer, layer1.0 -> Layer1Block without its number, features.2 -> FeaturesBlock."""
    stem = next((p for p in reversed(path) if not p.isdigit()), "Part")
    plain = re.sub(r"[_\d]+$", "", stem)
    return class_name(plain if plain in ("layer", "stage") and plain == stem else f"{plain.removesuffix('s')}_block")


def _arguments(parts: Sequence[Part]) -> dict[str, list[int]]:
    """The positions of the numbers that differ, by the name of the argument that stands for them."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for position in range(len(parts[0].numbers)):
        column = tuple(p.numbers[position] for p in parts)
        if len(set(column)) > 1:
            groups.setdefault(column, []).append(position)
    pieces = parts[0].made.split("\0")
    found: dict[str, list[int]] = {}
    for positions in groups.values():
        found[unused(_role("\0".join(pieces[: positions[0] + 1])), {*found, *RESERVED})] = positions
    return dict(sorted(found.items(), key=lambda item: re.sub(r"[_\d]+$", "", item[0]) in KEYWORDS))


def _role(before: str) -> str:
    """What a number is called, by the text in front of it."""
    keyword = re.search(r"(\w+)=$", before)
    if keyword:
        return keyword.group(1)
    positional = re.search(r"nn\.([A-Za-z]+)\d?d?\(([^()]*)$", before)
    roles = ROLES.get(positional.group(1), ()) if positional else ()
    index = positional.group(2).count(",") if positional else 0
    return roles[index] if index < len(roles) else "size"


def _class(
    name: str, parts: Sequence[Part], columns: Mapping[str, Sequence[int]], sizes: Collection[Variable]
) -> list[str]:
    first = parts[0]
    shown = [str(n) for n in first.numbers]
    for argument, positions in columns.items():
        for position in positions:
            shown[position] = argument
    pieces = first.made.split("\0")
    made = "".join(a + b for a, b in zip(pieces, [*shown, ""], strict=True)).replace(f"{STRIDE},", ",")
    body = list(first.body)
    for part in parts[1:]:
        body = [common(a, b) for a, b in zip(body, part.body, strict=True)]
    body = [replace(item, heading="") if isinstance(item, Line) else item for item in body]
    kinds = ["int" if v in sizes else "Tensor" for v in first.inputs]
    given = [f"{p}: {k}" for p, k in zip(first.parameters, kinds, strict=True)]
    count = len(first.outputs)
    returned = "Tensor" if count == 1 else f"tuple[{', '.join(['Tensor'] * count)}]"
    return [
        f"class {name}(nn.Module):",
        f'{INDENT}"""{len(parts)} parts of the network, the first of which is {".".join(first.path)}."""',
        "",
        *function("__init__", [f"{a}: int" for a in columns], "None"),
        *statement("super().__init__()", 2),
        *[line for text in made.replace(f"{STRIDE})", ")").split("\n") for line in statement(text, 2)],
        "",
        *function("forward", given, returned),
        *lines([*body, Line(f"return {first.result}")], 2),
    ]


def function(name: str, arguments: Sequence[str], returned: str) -> list[str]:
    """The header of a method, broken where it is too long."""
    line = f"    def {name}(self{''.join(', ' + a for a in arguments)}) -> {returned}:"
    if len(line) <= 100:
        return [line]
    inner = ", ".join(["self", *arguments])
    if len(inner) + 8 <= 100 and arguments:
        return [f"    def {name}(", f"        {inner}", f"    ) -> {returned}:"]
    return [f"    def {name}(", *[f"        {a}," for a in ["self", *arguments]], f"    ) -> {returned}:"]
