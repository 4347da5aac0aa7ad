"""The numpy kernels of constant folding against the reference implementation, and what they leave to it."""

from __future__ import annotations

import numpy as np
import pytest
from tersor.backends.runners.evaluate import evaluate_by_reference
from tersor.backends.runners.kernels import KERNELS, run_kernel
from tersor.ir import Node, parse
from tersor.ir.inference import infer


def node_of(text: str) -> Node:
    """The only node of a graph `() -> ...` whose operands are constants."""
    graph = parse(f"graph() -> (y) {{ {text} return %y }}")
    infer(graph)
    (node,) = graph
    return node


SAME = [
    "%y = Add(f32[2,1]{1.5,-2.0}, f32[3]{1,2,3})",
    "%y = Add(i32[2]{2147483647,-2147483648}, i32[2]{1,-1})",
    "%y = Sub(u8[2]{0,3}, u8[2]{1,1})",
    "%y = Mul(i64[2]{4611686018427387904,3}, i64[]{4})",
    "%y = Div(i64[4]{-7,7,-7,7}, i64[4]{2,2,-2,-2})",
    "%y = Div(f32[3]{1,-1,0}, f32[3]{0,0,0})",
    "%y = Mod(i64[4]{-7,7,-7,7}, i64[4]{4,4,-4,-4})",
    "%y = Mod(i64[4]{-7,7,-7,7}, i64[4]{4,4,-4,-4}) {fmod=1}",
    "%y = Mod(f32[2]{-7.5,7.5}, f32[2]{4,4}) {fmod=1}",
    "%y = Pow(f32[2]{2,3}, i64[]{2})",
    "%y = Pow(i64[2]{2,-3}, i64[]{3})",
    "%y = Max(i32[2]{1,5}, i32[]{3}, i32[2]{9,0})",
    "%y = Min(f32[2]{1,5}, f32[]{3})",
    "%y = Sum(f32[2]{1,5}, f32[]{3}, f32[1]{1})",
    "%y = Clip(i32[3]{-5,0,9}, i32[]{-1}, i32[]{4})",
    "%y = Clip(f32[3]{-5,0,9}, _, f32[]{4})",
    "%y = Round(f32[5]{0.5,1.5,2.5,-0.5,2.6})",
    "%y = Where(bool[2]{true,false}, i64[1]{1}, i64[2]{7,8})",
    "%y = Equal(i64[2]{1,2}, i64[]{2})",
    "%y = And(bool[2]{true,false}, bool[]{true})",
    "%y = Not(bool[2]{true,false})",
    "%y = BitwiseNot(u8[2]{0,5})",
    "%y = Cast(f32[4]{-1.9,1.9,0.0,255.0}) {to=6}",
    "%y = Cast(f32[3]{-1.9,0.0,0.3}) {to=9}",
    "%y = Cast(i64[2]{4294967297,-1}) {to=6}",
    "%y = Cast(f64[2]{1e300,0.1}) {to=1}",
    "%y = CastLike(i64[2]{1,0}, f32[]{0})",
    "%y = Reshape(f32[2,3]{1,2,3,4,5,6}, i64[2]{0,-1})",
    "%y = Reshape(f32[0,3]{}, i64[2]{3,0}) {allowzero=1}",
    "%y = Flatten(f32[2,3]{1,2,3,4,5,6}) {axis=-1}",
    "%y = Squeeze(f32[1,2,1]{1,2})",
    "%y = Squeeze(f32[1,2,1]{1,2}, i64[1]{-1})",
    "%y = Unsqueeze(f32[2]{1,2}, i64[2]{0,-1})",
    "%y = Transpose(f32[2,3]{1,2,3,4,5,6})",
    "%y = Expand(f32[2,1]{1,2}, i64[3]{2,1,3})",
    "%y = Tile(f32[1,2]{1,2}, i64[2]{3,2})",
    "%y = Concat(f32[1,2]{1,2}, f32[1,1]{3}) {axis=-1}",
    "%y = Slice(f32[5]{0,1,2,3,4}, i64[1]{-2}, i64[1]{9223372036854775807})",
    "%y = Slice(f32[5]{0,1,2,3,4}, i64[1]{-1}, i64[1]{-9223372036854775807}, i64[1]{0}, i64[1]{-2})",
    "%y = Slice(f32[5]{0,1,2,3,4}, i64[1]{9}, i64[1]{1}, i64[1]{0}, i64[1]{-1})",
    "%y = Slice(f32[2,3]{1,2,3,4,5,6}, i64[1]{1}, i64[1]{-9}, i64[1]{-1})",
    "%y = Gather(f32[3,2]{1,2,3,4,5,6}, i64[2]{-1,0})",
    "%y = Gather(f32[2,3]{1,2,3,4,5,6}, i64[]{1}) {axis=-1}",
    "%y = GatherElements(f32[2,2]{1,2,3,4}, i64[2,1]{-1,0}) {axis=1}",
    "%y = GatherND(f32[2,2]{1,2,3,4}, i64[2,2]{0,-1,1,0})",
    "%y = GatherND(f32[2,2]{1,2,3,4}, i64[2,1]{1,0})",
    "%y = GatherND(f32[2,2,2]{1,2,3,4,5,6,7,8}, i64[2,1]{1,0}) {batch_dims=1}",
    "%y = GatherND(f32[2,3]{1,2,3,4,5,6}, i64[2,2,1]{1,0,2,2}) {batch_dims=1}",
    "%y = ScatterND(f32[4]{1,2,3,4}, i64[2,1]{-1,1}, f32[2]{9,8})",
    "%y = ScatterND(f32[2,2]{1,2,3,4}, i64[1,1]{0}, f32[1,2]{9,8})",
    "%y = ConstantOfShape(i64[2]{2,1}) {value=tensor i64[1] = [7]}",
    "%y = ConstantOfShape(i64[1]{2})",
    "%y = Range(i64[]{5}, i64[]{0}, i64[]{-2})",
    "%y = Range(f32[]{1}, f32[]{2}, f32[]{0.3})",
    "%y = Shape(f32[2,3]{1,2,3,4,5,6}) {start=-1}",
    "%y = Size(f32[2,3]{1,2,3,4,5,6})",
    "%y = NonZero(i64[2,2]{1,0,0,4})",
    "%y = Trilu(f32[2,2]{1,2,3,4}, i64[]{1})",
    "%y = Trilu(f32[2,2]{1,2,3,4}) {upper=0}",
    "%y = ReduceSum(f32[2,2]{1,2,3,4}, i64[1]{-1}) {keepdims=0}",
    "%y = ReduceSum(f32[2,2]{1,2,3,4}) {noop_with_empty_axes=1}",
    "%y = ReduceProd(i64[3]{2,3,4})",
    "%y = ReduceMean(f32[2,2]{1,2,3,4}, i64[1]{0})",
    "%y = MatMul(f32[2,2]{1,2,3,4}, f32[2]{1,1})",
]


