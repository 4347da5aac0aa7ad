"""Data and networks that are not as they should be: each is handled, or refused with one message that says where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tersor.backends.onnx import save
from tersor.backends.runners import OrtRunner, ort
from tersor.driver.compress import apply
from tersor.driver.data import data
from tersor.frontends.onnx import load
from tersor.ir import Dense, Model, TersorError, UsageError, constant, parse, verify
from tersor.transforms.base import Context, Pass
from tersor.transforms.quantize import AdaRound, Gptq, Half, Quantize, Smooth

TEXT = """
graph @g(%x: f32[N,8,6,6], %z: f32[N,8]) -> (y) {
  @w : f32[8,8,3,3] = random(1)
  @b : f32[8] = random(2)
  @h : f32[8,64] = random(3)
  %1 = Conv(%x, @w, @b) {pads=[1,1,1,1]} : f32[N,8,6,6]  # conv
  %2 = GlobalAveragePool(%1) : f32[N,8,1,1]
  %3 = Flatten(%2) : f32[N,8]
  %4 = Add(%3, %z) : f32[N,8]
  %5 = MatMul(%4, @h) : f32[N,64]  # head
  return %5
}
"""
RNG = np.random.default_rng(0)
X, Z = (RNG.standard_normal(s).astype(np.float32) for s in ((4, 8, 6, 6), (4, 8)))
GOOD = [{"x": X, "z": Z}]
CALIBRATED: list[Pass] = [Quantize(), Gptq(), AdaRound(), Smooth(), Half(mode="compute")]


def each(name: str, array: np.ndarray) -> list[dict[str, np.ndarray]]:
    return [{**GOOD[0], name: array}]


def names(passes: list[Pass]) -> list[str]:
    return [p.name for p in passes]


@pytest.mark.parametrize("done", CALIBRATED, ids=names(CALIBRATED))
def test_data_that_lacks_an_input_is_refused_with_its_name(done: Pass):
    with pytest.raises(UsageError, match="the inputs do not fit the model") as told:
        done.run(Model(parse(TEXT)), Context(samples=[{"x": X}]))
    assert "input 'z' is missing" in told.value.why


@pytest.mark.parametrize("done", CALIBRATED, ids=names(CALIBRATED))
def test_nan_in_the_data_is_refused_with_the_place(done: Pass):
    broken = X.copy()
    broken[1, 2, 3, 4] = np.nan
    with pytest.raises(TersorError, match="not finite") as told:
        done.run(Model(parse(TEXT)), Context(samples=each("x", broken)))
    assert "NaN" in told.value.why
    assert told.value.where


@pytest.mark.parametrize("done", CALIBRATED, ids=names(CALIBRATED))
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_channel_that_is_constant_is_no_trouble(done: Pass, value: float):
    flat = X.copy()
    flat[:, 2] = value
    model = Model(parse(TEXT))
    outcome = done.run(model, Context(samples=each("x", flat)))
    verify(model.graph)
    assert outcome.changed or done.name == "smooth"
    found = OrtRunner(model).run({"x": flat, "z": Z})["y"]
    assert np.isfinite(found).all()
    assert (
        np.abs(found - OrtRunner(Model(parse(TEXT))).run({"x": flat, "z": Z})["y"]).max() < 0.05 * np.abs(found).max()
    )


@pytest.mark.parametrize("observer", ["minmax", "moving_average", "percentile", "entropy", "mse"])
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_data_that_is_constant_altogether_is_no_trouble(observer: str, value: float):
    flat = [{"x": np.full_like(X, value), "z": np.full_like(Z, value)}]
    model = Model(parse(TEXT))
    Quantize(observer=observer).run(model, Context(samples=flat))
    expected, found = OrtRunner(Model(parse(TEXT))).run(flat[0])["y"], OrtRunner(model).run(flat[0])["y"]
    assert np.abs(found - expected).max() <= 0.05 * np.abs(expected).max()


@pytest.mark.parametrize("done", [Quantize(samples=100), Half(mode="compute", samples=100)], ids=["quantize", "half"])
def test_data_that_is_shorter_than_asked_for_is_used_with_a_warning(done: Pass):
    outcome = done.run(Model(parse(TEXT)), Context(samples=GOOD))
    assert outcome.changed
    assert ("TSR204", "samples=100 was asked for, but the calibration data holds only 4", "") in outcome.warnings


def test_a_one_shot_iterator_is_refused_before_anything_is_read():
    with pytest.raises(UsageError, match=r"read twice|iterat"):
        data(iter(GOOD))


@pytest.mark.parametrize("size", [1e6, 1e12, 1e30])
def test_a_bias_beyond_int32_does_not_wrap_around(size: float):
    model = Model(parse(TEXT))
    conv = next(n for n in model.graph if n.op == "Conv")
    bias = np.array([size, -size, *range(6)], np.float32)
    conv.set_input(2, constant(Dense(bias), "b"))
    tiny = np.array(conv.operand(1).tensor.numpy())
    tiny[:2] *= 1e-6
    conv.set_input(1, constant(Dense(tiny), "w"))
    expected = OrtRunner(model).run(GOOD[0])["y"]
    Quantize().run(model, Context(samples=GOOD))
    found = OrtRunner(model).run(GOOD[0])["y"]
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize("done", [*CALIBRATED, Quantize(mode="dynamic"), Quantize(mode="weights", block=16), Half()])
def test_weights_of_zeros_are_no_trouble(done: Pass):
    model = Model(parse(TEXT))
    for node in model.graph:
        if node.op in ("Conv", "MatMul"):
            node.set_input(1, constant(Dense(np.zeros(node.operand(1).tensor.shape, np.float32)), "zeros"))
    expected = OrtRunner(model).run(GOOD[0])["y"]
    done.run(model, Context(samples=GOOD))
    verify(model.graph)
    assert (OrtRunner(model).run(GOOD[0])["y"] == expected).all()


@pytest.mark.parametrize("again", [*CALIBRATED, Quantize(mode="dynamic"), Quantize(mode="weights", block=16)])
@pytest.mark.parametrize("form", ["qdq", "qoperator"])
def test_quantized_layers_stay_as_they_are(again: Pass, form: str):
    model = Model(parse(TEXT))
    Quantize(form=form).run(model, Context(samples=GOOD))
    before = OrtRunner(model).run(GOOD[0])["y"]
    outcome = again.run(model, Context(samples=GOOD))
    verify(model.graph)
    assert not outcome.changed or again.name == "half"
    assert np.abs(OrtRunner(model).run(GOOD[0])["y"] - before).max() < 1e-2 * np.abs(before).max()


@pytest.mark.parametrize("done", [*CALIBRATED, Quantize(mode="dynamic"), Quantize(mode="weights", block=16), Half()])
def test_a_model_too_large_for_one_message_passes_through_files(
    done: Pass, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> None:
        raise AssertionError("a model of over 2 GB does not fit into one message")

    save(Model(parse(TEXT)), tmp_path / "m.onnx", external_data=True)
    monkeypatch.setattr(ort, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(ort, "to_proto", refuse)
    model = load(tmp_path / "m.onnx")
    done.run(model, Context(samples=GOOD))
    save(model, tmp_path / "q.onnx", external_data=True)
    assert np.isfinite(OrtRunner(str(tmp_path / "q.onnx")).run(GOOD[0])["y"]).all()


def test_data_of_another_type_or_shape_is_refused_before_the_first_pass():
    for wrong, why in (({"x": X.astype(np.float64)}, "f64"), ({"x": X[:, :4]}, "has the shape [4, 4, 6, 6]")):
        with pytest.raises(UsageError, match="does not fit the model") as told:
            apply(Model(parse(TEXT)), "quantize", data=data([{**GOOD[0], **wrong}]))
        assert why in told.value.why
