"""Products of two computed matrices: where int8 pays, what is written, and what stays as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tersor.backends.compare import compare
from tersor.backends.onnx import save
from tersor.backends.runners import Feeds, OrtRunner, TorchRunner
from tersor.backends.torch import to_module
from tersor.frontends.onnx import load
from tersor.ir import Graph, Model, parse, skeleton, verify
from tersor.transforms.base import Context, Outcome
from tersor.transforms.cost import bind_sizes
from tersor.transforms.prune import Prune
from tersor.transforms.quantize import Quantize, ToQdq, gain
from tersor.transforms.quantize.insertion import activation_parameters
from tersor.transforms.quantize.layers import Product, product_of
from tersor.transforms.quantize.observers import Range
from tersor.transforms.quantize.placement import TARGETS, Pace, Products, Target, place
from tersor.transforms.quantize.products import Extent, centred, extent, observed
from tersor.transforms.quantize.report import optimised
from tersor.transforms.quantize.scheme import signed
from tersor.transforms.simplify import Simplify

ROWS = 512
SQUARE = f"f32[{ROWS},{ROWS}]"


def graph(body: str, inputs: str = f"%a: {SQUARE}, %b: {SQUARE}", outputs: str = "y") -> Graph:
    return parse(f"graph ({inputs}) -> ({outputs}) {{ {body} }}")


def feed(found: Graph, seed: int = 0) -> Feeds:
    """Normally distributed inputs; symbols are 3."""
    rng = np.random.default_rng(seed)
    shapes = {v.name: [d if isinstance(d, int) else 3 for d in v.shape or ()] for v in found.inputs}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def quantized(found: Graph, options: Quantize | None = None) -> tuple[Model, Outcome]:
    model = Model(found)
    outcome = (options or Quantize()).run(model, Context(samples=[feed(found)]))
    verify(model.graph)
    return model, outcome


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets on which int8 pays at any size, so that graphs may be small."""
    for name, target in TARGETS.items():
        made = Products(Pace(9e3, 1.0), Pace(1.0, 1e3), target.products.signed)
        changed = Target(**{**target.__dict__, "products": made})
        monkeypatch.setitem(TARGETS, name, changed)
        if name == "ort-cpu":
            monkeypatch.setattr(gain, "ORT", changed)


def test_a_large_product_reads_two_pairs_and_gives_float():
    """Every range is [0, 255] here, so that every scale is 1."""
    model = Model(graph(f"%1 = MatMul(%a, %b) : {SQUARE} return %1"))
    numbers = np.random.default_rng(0).integers(0, 256, (ROWS, ROWS)).astype(np.float32)
    outcome = Quantize().run(model, Context(samples=[{"a": numbers, "b": numbers}]))
    integers = f"u8[{ROWS},{ROWS}]"
    after = graph(f"""
      %1 = QuantizeLinear(%b, f32[]{{1}}, u8[]{{0}}) : {integers}
      %2 = DequantizeLinear(%1, f32[]{{1}}, u8[]{{0}}) : {SQUARE}
      %3 = QuantizeLinear(%a, f32[]{{1}}, u8[]{{0}}) : {integers}
      %4 = DequantizeLinear(%3, f32[]{{1}}, u8[]{{0}}) : {SQUARE}
      %5 = MatMul(%4, %2) : {SQUARE}
      return %5
    """)
    assert skeleton(model.graph) == skeleton(after)
    assert [d.decision for d in outcome.decisions] == ["int8"]


def test_onnx_runtime_computes_it_with_integers():
    model, outcome = quantized(graph(f"%1 = MatMul(%a, %b) : {SQUARE} return %1"))
    assert {n.op_type for n in optimised(model).node} == {"QuantizeLinear", "MatMulIntegerToFloat"}
    assert outcome.warnings == []


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        (("f32[64,64]", "f32[64,64]", "f32[64,64]"), "[64, 64] by [64, 64]"),
        (("f32[1,12,128,32]", "f32[1,12,32,128]", "f32[1,12,128,128]"), "12 x [128, 32] by [32, 128]"),
    ],
)
def test_a_small_one_stays_float_and_the_reason_names_sizes_and_times(shapes: tuple[str, ...], said: str):
    a, b, y = shapes
    found = graph(f"%1 = MatMul(%a, %b) : {y} return %1", f"%a: {a}, %b: {b}")
    before = str(found)
    model, outcome = quantized(found)
    (row,) = outcome.decisions
    assert str(model.graph) == before
    assert row.decision == "fp32"
    assert row.reason.startswith(f"int8 would not pay here: {said} ")
    assert " us against " in row.reason
    assert "modelled" in row.reason


