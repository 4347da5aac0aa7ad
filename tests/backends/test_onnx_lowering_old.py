"""What simplify may leave, written for opsets that lack it: a Gemm without a bias, comparisons that hold for equal ones."""

import numpy as np
import pytest
from tersor.backends.onnx import to_proto
from tersor.backends.runners import OrtRunner, ReferenceRunner
from tersor.ir import Model, parse

GEMM = "graph(%a: f32[4,2], %b: f32[5,4]) -> (y) { %y = Gemm(%a, %b) {transA=1, transB=1} : f32[2,5] return %y }"
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("opset", [7, 9, 10, 11])
def test_a_gemm_without_a_bias_is_written_with_one_of_zeros_where_there_has_to_be_one(opset: int):
    model = Model(parse(GEMM), {"": opset})
    (node,) = to_proto(model, opset).graph.node
    assert (node.op_type, len(node.input)) == ("Gemm", 3 if opset < 11 else 2)
    feed = {"a": RANDOM.normal(size=(4, 2)).astype(np.float32), "b": RANDOM.normal(size=(5, 4)).astype(np.float32)}
    found = OrtRunner(model, optimize=False).run(feed)["y"]
    np.testing.assert_allclose(found, feed["a"].T @ feed["b"].T, rtol=1e-5)


@pytest.mark.parametrize("op", ["GreaterOrEqual", "LessOrEqual"])
@pytest.mark.parametrize(("dtype", "written"), [("i64", ["Less", "Not"]), ("f32", ["Equal", "Greater", "Or"])])
def test_comparisons_that_hold_for_equal_ones_are_written_out_before_opset_12(op: str, dtype: str, written: list[str]):
    text = f"graph(%a: {dtype}[6], %b: {dtype}[6]) -> (y) {{ %y = {op}(%a, %b) : bool[6] return %y }}"
    model = Model(parse(text), {"": 11})
    found = sorted(node.op_type for node in to_proto(model, 11).graph.node)
    swap = {"Less": "Greater", "Greater": "Less"} if op == "LessOrEqual" else {}
    assert found == sorted(swap.get(name, name) for name in written)
    a, b = (np.array([1, 2, 3, 4, 0, 0]), np.array([2, 2, 2, 4, 1, 0]))
    feed = {
        "a": a.astype(np.float32 if dtype == "f32" else np.int64),
        "b": b.astype(np.float32 if dtype == "f32" else np.int64),
    }
    if dtype == "f32":
        feed["a"][0] = np.nan
    np.testing.assert_array_equal(
        OrtRunner(model, optimize=False).run(feed)["y"], ReferenceRunner(Model(parse(text), {"": 26})).run(feed)["y"]
    )
