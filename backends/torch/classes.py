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
from dataclasses import dataclass, field, replace

from .chains import sequential
from .code import Code, Member, Variable, call, code, raw
from .layout import INDENT, WIDTH, split_items, statement
from .members import Container, Leaf, Members, Path
from .names import MODULE_ATTRIBUTES, RESERVED, class_name, unused
from .program import Assign, Block, name_variables, render, tidy
from .regions import Region, Regions
from .rolling import Item, Line, common, flat, lines, returned, roll, roll_series, shortened
from .variants import Option, resolved, unified

TOKEN = re.compile(
    r'"(?:[^"\\]|\\.)*"|\[\d+\]'
    r"|(?P<number>(?<![\w.])\d+(?:\.\d+)?(?:e-?\d+)?(?![\w.]))"
    r"|(?P<function>\b(?:F\.(?:relu6?|hardswish|hardsigmoid|silu|gelu|mish|elu)|torch\.(?:sigmoid|tanh))(?=\())"
    r"|(?P<part>(?<![\w.])[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*(?=\())"
    r"|(?P<module>\bnn\.(?:ReLU6?|Hardswish|Hardsigmoid|SiLU|GELU|Mish|ELU|Sigmoid|Tanh|Identity)"
    r"(?=\((?:inplace=True)?\)|[,)]))"
)
"""What may differ between alike parts. Strings and indices in brackets are read over."""

CALL = re.compile(r"(?<![\w.])((?:nn\.)?[A-Za-z]\w*)\(")
DEFAULTS = {"stride": "1", "padding": "0", "groups": "1"}
"""What convolutions in parts state even where it is the default, since it is what most often differs."""
ROLES = {
    "Conv": ("in_channels", "channels", "kernel_size"),
    "Linear": ("in_features", "features"),
    "BatchNorm": ("channels",),
    "LayerNorm": ("features",),
    "RMSNorm": ("features",),
}
"""What the positional arguments of modules are called."""

KEYWORDS = frozenset({"stride", "padding", "dilation", "groups", "kernel_size", "eps", "activation"})
MOST_ROUNDS = 8
OFTEN = 4
"""From how many chains on that had a class of their own they get one."""

OWN = "part:"
"""In front of the name that classes of several forms have in common, as the kind of a token."""

KINDS = {"number": "int", "function": "Callable[..., Tensor]", "module": "type[nn.Module]"}


@dataclass
class Part:
    """One part: its region, its statements, and the two texts that decide what it is like."""

    region: Region
    parameters: list[str]
    body: list[Item]
    result: str
    made: str
    chain: Code | None = None
    original: Part | None = None

    texts: list[str] = field(init=False)
    tokens: list[str] = field(init=False)
    kinds: list[str] = field(init=False)

    def __post_init__(self) -> None:
        """Cuts the texts at what may differ: first `__init__`, then `forward`."""
        self.texts, self.tokens, self.kinds = [], [], []
        for text in (self.made, *(flat(item) for item in self.body), self.result):
            plain, found = cut(text)
            self.texts.append("\0".join(plain))
            self.tokens += [token for token, _ in found]
            self.kinds += [kind for _, kind in found]

    @property
    def is_chain(self) -> bool:
        """True for one that is an `nn.Sequential` and has no `forward` of its own."""
        return not self.result

    @property
    def is_plain(self) -> bool:
        """True for one module under another name, which is no reason for a class."""
        alone = not self.is_chain and not self.body and "\n" not in self.made and len(self.made) < WIDTH // 2
        return alone and re.fullmatch(r"self\.\w+\((?:\w+(?:, )?)*\)", self.result) is not None

    @property
    def key(self) -> tuple[str, ...]:
        return (*self.parameters, "", *self.texts, *self.kinds)


def cut(text: str) -> tuple[list[str], list[tuple[str, str]]]:
    """The text between the tokens, and the tokens with their kinds."""
    plain, found, position = list[str](), list[tuple[str, str]](), 0
    for match in TOKEN.finditer(text):
        if match.lastgroup is not None:
            plain.append(text[position : match.start()])
            found.append((match.group(), kind_of(match)))
            position = match.end()
    return [*plain, text[position:]], found


