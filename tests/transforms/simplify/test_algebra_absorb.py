"""Constants climb to the weights above through whatever commutes with them, and stop where something does not."""

import pytest
from tersor.transforms.simplify.algebra import affine

RULES = list(affine.RULES)

HEADS = """graph(%x: f32[N,S,6]) -> (y) {{
  @w : f32[6,8] = random(1)
  @b : f32[8] = random(2)
  %0 = MatMul(%x, @w) : f32[N,S,8]
  %1 = Add(%0, @b) : f32[N,S,8]
  %2 = Reshape(%1, i64[4]{{0,0,2,4}}) : f32[N,S,2,4]
  %3 = Transpose(%2) {{perm=[0,2,1,3]}} : f32[N,2,S,4]
  {body}
}}"""

FOLDED = HEADS.format(body="return %3").replace(" = random(1)", "").replace(" = random(2)", "")


def test_a_scale_of_heads_is_part_of_the_projection(check_rules):
    check_rules(RULES, HEADS.format(body="%4 = Mul(%3, f32[]{0.5}) : f32[N,2,S,4] return %4"), FOLDED, fired=1)


def test_a_scale_for_each_head_and_entry_is_part_of_the_projection(check_rules):
    body = "@k : f32[2,1,4] = random(3) %4 = Mul(%3, @k) : f32[N,2,S,4] return %4"
    check_rules(RULES, HEADS.format(body=body), FOLDED, fired=1)


def test_a_scale_that_varies_over_positions_stays(check_rules):
    body = "@k : f32[5,1] = random(3) %4 = Mul(%3, @k) : f32[N,2,5,4] return %4"
    check_rules(RULES, HEADS.format(body=body).replace("S,", "5,"), None, fired=0,
                declined=["Add keeps it from the weights above"])  # fmt: skip


def test_a_scale_of_heads_that_others_use_stays(check_rules):
    body = "%4 = Mul(%3, f32[]{0.5}) : f32[N,2,S,4] %5 = Add(%3, %4) : f32[N,2,S,4] return %5"
    check_rules(RULES, HEADS.format(body=body), None, fired=0)


def test_a_scale_of_heads_that_are_an_output_stays(check_rules):
    body = "%4 = Mul(%3, f32[]{0.5}) : f32[N,2,S,4] return %4, %3"
    check_rules(RULES, HEADS.format(body=body).replace("(y)", "(y, z)"), None, fired=0)


def test_who_asks_only_for_the_shape_does_not_mind(check_rules):
    body = "%4 = Mul(%3, f32[]{0.5}) : f32[N,2,S,4] %n = Shape(%3) : i64[4] return %4, %n"
    after = FOLDED.replace("return %3", "%n = Shape(%3) : i64[4] return %3, %n").replace("(y)", "(y, z)")
    check_rules(RULES, HEADS.format(body=body).replace("(y)", "(y, z)"), after, fired=1)


def test_a_scale_of_scores_is_part_of_the_queries(check_rules):
    body = """%k = Transpose(%x) {perm=[0,2,1]} : f32[N,6,S]
      %s = Slice(%k, i64[1]{0}, i64[1]{4}, i64[1]{1}) : f32[N,4,S]
      %u = Unsqueeze(%s, i64[1]{1}) : f32[N,1,4,S]
      %4 = MatMul(%3, %u) : f32[N,2,S,S]"""
    scaled = HEADS.format(body=body + " %5 = Div(%4, f32[]{8.0}) : f32[N,2,S,S] return %5")
    check_rules(
        RULES,
        scaled,
        HEADS.format(body=body + " return %4").replace("= random(1)", "").replace("= random(2)", ""),
        fired=1,
    )


PARTS = """graph(%x: f32[N,6]) -> (a, b) {{
  @w : f32[6,8] = random(1)
  %0 = Gemm(%x, @w) : f32[N,8]
  {parts}
  {body}
}}"""

SPLITS = {
    "split": "%1, %2 = Split(%0, i64[2]{3,5}) {axis=1} : f32[N,3], f32[N,5]",
    "slices": "%1 = Slice(%0, i64[1]{0}, i64[1]{3}, i64[1]{1}) : f32[N,3] "
    "%2 = Slice(%0, i64[1]{3}, i64[1]{8}, i64[1]{1}) : f32[N,5]",
    "gathers": "%1 = Gather(%0, i64[3]{0,2,4}) {axis=1} : f32[N,3] "
    "%2 = Gather(%0, i64[5]{1,3,5,6,7}) {axis=1} : f32[N,5]",
}


@pytest.mark.parametrize("parts", SPLITS.values(), ids=SPLITS)
def test_a_scale_of_one_part_leaves_the_others_as_they_are(check_rules, parts: str):
    text = PARTS.format(parts=parts, body="%3 = Mul(%1, f32[]{0.5}) : f32[N,3] return %3, %2")
    after = PARTS.format(parts=parts, body="return %1, %2").replace("= random(1)", "")
    check_rules(RULES, text, after, fired=1)


@pytest.mark.parametrize("parts", SPLITS.values(), ids=SPLITS)
def test_a_summand_of_one_part_becomes_a_bias_of_zeros_elsewhere(check_rules, parts: str):
    text = PARTS.format(parts=parts, body="%3 = Sub(%1, f32[]{0.5}) : f32[N,3] return %3, %2")
    after = PARTS.format(parts=parts, body="return %1, %2").replace("= random(1)", "@b : f32[8]")
    check_rules(RULES, text, after.replace("Gemm(%x, @w)", "Gemm(%x, @w, @b)"), fired=1)


