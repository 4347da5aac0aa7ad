"""Inferred types never contradict the outputs of ONNX's own single-node test cases.

The cases come from the onnx package (they are generated in memory). Each is tried with all operands constant, with
data as graph inputs of known sizes, and with every size a symbol whose value is put back afterwards.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.backend.test.case.base as case_base
import onnx.backend.test.case.node as case_node
import onnx.reference.ops.op_pool_common as pooling
import pytest
from onnx import numpy_helper
from tersor.ir import (
    ANY,
    Dense,
    DType,
    Graph,
    InvalidModelError,
    Loc,
    Node,
    OptionalType,
    SequenceType,
    TensorType,
    Type,
    Value,
    lookup,
    symbol,
    verify,
)
from tersor.ir.dims import free_symbols, substitute
from tersor.ir.inference import infer

OLDEST = 13
SHAPE_OPERANDS = {"scales", "roi", "depth", "start", "limit", "delta"}
"""Floating-point operands that shapes are computed from."""


IRREGULAR = {"test_if_opt"}
"""Cases that list the elements of an output that is a sequence as if they were outputs."""


@dataclass
class Case:
    name: str
    node: onnx.NodeProto
    inputs: Sequence[Any]
    outputs: Sequence[Any]
    opset: int | None


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """Every case whose operator means at the canonical opset what it means in the case."""
    return [c for c in collect() if is_canonical(c) and c.name not in IRREGULAR]


def collect() -> list[Case]:
    """Records what the case modules pass to `expect`; pooling windows are not computed, only their number matters."""
    found: list[Case] = []

    def expect(node: onnx.NodeProto, inputs: Sequence[Any], outputs: Sequence[Any], name: str, **extra: Any) -> None:
        opsets = {o.domain: o.version for o in extra.get("opset_imports", ())}
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        found.append(Case(name, copied, inputs, outputs, opsets.get(node.domain)))

    def windows(
        padded: Any, x_shape: Sequence[int], kernel: Any, strides: Any, out_shape: Sequence[int], *_: Any, **__: Any
    ) -> Any:
        return np.zeros([x_shape[0], x_shape[1], *out_shape], np.float32)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some cases overflow on purpose
        patch.setattr(case_node, "expect", expect)
        patch.setattr(case_base, "process_snippet", lambda *_: ("", ""))
        patch.setattr(pooling, "pool", windows)
        for module in pkgutil.iter_modules(case_node.__path__):
            name = f"{case_node.__name__}.{module.name}"
            importlib.reload(sys.modules[name]) if name in sys.modules else importlib.import_module(name)
    return list({c.name: c for c in found}.values())


def is_canonical(case: Case) -> bool:
    """True where the canonical schema takes the case's operands and attributes, and the case is not too old."""
    schema = lookup(case.node.op_type, case.node.domain)
    if schema is None or (case.opset is not None and case.opset < min(schema.version, OLDEST)):
        return False
    fits = schema.inputs[0] <= len(case.node.input) <= schema.inputs[1]
    return fits and all(a.name in schema.attributes for a in case.node.attribute)


# From protobuf to the IR, as far as the cases need it


def attributes(node: onnx.NodeProto) -> tuple[dict[str, Any], dict[str, onnx.GraphProto]]:
    plain: dict[str, Any] = {}
    graphs: dict[str, onnx.GraphProto] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, onnx.GraphProto):
            graphs[attribute.name] = value
        elif isinstance(value, onnx.TensorProto):
            plain[attribute.name] = tensor(value)
        elif isinstance(value, onnx.TypeProto):
            plain[attribute.name] = type_from(value)
        elif isinstance(value, bytes):
            plain[attribute.name] = value.decode()
        elif isinstance(value, (list, tuple)) or hasattr(value, "__len__"):
            plain[attribute.name] = tuple(v.decode() if isinstance(v, bytes) else v for v in value)
        else:
            plain[attribute.name] = value
    return plain, graphs


def tensor(proto: onnx.TensorProto) -> Dense:
    return Dense(numpy_helper.to_array(proto), DType.of_code(proto.data_type))


def type_from(proto: onnx.TypeProto) -> Type:
    match proto.WhichOneof("value"):
        case "tensor_type":
            return TensorType(DType.of_code(proto.tensor_type.elem_type), None)
        case "sequence_type":
            return SequenceType(type_from(proto.sequence_type.elem_type))
        case "optional_type":
            return OptionalType(type_from(proto.optional_type.elem_type))
        case _:
            return ANY


def region(proto: onnx.GraphProto) -> Graph | None:
    """A region without captures; None where the case has some."""
    graph = Graph(proto.name)
    scope = {i.name: graph.add_input(i.name, type_from(i.type)) for i in proto.input}
    for initializer in proto.initializer:
        scope[initializer.name] = Value(initializer.name, tensor(initializer).type, const=tensor(initializer))
    for inner in proto.node:
        if any(name and name not in scope for name in inner.input):
            return None
        made = make_node(inner, [scope.get(name) for name in inner.input])
        if made is None:
            return None
        graph.insert(made)
        scope.update(zip(inner.output, made.outputs, strict=True))
    graph.set_outputs([scope[o.name] for o in proto.output], [o.name for o in proto.output])
    return graph


