"""Double precision: every kernel against the reference implementation, and what becomes of a model's types."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tersor.backends.compare import compare
from tersor.backends.runners import DoubleRunner, OrtRunner, synthesize
from tersor.backends.runners.double import FAST, compute
from tersor.backends.runners.evaluate import run_by_reference
from tersor.backends.runners.kernels import run_kernel_of
from tersor.ir import Graph, Model, Node, TensorType, TersorError, parse, to_text
from tersor.ir.inference import infer
from tersor.ir.types import DType

DOUBLE = """
graph(%x: f32[2,3,6,6], %i: i64[2]) -> (y, k) {
  @w : f32[4,3,3,3] = random(7)
  @s : f32[4] = random(1)
  @b : f32[4] = random(2)
  @v : f32[4] = [1.0,2.0,3.0,4.0]
  %0 = Conv(%x, @w) : f32[2,4,4,4]
  %1 = BatchNormalization(%0, @s, @b, @s, @v) : f32[2,4,4,4]
  %2 = Cast(%i) {to=1} : f32[2]
  %3 = Reshape(%2, i64[4]{2,1,1,1}) : f32[2,1,1,1]
  %4 = Add(%1, %3) : f32[2,4,4,4]
  %y = Softmax(%4) {axis=1} : f32[2,4,4,4]
  %k = ConstantOfShape(i64[1]{2}) {value=tensor f32[1] = [0.5]} : f32[2]
  return %y, %k
}"""


def test_double_precision_shows_the_rounding_of_single_precision() -> None:
    model = Model(parse(DOUBLE))
    feeds = synthesize(model.graph)[0]
    exact = DoubleRunner(model).run(feeds)
    assert {a.dtype for a in exact.values()} == {np.dtype(np.float64)}
    error = compare(exact["y"], OrtRunner(model).run(feeds)["y"]).max_error
    assert 0 < error < 1e-5


def test_a_tapped_value_in_double_precision_is_double_too() -> None:
    model = Model(parse(DOUBLE))
    found = DoubleRunner(model, taps=[n.output for n in model.graph]).run_taps(synthesize(model.graph)[0])
    assert {a.dtype for a in found} == {np.dtype(np.float64)}


def test_statistics_of_a_group_normalization_are_double_too() -> None:
    model = Model(
        parse("""graph(%x: f32[1,4,3]) -> (y) {
          @s : f32[4] = [1.0,1.0,1.0,1.0]
          @b : f32[4] = [0.0,0.0,0.0,0.0]
          %y = GroupNormalization(%x, @s, @b) {epsilon=0.0, num_groups=1} : f32[1,4,3]
          return %y
        }""")
    )
    (feeds,) = synthesize(model.graph)
    x = feeds["x"].astype(np.float64)
    found = DoubleRunner(model).run(feeds)["y"]
    np.testing.assert_allclose(found, (x - x.mean()) / x.std(), rtol=1e-12)


def test_double_precision_leaves_the_model_alone() -> None:
    model = Model(parse(DOUBLE))
    before = to_text(model.graph)
    DoubleRunner(model)
    assert to_text(model.graph) == before


def node_of(op: str, operands: list[np.ndarray | None], **attributes) -> Node:
    """A node of inputs that are like the operands, with its inferred types."""
    graph = Graph()
    inputs = [
        None if x is None else graph.add_input(f"x{i}", TensorType(DType.of_numpy(x.dtype), x.shape))
        for i, x in enumerate(operands)
    ]
    node = graph.add(op, inputs, {k: tuple(v) if isinstance(v, list) else v for k, v in attributes.items()})
    graph.set_outputs([node.output], ["y"])
    infer(graph)
    return node


def same_as_the_reference(op: str, operands: list[np.ndarray | None], **attributes) -> None:
    node = node_of(op, operands, **attributes)
    found = run_kernel_of(FAST, node, operands)
    (wanted,) = run_by_reference(node, operands)
    assert found is not None
    np.testing.assert_allclose(found[0], wanted, rtol=1e-10, atol=1e-12)


def same_as_the_runtime(op: str, operands: list[np.ndarray | None], **attributes) -> None:
    """The reference implementation is wrong about some windows, the runtime has single precision only."""
    narrow = [x.astype(np.float32) if x is not None else None for x in operands]
    wide = [x.astype(np.float64) if x is not None else None for x in narrow]
    feeds = {f"x{i}": x for i, x in enumerate(narrow) if x is not None}
    wanted = OrtRunner(Model(node_of(op, narrow, **attributes).graph), optimize=False).run(feeds)["y"]
    found = run_kernel_of(FAST, node_of(op, wide, **attributes), wide)
    assert found is not None
    np.testing.assert_allclose(found[0], wanted, rtol=1e-5, atol=1e-5)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@st.composite
def sliding(draw: st.DrawFn) -> dict[str, list[int]]:
    """Kernel, strides, dilations and padding along one to three axes, with sizes that hold a window."""
    axes = draw(st.integers(1, 3))

    def each(low: int, high: int, count: int = axes) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    found = {"kernel_shape": each(1, 3), "strides": each(1, 3), "dilations": each(1, 2), "pads": each(0, 1, 2 * axes)}
    reach = [(k - 1) * d + 1 for k, d in zip(found["kernel_shape"], found["dilations"], strict=True)]
    found["sizes"] = [r + more for r, more in zip(reach, each(0, 4), strict=True)]
    return found


@settings(max_examples=40, deadline=None)
@given(sliding(), st.integers(1, 2), st.sampled_from([(1, 3, 2), (2, 2, 1), (3, 1, 2), (4, 1, 1)]), st.booleans())
def test_convolutions_are_those_of_the_reference(window, images: int, channels: tuple[int, int, int], biased: bool):
    groups, each, made = channels
    sizes = window.pop("sizes")
    x, w = numbers(images, groups * each, *sizes), numbers(groups * made, each, *window["kernel_shape"], seed=1)
    same_as_the_reference("Conv", [x, w, numbers(groups * made) if biased else None], group=groups, **window)


@settings(max_examples=30, deadline=None)
@given(sliding(), st.sampled_from([(1, 3, 2), (2, 2, 1), (3, 1, 2)]), st.booleans())
def test_transposed_convolutions_are_those_of_the_runtime(window, channels: tuple[int, int, int], biased: bool):
    groups, each, made = channels
    sizes = [n + 2 for n in window.pop("sizes")]
    extra = [s - 1 for s in window["strides"]]
    x, w = numbers(2, groups * each, *sizes), numbers(groups * each, made, *window["kernel_shape"], seed=1)
    bias = numbers(groups * made) if biased else None
    same_as_the_runtime("ConvTranspose", [x, w, bias], group=groups, output_padding=extra, **window)
    if groups == 1:
        same_as_the_reference("ConvTranspose", [x, w, bias], output_padding=extra, **window)


@settings(max_examples=40, deadline=None)
@given(sliding(), st.booleans(), st.booleans(), st.sampled_from(["AveragePool", "MaxPool"]))
def test_pools_are_those_of_the_runtime(window, ceiled: bool, counted: bool, op: str):
    window["pads"] = [min(p, k - 1) for p, k in zip(window["pads"], window["kernel_shape"] * 2, strict=True)]
    x = numbers(2, 3, *window.pop("sizes"))
    counts = {"count_include_pad": int(counted)} if op == "AveragePool" else {}
    same_as_the_runtime(op, [x], **window, **counts, ceil_mode=int(ceiled))


PADDED = ["SAME_UPPER", "SAME_LOWER", "VALID"]


@pytest.mark.parametrize("how", PADDED)
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_padding_that_is_derived_from_the_sizes(how: str, stride: int):
    x, steps = numbers(1, 2, 7, 8), [stride, stride]
    same_as_the_runtime("Conv", [x, numbers(3, 2, 3, 2, seed=1)], auto_pad=how, strides=steps)
    same_as_the_runtime("MaxPool", [x], auto_pad=how, strides=steps, kernel_shape=[3, 2])
    same_as_the_runtime("AveragePool", [x], auto_pad=how, strides=steps, kernel_shape=[3, 2])


def test_a_convolution_whose_windows_are_unfolded_in_parts(monkeypatch):
    monkeypatch.setattr("tersor.backends.runners.windows.BLOCK", 100)
    same_as_the_reference("Conv", [numbers(2, 4, 9, 9), numbers(6, 2, 3, 3)], group=2, strides=[2, 1])


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"]),
    st.sampled_from(["linear", "round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    st.lists(st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0, 0.25]), min_size=2, max_size=2),
    st.booleans(),
)
def test_resizing_is_that_of_the_reference(where: str, how: str, factors: list[float], by_scale: bool):
    attributes = {"coordinate_transformation_mode": where, "axes": [2, 3]}
    attributes |= {"mode": "linear"} if how == "linear" else {"mode": "nearest", "nearest_mode": how}
    x = numbers(1, 2, 4, 8)
    scales = np.array(factors, np.float32) if by_scale else None
    wanted = None if by_scale else np.array([int(4 * factors[0]), int(8 * factors[1]) + 1])
    same_as_the_reference("Resize", [x, None, scales, wanted], **attributes)


def test_the_error_function_is_right_to_fourteen_digits():
    sizes = [*np.linspace(0, 7, 3001), 1e-300, 1e-9, 0.75, 6.0, math.inf]
    x = np.array([s * sign for s in sizes for sign in (1, -1)])
    (found,) = compute(node_of("Erf", [x]), [x])
    np.testing.assert_allclose(found, [math.erf(v) for v in x], rtol=1e-14, atol=0)
    (found,) = compute(node_of("Erf", [x]), [np.full_like(x, np.nan)])
    assert np.isnan(found).all()


def test_gelu_is_exact_where_the_reference_rounds_its_factors():
    x = numbers(30, 500) * 3
    (exact,) = compute(node_of("Gelu", [x]), [x])
    wanted = [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x.flat]
    np.testing.assert_allclose(exact.flat, wanted, rtol=0, atol=1e-15)
    node = node_of("Gelu", [x], approximate="tanh")
    np.testing.assert_allclose(compute(node, [x])[0], run_by_reference(node, [x])[0], rtol=0, atol=1e-7)


@pytest.mark.parametrize("bias", [None, (4,), (3, 1), (3, 4)])
@pytest.mark.parametrize("flipped", [0, 1])
def test_gemm_is_that_of_the_reference(bias, flipped: int):
    a, b = numbers(5, 3) if flipped else numbers(3, 5), numbers(4, 5, seed=1)
    c = None if bias is None else numbers(*bias)
    same_as_the_reference("Gemm", [a, b, c], transA=flipped, transB=1, alpha=0.5, beta=1.5)


LEFT = {
    "places of maxima": ("MaxPool", [numbers(1, 1, 4, 4)], {"kernel_shape": [2, 2]}),
    "cubic interpolation": ("Resize", [numbers(1, 1, 4, 4), None, None, np.array([1, 1, 8, 8])], {"mode": "cubic"}),
    "a transposed convolution that grows": ("ConvTranspose", [numbers(1, 1, 4), numbers(1, 1, 3)], {"pads": [-1, 0]}),
    "single precision": ("Erf", [np.ones(3, np.float32)], {}),
}


@pytest.mark.parametrize("name", LEFT)
def test_the_reference_computes(name: str):
    op, operands, attributes = LEFT[name]
    node = node_of(op, operands, **attributes)
    if op == "MaxPool":
        node.graph.set_outputs([node.output, node.add_output(TensorType(DType.I64, (1, 1, 3, 3)))], ["y", "i"])
    assert run_kernel_of(FAST, node, operands) is None
    assert compute(node, operands)[0] is not None


def test_what_nobody_needs_is_not_computed():
    model = Model(
        parse("""graph(%x: f32[2]) -> (y) {
          %a = Neg(%x) : f32[2]
          %never = my.domain::Op(%x) : f32[2]
          %y = Add(%a, %x) : f32[2]
          return %y
        }""")
    )
    assert DoubleRunner(model).run({"x": np.ones(2, np.float32)})["y"].tolist() == [0, 0]


def test_branches_and_sequences_are_the_reference_s():
    model = Model(
        parse("""graph(%x: f32[4], %c: bool[]) -> (y) {
          %p = SplitToSequence(%x, i64[]{2}) : seq<f32[2]>
          %a = SequenceAt(%p, i64[]{1}) : f32[2]
          %y = If(%c, %a) captures 1 : f32[2] regions {
            then_branch = graph(%t: f32[2]) -> (u) { %u = Mul(%t, f32[]{0.1}) : f32[2] return %u }
            else_branch = graph(%e: f32[2]) -> (v) { %v = Neg(%e) : f32[2] return %v }
          }
          return %y
        }""")
    )
    x = np.array([1, 2, 3, 7], np.float32)
    found = DoubleRunner(model).run({"x": x, "c": np.array(True)})["y"]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, x[2:] * np.float64(np.float32(0.1)), rtol=1e-15)


def test_an_operator_that_nobody_has_is_an_error_that_names_it():
    model = Model(parse("graph(%x: f32[2]) -> (y) { %y = my.domain::Op(%x) : f32[2] return %y }"), {"": 26})
    with pytest.raises(TersorError) as caught:
        DoubleRunner(model).run({"x": np.ones(2, np.float32)})
    assert "Op" in str(caught.value.where)
