"""A graph of the IR as an ONNX GraphProto: unique names, outer names in regions, constants collected.

The interface is exact: an input or output keeps its name whatever else is called so. Everything else gets its hint as
name where that is free, else the hint with a number. All names are unique in the whole model, regions included, as the
ONNX specification asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import onnx

from ...ir import ANY, Graph, InvalidModelError, Loc, Model, Node, Tensor, TensorType, Value, lookup
from ...ir.locations import SCOPE_KEY, SOURCE_KEY, TORCH_SCOPES, TORCH_TRACE
from ...ir.types import AnyType
from .lowering import Form
from .protos import exact_name, set_attribute, set_value_info, text

SMALL = 64
"""Elements up to which a constant may stand inside a region."""


class Names:
    """Hands out names, each once."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self._next: dict[str, int] = {}

    def reserve(self, name: str) -> None:
        self.taken.add(name)

    def unique(self, hint: str) -> str:
        """`hint` where it is free, else `hint_1`, `hint_2`, ..."""
        if hint not in self.taken:
            self.taken.add(hint)
            return hint
        name, count = hint, self._next.get(hint, 0)
        while name in self.taken:
            count += 1
            name = f"{hint}_{count}"
        self._next[hint] = count
        self.taken.add(name)
        return name


@dataclass
class Emission:
    """Turns one graph into a GraphProto without initializers; `weights` collects what belongs into them."""

    spell: Callable[[Node], Form | None] = lambda _: None
    all_types: bool = False
    weights: list[tuple[str, Tensor]] = field(default_factory=list[tuple[str, Tensor]])
    names: dict[Value, str] = field(default_factory=dict[Value, str])
    values: Names = field(default_factory=Names)
    nodes: Names = field(default_factory=Names)
    forms: dict[Node, Form] = field(default_factory=dict[Node, Form])
    replaceable: set[Value] = field(default_factory=set[Value])
    """Integers that follow from defaults of inputs: a size that they give is known only as long as these are kept."""

    def top(self, graph: Graph, proto: onnx.GraphProto) -> None:
        """Fills `proto` with the outermost graph. Raises InvalidModelError where names of the interface clash."""
        self.interface(graph)
        self.forms = {node: form for node in graph.walk() if (form := self.spell(node)) is not None}
        self.constants(graph)
        proto.name = text(graph.name) or "graph"
        if graph.doc:
            proto.doc_string = text(graph.doc)
        for value in graph.inputs:
            set_value_info(proto.input.add(), self.names[value], value.type)
            default = graph.defaults.get(value)
            if default is not None:
                if default.dtype.is_integer:
                    self.replaceable.add(value)
                self.weights.append((self.names[value], default))
        self.body(graph, proto)
        self.results(graph, proto, graph.output_names)

    def interface(self, graph: Graph) -> None:
        for value in graph.inputs:
            name = exact_name(value.name, "input")
            if name in self.values.taken:
                raise InvalidModelError("two inputs have one name", where=f"input {name!r}", do="rename one of them")
            self.values.reserve(name)
            self.names[value] = name
        for value, name in zip(graph.outputs, graph.output_names, strict=True):
            if exact_name(name, "output") in self.values.taken and self.names.get(value) != name:
                raise InvalidModelError(
                    "an output has the name of another input or output",
                    where=f"output {name!r}",
                    do="rename one of them",
                )
            self.values.reserve(name)
            if value in self.names:
                continue
            self.names[value] = name
            if value.const is not None:
                self.weights.append((name, value.const))

    def constants(self, graph: Graph) -> None:
        """Names every constant that the forms still use, in order of first use, before other values take the names."""
        for inner in graph.graphs():
            if _is_foreign(inner):
                continue
            used: list[Value | None] = []
            for node in inner:
                used += self.operands(node)
                used += captured(node)
            # A small constant that a region yields and nobody else uses stands there as a Constant node.
            used += [v for v in inner.exit.inputs if inner is graph or (v is not None and not _is_small(v))]
            for value in used:
                if value is not None and value.const is not None and value not in self.names:
                    self.names[value] = self.values.unique(text(value.name) or "constant")
                    self.weights.append((self.names[value], value.const))

    def operands(self, node: Node) -> Sequence[Value | None]:
        """The operands to be written, without captures."""
        form = self.forms.get(node)
        return form.operands if form is not None else node.inputs[: len(node.inputs) - node.captures]

    def body(self, graph: Graph, proto: onnx.GraphProto) -> None:
        for node in graph:
            self.node(node, proto.node.add())
            if not self.all_types and self.tells_types(node):
                continue
            for value in node.outputs:
                if value in self.names and value.type != ANY and not value.is_output:
                    set_value_info(proto.value_info.add(), self.names[value], value.type)

    def tells_types(self, node: Node) -> bool:
        """True where a reader can infer the types of a node's outputs from the operator and its operands."""
        given = [v for v in node.inputs if v is not None]
        if self.replaceable and any(v in self.replaceable for v in given):
            self.replaceable.update(
                v for v in node.outputs if isinstance(v.type, TensorType) and v.type.dtype.is_integer
            )
            return False
        for type_ in [v.type for v in given]:
            if isinstance(type_, AnyType) or (isinstance(type_, TensorType) and type_.shape is None):
                return False
        return lookup(node.op, node.domain) is not None

    def results(self, graph: Graph, proto: onnx.GraphProto, names: Sequence[str]) -> None:
        """Declares what the graph yields, through a node that gives it its name where it has another one or none."""
        for value, name in zip(graph.outputs, names, strict=True):
            if self.names.get(value) != name:
                inside = value not in self.names
                op = "Constant" if inside else "Identity"
                copy = proto.node.add(op_type=op, name=self.nodes.unique(op), output=[name])
                if inside:
                    set_attribute(copy.attribute.add(), "value", value.tensor)
                else:
                    copy.input.append(self.names[value])
            set_value_info(proto.output.add(), name, value.type)

    def region(self, node: Node, region: Graph, proto: onnx.GraphProto, fallback: str) -> None:
        """Fills `proto` with a region; its captures disappear in favour of the outer names."""
        own = len(region.inputs) - node.captures
        for value in region.inputs[:own]:
            self.names[value] = self.values.unique(text(value.name) or f"{fallback}_input")
            set_value_info(proto.input.add(), self.names[value], value.type)
        for inner, outer in zip(region.inputs[own:], captured(node), strict=True):
            assert outer is not None, "a captured value is never missing"
            self.names[inner] = self.names[outer]
        proto.name = text(region.name) or fallback
        if region.doc:
            proto.doc_string = text(region.doc)
        names: list[str] = []
        for value, hint in zip(region.outputs, region.output_names, strict=True):
            name = self.values.unique(text(hint or value.name) or f"{fallback}_output")
            names.append(name)
            if value.const is None and not value.is_input and value not in self.names:
                self.names[value] = name
        own_constants = self.own_constants(region, proto) if node.domain else {}
        self.body(region, proto)
        self.results(region, proto, names)
        self.names.update(own_constants)

    def own_constants(self, region: Graph, proto: onnx.GraphProto) -> dict[Value, str]:
        """Writes the constants of a foreign operator's region into it, since only ai.onnx promises that outer names are
        seen inside; gives the names that they have outside.
        """
        outside: dict[Value, str] = {}
        for inner in region.graphs():
            for value in (v for n in (*inner, inner.exit) for v in (*self.operands(n), *captured(n))):
                if value is None or value.const is None or value in outside:
                    continue
                outside[value] = self.names.get(value, "")
                self.names[value] = self.values.unique(text(value.name) or "constant")
                copy = proto.node.add(
                    op_type="Constant", name=self.nodes.unique("Constant"), output=[self.names[value]]
                )
                set_attribute(copy.attribute.add(), "value", value.tensor)
        return {value: name for value, name in outside.items() if name}

    def node(self, node: Node, proto: onnx.NodeProto) -> None:
        form = self.forms.get(node)
        proto.op_type = node.op if form is None else form.op
        if node.domain:
            proto.domain = node.domain
        proto.name = self.nodes.unique(text(node_name(node)))
        inputs = ["" if v is None else self.names[v] for v in self.operands(node)]
        while inputs and not inputs[-1]:
            inputs.pop()
        proto.input.extend(inputs)
        for name, region in node.regions.items():
            attribute = proto.attribute.add(name=name, type=onnx.AttributeProto.GRAPH)
            self.region(node, region, attribute.g, f"{node.op}_{name}")
        self.outputs(node, proto)
        schema = lookup(node.op, node.domain)
        for name, value in (node.attrs if form is None else form.attrs).items():
            set_attribute(proto.attribute.add(), name, value, schema.attributes.get(name, "") if schema else "")
        for key, value in metadata(node.loc).items():
            proto.metadata_props.add(key=text(key), value=text(value))

    def outputs(self, node: Node, proto: onnx.NodeProto) -> None:
        kept = [i for i, v in enumerate(node.outputs) if v.users or not may_omit(node, i)] or [0]
        written: list[str] = []
        for index, value in enumerate(node.outputs[: kept[-1] + 1]):
            if index in kept and value not in self.names:
                self.names[value] = self.values.unique(text(value.name) or node.op)
            written.append(self.names[value] if index in kept else "")
        proto.output.extend(written)