@pytest.mark.parametrize("text", SAME)
def test_a_kernel_gives_what_the_reference_gives(text: str):
    node = node_of(text)
    found = run_kernel(node)
    assert found is not None
    (wanted,) = evaluate_by_reference(node)
    assert wanted is not None
    np.testing.assert_array_equal(found[0], wanted)
    assert found[0].dtype == np.asarray(wanted).dtype


def test_a_split_gives_all_its_pieces():
    graph = parse("graph() -> (a, b) { %a, %b = Split(f32[5]{1,2,3,4,5}) {num_outputs=2} return %a, %b }")
    infer(graph)
    (node,) = graph
    assert [x.tolist() for x in run_kernel(node) or []] == [[1, 2, 3], [4, 5]]


@pytest.mark.parametrize("training", [0, 1])
def test_a_batch_normalization_is_that_of_the_reference_to_the_last_rounding(training: int):
    operands = "f32[2,2,1]{1,2,3,5}, f32[2]{2,-1}, f32[2]{0.5,0}, f32[2]{1,0}, f32[2]{4,1}"
    node = node_of(f"%y = BatchNormalization({operands}) {{training_mode={training}, epsilon=0.1}}")
    (found,) = run_kernel(node) or [None]
    (wanted,) = evaluate_by_reference(node)
    assert found is not None
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    assert found.dtype == np.float32


LEFT = {
    "division by zero": "%y = Div(i64[1]{1}, i64[1]{0})",
    "an index out of range": "%y = Gather(f32[3]{1,2,3}, i64[1]{3})",
    "a float that no integer holds": "%y = Cast(f32[1]{3e9}) {to=6}",
    "an integer to a negative power": "%y = Pow(i64[1]{2}, i64[1]{-1})",
    "arithmetic on brain floats": "%y = Add(bf16[1]{1}, bf16[1]{2})",
    "a place out of range": "%y = GatherND(f32[2,2]{1,2,3,4}, i64[1,2]{0,2})",
    "a reduction of nothing": "%y = ReduceMax(f32[0]{})",
}


@pytest.mark.parametrize("name", LEFT)
def test_a_kernel_leaves(name: str):
    assert run_kernel(node_of(LEFT[name])) is None


def test_every_kernel_is_compared_with_the_reference_or_is_the_numpy_function_of_that_name():
    named = {text.split(" = ")[1].partition("(")[0] for text in SAME} | {"Split", "BatchNormalization"}
    plain = "Abs BitwiseAnd BitwiseOr BitwiseXor Ceil Cos Exp Floor Greater GreaterOrEqual IsNaN Less LessOrEqual Log Neg Or "
    plain += "ReduceMax ReduceMin Sign Sin Sqrt Tanh Xor"
    assert set(KERNELS) - named == set(plain.split())
