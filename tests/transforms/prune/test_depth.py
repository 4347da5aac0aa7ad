"""Depth pruning: which parts of a graph are residual blocks, which of them go, and the proof of what is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from tersor.backends.runners import Feeds, OrtRunner, synthesize
from tersor.ir import Model, ParityError, UsageError, constant, skeleton
from tersor.transforms.base import Context, silent
from tersor.transforms.cost import graph_flops, parameter_count
from tersor.transforms.manager import Step, run_passes
from tersor.transforms.prune import Prune, PruneDepth, blocks, depth
from tersor.transforms.prune.blocks import layers
from tersor.transforms.prune.statistics import Calibration
from tersor.transforms.prune.worth import WORTH

Make = Callable[..., Model]


def residual(*sizes: float, inner: int = 8, between: str = "") -> str:
    """A network x + w2 relu(w1 x), ...: one block for each size, which w2 is multiplied by."""
    lines = ["graph(%x0: f32[4,6]) -> (y) {"]
    weights = [f"  @a{i} : f32[6,{inner}] = random({i})\n  @b{i} : f32[{inner},6]" for i in range(len(sizes))]
    for i in range(len(sizes)):
        lines += [
            f"  %h{i} = MatMul(%x{i}, @a{i})",
            f"  %r{i} = Relu(%h{i})",
            f"  %f{i} = MatMul(%r{i}, @b{i})",
            f"  %x{i + 1} = Add(%x{i}, %f{i})",
        ]
    return "\n".join(
        [
            lines[0],
            *weights,
            "  @head : f32[6,6] = random(99)",
            *lines[1:],
            f"  %y = MatMul(%x{len(sizes)}, @head)",
            "  return %y",
            "}",
        ]
    )


def made(model: Make, *sizes: float, inner: int = 8) -> Model:
    draw = np.random.default_rng(0).standard_normal
    second = {f"b{i}": (size * draw((inner, 6))).astype(np.float32) for i, size in enumerate(sizes)}
    return model(residual(*sizes, inner=inner), **second)


def run(network: Model, data: Sequence[Feeds] | None = None, **options: object) -> Step:
    (step,) = run_passes(network, [PruneDepth(**options)], Context(samples=data))  # pyright: ignore[reportArgumentType]
    return step


def inputs(network: Model, count: int = 6) -> list[Feeds]:
    return [synthesize(network.graph, count=1, seed=seed)[0] for seed in range(count)]


def what(step: Step) -> dict[str, str]:
    return {d.layer: d.decision for d in step.outcome.decisions}


def test_the_block_that_adds_least_goes_and_the_stream_is_left(model):
    network = made(model, 1.0, 0.01, 1.0)
    step = run(network, ratio=0.4)
    assert what(step) == {"x1": "kept", "x2": "removed", "x3": "kept"}
    assert [n.op for n in network.graph] == ["MatMul", "Relu", "MatMul", "Add"] * 2 + ["MatMul"]
    assert parameter_count(network.graph) == 2 * (6 * 8 + 8 * 6) + 6 * 6


def test_the_result_equals_the_original_with_the_branches_multiplied_by_zero(model):
    network = made(model, 1.0, 0.5, 1.0)
    original = network.clone()
    step = run(network, ratio=0.7)
    check = step.outcome.checks["mask_oracle"]
    assert check.passed
    assert check.worst == 0
    assert check.changed > 1e-2
    assert sum(n.op == "Add" for n in network.graph) == 1
    feeds = inputs(original, 1)[0]
    assert step.outcome.reference is not None
    masked = OrtRunner(step.outcome.reference).run(feeds)["y"]
    np.testing.assert_allclose(OrtRunner(network).run(feeds)["y"], masked, rtol=1e-6)


def test_a_wrong_cut_is_found_by_the_oracle_and_taken_back(model, monkeypatch):
    def keeps_the_branch(branches) -> None:
        for branch in branches:
            next(iter(branch.users)).output.replace_by(branch)

    network = made(model, 1.0, 1.0, 1.0)
    before = skeleton(network.graph)
    monkeypatch.setattr(depth, "cut", keeps_the_branch)
    with pytest.raises(ParityError, match="masking"):
        run(network, count=1)
    assert skeleton(network.graph) == before


def test_both_terms_beside_a_stream_are_blocks_and_share_what_both_read(model):
    network = model("""graph(%x: f32[2,6]) -> (y) {
      @s : f32[6] = random(1)
      @a : f32[6,6] = random(2)
      @b : f32[6,6] = random(3)
      %n = Mul(%x, @s)
      %f = MatMul(%n, @a)
      %g = MatMul(%n, @b)
      %p = Add(%f, %g)
      %q = Add(%p, %x)
      %y = Sin(%q)
      return %y
    }""")
    found = blocks.blocks(network.graph)
    assert [(b.branch.name, [n.op for n in b.nodes], b.why) for b in found] == [
        ("f", ["MatMul"], ""),
        ("g", ["MatMul"], ""),
    ]
    step = run(network, count=2)
    assert [n.op for n in network.graph] == ["Sin"]
    assert step.outcome.checks["mask_oracle"].passed


def test_a_block_inside_of_another_one_goes_alone_or_with_it(model):
    text = """graph(%x: f32[2,6]) -> (y) {
      @a : f32[6,6] = random(1)
      @b : f32[6,6] = random(2)
      @c : f32[6,6]
      %h = MatMul(%x, @a)
      %i = MatMul(%h, @b)
      %j = Add(%h, %i)
      %k = MatMul(%j, @c)
      %l = Add(%k, %x)
      %y = Sin(%l)
      return %y
    }"""
    strong, weak = (size * np.eye(6, dtype=np.float32) for size in (50, 1e-3))
    network = model(text, c=strong)
    assert what(run(network, count=1)) == {"j": "removed", "l": "kept"}
    assert [n.op for n in network.graph] == ["MatMul", "MatMul", "Add", "Sin"]
    network = model(text, c=weak)
    step = run(network, count=2)
    assert [n.op for n in network.graph] == ["Sin"]
    assert what(step) == {"j": "removed", "l": "removed"}
    network = model(text, c=weak)
    assert what(run(network, count=1)) == {"j": "removed", "l": "kept"}, "the outer one counts as two"


FROZEN = {
    "a shortcut with a layer of its own": (
        "%s = MatMul(%x, @b)\n %f = MatMul(%x, @a)\n %z = Add(%s, %f)",
        "no term of this sum is computed from another one",
    ),
    "an output that is computed in it": (
        "%o = MatMul(%x, @a)\n %f = MatMul(%o, @b)\n %z = Add(%x, %f)",
        "it gives the output 'o', which is computed in it",
    ),
    "a value that is used elsewhere": (
        "%k = MatMul(%x, @a)\n %o = Sin(%k)\n %f = MatMul(%k, @b)\n %z = Add(%x, %f)",
        "Sin %o reads %k, which is computed in it",
    ),
}


@pytest.mark.parametrize("case", FROZEN)
def test_what_is_no_block_stays_and_says_why(model, case):
    line, why = FROZEN[case]
    other = "%o" if "%o" in line else "%z"
    network = model(f"""graph(%x: f32[2,6]) -> (y, w) {{
      @a : f32[6,6] = random(1)
      @b : f32[6,6] = random(2)
      {line}
      %y = Cos(%z)
      return %y, {other}
    }}""")
    before = skeleton(network.graph)
    step = run(network, ratio=0.9)
    (decision,) = step.outcome.decisions
    assert decision.decision == "kept"
    assert why in decision.reason
    assert skeleton(network.graph) == before
    assert step.outcome.missed[0].startswith("no block was removed")


@pytest.mark.parametrize(
    "line",
    [
        "%z = Add(%x, @row)",
        "%f = MatMul(%x, @column)\n %z = Add(%x, %f)",
        "%z = Add(%x, %x)",
        "%f = MatMul(%x, @a)\n %z = Sub(%x, %f)",
    ],
)
def test_sums_that_broadcast_or_have_one_computed_term_are_no_residual_sums(model, line):
    constants = [c for c in ("@row : f32[6]", "@column : f32[6,1]", "@a : f32[6,6]") if c.split()[0] in line]
    text = "\n".join(f"{c} = random({i})" for i, c in enumerate(constants))
    network = model(f"graph(%x: f32[6,6]) -> (y) {{\n{text}\n {line}\n %y = Cos(%z)\n return %y\n}}")
    assert blocks.blocks(network.graph) == []


def test_blocks_that_repeat_in_a_row_are_layers_and_go_together(model):
    lines, weights, stream = list[str](), list[str](), "x"
    for i in range(4):
        weights.append(f"@w{i} : f32[6,6] = random({i})\n @v{i} : f32[6,6] = random({i + 9})")
        lines.append(f"%t{i} = MatMul(%{stream}, @w{i})\n %u{i} = Softmax(%t{i})\n %a{i} = Add(%{stream}, %u{i})")
        lines.append(f"%m{i} = MatMul(%a{i}, @v{i})\n %n{i} = Relu(%m{i})\n %b{i} = Add(%n{i}, %a{i})")
        stream = f"b{i}"
    body = "\n".join([*weights, *lines])
    network = model(f"graph(%x: f32[2,6]) -> (y) {{\n{body}\n %y = Sin(%{stream})\n return %y\n}}")
    assert [[b.add.output.name for b in layer] for layer in layers(blocks.blocks(network.graph))] == [
        [f"a{i}", f"b{i}"] for i in range(4)
    ]
    step = run(network, ratio=0.5, unit="layer")
    gone = [name for name, decision in what(step).items() if decision == "removed"]
    assert len(gone) == 4
    assert len({name[-1] for name in gone}) == 2
    step = run(network, ratio=0.5, unit="layer", skip=("Softmax",))
    assert "of the same layer stays: skipped by pattern 'Softmax'" in step.outcome.decisions[1].reason


@pytest.mark.parametrize("importance", ["outputs", "linear", "cosine", "norm"])
def test_calibration_data_tell_blocks_apart_whose_weights_do_not(model, importance):
    # The hidden units of the second block are never positive on the data, whatever its weights are.
    network = made(model, 1.0, 1.0, 1.0)
    first = next(n for n in network.graph if n.output.name == "h1")
    weight = first.operand(1)
    data: list[Feeds] = [{"x0": np.abs(feeds["x0"])} for feeds in inputs(network)]
    for node in network.graph:
        if node.op == "MatMul" and node is not first:
            value = node.operand(1)
            value.const = type(value.tensor)(np.abs(value.tensor.numpy()), value.tensor.dtype)  # pyright: ignore
    weight.const = type(weight.tensor)(-np.abs(weight.tensor.numpy()), weight.tensor.dtype)  # pyright: ignore
    step = run(network, data, count=1, importance=importance, compensate=None)
    assert what(step)["x2"] == "removed"


@pytest.mark.parametrize("resource", ["flops", "parameters"])
def test_a_budget_takes_the_blocks_that_cost_least_for_what_they_save(model, resource):
    network = made(model, 0.5, 1.0, 0.6, 1.0)
    before = graph_flops(network.graph), parameter_count(network.graph)
    step = run(network, None, **{resource: 0.55})
    after = graph_flops(network.graph), parameter_count(network.graph)
    place = 0 if resource == "flops" else 1
    assert 0.4 < after[place] / before[place] <= 0.55
    assert {name for name, decision in what(step).items() if decision == "removed"} == {"x1", "x3"}
    assert step.outcome.missed == []


def test_a_latency_is_kept_by_timing_what_is_left(model, monkeypatch):
    network = made(model, 1.0, 0.1, 0.2)

    class Timed:
        def __init__(self, ratio: float) -> None:
            self.ratio = ratio

    def latency(runners, feeds, runs, seconds):
        return [Timed(1.0), Timed(len(runners[1].graph) / len(runners[0].graph))]

    monkeypatch.setattr(depth, "OrtRunner", lambda m: m)
    monkeypatch.setattr(depth, "latency", latency)
    step = run(network, latency=0.75)
    assert what(step) == {"x1": "kept", "x2": "removed", "x3": "kept"}


def test_a_ratio_of_too_few_blocks_is_told(model):
    step = run(made(model, 1.0, 1.0), ratio=0.4)
    assert step.outcome.missed == ["no block was removed: ratio=0.4 of the 2 that could go is none"]


def test_a_budget_that_no_block_can_keep_is_told(model):
    step = run(made(model, 1.0, 1.0), flops=0.01)
    assert "flops=0.01 was not reached" in step.outcome.missed[0]
    assert "count=9 was not reached" in run(made(model, 1.0, 1.0, 1.0), count=9).outcome.missed[0]


def test_compensation_brings_the_outputs_nearer(model):
    original = made(model, 1.0, 0.5, 1.0)
    data = inputs(original, 24)

    def error(compensate: str | None) -> float:
        network = original.clone()
        run(network, data, count=1, compensate=compensate)
        pair = [[OrtRunner(m).run(feeds)["y"] for feeds in data] for m in (network, original)]
        return float(np.square(np.stack(pair[0]) - np.stack(pair[1])).mean())

    assert error("least-squares") < 0.9 * error(None)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"ratio": 1.0}, "out of range"),
        ({"count": -1}, "out of range"),
        ({"flops": 0.0}, "out of range"),
        ({"flops": 0.5, "count": 1}, "2 budgets"),
        ({"unit": "stage"}, "there are block, layer"),
        ({"importance": "size"}, "there are auto, cosine"),
        ({"compensate": "luck"}, "there are auto, None"),
        ({"ridge": -1.0}, "out of range"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, why):
    with pytest.raises(UsageError, match=why):
        PruneDepth(**options)


@pytest.mark.parametrize("options", [{"importance": "cosine"}, {"compensate": "bias"}])
def test_what_is_measured_needs_data(model, options):
    with pytest.raises(UsageError, match="needs calibration data"):
        run(made(model, 1.0, 1.0), **options)


def test_what_later_layers_can_take_over_is_worth_nothing(model):
    """The second block is small but not linear in its stream, the first one is large and linear."""
    text = residual(1.0, 0.3).replace("%r0 = Relu(%h0)", "%r0 = Identity(%h0)")
    draw = np.random.default_rng(0).standard_normal
    network = model(text, **{f"b{i}": (size * draw((8, 6))).astype(np.float32) for i, size in enumerate((1.0, 0.3))})
    scores = {
        name: WORTH[name].score(
            network, [(b,) for b in blocks.blocks(network.graph)], Calibration(inputs(network, 40), silent)
        )
        for name in ("outputs", "linear")
    }
    assert scores["outputs"][0] > scores["outputs"][1]
    assert scores["linear"][0] < 1e-3 < scores["linear"][1]


def both(network: Model, **options: object) -> Step:
    passes = [Prune(importance="obs", **options)]  # pyright: ignore[reportArgumentType]
    (step,) = run_passes(network, passes, Context(samples=inputs(network, 40)))
    return step


def test_blocks_and_channels_compete_for_one_budget(model):
    """The second block does hardly anything; the others need their units."""
    network = made(model, 1.0, 0.001, 1.0)
    before = graph_flops(network.graph)
    step = both(network, flops=0.6, blocks=True)
    removed = [d.layer for d in step.outcome.decisions if d.decision == "removed"]
    assert removed == ["x2"]
    assert [n.op for n in network.graph].count("Add") == 2
    assert 0.5 < graph_flops(network.graph) / before <= 0.6
    assert not step.outcome.missed
    assert "1 residual blocks removed" in step.outcome.notes
    assert step.outcome.checks["mask_oracle"].passed


def test_a_budget_that_blocks_alone_keep_takes_no_channel(model):
    network = made(model, 1.0, 0.001, 1.0)
    step = both(network, flops=0.72, blocks=True)
    assert [n.operand(1).tensor.shape for n in network.graph if n.op == "MatMul"] == [(6, 8), (8, 6)] * 2 + [(6, 6)]
    assert not step.outcome.missed


def test_blocks_that_are_dear_stay(model):
    network = made(model, 1.0, 1.0, 1.0, inner=32)
    for index in range(3):
        silent_units(network, index)
    step = both(network, flops=0.6, blocks=True)
    assert not [d for d in step.outcome.decisions if d.decision == "removed"]
    assert not step.outcome.missed


def silent_units(network: Model, index: int) -> None:
    """Half of the hidden units of a block do nothing."""
    (node,) = [n for n in network.graph if n.op == "MatMul" and n.operand(1).name == f"b{index}"]
    weight = node.operand(1).tensor.numpy().copy()
    weight[::2] = 0
    node.set_input(1, constant(weight, f"b{index}"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"blocks": True}, "nothing to weigh blocks and channels by"),
        ({"blocks": True, "flops": 0.5, "scope": "local"}, "nothing to weigh blocks and channels by"),
    ],
)
def test_blocks_and_channels_need_a_budget_to_compete_for(options: dict[str, object], said: str):
    with pytest.raises(UsageError, match=said):
        Prune(**options)  # pyright: ignore[reportArgumentType]


def test_blocks_among_channels_need_data(model):
    with pytest.raises(UsageError, match=r"blocks=True\) needs calibration data"):
        Prune(flops=0.5, blocks=True).run(made(model, 1.0, 1.0), Context())
