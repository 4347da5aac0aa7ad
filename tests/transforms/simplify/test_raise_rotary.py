"""Rotary positions in the forms that exporters write: what becomes of them, what is left and why, shared interiors."""

from __future__ import annotations

import numpy as np
import pytest
from tersor.backends.onnx import to_proto
from tersor.backends.runners import OrtRunner
from tersor.frontends.onnx import load
from tersor.ir import Model, parse
from tersor.ir.inference import infer
from tersor.ir.rewrite import Rewriter
from tersor.transforms.simplify.raising.rotary import raise_rotary, rotate_by_positions, widen_rotary

X, ANGLES = "%x: f32[B,3,S,8]", "%f: f32[1,S,4]"
EXPANDED = """%hc = Cos(%f) : f32[1,S,4]
    %n = Shape(%x) {start=0, end=1} : i64[1] %e = Concat(%n, i64[2]{1,1}) {axis=0} : i64[3]
    %c = Expand(%hc, %e) : f32[B,S,4] %hs = Sin(%f) : f32[1,S,4]
    %m = Shape(%x) {start=0, end=1} : i64[1] %g = Concat(%m, i64[2]{1,1}) {axis=0} : i64[3]
    %d = Expand(%hs, %g) : f32[B,S,4]"""
TABLES = """
    %ff = Concat(%f, %f) {axis=-1} : f32[1,S,8] %tc = Cos(%ff) : f32[1,S,8] %ts = Sin(%ff) : f32[1,S,8]
    %cos = Unsqueeze(%tc, i64[1]{1}) : f32[1,1,S,8] %sin = Unsqueeze(%ts, i64[1]{1}) : f32[1,1,S,8]"""
HALVES = "%a, %b = Split(%x, i64[2]{4,4}) {axis=3} : f32[B,3,S,4], f32[B,3,S,4]"
SLICES = """%a = Slice(%x, i64[1]{0}, i64[1]{4}, i64[1]{3}, i64[1]{1}) : f32[B,3,S,4]
    %b = Slice(%x, i64[1]{4}, i64[1]{9223372036854775807}, i64[1]{-1}) : f32[B,3,S,4]"""
TURNED = "%o = Neg(%b) : f32[B,3,S,4] %r = Concat(%o, %a) {axis=-1} : f32[B,3,S,8]"
SUM = """%u = Mul(%x, %cos) : f32[B,3,S,8] %v = Mul(%r, %sin) : f32[B,3,S,8] %y = Add(%u, %v) : f32[B,3,S,8]"""
ROTARY = "%y = RotaryEmbedding(%x, %c, %d) : f32[B,3,S,8]"


def graph(body: str, *operands: str, outputs: str = "y", end: str = "return %y") -> str:
    return f"graph({', '.join(operands or (X, ANGLES))}) -> ({outputs}) {{ {body} {end} }}"


FORMS = {
    "halves split": f"{TABLES} {HALVES} {TURNED} {SUM}",
    "halves sliced": f"{TABLES} {SLICES} {TURNED} {SUM}",
    "factors and summands the other way round": f"{TABLES} {HALVES} {TURNED} "
    "%u = Mul(%cos, %x) : f32[B,3,S,8] %v = Mul(%sin, %r) : f32[B,3,S,8] %y = Add(%v, %u) : f32[B,3,S,8]",
}


@pytest.mark.parametrize("name", FORMS)
def test_it_becomes_one_operator_for_any_batch(check_rules, name: str):
    check_rules([raise_rotary], graph(FORMS[name]), graph(f"{EXPANDED} {ROTARY}"), fired=1)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_it_computes_the_same_for_a_batch_of(batch: int):
    before, after = (parse(graph(FORMS["halves split"])) for _ in range(2))
    assert Rewriter([raise_rotary]).run(after, infer=infer(after).node).fired == 1
    random = np.random.default_rng(batch)
    feeds = {
        "x": random.standard_normal((batch, 3, 5, 8), np.float32),
        "f": random.standard_normal((1, 5, 4), np.float32),
    }
    (reference,) = OrtRunner(Model(before)).run(feeds).values()
    for opset in (18, 23):
        runner = OrtRunner(load(to_proto(Model(after), opset)))
        np.testing.assert_allclose(runner.run(feeds)["y"], reference, atol=1e-5)


