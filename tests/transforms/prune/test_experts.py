"""Whole experts: how routers and what belongs to each expert are found, and the proof of what is left."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tersor.backends.runners import Feeds, OrtRunner
from tersor.ir import Model, TersorError, UsageError, skeleton, verify
from tersor.transforms.base import Context
from tersor.transforms.manager import Step, run_passes
from tersor.transforms.prune import PruneExperts, experts
from tersor.transforms.prune.routers import routers

Make = Callable[..., Model]
EXPERTS = 4
TOKENS = 12

HEAD = """graph(%x: f32[n,4]) -> (y) {
  @router : f32[4,4] = random(1)
  %logits = MatMul(%x, @router)
"""
TOP = """  %p = Softmax(%logits) {axis=1}
  %g, %ids = TopK(%p, i64[1]{2}) {axis=1}
"""
WEIGHTS = "\n".join(f"  @w{e} : f32[4,5] = random({10 + e})" for e in range(EXPERTS))
STACK = "  @stack : f32[4,4,5] = random(3)\n"


def each(line: str) -> str:
    return "\n".join("  " + line.format(e=e) for e in range(EXPERTS)) + "\n"


BRANCHES = (
    WEIGHTS
    + "\n"
    + each("%f{e} = MatMul(%x, @w{e})")
    + each("%t{e} = Mul(%f{e}, %p{e})")
    + """  %a = Add(%t0, %t1)
  %b = Add(%a, %t2)
  %y = Add(%b, %t3)
"""
)
SPLIT = "  %p0, %p1, %p2, %p3 = Split(%gates) {axis=1, num_outputs=4}\n"

FORMS = {
    "tokens sorted by expert": TOP
    + WEIGHTS
    + """
  %flat = Reshape(%ids, i64[1]{-1})
  %weights = Reshape(%g, i64[1]{-1})
  %size = Shape(%flat)
  %sorted, %order = TopK(%flat, %size) {axis=0, largest=0}
  %token = Div(%order, i64[]{2})
  %rows = Gather(%x, %token)
  %column = Unsqueeze(%flat, i64[1]{1})
  %hit = Equal(%column, i64[4]{0,1,2,3})
  %ones = Cast(%hit) {to=7}
  %count = ReduceSum(%ones, i64[1]{0}) {keepdims=0}
  %ends = CumSum(%count, i64[]{0})
  %e0, %e1, %e2, %e3 = Split(%ends) {axis=0, num_outputs=4}
  %s0 = Slice(%rows, i64[1]{0}, %e0, i64[1]{0})
  %s1 = Slice(%rows, %e0, %e1, i64[1]{0})
  %s2 = Slice(%rows, %e1, %e2, i64[1]{0})
  %s3 = Slice(%rows, %e2, %e3, i64[1]{0})
"""
    + each("%m{e} = MatMul(%s{e}, @w{e})")
    + """  %all = Concat(%m0, %m1, %m2, %m3) {axis=0}
  %gs = Gather(%weights, %order)
  %gc = Unsqueeze(%gs, i64[1]{1})
  %scaled = Mul(%all, %gc)
  %y = ReduceSum(%scaled, i64[1]{0}) {keepdims=0}
""",
    "tables of weights": TOP
    + STACK
    + """  %w = Gather(@stack, %ids)
  %column = Unsqueeze(%x, i64[2]{1,2})
  %m = MatMul(%column, %w)
  %s = Squeeze(%m, i64[1]{2})
  %gc = Unsqueeze(%g, i64[1]{2})
  %scaled = Mul(%s, %gc)
  %y = ReduceSum(%scaled, i64[1]{1}) {keepdims=0}
""",
    "branches behind a softmax": "  %gates = Softmax(%logits) {axis=1}\n" + SPLIT + BRANCHES,
    "branches picked one by one": "  %gates = Softmax(%logits) {axis=1}\n"
    + each("%q{e} = Gather(%gates, i64[]{{{e}}}) {{axis=1}}")
    + each("%p{e} = Unsqueeze(%q{e}, i64[1]{{1}})")
    + BRANCHES,
    "branches sliced": "  %gates = Softmax(%logits) {axis=1}\n  %turned = Transpose(%gates) {perm=[1,0]}\n"
    + "".join(
        f"  %q{e} = Slice(%turned, i64[1]{{{e}}}, i64[1]{{{e + 1}}}, i64[1]{{0}})\n  %p{e} = Transpose(%q{e})\n"
        for e in range(EXPERTS)
    )
    + BRANCHES,
    "weights scattered to experts": TOP
    + """  %shape = Shape(%x)
  %zeros = ConstantOfShape(%shape)
  %gates = ScatterElements(%zeros, %ids, %g) {axis=1}
"""
    + SPLIT
    + BRANCHES,
    "comparisons with each expert": TOP
    + each("%h{e} = Equal(%ids, i64[]{{{e}}})")
    + each("%c{e} = Cast(%h{e}) {{to=1}}")
    + each("%d{e} = Mul(%c{e}, %g)")
    + each("%p{e} = ReduceSum(%d{e}, i64[1]{{1}}) {{keepdims=1}}")
    + BRANCHES,
    "choices as one-hot rows": TOP
    + """  %hot = OneHot(%ids, i64[1]{4}, f32[2]{0,1})
  %gc = Unsqueeze(%g, i64[1]{2})
  %soft = Mul(%hot, %gc)
  %gates = ReduceSum(%soft, i64[1]{1}) {keepdims=0}
"""
    + SPLIT
    + BRANCHES,
    "selection where chosen": TOP
    + """  %column = Unsqueeze(%ids, i64[1]{2})
  %hit = Equal(%column, i64[4]{0,1,2,3})
  %gc = Unsqueeze(%g, i64[1]{2})
  %soft = Where(%hit, %gc, f32[]{0})
  %gates = ReduceSum(%soft, i64[1]{1}) {keepdims=0}
"""
    + SPLIT
    + BRANCHES,
    "a bias for the choice alone": """  @bias : f32[4] = [0.02,-0.01,0.03,-0.02]
  %p = Sigmoid(%logits)
  %biased = Add(%p, @bias)
  %best, %ids = TopK(%biased, i64[1]{2}) {axis=1}
  %g = GatherElements(%p, %ids) {axis=1}
  %shape = Shape(%x)
  %zeros = ConstantOfShape(%shape)
  %gates = ScatterElements(%zeros, %ids, %g) {axis=1}
"""
    + SPLIT
    + BRANCHES,
}


def made(model: Make, form: str, head: str = HEAD) -> Model:
    return model(f"{head}{FORMS[form]}  return %y\n}}")


def data(count: int = 3) -> list[Feeds]:
    draw = np.random.default_rng(5).standard_normal
    return [{"x": draw((TOKENS, 4)).astype(np.float32)} for _ in range(count)]


def run(network: Model, samples: list[Feeds] | None = None, **options: object) -> Step:
    (step,) = run_passes(network, [PruneExperts(**options)], Context(samples=samples))  # pyright: ignore[reportArgumentType]
    verify(network.graph)
    return step


def weight_count(network: Model) -> int:
    return sum(v.tensor.count for v in network.graph.constants() if v.is_float and v.tensor.count > EXPERTS)


@pytest.mark.parametrize("form", FORMS)
def test_experts_go_with_their_rows_of_the_router_and_their_weights(model, form):
    network, gone = made(model, form), EXPERTS // 2
    original = network.clone()
    step = run(network, data(), ratio=0.5)
    (decision,) = step.outcome.decisions
    assert decision.decision == f"{gone} experts removed"
    check = step.outcome.checks["mask_oracle"]
    assert check.passed
    assert check.changed > 1e-2
    assert step.parity is not None
    assert step.parity.passed
    assert weight_count(original) == 4 * EXPERTS + 20 * EXPERTS
    assert weight_count(network) == (4 + 20) * (EXPERTS - gone)


@pytest.mark.parametrize("form", [form for form in FORMS if "bias" not in form])
def test_the_rest_computes_what_the_original_computes_without_that_expert_in_the_choice(model, form):
    # Where the router's column of an expert makes its number so small that it never counts, removing it changes nothing.
    network = made(model, form)
    (layer,) = [n for n in network.graph if n.op == "MatMul" and n.operand(1).name == "router"]
    weight = layer.operand(1)
    numbers = weight.tensor.numpy().copy()
    numbers[:, 1] = -60
    weight.const = type(weight.tensor)(numbers, weight.tensor.dtype)  # pyright: ignore
    samples: list[Feeds] = [{"x": np.abs(feeds["x"]) + 1} for feeds in data()]
    original = network.clone()
    step = run(network, samples, count=1)
    assert "without [1]" in step.outcome.decisions[0].reason
    for feeds in samples:
        expected, found = (OrtRunner(m).run(feeds)["y"] for m in (original, network))
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_router_that_was_merged_with_other_layers_loses_its_rows_alone(model):
    head = """graph(%x: f32[n,4]) -> (y, z) {
  @router : f32[9,4] = random(1)
  @shift : f32[9] = random(2)
  %merged = Gemm(%x, @router, @shift) {transB=1}
  %before, %logits, %after = Split(%merged, i64[3]{2,4,3}) {axis=1}
  %cos = Cos(%before)
  %sin = Sin(%after)
  %z = Concat(%cos, %sin) {axis=1}
"""
    network = model(f"{head}{FORMS['branches behind a softmax']}  return %y, %z\n}}")
    step = run(network, data(), count=2)
    (layer,) = [n for n in network.graph if n.op == "Gemm"]
    assert layer.operand(1).tensor.shape == (7, 4)
    assert layer.operand(2).tensor.shape == (7,)
    assert step.outcome.checks["mask_oracle"].passed


def test_with_data_the_experts_that_are_chosen_least_go_and_without_those_with_the_smallest_weights(model):
    network = made(model, "tables of weights")
    stack = next(n for n in network.graph if n.operand(0).name == "stack").operand(0)
    numbers = stack.tensor.numpy().copy()
    numbers[2] *= 1e-3
    stack.const = type(stack.tensor)(numbers, stack.tensor.dtype)  # pyright: ignore
    samples = data()
    runner = OrtRunner(network, taps=[r.ids for r in routers(network.graph) if r.ids is not None])
    weights = OrtRunner(network, taps=[r.choice.outputs[0] for r in routers(network.graph)])
    total = np.zeros(EXPERTS)
    for feeds in samples:
        np.add.at(total, runner.run_taps(feeds)[0].reshape(-1), weights.run_taps(feeds)[0].reshape(-1))
    by_data, by_size = network.clone(), network.clone()
    assert f"without [{int(total.argmin())}]" in run(by_data, samples, count=1).outcome.decisions[0].reason
    assert "without [2]" in run(by_size, count=1).outcome.decisions[0].reason
    assert "without [2]" in run(network, samples, count=1, importance="magnitude").outcome.decisions[0].reason


def test_what_is_chosen_at_least_stays_and_the_rest_is_told(model):
    step = run(made(model, "tables of weights"), count=3)
    assert step.outcome.decisions[0].decision == "2 experts removed"
    assert step.outcome.missed == ["count=3 was not reached by 1 routers, which choose too many"]


FROZEN = {
    "all of them are chosen": (
        HEAD + "%g, %ids = TopK(%logits, i64[1]{4}) {axis=1}\n" + STACK + "%w = Gather(@stack, %ids)\n"
        "%y = ReduceSum(%w, i64[1]{0})\n return %y\n}",
        "it chooses 4 of 4 experts",
    ),
    "the numbers are an output": (
        HEAD.replace("-> (y)", "-> (y, logits)") + FORMS["tables of weights"] + "return %y, %logits\n}",
        "%logits is read by the caller, as an output",
    ),
    "others read the numbers": (
        HEAD + FORMS["tables of weights"].replace("%y = ", "%v = ") + "%u = ReduceMax(%logits, i64[1]{1})\n"
        "%y = Mul(%v, %u)\n return %y\n}",
        "%logits is read by ReduceMax",
    ),
    "what belongs to an expert is not known": (
        HEAD + "%p = Softmax(%logits) {axis=1}\n" + STACK + "%turned = Transpose(%p) {perm=[1,0]}\n"
        "%wide = Unsqueeze(%turned, i64[1]{2})\n %f = MatMul(%x, @stack)\n %z = Mul(%f, %wide)\n"
        "%y = ReduceSum(%z, i64[1]{0})\n return %y\n}",
        "what belongs to expert 0 alone could not be told",
    ),
}


@pytest.mark.parametrize("case", FROZEN)
def test_experts_that_stay_say_why(model, case):
    text, why = FROZEN[case]
    network = model(text)
    before = skeleton(network.graph)
    step = run(network, data(), ratio=0.5)
    assert why in step.outcome.decisions[0].reason
    assert step.outcome.missed[0].startswith("no expert was removed")
    assert skeleton(network.graph) == before


def test_a_layer_over_which_nobody_chooses_is_no_router(model):
    network = model(HEAD + "%z = Relu(%logits)\n @w : f32[4,5] = random(1)\n %y = MatMul(%z, @w)\n return %y\n}")
    assert routers(network.graph) == []
    assert run(network).outcome.missed == ["no expert was removed: the network has no router"]


@pytest.mark.parametrize("form", FORMS)
def test_taking_another_expert_than_its_row_is_found_by_the_oracle(model, form, monkeypatch):
    right = experts.shrink

    def wrong(model, router, left):
        return right(model, router, (left + 1) % EXPERTS if EXPERTS - 1 in left else left + 1)

    network = made(model, form)
    monkeypatch.setattr(experts, "shrink", wrong)
    before = skeleton(network.graph)
    with pytest.raises(TersorError, match=r"masking|cannot run"):
        run(network, data(), ratio=0.5)
    assert skeleton(network.graph) == before


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"ratio": 1.0}, "out of range"),
        ({"count": -1}, "out of range"),
        ({"importance": "size"}, "there are auto, routing, magnitude"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, why):
    with pytest.raises(UsageError, match=why):
        PruneExperts(**options)


def test_routing_needs_data_and_a_skipped_router_keeps_its_experts(model):
    with pytest.raises(UsageError, match="needs calibration data"):
        run(made(model, "tables of weights"), importance="routing")
    step = run(made(model, "tables of weights"), skip=("Softmax",))
    assert step.outcome.decisions[0].reason == "skipped by pattern 'Softmax'"
