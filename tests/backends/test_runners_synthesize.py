"""Inputs that are made up fit the graph and say what they are."""

from __future__ import annotations

import numpy as np
import pytest
from tersor.backends.runners import OrtRunner, plan, synthesize
from tersor.ir import Dense, Graph, Model, UsageError, parse, symbol, tensor

LANGUAGE = """
graph(%input_ids: i64[batch,length], %token_type_ids: i64[batch,length], %attention_mask: i64[batch,length],
      %past: f32[batch,2,past_length,4], %whole_mask: f32[batch,"past_length + length"]) -> (y) {
  @words : f32[30,4] = random(1)
  @types : f32[2,4] = random(2)
  %0 = Gather(@words, %input_ids) : f32[batch,length,4]
  %1 = Unsqueeze(%token_type_ids, i64[1]{0}) : i64[1,batch,length]
  %2 = Gather(@types, %1) : f32[1,batch,length,4]
  %3 = Add(%0, %2) : f32[1,batch,length,4]
  return %3
}"""


def test_the_same_seed_gives_the_same_feeds_and_another_one_others() -> None:
    graph = parse(LANGUAGE)
    first, second, other = synthesize(graph, 2, seed=1), synthesize(graph, 2, seed=1), synthesize(graph, 2, seed=2)
    assert all(np.array_equal(a[n], b[n]) for a, b in zip(first, second, strict=True) for n in a)
    assert not np.array_equal(first[0]["past"], other[0]["past"])
    assert not np.array_equal(first[0]["past"], first[1]["past"])


def test_a_size_is_the_same_wherever_its_symbol_is_and_sums_follow() -> None:
    feeds = synthesize(parse(LANGUAGE), sizes={"length": 5})[0]
    assert feeds["input_ids"].shape == feeds["attention_mask"].shape == (2, 5)
    assert feeds["whole_mask"].shape == (2, feeds["past"].shape[2] + 5)


def test_integers_stay_below_the_table_that_they_index_even_through_other_operators() -> None:
    for feeds in synthesize(parse(LANGUAGE), 20):
        assert feeds["input_ids"].max() < 30
        assert feeds["token_type_ids"].max() < 2
    assert synthesize(parse(LANGUAGE), sizes={"batch": 50})[0]["input_ids"].max() > 20


def test_masks_are_ones() -> None:
    feeds = synthesize(parse(LANGUAGE))[0]
    assert feeds["attention_mask"].min() == feeds["whole_mask"].min() == 1
    assert feeds["whole_mask"].dtype == np.float32


def test_made_up_feeds_run() -> None:
    graph = parse(LANGUAGE)
    assert OrtRunner(Model(graph)).run(synthesize(graph)[0])["y"].shape == (1, 2, 16, 4)


def test_an_index_that_a_branch_uses_is_bounded_too() -> None:
    graph = parse(
        """graph(%i: i64[100], %c: bool[]) -> (y) {
             @t : f32[3,2] = random(1)
             %y = If(%c, %i) captures 1 : f32[100,2] regions {
               then_branch = graph(%a: i64[100]) -> (o) { %o = Gather(@t, %a) : f32[100,2] return %o }
               else_branch = graph(%a: i64[100]) -> (o) { %o = Gather(@t, %a) : f32[100,2] return %o }
             }
             return %y }"""
    )
    assert synthesize(graph)[0]["i"].max() == 2


def test_every_element_type_is_filled_with_its_own() -> None:
    graph = parse(
        """graph(%a: f32[9], %b: bool[99], %c: str[9], %d: u8[999], %e: i8[999], %f: f16[9], %g: bf16[9], %h: c64[9],
                 %i: i4[99], %j: f64[9], %k: i32[99]) -> () { return }"""
    )
    feeds = synthesize(graph)[0]
    for value in graph.inputs:
        assert feeds[value.name].dtype == value.type.dtype.numpy, value
        assert feeds[value.name].shape == value.type.shape
    assert set(feeds["b"].tolist()) == {False, True}
    assert feeds["d"].max() > 200
    assert feeds["e"].min() < -100
    assert 0 <= feeds["k"].min() <= feeds["k"].max() < 4
    assert feeds["i"].astype(int).min() >= 0
    assert all(isinstance(word, str) for word in feeds["c"])


def test_images_get_room_for_windows_and_signals_for_frames() -> None:
    graph = parse("graph(%image: f32[N,3,H,W], %signal: f32[M,T], %tokens: i64[M,L]) -> () { return }")
    feeds = synthesize(graph)[0]
    assert feeds["image"].shape == (2, 3, 64, 64)
    assert feeds["signal"].shape == (2, 512)
    assert feeds["tokens"].shape == (2, 16)


def test_sizes_stay_in_the_range_of_their_symbol() -> None:
    graph = Graph("g")
    graph.add_input("x", tensor("f32", symbol("A", 5), symbol("B", 0, 3), 2 * symbol("C", 1, 4)))
    assert synthesize(graph)[0]["x"].shape == (5, 3, 8)
    with pytest.raises(UsageError, match="size B cannot be 4"):
        synthesize(graph, sizes={"B": 4})


def test_a_size_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(UsageError, match="no input has a size called heigth") as caught:
        synthesize(parse("graph(%x: f32[N,height]) -> () { return }"), sizes={"heigth": 3})
    assert "N, height" in caught.value.why


@pytest.mark.parametrize("type_", ["f32[*]", "seq<f32[2]>", "?"])
def test_what_has_no_known_rank_cannot_be_made_up(type_: str) -> None:
    with pytest.raises(UsageError, match="no input can be made up"):
        synthesize(parse(f"graph(%x: {type_}) -> () {{ return }}"))


def test_an_input_with_a_default_keeps_it() -> None:
    graph = Graph("g")
    graph.add_input("x", tensor("f32", 2), Dense(np.ones(2, np.float32)))
    assert synthesize(graph) == [{}]


def test_the_plan_says_what_was_made_up() -> None:
    rows = [str(filling) for filling in plan(parse(LANGUAGE), {"batch": 3, "length": 7})]
    assert rows[0] == "input_ids: i64[3,7], 0 to 29, for it indexes 30 entries"
    assert rows[2] == "attention_mask: i64[3,7], ones, for it is called a mask"
    assert rows[3] == "past: f32[3,2,16,4], standard normal"
