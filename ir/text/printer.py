"""Graphs as text that `parse` reads back.

    graph @net(%x: f32[N,3,8,8]) -> (logits) {
      @conv.weight : f32[4,3,3,3] = #6f0c...
      %0 = Conv(%x, @conv.weight) {pads=[1,1,1,1]} : f32[N,4,8,8]   # features.conv @ net.py:12
      return %0
    }

Constants are declared at the top of the outermost graph; short integer vectors and scalars stand inline
(`i64[2]{1,-1}`). Large ones appear by the hash of their contents.
"""

from __future__ import annotations

import json
import re

import numpy as np

from ..attributes import Attribute, EmptyList
from ..dims import Symbol, free_symbols
from ..graph import Graph, Node, Value
from ..locations import Loc
from ..tensors import Placeholder, Tensor
from ..types import DType, Type, sizes_in, type_text

PLAIN = re.compile(r"[A-Za-z0-9_.$/\-]+\Z")
INLINE_ELEMENTS = 8
DECLARED_ELEMENTS = 16


def to_text(graph: Graph) -> str:
    """The whole graph as text; `parse` of it has the same structural hash."""
    return _Printer().top(graph)


def skeleton(graph: Graph) -> str:
    """The graph without locations, names of inner values and contents of declared constants: what tests compare."""
    return _Printer(skeleton=True).top(graph)


def quoted(name: str) -> str:
    """A name as it stands in the text: bare where it is plain, else a JSON string."""
    return name if PLAIN.match(name) else json.dumps(name)


class _Printer:
    def __init__(self, skeleton: bool = False) -> None:
        self.skeleton = skeleton
        self.fresh: dict[Symbol, str] = {}
        self.names: dict[Value, str] = {}
        self.taken: set[str] = set()

    def top(self, graph: Graph) -> str:
        declared = [v for v in graph.constants() if not inline(v)]
        if not self.skeleton:
            for value in (*graph.inputs, *declared):
                self.name(value)
        return "\n".join(self.graph(graph, "", declared)) + "\n"

    def graph(self, graph: Graph, indent: str, declared: list[Value] | None = None) -> list[str]:
        inputs = ", ".join(self.input(graph, v) for v in graph.inputs)
        outputs = ", ".join(quoted(n) for n in graph.output_names)
        ranges = self.ranges(graph) if declared is not None else ""
        name = f" @{quoted(graph.name)}" if graph.name and not self.skeleton else ""
        rows = [f"graph{name}({inputs}) -> ({outputs}){ranges} {{"]
        for value in declared or []:
            rows.append(f"{indent}  {self.name(value)} : {self.type(value.type)}{self.contents(value.tensor)}")
        for node in graph:
            rows += [f"{indent}  {row}" for row in self.node(node, indent + "  ")]
        results = ", ".join(self.operand(v) for v in graph.exit.inputs)
        return [*rows, f"{indent}  return {results}".rstrip(), f"{indent}}}"]

    def ranges(self, graph: Graph) -> str:
        symbols: dict[Symbol, None] = {}
        for g in graph.graphs():
            for node in (g.entry, *g):
                for value in node.outputs:
                    for size in sizes_in(value.type):
                        symbols.update(dict.fromkeys(sorted(free_symbols(size), key=lambda s: s.sort_key)))
        rows = [
            f"{dim_text_of(s, self)} in [{s.lower},{'' if s.upper is None else s.upper}]"
            for s in symbols
            if (s.lower, s.upper) != (0, None)
        ]
        return " where " + ", ".join(rows) if rows else ""

    def input(self, graph: Graph, value: Value) -> str:
        default = graph.defaults.get(value)
        tail = "" if default is None else self.contents(default)
        name = f"%{quoted(value.name)}" if self.skeleton and graph.parent is None else self.name(value)
        self.names[value] = name
        self.taken.add(name)
        return f"{name}: {self.type(value.type)}{tail}"

    def node(self, node: Node, indent: str) -> list[str]:
        inputs = ", ".join(self.operand(v) for v in node.inputs)
        outputs = ", ".join(self.name(v) for v in node.outputs)
        head = f"{outputs} = " if outputs else ""
        op = f"{quoted(node.domain)}::{node.op}" if node.domain else node.op
        attrs = ", ".join(f"{quoted(k)}={self.attribute(v)}" for k, v in sorted(node.attrs.items()))
        row = f"{head}{op}({inputs})" + (f" {{{attrs}}}" if attrs else "")
        if node.captures:
            row += f" captures {node.captures}"
        if node.outputs:
            row += " : " + ", ".join(self.type(v.type) for v in node.outputs)
        comment = "" if self.skeleton else location_comment(node.loc)
        if not node.regions:
            return [row + comment]
        rows = [row + " regions {"]
        for name, region in node.regions.items():
            first, *rest = self.graph(region, indent + "  ")
            rows += [f"  {quoted(name)} = {first}", *[r.removeprefix(indent) for r in rest]]
        return [*rows, "}" + comment]

    def operand(self, value: Value | None) -> str:
        if value is None:
            return "_"
        return f"{self.type(value.type)}{{{elements(value.tensor)}}}" if inline(value) else self.name(value)

    def name(self, value: Value) -> str:
        found = self.names.get(value)
        if found is not None:
            return found
        sigil = "@" if value.is_const else "%"
        hint = "" if self.skeleton else value.name
        name, count = sigil + quoted(hint) if hint else "", len(self.names)
        while not name or name in self.taken:
            name = sigil + quoted(f"{hint}_{count}" if hint else str(count))
            count += 1
        self.names[value] = name
        self.taken.add(name)
        return name

    def symbol(self, symbol: Symbol) -> str:
        return self.fresh.setdefault(symbol, f"?{len(self.fresh)}") if symbol.is_fresh else symbol.name

    def type(self, type_: Type) -> str:
        return type_text(type_, self.symbol)

    def contents(self, tensor: Tensor) -> str:
        if self.skeleton:
            return ""
        if tensor.count <= DECLARED_ELEMENTS and not isinstance(tensor, Placeholder) and tensor.dtype.numpy.kind != "c":
            return f" = [{elements(tensor)}]"
        digest = tensor.digest
        return f" = #{digest}" if digest else ""

    def attribute(self, value: Attribute) -> str:
        if isinstance(value, EmptyList):
            return f"{value.kind}[]"
        if isinstance(value, tuple):
            return "[" + ",".join(self.attribute(v) for v in value) + "]"
        if isinstance(value, Tensor):
            return f"tensor {self.type(value.type)}{self.contents(value)}"
        if isinstance(value, bytes):
            return f"bytes {json.dumps(value.hex())}"
        if isinstance(value, str):
            return json.dumps(value)
        return repr(value) if isinstance(value, (int, float)) else f"type {self.type(value)}"


