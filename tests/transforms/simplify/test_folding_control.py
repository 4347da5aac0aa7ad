"""Loops and scans of a known number of iterations, sequences and optional values that are known."""

from __future__ import annotations

import pytest
from tersor.ir.rewrite import Rule
from tersor.transforms.simplify.folding import control, sequences

LOOP = """graph(%x: f32[N,3], %c: bool[], %n: i64[]) -> (y, z) {{
  {before}
  %y, %z = Loop({count}, {condition}, %x, {captured}) captures 1 : f32[N,3], {scanned} regions {{
    body = graph(%i: i64[], %go: bool[], %a: f32[N,3], %w: f32[3]) -> (go, b, s) {{
      {body}
      return {goes_on}, %b, %s
    }}
  }}
  return %y, %z
}}"""


def loop(
    count: str = "i64[]{1}",
    condition: str = "bool[]{true}",
    goes_on: str = "%go",
    body: str = "",
    scanned: str = "f32[1,N,3]",
) -> str:
    body = body or "%b = Add(%a, %w) : f32[N,3] %s = Exp(%b) : f32[N,3]"
    return LOOP.format(
        before="@v : f32[3] = [1,2,3]",
        count=count,
        condition=condition,
        captured="@v",
        body=body,
        goes_on=goes_on,
        scanned=scanned,
    )


ONCE = """graph(%x: f32[N,3], %c: bool[], %n: i64[]) -> (y, z) { @v : f32[3] = [1,2,3]
  %b = Add(%x, @v) : f32[N,3] %s = Exp(%b) : f32[N,3] %u = Unsqueeze(%s, i64[1]{0}) : f32[1,N,3] return %b, %u }"""


@pytest.mark.parametrize("goes_on", ["%go", "%stop"])
def test_a_loop_of_one_iteration_is_its_body(check_rules, goes_on: str):
    body = "%b = Add(%a, %w) : f32[N,3] %s = Exp(%b) : f32[N,3] %stop = Not(%go) : bool[]"
    check_rules([control.unroll_loop], loop(body=body, goes_on=goes_on), ONCE, fired=1)


def test_a_loop_without_iterations_is_what_it_starts_from(check_rules):
    body = "%b = Add(%a, %w) : f32[N,3] %s = Exp(%w) : f32[3]"
    after = "graph(%x: f32[N,3], %c: bool[], %n: i64[]) -> (y, z) { return %x, f32[0,3]{} }"
    check_rules([control.unroll_loop], loop(count="i64[]{0}", body=body, scanned="f32[0,3]"), after, fired=1)


def test_a_loop_that_only_computes_constants_is_unrolled(check_rules):
    text = """graph(%x: f32[4]) -> (y) {
      %p, %t = Loop(i64[]{4}, bool[]{true}, f32[]{1.0}) : f32[], f32[4] regions {
        body = graph(%i: i64[], %go: bool[], %a: f32[]) -> (go, b, s) {
          %b = Mul(%a, f32[]{2.0}) : f32[] %s = Exp(%b) : f32[] return %go, %b, %s } }
      %y = Add(%x, %t) : f32[4] return %y }"""
    steps = "".join(
        f"%b{i + 1} = Mul({f'%b{i}' if i else 'f32[]{1.0}'}, f32[]{{2.0}}) : f32[] %s{i} = Exp(%b{i + 1}) : f32[] "
        for i in range(4)
    )
    units = "".join(f"%u{i} = Unsqueeze(%s{i}, i64[1]{{0}}) : f32[1] " for i in range(4))
    after = f"graph(%x: f32[4]) -> (y) {{ {steps}{units}%t = Concat(%u0, %u1, %u2, %u3) {{axis=0}} : f32[4] %y = Add(%x, %t) : f32[4] return %y }}"
    check_rules([control.unroll_loop], text, after, fired=1)


STAYS = {
    "whose number of iterations is an input": (loop(count="%n", scanned="f32[K,N,3]"), "the number of its iterations is not known"),
    "that an input may stop": (loop(condition="%c"), "the number of its iterations is not known"),
    "that its body may stop": (
        loop(count="i64[]{3}", goes_on="%stop", scanned="f32[K,N,3]",
             body="%b = Add(%a, %w) : f32[N,3] %s = Exp(%b) : f32[N,3] %m = ReduceMax(%b) {keepdims=0} : f32[] %stop = Less(%m, f32[]{9.0}) : bool[]"),
        "the number of its iterations is not known"),
    "of many iterations": (loop(count="i64[]{3}", scanned="f32[3,N,3]"), "its iterations would take more nodes"),
}  # fmt: skip


@pytest.mark.parametrize("name", STAYS)
def test_a_loop_stays(check_rules, name: str):
    text, reason = STAYS[name]
    check_rules([control.unroll_loop], text, None, fired=0, declined=[reason])


SCAN = """graph(%x: f32[{size},3], %h: f32[3]) -> (y, z) {{
  %y, %z = Scan(%h, %x) {{num_scan_inputs=1}} : f32[3], f32[{size},3] regions {{
    body = graph(%a: f32[3], %e: f32[3]) -> (b, s) {{ %b = Add(%a, %e) : f32[3] %s = Exp(%b) : f32[3] return %b, %s }} }}
  return %y, %z }}"""


