"""Known elements of small integer tensors: what they are, and the shapes that are computed from them."""

from __future__ import annotations

import pytest
from tersor.ir import Graph, parse
from tersor.ir.inference import Inference, infer


def results(text: str) -> list[str]:
    """The known elements of the graph's outputs as text; '-' where they are not known."""
    graph = parse(text)
    inference = infer(graph)
    found = [inference.contents_of(v) for v in graph.outputs]
    return ["-" if c is None else " ".join(str(x) for x in c) for c in found]


def elements(inputs: str, node: str) -> str:
    (found,) = results(f"graph ({inputs}) -> (y) {{ %s = Shape(%x)\n %y = {node}\n return %y }}")
    return found


ROWS = [
    ("%x: f32[N,3,8]", "Identity(%s)", "N 3 8"),
    ("%x: f32[N,3,8]", "Shape(%x) {start=1}", "3 8"),
    ("%x: f32[N,3,8]", "Size(%x)", "24*N"),
    ("%x: f32[N,3,8]", "Gather(%s, i64[]{0})", "N"),
    ("%x: f32[N,3,8]", "Gather(%s, i64[2]{-1,0})", "8 N"),
    ("%x: f32[N,3,8]", "Slice(%s, i64[1]{-2}, i64[1]{9223372036854775807})", "3 8"),
    ("%x: f32[N,3,8]", "Slice(%s, i64[1]{-1}, i64[1]{-9223372036854775807}, i64[1]{0}, i64[1]{-1})", "8 3 N"),
    ("%x: f32[N,3,8]", "Concat(%s, i64[1]{-1}) {axis=0}", "N 3 8 -1"),
    ("%x: f32[N,3,8]", "Reshape(%s, i64[1]{-1})", "N 3 8"),
    ("%x: f32[N,3,8]", "ReduceProd(%s)", "24*N"),
    ("%x: f32[N,3,8]", "ReduceProd(%s) {keepdims=0}", "24*N"),
    ("%x: f32[N,3,8]", "ReduceSum(%s)", "N+11"),
    ("%x: f32[N,3,8]", "ReduceMax(%s)", "max(8,N)"),
    ("%x: f32[N,3,8]", "Add(%s, i64[]{1})", "N+1 4 9"),
    ("%x: f32[N,3,8]", "Sub(%s, %s)", "0 0 0"),
    ("%x: f32[N,3,8]", "Mul(%s, i64[3]{2,3,4})", "2*N 9 32"),
    ("%x: f32[N,3,8]", "Div(%s, i64[]{2})", "((N)//(2)) 1 4"),
    ("%x: f32[N,3,8]", "Div(i64[]{-7}, %s)", "-"),
    ("%x: f32[3,8]", "Div(i64[2]{-7,7}, i64[2]{2,-2})", "-3 -3"),
    ("%x: f32[3,8]", "Mod(i64[2]{-7,7}, i64[2]{4,-4})", "1 -1"),
    ("%x: f32[3,8]", "Mod(i64[2]{-7,7}, i64[2]{4,-4}) {fmod=1}", "-3 3"),
    ("%x: f32[N,3,8]", "Neg(%s)", "-N -3 -8"),
    ("%x: f32[N,3,8]", "Max(%s, i64[]{4})", "max(4,N) 4 8"),
    ("%x: f32[N,3,8]", "Min(%s, i64[]{4})", "min(4,N) 3 4"),
    ("%x: f32[N,3,8]", "Clip(%s, i64[]{4}, i64[]{6})", "min(6,max(4,N)) 4 6"),
    ("%x: f32[N,3,8]", "Cast(%s) {to=6}", "N 3 8"),
    ("%x: f32[N,300,8]", "Cast(%s) {to=2}", "-"),
    ("%x: f32[N,3,8]", "Equal(%s, i64[]{-1})", "0 0 0"),
    ("%x: f32[N,3,8]", "Equal(%s, i64[]{3})", "-"),
    ("%x: f32[4,3,8]", "Less(%s, i64[]{4})", "0 1 0"),
    ("%x: f32[4,3,8]", "Where(bool[3]{true,false,true}, %s, i64[]{7})", "4 7 8"),
    ("%x: f32[N,3,8]", "Squeeze(i64[1]{5}, i64[1]{0})", "5"),
    ("%x: f32[N,3,8]", "Unsqueeze(i64[]{5}, i64[1]{0})", "5"),
    ("%x: f32[N,3,8]", "Range(i64[]{1}, i64[]{8}, i64[]{3})", "1 4 7"),
    ("%x: f32[N,3,8]", "Range(i64[]{5}, i64[]{0}, i64[]{-2})", "5 3 1"),
    ("%x: f32[N,3,8]", "ConstantOfShape(i64[1]{3}) {value=tensor i64[1] = [7]}", "7 7 7"),
    ("%x: f32[N,3,8]", "Expand(i64[1]{5}, i64[1]{3})", "5 5 5"),
    ("%x: f32[N,3,8]", "Tile(%s, i64[1]{2})", "N 3 8 N 3 8"),
    ("%x: f32[*]", "Identity(%s)", "-"),
    ("%x: f32[N,3,8]", "CumSum(%s, i64[]{0})", "-"),
]


@pytest.mark.parametrize(("inputs", "node", "expected"), ROWS, ids=[r[1] for r in ROWS])
def test_elements_follow_from_those_of_the_operands(inputs: str, node: str, expected: str) -> None:
    assert elements(inputs, node) == expected


