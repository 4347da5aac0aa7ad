"""A graph of the IR as the bytes of an ONNX GraphProto: unique names, outer names in regions, constants collected.

The interface is exact: an input or output keeps its name whatever else is called so. Everything else gets its hint as
name where that is free, else the hint with a number. All names are unique in the whole model, regions included, as the
ONNX specification asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import onnx

from ...ir import ANY, Dense, Graph, InvalidModelError, Loc, Model, Node, Schema, Tensor, TensorType, Value, lookup
from ...ir.locations import SCOPE_KEY, SOURCE_KEY, TORCH_SCOPES, TORCH_TRACE
from ...ir.tensors import Sparse
from ...ir.types import AnyType
from .lowering import Form
from .protos import exact_name, text
from .wire import Encoder, GraphFields, embedded

GRAPH = onnx.ModelProto.GRAPH_FIELD_NUMBER

SMALL = 64
"""Elements up to which a constant may stand inside a region."""


class Emitted(NamedTuple):
    """A model on its way out: its ModelProto without the graph, that graph's bytes without initializers, and these."""

    head: onnx.ModelProto
    graph: bytes
    weights: list[tuple[str, Tensor]]

    def proto(self) -> onnx.ModelProto:
        """The ModelProto without its weights."""
        return onnx.ModelProto.FromString(self.head.SerializeToString() + embedded(GRAPH, self.graph))


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
    """Turns one graph into a GraphProto's bytes without initializers; `weights` collects what belongs into them."""

    spell: Callable[[Node], Form | None] = lambda _: None
    all_types: bool = False
    weights: list[tuple[str, Tensor]] = field(default_factory=list[tuple[str, Tensor]])
    names: dict[Value, str] = field(default_factory=dict[Value, str])
    values: Names = field(default_factory=Names)
    nodes: Names = field(default_factory=Names)
    encode: Encoder = field(default_factory=Encoder)
    forms: dict[Node, Form] = field(default_factory=dict[Node, Form])
    replaceable: set[Value] = field(default_factory=set[Value])
    """Integers that follow from defaults of inputs: a size that they give is known only as long as these are kept."""

    def top(self, graph: Graph) -> bytes:
        """The outermost graph. Raises InvalidModelError where names of the interface clash."""
        self.interface(graph)
        self.forms = {node: form for node in graph.walk() if (form := self.spell(node)) is not None}
        self.constants(graph)
        fields = GraphFields(text(graph.name) or "graph", text(graph.doc))
        for value in graph.inputs:
            fields.inputs.append(self.encode.value_info(self.names[value], value.type))
            default = graph.defaults.get(value)
            if default is not None:
                if default.dtype.is_integer:
                    self.replaceable.add(value)
                self.weights.append((self.names[value], dense(default)))
        self.body(graph, fields)
        self.results(graph, fields, graph.output_names)
        return fields.encoded()

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
                self.weights.append((name, dense(value.const)))

    def constants(self, graph: Graph) -> None:
        """Names every constant that the forms still use, in order of first use, before other values take the names."""
        for inner in graph.graphs():
            if _is_foreign(inner):
                continue
            used: list[Value | None] = []
            for node in inner:
                used += self.operands(node)
                used += node.captured
            # A small constant that a region yields and nobody else uses stands there as a Constant node.
            used += [v for v in inner.exit.inputs if inner is graph or (v is not None and not _is_small(v))]
            for value in used:
                if value is not None and value.const is not None and value not in self.names:
                    self.names[value] = self.values.unique(text(value.name) or "constant")
                    self.weights.append((self.names[value], value.const))

    def operands(self, node: Node) -> Sequence[Value | None]:
        """The operands to be written, without captures."""
        form = self.forms.get(node)
        return form.operands if form is not None else node.operands

    def body(self, graph: Graph, fields: GraphFields) -> None:
        for node in graph:
            fields.nodes.append(self.node(node))
            if not self.all_types and self.tells_types(node):
                continue
            for value in node.outputs:
                if value in self.names and value.type != ANY and not value.is_output:
                    fields.value_infos.append(self.encode.value_info(self.names[value], value.type))

    def tells_types(self, node: Node) -> bool:
        """True where a reader can infer the types of a node's outputs from the operator and its operands."""
        if self.replaceable and any(v in self.replaceable for v in node.inputs):
            self.replaceable.update(
                v for v in node.outputs if isinstance(v.type, TensorType) and v.type.dtype.is_integer
            )
            return False
        for value in node.inputs:
            if value is None:
                continue
            type_ = value.type
            if type_.shape is None if isinstance(type_, TensorType) else isinstance(type_, AnyType):
                return False
        return lookup(node.op, node.domain) is not None

    def results(self, graph: Graph, fields: GraphFields, names: Sequence[str]) -> None:
        """Declares what the graph yields, through a node that gives it its name where it has another one or none."""
        for value, name in zip(graph.outputs, names, strict=True):
            if value not in self.names:
                fields.nodes.append(self.constant_node(value, name))
            elif self.names[value] != name:
                given = self.names[value]
                fields.nodes.append(self.encode.node("Identity", self.nodes.unique("Identity"), [given], [name]))
            fields.outputs.append(self.encode.value_info(name, value.type))

    def constant_node(self, value: Value, name: str) -> bytes:
        """A Constant that gives `value` the name `name`."""
        tensor = self.encode.attribute("value", value.tensor)
        return self.encode.node("Constant", self.nodes.unique("Constant"), [], [name], [tensor])

    def region(self, node: Node, region: Graph, fallback: str) -> bytes:
        """A region; its captures disappear in favour of the outer names."""
        fields = GraphFields(text(region.name) or fallback, text(region.doc))
        own = len(region.inputs) - node.captures
        for value in region.inputs[:own]:
            self.names[value] = self.values.unique(text(value.name) or f"{fallback}_input")
            fields.inputs.append(self.encode.value_info(self.names[value], value.type))
        for inner, outer in zip(region.inputs[own:], node.captured, strict=True):
            assert outer is not None, "a captured value is never missing"
            self.names[inner] = self.names[outer]
        names: list[str] = []
        for value, hint in zip(region.outputs, region.output_names, strict=True):
            name = self.values.unique(text(hint or value.name) or f"{fallback}_output")
            names.append(name)
            if value.const is None and not value.is_input and value not in self.names:
                self.names[value] = name
        own_constants = self.own_constants(region, fields) if node.domain else {}
        self.body(region, fields)
        self.results(region, fields, names)
        self.names.update(own_constants)
        return fields.encoded()

    def own_constants(self, region: Graph, fields: GraphFields) -> dict[Value, str]:
        """Writes the constants of a foreign operator's region into it, since only ai.onnx promises that outer names are
        seen inside; gives the names that they have outside.
        """
        outside: dict[Value, str] = {}
        for inner in region.graphs():
            for value in (v for n in (*inner, inner.exit) for v in (*self.operands(n), *n.captured)):
                if value is None or value.const is None or value in outside:
                    continue
                outside[value] = self.names.get(value, "")
                self.names[value] = self.values.unique(text(value.name) or "constant")
                fields.nodes.append(self.constant_node(value, self.names[value]))
        return {value: name for value, name in outside.items() if name}

    def node(self, node: Node) -> bytes:
        form, names = self.forms.get(node), self.names
        schema = lookup(node.op, node.domain)
        operands = node.operands if form is None else form.operands
        inputs = ["" if v is None else names[v] for v in operands]
        while inputs and not inputs[-1]:
            inputs.pop()
        name = self.nodes.unique(text(node_name(node)))
        attributes = [
            self.encode.subgraph(key, self.region(node, region, f"{node.op}_{key}"))
            for key, region in node.regions.items()
        ]
        outputs = self.outputs(node, schema)
        kinds = schema.attributes if schema is not None else {}
        for key, value in (node.attrs if form is None else form.attrs).items():
            attributes.append(self.encode.attribute(key, value, kinds.get(key, "")))
        op = node.op if form is None else form.op
        return self.encode.node(op, name, inputs, outputs, attributes, domain=node.domain, metadata=metadata(node.loc))

    def outputs(self, node: Node, schema: Schema | None) -> list[str]:
        """The names of the outputs, without those at the end that may be left out."""
        written: list[str] = []
        kept = 0
        for index, value in enumerate(node.outputs):
            if value.users or not index or schema is None or not schema.may_omit(index, node.attrs):
                if value not in self.names:
                    self.names[value] = self.values.unique(text(value.name) or node.op)
                written.append(self.names[value])
                kept = index + 1
            else:
                written.append("")
        return written[:kept]


