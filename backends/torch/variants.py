"""Parts of one class that differ in what is there and what is not: squeeze and excitation, a projection, a shortcut.

Their texts become one text in which some pieces are optional. A module that is missing in some parts passes its operand
on there; an item of an `nn.Sequential` is left out; a shortcut is not added.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher

from .layout import split_items
from .rolling import Item, Line, flat

ITEM, CHILD, END = "\x02", "\x03", "\x04"
"""Around an optional item of a Sequential or an optional module; a letter for its number follows the first."""
FIRST = 0xE000
MOST_OPTIONS = 3

Cut = Callable[[str], "tuple[list[str], list[tuple[str, str]]]"]


@dataclass
class Variant:
    """How one kind of part is made and what it does: texts of its modules, items of those that are `sequences`, its
    statements and result, and which operand is added to that."""

    parameters: list[str]
    modules: dict[str, list[str]]
    sequences: set[str]
    body: list[str]
    result: str
    shortcut: str = ""


@dataclass
class Option:
    """An optional piece: what it could be called, and whether each part has it; `forward` asks for a `shortcut`."""

    name: str
    present: list[bool] = field(default_factory=list[bool])
    shortcut: bool = False


@dataclass
class Form:
    """The common form: per part its tokens, "" where a piece is missing, and the texts that all have."""

    made: str
    body: list[Item]
    result: str
    tokens: list[list[str]]
    options: list[Option]


SEQUENCE = re.compile(r"self\.(\w+) = nn\.Sequential\((?!OrderedDict\()(.*)\)")
MODULE = re.compile(r"self\.(\w+) = (.*)")


def parsed(made: str, body: Sequence[Item], result: str, parameters: Sequence[str]) -> Variant | None:
    """A part's texts taken apart; None for what is no list of modules."""
    modules: dict[str, list[str]] = {}
    sequences: set[str] = set()
    for line in made.split("\n"):
        sequence, module = SEQUENCE.fullmatch(line), MODULE.fullmatch(line)
        items = list(split_items(sequence.group(2))) if sequence is not None else []
        if sequence is not None and items and not any(i.startswith("*") for i in items):
            modules[sequence.group(1)] = items
            sequences.add(sequence.group(1))
        elif module is not None:
            modules[module.group(1)] = [module.group(2)]
        else:
            return None
    if not all(isinstance(item, Line) for item in body):
        return None
    variant = Variant(list(parameters), modules, sequences, [flat(i) for i in body], result)
    for operand in parameters:
        for pattern in (rf"(.+) \+ {operand}", rf"{operand} \+ (.+)"):
            found = re.fullmatch(pattern, result)
            if found is not None and re.fullmatch(r"self\.\w+\(\w+\)", found.group(1)):
                variant.result, variant.shortcut = found.group(1), operand
    return variant


def unified(parts: Sequence[tuple[str, list[Item], str, list[str]]], cut: Cut) -> Form | None:
    """One form for parts, each given by its `made`, body, result and parameters; None where there is none."""
    variants = [parsed(*part) for part in parts]
    known = [v for v in variants if v is not None]
    if len(known) != len(parts) or len({tuple(v.parameters) for v in known}) > 1:
        return None

    def shape(text: str) -> str:
        return "\0".join(cut(text)[0]) + "".join(kind for _, kind in cut(text)[1])

    names = merged_all([list(v.modules) for v in known])
    if any(len({n in v.sequences for v in known if n in v.modules}) > 1 for n in names):
        return None
    reference = max(known, key=lambda v: (len(v.modules), bool(v.shortcut)))
    if set(reference.modules) != set(names) or not all(same_work(reference, v, shape) for v in known):
        return None
    shortcuts = {v.shortcut for v in known if v.shortcut}
    if len(shortcuts) > 1:
        return None
    form = Form("", [], reference.result, [[] for _ in known], [])
    lines: list[str] = []
    for name in names:
        lines.append(written(form, name, known, shape, cut))
    form.made = "\n".join(lines)
    form.body = [Line(text) for text in reference.body]
    for row, v in enumerate(known):
        form.tokens[row] += [t for text in (*v.body, v.result) for t, _ in cut(text)[1]]
    if shortcuts:
        add_shortcut(form, known, shortcuts.pop(), reference.parameters)
    return form if len(form.options) <= MOST_OPTIONS else None


