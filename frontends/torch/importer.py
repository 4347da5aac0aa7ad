"""From an exported program's graph to a Graph: one walk over the nodes, a row of the table for each."""

from __future__ import annotations

import gc
import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx import GraphModule, Node

from ...ir import (
    ANY,
    Array,
    Dense,
    Graph,
    Model,
    TensorType,
    TersorError,
    UnsupportedError,
    Value,
    VerificationError,
    constant,
    verify,
)
from ...ir.inference import infer
from .control import CONTROL
from .interface import output_names, unique
from .locations import Locations, path_of_module, unsupported
from .lowering import DTYPES, Declined, Lowering, Refused, dtype_of, shape_of, typed
from .sizes import Sizes
from .spectral import Complex, concerns, lowered
from .table import NAMES, ROWS
from .views import INVERSES, Views, owner_of

MEANINGLESS = frozenset(
    [
        "device",
        "layout",
        "pin_memory",
        "non_blocking",
        "memory_format",
        "dtype",
        "copy",
        "cudnn_enabled",
        "cudnn_enable",
    ]
)
"""Arguments without influence on numbers, or (dtype) that the type of the result says again."""

CHECKS = frozenset(
    [
        "aten._assert_tensor_metadata.default", "aten._assert_scalar.default", "aten._assert_async.msg",
        "aten._assert_async.default",
        "aten.sym_constrain_range.default", "aten.sym_constrain_range_for_size.default",
    ]
)  # fmt: skip
"""Operators that only check; their results are not used."""

PLACES = frozenset(["aten.sym_storage_offset.default"])
"""Numbers about memory, which tensors here have none of; only guards read them."""

WRAPPERS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}
"""Higher-order operators that run a submodule as it is, and where it stands among their arguments."""

BIT_VIEWS = {
    torch.bfloat16: (torch.int16, ml_dtypes.bfloat16),
    torch.float8_e4m3fn: (torch.int8, ml_dtypes.float8_e4m3fn),
    torch.float8_e4m3fnuz: (torch.int8, ml_dtypes.float8_e4m3fnuz),
    torch.float8_e5m2: (torch.int8, ml_dtypes.float8_e5m2),
    torch.float8_e5m2fnuz: (torch.int8, ml_dtypes.float8_e5m2fnuz),
}


class Undecomposed(TersorError):
    """An operator of the program has no row, or its row declined; `targets` are the overloads in question."""

    def __init__(self, error: UnsupportedError, targets: Sequence[Any]) -> None:
        super().__init__(error.what, where=error.where, why=error.why, do=error.do)
        self.error, self.targets = error, targets


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Building makes many objects and no cycles to collect: the collector would only look through them again and
    again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def import_program(program: ExportedProgram, names: Mapping[str, str]) -> Model:
    """Lowers a program whose in-place operators are pure in effect. Raises Undecomposed where an operator has no
    lowering."""
    with no_garbage_collection():
        return Importer(program, names).model()