REFUSED = {
    "of integers": ("%1 = MatMul(%a, %b) : i32[9,9]", "i32[9,9]", "it computes in i32; only f32 is quantized"),
    "a vector": ("%1 = MatMul(%a, %b) : f32[9]", "f32[9]", "an operand is a vector or of unknown rank"),
}


@pytest.mark.parametrize(("body", "type", "why"), REFUSED.values(), ids=REFUSED)
@pytest.mark.usefixtures("cheap")
def test_a_product_without_an_integer_kernel_stays_float(body: str, type: str, why: str):
    left = "f32[9,9]" if type == "f32[9]" else type
    found = graph(f"{body} return %1", f"%a: {left}, %b: {type}")
    kind = np.int32 if type.startswith("i32") else np.float32
    samples = [{v.name: np.ones([int(d) for d in v.shape or ()], kind) for v in found.inputs}]
    outcome = Quantize().run(Model(found), Context(samples=samples))
    assert [(d.decision, d.reason) for d in outcome.decisions] == [("fp32", why)]


@pytest.mark.usefixtures("cheap")
def test_others_who_read_an_operand_take_it_in_float():
    model, _ = quantized(
        graph(
            "%1 = Softplus(%a) : f32[4,4] %2 = MatMul(%1, %b) : f32[4,4] %3 = Add(%1, %2) : f32[4,4] return %3, %1",
            "%a: f32[4,4], %b: f32[4,4]",
            "y, z",
        )
    )
    shared = next(node for node in model.graph if node.op == "Softplus").output
    assert sorted(user.op for user in shared.users) == sorted(["Add", "QuantizeLinear", model.graph.exit.op])


@pytest.mark.usefixtures("cheap")
def test_a_product_that_is_an_output_keeps_its_name_and_place():
    model, _ = quantized(
        graph(
            "%1 = Softmax(%a) : f32[4,4] %2 = MatMul(%1, %b) : f32[4,4] %3 = Neg(%2) : f32[4,4] return %2, %3",
            "%a: f32[4,4], %b: f32[4,4]",
            "y, z",
        )
    )
    found, twin = (
        feed(model.graph),
        graph(
            "%1 = Softmax(%a) : f32[4,4] %2 = MatMul(%1, %b) : f32[4,4] %3 = Neg(%2) : f32[4,4] return %2, %3",
            "%a: f32[4,4], %b: f32[4,4]",
            "y, z",
        ),
    )
    kept, wanted = OrtRunner(model).run(found), OrtRunner(Model(twin)).run(found)
    assert list(kept) == ["y", "z"]
    for name in kept:
        assert compare(wanted[name], kept[name]).sqnr_db > 25


@pytest.mark.usefixtures("cheap")
def test_a_square_of_one_matrix_has_one_pair():
    model, _ = quantized(graph("%1 = MatMul(%a, %a) : f32[4,4] return %1", "%a: f32[4,4]"))
    assert [node.op for node in model.graph] == ["QuantizeLinear", "DequantizeLinear", "MatMul"]


# Softmax


def test_what_is_multiplied_with_a_softmax_is_centred():
    found = graph(
        "%1 = Softmax(%a) : f32[2,4,6] %2 = MatMul(%1, %b) : f32[2,4,5] return %2",
        "%a: f32[2,4,6], %b: f32[2,6,5]",
    )
    product = product_of(next(n for n in found if n.op == "MatMul"))
    assert isinstance(product, Product)
    wanted = OrtRunner(Model(found.clone())).run(feed(found))["y"]
    centred(found, product)
    verify(found)
    after = graph(
        """
        %1 = Softmax(%a) : f32[2,4,6]
        %2 = ReduceMean(%b, i64[1]{-2}) {keepdims=1} : f32[2,1,5]
        %3 = Sub(%b, %2) : f32[2,6,5]
        %4 = MatMul(%1, %3) : f32[2,4,5]
        %5 = Add(%4, %2) : f32[2,4,5]
        return %5
        """,
        "%a: f32[2,4,6], %b: f32[2,6,5]",
    )
    assert skeleton(found) == skeleton(after)
    assert compare(wanted, OrtRunner(Model(found)).run(feed(found))["y"]).max_error < 1e-6


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("%1 = Softmax(%a) {axis=0} : f32[4,4]", "its columns sum to one, not its rows"),
        ("%1 = Sigmoid(%a) : f32[4,4]", "its rows do not sum to one"),
    ],
)
def test_nothing_is_centred_elsewhere(body: str, why: str):
    found = graph(f"{body} %2 = MatMul(%1, %b) : f32[4,4] return %2", "%a: f32[4,4], %b: f32[4,4]")
    before, product = str(found), product_of(next(n for n in found if n.op == "MatMul"))
    assert isinstance(product, Product)
    assert centred(found, product) == product, why
    assert str(found) == before