def test_tables_for_each_sample_are_not_expanded(check_rules):
    operands = (X, "%f: f32[B,S,4]")
    tables = TABLES.replace("f32[1,S,8]", "f32[B,S,8]").replace("f32[1,1,S,8]", "f32[B,1,S,8]")
    after = f"%c = Cos(%f) : f32[B,S,4] %d = Sin(%f) : f32[B,S,4] {ROTARY}"
    check_rules([raise_rotary], graph(f"{tables} {HALVES} {TURNED} {SUM}", *operands), graph(after, *operands), fired=1)


def test_tables_looked_up_by_position_are_halved_before(check_rules):
    operands = (X, "%p: bool[B,S]")
    index = "%i = Cast(%p) {to=7} : i64[B,S]"
    look = """@t : f32[2,8] = [1,2,3,4,1,2,3,4, 5,6,7,8,5,6,7,8] %tc = Gather(@t, %i) {axis=0} : f32[B,S,8]
        %cos = Unsqueeze(%tc, i64[1]{1}) : f32[B,1,S,8] %ts = Sin(%tc) : f32[B,S,8]
        %sin = Unsqueeze(%ts, i64[1]{1}) : f32[B,1,S,8]"""
    once = """@h : f32[2,4] = [1,2,3,4, 5,6,7,8] @k : f32[2,4] = [1,2,3,4, 5,6,7,8] %c = Gather(@h, %i) {axis=0} : f32[B,S,4]
        %hh = Gather(@k, %i) {axis=0} : f32[B,S,4] %d = Sin(%hh) : f32[B,S,4]"""
    before = graph(f"{index} {look} {HALVES} {TURNED} {SUM}", *operands)
    check_rules([raise_rotary], before, graph(f"{index} {once} {ROTARY}", *operands), fired=1)


def test_heads_behind_the_positions_are_packed(check_rules):
    operands = ("%x: f32[B,S,3,8]", "%f: f32[B,S,4]")
    body = f"{TABLES} {HALVES} {TURNED} {SUM}".replace("[B,3,S,", "[B,S,3,").replace("i64[1]{1}", "i64[1]{2}")
    body = body.replace("f32[1,S,8]", "f32[B,S,8]").replace("f32[1,1,S,8]", "f32[B,S,1,8]")
    after = """%h = Cos(%f) : f32[B,S,4] %i = Sin(%f) : f32[B,S,4] %p = Reshape(%x, i64[3]{0,0,24}) : f32[B,S,24]
        %r = RotaryEmbedding(%p, %h, %i) {num_heads=3} : f32[B,S,24] %y = Reshape(%r, i64[4]{0,0,3,8}) : f32[B,S,3,8]"""
    check_rules([raise_rotary], graph(body, *operands), graph(after, *operands), fired=1)


def test_neighbours_that_turn_are_interleaved(check_rules):
    operands = (X, "%f: f32[B,S,4]")
    body = """
        %g = Unsqueeze(%f, i64[1]{3}) : f32[B,S,4,1] %gg = Concat(%g, %g) {axis=3} : f32[B,S,4,2]
        %ff = Reshape(%gg, i64[3]{0,0,8}) : f32[B,S,8] %tc = Cos(%ff) : f32[B,S,8] %ts = Sin(%ff) : f32[B,S,8]
        %cos = Unsqueeze(%tc, i64[1]{1}) : f32[B,1,S,8] %sin = Unsqueeze(%ts, i64[1]{1}) : f32[B,1,S,8]
        %a = Slice(%x, i64[1]{0}, i64[1]{8}, i64[1]{3}, i64[1]{2}) : f32[B,3,S,4]
        %b = Slice(%x, i64[1]{1}, i64[1]{8}, i64[1]{3}, i64[1]{2}) : f32[B,3,S,4] %o = Neg(%b) : f32[B,3,S,4]
        %ou = Unsqueeze(%o, i64[1]{4}) : f32[B,3,S,4,1] %au = Unsqueeze(%a, i64[1]{4}) : f32[B,3,S,4,1]
        %w = Concat(%ou, %au) {axis=4} : f32[B,3,S,4,2] %r = Reshape(%w, i64[4]{0,0,0,8}) : f32[B,3,S,8] """
    after = """%c = Cos(%f) : f32[B,S,4] %d = Sin(%f) : f32[B,S,4]
        %y = RotaryEmbedding(%x, %c, %d) {interleaved=1} : f32[B,3,S,8]"""
    check_rules([raise_rotary], graph(body + SUM, *operands), graph(after, *operands), fired=1)


