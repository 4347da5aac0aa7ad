"""Weight-only int8 and int4: what is stored, how it is computed, how much is lost, and what stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tersor.backends.compare import compare
from tersor.backends.onnx import save
from tersor.backends.runners import OrtRunner
from tersor.frontends.onnx import load
from tersor.ir import Dense, DType, Model, UsageError, parse, verify
from tersor.transforms.base import Context, Outcome
from tersor.transforms.quantize import Quantize
from tersor.transforms.quantize.report import optimised
from tersor.transforms.quantize.weights import BlockIntegers, BlockScales

TEXT = """
graph @g(%i: i64[N,S]) -> (y) {
  @table : f32[100,64] = random(1)
  @w : f32[64,96] = random(2)
  @small : f32[96,8] = random(3)
  %1 = Gather(@table, %i) : f32[N,S,64]  # embedding
  %2 = MatMul(%1, @w) : f32[N,S,96]  # up
  %3 = Relu(%2) : f32[N,S,96]
  %4 = MatMul(%3, @small) : f32[N,S,8]  # down
  return %4
}
"""
FEED = {"i": np.random.default_rng(0).integers(-100, 100, (3, 7))}


def stored(text: str = TEXT, **options: object) -> tuple[Model, Outcome]:
    model = Model(parse(text))
    outcome = Quantize(mode="weights", **options).run(model, Context())  # type: ignore[arg-type]
    verify(model.graph)
    return model, outcome


@pytest.mark.parametrize(("bits", "least"), [(8, 38.0), (4, 14.0)])
def test_the_result_is_close_whether_the_runtime_optimises_or_not(bits: int, least: float):
    model, outcome = stored(bits=bits)
    assert outcome.changed == 2
    expected, found = OrtRunner(Model(parse(TEXT))).run(FEED)["y"], OrtRunner(model).run(FEED)["y"]
    assert compare(expected, found).sqnr_db > least
    assert compare(OrtRunner(model, optimize=False).run(FEED)["y"], found).sqnr_db > 30


def test_weights_are_written_as_integers_and_read_back(tmp_path: Path):
    sizes: dict[int, int] = {}
    for bits in (8, 4):
        model, _ = stored(bits=bits)
        save(model, tmp_path / "m.onnx")
        again = load(tmp_path / "m.onnx")
        assert (OrtRunner(again).run(FEED)["y"] == OrtRunner(model).run(FEED)["y"]).all()
        sizes[bits] = sum(v.tensor.nbytes for v in again.graph.constants() if v.name.endswith("_quantized"))
    assert sizes == {8: 100 * 64 + 64 * 96, 4: (100 * 64 + 64 * 96) // 2}


@pytest.mark.parametrize(("bits", "least"), [(8, 38.0), (4, 18.0)])
def test_the_runtime_multiplies_by_the_packed_weights_and_gets_the_same(bits: int, least: float):
    text = """graph @g(%x: f32[N,512]) -> (y) {
      @w : f32[512,256] = random(2)
      %1 = MatMul(%x, @w) : f32[N,256]
      return %1
    }"""
    feed = {"x": np.random.default_rng(0).standard_normal((4, 512)).astype(np.float32)}
    model, _ = stored(text, bits=bits)
    assert {node.op_type for node in optimised(model).node} == {"MatMulNBits"}
    found = OrtRunner(model).run(feed)["y"]
    assert compare(OrtRunner(Model(parse(text))).run(feed)["y"], found).sqnr_db > least
    assert compare(OrtRunner(model, optimize=False).run(feed)["y"], found).sqnr_db > 40


def test_rows_of_an_int8_table_are_dequantized_after_the_look_up():
    model, _ = stored(bits=8)
    gathers = [node for node in model.graph if node.op == "Gather"]
    assert [g.operand(0).tensor.dtype for g in gathers] == [DType.I8, DType.F32]
    assert {u.op for u in gathers[0].output.users} == {"DequantizeLinear"}


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("axis", [0, 1])
def test_rows_are_those_of_the_whole_and_scales_fit_their_blocks(bits: int, axis: int):
    weight = np.random.default_rng(0).standard_normal((64, 96)).astype(np.float32)
    weight[:32, :32] = 0
    integers, scales = BlockIntegers(Dense(weight), axis, 32, bits), BlockScales(Dense(weight), axis, 32, bits)
    whole = integers.numpy().astype(np.int8)
    for start, stop in ((0, 1), (5, 40), (31, 33), (63, 64), (10, 10)):
        assert (integers.rows(start, stop).astype(np.int8) == whole[start:stop]).all()
        assert (scales.rows(start // 32, stop // 32) == scales.numpy()[start // 32 : stop // 32]).all()
    wide = np.repeat(scales.numpy(), 32, axis)
    assert (np.abs(whole * wide - weight) <= wide / 2 * (1 + 1e-6)).all()
    assert (whole[:32, :32] == 0).all()
    assert np.abs(whole).max() == (127 if bits == 8 else 7)


def test_only_the_rows_that_are_asked_for_are_read():
    read: list[tuple[int, int]] = []

    class Watched(Dense):
        def rows(self, start: int, stop: int) -> np.ndarray:
            read.append((start, stop))
            return super().rows(start, stop)

    integers = BlockIntegers(Watched(np.ones((4096, 1024), np.float32)), 0, 32, 4)
    for _ in integers.blocks(1 << 16):
        pass
    assert max(stop - start for start, stop in read) <= 256
    assert read[-1][1] == 4096


KEPT = {
    "small": (TEXT, "down", "too few"),
    "ragged": (TEXT.replace("f32[100,64]", "f32[100,72]").replace("f32[64,96]", "f32[72,96]"), "up", "no multiple"),
    "used elsewhere": (TEXT.replace("return %4", "%5 = Neg(@w) : f32[64,96] return %4, %5").replace("(y)", "(y, z)"), "up", "elsewhere"),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_what_stays_says_why(name: str):
    text, layer, why = KEPT[name]
    _, outcome = stored(text)
    row = next(d for d in outcome.decisions if d.layer == layer)
    assert row.decision == "as it is"
    assert why in row.reason


def test_skip_leaves_a_weight_alone():
    _, outcome = stored(skip=("embedding",))
    assert {d.layer: d.decision for d in outcome.decisions}["embedding"] == "as it is"
    assert outcome.changed == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "weights", "bits": 3}, "bits=3"),
        ({"mode": "weights", "block": 48}, "block=48"),
        ({"mode": "weights", "observer": "mse"}, "observer has no effect"),
        ({"bits": 4}, "bits has no effect"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, object], message: str):
    with pytest.raises(UsageError, match=message):
        Quantize(**options)  # type: ignore[arg-type]