def test_a_vector_is_split_into_its_pieces() -> None:
    text = "graph (%x: f32[N,3,8]) -> (a, b) { %s = Shape(%x)\n %a, %b = Split(%s, i64[2]{1,2})\n return %a, %b }"
    assert results(text) == ["N", "3 8"]


def test_overflowing_numbers_are_not_known() -> None:
    assert results("graph () -> (y) { %y = Mul(i32[]{65536}, i32[]{65536})\n return %y }") == ["-"]


def test_pads_computed_from_a_matrix_of_integers_give_sizes() -> None:
    text = """graph (%x: f32[N,4,H,W]) -> (y) {
      %m = Reshape(i64[8]{1,2,3,4,0,0,0,0}, i64[2]{-1,2})
      %r = Slice(%m, i64[1]{-1}, i64[1]{-9223372036854775807}, i64[1]{0}, i64[1]{-1})
      %t = Transpose(%r)
      %p = Reshape(%t, i64[1]{-1})
      %y = Pad(%x, %p)
      return %y
    }"""
    assert output_type(text) == "f32[N,4,H+7,W+3]"


def test_a_shape_chain_keeps_symbols() -> None:
    text = """graph (%x: f32[B,S,768]) -> (y) {
      %s = Shape(%x)
      %b = Gather(%s, i64[]{0})
      %b1 = Unsqueeze(%b, i64[1]{0})
      %l = Gather(%s, i64[]{1})
      %l1 = Unsqueeze(%l, i64[1]{0})
      %t = Concat(%b1, %l1, i64[2]{12,64}) {axis=0}
      %y = Reshape(%x, %t)
      return %y
    }"""
    assert output_type(text) == "f32[B,S,12,64]"


def test_an_unknown_entry_leaves_only_its_own_size_open() -> None:
    text = """graph (%x: f32[B,S,768], %n: i64[1]) -> (y) {
      %t = Concat(%n, i64[2]{12,64}) {axis=0}
      %y = ConstantOfShape(%t)
      return %y
    }"""
    graph = parse(text)
    infer(graph)
    assert graph.outputs[0].shape is not None
    assert graph.outputs[0].shape[1:] == (12, 64)


def test_expand_through_where_on_minus_one_keeps_symbols() -> None:
    text = """graph (%x: f32[1,S], %z: f32[B,T]) -> (y) {
      %b = Shape(%z) {end=1}
      %t = Concat(%b, i64[1]{-1}) {axis=0}
      %minus = Equal(%t, i64[]{-1})
      %ones = ConstantOfShape(i64[1]{2}) {value=tensor i64[1] = [1]}
      %shape = Where(%minus, %ones, %t)
      %y = Expand(%x, %shape)
      return %y
    }"""
    assert output_type(text) == "f32[B,S]"


def test_sizes_computed_in_floating_point_are_known_where_they_are_whole() -> None:
    text = """graph (%x: f32[N,3,H,20]) -> (y) {
      %s = Shape(%x) {start=2}
      %f = Cast(%s) {to=1}
      %d = Mul(%f, f32[]{2})
      %r = Floor(%d)
      %i = Cast(%r) {to=7}
      %y = Resize(%x, _, _, %i) {axes=[2,3]}
      return %y
    }"""
    assert output_type(text) == "f32[N,3,2*H,40]"


def test_fractions_are_not_taken_for_whole_numbers() -> None:
    text = """graph (%x: f32[N,3,7,20]) -> (y) {
      %f = Mul(f32[]{7}, f32[]{0.3})
      %i = Cast(%f) {to=7}
      return %i
    }"""
    assert results(text) == ["-"]


def test_a_slice_to_the_present_length_broadcasts_against_it() -> None:
    text = """graph (%x: f32[B,S,768]) -> (y) {
      @position : f32[1,512,768]
      %n = Shape(%x) {start=1, end=2}
      %p = Slice(@position, i64[1]{0}, %n, i64[1]{1})
      %y = Add(%x, %p)
      return %y
    }"""
    assert output_type(text) == "f32[B,S,768]"


def test_only_vectors_and_scalars_of_integers_are_published() -> None:
    graph = parse("""graph (%x: f32[N,4]) -> (a, b, c) {
      %a = Shape(%x)
      %b = Reshape(i64[4]{1,2,3,4}, i64[2]{2,2})
      %c = Cast(%a) {to=1}
      return %a, %b, %c
    }""")
    inference = infer(graph)
    a, b, c = graph.outputs
    assert a in inference.contents
    assert b not in inference.contents
    assert c not in inference.contents


def test_large_tensors_are_not_tracked() -> None:
    graph = parse("graph () -> (y) { %y = Range(i64[]{0}, i64[]{1025}, i64[]{1})\n return %y }")
    inference = infer(graph)
    assert inference.contents_of(graph.outputs[0]) is None
    assert str(graph.outputs[0].type) == "i64[1025]"


def test_constants_without_numbers_are_unknown_and_do_no_harm() -> None:
    graph = parse("graph (%x: f32[2,3]) -> (y) { @s : i64[2]\n %y = Reshape(%x, @s)\n return %y }")
    inference: Inference = infer(graph)
    assert graph.outputs[0].rank == 2
    assert inference.contents_of(graph.outputs[0]) is None


def output_type(text: str) -> str:
    graph: Graph = parse(text)
    infer(graph)
    return str(graph.outputs[0].type)