def test_centring_wins_back_what_many_small_numbers_lose():
    """Most of a row of 512 numbers is below half a step of 1 / 255."""
    body = f"""
      %1 = Mul(%a, f32[]{{2.5}}) : {SQUARE}
      %2 = Softmax(%1) : {SQUARE}
      %3 = Add(%b, f32[]{{3}}) : {SQUARE}
      %4 = MatMul(%2, %3) : {SQUARE}
      return %4
    """
    found = feed(graph(body), 1)
    wanted = OrtRunner(Model(graph(body))).run(found)["y"]
    model, outcome = quantized(graph(body))
    assert outcome.notes == ["1 of 1 layers in int8"]
    assert compare(wanted, OrtRunner(model).run(found)["y"]).sqnr_db > 30


# Attention

HEADS = "f32[1,{length},64]"
ATTENTION = """
  %y = Attention(%q, %k, %v) {{q_num_heads=2, kv_num_heads=2}} : f32[1,{length},64]
  return %y
"""


def attention(length: int) -> Graph:
    inputs = ", ".join(f"%{name}: {HEADS.format(length=length)}" for name in "qkv")
    return graph(ATTENTION.format(length=length), inputs)


def test_attention_whose_products_are_small_stays_one_node():
    model, outcome = quantized(attention(16))
    assert [node.op for node in model.graph] == ["Attention"]
    (row,) = outcome.decisions
    assert (row.op, row.decision) == ("Attention", "fp32")
    assert "2 x [16, 32] by [32, 16]" in row.reason
    assert "2 x [16, 16] by [16, 32]" in row.reason


@pytest.mark.usefixtures("cheap")
def test_attention_is_taken_apart_where_a_product_pays():
    model, outcome = quantized(attention(16))
    assert [(d.op, d.decision) for d in outcome.decisions] == [("MatMul", "int8")] * 2
    assert {n.op_type for n in optimised(model).node} >= {"MatMulIntegerToFloat", "Softmax"}
    found = feed(model.graph, 1)
    wanted = OrtRunner(Model(attention(16))).run(found)["y"]
    assert compare(wanted, OrtRunner(model).run(found)["y"]).sqnr_db > 25


@pytest.mark.usefixtures("cheap")
def test_attention_that_is_skipped_stays_one_node():
    model, outcome = quantized(attention(16), Quantize(skip=("Attention",)))
    assert [node.op for node in model.graph] == ["Attention"]
    assert [d.reason for d in outcome.decisions] == ["skipped by pattern 'Attention'"]


@pytest.mark.usefixtures("cheap")
def test_only_attention_may_be_chosen():
    _, outcome = quantized(attention(16), Quantize(only=("Attention",)))
    assert [d.decision for d in outcome.decisions] == ["int8", "int8"]


@pytest.mark.usefixtures("cheap")
def test_products_that_are_skipped_stay_float_in_attention_too():
    projected = f"@w : f32[64,64] = random(1) %p = MatMul(%q, @w) : {HEADS} {ATTENTION}".replace("(%q, %k", "(%p, %k")
    inputs = f"%q: {HEADS}, %k: {HEADS}, %v: {HEADS}"
    _, outcome = quantized(graph(projected.format(length=16), inputs.format(length=16)), Quantize(skip=("MatMul",)))
    assert [d.reason for d in outcome.decisions] == ["skipped by pattern 'MatMul'"] * 3


KINDS = {
    "with a mask": ("%q: {q}, %k: {k}, %v: {k}, %m: f32[8,9]", "Attention(%q, %k, %v, %m)", ""),
    "causal": ("%q: {k}, %k: {k}, %v: {k}", "Attention(%q, %k, %v)", "{is_causal=1}"),
    "with a soft cap": ("%q: {q}, %k: {k}, %v: {k}", "Attention(%q, %k, %v)", "{softcap=2.0}"),
    "with shared keys": ("%q: f32[N,4,8,16], %k: {k}, %v: {k}", "Attention(%q, %k, %v)", ""),
}


