"""One class for alike parts: what differs between them is an argument of `__init__`, or computed from one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from .code import Code, Variable, call, raw
from .layout import INDENT, WIDTH, statement
from .names import MODULE_ATTRIBUTES, RESERVED, unused
from .parts import OWN, TOKEN, Part, cut
from .rolling import Item, Line, common, flat, lines
from .signatures import DEFAULTS, Signatures, unstated
from .variants import Option, resolved

ROLES = {
    "Conv": ("in_channels", "channels", "kernel_size"),
    "Linear": ("in_features", "features"),
    "BatchNorm": ("channels",),
    "LayerNorm": ("features",),
    "RMSNorm": ("features",),
}
"""What the positional arguments of modules are called."""

KEYWORDS = frozenset({"stride", "padding", "dilation", "groups", "kernel_size", "eps", "activation"})

KINDS = {"number": "int", "function": "Callable[..., Tensor]", "module": "type[nn.Module]"}


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


def written(
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