def same_work(reference: Variant, variant: Variant, shape: Callable[[str], str]) -> bool:
    """Whether a variant computes what the reference does, but for modules that it lacks."""
    missing = "|".join(name for name in reference.modules if name not in variant.modules)
    texts = [*reference.body, reference.result]
    if missing:
        texts = [re.sub(rf"self\.(?:{missing})\((\w+)\)", r"\1", text) for text in texts]
        if any(re.search(rf"self\.(?:{missing})\b", text) for text in texts):
            return False
    return [shape(t) for t in texts] == [shape(t) for t in (*variant.body, variant.result)]


def written(form: Form, name: str, variants: Sequence[Variant], shape: Callable[[str], str], cut: Cut) -> str:
    """The line that makes a module, with its optional pieces marked; tokens and options go into the form."""
    everywhere = all(name in v.modules for v in variants)
    sequence = everywhere and name in variants[0].sequences
    items = [v.modules.get(name, []) for v in variants]
    if not sequence:
        items = [[call_of(v, name)] if name in v.modules else [] for v in variants]
    shapes = merged_all([[shape(t) for t in one] for one in items])
    pieces: list[str] = []
    places = [aligned([shape(t) for t in one], shapes) for one in items]
    for place in range(len(shapes)):
        texts = [
            one[at] if (at := found[place]) is not None else None for one, found in zip(items, places, strict=True)
        ]
        sample = next(t for t in texts if t is not None)
        for row, text in enumerate(texts):
            form.tokens[row] += [""] * len(cut(sample)[1]) if text is None else [t for t, _ in cut(text)[1]]
        if None in texts:
            mark = chr(FIRST + len(form.options))
            form.options.append(Option(called(sample) if sequence else name, [t is not None for t in texts]))
            sample = f"{ITEM if sequence else CHILD}{mark}{sample}{END}"
        pieces.append(sample)
    return f"self.{name} = nn.Sequential({', '.join(pieces)})" if sequence else f"self.{name} = {pieces[0]}"


def call_of(variant: Variant, name: str) -> str:
    made = ", ".join(variant.modules[name])
    return f"nn.Sequential({made})" if name in variant.sequences else made


def called(text: str) -> str:
    """SqueezeExcitation(...) -> squeeze."""
    words = re.findall(r"[A-Z][a-z]+", text.partition("(")[0])
    return words[0].lower() if words else "extra"


def aligned(shapes: Sequence[str], union: Sequence[str]) -> list[int | None]:
    """For each place of the union the index of what stands there, counted from the end; None where nothing does."""
    places: list[int | None] = [None] * len(union)
    index = len(shapes) - 1
    for place in range(len(union) - 1, -1, -1):
        if index >= 0 and union[place] == shapes[index]:
            places[place] = index
            index -= 1
    assert index < 0, "a union has each of its parts in order"
    return places


def merged_all(sequences: Sequence[Sequence[str]]) -> list[str]:
    """A sequence that has each of them inside, in order."""
    union: list[str] = []
    for one in sorted(sequences, key=len, reverse=True):
        a, b = union[::-1], list(one)[::-1]
        joined: list[str] = []
        for kind, i, j, k, m in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
            joined += a[i:j] if kind == "equal" else [*a[i:j], *b[k:m]]
        union = joined[::-1]
    return union


def add_shortcut(form: Form, variants: Sequence[Variant], operand: str, parameters: Sequence[str]) -> None:
    """The operand is added to the result of those that have it added."""
    present = [bool(v.shortcut) for v in variants]
    if all(present):
        form.result = f"{form.result} + {operand}"
        return
    name = next(n for n in ("y", "z", "u", "v") if n not in parameters)
    form.body.append(Line(f"{name} = {form.result}"))
    form.result = f"{name} + {operand} if self.shortcut else {name}"
    form.options.append(Option("shortcut", present, shortcut=True))


def resolved(text: str, conditions: Sequence[str]) -> str:
    """A text with its optional pieces as conditions."""

    def item(found: re.Match[str]) -> str:
        return f"*([{found.group(2)}] if {conditions[ord(found.group(1)) - FIRST]} else [])"

    def child(found: re.Match[str]) -> str:
        return f"{found.group(2)} if {conditions[ord(found.group(1)) - FIRST]} else nn.Identity()"

    text = re.sub(f"{ITEM}(.)([^{END}]*){END}", item, text)
    return re.sub(f"{CHILD}(.)([^{END}]*){END}", child, text)


def without_notes(items: Sequence[Item]) -> list[Item]:
    return [replace(i, note="") if isinstance(i, Line) else i for i in items]