def dense(tensor: Tensor) -> Tensor:
    """The tensor written out: of the interface, where a sparse tensor is another type, or where there is no room."""
    return Dense(tensor.numpy(), tensor.dtype) if isinstance(tensor, Sparse) else tensor


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


def emitted(model: Model, opset: int, emission: Emission) -> Emitted:
    """The model at an opset that can hold it as `emission` spells it."""
    graph = emission.top(model.graph)
    head = onnx.ModelProto(producer_name=text(model.producer) or "tersor")
    for field_name, value in (
        ("producer_version", model.producer_version), ("domain", model.domain), ("doc_string", model.doc),
    ):  # fmt: skip
        if value:
            setattr(head, field_name, text(value))
    if model.version:
        head.model_version = model.version
    for domain, version in opset_imports(model, opset).items():
        head.opset_import.add(domain=domain, version=version)
    head.ir_version = ir_version(head, emission.weights)
    for key, value in model.metadata.items():
        head.metadata_props.add(key=text(key), value=text(value))
    return Emitted(head, graph, emission.weights)


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

SPARSE_INITIALIZERS = 6
"""The first IR version that has sparse ones."""


def ir_version(proto: onnx.ModelProto, weights: Sequence[tuple[str, Tensor]]) -> int:
    """The lowest IR version that holds the operator sets and element types of the model."""
    needed = onnx.helper.find_min_ir_version_for(proto.opset_import, ignore_unknown=True)
    stored = SPARSE_INITIALIZERS if any(isinstance(t, Sparse) for _, t in weights) else FREE_INITIALIZERS
    return max([needed, stored, *(IR_VERSION_OF_DTYPE.get(t.dtype.code, 0) for _, t in weights)])