@pytest.mark.parametrize(("inputs", "call", "attrs"), KINDS.values(), ids=KINDS)
@pytest.mark.usefixtures("cheap")
def test_attention_of_any_kind_is_taken_apart(inputs: str, call: str, attrs: str):
    filled = inputs.format(q="f32[N,2,8,16]", k="f32[N,2,9,16]")
    result = filled.split(",%")[0].split(": ")[1].split(", %")[0]
    text = f"%y = {call} {attrs} : {result} return %y"
    model, outcome = quantized(graph(text, filled))
    assert [d.decision for d in outcome.decisions] == ["int8", "int8"]
    found = feed(graph(text, filled), 1)
    wanted = OrtRunner(Model(graph(text, filled))).run(found)["y"]
    assert compare(wanted, OrtRunner(model).run(found)["y"]).sqnr_db > 25


@pytest.mark.usefixtures("cheap")
def test_queries_keys_and_values_of_one_projection_have_scales_of_their_own():
    """The Split in front of the Attention is not needed by its parts, and must not look like a user of the projection."""
    model, outcome = quantized(
        graph(
            """
            @w : f32[16,48] = random(1)
            %1 = MatMul(%x, @w) : f32[1,9,48]
            %2, %3, %4 = Split(%1, i64[3]{16,16,16}) {axis=2} : f32[1,9,16], f32[1,9,16], f32[1,9,16]
            %y = Attention(%2, %3, %4) {q_num_heads=2, kv_num_heads=2, scale=0.1} : f32[1,9,16]
            return %y
            """,
            "%x: f32[1,9,16]",
        )
    )
    assert [d.decision for d in outcome.decisions] == ["int8"] * 3
    assert outcome.warnings == []
    assert sum(node.op == "QuantizeLinear" for node in model.graph) == 5


@pytest.mark.usefixtures("cheap")
def test_keys_that_are_given_back_are_not_rounded():
    """ONNX Runtime moves a QuantizeLinear to the front of a Transpose, also behind an output."""
    inputs = "%q: f32[1,2,1,16], %k: f32[1,2,1,16], %v: f32[1,2,1,16], %a: f32[1,2,6,16], %b: f32[1,2,6,16]"
    types = "f32[1,2,1,16], f32[1,2,7,16], f32[1,2,7,16]"
    text = f"%y, %s, %t = Attention(%q, %k, %v, _, %a, %b) : {types} return %y, %s, %t"
    model, outcome = quantized(graph(text, inputs, "y, keys, values"))
    assert [d.decision for d in outcome.decisions] == ["int8", "int8"]
    found = feed(model.graph)
    kept, wanted = (OrtRunner(m).run(found) for m in (model, Model(graph(text, inputs, "y, keys, values"))))
    assert (kept["keys"] == wanted["keys"]).all()
    assert (kept["values"] == wanted["values"]).all()
    assert compare(wanted["y"], kept["y"]).sqnr_db > 25


@pytest.mark.parametrize("mode", ["dynamic", "static"])
@pytest.mark.usefixtures("cheap")
def test_dynamic_int8_leaves_products_and_says_why(mode: str):
    found = graph("%1 = MatMul(%a, %b) : f32[4,4] return %1", "%a: f32[4,4], %b: f32[4,4]")
    for text, ops in ((found, ["MatMul"]), (attention(16), ["Attention"])):
        model, outcome = quantized(text, Quantize(mode=mode))
        if mode == "dynamic":
            assert [node.op for node in model.graph] == ops
            assert [d.reason for d in outcome.decisions] == ["dynamic int8 is for products with a weight"]
        else:
            assert {d.decision for d in outcome.decisions} == {"int8"}


# Times


def test_operands_that_a_stack_shares_count_once():
    assert Extent.of((4, 1, 8, 16), (3, 16, 32)) == Extent(12, 8, 16, 32, 512, 1536)


def test_a_transpose_that_the_float_kernel_does_by_itself_counts():
    """Of 512 rows ONNX Runtime wins a tenth, which turning the right operand takes."""
    turned = f"%1 = Transpose(%b) {{perm=[1,0]}} : {SQUARE} %2 = MatMul(%a, %1) : {SQUARE} return %2"
    _, outcome = quantized(graph(turned))
    assert [d.decision for d in outcome.decisions] == ["fp32"]
    _, outcome = quantized(graph(turned), Quantize(target="openvino-cpu"))
    assert [d.decision for d in outcome.decisions] == ["int8"]


