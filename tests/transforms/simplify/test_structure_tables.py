"""Tables from which constant indices gather: reshapings and Transposes are done to the indices or to the table."""

import pytest
from tersor.transforms.simplify.structure import identities, tables


def one(body: str, inputs: str = "%x: f32[7,3]", outputs: str = "y") -> str:
    return f"graph({inputs}) -> ({outputs}) {{ @t : f32[7,3] = random(1) {body} }}"


SIX = "i64[6]{6,0,1,1,5,2}"


def test_a_gather_nd_by_single_numbers_is_a_gather(check_rules):
    body = "%a = GatherND(%x, i64[2,3,1]{6,0,1,1,5,2}) : f32[2,3,3] return %a, %a"
    after = "%a = Gather(%x, i64[2,3]{6,0,1,1,5,2}) {axis=0} : f32[2,3,3] return %a, %a"
    check_rules([tables.gather_instead_of_gather_nd], one(body, outputs="y, z"), one(after, outputs="y, z"), fired=1)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("%a = GatherND(%x, i64[2,2]{6,0,1,1}) : f32[2]", "its indices are of several numbers"),
        (
            "%a = GatherND(%x, i64[7,1]{0,1,2,0,0,0,0}) {batch_dims=1} : f32[7]",
            "its indices are not constant, or there are some per batch entry",
        ),
    ],
)
def test_a_gather_nd_by_several_numbers_stays(check_rules, body: str, reason: str):
    check_rules([tables.gather_instead_of_gather_nd], one(f"{body} return %a"), None, declined=[reason])


def test_regrouped_axes_of_indices_are_those_of_the_gather(check_rules):
    body = f"%a = Gather(%x, {SIX}) {{axis=0}} : f32[6,3] %b = Reshape(%a, i64[3]{{2,3,3}}) : f32[2,3,3] return %b"
    after = "%b = Gather(%x, i64[2,3]{6,0,1,1,5,2}) {axis=0} : f32[2,3,3] return %b"
    check_rules([tables.reshape_indices_instead], one(body), one(after), fired=1)


@pytest.mark.parametrize("rest", ["return %b, %a", "%c = Neg(%a) : f32[6,3] return %b, %c"])
def test_gathered_rows_that_others_need_are_not_regrouped(check_rules, rest: str):
    body = f"%a = Gather(%x, {SIX}) {{axis=0}} : f32[6,3] %b = Reshape(%a, i64[3]{{2,3,3}}) : f32[2,3,3] {rest}"
    check_rules([tables.reshape_indices_instead], one(body, outputs="y, z"), None,
                declined=["its operand is no Gather that only it uses"])  # fmt: skip


def test_a_reshape_of_the_columns_stays(check_rules):
    body = f"%a = Gather(%x, {SIX}) {{axis=0}} : f32[6,3] %b = Reshape(%a, i64[2]{{9,2}}) : f32[9,2] return %b"
    check_rules(
        [tables.reshape_indices_instead], one(body), None, declined=["it reshapes more than the axes of the indices"]
    )


BIAS = "%a = Gather(@t, i64[1,2,3]{6,0,1,1,5,2}) {axis=0} : f32[1,2,3,3] "


def test_columns_moved_in_front_of_gathered_rows_are_rows_of_the_table(check_rules):
    inputs = "%x: f32[N,3,2,3]"
    body = BIAS + "%b = Transpose(%a) {perm=[0,3,1,2]} : f32[1,3,2,3] %c = Add(%x, %b) : f32[N,3,2,3] return %c"
    after = """@u : f32[1,3,7] = random(1) %b = Gather(@u, i64[2,3]{6,0,1,1,5,2}) {axis=2} : f32[1,3,2,3]
               %c = Add(%x, %b) : f32[N,3,2,3] return %c"""
    check_rules([tables.transpose_table_instead], one(body, inputs), one(after, inputs), fired=1)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (BIAS + "%b = Transpose(%a) {perm=[0,3,2,1]} : f32[1,3,3,2] return %b, %b", "it moves axes of the indices"),
        (
            BIAS + "%b = Transpose(%a) {perm=[0,3,1,2]} : f32[1,3,2,3] return %b, %a",
            "its operand is no Gather that only it uses",
        ),
        (
            BIAS.replace("@t", "%x") + "%b = Transpose(%a) {perm=[0,3,1,2]} : f32[1,3,2,3] return %b, %b",
            "it does not gather rows of a constant table",
        ),
    ],
)
def test_other_transposes_of_gathered_rows_stay(check_rules, body: str, reason: str):
    check_rules([tables.transpose_table_instead], one(body, outputs="y, z"), None, fired=0, declined=[reason])


def test_a_gather_of_gathered_rows_is_one(check_rules):
    body = f"%a = Gather(%x, {SIX}) {{axis=0}} : f32[6,3] %b = Gather(%a, i64[2,2]{{5,-1,0,2}}) {{axis=0}} : f32[2,2,3] return %b"
    after = "%b = Gather(%x, i64[2,2]{2,2,6,1}) {axis=0} : f32[2,2,3] return %b"
    check_rules([tables.merge_gathers], one(body), one(after), fired=1)
    check_rules([tables.merge_gathers], one(body + ", %a", outputs="y, z"),
                one(f"%a = Gather(%x, {SIX}) {{axis=0}} : f32[6,3] {after}, %a", outputs="y, z"), fired=1)  # fmt: skip


def test_gathers_along_different_axes_stay(check_rules):
    body = (
        f"%a = Gather(%x, {SIX}) {{axis=0}} : f32[6,3] %b = Gather(%a, i64[2]{{2,0}}) {{axis=1}} : f32[6,2] return %b"
    )
    check_rules([tables.merge_gathers], one(body), None, declined=["they gather along different axes"])


def test_axes_in_front_that_broadcasting_gives_are_not_made(check_rules):
    inputs = "%x: f32[N,7,3], %m: f32[7,3]"
    body = "%u = Unsqueeze(%m, i64[1]{0}) : f32[1,7,3] %b = Add(%u, %x) : f32[N,7,3] return %b"
    after = "%b = Add(%m, %x) : f32[N,7,3] return %b"
    check_rules([identities.drop_leading_ones], one(body, inputs), one(after, inputs), fired=1)
    shared = "%u = Unsqueeze(%m, i64[1]{0}) : f32[1,7,3] "
    check_rules(
        [identities.drop_leading_ones], one(body + ", %u", inputs, "y, z"), one(f"{shared}{after}, %u", inputs, "y, z")
    )


@pytest.mark.parametrize(
    ("inputs", "axes", "shape"),
    [("%x: f32[7,3], %m: f32[7,3]", "0", "1,7,3"), ("%x: f32[N,7,3], %m: f32[7,3]", "1", "7,1,3")],
)
def test_axes_that_broadcasting_does_not_give_stay(check_rules, inputs: str, axes: str, shape: str):
    result = "1,7,3" if axes == "0" else "7,7,3"
    inputs = inputs.replace("N", "7")
    body = f"%u = Unsqueeze(%m, i64[1]{{{axes}}}) : f32[{shape}] %b = Add(%u, %x) : f32[{result}] return %b"
    check_rules([identities.drop_leading_ones], one(body, inputs), None,
                declined=["no operand has axes of size 1 in front that another one gives"])  # fmt: skip