def test_a_scale_of_entries_that_two_parts_share_stays(check_rules):
    parts = SPLITS["slices"].replace("i64[1]{3}, i64[1]{8}", "i64[1]{2}, i64[1]{7}")
    text = PARTS.format(parts=parts, body="%3 = Mul(%1, f32[]{0.5}) : f32[N,3] return %3, %2")
    check_rules(RULES, text, None, fired=0)


IMAGES = """graph(%x: f32[N,3,8,8]) -> (y) {{
  @w : f32[4,3,3,3] = random(1)
  @k : f32[4,1,1] = {k}
  %0 = Conv(%x, @w) : f32[N,4,6,6]
  {body}
}}"""

COMMUTING = {
    "relu": "%1 = Relu(%0) : f32[N,4,6,6]",
    "leaky relu": "%1 = LeakyRelu(%0) {alpha=0.1} : f32[N,4,6,6]",
    "max pool": "%1 = MaxPool(%0) {kernel_shape=[3,3], pads=[1,1,1,1]} : f32[N,4,6,6]",
    "average pool": "%1 = AveragePool(%0) {kernel_shape=[1,1]} : f32[N,4,6,6]",
    "dropout": "%1 = Dropout(%0) : f32[N,4,6,6]",
}


@pytest.mark.parametrize("node", COMMUTING.values(), ids=COMMUTING)
def test_a_positive_scale_goes_through_homogeneous_operators(check_rules, node: str):
    text = IMAGES.format(k="[0.5,2.0,1.0,3.0]", body=node + " %2 = Mul(%1, @k) : f32[N,4,6,6] return %2")
    after = IMAGES.format(k="[1,1,1,1]", body=node + " return %1").replace("= random(1)", "")
    check_rules(RULES, text, after.replace("@k : f32[4,1,1] = [1,1,1,1]", ""), fired=1)


@pytest.mark.parametrize("name", ["relu", "leaky relu", "max pool"])
def test_a_negative_scale_does_not(check_rules, name: str):
    body = COMMUTING[name] + " %2 = Mul(%1, @k) : f32[N,4,6,6] return %2"
    check_rules(RULES, IMAGES.format(k="[0.5,-2.0,1.0,3.0]", body=body), None, fired=0)


def test_a_negation_is_part_of_the_weight(check_rules):
    text = IMAGES.format(k="[1,1,1,1]", body="%1 = Neg(%0) : f32[N,4,6,6] return %1")
    after = IMAGES.format(k="[1,1,1,1]", body="return %0").replace("= random(1)", "")
    check_rules(RULES, text, after, fired=1)


def test_a_constant_minus_a_convolution_is_a_convolution(check_rules):
    text = IMAGES.format(k="[0.5,-2.0,1.0,3.0]", body="%1 = Sub(@k, %0) : f32[N,4,6,6] return %1")
    after = IMAGES.format(k="[1,1,1,1]", body="return %0").replace("= random(1)", "@b : f32[4]")
    check_rules(RULES, text, after.replace("%x, @w", "%x, @w, @b"), fired=1)


def test_rows_of_a_table_are_scaled_before_they_are_looked_up(check_rules):
    text = """graph(%i: i64[N,S]) -> (y) {{
      @e : f32[10,4] {e}
      %0 = Gather(@e, %i) {{axis=0}} : f32[N,S,4]
      {body}
    }}"""
    before = text.format(e="= random(1)", body="%1 = Mul(%0, f32[]{3.0}) : f32[N,S,4] return %1")
    check_rules(RULES, before, text.format(e="", body="return %0"), fired=1)


@pytest.mark.parametrize("op", ["LayerNormalization", "RMSNormalization"])
def test_a_scale_is_part_of_the_normalization_above(check_rules, op: str):
    text = """graph(%x: f32[N,S,4]) -> (y) {{
      @g : f32[4] {g}
      @k : f32[4] = random(2)
      %0 = {op}(%x, @g) {{axis=-1}} : f32[N,S,4]
      {body}
    }}"""
    before = text.format(op=op, g="= random(1)", body="%1 = Mul(%0, @k) : f32[N,S,4] return %1")
    check_rules(
        RULES, before, text.format(op=op, g="", body="return %0").replace("@k : f32[4] = random(2)", ""), fired=1
    )


def test_a_scale_does_not_go_into_a_weight_that_others_use(check_rules):
    text = """graph(%x: f32[N,64]) -> (a, b) {
      @w : f32[64,64] = random(1)
      %0 = MatMul(%x, @w) : f32[N,64]
      %1 = Mul(%0, f32[]{0.5}) : f32[N,64]
      %2 = Relu(%x) : f32[N,64]
      %3 = MatMul(%2, @w) : f32[N,64]
      return %1, %3
    }"""
    check_rules(RULES, text, None, fired=0, declined=["its weight is used elsewhere too"])


def test_a_constant_that_broadcasts_the_rank_up_stays(check_rules):
    text = IMAGES.format(k="[1,1,1,1]", body="@c : f32[1,1,1,1,1] = [2] %1 = Mul(%0, @c) : f32[1,N,4,6,6] return %1")
    check_rules(RULES, text, None, fired=0, declined=["it broadcasts, or its shape is not known"])
