"""Parts of a model that may become classes: their two texts, cut at what may differ between alike ones."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .code import Code
from .layout import WIDTH
from .regions import Region
from .rolling import Item, flat

TOKEN = re.compile(
    r'"(?:[^"\\]|\\.)*"|\[\d+\]'
    r"|(?P<number>(?<![\w.])\d+(?:\.\d+)?(?:e-?\d+)?(?![\w.]))"
    r"|(?P<function>\b(?:F\.(?:relu6?|hardswish|hardsigmoid|silu|gelu|mish|elu)|torch\.(?:sigmoid|tanh))(?=\())"
    r"|(?P<part>(?<![\w.])[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*(?=\())"
    r"|(?P<module>\bnn\.(?:ReLU6?|Hardswish|Hardsigmoid|SiLU|GELU|Mish|ELU|Sigmoid|Tanh|Identity)"
    r"(?=\((?:inplace=True)?\)|[,)]))"
)
"""What may differ between alike parts. Strings and indices in brackets are read over."""

OWN = "part:"
"""In front of the name that classes of several forms have in common, as the kind of a token."""


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
