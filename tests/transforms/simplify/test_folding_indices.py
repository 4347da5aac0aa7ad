"""Indices that count along axes, and values that are the same number throughout."""

from __future__ import annotations

import pytest
from tersor.ir.rewrite import Rule
from tersor.transforms.simplify.folding import broadcasting, indices

INPUTS = "%m: f32[N,S], %x: f32[N,4,S], %k: f32[K,S]"
ROWS = (
    "%n1 = Shape(%m) {start=0, end=1} : i64[1] %n = Squeeze(%n1) : i64[] %rn = Range(i64[]{0}, %n, i64[]{1}) : i64[N]"
)
LENGTH = "%s1 = Shape(%m) {start=1, end=2} : i64[1]"
COLUMNS = f"{LENGTH} %s = Squeeze(%s1) : i64[] %rs = Range(i64[]{{0}}, %s, i64[]{{1}}) : i64[S]"
SIZES = f"{ROWS} {COLUMNS}"
COLUMN = "%cn = Unsqueeze(%rn, i64[3]{1,2,3}) : i64[N,1,1,1] %cs = Unsqueeze(%rs, i64[3]{0,1,2}) : i64[1,1,1,S]"


def one(body: str, outputs: str = "r") -> str:
    return f"graph({INPUTS}) -> ({outputs}) {{ @w : f32[8,6] = random(1) {body} }}"