def _is_small(value: Value) -> bool:
    return value.const is not None and value.const.count <= SMALL


def _is_foreign(graph: Graph) -> bool:
    """True inside a region of an operator that is not one of ai.onnx."""
    node = graph.parent
    while node is not None:
        if node.domain:
            return True
        node = node.graph.parent if node.graph is not None else None
    return False


def captured(node: Node) -> Sequence[Value | None]:
    """The operands that the node's regions capture."""
    return node.inputs[len(node.inputs) - node.captures :]


def may_omit(node: Node, index: int) -> bool:
    """True where the schema lets output `index` be left out when nobody uses it."""
    schema = lookup(node.op, node.domain)
    return schema is not None and schema.may_omit(index, node.attrs)


def node_name(node: Node) -> str:
    """The node's name in the file it came from, else its module path and operator."""
    return node.loc.origin or (f"{node.loc.scope}/{node.op}" if node.loc.scope else node.op)


def metadata(loc: Loc) -> dict[str, str]:
    """A node's metadata_props: what its exporter attached, and scope and source where that lacks them."""
    if not (loc.metadata or loc.scope or loc.source):
        return {}
    kept = dict(loc.metadata)
    for key, value, theirs in ((SCOPE_KEY, loc.scope, TORCH_SCOPES), (SOURCE_KEY, loc.source, TORCH_TRACE)):
        if value and theirs not in kept:
            kept[key] = value
    return kept