def make_node(proto: onnx.NodeProto, operands: Sequence[Value | None]) -> Node | None:
    plain, graphs = attributes(proto)
    if any(key.startswith("value_") or key == "sparse_value" for key in plain):  # the frontend's forms of Constant
        return None
    regions = {key: region(graph) for key, graph in graphs.items()}
    if any(r is None for r in regions.values()):
        return None
    return Node(
        proto.op_type,
        operands,
        plain,
        len(proto.output),
        domain=proto.domain,
        regions=regions,
        loc=Loc(origin=proto.name),
    )


# Values


def type_of(value: Any) -> Type:
    """The type of a case's operand or result; a sequence's element type has no shape."""
    if isinstance(value, onnx.TensorProto):
        return TensorType(DType.of_code(value.data_type), tuple(value.dims))
    if isinstance(value, (list, tuple)):
        return SequenceType(TensorType(DType.of_numpy(np.asarray(value[0]).dtype), None)) if value else ANY
    return ANY if value is None else TensorType(DType.of_numpy(np.asarray(value).dtype), np.asarray(value).shape)


def as_constant(value: Any) -> Value | None:
    if isinstance(value, onnx.TensorProto):
        held = tensor(value)
    elif value is None or isinstance(value, (list, tuple)):
        return None
    else:
        held = Dense(np.asarray(value))
    return Value("", held.type, const=held)


def is_small_integer(type_: Type) -> bool:
    """Operands that shapes are computed from."""
    return (
        isinstance(type_, TensorType)
        and len(type_.shape or ()) < 2
        and (type_.dtype.is_integer or type_.dtype is DType.BOOL)
    )


def all_constant(type_: Type, position: int) -> Type | None:
    return None if isinstance(type_, TensorType) else type_


def data_as_inputs(type_: Type, position: int) -> Type | None:
    return None if is_small_integer(type_) else type_


def every_integer_an_input(type_: Type, position: int) -> Type | None:
    return type_


def own_symbols(type_: Type, position: int) -> Type | None:
    """Each size a symbol of its own."""
    if not isinstance(type_, TensorType) or is_small_integer(type_):
        return data_as_inputs(type_, position)
    return TensorType(type_.dtype, tuple(symbol(f"v{size}_{position}_{i}") for i, size in enumerate(type_.shape or ())))


def shared_symbols(type_: Type, position: int) -> Type | None:
    """Sizes above 1 are symbols, the same for the same size."""
    if not isinstance(type_, TensorType) or is_small_integer(type_):
        return data_as_inputs(type_, position)
    return TensorType(
        type_.dtype, tuple(symbol(f"v{s}") if isinstance(s, int) and s > 1 else s for s in type_.shape or ())
    )


def build(case: Case, describe: Any) -> Graph | None:
    """The case as a graph; `describe` gives each operand's type as an input, or None for a constant."""
    graph = Graph(case.name)
    operands: list[Value | None] = []
    given = iter(case.inputs)
    for position, name in enumerate(case.node.input):
        if not name:
            operands.append(None)
            continue
        value = next(given)
        type_ = None if name in SHAPE_OPERANDS else describe(type_of(value), position)
        held = as_constant(value) if type_ is None else None
        operands.append(held or graph.add_input(f"{name}_{position}", type_of(value) if type_ is None else type_))
    node = make_node(case.node, operands)
    if node is None:
        return None
    graph.insert(node)
    graph.set_outputs(
        [v for v, n in zip(node.outputs, case.node.output, strict=True) if n], [n for n in case.node.output if n]
    )
    return graph


# The comparison


def contradictions(inferred: Type, expected: Any) -> Iterator[str]:
    """What an inferred type claims that the expected result denies."""
    if isinstance(expected, (list, tuple)):
        if isinstance(inferred, (SequenceType, OptionalType)):
            for element in expected:
                yield from contradictions(inferred.element, element)
        elif inferred != ANY:
            yield f"{inferred} for a sequence"
        return
    found = type_of(expected)
    if not isinstance(found, TensorType) or inferred == ANY:
        return
    if isinstance(inferred, OptionalType):
        inferred = inferred.element
    if not isinstance(inferred, TensorType) or inferred.dtype is not found.dtype:
        yield f"{inferred} for {found}"
        return
    if inferred.shape is None:
        return
    sizes = [known_size(s) for s in inferred.shape]
    if len(sizes) != len(found.shape or ()) or any(
        a not in (None, b) for a, b in zip(sizes, found.shape or (), strict=False)
    ):
        yield f"{inferred} for {found}"


def known_size(size: Any) -> Any:
    """A size with the values of the symbols put back; None where a fresh symbol is left."""
    symbols = free_symbols(size)
    if any(s.is_fresh for s in symbols):
        return None
    return substitute(size, {s: int(s.name[1:].split("_")[0]) for s in symbols})


VARIANTS = [all_constant, data_as_inputs, every_integer_an_input, own_symbols, shared_symbols]


@pytest.mark.parametrize("describe", VARIANTS, ids=lambda d: d.__name__)
def test_no_inferred_type_contradicts_the_expected_output(cases: list[Case], describe: Any) -> None:
    assert len(cases) > 1000
    wrong: list[str] = []
    for case in cases:
        graph = build(case, describe)
        if graph is None:
            continue
        try:
            infer(graph)
            verify(graph)
        except InvalidModelError as error:
            wrong.append(f"{case.name}: {error}")
            continue
        expected = case.outputs
        wrong += [
            f"{case.name}: {text}"
            for v, e in zip(graph.outputs, expected, strict=True)
            for text in contradictions(v.type, e)
        ]
    assert not wrong, "\n".join(wrong)
