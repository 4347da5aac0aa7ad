"""A ModelProto as a graph of the IR: inputs, constants, nodes, subgraphs and function calls.

Nodes are read in dataflow order and raised to the canonical opset one by one, so that a rule sees operands that are
canonical and typed already. Constant nodes and initializers become constants; subgraphs become isolated regions whose
captures are operands. Training information and quantization annotations of a file are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

from onnx import AttributeProto, FunctionProto, GraphProto

from ...ir import (
    ANY,
    CANONICAL_OPSET,
    Attribute,
    Graph,
    InvalidModelError,
    Loc,
    Model,
    Node,
    Schema,
    TensorType,
    Type,
    UnsupportedError,
    Value,
    constant,
)
from . import attributes
from .checks import check_declared, check_newest, check_node, check_types, schema_of
from .constants import constant_of
from .files import Opened
from .functions import Functions, bound_attributes, check_call, dereference, imports_of
from .limits import Account
from .locations import location
from .raising import changes_after, raise_node
from .scopes import Entry, Scope, entries, free_names, in_order, undefined
from .strings import text, texts
from .tensors import TensorReader
from .types import Sizes, type_of

Regions = dict[str, tuple[GraphProto, Scope]]


class Attributes:
    """The attributes of a node, or of all nodes that have the same ones; compared by identity."""

    __slots__ = ("values",)

    def __init__(self, values: dict[str, Attribute]) -> None:
        self.values = values


NONE = Attributes({})

OVERRIDABLE = 4
"""The first IR version in which an initializer may be no input, so that one which is says that it can be replaced.
Before, all had to be inputs, and runtimes take them for the constants that they are.
"""


class Reader:
    """Reads one model; `infer` is called for each node when it is in its graph."""

    def __init__(self, opened: Opened, account: Account) -> None:
        self.proto, self.name, self.account = opened.proto, opened.name, account
        self.tensors = TensorReader(opened.payloads, opened.folder, account)
        self.functions = Functions(opened.proto.functions)
        self.opset: dict[str, int] = {"": CANONICAL_OPSET}
        self.rule: Callable[[Node], None] | None = None
        self.inside = 0
        self.known: dict[tuple[bytes, ...], Attributes] = {}
        self.sound: set[Hashable] = set()

    def model(self, start: Callable[[Graph], Callable[[Node], None]] | None = None) -> Model:
        """The whole model; `start` gives the type inference for a graph that has its inputs and no nodes yet."""
        proto = self.proto
        imports = imports_of(proto)
        self.opset |= {d: v for d, v in imports.items() if d}
        sizes = Sizes()
        inputs = self.inputs(proto.graph, sizes)
        if proto.ir_version < OVERRIDABLE:
            held = {text(t.name) for t in proto.graph.initializer}
            inputs = {name: value for name, value in inputs.items() if name not in held}
        graph = Graph(text(proto.graph.name), list(inputs.values()))
        graph.doc = text(proto.graph.doc_string)
        scope = Scope(graph, imports, names=dict(inputs), sizes=sizes)
        self.initializers(proto.graph, scope)
        if start is not None:
            self.rule = start(graph)
        self.nodes(proto.graph, scope)
        self.outputs(proto.graph, scope)
        return Model(
            graph,
            self.opset,
            source_opset=imports.get("", 0),
            metadata={text(p.key): text(p.value) for p in proto.metadata_props},
            doc=text(proto.doc_string),
            producer=text(proto.producer_name),
            producer_version=text(proto.producer_version),
            domain=text(proto.domain),
            version=proto.model_version,
        )

    def infer(self, node: Node) -> None:
        """Types of a new node's outputs.

        In a region they are provisional: the inference of the node around it follows, and the region may never run.
        """
        if self.rule is None:
            return
        try:
            self.rule(node)
        except InvalidModelError:
            if not self.inside:
                raise
        except ValueError as error:
            raise InvalidModelError("a node's attributes make no sense", where=node.where, why=str(error)) from error

    # Graphs

    def inputs(self, proto: GraphProto, sizes: Sizes) -> dict[str, Value]:
        """The formal inputs of a graph by name, in order."""
        found: dict[str, Value] = {}
        for info in proto.input:
            name = text(info.name)
            if name in found:
                raise InvalidModelError(f"two inputs are called {name!r}", where=self.name)
            found[name] = Value(name, type_of(info.type, sizes, f"{self.name}, input {name!r}"))
        return found

    def initializers(self, proto: GraphProto, scope: Scope) -> None:
        """Constants, and defaults of inputs: an initializer that is an input as well can be replaced by the caller."""
        # Of two initializers with one name the last is meant, as it is in ONNX Runtime.
        tensors = {text(t.name): t for t in proto.initializer}
        for name, held in tensors.items():
            where = f"{self.name}, initializer {name!r}"
            if not name:
                raise InvalidModelError("an initializer has no name", where=where)
            tensor, value = self.tensors.read(held, where), scope.names.get(name)
            if value is None:
                scope.names[name] = constant(tensor, name)
            elif not self.inside:  # the inputs of a region are always given
                scope.graph.defaults[value] = tensor
                value.type = tensor.type if value.type is ANY else value.type
        for sparse in proto.sparse_initializer:
            name = text(sparse.values.name)
            scope.names[name] = constant(self.tensors.sparse(sparse, f"{self.name}, sparse initializer {name!r}"), name)

    def nodes(self, proto: GraphProto, scope: Scope) -> None:
        scope.declared = {text(v.name): v.type for v in (*proto.value_info, *proto.output)}
        self.run(in_order(entries(proto.node, self.name), scope.names), scope, [text(v.name) for v in proto.output])

    def run(self, nodes: Sequence[Entry], scope: Scope, results: Sequence[str]) -> None:
        used = set(results)
        for entry in nodes:
            used.update(entry.inputs, entry.free)
        for entry in nodes:
            self.node(entry, scope, used)

    def outputs(self, proto: GraphProto, scope: Scope) -> None:
        """What the graph yields. In a region names only matter in being different."""
        names: dict[str, Value] = {}
        for index, info in enumerate(proto.output):
            name = text(info.name)
            value = self.value(name, scope, f"{self.name}, output {name!r} of {scope.graph.name!r}")
            if value is None:
                raise InvalidModelError("an output has no value", where=f"{self.name}, graph {scope.graph.name!r}")
            if name in names and not self.inside:
                raise InvalidModelError(f"two outputs are called {name!r}", where=self.name)
            names[name if name not in names else f"{name}/{index}"] = value
        scope.graph.set_outputs(list(names.values()), list(names))

    def value(self, name: str, scope: Scope, where: object) -> Value | None:
        """What a name means; None for the empty name and for function inputs that the call left out."""
        if not name:
            return None
        if name not in scope.names:
            raise undefined(name, where)
        return scope.names[name]

    # Nodes

    def node(self, entry: Entry, scope: Scope, used: set[str]) -> None:
        self.account.node(entry)
        function = self.functions.find(entry)
        if function is not None:
            self.call(function, entry, scope)
        elif entry.op == "Constant" and not entry.domain:
            self.constant(entry, scope)
        else:
            self.operation(entry, scope, used)

    def constant(self, entry: Entry, scope: Scope) -> None:
        attrs = [b[0] for a in entry.proto.attribute if (b := dereference(a, scope)) is not None]
        names = [text(a.name) for a in entry.proto.attribute if dereference(a, scope) is not None]
        if len(attrs) != 1 or len(entry.outputs) != 1 or entry.inputs:
            raise InvalidModelError("a Constant needs exactly one value attribute and one output", where=entry)
        name = entry.outputs[0]
        scope.names[name] = constant(constant_of(names[0], attrs[0], self.tensors, entry), scope.prefix + name)

    def operation(self, entry: Entry, scope: Scope, used: set[str]) -> None:
        proto, domain, prefix = entry.proto, entry.domain, scope.prefix
        schema = schema_of(entry.op, domain, scope.imports, entry)
        operands = self.operands(entry, scope)
        outputs = list(entry.outputs)
        while outputs and not outputs[-1] and not (schema is not None and schema.variadic_outputs):
            outputs.pop()
        given, graphs = self.attributes(entry, schema, scope) if proto.attribute else (NONE, {})
        if schema is not None:
            self.check(entry, schema, operands, len(outputs), given, graphs)
        regions, captures = (
            self.regions(graphs, entry, branch=entry.op == "If" and not domain) if graphs else (None, ())
        )
        declared = [self.declared(name, scope, entry) for name in outputs] if scope.declared else [ANY] * len(outputs)
        node = Node(
            entry.op,
            (*operands, *captures) if captures else operands,
            given.values.copy(),
            [Value(prefix + name if name else "", type_) for name, type_ in zip(outputs, declared, strict=True)],
            domain=domain,
            regions=regions,
            captures=len(captures),
            loc=location(proto, entry.name, entry.op, scope.call),
        )
        scope.graph.insert(node)
        if domain:
            self.opset.setdefault(domain, scope.imports[domain])
            final: Sequence[Value] = node.outputs
            self.infer(node)
        else:
            final = self.raised(node, scope.imports[""], outputs, used)
        for name, type_, value in zip(outputs, declared, final, strict=False):
            if name:
                scope.names[name] = value
            if type_ is not ANY:
                check_declared(type_, value.type, name, entry)

    def raised(self, node: Node, version: int, outputs: Sequence[str], used: set[str]) -> Sequence[Value]:
        """What stands for the outputs of an ai.onnx node at the canonical opset."""
        if changes_after(node.op, version):
            return raise_node(node, version, [name in used for name in outputs], self.infer)
        self.infer(node)
        return node.outputs

    def operands(self, entry: Entry, scope: Scope) -> list[Value | None]:
        """The operands without missing ones at the end."""
        names = scope.names
        try:
            operands = [names[name] if name else None for name in entry.inputs]
        except KeyError as error:
            raise undefined(error.args[0], entry) from None
        while operands and operands[-1] is None:
            operands.pop()
        return operands

    def check(
        self,
        entry: Entry,
        schema: Schema,
        operands: Sequence[Value | None],
        outputs: int,
        given: Attributes,
        graphs: Regions,
    ) -> None:
        """Raises what the checks of a node raise; nodes that agree in all that these look at are checked once."""
        types = tuple(
            [v is None if v is None or not isinstance(v.type, TensorType) else v.type.dtype for v in operands]
        )
        seen = (schema.name, schema.domain, schema.version, types, outputs, given)
        if seen in self.sound:
            return
        check_node(schema, operands, outputs, attrs=given.values, regions=list(graphs), where=entry)
        check_types(schema, operands, entry)
        check_newest(schema, given.values, entry)
        if not graphs:
            self.sound.add(seen)

    def declared(self, name: str, scope: Scope, where: object) -> Type:
        found = scope.declared.get(name)
        return ANY if found is None else type_of(found, scope.sizes, where)

    def attributes(self, entry: Entry, schema: Schema | None, scope: Scope) -> tuple[Attributes, Regions]:
        """Plain attributes, and subgraphs with the scope whose names they see; equal plain ones are read once."""
        if schema is None or not schema.has_plain_attributes or scope.bindings:
            return self.attributes_in(entry, scope)
        key = tuple([a.SerializeToString() for a in entry.proto.attribute])
        known = self.known.get(key)
        if known is None:
            known, graphs = self.attributes_in(entry, scope)
            if graphs:
                return known, graphs
            self.known[key] = known
        return known, {}

    def attributes_in(self, entry: Entry, scope: Scope) -> tuple[Attributes, Regions]:
        """As `attributes`, read from the proto."""
        attrs: dict[str, Attribute] = {}
        graphs: Regions = {}
        names = texts(a.name for a in entry.proto.attribute)
        if len(set(names)) < len(names):
            raise InvalidModelError(
                "an attribute is given twice", where=entry, why=f"the attributes are {', '.join(names)}"
            )
        for name, attribute in zip(names, entry.proto.attribute, strict=True):
            bound = dereference(attribute, scope)
            if bound is None:
                continue
            given, seen = bound
            kind = attributes.kind_of(given, entry)
            if kind == AttributeProto.GRAPH:
                graphs[name] = (given.g, seen)
            elif kind == AttributeProto.GRAPHS:
                raise UnsupportedError(f"attribute {name!r} is a list of graphs", where=entry)
            else:
                attrs[name] = attributes.read(given, self.tensors, entry)
        return Attributes(attrs), graphs

    # Subgraphs

    def regions(self, graphs: Regions, where: object, *, branch: bool) -> tuple[dict[str, Graph], list[Value]]:
        """Isolated regions, and what they capture: the last operands of the node and the last inputs of each region.

        The regions of an If are branches: nothing gives them operands.
        """
        outer: dict[str, dict[str, Value | None]] = {}
        captured: dict[Value, None] = {}
        for attribute, (proto, scope) in graphs.items():
            outer[attribute] = {name: self.value(name, scope, where) for name in free_names(proto)}
            captured.update(dict.fromkeys(v for v in outer[attribute].values() if v is not None and not v.is_const))
        regions: dict[str, Graph] = {}
        for attribute, (proto, scope) in graphs.items():
            self.account.enter(where)
            self.inside += 1
            regions[attribute] = self.region(proto, scope, outer[attribute], list(captured), where, branch=branch)
            self.inside -= 1
            self.account.leave()
        return regions, list(captured)

    def region(
        self,
        proto: GraphProto,
        around: Scope,
        outer: dict[str, Value | None],
        captured: Sequence[Value],
        where: object,
        *,
        branch: bool,
    ) -> Graph:
        sizes = Sizes(local=True)
        inputs = self.inputs(proto, sizes)
        if branch:
            # Old exporters list every initializer among the inputs. In a branch nothing can replace it.
            given = {text(t.name) for t in (*proto.initializer, *(t.values for t in proto.sparse_initializer))}
            missing = next((name for name in inputs if name not in given), None)
            if missing is not None:
                raise InvalidModelError(
                    f"a branch has the input {missing!r}", where=where, why="nothing can give a branch of an If inputs"
                )
            inputs = {}
        inside = {value: Value(value.name, value.type) for value in captured}
        graph = Graph(text(proto.name), [*inputs.values(), *inside.values()])
        scope = replace(around, graph=graph, names=dict(inputs), sizes=sizes)
        for name, value in outer.items():
            scope.names[name] = value if value is None or value.is_const else inside[value]
        self.initializers(proto, scope)
        self.nodes(proto, scope)
        self.outputs(proto, scope)
        return graph

    # Functions

    def call(self, function: FunctionProto, entry: Entry, scope: Scope) -> None:
        """Reads the function's body in place of the call."""
        imports = imports_of(function) or scope.imports
        check_call(function, entry, imports, entry)
        self.account.enter(entry)
        formals, title = texts(function.input), entry.title
        place = location(entry.proto, entry.name, entry.op, scope.call)
        inner = Scope(
            scope.graph,
            imports,
            names=dict.fromkeys(formals),
            call=place if place.origin or place.scope else Loc(origin=title),
            prefix=f"{scope.prefix}{title}/",
        )
        inner.names |= {
            formal: self.value(name, scope, entry) for formal, name in zip(formals, entry.inputs, strict=False)
        }
        inner.bindings = bound_attributes(function, entry.proto, scope, inner)
        self.run(self.functions.body(function, self.name), inner, texts(function.output))
        for name, formal in zip(entry.outputs, texts(function.output), strict=False):
            if name:
                scope.names[name] = value = self.value(formal, inner, entry)
                if value is not None and value.node is not None and not value.is_input:
                    value.name = scope.prefix + name
        self.account.leave()