NO_PAIRS = "its tables are not known to have one angle for both features of a pair"
NO_FIT = "its tables are not known to have an angle for each position alone"
LEFT = {
    "tables of unrelated halves": (
        f"%cos = Cos(%f) : f32[1,1,S,8] %sin = Sin(%f) : f32[1,1,S,8] {HALVES} {TURNED} {SUM}", (X, "%f: f32[1,1,S,8]"), NO_PAIRS),
    "a constant table of unequal halves": (
        "@t : f32[1,1,1,8] = [1,2,3,4,5,6,7,8] %cos = Cos(@t) : f32[1,1,1,8] %sin = Sin(@t) : f32[1,1,1,8] "
        f"{HALVES} {TURNED} {SUM}".replace(",S,", ",1,"), ("%x: f32[B,3,1,8]",), NO_PAIRS),
    "an angle for each head": (
        f"%cos = Cos(%f) : f32[1,3,S,8] %sin = Sin(%f) : f32[1,3,S,8] {HALVES} {TURNED} {SUM}", (X, "%f: f32[1,3,S,8]"), NO_FIT),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_it_is_left_with_the_reason(check_rules, name: str):
    body, operands, reason = LEFT[name]
    check_rules([raise_rotary], graph(body, *operands), None, fired=0, declined=[reason])


@pytest.mark.parametrize(
    "turned",
    [
        "%r = Concat(%b, %a) {axis=-1} : f32[B,3,S,8]",
        "%o = Neg(%a) : f32[B,3,S,4] %r = Concat(%b, %o) {axis=-1} : f32[B,3,S,8]",
        "%o = Neg(%a) : f32[B,3,S,4] %r = Concat(%o, %b) {axis=-1} : f32[B,3,S,8]",
    ],
)
def test_what_is_no_rotation_is_left(check_rules, turned: str):
    check_rules([raise_rotary], graph(f"{TABLES} {HALVES} {turned} {SUM}"), None, fired=0)


@pytest.mark.parametrize("interior", ["%u", "%v"])
@pytest.mark.parametrize("end", ["return %y, {0}", "%z = Neg({0}) : f32[B,3,S,8] return %y, %z"])
def test_it_is_left_where_others_need_a_product(check_rules, interior: str, end: str):
    text = graph(f"{TABLES} {HALVES} {TURNED} {SUM}", outputs="y, z", end=end.format(interior))
    check_rules([raise_rotary], text, None, fired=0)


def test_tables_that_others_need_stay_for_them(check_rules):
    end = "return %y, %tc"
    before = graph(f"{TABLES} {HALVES} {TURNED} {SUM}", outputs="y, z", end=end)
    kept = "%ff = Concat(%f, %f) {axis=-1} : f32[1,S,8] %tc = Cos(%ff) : f32[1,S,8]"
    after = graph(f"{kept} {EXPANDED} {ROTARY}", outputs="y, z", end=end)
    check_rules([raise_rotary], before, after, fired=1)


WIDE = ("%x: f32[B,3,S,12]", "%c: f32[B,S,4]", "%d: f32[B,S,4]")
PARTIAL = """%p, %q = Split(%x, i64[2]{8,4}) {axis=3} : f32[B,3,S,8], f32[B,3,S,4]
    %r = RotaryEmbedding(%p, %c, %d) : f32[B,3,S,8] %y = Concat(%r, %q) {axis=-1} : f32[B,3,S,12]"""


def test_features_that_stay_are_the_operators(check_rules):
    after = "%y = RotaryEmbedding(%x, %c, %d) {rotary_embedding_dim=8} : f32[B,3,S,12]"
    check_rules([widen_rotary], graph(PARTIAL, *WIDE), graph(after, *WIDE), fired=1)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (PARTIAL.replace("Concat(%r, %q)", "Concat(%r, %e)").replace("%y =", "%e = Neg(%q) : f32[B,3,S,4] %y ="),
         "its parts are not those of one value"),
        (PARTIAL.replace("{8,4}", "{4,8}").replace("%p, %q =", "%q, %p =").replace("f32[B,3,S,8], f32[B,3,S,4]", "f32[B,3,S,4], f32[B,3,S,8]"),
         "its parts are not those of one value"),
    ],
)  # fmt: skip
def test_other_features_beside_the_rotated_ones_are_left(check_rules, body: str, reason: str):
    check_rules([widen_rotary], graph(body, *WIDE), None, fired=0, declined=[reason])