class Importer:
    """The state of one import: what each fx node stands for (`env`), and the graph under construction."""

    def __init__(self, program: ExportedProgram, names: Mapping[str, str]) -> None:
        self.program, self.names = program, names
        self.graph = Graph(_name_of(program))
        self.op = self.lowering(self.graph)
        self.locations = Locations()
        self.env: dict[Node, Any] = {}
        self.views = Views()
        self._declared: list[tuple[Value, TensorType]] = []
        self._weights: dict[Any, Value] = {}

    def lowering(self, graph: Graph) -> Lowering:
        """A builder for the program's graph or a region."""
        return Lowering(graph, Sizes(self.program.range_constraints, self.names))

    def model(self) -> Model:
        self.check_operators()
        self.inputs()
        results = self.run(self.program.graph_module, {})
        self.outputs(results)
        infer(self.graph)
        self.check_types()
        verify(self.graph, after="the import of a torch program")
        keys = {n: self.weight(n).tensor for n, t in self.program.state_dict.items() if t.dtype in DTYPES}
        buffers = frozenset(self.program.graph_signature.buffers) & keys.keys()
        classes = {path_of_module(path): name for path, name in self.locations.classes.items()}
        version = torch.__version__
        return Model(
            self.graph, producer="pytorch", producer_version=version, keys=keys, buffers=buffers, classes=classes
        )

    def check_operators(self) -> None:
        """Raises Undecomposed that names every operator without a row, so that all are decomposed at once."""
        missing: dict[Any, Node] = {}
        for node in _operators(self.program.graph_module):
            if name_of(node) not in NAMES and name_of(node) not in CHECKS:
                missing.setdefault(node.target, node)
        if missing:
            others = ", ".join(str(t) for t in list(missing)[1:])
            why = f"it has no row and no decomposition{f'; the same goes for {others}' if others else ''}"
            raise Undecomposed(fail(next(iter(missing.values())), why), list(missing))

    def check_types(self) -> None:
        """Raises VerificationError where what a graph computes has another type than the program's result."""
        for value, kind in self._declared:
            found = value.type
            sizes = zip(found.shape or (), kind.shape or (), strict=False) if isinstance(found, TensorType) else ()
            differ = any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in sizes)
            if not isinstance(found, TensorType) or found.dtype is not kind.dtype or found.rank != kind.rank or differ:
                raise VerificationError(
                    "a lowered operator has another type than in PyTorch",
                    where=value.node.where if value.node is not None else value.name,
                    why=f"PyTorch says {kind!r}, the graph {found!r}",
                    do="this is a fault of the PyTorch frontend: please report it",
                )

    def inputs(self) -> None:
        """Graph inputs for what the caller gives, constants for parameters, buffers and lifted tensors."""
        specs = {spec.arg.name: spec for spec in self.program.graph_signature.input_specs}
        for node in self.program.graph.nodes:
            if node.op != "placeholder":
                continue
            spec = specs[node.name]
            if spec.kind is InputKind.USER_INPUT:
                self.user_input(node)
            elif spec.kind in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
                if node.users:
                    self.env[node] = self.weight(str(spec.target))
            else:
                raise fail(node, f"inputs of the kind {spec.kind.name.lower()} are not covered")

    def user_input(self, node: Node) -> None:
        fake = node.meta.get("val")
        if isinstance(fake, torch.Tensor):
            try:
                kind = self.op.type_of(fake)
            except Declined as declined:
                raise fail(node, declined.why) from None
            value = self.env[node] = self.graph.add_input(node.name, kind)
            for axis, size in enumerate(kind.shape or ()):
                self.op.symbols.define(size, (value, axis))
        elif isinstance(fake, torch.SymInt):
            size = self.op.symbols.of(fake)
            value = self.graph.add_input(node.name, TensorType(DTYPES[torch.int64], ()))
            self.env[node] = size
            if size is not None:
                self.op.symbols.define(size, value)
        else:
            self.env[node] = fake

    def weight(self, name: str) -> Value:
        """The constant for a parameter, buffer or lifted tensor; names of one tensor give one constant."""
        state, constants = self.program.state_dict, self.program.constants
        tensor: Any = state[name] if name in state else constants[name]
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype) if tensor.numel() else name
        if key not in self._weights:
            made = self._weights[key] = constant(Dense(to_array(tensor), DTYPES[tensor.dtype]), name)
            if name in state:
                self.op.kept.add(id(made.const))
        return self._weights[key]

    def run(self, module: GraphModule, bound: Mapping[Node, Any]) -> Sequence[Any]:
        """Lowers a graph; gives what its output node holds. `bound` are the placeholders' meanings inside a wrapped
        submodule."""
        self.env.update(bound)
        for node in module.graph.nodes:
            if node.op == "call_function":
                self.env[node] = self.call(module, node)
            elif node.op == "get_attr":
                found = operator.attrgetter(node.target)(module)
                self.env[node] = constant(to_array(found), node.target) if isinstance(found, torch.Tensor) else found
            elif node.op == "output":
                return self.resolve(node.args[0])
        return ()

    def within(self, graph: Graph, op: Lowering, module: GraphModule, given: Sequence[Any]) -> Sequence[Any]:
        """Lowers a submodule, whose placeholders stand for `given`, into a graph of its own; gives its results."""
        outer = self.graph, self.op, self.views
        self.graph, self.op, self.views = graph, op, Views()
        op.kept = self.op.kept
        holders = [n for n in module.graph.nodes if n.op == "placeholder"]
        try:
            return self.run(module, dict(zip(holders, given, strict=True)))
        finally:
            self.graph, self.op, self.views = outer

    def resolve(self, argument: Any) -> Any:
        """An fx argument with nodes replaced by what they stand for, and symbolic integers by sizes."""
        if isinstance(argument, Node):
            return self.env[argument] if argument not in self.views.stale else self.viewed(argument)
        if isinstance(argument, (list, tuple)):
            return [self.resolve(a) for a in argument]
        return argument

    def call(self, module: GraphModule, node: Node) -> Any:
        if node.target is operator.getitem:
            return self.item(node)
        name = name_of(node)
        if name in CHECKS:
            return None
        fake = node.meta.get("val")
        if isinstance(fake, (torch.SymInt, torch.SymFloat, torch.SymBool, int, float, bool)):
            return self.number(node, fake)
        wrapped = WRAPPERS.get(getattr(node.target, "__name__", ""))
        if wrapped is not None:
            return self.inline(module, node, wrapped)
        self.views.add(node)
        if name in CONTROL:
            return self.branch(node, name, fake)
        return self.lower(node, name, fake)

    def branch(self, node: Node, name: str, fake: Any) -> Sequence[Value]:
        """The results of a higher-order operator, whose submodules become regions."""
        op = self.op
        op.loc = self.locations.of(node)
        try:
            kinds = op.outs = [op.type_of(f) for f in fake if isinstance(f, torch.Tensor)]
            results = CONTROL[name](self, *[self.resolve(a) for a in node.args])
        except Declined as declined:
            raise fail(node, declined.why) from None
        for place, (value, kind) in enumerate(zip(results, kinds, strict=True)):
            self.finish(value, kind, f"{node.name}_{place}")
        self.define_unbacked(node, results)
        return results

    def item(self, node: Node) -> Any:
        source: Any = node.args[0]
        index: Any = node.args[1]
        whole = self.resolve(source)
        if whole is None or index >= len(whole) or (whole[index] is None and node.users):
            raise fail(source, f"its result {index} is used, which the lowering does not give")
        return whole[index]

    def inline(self, module: GraphModule, node: Node, place: int) -> Any:
        """The results of a wrapped submodule, lowered where it is called."""
        if node.target.__name__ == "wrap_with_autocast" and node.args[2]:  # pyright: ignore[reportFunctionMemberAccess, reportAttributeAccessIssue]
            raise fail(node, "its operators choose their element types at run time; export the module without autocast")
        holder: Any = node.args[place]
        submodule = self.env[holder]
        arguments = [self.resolve(a) for a in node.args[place + 1 :]]
        holders = [n for n in submodule.graph.nodes if n.op == "placeholder"]
        return self.run(submodule, dict(zip(holders, arguments, strict=True)))

    def number(self, node: Node, fake: Any) -> Any:
        """What a node that computes with sizes stands for: a size, or a value read from a tensor. Truth values only
        guard."""
        if isinstance(fake, torch.SymInt):
            size = self.op.symbols.of(fake)
            if size is None:
                raise fail(node, f"the size {fake} has a form that sizes lack")
            if name_of(node) in PLACES:
                return size
            if not self.op.symbols.is_defined(size):
                self.op.symbols.define(size, self.lower(node, name_of(node), None))
            return size
        if isinstance(fake, torch.SymFloat):
            return self.lower(node, name_of(node), None)
        return None if isinstance(fake, torch.SymBool) else fake

    def lower(self, node: Node, name: str, fake: Any) -> Any:
        """Runs the node's row, then names and types its results."""
        op = self.op
        row = ROWS.get(name)
        if name not in NAMES:
            raise Undecomposed(fail(node, "it has no row"), [node.target])
        arguments = [self.resolve(a) for a in node.args]
        options = {k: self.resolve(v) for k, v in node.kwargs.items() if k not in MEANINGLESS}
        op.loc = self.locations.of(node)
        before = self.graph.exit.prev
        try:
            fakes = [fake] if isinstance(fake, torch.Tensor) else [f for f in fake or () if isinstance(f, torch.Tensor)]
            op.outs = [op.type_of(f) for f in fakes]
            op.used = frozenset(picked(user) for user in node.users if user.target is operator.getitem)
            if row is None or concerns(op, arguments):
                made = lowered(op, name, row, arguments, options)
            else:
                made = row(op, *arguments, **options)
        except Declined as declined:
            error = fail(node, declined.why)
            raise error if isinstance(declined, Refused) else Undecomposed(error, [node.target]) from None
        results = [made] if isinstance(made, (Value, Complex)) else list(made or ())
        for place, (value, kind) in enumerate(zip(results, op.outs, strict=False)):
            if isinstance(value, Value) and is_new(value, before):
                self.finish(value, kind, node.name if len(results) == 1 else f"{node.name}_{place}")
        if isinstance(made, Complex):
            if isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable:
                raise fail(node, "it writes complex numbers in place")
            return made
        if not isinstance(made, Value):
            self.define_unbacked(node, [r if isinstance(r, Value) else None for r in results])
            return results
        made = self.written(node, made)
        self.define_unbacked(node, [made])
        return made

    def finish(self, value: Value, kind: TensorType, name: str) -> None:
        value.name = name
        value.type = kind
        self._declared.append((value, kind))

    def written(self, node: Node, made: Value) -> Value:
        """For an in-place operator: the result in the operand's element type, which the operand stands for from now on,
        as do the tensors that share its memory."""
        target: Any = node.target
        operand: Any = node.args[0] if node.args else None
        if not isinstance(target, torch._ops.OpOverload) or not target._schema.is_mutable:
            return made
        op = self.op
        made = self.env[operand] = op.expand(op.cast(made, op.out.dtype), op.out_shape)
        chain = self.views.chain(operand)
        for view, owner in pairwise(chain):
            self.env[owner] = self.undone(view, self.resolve(owner))
        self.views.overwritten([node, *chain])
        return made

    def undone(self, view: Node, owner: Value) -> Value:
        """The owner of a view with the view's new contents in their place."""
        inverse = INVERSES.get(str(view.target))
        if inverse is None:
            return self.env[view]
        made = inverse(self.op, owner, self.env[view], *[self.resolve(a) for a in view.args[1:]])
        return typed(made, dtype_of(owner), shape_of(owner))

    def viewed(self, node: Node) -> Value:
        """A view taken anew from contents that were written since it was taken last."""
        self.views.stale.discard(node)
        owner = owner_of(node)
        assert owner is not None
        if str(node.target) in INVERSES:
            self.env[node] = self.lower(node, name_of(node), node.meta["val"])
        else:
            self.env[node] = self.resolve(owner)
        return self.env[node]

    def define_unbacked(self, node: Node, results: Sequence[Value | None]) -> None:
        """Sizes that depend on data are read off the first result that has them."""
        if "unbacked_bindings" in node.meta:
            for value in results:
                for axis, size in enumerate(value.shape or () if isinstance(value, Value) else ()):
                    if isinstance(value, Value) and not isinstance(size, int):
                        self.op.symbols.define(size, (value, axis))

    def outputs(self, results: Sequence[Any]) -> None:
        """The graph's outputs: what the module returns, flattened; entries that are None are left out."""
        names = output_names(self.program.call_spec.out_spec)
        specs = self.program.graph_signature.output_specs
        wanted = [r for r, s in zip(results, specs, strict=True) if s.kind is OutputKind.USER_OUTPUT]
        self.op.loc = self.locations.of(self.program.graph.output_node())
        kept = [(name, self.result(r)) for name, r in zip(names, wanted, strict=True) if r is not None]
        taken = {v.name for v in self.graph.inputs}
        self.graph.set_outputs([v for _, v in kept], unique([name for name, _ in kept], taken))

    def result(self, found: Any) -> Value:
        if isinstance(found, Value):
            return found
        if isinstance(found, Complex):
            raise fail(self.program.graph.output_node(), "a complex result of the graph is not covered")
        if isinstance(found, (bool, int, float)):
            return constant(np.asarray(found, np.float32 if isinstance(found, float) else None))
        return self.op.size(found)


