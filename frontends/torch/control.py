"""Higher-order operators that run submodules depending on data: torch.cond as If, while_loop as Loop, scan and map as
Scan.

A submodule becomes a region. What it uses from around it arrives as captured operands; constants need no capture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch.fx import GraphModule

from ...ir import DType, Graph, Node, TensorType, Value
from .lowering import Lowering, dtype_of

if TYPE_CHECKING:
    from .importer import Importer

Given = Sequence[Any]
"""What a submodule's placeholders stand for: values, numbers and sizes."""


class Region:
    """A region under construction: `given` are the values outside, which its last inputs stand for."""

    def __init__(self, importer: Importer, name: str, inputs: Sequence[Value] = ()) -> None:
        self.importer = importer
        self.graph = Graph(name, list(inputs))
        self.op = importer.lowering(self.graph)
        for value in inputs:
            self.define(value)

    def define(self, value: Value) -> None:
        for axis, size in enumerate(value.shape or ()):
            self.op.symbols.define(size, (value, axis))

    def run(self, module: GraphModule, bound: Given) -> Sequence[Any]:
        """Lowers a submodule into the region and gives its results."""
        return self.importer.within(self.graph, self.op, module, bound)

    def capture(self, given: Given, captured: Sequence[Value]) -> list[Any]:
        """What stands inside for what is given outside, of which `captured` are inputs of the region."""
        inside = {value: self.graph.add_input(value.name, value.type) for value in captured}
        for value in inside.values():
            self.define(value)
        out: list[Any] = []
        for item in given:
            if isinstance(item, Value):
                out.append(inside.get(item, item))
            else:
                out.append(item)
        return out


def captures(given: Given) -> list[Value]:
    """The values that regions have to capture, each once. Sizes are read off these inside."""
    found: dict[Value, None] = {}
    for item in given:
        if isinstance(item, Value) and item.const is None:
            found[item] = None
    return list(found)


def results_of(made: Value | Node) -> list[Value]:
    return list(made.outputs) if isinstance(made, Node) else [made]


def tensors(op: Lowering, results: Sequence[Any]) -> list[Value]:
    """What a submodule gives, as values; Declined for anything else."""
    if not all(isinstance(r, Value) for r in results):
        op.decline("a submodule gives something that is no tensor")
    return list(results)


def finished(region: Region, results: Sequence[Value], name: str) -> Graph:
    region.graph.set_outputs(list(results), [f"{name}_{i}" for i in range(len(results))])
    return region.graph


def cond(importer: Importer, condition: Any, yes: GraphModule, no: GraphModule, given: Given) -> Any:
    """One of two submodules, by a truth value."""
    op = importer.op
    if not isinstance(condition, Value):
        op.decline("its condition is a comparison of sizes")
    outer, regions = captures(given), dict[str, Graph]()
    for name, module in (("then_branch", yes), ("else_branch", no)):
        region = Region(importer, name)
        regions[name] = finished(region, tensors(op, region.run(module, region.capture(given, outer))), name)
    count = len(op.outs)
    operands = [op.reshape(op.cast(condition, DType.BOOL), []), *outer]
    return results_of(op.node("If", operands, outputs=count, regions=regions, captures=len(outer)))


def while_loop(importer: Importer, test: GraphModule, body: GraphModule, carried: Given, given: Given) -> Any:
    """A submodule again and again while another one gives true."""
    op = importer.op
    start, outer = tensors(op, carried), captures(given)
    (first,) = tensors(op, listed(importer.within(importer.graph, op, test, [*start, *given])))
    turn, true = Value("turn", TensorType(DType.I64, ())), Value("condition", TensorType(DType.BOOL, ()))
    inside = [Value(f"carried_{i}", v.type) for i, v in enumerate(start)]
    region = Region(importer, "body", [turn, true, *inside])
    inner = region.capture(given, outer)
    after = tensors(op, listed(region.run(body, [*inside, *inner])))
    (goes_on,) = tensors(op, listed(region.run(test, [*after, *inner])))
    regions = {"body": finished(region, [goes_on, *after], "next")}
    made = op.node("Loop", [None, first, *start, *outer], outputs=len(start), regions=regions, captures=len(outer))
    return results_of(made)


def scan(importer: Importer, body: GraphModule, carried: Given, items: Given, given: Given) -> Any:
    """A submodule for each entry along the first axis, with what the entry before left."""
    op = importer.op
    start, rows, outer = tensors(op, carried), tensors(op, items), captures(given)
    inside = [Value(f"carried_{i}", v.type) for i, v in enumerate(start)]
    entries = [Value(f"entry_{i}", TensorType(dtype_of(v), (v.shape or ())[1:])) for i, v in enumerate(rows)]
    region = Region(importer, "body", [*inside, *entries])
    after = tensors(op, listed(region.run(body, [*inside, *entries, *region.capture(given, outer)])))
    attrs = {"num_scan_inputs": len(rows)}
    regions = {"body": finished(region, after, "next")}
    made = op.node("Scan", [*start, *rows, *outer], attrs, outputs=len(after), regions=regions, captures=len(outer))
    return results_of(made)


def over_entries(importer: Importer, body: GraphModule, items: Given, given: Given) -> Any:
    """A submodule for each entry along the first axis."""
    return scan(importer, body, [], items, given)


def listed(results: Any) -> Sequence[Any]:
    return list(results) if isinstance(results, (list, tuple)) else [results]


CONTROL: dict[str, Callable[..., Any]] = {
    "cond": cond, "while_loop": while_loop, "scan": scan, "map_impl": over_entries,
}  # fmt: skip
"""By the operators' names."""
