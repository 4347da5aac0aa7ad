"""Reads the text form of a graph; see `printer` for what it looks like.

Two conveniences for people who write graphs by hand: `@w : f32[4,3] = random(7)` is a seeded normal tensor, and `@w :
f32[4,3]` alone is a placeholder for any contents.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import numpy as np

from ..attributes import KINDS, Attribute, EmptyList, TypeAttribute
from ..dims import Size, fresh, symbol
from ..dims import parse as parse_dim
from ..errors import InvalidModelError
from ..graph import Graph, Node, Value
from ..locations import NOWHERE, Loc
from ..tensors import Array, Dense, Placeholder, Tensor
from ..types import ANY, DType, MapType, OptionalType, SequenceType, SparseType, TensorType, Type

NAME = re.compile(r'"(?:[^"\\]|\\.)*"|[A-Za-z0-9_.$/\-]+')
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NUMBER = re.compile(r"[+-]?(?:nan|inf|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)")
SPACE = re.compile(r"(?:[ \t\r\n]+|# [^\n]*)*")
COMMENT = re.compile(r"[ \t]*# ([^\n]*)")
HASH = re.compile(r"#([0-9a-f]{32})")
CONTAINERS = {"seq": SequenceType, "optional": OptionalType, "sparse": SparseType}


def parse(text: str, constants: Mapping[str, Array | Tensor] | None = None) -> Graph:
    """A graph from its text. `constants` gives the numbers of declared constants by name.

    Raises InvalidModelError with the line and what was expected there.
    """
    return _Parser(text, constants or {}).top()


def parse_type(text: str) -> Type:
    """A type from text such as "f32[N,3]" or "seq<i64[]>"."""
    return _Parser(text, {}).type()


class _Parser:
    def __init__(self, text: str, constants: Mapping[str, Array | Tensor]) -> None:
        self.text, self.position, self.constants = text, 0, constants
        self.symbols: dict[str, Size] = {}
        self.declared: dict[str, Value] = {}

    # Scanning

    def fail(self, expected: str) -> InvalidModelError:
        line = self.text.count("\n", 0, self.position) + 1
        rest = self.text[self.position : self.position + 40].split("\n")[0]
        return InvalidModelError(
            "the text of a graph cannot be read", where=f"line {line}", why=f"expected {expected}, found {rest!r}"
        )

    def skip(self) -> None:
        found = SPACE.match(self.text, self.position)
        assert found is not None
        self.position = found.end()

    def peek(self, literal: str) -> bool:
        self.skip()
        return self.text.startswith(literal, self.position)

    def take(self, literal: str) -> bool:
        if not self.peek(literal):
            return False
        self.position += len(literal)
        return True

    def take_of_node(self, literal: str) -> bool:
        """As `take`, but a comment right here ends the node: it is its location."""
        return COMMENT.match(self.text, self.position) is None and self.take(literal)

    def need(self, literal: str) -> None:
        if not self.take(literal):
            raise self.fail(repr(literal))

    def match(self, pattern: re.Pattern[str], expected: str) -> str:
        self.skip()
        found = pattern.match(self.text, self.position)
        if found is None:
            raise self.fail(expected)
        self.position = found.end()
        return found.group(found.lastindex or 0)

    def name(self) -> str:
        found = self.match(NAME, "a name")
        return str(json.loads(found)) if found.startswith('"') else found

    # Types

    def resolve(self, name: str) -> Size:
        if name not in self.symbols:
            self.symbols[name] = fresh() if name.startswith("?") else symbol(name)
        return self.symbols[name]

    def bracketed(self) -> list[str]:
        self.need("[")
        parts, depth, start = list[str](), 0, self.position
        while self.position < len(self.text):
            ch = self.text[self.position]
            if ch == '"':
                self.match(NAME, "a name in quotes")
                continue
            if ch in ",]" and depth == 0:
                parts.append(self.text[start : self.position].strip())
                start = self.position + 1
                if ch == "]":
                    self.position += 1
                    return [p for p in parts if p]
            depth += {"(": 1, ")": -1}.get(ch, 0)
            self.position += 1
        raise self.fail("']'")

    def type(self) -> Type:
        if self.take("?"):
            return ANY
        word = self.match(WORD, "a type")
        if word in CONTAINERS:
            self.need("<")
            element = self.type()
            self.need(">")
            return CONTAINERS[word](element)
        if word == "map":
            self.need("<")
            key = DType.of_label(self.match(WORD, "a key type"))
            self.need(",")
            value = self.type()
            self.need(">")
            return MapType(key, value)
        try:
            dtype = DType.of_label(word)
        except ValueError as error:
            raise self.fail("a type") from error
        parts = self.bracketed()
        if parts == ["*"]:
            return TensorType(dtype, None)
        try:
            return TensorType(dtype, tuple(parse_dim(p, self.resolve) for p in parts))
        except ValueError as error:
            raise self.fail(f"sizes ({error})") from error

    def tensor_type(self) -> tuple[DType, tuple[int, ...]]:
        type_ = self.type()
        if not isinstance(type_, TensorType) or type_.static_shape is None:
            raise self.fail("a tensor type with known sizes")
        return type_.dtype, type_.static_shape

    # Constants

    def elements(self, dtype: DType, shape: tuple[int, ...], close: str) -> Dense:
        found: list[str | bool | int | float] = []
        while not self.take(close):
            found.append(self.element(dtype))
            self.take(",")
        try:
            return Dense(np.array(found, dtype.numpy).reshape(shape), dtype)
        except ValueError as error:
            raise self.fail(f"elements of {dtype.label}{list(shape)} ({error})") from error

    def element(self, dtype: DType) -> str | bool | int | float:
        if dtype is DType.STRING:
            return self.name()
        if dtype is DType.BOOL:
            return self.match(re.compile("true|false"), "true or false") == "true"
        number = self.match(NUMBER, "a number")
        return int(number) if dtype.is_integer else float(number)

    def contents(self, name: str, dtype: DType, shape: tuple[int, ...]) -> Tensor:
        given = self.constants.get(name)
        if given is None and self.take("="):
            if self.take("["):
                return self.elements(dtype, shape, "]")
            if self.take("random("):
                seed = int(self.match(NUMBER, "a seed"))
                self.need(")")
                return Dense(np.random.default_rng(seed).standard_normal(shape).astype(dtype.numpy), dtype)
            return Placeholder(dtype, shape, self.match(HASH, "elements, random(seed) or a hash"))
        if given is None:
            return Placeholder(dtype, shape)
        if self.take("="):
            self.match(HASH, "a hash")
        tensor = given if isinstance(given, Tensor) else Dense(np.asarray(given, dtype.numpy), dtype)
        if tensor.shape != shape or tensor.dtype is not dtype:
            raise self.fail(f"@{name} to be {dtype.label}{list(shape)} as declared; it was given as {tensor.type!r}")
        return tensor

    def attribute(self) -> Attribute:
        if self.take("["):
            items: list[Attribute] = []
            while not self.take("]"):
                items.append(self.attribute())
                self.take(",")
            return tuple(items)  # pyright: ignore[reportReturnType]  # one kind of element, as the printer wrote it
        if self.peek('"'):
            return self.name()
        for kind in KINDS:
            if self.take(kind + "[]"):
                return EmptyList(kind)
        if self.take("tensor "):
            dtype, shape = self.tensor_type()
            return self.contents("", dtype, shape)
        if self.take("bytes "):
            return bytes.fromhex(self.name())
        if self.take("type "):
            type_: TypeAttribute = self.type()  # pyright: ignore[reportAssignmentType]  # an attribute never holds "?"
            return type_
        number = self.match(NUMBER, "an attribute value")
        return int(number) if number.lstrip("+-").isdigit() else float(number)

    # Structure

    def top(self) -> Graph:
        graph = self.graph()
        self.skip()
        if self.position != len(self.text):
            raise self.fail("the end")
        return graph

    def graph(self) -> Graph:
        self.need("graph")
        graph = Graph(self.name() if self.take("@") else "")
        scope: dict[str, Value] = {}
        self.ranges_ahead()
        self.need("(")
        while not self.take(")"):
            self.need("%")
            name = self.name()
            self.need(":")
            scope[name] = value = graph.add_input(name, self.type())
            if self.peek("=") and isinstance(value.type, TensorType) and value.type.static_shape is not None:
                graph.defaults[value] = self.contents(name, value.type.dtype, value.type.static_shape)
            self.take(",")
        names = self.names()
        if self.take("where"):
            while not self.peek("{"):
                self.name()
                self.need("in")
                self.bracketed()
                self.take(",")
        self.need("{")
        while not self.take("return"):
            if self.peek("@"):
                self.declaration()
            else:
                self.node(graph, scope)
        results: list[Value] = []
        while not self.take("}"):
            operand = self.operand(scope)
            if operand is None:
                raise self.fail("a value")
            results.append(operand)
            self.take(",")
        graph.set_outputs(results, names)
        return graph

    def ranges_ahead(self) -> None:
        """Symbols take their ranges from the `where` clause, which stands after the types that use them."""
        head = self.text[self.position : self.text.find("{", self.position)]
        for name, low, high in re.findall(r'("(?:[^"\\]|\\.)*"|\??\w+) in \[(\d+),(\d*)\]', head):
            plain = str(json.loads(name)) if name.startswith('"') else name
            upper = int(high) if high else None
            self.symbols[plain] = fresh(int(low), upper) if plain.startswith("?") else symbol(plain, int(low), upper)

    def names(self) -> list[str]:
        self.need("->")
        self.need("(")
        names: list[str] = []
        while not self.take(")"):
            names.append(self.name())
            self.take(",")
        return names

    def declaration(self) -> None:
        self.need("@")
        name = self.name()
        self.need(":")
        dtype, shape = self.tensor_type()
        tensor = self.contents(name, dtype, shape)
        self.declared[name] = Value(name, tensor.type, const=tensor)

    def operand(self, scope: dict[str, Value]) -> Value | None:
        if self.take("_"):
            return None
        if self.take("%"):
            name = self.name()
            if name not in scope:
                raise self.fail(f"a value that is defined before; %{name} is not")
            return scope[name]
        if self.take("@"):
            name = self.name()
            if name not in self.declared:
                raise self.fail(f"a constant that is declared; @{name} is not")
            return self.declared[name]
        dtype, shape = self.tensor_type()
        self.need("{")
        tensor = self.elements(dtype, shape, "}")
        return Value("", tensor.type, const=tensor)

    def node(self, graph: Graph, scope: dict[str, Value]) -> None:
        results: list[str] = []
        while self.take("%"):
            results.append(self.name())
            self.take(",")
        if results:
            self.need("=")
        domain, op = "", self.name()
        if self.take("::"):
            domain, op = op, self.name()
        self.need("(")
        inputs: list[Value | None] = []
        while not self.take(")"):
            inputs.append(self.operand(scope))
            self.take(",")
        attrs: dict[str, Attribute] = {}
        if self.take("{"):
            while not self.take("}"):
                key = self.name()
                self.need("=")
                attrs[key] = self.attribute()
                self.take(",")
        captures = int(self.match(NUMBER, "a count")) if self.take_of_node("captures") else 0
        types: list[Type] = []
        if results and self.take_of_node(":"):
            types = [self.type()]
            while self.take_of_node(","):
                types.append(self.type())
        types += [ANY] * (len(results) - len(types))
        outputs = [Value(n, t) for n, t in zip(results, types, strict=True)]
        regions = self.regions() if self.take_of_node("regions") else {}
        graph.insert(
            Node(op, inputs, attrs, outputs, domain=domain, regions=regions, captures=captures, loc=self.location())
        )
        scope.update(zip(results, outputs, strict=True))

    def regions(self) -> dict[str, Graph]:
        self.need("{")
        regions: dict[str, Graph] = {}
        while not self.take("}"):
            key = self.name()
            self.need("=")
            regions[key] = self.graph()
        return regions

    def location(self) -> Loc:
        found = COMMENT.match(self.text, self.position)
        if found is None:
            return NOWHERE
        scope, _, source = found.group(1).strip().partition(" @ ")
        return Loc(scope=scope, source=source)
