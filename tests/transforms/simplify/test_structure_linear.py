"""Reshapings around products with weights: a Gemm between two is a MatMul and an Add, two are one; what stays and why."""

import pytest
from tersor.transforms.simplify.structure.linear import flatten_projection, meet_across_linear, unflatten_gemm

RULES = [unflatten_gemm]


def one(body: str, outputs: str = "y") -> str:
    return f"graph(%x: f32[N,3,4]) -> ({outputs}) {{ @w : f32[4,5] = random(1) @v : f32[5,4] = random(2) @b : f32[5] = random(3) @c : f32[1,5] = random(4) {body} }}"


FLAT = "%f = Reshape(%x, i64[2]{-1,4}) : f32[3*N,4] "
BACK = "%r = Reshape(%g, i64[3]{-1,3,5}) : f32[N,3,5] "
GEMM = FLAT + "%g = Gemm(%f, @w, @b) : f32[3*N,5] " + BACK
AFTER = "%m = MatMul(%x, @w) : f32[N,3,5] %r = Add(%m, @b) : f32[N,3,5] "


def test_a_gemm_between_reshapings_is_a_product_and_a_sum(check_rules):
    check_rules(RULES, one(GEMM + "return %r"), one(AFTER + "return %r"), fired=1)


def test_a_gemm_without_bias_is_a_product(check_rules):
    check_rules(
        RULES, one(GEMM.replace(", @b", "") + "return %r"), one("%r = MatMul(%x, @w) : f32[N,3,5] return %r"), fired=1
    )


def test_a_flattened_tensor_that_others_need_stays_for_them(check_rules):
    check_rules(RULES, one(GEMM + "return %r, %f", "y, z"), one(FLAT + AFTER + "return %r, %f", "y, z"), fired=1)


def test_a_gemm_that_others_need_is_left(check_rules):
    check_rules(RULES, one(GEMM + "return %r, %g", "y, z"), None, declined=["its operand is no Gemm that only it uses"])


LEFT = {
    "the Gemm's operand is not flattened": "%q = Gather(%x, i64[]{1}) {axis=1} : f32[N,4] %g = Gemm(%q, @w, @b) : f32[N,5] %r = Reshape(%g, i64[2]{-1,1}) : f32[5*N,1] return %r",
    "the Gemm transposes or scales": GEMM.replace("@w, @b)", "@v, @b) {transB=1}") + "return %r",
    "its bias is scaled or not one per channel": GEMM.replace("@b", "@c") + "return %r",
    "more is reshaped than the axes that were flattened": GEMM.replace("i64[3]{-1,3,5}) : f32[N,3,5]", "i64[3]{3,-1,5}) : f32[3,N,5]") + "return %r",
}  # fmt: skip


@pytest.mark.parametrize("reason", LEFT)
def test_it_is_left_with_the_reason(check_rules, reason: str):
    check_rules(RULES, one(LEFT[reason]), None, fired=0, declined=[reason])


WEIGHTS = "@w : f32[8,6] = random(1) @b : f32[6] = random(2) @c : f32[4,6] = random(3)"
WINDOWS = "f32[N,2,3,8]"
FLATTENED = "%f = Reshape(%x, i64[3]{-1,3,8}) : f32[2*N,3,8] "
LINEAR = "%m = MatMul(%f, @w) : f32[2*N,3,6] %s = Add(%m, @b) : f32[2*N,3,6] "
HEADS = "%r = Reshape(%s, i64[4]{-1,3,3,2}) : f32[2*N,3,3,2] "
BEHIND = "%m = MatMul(%x, @w) : f32[N,2,3,6] %s = Add(%m, @b) : f32[N,2,3,6] " + HEADS


def windows(body: str, outputs: str = "y", type_: str = WINDOWS) -> str:
    return f"graph(%x: {type_}) -> ({outputs}) {{ {WEIGHTS} {body} }}"


def test_flattening_before_a_linear_operator_is_part_of_splitting_heads_behind_it(check_rules):
    before, after = windows(FLATTENED + LINEAR + HEADS + "return %r"), windows(BEHIND + "return %r")
    check_rules([meet_across_linear], before, after, fired=1)


def test_without_a_bias_and_with_the_bias_in_front_it_is_the_same(check_rules):
    product = "%s = MatMul(%f, @w) : f32[2*N,3,6] "
    after = "%s = MatMul(%x, @w) : f32[N,2,3,6] " + HEADS
    check_rules([meet_across_linear], windows(FLATTENED + product + HEADS + "return %r"), windows(after + "return %r"))
    turned = LINEAR.replace("Add(%m, @b)", "Add(@b, %m)")
    after = BEHIND.replace("Add(%m, @b)", "Add(@b, %m)")
    check_rules([meet_across_linear], windows(FLATTENED + turned + HEADS + "return %r"), windows(after + "return %r"))