def test_a_scan_of_one_entry_is_its_body(check_rules):
    after = """graph(%x: f32[1,3], %h: f32[3]) -> (y, z) { %e = Squeeze(%x, i64[1]{0}) : f32[3] %b = Add(%h, %e) : f32[3]
      %s = Exp(%b) : f32[3] %u = Unsqueeze(%s, i64[1]{0}) : f32[1,3] return %b, %u }"""
    check_rules([control.unroll_scan], SCAN.format(size=1), after, fired=1)


@pytest.mark.parametrize(
    ("size", "reason"),
    [("4", "its iterations would take more nodes"), ("N", "the number of its iterations is not known")],
)
def test_a_scan_stays(check_rules, size: str, reason: str):
    check_rules([control.unroll_scan], SCAN.format(size=size), None, fired=0, declined=[reason])


TWO = "%s = SequenceConstruct(%x, %y) : seq<f32[N,4]>"
KNOWN: dict[str, tuple[Rule, str, str]] = {
    "an element": (sequences.take_known_element, f"{TWO} %a = SequenceAt(%s, i64[]{{-1}}) : f32[N,4]", "%a = Neg(%y)"),
    "the length": (sequences.count_known_elements, f"{TWO} %l = SequenceLength(%s) : i64[] %f = Cast(%l) {{to=1}} : f32[] %a = Mul(%x, %f) : f32[N,4]",
                   "%f = Cast(i64[]{2}) {to=1} : f32[] %a = Mul(%x, %f) : f32[N,4]"),
    "elements joined": (sequences.concat_known_elements, f"{TWO} %a = ConcatFromSequence(%s) {{axis=1}} : f32[N,8]", "%a = Concat(%x, %y) {axis=1} : f32[N,8]"),
    "elements stacked": (sequences.concat_known_elements, f"{TWO} %a = ConcatFromSequence(%s) {{axis=1, new_axis=1}} : f32[N,2,4]",
                         "%c = Concat(%x, %y) {axis=1} : f32[N,8] %a = Reshape(%c, i64[3]{-1,2,4}) : f32[N,2,4]"),
    "an optional's element": (sequences.take_optional_element, "%o = Optional(%x) : optional<f32[N,4]> %a = OptionalGetElement(%o) : f32[N,4]", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "shared and an output"])
def test_it_is_known(check_rules, name: str, shared: bool):
    rule, before, after = KNOWN[name]
    graph = "graph(%x: f32[N,4], %y: f32[N,4]) -> ({}) {{ {} %b = Exp({}) : ? return {} }}"
    alias = {"an element": "%y", "an optional's element": "%x"}.get(name)
    end, outputs = ("%b", "r") if not shared else ("%b, {}", "r, q")
    result = alias or "%a"
    check_rules(
        [rule],
        graph.format(outputs, before, "%a", end.format("%a")),
        graph.format(outputs, "" if alias else after, result, end.format(result)),
        fired=1,
    )


def test_inserting_and_erasing_build_the_sequence_that_results(check_rules):
    before = """graph(%x: f32[N,4], %y: f32[N,4]) -> (r) { %e = SequenceEmpty() : seq<f32[N,4]> %a = SequenceInsert(%e, %x) : seq<f32[N,4]>
      %b = SequenceInsert(%a, %y, i64[]{0}) : seq<f32[N,4]> %c = SequenceInsert(%b, %x) : seq<f32[N,4]> %d = SequenceErase(%c, i64[]{1}) : seq<f32[N,4]>
      %r = SequenceAt(%d, i64[]{0}) : f32[N,4] %o = Neg(%r) : f32[N,4] return %o }"""
    after = "graph(%x: f32[N,4], %y: f32[N,4]) -> (r) { %o = Neg(%y) : f32[N,4] return %o }"
    check_rules(sequences.RULES, before, after, fired=5)


def test_a_split_to_a_sequence_used_one_by_one_is_a_split(check_rules):
    before = """graph(%x: f32[N,5]) -> (r) { %s = SplitToSequence(%x, i64[]{2}) {axis=1} : seq<f32[N,2]>
      %a = SequenceAt(%s, i64[]{0}) : f32[N,2] %b = SequenceAt(%s, i64[]{2}) : f32[N,1] %r = Add(%a, %b) : f32[N,2] return %r }"""
    after = """graph(%x: f32[N,5]) -> (r) { %a, %m, %b = Split(%x, i64[3]{2,2,1}) {axis=1} : f32[N,2], f32[N,2], f32[N,1]
      %r = Add(%a, %b) : f32[N,2] return %r }"""
    check_rules(sequences.RULES, before, after, fired=3)


OPEN: dict[str, tuple[Rule, str, str]] = {
    "an element at an input's position": (sequences.take_known_element, f"{TWO} %a = SequenceAt(%s, %i) : f32[N,4]", "the position is not known"),
    "an element of an input": (sequences.take_known_element, "%a = SequenceAt(%q, i64[]{0}) : f32[N,4]", "the elements are not known"),
    "elements stacked along the last axis": (
        sequences.concat_known_elements, f"{TWO} %a = ConcatFromSequence(%s) {{axis=2, new_axis=1}} : f32[N,4,2]",
        "the new axis is the last one, or the elements' shapes differ"),
}  # fmt: skip


@pytest.mark.parametrize("name", OPEN)
def test_it_is_left_with_the_reason(graph, name: str):
    rule, body, reason = OPEN[name]
    subject = graph(f"graph(%x: f32[N,4], %y: f32[N,4], %i: i64[], %q: seq<f32[N,4]>) -> (r) {{ {body} return %a }}")
    assert reason in rule.explain(subject.outputs[0].node)