@pytest.mark.parametrize("end", ["return %y, %r", "%z = Neg(%r) : f32[B,3,S,8] return %y, %z"])
def test_a_rotated_part_that_others_need_is_left(check_rules, end: str):
    text = graph(PARTIAL, *WIDE, outputs="y, z", end=end)
    check_rules([widen_rotary], text, None, fired=0, declined=["the rotated part has other users"])


SIGNED = """%s2 = Concat(%m, %d) {axis=-1} : f32[B,S,8] %cc = Concat(%c, %c) {axis=-1} : f32[B,S,8]
    %cos = Unsqueeze(%cc, i64[1]{1}) : f32[B,1,S,8] %sin = Unsqueeze(%s2, i64[1]{1}) : f32[B,1,S,8]"""
SWAPPED = f"%m = Neg(%d) : f32[B,S,4] {SIGNED} {HALVES} %r = Concat(%b, %a) {{axis=-1}} : f32[B,3,S,8] {SUM}"
GIVEN = (X, "%c: f32[B,S,4]", "%d: f32[B,S,4]")


def test_signs_may_be_in_the_table_of_sines(check_rules):
    check_rules(
        [raise_rotary], graph(SWAPPED, *GIVEN), graph("%y = RotaryEmbedding(%x, %c, %d) : f32[B,3,S,8]", *GIVEN)
    )


def test_signs_in_a_constant_table_are_seen(check_rules):
    body = f"""@t : f32[1,1,1,8] = [-1,-2,-3,-4,1,2,3,4] @u : f32[1,1,1,8] = [1,2,3,4,1,2,3,4] {HALVES} %r = Concat(%b, %a) {{axis=-1}} : f32[1,3,1,8]
        %u2 = Mul(%x, @u) : f32[1,3,1,8] %v2 = Mul(%r, @t) : f32[1,3,1,8] %y = Add(%u2, %v2) : f32[1,3,1,8]"""
    body = body.replace("B,3,S", "1,3,1")
    after = """@a : f32[1,1,1,4] = random(1) @b : f32[1,1,1,4] = random(2)
        %c = Squeeze(@a, i64[1]{1}) : f32[1,1,4] %d = Squeeze(@b, i64[1]{1}) : f32[1,1,4]
        %y = RotaryEmbedding(%x, %c, %d) : f32[1,3,1,8]"""
    check_rules([raise_rotary], graph(body, "%x: f32[1,3,1,8]"), graph(after, "%x: f32[1,3,1,8]"), fired=1)


@pytest.mark.parametrize("sines", ["%m = Neg(%c) : f32[B,S,4]", "%m = Abs(%d) : f32[B,S,4]"])
def test_tables_whose_signs_do_not_fit_are_left(check_rules, sines: str):
    body = SWAPPED.replace("%m = Neg(%d) : f32[B,S,4]", sines)
    check_rules([raise_rotary], graph(body, *GIVEN), None, fired=0, declined=[NO_PAIRS])


