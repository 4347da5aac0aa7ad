"""A Gemm between reshapings becomes a MatMul and an Add; what stays and why."""

import pytest
from tersor.transforms.simplify.structure.linear import unflatten_gemm

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
