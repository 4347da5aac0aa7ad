"""What the outputs keep when a network is rounded, where on the way it is lost, and when that is a warning."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from tersor.backends.onnx import save
from tersor.driver.cli import main
from tersor.ir import Model, parse
from tersor.transforms.base import Context, Outcome
from tersor.transforms.quantize import Gptq, Half, Quantize
from tersor.transforms.quantize.accumulated import Growth, Reached
from tersor.transforms.quantize.warnings import LOW_DB, of_outputs

NETWORK = """
graph @net(%x: f32[N,8,8,8]) -> (far, near) {
  @a : f32[16,8,3,3] = random(1)
  @b : f32[64,16,3,3] = random(2)
  @h : f32[64,64] = random(3)
  %1 = Conv(%x, @a) {pads=[1,1,1,1]} : f32[N,16,8,8]  # first
  %2 = Relu(%1) : f32[N,16,8,8]
  %3 = Conv(%2, @b) {pads=[1,1,1,1]} : f32[N,64,8,8]  # second
  %4 = ReduceMean(%3, i64[2]{2,3}) {keepdims=0} : f32[N,64]
  %5 = MatMul(%4, @h) : f32[N,64]  # head
  %6 = Mul(%5, f32[]{RATE}) : f32[N,64]
  %7 = Sin(%6) : f32[N,64]
  return %7, %3
}
"""
"""Behind the last layer is an angle: the output `far` keeps as little as its rate asks for, though layers keep much."""

RUINOUS, MILD = "1.0", "0.001"


def samples() -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(0)
    return [{"x": generator.standard_normal((4, 8, 8, 8)).astype(np.float32)} for _ in range(3)]


def rounded(by: Quantize | Half, rate: str = RUINOUS, data: bool = True) -> Outcome:
    return by.run(Model(parse(NETWORK.replace("RATE", rate))), Context(samples=samples() if data else None))


def warned(outcome: Outcome) -> list[tuple[str, str, str]]:
    return [w for w in outcome.warnings if w[0] == "TSR207"]


def test_an_output_that_is_ruined_though_no_layer_is_has_a_warning_that_says_where_it_is_lost():
    outcome = rounded(Quantize())
    assert all(d.sqnr_db is not None and d.sqnr_db > LOW_DB + 5 for d in outcome.decisions)
    ((_, what, where),) = warned(outcome)
    assert where == "far"
    assert "the error grows most behind the last layer" in what
    assert "slack=0.05" in what


def test_an_output_that_keeps_enough_has_none():
    assert not warned(rounded(Quantize(), MILD))


def test_an_output_that_becomes_infinite_keeps_nothing():
    text = NETWORK.replace("RATE", MILD).replace("%7 = Sin(%6) : f32[N,64]", "%7 = Reciprocal(%3) : f32[N,64,8,8]")
    ((_, what, _),) = warned(Quantize().run(Model(parse(text)), Context(samples=samples())))
    assert "keeps nothing in int8" in what


def test_nothing_is_said_where_nothing_was_measured():
    assert not warned(rounded(Quantize(mode="dynamic"), data=False))


@pytest.mark.parametrize(
    ("by", "said"),
    [
        (Quantize(mode="dynamic"), "in int8"),
        (Quantize(mode="weights", bits=4, block=16), "in int4 weights"),
        (Quantize(target="openvino-cpu"), "in int8"),
        (Half(mode="compute"), "in float16"),
        (Gptq(bits=4, block=16), "in int4 weights"),
    ],
)
def test_every_way_of_rounding_that_has_data_tells_it(by: Quantize | Half, said: str):
    ((_, what, _),) = warned(rounded(by, "30.0"))
    assert said in what
    assert "slack" not in what, "layers are left in float for accuracy only where their time is known"


def test_a_slack_that_was_not_enough_is_to_be_larger():
    ((_, what, _),) = of_outputs([Reached("y", 3.0, 30.0, ())], "int8", "static", 0.1)
    assert "larger slack than 0.1" in what
    assert "cost_aware" not in what


def test_the_worst_output_is_named_and_the_others_are_counted():
    outputs = [Reached("a", 9.0, 30.0, ()), Reached("b", 2.0, 30.0, ()), Reached("c", 30.0, 30.0, ())]
    ((_, what, where),) = of_outputs(outputs, "int8", "dynamic")
    assert where == "b"
    assert "1 more less than 10 dB" in what


def test_layers_are_named_in_the_order_of_the_noise_that_they_add():
    first, second = Growth("first", math.inf, 20.0), Growth("second", 20.0, 8.0)
    assert second.added > first.added
    assert str(Reached("y", 8.0, 8.0, (second, first))) == "in second (20.0 -> 8.0 dB), first (20.0 dB)"
    assert (
        str(Reached("y", 1.0, 8.0, (second,)))
        == "behind the last layer (8.0 -> 1.0 dB), then in second (20.0 -> 8.0 dB)"
    )


def test_layers_beside_the_way_to_an_output_are_not_blamed():
    text = NETWORK.replace("RATE", MILD).replace("return %7, %3", "return %9, %7")
    text = text.replace(
        "%4 = Reduce", "%8 = Mul(%2, f32[]{10}) : f32[N,16,8,8]\n  %9 = Sin(%8) : f32[N,16,8,8]\n  %4 = Reduce"
    )
    outcome = Quantize().run(Model(parse(text)), Context(samples=samples()))
    ((_, what, where),) = warned(outcome)
    assert where == "far"
    assert "in first (" in what
    assert "second" not in what


def test_the_warning_is_on_the_terminal_and_in_both_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save(Model(parse(NETWORK.replace("RATE", RUINOUS)), source_opset=17), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=np.concatenate([feed["x"] for feed in samples()]))
    given = ["compress", str(tmp_path / "net.onnx"), "-o", str(tmp_path / "out"), "--runs", "0"]
    assert main([*given, "--data", str(tmp_path / "data.npz"), "--methods", "quantize"]) == 0
    assert "warning TSR207: this output keeps" in capsys.readouterr().err
    written = json.loads((tmp_path / "out/report.json").read_text())["warnings"]
    assert [w["where"] for w in written if w["code"] == "TSR207"] == ["far"]
    assert "TSR207" in (tmp_path / "out/report.html").read_text()
