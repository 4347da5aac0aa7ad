"""Types through branches, loops and scans."""

from __future__ import annotations

from tersor.ir import parse, to_text, verify
from tersor.ir.inference import infer


def outputs(text: str) -> str:
    """The printed types of the last node's outputs."""
    graph = parse(text)
    infer(graph)
    verify(graph)
    assert graph.exit.prev is not None
    printed = to_text(graph)
    infer(graph)
    assert len(to_text(graph)) == len(printed)
    node = graph.exit.prev
    return " ".join("f32[*]" if v.shape is None else str(v.type) for v in node.outputs)


def unknowns(text: str) -> str:
    """As `outputs`, with every fresh symbol written as '?'."""
    import re

    return re.sub(r"\?\d+", "?", outputs(text))


def branches(condition: str, then: str, other: str, inputs: str = "%c: bool[], %x: f32[N,3]") -> str:
    return f"""graph ({inputs}) -> (y) {{
      %y = If({condition}, %x) captures 1 regions {{
        then_branch = graph (%a: ?) -> (r) {{ %r = {then}
          return %r }}
        else_branch = graph (%b: ?) -> (r) {{ %r = {other}
          return %r }}
      }}
      return %y
    }}"""


def test_branches_that_agree_give_their_type() -> None:
    assert outputs(branches("%c", "Relu(%a)", "Neg(%b)")) == "f32[N,3]"


def test_sizes_that_differ_between_branches_are_unknown() -> None:
    assert unknowns(branches("%c", "Relu(%a)", "Concat(%b, %b) {axis=1}")) == "f32[N,?]"


def test_ranks_that_differ_between_branches_are_unknown() -> None:
    assert outputs(branches("%c", "Relu(%a)", "Flatten(%b)")) == "f32[N,3]"
    assert outputs(branches("%c", "Relu(%a)", "Unsqueeze(%b, i64[1]{0})")) == "f32[*]"


def test_a_constant_condition_selects_one_branch() -> None:
    assert outputs(branches("bool[]{false}", "Relu(%a)", "Unsqueeze(%b, i64[1]{0})")) == "f32[1,N,3]"


def test_a_condition_that_follows_from_shapes_selects_one_branch() -> None:
    text = """graph (%x: f32[N,1]) -> (y) {
      %n = Shape(%x) {start=1}
      %s = Squeeze(%n, i64[1]{0})
      %c = Equal(%s, i64[]{1})
      %y = If(%c, %x) captures 1 regions {
        then_branch = graph (%a: ?) -> (r) { %r = Squeeze(%a, i64[1]{1})
          return %r }
        else_branch = graph (%b: ?) -> (r) { %r = Identity(%b)
          return %r }
      }
      return %y
    }"""
    assert outputs(text) == "f32[N]"


def test_a_branch_that_never_fits_is_no_error_because_it_may_never_run() -> None:
    assert unknowns(branches("%c", "Relu(%a)", "Squeeze(%b, i64[1]{1})")) == "f32[*]"


def test_elements_pass_into_and_out_of_branches() -> None:
    text = """graph (%c: bool[], %x: f32[N,3]) -> (y) {
      %s = Shape(%x)
      %t = If(%c, %s) captures 1 regions {
        then_branch = graph (%a: ?) -> (r) { %r = Add(%a, i64[]{0})
          return %r }
        else_branch = graph (%b: ?) -> (r) { %r = Identity(%b)
          return %r }
      }
      %y = ConstantOfShape(%t)
      return %y
    }"""
    assert outputs(text) == "f32[N,3]"


LOOP = """graph (%x: f32[N,3], %m: i64[]) -> (y, z) {{
  %y, %z = Loop({count}, _, {start}) captures 0 regions {{
    body = graph (%i: i64[], %c: bool[], %a: {declared}) -> (c, r, s) {{
      %k = Identity(%c)
      %r = {step}
      %s = {scanned}
      return %k, %r, %s
    }}
  }}
  return %y, %z
}}"""


def loop(step: str, scanned: str, count: str = "%m", start: str = "%x", declared: str = "?") -> str:
    return LOOP.format(step=step, scanned=scanned, count=count, start=start, declared=declared)


def test_a_carried_value_that_keeps_its_shape_has_it_after_the_loop() -> None:
    assert unknowns(loop("Relu(%a)", "Neg(%a)")) == "f32[N,3] f32[?,N,3]"


def test_a_known_trip_count_is_the_size_of_scanned_outputs() -> None:
    assert outputs(loop("Relu(%a)", "Neg(%a)", count="i64[]{5}")) == "f32[N,3] f32[5,N,3]"


def test_a_size_that_grows_in_the_loop_is_unknown_inside_and_outside() -> None:
    assert unknowns(loop("Concat(%a, %a) {axis=0}", "ReduceSum(%a) {keepdims=0}")) == "f32[?,3] f32[?]"


def test_what_was_found_with_the_first_iterations_sizes_is_not_believed_later() -> None:
    text = loop("Concat(%a, %a) {axis=0}", "Transpose(%a)", start="f32[1]{0}", declared="?").replace(
        "%x: f32[N,3]", "%x: f32[N,3]"
    )
    graph = parse(text)
    infer(graph)
    (body,) = (n.regions["body"] for n in graph if n.regions)
    for node in body:
        for value in node.outputs:
            if value.rank == 1:
                assert not isinstance((value.shape or (0,))[0], int), value


def test_a_rank_that_changes_in_the_loop_is_unknown() -> None:
    assert unknowns(loop("Unsqueeze(%a, i64[1]{0})", "Neg(%a)")) == "f32[*] f32[*]"


def test_a_loop_that_can_end_early_does_not_give_its_trip_count() -> None:
    text = loop("Relu(%a)", "Neg(%a)", count="i64[]{5}").replace("%k = Identity(%c)", "%k = Not(%c)")
    assert unknowns(text) == "f32[N,3] f32[?,N,3]"


def test_unknown_sizes_of_a_body_mean_nothing_outside_it() -> None:
    text = loop("Relu(%a)", "NonZero(%a)", count="i64[]{5}")
    graph = parse(text)
    infer(graph)
    inner = next(n for n in next(n for n in graph if n.regions).regions["body"] if n.op == "NonZero").output
    assert graph.outputs[1].shape is not None
    assert inner.shape is not None
    assert graph.outputs[1].shape[2] != inner.shape[1]


def test_a_scan_takes_the_scanned_axis_away_and_puts_it_back() -> None:
    text = """graph (%h: f32[B,4], %x: f32[T,B,3]) -> (y, z) {
      %y, %z = Scan(%h, %x) {num_scan_inputs=1, scan_output_axes=[1]} regions {
        body = graph (%s: ?, %e: ?) -> (s, o) {
          %n = Relu(%s)
          %o = Concat(%n, %e) {axis=1}
          return %n, %o
        }
      }
      return %y, %z
    }"""
    assert outputs(text) == "f32[B,4] f32[B,T,7]"


def test_elements_of_a_sequence_differ_in_unknown_sizes() -> None:
    text = """graph (%x: f32[N,3], %y: f32[M,3]) -> (z) {
      %s = SequenceConstruct(%x, %y)
      %a = SequenceAt(%s, i64[]{0})
      %b = SequenceAt(%s, i64[]{1})
      %z = Concat(%a, %b) {axis=0}
      return %z
    }"""
    graph = parse(text)
    infer(graph)
    a, b = (n.output for n in graph if n.op == "SequenceAt")
    assert (a.shape or ())[1] == 3
    assert (a.shape or ())[0] != (b.shape or ())[0]