FLAT = (
    f"{SIZES} {COLUMN} %f = Flatten(%m) {{axis=2}} : f32[N*S,1] %p = Mul(%cn, %s1) : i64[N,1,1,1] %q = Add(%cs, %p) : i64[N,1,1,S] "
    "%a = Gather(%f, %q) {axis=0} : f32[N,1,1,S,1]"
)
GRID = (
    f"{SIZES} {COLUMN} %t = Concat(%n1, i64[2]{{1,1}}, %s1) {{axis=0}} : i64[4] %en = Expand(%cn, %t) : i64[N,1,1,S] "
    "%es = Expand(%cs, %t) : i64[N,1,1,S] %un = Unsqueeze(%en, i64[1]{4}) : i64[N,1,1,S,1] %us = Unsqueeze(%es, i64[1]{4}) : i64[N,1,1,S,1] "
    "%j = Concat(%un, %us) {axis=-1} : i64[N,1,1,S,2] "
)
BECOMES: dict[str, tuple[Rule, str, str]] = {
    "a gather over the flattened mask": (
        indices.reshape_instead_of_gather, FLAT, "%a = Reshape(%m, i64[5]{0,1,1,-1,1}) : f32[N,1,1,S,1]"),
    "a gather at a grid of indices": (
        indices.reshape_instead_of_gather_nd, GRID + "%a = GatherND(%m, %j) : f32[N,1,1,S]",
        "%a = Reshape(%m, i64[4]{0,1,1,-1}) : f32[N,1,1,S]"),
    "rows of a table at a slice of indices": (
        indices.slice_rows_of_table,
        f"{LENGTH} %i = Slice(i64[1,6]{{5,4,3,2,1,0}}, i64[1]{{0}}, %s1, i64[1]{{-1}}) : i64[1,min(6,S)] %a = Gather(@w, %i) : f32[1,min(6,S),6]",
        "%s1 = Shape(%m) {start=1, end=2} : i64[1] @v : f32[1,6,6] = random(2) %a = Slice(@v, i64[1]{0}, %s1, i64[1]{1}) : f32[1,min(6,S),6]"),
    "a condition that always holds": (
        broadcasting.drop_computed_neutral_operand,
        f"{COLUMNS} %u = Unsqueeze(%rs, i64[1]{{0}}) : i64[1,S] %g = GreaterOrEqual(%u, i64[]{{0}}) : bool[1,S] %c = Cast(%m) {{to=9}} : bool[N,S] "
        "%b = And(%g, %c) : bool[N,S] %a = Cast(%b) {to=1} : f32[N,S]",
        "%c = Cast(%m) {to=9} : bool[N,S] %a = Cast(%c) {to=1} : f32[N,S]"),
    "a condition that never holds": (
        broadcasting.drop_computed_neutral_operand,
        f"{COLUMNS} %g = Less(%rs, i64[]{{0}}) : bool[S] %c = Cast(%m) {{to=9}} : bool[N,S] %b = Or(%c, %g) : bool[N,S] %a = Cast(%b) {{to=1}} : f32[N,S]",
        "%c = Cast(%m) {to=9} : bool[N,S] %a = Cast(%c) {to=1} : f32[N,S]"),
    "a sum with zeros": (
        broadcasting.drop_computed_neutral_operand,
        f"{LENGTH} %z = Expand(f32[]{{0.0}}, %s1) : f32[S] %b = Add(%z, %m) : f32[N,S] %a = Exp(%b) : f32[N,S]",
        "%a = Exp(%m) : f32[N,S]"),
    "a product with ones that are as wide": (
        broadcasting.drop_computed_neutral_operand,
        f"{LENGTH} %z = ConstantOfShape(%s1) {{value=tensor f32[1] = [1]}} : f32[S] %r = ReduceMax(%m, i64[1]{{1}}) : f32[N,1] "
        "%b = Mul(%r, %z) : f32[N,S] %a = Exp(%b) : f32[N,S]",
        f"{LENGTH} %z = ConstantOfShape(%s1) {{value=tensor f32[1] = [1]}} : f32[S] %r = ReduceMax(%m, i64[1]{{1}}) : f32[N,1] "
        "%t = Shape(%z) : i64[1] %b = Expand(%r, %t) : f32[N,S] %a = Exp(%b) : f32[N,S]"),
    "a mask expanded along the batch": (
        broadcasting.drop_expand_of_mask,
        "%q = Unsqueeze(%x, i64[1]{1}) : f32[N,1,4,S] %k1 = Transpose(%q) {perm=[0,1,2,3]} : f32[N,1,4,S] @b : f32[4,4] = random(4) "
        "%n1 = Shape(%m) {start=0, end=1} : i64[1] %t = Concat(%n1, i64[3]{1,1,1}) {axis=0} : i64[4] %e = Expand(@b, %t) : f32[N,1,4,4] "
        "%a = Attention(%q, %k1, %q, %e) : f32[N,1,4,S]",
        "%q = Unsqueeze(%x, i64[1]{1}) : f32[N,1,4,S] %k1 = Transpose(%q) {perm=[0,1,2,3]} : f32[N,1,4,S] @b : f32[4,4] = random(4) "
        "%a = Attention(%q, %k1, %q, @b) : f32[N,1,4,S]"),
    "rows of a table at one index throughout": (
        broadcasting.drop_expand_under_broadcast,
        f"{LENGTH} %i = ConstantOfShape(%s1) {{value=tensor i64[1] = [2]}} : i64[S] %r = Gather(@w, %i) : f32[S,6] %u = Unsqueeze(%m, i64[1]{{2}}) : f32[N,S,1] "
        "%e = Concat(%u, %u, %u, %u, %u, %u) {axis=2} : f32[N,S,6] %a = Add(%e, %r) : f32[N,S,6]",
        "%u = Unsqueeze(%m, i64[1]{2}) : f32[N,S,1] @row : f32[6] = random(3) %e = Concat(%u, %u, %u, %u, %u, %u) {axis=2} : f32[N,S,6] %a = Add(%e, @row) : f32[N,S,6]"),
}  # fmt: skip


@pytest.mark.parametrize("name", BECOMES)
def test_it_is_replaced(check_rules, name: str):
    rule, before, after = BECOMES[name]
    rest = " %o = Softplus(%a) : ? return %o"
    check_rules([rule], one(before + rest), one(after + rest), fired=1)


@pytest.mark.parametrize("name", BECOMES)
def test_it_is_replaced_where_its_result_is_shared_and_an_output(check_rules, name: str):
    rule, before, after = BECOMES[name]
    rest = " %o = Softplus(%a) : ? return %o, %a"
    check_rules([rule], one(before + rest, "r, q"), one(after + rest, "r, q"), fired=1)