def model_proto(model: Model, opset: int, emission: Emission) -> onnx.ModelProto:
    """The model without its initializers, which are in `emission.weights` afterwards."""
    proto = onnx.ModelProto(producer_name=text(model.producer) or "tersor")
    for field_name, value in (
        ("producer_version", model.producer_version), ("domain", model.domain), ("doc_string", model.doc),
    ):  # fmt: skip
        if value:
            setattr(proto, field_name, text(value))
    if model.version:
        proto.model_version = model.version
    emission.top(model.graph, proto.graph)
    for domain, version in opset_imports(model, opset).items():
        proto.opset_import.add(domain=domain, version=version)
    proto.ir_version = ir_version(proto, emission.weights)
    for key, value in model.metadata.items():
        proto.metadata_props.add(key=text(key), value=text(value))
    return proto


def opset_imports(model: Model, opset: int) -> dict[str, int]:
    """The domains that the model declares, and those of further nodes at the newest version that one of them needs."""
    imports = {"": opset, **{d: v for d, v in model.opset.items() if d}}
    for node in model.graph.walk():
        if node.domain and node.domain not in model.opset:
            schema = lookup(node.op, node.domain)
            imports[node.domain] = max(imports.get(node.domain, 1), schema.version if schema else 1)
    return imports


IR_VERSION_OF_DTYPE = {17: 9, 18: 9, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12, 25: 13, 26: 13}
"""The first IR version that has an element type, for those newer than any supported opset."""


FREE_INITIALIZERS = 4
"""The first IR version in which an initializer need not be an input."""


def ir_version(proto: onnx.ModelProto, weights: Sequence[tuple[str, Tensor]]) -> int:
    """The lowest IR version that holds the operator sets and element types of the model."""
    needed = onnx.helper.find_min_ir_version_for(proto.opset_import, ignore_unknown=True)
    return max([needed, FREE_INITIALIZERS, *(IR_VERSION_OF_DTYPE.get(t.dtype.code, 0) for _, t in weights)])