JOINED = "%f = Reshape(%x, i64[3]{-1,3,8}) : f32[2*N,3,8] "
BACK_TO_IMAGE = "%r = Reshape(%s, i64[3]{-1,6,6}) : f32[N,6,6] "


def test_joining_heads_before_a_linear_operator_is_part_of_what_is_reshaped_behind_it(check_rules):
    before = windows(JOINED + LINEAR + BACK_TO_IMAGE + "return %r", type_="f32[N,2,3,2,4]")
    after = (
        "%f = Reshape(%x, i64[3]{-1,6,8}) : f32[N,6,8] %m = MatMul(%f, @w) : f32[N,6,6] %r = Add(%m, @b) : f32[N,6,6] "
    )
    check_rules([meet_across_linear], before, windows(after + "return %r", type_="f32[N,2,3,2,4]"), fired=1)


def test_a_reshaping_that_may_become_one_gather_with_what_follows_is_left_for_that(check_rules):
    body = (
        JOINED
        + LINEAR
        + "%r = Reshape(%s, i64[4]{-1,2,3,6}) : f32[N,2,3,6] %t = Transpose(%r) {perm=[0,2,1,3]} : f32[N,3,2,6] "
    )
    reason = "it is part of a larger region"
    before = windows(body + "return %t", type_="f32[N,2,3,2,4]")
    check_rules([meet_across_linear], before, None, fired=0, declined=[reason])


def test_a_linear_operator_whose_last_axis_changes_on_both_sides_keeps_both_reshapings(check_rules):
    reason = "the last axis changes on both sides"
    body = JOINED + LINEAR + HEADS + "return %r"
    check_rules([meet_across_linear], windows(body, type_="f32[N,2,3,2,4]"), None, fired=0, declined=[reason])


def test_a_summand_with_more_than_one_number_per_column_is_not_linear(check_rules):
    body = FLATTENED.replace("3,8", "4,8").replace("2*N", "N") + (
        "%m = MatMul(%f, @w) : f32[N,4,6] %s = Add(%m, @c) : f32[N,4,6] %r = Reshape(%s, i64[4]{-1,4,3,2}) : f32[N,4,3,2] return %r"
    )
    reason = "no linear operator is between two reshapings"
    check_rules([meet_across_linear], windows(body, type_="f32[N,2,2,8]"), None, fired=0, declined=[reason])


def test_products_that_others_need_keep_the_reshapings(check_rules):
    for value in "ms":
        body = FLATTENED + LINEAR + HEADS + f"return %r, %{value}"
        reason = "no linear operator is between two reshapings"
        check_rules([meet_across_linear], windows(body, "y, z"), None, fired=0, declined=[reason])


def test_a_reshaped_tensor_that_others_need_stays(check_rules):
    reason = "the reshaped tensor has other users, or a shape is not known"
    body = FLATTENED + LINEAR + HEADS + "return %r, %f"
    check_rules([meet_across_linear], windows(body, "y, z"), None, fired=0, declined=[reason])


PARTS = "%q, %k, %v = Split(%s, i64[3]{2,2,2}) {axis=-1} : f32[2*N,3,2], f32[2*N,3,2], f32[2*N,3,2] "
PACKED = "%y = Attention(%q, %k, %v) {q_num_heads=2, kv_num_heads=2} : f32[2*N,3,2] "
MOVED = BEHIND.replace(HEADS, "").replace("%s", "%a") + "%s = Reshape(%a, i64[3]{-1,3,6}) : f32[2*N,3,6] "


def test_windows_are_flattened_where_the_heads_of_an_attention_are_split(check_rules):
    before, after = FLATTENED + LINEAR + PARTS + PACKED + "return %y", MOVED + PARTS + PACKED + "return %y"
    check_rules([flatten_projection, meet_across_linear], windows(before), windows(after), fired=1)


def test_a_projection_whose_parts_are_no_heads_is_flattened_before(check_rules):
    body = FLATTENED + LINEAR + PARTS + "return %q, %k, %v"
    reason = "its parts are not packed heads"
    check_rules([flatten_projection], windows(body, "q, k, v"), None, fired=0, declined=[reason])


def test_a_flattened_tensor_that_others_need_is_flattened_before(check_rules):
    body = FLATTENED + LINEAR + PARTS + PACKED + "return %y, %f"
    reason = "the reshaped tensor has other users, or a shape is not known"
    check_rules([flatten_projection], windows(body, "y, z"), None, fired=0, declined=[reason])


def test_a_projection_of_heads_that_are_joined_is_left(check_rules):
    body = JOINED + LINEAR + PARTS + PACKED + "return %y"
    check_rules(
        [flatten_projection],
        windows(body, type_="f32[N,2,3,2,4]"),
        None,
        fired=0,
        declined=["the last axis is reshaped too"],
    )