@pytest.mark.parametrize(
    "name", ["a gather over the flattened mask", "a gather at a grid of indices", "a condition that always holds"]
)
def test_what_it_was_computed_from_stays_where_that_is_an_output(check_rules, name: str):
    rule, before, after = BECOMES[name]
    kept = {"%q": FLAT, "%j": GRID, "%g": before}
    inner = next(v for v in kept if f"{v} = " in before)
    made = before[: before.index("%a = ")].replace("%f = Flatten(%m) {axis=2} : f32[N*S,1]", "")
    if inner == "%g":
        made, after = before.replace(" %b = And(%g, %c) : bool[N,S]", "").replace("Cast(%b)", "Cast(%c)"), ""
    check_rules(
        [rule], one(f"{before} return %a, {inner}", "r, q"), one(f"{made} {after} return %a, {inner}", "r, q"), fired=1
    )


LEFT: dict[str, tuple[Rule, str, str]] = {
    "indices from one on": (
        indices.reshape_instead_of_gather,
        f"{COLUMNS} %i = Sub(%rs, i64[]{{1}}) : i64[S] %a = Gather(%m, %i) {{axis=1}} : f32[N,S] return %a", "it does not take everything in order"),
    "indices the other way round": (
        indices.reshape_instead_of_gather,
        f"{COLUMNS} %t = Sub(%s, i64[]{{1}}) : i64[] %i = Sub(%t, %rs) : i64[S] %a = Gather(%m, %i) {{axis=1}} : f32[N,S] return %a",
        "it does not take everything in order"),
    "indices along another axis's size": (
        indices.reshape_instead_of_gather, f"{ROWS} %a = Gather(%k, %rn) {{axis=0}} : f32[N,S] return %a", "it does not take everything in order"),
    "a transposed grid": (
        indices.reshape_instead_of_gather_nd,
        f"{SIZES} %cn = Unsqueeze(%rn, i64[1]{{0}}) : i64[1,N] %cs = Unsqueeze(%rs, i64[1]{{1}}) : i64[S,1] %t = Concat(%s1, %n1) {{axis=0}} : i64[2] "
        "%en = Expand(%cn, %t) : i64[S,N] %es = Expand(%cs, %t) : i64[S,N] %un = Unsqueeze(%en, i64[1]{2}) : i64[S,N,1] %us = Unsqueeze(%es, i64[1]{2}) : i64[S,N,1] "
        "%j = Concat(%un, %us) {axis=-1} : i64[S,N,2] %a = GatherND(%m, %j) : f32[S,N] return %a", "it does not take everything in order"),
    "a comparison that a size decides": (
        broadcasting.drop_computed_neutral_operand,
        f"{COLUMNS} %g = Greater(%rs, i64[]{{0}}) : bool[S] %c = Cast(%m) {{to=9}} : bool[N,S] %b = And(%g, %c) : bool[N,S] return %b",
        "no operand is the same throughout"),
    "a table that others use": (
        indices.slice_rows_of_table,
        f"{LENGTH} %i = Slice(i64[6]{{5,4,3,2,1,0}}, i64[1]{{0}}, %s1) : i64[min(6,S)] %a = Gather(@w, %i) : f32[min(6,S),6] %b = Add(%a, @w) : ? return %a"
        .replace(" %b = Add(%a, @w) : ? return %a", " %b = ReduceSum(@w) : f32[1,1] %c = Add(%a, %b) : f32[min(6,S),6] return %c"),
        "the indices are no constant, or the rows at all of them take more than the table"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_it_is_left_with_the_reason(check_rules, name: str):
    rule, body, reason = LEFT[name]
    check_rules([rule], one(body), None, fired=0, declined=[reason])


def test_a_grid_over_a_part_of_an_axis_is_a_gather_along_it(check_rules):
    after = (
        "%n1 = Shape(%m) {start=0, end=1} : i64[1] %n = Squeeze(%n1) : i64[] %rn = Range(i64[]{0}, %n, i64[]{1}) : i64[N] "
        "%g = Gather(%y, %rn) {axis=0} : f32[N,S] %a = Reshape(%g, i64[4]{0,1,1,-1}) : f32[N,1,1,S]"
    )
    check_rules(
        [indices.reshape_instead_of_gather_nd],
        one(f"%y = Concat(%m, %k) {{axis=0}} : f32[N+K,S] {GRID} %a = GatherND(%y, %j) : f32[N,1,1,S] return %a"),
        one(f"%y = Concat(%m, %k) {{axis=0}} : f32[N+K,S] {after} return %a"),
        fired=1,
    )
