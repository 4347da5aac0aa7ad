"""Operands of zeros are left out, however they are computed."""

import pytest
from tersor.transforms.simplify.algebra import uniform

DROP, LENGTHS, PARAMETER = [uniform.drop_zero_operand], [uniform.drop_full_lengths], [uniform.make_parameter_constant]

CONV = """graph(%x: f32[N,3,8,8]) -> (y) {{
  @w : f32[4,3,1,1] = random(1)
  {bias}
  %y = Conv(%x, @w, %b) : f32[N,4,8,8]
  return %y
}}"""


def test_a_bias_that_is_a_cast_and_expanded_zero_is_left_out(check_rules):
    bias = "%z = CastLike(f32[]{0.0}, %x) : f32[] %b = Expand(%z, i64[1]{4}) : f32[4]"
    after = CONV.format(bias="").replace(", %b", "")
    check_rules(DROP, CONV.format(bias=bias), after, fired=1)


def test_a_bias_that_is_not_zero_stays_but_becomes_a_constant(check_rules):
    bias = "%z = CastLike(f32[]{0.5}, %x) : f32[] %b = Expand(%z, i64[1]{4}) : f32[4]"
    check_rules(DROP, CONV.format(bias=bias), None, declined=["no optional operand is zero everywhere"])
    after = CONV.format(bias="@b : f32[4]").replace("%b)", "@b)")
    check_rules(PARAMETER, CONV.format(bias=bias), after, fired=1)


def test_a_bias_that_depends_on_the_input_stays(check_rules):
    text = CONV.format(bias="").replace("f32[N,3,8,8])", "f32[N,3,8,8], %b: f32[4])")
    check_rules(DROP, text, None, declined=["no optional operand is zero everywhere"])
    check_rules(PARAMETER, text, None, declined=["no parameter is computed and the same everywhere"])


LSTM = """graph(%x: f32[5,N,4], %s: f32[1,N,3]) -> (y) {{
  @w : f32[1,12,4] = random(1)
  @r : f32[1,12,3] = random(2)
  @b : f32[1,24] = {bias}
  {states}
  %y = LSTM(%x, @w, @r, {operands}) {{hidden_size=3}} : f32[5,1,N,3]
  return %y
}}"""

STATES = """%n = Shape(%x) {start=1, end=2} : i64[1]
  %t = Concat(i64[1]{2}, %n, i64[1]{3}) {axis=0} : i64[3]
  %z = Expand(f32[]{0.0}, %t) : f32[2,N,3]
  %h = Slice(%z, i64[1]{0}, i64[1]{1}, i64[1]{0}) : f32[1,N,3]"""


def lstm(operands: str, states: str = "", bias: str = "random(3)") -> str:
    return LSTM.format(operands=operands, states=states, bias=bias)


def test_initial_states_of_zeros_are_left_out_with_what_computes_them(check_rules):
    check_rules(DROP, lstm("@b, _, %h, %h", STATES), lstm("@b"), fired=1)


def test_a_state_that_is_given_stays(check_rules):
    check_rules(DROP, lstm("@b, _, %h, %s", STATES), lstm("@b, _, _, %s"), fired=1)
    check_rules(DROP, lstm("@b, _, %s, %s"), None, declined=["no optional operand is zero everywhere"])


def test_zeros_that_others_use_stay_for_them(check_rules):
    text = lstm("@b, _, %h, %h", STATES).replace("-> (y)", "-> (y, z)").replace("return %y", "return %y, %h")
    after = lstm("@b", STATES).replace("-> (y)", "-> (y, z)").replace("return %y", "return %y, %h")
    check_rules(DROP, text, after, fired=1)


def test_a_bias_and_peepholes_of_zeros_are_left_out(check_rules):
    peepholes = "@p : f32[1,9] = [0,0,0,0,0,0,0,0,0]"
    text = lstm("@b, _, _, _, @p", peepholes, "[" + ",".join("0" * 24) + "]")
    check_rules(DROP, text, LSTM.format(operands="", states="", bias="random(3)").replace(", )", ")"), fired=1)


@pytest.mark.parametrize("lengths", ["i32[2]{5,5}", "i32[2]{5,4}"])
def test_sequence_lengths_of_the_whole_length_are_left_out(check_rules, lengths: str):
    text = lstm(f"@b, {lengths}").replace("[5,N,4]", "[5,2,4]").replace("N,3]", "2,3]")
    after = lstm("@b").replace("[5,N,4]", "[5,2,4]").replace("N,3]", "2,3]")
    if lengths.endswith("4}"):
        check_rules(LENGTHS, text, None, declined=["some sequence is shorter"])
    else:
        check_rules(LENGTHS, text, after, fired=1)