@pytest.mark.parametrize("target", TARGETS)
def test_the_larger_the_products_the_more_int8_wins(target: str):
    known = TARGETS[target].products
    ratios = [
        found.takes(known.int8) / found.takes(known.float)
        for found in (Extent.of((n, n), (n, n)) for n in (32, 128, 512, 2048))
    ]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] > 1 > ratios[-1]


def test_sizes_that_only_a_run_tells_are_those_of_the_first_sample():
    found = graph(
        """
        %1 = NonZero(%a) : i64[2,?n]
        %2 = Cast(%1) {to=1} : f32[2,?n]
        %3 = Transpose(%2) {perm=[1,0]} : f32[?n,2]
        %4 = MatMul(%3, %2) : f32[?n,?n]
        return %4
        """,
        "%a: f32[5,6]",
    )
    product = product_of(next(n for n in found if n.op == "MatMul"))
    assert isinstance(product, Product)
    sizes = observed(Model(found), [product], bind_sizes(found), [{"a": np.eye(5, 6, dtype=np.float32)}])
    assert str(extent(product, sizes)) == "[5, 2] by [2, 5]"


@pytest.mark.usefixtures("cheap")
def test_what_is_in_u8_anyway_costs_nothing_more():
    """A convolution's result is in u8, so that a product of two of them needs no conversion."""
    found = graph(
        """
        @w : f32[8,8,1,1] = random(1)
        %1 = Conv(%a, @w) : f32[1,8,8,8]
        %2 = Conv(%1, @w) : f32[1,8,8,8]
        %3 = MatMul(%1, %2) : f32[1,8,8,8]
        return %3
        """,
        "%a: f32[1,8,8,8]",
    )
    model, outcome = quantized(found)
    assert outcome.notes == ["3 of 3 layers in int8"]
    assert [n.op_type for n in optimised(model).node].count("QuantizeLinear") == 1


def test_measured_times_decide_about_products_too():
    found = graph(f"%1 = MatMul(%a, %b) : {SQUARE} return %1")
    node = next(iter(found))
    product = product_of(node)
    assert isinstance(product, Product)
    free = gain.Price(0.0, 0.0)
    for int8, kept in ((80.0, True), (120.0, False)):
        costs = gain.Costs({node: gain.Times(100.0, int8)}, {}, free, free, measured=True)
        assert (node not in gain.products_not_worth(found, {node: product}, costs)) is kept


# Targets


@pytest.mark.parametrize(("low", "dtype"), [(0.0, "u8"), (-2.0, "i8")])
def test_openvino_takes_integers_without_a_zero_point(low: float, dtype: str):
    found = graph("%1 = MatMul(%a, %b) : f32[4,4] return %1", "%a: f32[4,4], %b: f32[4,4]")
    node = next(iter(found))
    product = product_of(node)
    assert isinstance(product, Product)
    placement = place(found, {node: product}, TARGETS["openvino-cpu"])
    scales = activation_parameters(placement, dict.fromkeys(placement.sources(), Range(low, 3.0)))
    left, right = (scales[v] for v in product.operands)
    assert (left.dtype.label, int(left.zero_point)) == (dtype, 0)
    assert (right.dtype.label, int(right.zero_point)) == ("i8", 0)


def test_a_signed_range_of_one_point_has_a_scale():
    assert float(signed(Range(0.0, 0.0)).scale) > 0
    assert float(signed(Range(-4.0, 2.0)).scale) == pytest.approx(4 / 127)


@pytest.mark.usefixtures("cheap")
def test_the_table_shows_both_operands():
    _, outcome = quantized(graph("%1 = MatMul(%a, %b) : f32[4,4] return %1", "%a: f32[4,4], %b: f32[4,4]"))
    (row,) = outcome.decisions
    assert row.rounded is not None
    assert row.rounded.scheme.startswith("u8 x u8, right -")
    assert row.rounded.low is not None
    assert row.rounded.before_us is not None
    assert row.rounded.weight_sqnr_db is None
    assert row.sqnr_db is not None


# With the other passes

