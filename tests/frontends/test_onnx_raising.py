"""Raising old opsets: every version change is accounted for, and raised nodes compute what the original nodes compute."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, defs, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from tersor.backends.onnx import to_proto
from tersor.backends.runners import ReferenceRunner
from tersor.frontends.onnx import load
from tersor.frontends.onnx.raising.table import EXTENDED, NEWER, ROWS, WIDENED, listed
from tersor.ir import CANONICAL_OPSET, Model, UnsupportedError, lookup

ort.set_default_logger_severity(4)
RNG = np.random.default_rng(7)


# The table


def history() -> list[tuple[str, int, int]]:
    """(operator, version before, version) for every version change up to the canonical opset."""
    versions: dict[str, list[int]] = {}
    for schema in defs.get_all_schemas_with_history():
        if schema.domain == "" and schema.since_version <= CANONICAL_OPSET:
            versions.setdefault(schema.name, []).append(schema.since_version)
    return [(op, a, b) for op, all_ in sorted(versions.items()) for a, b in itertools.pairwise(sorted(all_))]


def rows() -> list[tuple[str, int]]:
    return [(op, version) for operators, version, _ in ROWS for op in operators.split()]


def test_every_version_change_of_every_operator_is_in_exactly_one_place():
    places = [*rows(), *listed(EXTENDED), *listed(WIDENED)]
    assert len(places) == len(set(places))
    changes = {(op, version) for op, _, version in history()}
    assert changes - set(places) == set()
    assert set(places) - changes == set()


def formals(op: str, version: int) -> tuple[list[str], list[str]]:
    schema = defs.get_schema(op, version, "")
    return [p.option.name for p in schema.inputs], [p.option.name for p in schema.outputs]


def kinds_and_defaults(op: str, version: int) -> dict[str, tuple[str, bool, Any]]:
    schema = lookup(op, "", version)
    assert schema is not None
    return {n: (k, n in schema.required, schema.defaults.get(n)) for n, k in schema.attributes.items()}


def test_widened_operators_kept_their_attributes_operands_and_outputs():
    listed_ = set(listed(WIDENED))
    for op, before, version in history():
        if (op, version) in listed_:
            assert kinds_and_defaults(op, before) == kinds_and_defaults(op, version), (op, version)
            assert formals(op, before) == formals(op, version), (op, version)


def test_operators_listed_as_newer_kept_their_attributes_operands_and_outputs():
    for op, version in listed(NEWER):
        assert version > CANONICAL_OPSET
        assert kinds_and_defaults(op, CANONICAL_OPSET) == kinds_and_defaults(op, version), (op, version)
        assert formals(op, CANONICAL_OPSET) == formals(op, version), (op, version)


def test_extended_operators_only_gained_what_is_optional():
    listed_ = set(listed(EXTENDED))
    for op, before, version in history():
        if (op, version) not in listed_:
            continue
        old, new = kinds_and_defaults(op, before), kinds_and_defaults(op, version)
        for name, (kind, required, default) in old.items():
            assert new[name][0] == kind, (op, version)
            assert new[name][2] == default, (op, version)
            assert required or not new[name][1], (op, version)
        assert not any(required for name, (_, required, _) in new.items() if name not in old), (op, version)
        for then, now in zip(formals(op, before), formals(op, version), strict=True):
            assert all(b in (a, "Optional") for a, b in zip(then, now, strict=False)), (op, version)
            assert all(extra == "Optional" for extra in now[len(then) :]), (op, version)


# Models of one node

Operand = np.ndarray | None


def one_node(
    op: str,
    opset: int,
    operands: Sequence[Operand],
    attrs: dict[str, Any] | None = None,
    *,
    outputs: int = 1,
    inputs: Sequence[int] = (0,),
    ranks: bool = True,
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model with the node; operands listed in `inputs` are graph inputs, the others initializers; without `ranks`
    shapes are unknown.
    """
    names = ["" if a is None else f"x{i}" for i, a in enumerate(operands)]
    feeds = {names[i]: a for i, a in enumerate(operands) if i in inputs and a is not None}
    infos = [
        helper.make_tensor_value_info(
            n, helper.np_dtype_to_tensor_dtype(a.dtype), [f"{n}_{d}" for d in range(a.ndim)] if ranks else None
        )
        for n, a in feeds.items()
    ]
    held = [
        numpy_helper.from_array(a, n) for n, a in zip(names, operands, strict=True) if a is not None and n not in feeds
    ]
    results = [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)]
    node = helper.make_node(op, names, [r.name for r in results], **(attrs or {}))
    graph = helper.make_graph([node], "g", infos, results, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return model, feeds


def run(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[Any]:
    """The outputs from ONNX Runtime, or from ONNX's reference where the former has no kernel."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    if proto.opset_import[0].version > 21 and proto.graph.node[-1].op_type == "RoiAlign":
        return list(ReferenceEvaluator(proto).run(None, feeds))
    return ort.InferenceSession(proto.SerializeToString(), options).run(None, feeds)


def ops(model: Model) -> list[str]:
    return [node.op for node in model.graph]


def f(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def i64(*numbers: int) -> np.ndarray:
    return np.asarray(numbers, np.int64)


def f32(*numbers: float) -> np.ndarray:
    return np.asarray(numbers, np.float32)


IMAGE, MATRIX, SEQUENCE = f(2, 3, 6, 8), f(4, 5), f(3, 2, 4)
EMPTY = np.zeros(0, np.float32)
AXES = {"axes": [1, -1], "keepdims": 0}
REDUCTIONS = [
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSumSquare",
]
CASES: list[tuple[Any, ...]] = [
    ("BatchNormalization", 7, [IMAGE, f(3), f(3), f(3), np.abs(f(3)) + 1], {"spatial": 1, "epsilon": 1e-3}),
    ("BatchNormalization", 9, [IMAGE, f(3), f(3), f(3), np.abs(f(3)) + 1], {}),
    ("Upsample", 7, [IMAGE], {"scales": [1.0, 1.0, 2.0, 3.0]}),
    ("Upsample", 7, [IMAGE], {"scales": [1.0, 1.0, 2.0, 2.5], "mode": "linear"}),
    ("Upsample", 9, [IMAGE, f32(1, 1, 2, 1.5)], {"mode": "nearest"}),
    ("Resize", 10, [IMAGE, f32(1, 1, 2, 2)], {"mode": "nearest"}),
    ("Resize", 10, [IMAGE, f32(1, 1, 0.6, 0.6)], {"mode": "nearest"}),
    ("Resize", 10, [IMAGE, f32(1, 1, 0.7, 1.7)], {"mode": "nearest"}),
    ("Resize", 10, [IMAGE, f32(1, 1, 0.6, 1.6)], {"mode": "linear"}),
    ("Resize", 11, [IMAGE, EMPTY, f32(1, 1, 2, 1.5)], {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
    ("Resize", 11, [IMAGE, EMPTY, EMPTY, i64(2, 3, 9, 7)], {"mode": "cubic", "coordinate_transformation_mode": "align_corners"}),
    ("Resize", 11, [IMAGE, EMPTY, f32(1, 1, 2.3, 1.7)], {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "floor"}),
    ("Resize", 11, [IMAGE, EMPTY, f32(1, 1, 0.6, 0.7)], {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "floor"}),
    ("Resize", 11, [IMAGE, EMPTY, f32(1, 1, 0.6, 1.7)], {"coordinate_transformation_mode": "tf_half_pixel_for_nn"}),
    ("Resize", 11, [IMAGE, f32(0, 0, 0.2, 0.3, 1, 1, 0.8, 0.9), f32(1, 1, 1, 1)], {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}),
    ("Resize", 13, [IMAGE, None, f32(1, 1, 2, 2)], {"mode": "linear"}),
    ("Slice", 7, [IMAGE], {"starts": [1, -6], "ends": [3, 1000], "axes": [1, 3]}),
    ("Slice", 7, [MATRIX], {"starts": [1, 0], "ends": [3, -1]}),
    ("TopK", 7, [MATRIX], {"k": 2, "axis": 0}, {"outputs": 2}),
    ("Clip", 7, [MATRIX], {"min": -0.1, "max": 0.3}),
    ("Clip", 7, [MATRIX], {"min": 0.0}),
    ("Clip", 7, [MATRIX], {}),
    ("Pad", 7, [MATRIX], {"pads": [0, 1, 2, 3], "value": 0.1}),
    ("Pad", 7, [MATRIX], {"pads": [0, 1, 2, 3], "mode": "reflect", "value": 5.0}),
    ("Pad", 7, [MATRIX], {"pads": [0, 1, 0, -2]}),
    ("Scatter", 9, [MATRIX, i64(1, 0).reshape(1, 2), f(1, 2)], {"axis": 1}),
    ("Dropout", 7, [MATRIX], {"ratio": 0.3}),
    ("Dropout", 10, [MATRIX], {"ratio": 0.3}),
    ("Dropout", 11, [MATRIX], {}),
    ("ReduceSum", 11, [IMAGE], AXES),
    ("ReduceSum", 11, [IMAGE], {}),
    *[(op, opset, [IMAGE], AXES) for op in REDUCTIONS for opset in (11, 13)],
    ("ReduceLogSum", 13, [np.abs(IMAGE)], {"axes": [0]}),
    ("ReduceMax", 12, [IMAGE], {"keepdims": 1}),
    ("Squeeze", 11, [f(1, 3, 1, 2)], {"axes": [0, 2]}),
    ("Squeeze", 11, [f(1, 3, 1, 2)], {}),
    ("Unsqueeze", 11, [MATRIX], {"axes": [0, 3]}),
    ("Split", 11, [MATRIX], {"split": [1, 3, 1], "axis": 1}, {"outputs": 3}),
    ("Split", 11, [MATRIX], {}, {"outputs": 2}),
    ("Split", 13, [MATRIX], {"axis": 0}, {"outputs": 4}),
    ("Split", 13, [MATRIX, i64(3, 1)], {}, {"outputs": 2}),
    *[(op, 11, [SEQUENCE], {"axis": axis}) for op in ("Softmax", "LogSoftmax", "Hardmax") for axis in (0, 1, 2, -1, -2)],
    *[(op, 12, [SEQUENCE], {}) for op in ("Softmax", "LogSoftmax", "Hardmax")],
    ("RoiAlign", 10, [IMAGE, f32(0, 0, 5, 4, 1, 1, 7, 5).reshape(2, 4), i64(0, 1)], {"output_height": 3, "output_width": 2, "sampling_ratio": 2}),
    ("DFT", 17, [f(1, 4, 6, 1)], {"onesided": 1}),
    ("DFT", 17, [f(1, 4, 6, 2)], {"axis": 2, "inverse": 1}),
    ("GridSample", 16, [IMAGE, np.tanh(f(2, 4, 5, 2))], {}),
    ("GridSample", 16, [IMAGE, np.tanh(f(2, 4, 5, 2))], {"mode": "bicubic", "align_corners": 1}),
    ("GridSample", 16, [IMAGE, np.tanh(f(2, 4, 5, 2))], {"mode": "nearest", "padding_mode": "border"}),
    # changes that are listed as none
    ("ArgMax", 7, [MATRIX], {"axis": 1}),
    ("AveragePool", 10, [IMAGE], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 1, 1, 1]}),
    ("AveragePool", 11, [IMAGE], {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER", "count_include_pad": 1}),
    ("MaxPool", 8, [IMAGE], {"kernel_shape": [3, 2], "strides": [2, 1]}, {"outputs": 2}),
    ("MaxPool", 10, [IMAGE], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("LpPool", 7, [IMAGE], {"kernel_shape": [2, 2], "p": 2}),
    ("ConvTranspose", 7, [IMAGE, f(3, 2, 3, 3)], {"strides": [2, 2], "output_shape": [12, 16]}),
    ("Conv", 7, [IMAGE, f(4, 3, 3, 3), f(4)], {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("QuantizeLinear", 10, [MATRIX, np.float32(0.1), np.uint8(128)], {}),
    ("DequantizeLinear", 10, [RNG.integers(0, 255, (3, 4)).astype(np.uint8), np.float32(0.1), np.uint8(128)], {}),
    ("OneHot", 9, [i64(0, 2, -1), i64(3), f32(0.5, 2.0)], {}),
    ("DepthToSpace", 7, [f(1, 8, 2, 3)], {"blocksize": 2}),
    ("NonMaxSuppression", 10, [np.sort(np.abs(f(1, 6, 4)), 2), np.abs(f(1, 2, 6)), i64(2), f32(0.5), f32(0.1)], {}, {"inputs": (0, 1)}),
    ("Gemm", 7, [MATRIX, f(5, 3), f(3)], {"alpha": 0.5}),
    ("LSTM", 7, [SEQUENCE, f(1, 20, 4), f(1, 20, 5), f(1, 40)], {"hidden_size": 5}, {"outputs": 3}),
    ("GRU", 7, [SEQUENCE, f(1, 15, 4), f(1, 15, 5), f(1, 30)], {"hidden_size": 5, "linear_before_reset": 1}, {"outputs": 2}),
    ("RNN", 7, [SEQUENCE, f(2, 5, 4), f(2, 5, 5)], {"hidden_size": 5, "direction": "bidirectional"}, {"outputs": 2}),
    ("Gather", 7, [MATRIX, i64(2, 0)], {"axis": 1}),
    ("GatherND", 11, [MATRIX, i64(2, 0, 1, 3).reshape(2, 2)], {}),
    ("Reshape", 7, [MATRIX, i64(0, -1, 1)], {}),
    ("Shape", 7, [IMAGE], {}),
    ("CumSum", 11, [MATRIX, i64(1)[0]], {"reverse": 1}),
    ("Mod", 10, [f(3, 4), f(3, 4)], {"fmod": 1}),
    ("Flatten", 7, [IMAGE], {"axis": 2}),
    ("Concat", 7, [MATRIX, f(4, 2)], {"axis": 1}),
    ("PRelu", 7, [IMAGE, f(3, 1, 1)], {}),
    ("ScatterElements", 11, [MATRIX, i64(1, 0).reshape(1, 2), f(1, 2)], {"axis": 1}),
    ("InstanceNormalization", 7, [IMAGE, f(3), f(3)], {}),
    ("Cast", 9, [MATRIX], {"to": TensorProto.INT64}),
]  # fmt: skip


def title(case: tuple[Any, ...]) -> str:
    return f"{case[0]}-{case[1]} {case[3]}"


@pytest.mark.parametrize("case", CASES, ids=title)
def test_a_raised_node_computes_what_the_original_computes(case: tuple[Any, ...]):
    op, opset, operands, attrs, *more = case
    proto, feeds = one_node(op, opset, operands, attrs, **(more[0] if more else {}))
    for wanted, found in zip(run(proto, feeds), run(to_proto(load(proto), CANONICAL_OPSET), feeds), strict=True):
        assert wanted.dtype == found.dtype
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


WITHOUT_RANK = [
    ("Softmax", 11, [SEQUENCE], {"axis": 1}, {}),
    ("Hardmax", 11, [SEQUENCE], {}, {}),
    ("LogSoftmax", 9, [f(3, 0, 4)], {"axis": 2}, {}),
    ("Resize", 10, [IMAGE, f32(1, 1, 0.7, 1.7)], {"mode": "nearest"}, {"inputs": (0, 1)}),
    ("Upsample", 9, [IMAGE, f32(1, 1, 2, 2)], {}, {"inputs": (0, 1)}),
]


@pytest.mark.parametrize("case", WITHOUT_RANK, ids=title)
def test_rules_that_like_to_know_shapes_are_right_without_them(case: tuple[Any, ...]):
    op, opset, operands, attrs, more = case
    proto, feeds = one_node(op, opset, operands, attrs, ranks=False, **more)
    (wanted,), (found,) = run(proto, feeds), run(to_proto(load(proto), CANONICAL_OPSET), feeds)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_softmax_over_one_long_axis_stays_one_node():
    proto, _ = one_node("Softmax", 11, [f(2, 3)], {"axis": 1})
    assert ops(load(proto)) == ["Softmax"]
    proto.graph.input[0].type.tensor_type.shape.CopyFrom(onnx.TensorShapeProto())
    for size in (2, 10, 1, 1):
        proto.graph.input[0].type.tensor_type.shape.dim.add().dim_value = size
    (node,) = load(proto).graph
    assert (node.op, node.int("axis")) == ("Softmax", 1)


def test_softmax_over_several_long_axes_is_flattened():
    proto, _ = one_node("Softmax", 11, [SEQUENCE], {"axis": 1})
    assert ops(load(proto)) == ["Shape", "Flatten", "Softmax", "Reshape"]


def test_the_name_and_type_of_an_output_move_to_what_stands_for_it():
    proto, _ = one_node("Softmax", 11, [SEQUENCE], {"axis": 1})
    graph = load(proto).graph
    assert graph.outputs[0].name == "y0"
    assert graph.outputs[0].rank == 3


def test_group_normalization_18_has_its_scale_per_group():
    proto, feeds = one_node("GroupNormalization", 18, [f(2, 6, 4), f(3), f(3)], {"num_groups": 3})
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 6
    (found,) = run(to_proto(load(proto), CANONICAL_OPSET), feeds)
    grouped = feeds["x0"].reshape(2, 3, -1)
    mean, variance = grouped.mean(-1, keepdims=True), grouped.var(-1, keepdims=True)
    scale, bias = (numpy_helper.to_array(t).reshape(1, 3, 1) for t in proto.graph.initializer)
    wanted = ((grouped - mean) / np.sqrt(variance + 1e-5) * scale + bias).reshape(2, 6, 4)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_dropout_mask_keeps_the_element_type_it_had():
    proto, _ = one_node("Dropout", 7, [MATRIX], {}, outputs=2)
    assert repr(load(proto).graph.outputs[1].type).startswith("f32")


def test_scan_8_becomes_a_scan_over_the_batch():
    def value(name: str, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    nodes = [helper.make_node("Add", ["state", "x"], ["sum"]), helper.make_node("Identity", ["sum"], ["scanned"])]
    body = helper.make_graph(nodes, "body", [value("state", 2), value("x", 2)], [value("sum", 2), value("scanned", 2)])
    node = helper.make_node("Scan", ["", "s", "xs"], ["final", "all"], num_scan_inputs=1, body=body, directions=[1])
    interface = [value("s", 3, 2), value("xs", 3, 4, 2)], [value("final", 3, 2), value("all", 3, 4, 2)]
    proto = helper.make_model(
        helper.make_graph([node], "g", *interface), opset_imports=[helper.make_opsetid("", 8)], ir_version=8
    )
    feeds = {"s": f(3, 2), "xs": f(3, 4, 2)}
    for wanted, found in zip(run(proto, feeds), run(to_proto(load(proto), CANONICAL_OPSET), feeds), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


# Opsets before 7, which ONNX Runtime does not run: against numpy

OLD: list[tuple[str, int, list[np.ndarray], dict[str, Any], Any]] = [
    ("Add", 6, [IMAGE, f32(1, 2, 3)], {"broadcast": 1, "axis": 1}, lambda x, b: x + b[:, None, None]),
    ("Mul", 1, [IMAGE, f32(1, 2, 3, 4, 5, 6, 7, 8)], {"broadcast": 1}, lambda x, b: x * b),
    ("Relu", 1, [MATRIX], {"consumed_inputs": [0]}, lambda x: np.maximum(x, 0)),
    ("PRelu", 6, [IMAGE, f32(1, 2, 3)], {}, lambda x, s: np.where(x < 0, x * s[:, None, None], x)),
    ("Reshape", 1, [MATRIX], {"shape": [2, 10]}, lambda x: x.reshape(2, 10)),
    ("Concat", 3, [MATRIX, MATRIX], {}, lambda x, y: np.concatenate([x, y], 1)),
    ("Pad", 1, [MATRIX], {"paddings": [0, 1, 0, 1]}, lambda x: np.pad(x, [(0, 0), (1, 1)])),
    ("Cast", 1, [MATRIX], {"to": "INT32"}, lambda x: x.astype(np.int32)),
    ("Selu", 1, [f32(-1.0, 2.0)], {}, lambda x: np.where(x > 0, 1.0507 * x, 1.0507 * 1.6732 * np.expm1(x))),
    ("Gemm", 6, [MATRIX, f(5, 3), f(3)], {"broadcast": 1}, lambda a, b, c: a @ b + c),
    ("Dropout", 6, [MATRIX], {"is_test": 1}, lambda x: x),
    ("Upsample", 1, [IMAGE], {"height_scale": 2.0, "width_scale": 1.0}, lambda x: np.repeat(x, 2, 2)),
    ("LpPool", 1, [IMAGE], {"p": 1.0, "kernel_shape": [6, 8]}, lambda x: np.abs(x).sum((2, 3), keepdims=True)),
]  # fmt: skip


@pytest.mark.parametrize("case", OLD, ids=title)
def test_a_node_older_than_opset_7_is_raised_to_what_it_meant(case: Any):
    op, opset, operands, attrs, meaning = case
    proto, feeds = one_node(op, opset, operands, attrs)
    (found,) = run(to_proto(load(proto), CANONICAL_OPSET), feeds)
    np.testing.assert_allclose(found, meaning(*operands), rtol=1e-5, atol=1e-5)


REFUSED: list[tuple[str, int, list[Operand], dict[str, Any], int]] = [
    ("BatchNormalization", 7, [IMAGE, f(3), f(3), f(3), f(3)], {"spatial": 0}, 1),
    ("BatchNormalization", 9, [IMAGE, f(3), f(3), f(3), f(3)], {}, 5),
    ("Dropout", 6, [MATRIX], {}, 1),
    ("Tile", 5, [MATRIX, f32(2), f32(1)], {}, 1),
    ("Resize", 11, [IMAGE, EMPTY, f32(1, 1, 2, 2)], {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "ceil"}, 1),
    ("GroupNormalization", 18, [f(2, 6, 4), f(3), f(3)], {"num_groups": 3}, 1),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=title)
def test_a_form_without_a_canonical_equivalent_is_refused_with_the_node(case: Any):
    op, opset, operands, attrs, outputs = case
    proto, _ = one_node(op, opset, operands, attrs, outputs=outputs)
    proto.graph.node[0].name = "culprit"
    with pytest.raises(UnsupportedError) as caught:
        load(proto)
    assert "culprit" in str(caught.value)


def test_training_outputs_of_an_old_batch_normalization_make_it_a_training_one():
    proto, _ = one_node("BatchNormalization", 9, [IMAGE, f(3), f(3), f(3), f(3)], {}, outputs=5)
    del proto.graph.output[1:]
    (node,) = load(proto).graph
    assert (node.int("training_mode"), len(node.outputs)) == (1, 3)


def test_a_newer_version_that_only_allows_more_types_is_read():
    proto, _ = one_node("Unique", 28, [MATRIX], {}, outputs=2)
    assert ops(load(proto)) == ["Unique"]


NEWER_FORMS = {
    "signed_right": ("BitShift", [np.int8([-128, -1, 100, -5, 7]), np.int8([1, 9, 2, -1, 0])], {"direction": "RIGHT"}),
    "signed_left": ("BitShift", [np.int32([-3, 1, 5]), np.int32([1, 31, 32])], {"direction": "LEFT"}),
    "unsigned": ("BitShift", [np.uint16([65535, 3]), np.uint16([16, 1])], {"direction": "RIGHT"}),
    "float_floor": ("Mod", [np.float32([5, -5, 5, -5, 0, 3]), np.float32([3, 3, -3, -3, -2, -np.inf])], {}),
    "half_range": ("Range", [np.float16(0), np.float16(2050), np.float16(1)], {}),
    "columns_first": (
        "SpaceToDepth",
        [np.arange(48, dtype=np.float32).reshape(1, 3, 4, 4)],
        {"blocksize": 2, "mode": "CRD"},
    ),
}


@pytest.mark.parametrize("name", NEWER_FORMS)
def test_a_newer_form_of_an_operator_is_spelled_out_at_the_canonical_opset(name: str):
    op, operands, attrs = NEWER_FORMS[name]
    version = lookup(op, "", 28).version
    names = [f"x{i}" for i in range(len(operands))]
    types = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for n, x in zip(names, operands, strict=True)
    ]
    result = helper.make_tensor_value_info("y", types[0].type.tensor_type.elem_type, None)
    made = helper.make_graph([helper.make_node(op, names, ["y"], **attrs)], "g", types, [result])
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", version)])
    feeds = dict(zip(names, operands, strict=True))
    (expected,) = ReferenceEvaluator(proto).run(None, feeds)
    found = ReferenceRunner(load(proto)).run(feeds)["y"]
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