def kind_of(match: re.Match[str]) -> str:
    kind = str(match.lastgroup)
    return OWN + re.sub(r"\d+$", "", match.group()) if kind == "part" else kind


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

    def own_class(self, path: Path) -> str:
        """The class that a module had, where it was no general one."""
        origin = self.origins.get(".".join(path), "")
        return "" if origin in PLAIN_CLASSES else origin

    def kind(self, path: Path) -> str:
        """What parts that may have one class have in common: their class in the original, else the list they are in."""
        if self.origins:
            return self.own_class(path)
        return ".".join(path[:-1]) if path[-1].isdigit() and len(path) > 1 else ""

    def write(self, parts: Sequence[Part], shared: Collection[Variable], options: Sequence[Option] = ()) -> None:
        name = unused(self.name(parts[0].region.path), self.taken)
        self.taken.add(name)
        columns = Columns(parts, options)
        self.text += ["", "", *_class(name, parts, columns, self.sizes, self.signatures)]
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


Signatures = Mapping[str, Mapping[str, str]]
"""The options of modules and classes with their defaults."""


def stated(text: str, signatures: Signatures) -> str:
    """Convolutions and classes of the file with the options that most often differ between parts."""
    return respelled(
        text, signatures, lambda plain, options, usual: [*plain, *(f"{k}={v}" for k, v in {**usual, **options}.items())]
    )


def unstated(text: str, signatures: Signatures) -> str:
    """The same without options that have their defaults."""
    return respelled(
        text,
        signatures,
        lambda plain, options, usual: [*plain, *(f"{k}={v}" for k, v in options.items() if usual.get(k) != v)],
    )


def respelled(
    text: str,
    signatures: Signatures,
    spell: Callable[[list[str], dict[str, str], Mapping[str, str]], list[str]],
) -> str:
    """A text in which calls of what has a signature get other arguments."""
    found = CALL.search(text)
    while found is not None and found.group(1) not in signatures:
        found = CALL.search(text, found.end())
    if found is None:
        return text
    depth, end = 1, found.end()
    while depth:
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        end += 1
    items = [respelled(i, signatures, spell) for i in split_items(text[found.end() : end - 1])]
    options = dict(i.split("=", 1) for i in items if re.match(r"\w+=", i))
    plain = [i for i in items if not re.match(r"\w+=", i)]
    made = ", ".join(spell(plain, options, signatures[found.group(1)]))
    return f"{text[: found.end()]}{made}){respelled(text[end:], signatures, spell)}"


# Writing classes