def dim_text_of(symbol: Symbol, printer: _Printer) -> str:
    """A symbol's name as sizes show it."""
    name = printer.symbol(symbol)
    return name if name.isidentifier() or name.startswith("?") else json.dumps(name)


def inline(value: Value) -> bool:
    """True for constants that stand where they are used: scalars and short integer vectors."""
    tensor = value.const
    if tensor is None or isinstance(tensor, Placeholder) or tensor.rank > 1 or tensor.dtype.numpy.kind == "c":
        return False
    return tensor.count == 1 or (
        tensor.count <= INLINE_ELEMENTS and (tensor.dtype.is_integer or tensor.dtype is DType.BOOL)
    )


def elements(tensor: Tensor) -> str:
    """The elements in C order, separated by commas, exact to the last bit."""
    flat = tensor.numpy().reshape(-1)
    if tensor.dtype is DType.STRING:
        return ",".join(json.dumps(str(s)) for s in flat.tolist())
    if tensor.dtype is DType.BOOL:
        return ",".join("true" if b else "false" for b in flat.tolist())
    if tensor.dtype.is_integer:
        return ",".join(str(int(i)) for i in flat.tolist())
    if tensor.dtype is DType.F32:
        return ",".join(str(f) for f in flat)
    return ",".join(repr(float(f)) for f in flat.astype(np.float64))


def location_comment(loc: Loc) -> str:
    """`   # scope @ source` on one line, or nothing."""
    text = " @ ".join(part for part in (loc.scope or loc.origin, loc.source) if part)
    return "   # " + " ".join(text.split()) if text else ""