def fail(node: Node, why: str) -> UnsupportedError:
    """The error for a node that cannot be lowered."""
    what = f"input {node.name!r}" if node.op == "placeholder" else str(node.target)
    do = "add a row to a table of frontends/torch (docs/adding-an-operator.md), or change the module"
    return unsupported(node, f"{what} cannot be lowered", why, do)


def picked(item: Node) -> int:
    """The place of the result that a getitem picks."""
    index: Any = item.args[1]
    return index


def is_new(value: Value, before: Any) -> bool:
    """Whether a value is the result of a node that came after `before`."""
    node = value.node
    if value.const is not None or node is None:
        return False
    return value.type is ANY or _comes_after(node, before)


def _comes_after(node: Any, before: Any) -> bool:
    current = before.next
    while current is not None:
        if current is node:
            return True
        current = current.next
    return False


def name_of(node: Node) -> str:
    """The key of a node's row: that of the pure operator for an in-place one."""
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        space, name, overload = str(target).split(".")
        if target._schema.is_mutable and name.endswith("_") and not name.endswith("__"):
            name = name[:-1]
        return f"{space}.{name}.{overload}"
    return getattr(target, "__name__", str(target))


def _operators(module: GraphModule) -> Iterator[Node]:
    """The nodes that need a row: those that compute tensors, also in wrapped submodules."""
    for node in module.graph.nodes:
        if node.op == "get_attr":
            found = operator.attrgetter(node.target)(module)
            if isinstance(found, GraphModule):
                yield from _operators(found)
        elif node.op == "call_function" and node.target is not operator.getitem:
            fake = node.meta.get("val")
            if getattr(node.target, "__name__", "") in WRAPPERS.keys() | CONTROL.keys():
                continue
            if not isinstance(fake, (torch.SymInt, torch.SymFloat, torch.SymBool, int, float, bool)):
                yield node


def to_array(tensor: torch.Tensor) -> Array:
    """The tensor's memory as a numpy array, without copying where it is on the CPU."""
    held = tensor.detach().cpu()
    if held.dtype in BIT_VIEWS:
        bits, ours = BIT_VIEWS[held.dtype]
        return held.view(bits).numpy().view(ours)
    return held.resolve_conj().resolve_neg().numpy()


def _name_of(program: ExportedProgram) -> str:
    """The class of the outermost module, for the graph's name; nodes that torch made itself do not know it."""
    for node in program.graph.nodes:
        for path, kind in (node.meta.get("nn_module_stack") or {}).values():
            if path == "":
                name = kind if isinstance(kind, str) else kind.__name__
                return name.rsplit(".", 1)[-1]
    return "graph"