class Columns:
    """What differs between alike parts: a column holds one token of each.

    Equal columns are one argument; one that is a fixed multiple or fraction of another is computed from it. `arguments`
    are columns by name, `shown` what stands in the place of a token, `attributes` what `forward` reads.
    """

    def __init__(self, parts: Sequence[Part], options: Sequence[Option] = ()) -> None:
        first = parts[0]
        self.shown = list(first.tokens)
        self.arguments: dict[str, tuple[str, ...]] = {}
        self.attributes: dict[str, str] = {}
        self.kinds: dict[str, str] = {}
        self.optional: set[str] = set()
        self.children = set(first.region.container.children)
        inside = len(cut(first.made)[1])
        known: dict[tuple[str, ...], str] = {}
        befores = contexts(first)
        columns = [tuple(p.tokens[position] for p in parts) for position in range(len(first.tokens))]
        for position in sorted(range(len(columns)), key=lambda p: "" in columns[p]):
            column = columns[position]
            there = {token for token in column if token}
            if len(there) == 1:
                self.shown[position] = there.pop()
                continue
            if column not in known and "" in column:
                same = next((shown for other, shown in known.items() if agree(column, other)), None)
                known |= {column: same} if same is not None else {}
            if column not in known:
                wanted = role(befores[position])
                known[column] = self.derived(column, wanted) or self.argument(column, wanted, first.kinds[position])
            self.shown[position] = known[column]
        for position in range(inside, len(first.tokens)):
            if self.shown[position] != first.tokens[position]:
                self.shown[position] = f"self.{self.attribute(self.shown[position], befores[position])}"
        self.conditions = [self.condition(option) for option in options]
        for name, column in self.arguments.items():
            often = Counter(t for t in column if t).most_common(1)[0][0]
            self.arguments[name] = tuple(t or often for t in column)
        order = sorted(self.arguments, key=self.by_name)
        self.arguments = {name: self.arguments[name] for name in order}
        often = {n: Counter(c).most_common(1)[0] for n, c in self.arguments.items() if self.by_name(n)}
        self.defaults = {n: DEFAULTS.get(n, token) for n, (token, count) in often.items() if 2 * count >= len(parts)}
        self.defaults |= dict.fromkeys(self.optional, "0")

    def condition(self, option: Option) -> str:
        """What says in `__init__` whether an optional piece is there: a number that only it needs, else a flag."""
        for name, column in self.arguments.items():
            if not option.shortcut and [bool(t) for t in column] == option.present and self.kinds[name] == "int":
                return self.renamed(name, unused(option.name, {*self.arguments, *RESERVED}))
        name = unused(option.name, {*self.arguments, *RESERVED})
        self.arguments[name] = tuple(str(there) for there in option.present)
        self.kinds[name] = "bool"
        if option.shortcut:
            self.attributes["shortcut"] = name
        return name

    def renamed(self, old: str, new: str) -> str:
        """Calls a number by what it is for; it is 0 where that is not there."""
        self.arguments[new] = tuple(t or "0" for t in self.arguments.pop(old))
        self.kinds[new] = self.kinds.pop(old)
        self.optional.add(new)
        word = re.compile(rf"(?<![\w.]){old}(?!\w)")
        self.shown = [word.sub(new, text) for text in self.shown]
        self.attributes = {n: word.sub(new, text) for n, text in self.attributes.items()}
        return new

    def by_name(self, argument: str) -> bool:
        """True for an argument that calls state with its name."""
        named = argument in self.optional or self.kinds[argument] in ("type[nn.Module]", "bool")
        return is_keyword(argument) or named

    @property
    def declared(self) -> list[str]:
        """The arguments of `__init__`."""
        given = [(name, self.kinds[name], self.defaults.get(name)) for name in self.arguments]
        given.sort(key=lambda item: item[2] is not None)
        return [
            f"{name}: {kind}" if default is None else f"{name}: {kind} = {default}" for name, kind, default in given
        ]

    def call(self, name: str, row: int) -> Code:
        """The call that makes one of the parts."""
        given = {n: raw(c[row]) for n, c in self.arguments.items() if c[row] != self.defaults.get(n)}
        plain = [v for n, v in given.items() if not self.by_name(n)]
        return call(name, *plain, **{n: v for n, v in given.items() if self.by_name(n)})

    def argument(self, column: tuple[str, ...], wanted: str, kind: str) -> str:
        own = kind.startswith(OWN)
        stem = wanted if kind == "number" else last_word(kind) if own else "activation"
        name = unused(stem, {*self.arguments, *self.children, *RESERVED})
        self.arguments[name] = column
        fractional = any(token and not token.isdigit() for token in column)
        self.kinds[name] = "float" if kind == "number" and fractional else "type[nn.Module]" if own else KINDS[kind]
        return name

    def derived(self, column: tuple[str, ...], wanted: str) -> str | None:
        """What computes the numbers from another argument: widths from widths, padding from the size of a kernel."""
        if not all(token.isdigit() for token in column if token) or (is_keyword(wanted) and wanted != "padding"):
            return None
        for name, other in self.arguments.items():
            if not all(token.isdigit() for token in other):
                continue
            pairs = [(int(a), int(b)) for a, b in zip(column, other, strict=True) if a]
            if is_keyword(wanted) or is_keyword(name):
                if wanted == "padding" and name.startswith("kernel_size") and all(a == b // 2 for a, b in pairs):
                    return f"{name} // 2"
                continue
            if all(b and a % b == 0 and a // b == pairs[0][0] // pairs[0][1] for a, b in pairs):
                return f"{pairs[0][0] // pairs[0][1]} * {name}"
            if all(a and b % a == 0 and b // a == pairs[0][1] // pairs[0][0] for a, b in pairs):
                return f"{name} // {pairs[0][1] // pairs[0][0]}"
        return None

    def attribute(self, expression: str, before: str) -> str:
        """The attribute that holds an argument, or what is computed from one."""
        for name, value in self.attributes.items():
            if value == expression:
                return name
        taken = {*self.attributes, *self.children, *RESERVED, *MODULE_ATTRIBUTES}
        wanted = expression if expression in self.arguments else role(before)
        name = unused(wanted, taken if expression in self.arguments else taken | self.arguments.keys())
        self.attributes[name] = expression
        return name


def agree(column: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """True where another column has the same tokens wherever this one has any."""
    return all(a == b for a, b in zip(column, other, strict=True) if a)


def last_word(kind: str) -> str:
    """ShiftedWindowAttention -> attention."""
    return re.findall(r"[A-Z][a-z0-9]*", kind)[-1].lower()


def contexts(part: Part) -> list[str]:
    """The text in front of each token, on its line."""
    found: list[str] = []
    for text in (part.made, *(flat(item) for item in part.body), part.result):
        for match in TOKEN.finditer(text):
            if match.lastgroup is not None:
                found.append(text[: match.start()])
    return found


def is_keyword(name: str) -> bool:
    return re.sub(r"[_\d]+$", "", name) in KEYWORDS


def role(before: str) -> str:
    """What a number is called, by the text in front of it."""
    keyword = re.search(r"(\w+)=(?:\(?[^()=]*)$", before)
    if keyword:
        return keyword.group(1)
    positional = re.search(r"nn\.([A-Za-z]+)\d?d?\(([^()]*)$", before)
    roles = ROLES.get(positional.group(1), ()) if positional else ()
    index = positional.group(2).count(",") if positional else 0
    if index < len(roles):
        return roles[index]
    own = re.search(r"\b([A-Z]\w*)\(([^()]*)$", before)
    return "width" if own or before.endswith((".split(", "zeros(")) else "size"


def _class(
    name: str, parts: Sequence[Part], columns: Columns, sizes: Collection[Variable], signatures: Signatures
) -> list[str]:
    first = parts[0]
    shown = iter(columns.shown)
    made = resolved(unstated(filled(first.made, shown), signatures), columns.conditions)
    body = list(first.body)
    for part in parts[1:]:
        body = [common(a, b) for a, b in zip(body, part.body, strict=True)]
    body = [retold(item, shown) for item in body]
    result = spaced(filled(first.result, shown))
    kinds = ["int" if v in sizes else "Tensor" for v in first.region.inputs]
    given = [f"{p}: {k}" for p, k in zip(first.parameters, kinds, strict=not first.is_chain)]
    count = len(first.region.outputs)
    kind = "Tensor" if count == 1 else f"tuple[{', '.join(['Tensor'] * count)}]"
    return [
        f"class {name}({'nn.Sequential' if first.is_chain else 'nn.Module'}):",
        summary(parts),
        "",
        *function("__init__", columns.declared, "None"),
        *([] if first.is_chain else statement("super().__init__()", 2)),
        *[line for n, v in columns.attributes.items() for line in statement(f"self.{n} = {v}", 2)],
        *[line for text in made.split("\n") for line in statement(text, 2)],
        *([] if first.is_chain else ["", *function("forward", given, kind)]),
        *([] if first.is_chain else lines([*body, Line(f"return {result}")], 2)),
    ]


def summary(parts: Sequence[Part]) -> str:
    """The docstring of a class: what it stands for."""
    text = f'{INDENT}"""{len(parts)} parts of the network, the first of which is {".".join(parts[0].region.path)}."""'
    return text if len(text) <= WIDTH else f'{INDENT}"""{len(parts)} parts of the network."""'


def filled(text: str, shown: Iterator[str]) -> str:
    """A text with other tokens."""
    plain, found = cut(text)
    tokens = [next(shown) for _ in found]
    return "".join(a + b for a, b in zip(plain, [*tokens, ""], strict=True))


def retold(item: Item, shown: Iterator[str]) -> Item:
    """A statement with other tokens and without a heading."""
    if isinstance(item, Line):
        return replace(item, text=spaced(filled(item.text, shown)), heading="")
    header = filled(item.header, shown)
    return replace(item, header=header, body=tuple(retold(i, shown) for i in item.body), heading="")


def spaced(text: str) -> str:
    """With spaces around the colons of slices whose bounds are attributes, as the usual formatters write them."""

    def wide(found: re.Match[str]) -> str:
        before, low, high = found.groups()
        plain = "self." not in low + high
        return found.group() if plain else f"{before}{low + ' ' if low else ''}:{' ' + high if high else ''}"

    return re.sub(r"(\[|, )([\w.]*):([\w.]*)(?=[\],])", wide, text)


def function(name: str, arguments: Sequence[str], returned: str) -> list[str]:
    """The header of a method, broken where it is too long."""
    line = f"    def {name}(self{''.join(', ' + a for a in arguments)}) -> {returned}:"
    if len(line) <= 100:
        return [line]
    inner = ", ".join(["self", *arguments])
    if len(inner) + 8 <= 100 and arguments:
        return [f"    def {name}(", f"        {inner}", f"    ) -> {returned}:"]
    return [f"    def {name}(", *[f"        {a}," for a in ["self", *arguments]], f"    ) -> {returned}:"]
