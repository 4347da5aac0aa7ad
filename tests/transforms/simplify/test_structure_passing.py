"""Transposes and reshapings that meet across elementwise operators: what goes, what stays and why."""

import pytest
from tersor.transforms.simplify.structure.passing import (
    meet_across_elementwise,
    transpose_result_instead_of_operands,
)


def one(body: str, inputs: str = "%x: f32[N,4,6], %z: f32[N,4,6]", outputs: str = "y") -> str:
    return f"graph({inputs}) -> ({outputs}) {{ {body} }}"


DOWN = "%a = Transpose(%x) {perm=[0,2,1]} : f32[N,6,4] "
BETWEEN = "%b = Mul(%a, f32[]{2}) : f32[N,6,4] %c = Relu(%b) : f32[N,6,4] "
UP = "%d = Transpose(%c) {perm=[0,2,1]} : f32[N,4,6] "
PLAIN = "%b = Mul(%x, f32[]{2}) : f32[N,4,6] %c = Relu(%b) : f32[N,4,6] "


def test_transposes_cancel_across_elementwise_operators(check_rules):
    check_rules([meet_across_elementwise], one(DOWN + BETWEEN + UP + "return %d"), one(PLAIN + "return %c"), fired=1)


def test_reshapings_meet_across_elementwise_operators(check_rules):
    body = "%a = Reshape(%x, i64[2]{-1,24}) : f32[N,24] %c = Relu(%a) : f32[N,24] %d = Reshape(%c, i64[3]{-1,6,4}) : f32[N,6,4] return %d"
    after = "%c = Relu(%x) : f32[N,4,6] %d = Reshape(%c, i64[3]{-1,6,4}) : f32[N,6,4] return %d"
    check_rules([meet_across_elementwise], one(body), one(after), fired=1)


@pytest.mark.parametrize("rest", ["%e = Neg(%{}) : f32[N,6,4] return %d, %e", "return %d, %{}"])
@pytest.mark.parametrize("shared", ["a", "b", "c"])
def test_what_others_need_is_left(check_rules, shared: str, rest: str):
    check_rules([meet_across_elementwise], one(DOWN + BETWEEN + UP + rest.format(shared), outputs="p, q"), None, fired=0,
                declined=["no elementwise operators are between two reshapings or Transposes"])  # fmt: skip


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (DOWN + BETWEEN.replace("f32[]{2}", "f32[1,1,1]{2}") + UP.replace("[0,2,1]", "[2,1,0]").replace("[N,4,6]", "[4,6,N]") + "return %d", "together they are no fewer"),
        (DOWN + "%c = Softmax(%a) {axis=1} : f32[N,6,4] " + UP + "return %d", "no elementwise operators are between two reshapings or Transposes"),
        ("%a = Reshape(%x, i64[1]{-1}) : f32[24*N] %c = Mul(%a, f32[1,1,1,1]{2}) : f32[1,1,1,24*N] %d = Reshape(%c, i64[3]{-1,4,6}) : f32[N,4,6] return %d",
         "a number has more axes than the tensor"),
    ],
)  # fmt: skip
def test_those_that_do_not_meet_stay(check_rules, body: str, reason: str):
    if "no fewer" in reason:
        body = body.replace(
            "%d = Transpose(%c) {perm=[2,1,0]} : f32[4,6,N]", "%d = Reshape(%c, i64[2]{-1,24}) : f32[N,24]"
        )
    check_rules([meet_across_elementwise], one(body), None, fired=0, declined=[reason])


BOTH = DOWN + "%b = Transpose(%z) {perm=[0,2,1]} : f32[N,6,4] %c = Add(%a, %b) : f32[N,6,4] "


def test_operands_transposed_alike_are_transposed_once(check_rules):
    after = "%s = Add(%x, %z) : f32[N,4,6] %c = Transpose(%s) {perm=[0,2,1]} : f32[N,6,4] return %c"
    check_rules([transpose_result_instead_of_operands], one(BOTH + "return %c"), one(after), fired=1)


@pytest.mark.parametrize("rest", ["return %c, %a", "%e = Neg(%b) : f32[N,6,4] return %c, %e"])
def test_transposed_operands_that_others_need_stay(check_rules, rest: str):
    check_rules([transpose_result_instead_of_operands], one(BOTH + rest, outputs="p, q"), None,
                declined=["not all operands are Transposes that only it uses"])  # fmt: skip


def test_operands_transposed_differently_stay(check_rules):
    inputs = "%x: f32[4,4,4], %z: f32[4,4,4]"
    body = """%a = Transpose(%x) {perm=[0,2,1]} : f32[4,4,4] %b = Transpose(%z) {perm=[1,0,2]} : f32[4,4,4]
              %c = Add(%a, %b) : f32[4,4,4] return %c"""
    check_rules(
        [transpose_result_instead_of_operands], one(body, inputs), None, declined=["they are transposed differently"]
    )
