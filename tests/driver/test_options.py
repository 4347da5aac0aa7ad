"""Each option of the command line does what its help says."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from tersor.frontends.onnx import load
from tersor.ir import Dense
from tersor.transforms.base import Outcome
from tersor.transforms.simplify import Simplify


def shapes(path):
    return {v.name: v.shape for v in load(path).graph.constants()}


def operators(path):
    return [n.op_type for n in onnx.load(path).graph.node]


@pytest.fixture
def breaking(monkeypatch):
    """`simplify` that takes the first weight away."""

    def run(self, model, context):
        value = next(v for v in model.graph.constants() if v.shape == (16, 3, 3, 3))
        value.const = Dense(np.zeros(value.shape, np.float32))
        return Outcome()

    monkeypatch.setattr(Simplify, "run", run)


@pytest.mark.parametrize("level", ["deploy", "train"])
def test_level_says_whether_parameters_stay_apart(run, folder, level):
    assert run("simplify", folder / "net.onnx", "--output", folder / "s.onnx", "--level", level)[0] == 0
    assert ("BatchNormalization" in operators(folder / "s.onnx")) is (level == "train")


def test_freeze_defaults_makes_constants_of_inputs(run, folder):
    proto = onnx.load(folder / "net.onnx")
    held = next(i for i in proto.graph.initializer if list(i.dims) == [10])
    proto.graph.input.append(onnx.helper.make_tensor_value_info(held.name, 1, [10]))
    onnx.save(proto, folder / "open.onnx")
    for flags, inputs in (((), 2), (("--freeze-defaults",), 1)):
        assert run("simplify", folder / "open.onnx", "-o", folder / "s.onnx", "--force", *flags)[0] == 0
        assert len(onnx.load(folder / "s.onnx").graph.input) == inputs


def test_without_checks_outputs_are_not_compared_after_a_pass(run, folder, breaking):
    assert run("simplify", folder / "net.onnx", "-o", folder / "s.onnx")[0] != 0
    assert not (folder / "s.onnx").exists()
    assert run("simplify", folder / "net.onnx", "-o", folder / "s.onnx", "--no-check")[0] == 0


def test_graphs_are_printed_before_passes_and_where_they_changed(run, folder):
    _, _, err = run("simplify", folder / "net.onnx", "-o", folder / "s.onnx", "--print-before", "simplify")
    assert "= BatchNormalization(" in err
    options = ("--print-changed", "all", "--print-to", folder / "texts", "--force")
    assert run("simplify", folder / "net.onnx", "-o", folder / "s.onnx", *options)[0] == 0
    (text,) = (folder / "texts").iterdir()
    assert "BatchNormalization" in text.read_text()


def test_a_pass_that_fails_leaves_its_graph_and_what_repeats_it(run, folder, breaking):
    sizes = []
    for flags in ((), ("--reproducer-weights",)):
        place = folder / f"kept{len(flags)}"
        command = ("simplify", folder / "net.onnx", "-o", folder / "s.onnx", "--print-on-failure", "all")
        code, _, err = run(*command, "--reproducers", place, *flags)
        assert code != 0
        assert "= BatchNormalization(" in err
        sizes.append(sum(f.stat().st_size for f in place.rglob("*") if f.is_file()))
    assert 0 < sizes[0] < sizes[1]


def test_only_the_layers_that_are_named_change(run, folder):
    before = shapes(folder / "net.onnx")
    assert run("prune", folder / "net.onnx", "-o", folder / "p.onnx", "--only", "conv1")[0] == 0
    after = shapes(folder / "p.onnx")
    assert after["conv1.weight"][0] < before["conv1.weight"][0]
    assert after["conv2.weight"][0] == before["conv2.weight"][0]


def test_a_share_of_the_parameters_stays(run, folder):
    before, after = folder / "net.onnx", folder / "p.onnx"
    assert run("prune", before, "-o", after, "--parameters", "0.6")[0] == 0
    counts = [sum(int(np.prod(s)) for s in shapes(p).values()) for p in (before, after)]
    assert counts[1] <= 0.6 * counts[0]


def test_a_share_of_the_latency_is_a_budget_that_is_met_or_said_to_be_missed(run, folder):
    code, out, err = run("prune", folder / "net.onnx", "-o", folder / "p.onnx", "--latency", "0.9")
    assert code == 0 or "latency=0.9 was not reached" in err
    assert "prune(latency=0.9)" in out


@pytest.mark.parametrize(
    ("option", "value", "shown"),
    [
        ("--scope", "global", "scope='global'"),
        ("--norms", "semantic", "norms='semantic'"),
        ("--importance", "l1", "importance='l1'"),
        ("--compensate", "none", "compensate=None"),
    ],
)
def test_options_of_pruning_reach_the_pass(run, folder, option, value, shown):
    code, out, _ = run("prune", folder / "net.onnx", "-o", folder / "p.onnx", option, value)
    assert code == 0
    assert shown in out


def test_asking_for_heads_of_a_network_without_attention_is_refused(run, folder):
    code, _, err = run("prune", folder / "net.onnx", "-o", folder / "p.onnx", "--heads", "dims")
    assert code == 2
    assert "prune(heads='dims') finds no attention" in err


def test_options_of_quantization_reach_the_pass(run, folder):
    data = ("--data", folder / "calib.npz", "--observer", "percentile")
    code, out, _ = run("quantize", folder / "net.onnx", "-o", folder / "q.onnx", *data)
    assert code == 0
    assert "observer='percentile'" in out
    assert run("quantize", folder / "net.onnx", "-o", folder / "w.onnx", "--mode", "dynamic")[0] == 0
    assert "QuantizeLinear" not in operators(folder / "w.onnx")


def test_dequantize_emits_a_quantized_model_as_one_of_floats(run, folder, refused):
    assert run("quantize", folder / "net.onnx", "-o", folder / "q.onnx", "--data", folder / "calib.npz")[0] == 0
    for flags, place in (((), "steps"), (("--dequantize",), "floats")):
        assert run("emit", folder / "q.onnx", "-o", folder / place, *flags)[0] == 0
        text = (folder / place / "model.py").read_text()
        assert ("def quantize(" in text) is (not flags)
        assert ("nn.Conv2d(4, 16, 3" in text) is bool(flags)
    assert "goes with --to pytorch" in refused(
        2, "emit", folder / "q.onnx", "-o", folder / "o.onnx", "--to", "onnx", "--dequantize"
    )
