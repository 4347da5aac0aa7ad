"""The text form: what is printed can be read back and is the same graph."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tersor.ir import (
    DType,
    EmptyList,
    Graph,
    InvalidModelError,
    constant,
    fresh,
    parse,
    parse_type,
    skeleton,
    structural_hash,
    tensor,
    to_text,
    verify,
)  # fmt: skip
from tersor.ir.dims import floordiv, maximum

EVERYTHING = """graph @net(%x: f32[N,3,8,8], %c: bool[], %k: i64[2] = [1,2]) -> (y, "a b") where N in [1,64] {
  @w : f32[4,3,3,3] = #02ac5abea21ff53d1d82a357de755324
  @scale : f32[4] = [1.0,2.0,3.0,nan]
  %0 = Conv(%x, @w) {pads=[1,1,1,1]} : f32[N,4,8,8]   # stem @ net.py:3
  %1, %"m n" = Dropout(%0, _, bool[]{false}) : f32[N,4,8,8], bool[N,4,2*"h w"+1,?0]
  %2 = Mul(%1, @scale) : ?
  %3 = Reshape(%2, i64[2]{0,-1}) : f32[N,256]
  %4 = If(%c, %3) captures 1 : f32[N,256] regions {
    then_branch = graph(%a: f32[N,256]) -> (q) {
      %b = Relu(%a) : f32[N,256]
      return %b
    }
    else_branch = graph(%d: f32[N,256]) -> (q) {
      %e = com.foo::Op(%d) {f=[1.5,2.0], s="x\\n\\"", t=tensor f32[2] = [1.0,2.0], ty=type seq<f32[N]>, z=INTS[]} : f32[N,256]   # here
      return %d
    }
  }
  return %4, %3
}
"""


def test_a_graph_with_everything_prints_as_it_was_written():
    assert to_text(parse(EVERYTHING)) == EVERYTHING


def test_text_is_the_same_graph_in_another_process_or_copy():
    graph = parse(EVERYTHING)
    verify(graph)
    assert structural_hash(parse(to_text(graph))) == structural_hash(graph) == structural_hash(graph.clone())


def test_the_hash_sees_attributes_types_constants_and_interface_but_not_inner_names():
    base = structural_hash(parse(EVERYTHING))
    for old, new in (
        ("pads=[1,1,1,1]", "pads=[0,0,0,0]"),
        ("-> (y,", "-> (z,"),
        ("[1.0,2.0,3.0,nan]", "[1.0,2.0,3.5,nan]"),
        ("N in [1,64]", "N in [1,65]"),
    ):
        assert structural_hash(parse(EVERYTHING.replace(old, new))) != base
    assert structural_hash(parse(EVERYTHING.replace("%b", "%other"))) == base


def test_constants_can_be_given_by_name():
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    graph = parse(
        "graph(%x: f32[1,2]) -> (y) { @w : f32[2,3] %0 = MatMul(%x, @w) : f32[1,3] return %0 }", {"w": weight}
    )
    np.testing.assert_array_equal(graph.constants()[0].tensor.numpy(), weight)


def test_a_given_constant_of_another_shape_is_refused():
    with pytest.raises(InvalidModelError, match="cannot be read") as caught:
        parse("graph() -> (y) { @w : f32[2] return @w }", {"w": np.zeros(3, np.float32)})
    assert "declared" in caught.value.why


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("graph(%x: f32[1]) -> (y) { return %z }", "%z is not"),
        ("graph(%x: f99[1]) -> (y) { return %x }", "a type"),
        ("graph(%x: f32[1]) -> (y) { %0 = Relu(%x : f32[1] return %0 }", "expected"),
        ("graph(%x: f32[1]) -> (y) { return %x } tail", "the end"),
        ("graph(%x: f32[N!]) -> (y) { return %x }", "sizes"),
    ],
)
def test_a_mistake_is_reported_with_its_line_and_what_was_expected(text: str, expected: str):
    with pytest.raises(InvalidModelError) as caught:
        parse("\n" + text)
    assert caught.value.where == "line 2"
    assert expected in caught.value.why


def test_the_skeleton_leaves_out_names_contents_and_places():
    text = skeleton(parse(EVERYTHING))
    assert "stem" not in text
    assert "@scale" not in text
    assert "#02ac" not in text


@given(st.text(min_size=1, max_size=12), st.text(min_size=1, max_size=12), st.text(max_size=12))
def test_any_names_survive(name: str, dim: str, string: str):
    graph = Graph("g")
    if dim.startswith("?"):
        dim = "d" + dim
    x = graph.add_input(name, tensor("f32", dim, 2))
    node = graph.add(
        "Op", [x], {"s": string, "none": EmptyList("FLOATS")}, [x.type], names=[name], domain="custom.domain"
    )
    graph.set_outputs([node.output, x], [name, name + "2"])
    again = parse(to_text(graph))
    assert again.output_names == graph.output_names
    assert structural_hash(again) == structural_hash(graph)


@given(st.lists(st.floats(width=32), min_size=1, max_size=16))
def test_small_float_constants_are_exact_to_the_last_bit(numbers: list[float]):
    graph = Graph("g")
    array = np.array(numbers, np.float32)
    graph.set_outputs([constant(array, "w")], ["y"])
    again = parse(to_text(graph)).constants()[0].tensor.numpy()
    np.testing.assert_array_equal(again, array)


@pytest.mark.parametrize("text", ["f32[*]", "i64[]", "seq<f32[N,?0]>", "optional<seq<i4[2]>>", "map<str,f32[]>", "?"])
def test_types_read_back(text: str):
    assert repr(parse_type(text)).replace("?0", "?") == text.replace("?0", "?") or "?" in text


def test_every_element_type_has_a_name():
    for dtype in DType:
        assert parse_type(f"{dtype.label}[2]") == tensor(dtype, 2)


@pytest.mark.parametrize("before", [0, 7, 8, 9, 98, 99])
def test_text_and_hash_do_not_depend_on_how_many_sizes_there_were_before(before: int):
    """Sums, products and maxima of unknown sizes are spelled by the order in which the sizes appear."""
    graph = Graph("g")
    count = int(re.sub(r"\D", "", str(fresh())))
    for _ in range((before - count - 2) % 100):
        fresh()
    a, b, c = fresh(), fresh(), fresh()
    x, y = graph.add_input("x", tensor("f32", b, c)), graph.add_input("y", tensor("f32", a))
    sizes = a + b + c, a * b * c + a * c, maximum(maximum(c, a), b), floordiv(c + a, 2) + floordiv(b + a, 2)
    node = graph.add("Op", [x, y], types=[tensor("f32", *sizes)], domain="d")
    graph.set_outputs([node.output], ["z"])
    assert "f32[?0+?1+?2,?0*?1*?2+?1*?2,max(max(?0,?1),?2),((?0+?2)//(2))+((?1+?2)//(2))]" in to_text(graph)
    again = parse(to_text(graph))
    assert to_text(again) == to_text(graph)
    assert structural_hash(again) == structural_hash(graph)


def test_unused_outputs_that_may_be_omitted_do_not_count_for_the_hash():
    whole = "graph(%x: f32[1,1,4,4]) -> (y) { %y, %i = MaxPool(%x) {kernel_shape=[2,2]} : f32[1,1,3,3], i64[1,1,3,3] return %y }"
    omitted = "graph(%x: f32[1,1,4,4]) -> (y) { %y = MaxPool(%x) {kernel_shape=[2,2]} : f32[1,1,3,3] return %y }"
    assert structural_hash(parse(whole)) == structural_hash(parse(omitted))
    used = whole.replace("(y) {", "(y, i) {").replace("return %y", "return %y, %i")
    assert structural_hash(parse(used)) != structural_hash(parse(whole))
    halves = "graph(%x: f32[4]) -> (y) { %y, %z = Split(%x) {num_outputs=2} : f32[2], f32[2] return %y }"
    thirds = "graph(%x: f32[4]) -> (y) { %y, %z, %w = Split(%x) {num_outputs=2} : f32[2], f32[2], f32[2] return %y }"
    assert structural_hash(parse(halves)) != structural_hash(parse(thirds))