NETWORK = """
  @q : f32[16,16] = random(1)
  @k : f32[16,16] = random(2)
  @v : f32[16,16] = random(3)
  @o : f32[16,16] = random(4)
  @b : f32[16] = random(5)
  %1 = MatMul(%x, @q) : f32[1,24,16]  # queries
  %2 = Add(%1, @b) : f32[1,24,16]
  %3 = MatMul(%x, @k) : f32[1,24,16]  # keys
  %4 = Transpose(%3) {perm=[0,2,1]} : f32[1,16,24]
  %5 = MatMul(%2, %4) : f32[1,24,24]
  %6 = Mul(%5, f32[]{0.02}) : f32[1,24,24]
  %7 = Softmax(%6) : f32[1,24,24]
  %8 = MatMul(%x, @v) : f32[1,24,16]  # values
  %9 = MatMul(%7, %8) : f32[1,24,16]
  %10 = MatMul(%9, @o) : f32[1,24,16]  # last
  return %10
"""
INPUT = "%x: f32[1,24,16]"

OPTIONS = {
    "bias in turn": Quantize(correct_bias=True, in_turn=True),
    "mixed": Quantize(observer="auto", correct_bias=True, cost_aware=True, slack=0.05),
    "openvino": Quantize(target="openvino-cpu", correct_bias=True),
    "qoperator": Quantize(form="qoperator"),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.usefixtures("cheap")
def test_products_go_with_the_other_options(options: Quantize):
    model, outcome = quantized(graph(NETWORK, INPUT), options)
    products = [d for d in outcome.decisions if d.rounded and "right" in d.rounded.scheme]
    assert [d.decision for d in products] == ["int8", "int8"]
    found = feed(model.graph, 1)
    wanted = OrtRunner(Model(graph(NETWORK, INPUT))).run(found)["y"]
    assert compare(wanted, OrtRunner(model).run(found)["y"]).sqnr_db > 20


@pytest.mark.usefixtures("cheap")
def test_on_integers_it_is_one_operator_and_comes_back():
    model, _ = quantized(graph(NETWORK, INPUT))
    integers, _ = quantized(graph(NETWORK, INPUT), Quantize(form="qoperator"))
    assert sum(node.op == "MatMulIntegerToFloat" for node in integers.graph) == 2
    assert not any(node.op == "DequantizeLinear" for node in integers.graph)
    found = feed(model.graph, 1)
    wanted = OrtRunner(model).run(found)["y"]
    assert compare(wanted, OrtRunner(integers).run(found)["y"]).sqnr_db > 60
    ToQdq().run(integers, Context())
    verify(integers.graph)
    assert sum(node.op == "MatMul" for node in integers.graph) == 2
    assert compare(wanted, OrtRunner(integers).run(found)["y"]).sqnr_db > 60


@pytest.mark.usefixtures("cheap")
def test_the_file_comes_back_is_simplified_and_emitted(tmp_path: Path):
    model, _ = quantized(graph(NETWORK, INPUT))
    found = feed(model.graph, 1)
    wanted = OrtRunner(model).run(found)["y"]
    save(model, tmp_path / "model.onnx")
    again = load(tmp_path / "model.onnx")
    Simplify().run(again, Context())
    assert compare(wanted, OrtRunner(again).run(found)["y"]).sqnr_db > 60
    assert compare(wanted, TorchRunner(to_module(again), ["x"], ["y"]).run(found)["y"]).sqnr_db > 60
    outcome = Quantize().run(again, Context(samples=[found]))
    assert {d.decision for d in outcome.decisions} == {"int8"}
    assert {d.reason for d in outcome.decisions} == {"already quantized"}


@pytest.mark.usefixtures("cheap")
def test_a_quantized_network_with_products_is_pruned_as_its_mask_says():
    model, _ = quantized(graph(NETWORK, INPUT))
    outcome = Prune(ratio=0.25).run(model, Context(samples=[feed(model.graph)]))
    verify(model.graph)
    assert outcome.checks["mask_oracle"].passed
    assert outcome.checks["mask_oracle"].worst == 0
    decided = {d.layer: d for d in outcome.decisions}
    assert decided["values"].decision == "pruned 25 %"
    for layer in ("queries", "keys"):
        assert decided[layer].decision == "kept"
        assert "both of its operands are computed" in decided[layer].reason


@pytest.mark.usefixtures("cheap")
def test_attention_in_half_precision_stays_one_node():
    halves = attention(16)
    text = str(halves).replace("f32", "f16")
    model = Model(parse(text))
    samples = [{name: array.astype(np.float16) for name, array in feed(halves).items()}]
    outcome = Quantize().run(model, Context(samples=samples))
    assert [node.op for node in model.graph] == ["Attention"]
    assert [d.reason for d in outcome.decisions] == ["it cannot be taken apart into products of f32"]