def test_heads_with_an_axis_for_those_that_share_them_are_rotated_without_it(check_rules):
    operands = ("%x: f32[B,3,1,S,8]", *GIVEN[1:])
    body = SWAPPED.replace("B,3,S", "B,3,1,S").replace("[B,1,S,8]", "[B,1,1,S,8]").replace("i64[1]{1}", "i64[2]{1,2}")
    body = body.replace("i64[1]{3}", "i64[1]{-1}").replace("axis=3", "axis=-1")
    after = """%q = Squeeze(%x, i64[1]{2}) : f32[B,3,S,8] %r = RotaryEmbedding(%q, %c, %d) : f32[B,3,S,8]
        %y = Unsqueeze(%r, i64[1]{2}) : f32[B,3,1,S,8]"""
    check_rules([raise_rotary], graph(body, *operands), graph(after, *operands), fired=1)


def test_some_features_of_packed_heads_are_the_operators(check_rules):
    operands = ("%x: f32[B,S,3,12]", *WIDE[1:])
    body = """%p, %q = Split(%x, i64[2]{8,4}) {axis=3} : f32[B,S,3,8], f32[B,S,3,4]
        %w = Reshape(%p, i64[3]{0,0,24}) : f32[B,S,24] %r = RotaryEmbedding(%w, %c, %d) {num_heads=3} : f32[B,S,24]
        %z = Reshape(%r, i64[4]{0,0,3,8}) : f32[B,S,3,8] %y = Concat(%z, %q) {axis=-1} : f32[B,S,3,12]"""
    after = """%w = Reshape(%x, i64[3]{0,0,36}) : f32[B,S,36]
        %r = RotaryEmbedding(%w, %c, %d) {num_heads=3, rotary_embedding_dim=8} : f32[B,S,36]
        %y = Reshape(%r, i64[4]{0,0,3,12}) : f32[B,S,3,12]"""
    check_rules([widen_rotary], graph(body, *operands), graph(after, *operands), fired=1)


PLACES = ("%x: f32[B,3,7,8]", "%t: f32[9,4]", "%s: f32[9,4]", "%p: i64[B,7]")
ROWS = "%c = Gather(%t, %p) {axis=0} : f32[B,7,4] %d = Gather(%s, %p) {axis=0} : f32[B,7,4]"
BY_ROWS = "%y = RotaryEmbedding(%x, %c, %d) : f32[B,3,7,8]"
BY_PLACES = "%y = RotaryEmbedding(%x, %t, %s, %p) : f32[B,3,7,8]"


def test_rows_of_tables_are_given_by_their_positions(check_rules):
    check_rules([rotate_by_positions], graph(f"{ROWS} {BY_ROWS}", *PLACES), graph(BY_PLACES, *PLACES), fired=1)


@pytest.mark.parametrize("end", ["return %y, %c", "%z = Neg(%c) : f32[B,7,4] return %y, %z"])
def test_rows_that_others_need_stay_for_them(check_rules, end: str):
    before = graph(f"{ROWS} {BY_ROWS}", *PLACES, outputs="y, z", end=end)
    kept = "%c = Gather(%t, %p) {axis=0} : f32[B,7,4]"
    after = graph(f"{kept} {BY_PLACES}", *PLACES, outputs="y, z", end=end)
    check_rules([rotate_by_positions], before, after, fired=1)


@pytest.mark.parametrize(
    ("rows", "operands", "reason"),
    [
        (ROWS.replace("%d = Gather(%s, %p)", "%o = Neg(%p) : i64[B,7] %d = Gather(%s, %o)"), PLACES,
         "its tables are not for the same positions of each sample"),
        (ROWS.replace("%d = Gather(%s, %p) {axis=0}", "%d = Neg(%c)"), PLACES, "its tables are no rows of others"),
        (ROWS, tuple(v.replace("9", "6") for v in PLACES), "runtimes refuse more positions than rows, and there may be"),
    ],
)  # fmt: skip
def test_other_rows_are_taken_first(check_rules, rows: str, operands: tuple[str, ...], reason: str):
    check_rules([rotate_by_positions], graph(f"{rows} {BY_ROWS}", *operands), None, fired=0, declined=[reason])
