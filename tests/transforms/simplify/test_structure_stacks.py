"""Queries, keys and values taken out of one projection: moved together, split afterwards."""

import pytest
from tersor.transforms.simplify.structure.stacks import split_heads_together, split_instead_of_entries


def one(body: str, inputs: str = "%x: f32[N,5,24]", outputs: str = "p, q, r") -> str:
    return f"graph({inputs}) -> ({outputs}) {{ {body} }}"


MOVED = (
    """%a = Reshape(%x, i64[5]{0,5,3,2,4}) : f32[N,5,3,2,4] %b = Transpose(%a) {perm=[2,0,3,1,4]} : f32[3,N,2,5,4] """
)
ENTRIES = "".join(f"%g{i} = Gather(%b, i64[]{{{i - 3 if i == 2 else i}}}) {{axis=0}} : f32[N,2,5,4] " for i in range(3))
THREE = "f32[N,2,5,4], f32[N,2,5,4], f32[N,2,5,4]"


def test_all_entries_of_a_first_axis_are_parts_of_a_split(check_rules):
    after = f"""%a = Reshape(%x, i64[5]{{0,5,3,2,4}}) : f32[N,5,3,2,4] %j = Reshape(%a, i64[4]{{-1,5,6,4}}) : f32[N,5,6,4]
        %b = Transpose(%j) {{perm=[0,2,1,3]}} : f32[N,6,5,4] %s, %t, %u = Split(%b, i64[3]{{2,2,2}}) {{axis=1}} : {THREE} return %s, %t, %u"""
    check_rules([split_instead_of_entries], one(MOVED + ENTRIES + "return %g0, %g1, %g2"), one(after), fired=1)


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        (
            ENTRIES + "%n = Neg(%b) : f32[3,N,2,5,4] return %g0, %g1, %g2, %n",
            "its operand is used otherwise than for all entries of its first axis",
        ),
        (ENTRIES + "return %g0, %g1, %g2, %b", "its operand is used otherwise than for all entries of its first axis"),
        (
            "%g0 = Gather(%b, i64[]{0}) {axis=0} : f32[N,2,5,4] return %g0, %g0, %g0, %g0",
            "its operand is used otherwise than for all entries of its first axis",
        ),
    ],
)
def test_entries_some_of_which_are_used_otherwise_stay(check_rules, rest: str, reason: str):
    check_rules([split_instead_of_entries], one(MOVED + rest, outputs="p, q, r, s"), None, declined=[reason])


def test_entries_of_the_last_axis_before_the_transpose_stay(check_rules):
    body = """%b = Transpose(%x) {perm=[2,0,1]} : f32[2,N,5] %g = Gather(%b, i64[]{0}) {axis=0} : f32[N,5]
              %h = Gather(%b, i64[]{1}) {axis=0} : f32[N,5] return %g, %h, %h"""
    check_rules(
        [split_instead_of_entries], one(body, "%x: f32[N,5,2]"), None, declined=["no axis is behind the gathered one"]
    )


PARTS = "%a, %b, %c = Split(%x, i64[3]{8,4,12}) {axis=-1} : f32[N,5,8], f32[N,5,4], f32[N,5,12] "


def heads(name: str, part: str, count: int, perm: str = "0,2,1,3") -> str:
    shape = f"N,{count},5,4" if perm == "0,2,1,3" else f"N,{count},4,5"
    return f"%{name}r = Reshape(%{part}, i64[4]{{0,5,{count},4}}) : f32[N,5,{count},4] %{name} = Transpose(%{name}r) {{perm=[{perm}]}} : f32[{shape}] "


def test_heads_of_all_parts_are_moved_together(check_rules):
    body = PARTS + heads("h", "a", 2) + heads("i", "b", 1, "0,2,3,1") + heads("j", "c", 3) + "return %h, %i, %j"
    after = """%a = Reshape(%x, i64[4]{-1,5,6,4}) : f32[N,5,6,4] %b = Transpose(%a) {perm=[0,2,1,3]} : f32[N,6,5,4]
        %s, %t, %u = Split(%b, i64[3]{2,1,3}) {axis=1} : f32[N,2,5,4], f32[N,1,5,4], f32[N,3,5,4]
        %v = Transpose(%t) {perm=[0,1,3,2]} : f32[N,1,4,5] return %s, %v, %u"""
    check_rules([split_heads_together], one(body), one(after), fired=1)


@pytest.mark.parametrize("rest", ["%n = Neg(%b) : f32[N,5,4] return %h, %n, %j", "return %h, %b, %j"])
def test_parts_that_are_used_otherwise_stay(check_rules, rest: str):
    body = PARTS + heads("h", "a", 2) + heads("i", "b", 1) + heads("j", "c", 3) + rest
    check_rules([split_heads_together], one(body), None, fired=0, declined=["another part is used otherwise"])


def test_heads_of_different_sizes_stay(check_rules):
    other = "%ir = Reshape(%b, i64[4]{0,5,2,2}) : f32[N,5,2,2] %i = Transpose(%ir) {perm=[0,2,1,3]} : f32[N,2,5,2] "
    body = PARTS + heads("h", "a", 2) + other + heads("j", "c", 3) + "return %h, %i, %j"
    check_rules([split_heads_together], one(body), None, declined=["heads are of different sizes"])
