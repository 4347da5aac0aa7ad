"""Constants in front of linear operators are part of the weights below, unless zeros are padded in between or somebody
else sees the value.
"""

import pytest
from tersor.transforms.simplify.algebra import before

RULES = list(before.RULES)

IMAGES = """graph(%x: f32[N,4,8,8]) -> (y) {{
  @c : f32[4,1,1] = [0.5,-2.0,1.0,3.0]
  @w : f32[6,{per_group},3,3] = random(1)
  @g : f32[4] = [1.5,0.5,-1.0,2.0]
  @v : f32[4] = [1.0,2.0,0.5,4.0]
  {body}
}}"""


def images(operation: str, conv: str, per_group: int = 4, tail: str = "return %1") -> str:
    return IMAGES.format(
        per_group=per_group, body=f"%0 = {operation} : f32[N,4,8,8] %1 = {conv} : f32[N,6,{SIZE[conv]}] {tail}"
    )


CONV = "Conv(%0, @w)"
PADDED = "Conv(%0, @w) {pads=[1,1,1,1]}"
GROUPED = "Conv(%0, @w) {group=2}"
SIZE = {CONV: "6,6", PADDED: "8,8", GROUPED: "6,6"}


def after(conv: str, per_group: int = 4, bias: bool = False) -> str:
    made = conv.replace("%0", "%x").replace("@w", "@w, @b") if bias else conv.replace("%0", "%x")
    summand = "@b : f32[6]" if bias else ""
    return f"graph(%x: f32[N,4,8,8]) -> (y) {{ @w : f32[6,{per_group},3,3] {summand} %1 = {made} : f32[N,6,{SIZE[conv]}] return %1 }}"


@pytest.mark.parametrize(("conv", "per_group"), [(CONV, 4), (PADDED, 4), (GROUPED, 2)])
@pytest.mark.parametrize("operation", ["Mul(%x, @c)", "Mul(@c, %x)", "Div(%x, @c)"])
def test_a_factor_is_part_of_the_convolution_below(check_rules, conv: str, per_group: int, operation: str):
    check_rules(RULES, images(operation, conv, per_group), after(conv, per_group), fired=1)


@pytest.mark.parametrize(("conv", "per_group"), [(CONV, 4), (GROUPED, 2)])
@pytest.mark.parametrize("operation", ["Add(%x, @c)", "Sub(%x, @c)", "BatchNormalization(%x, @g, @g, @g, @v)"])
def test_a_summand_is_part_of_the_bias_below(check_rules, conv: str, per_group: int, operation: str):
    check_rules(RULES, images(operation, conv, per_group), after(conv, per_group, bias=True), fired=1)


@pytest.mark.parametrize("operation", ["Add(%x, @c)", "BatchNormalization(%x, @g, @g, @g, @v)"])
def test_a_summand_does_not_pass_a_padding_of_zeros(check_rules, operation: str):
    check_rules(RULES, images(operation, PADDED), None, fired=0, declined=["it is added before a padding of zeros"])


def test_a_factor_that_an_activation_sees_too_stays(check_rules):
    text = images("Mul(%x, @c)", CONV, tail="%2 = Tanh(%0) : f32[N,4,8,8] return %1, %2").replace("(y)", "(y, z)")
    check_rules(RULES, text, None, fired=0, declined=["a user has no weights"])


def test_a_factor_that_is_an_output_stays(check_rules):
    text = images("Mul(%x, @c)", CONV, tail="return %1, %0").replace("(y)", "(y, z)")
    check_rules(RULES, text, None, fired=0, declined=["a user has no weights"])


def test_a_factor_of_several_products_is_part_of_each(check_rules):
    text = """graph(%x: f32[N,S,4]) -> (a, b) {{
      @u : f32[4,3] {u}
      @v : f32[4,5] {v}
      {first}
      %1 = MatMul({x}, @u) : f32[N,S,3]
      %2 = MatMul({x}, @v) : f32[N,S,5]
      return %1, %2
    }}"""
    factor = "@k : f32[4] = [1,2,3,4] %0 = Mul(%x, @k) : f32[N,S,4]"
    check_rules(RULES, text.format(u="= random(1)", v="= random(2)", first=factor, x="%0"),
                text.format(u="", v="", first="", x="%x"), fired=1)  # fmt: skip


POOLED = """graph(%x: f32[N,4,8,8]) -> (y{names}) {{
  @c : f32[4,1,1] = {c}
  @u : f32[6,4,1,1] {weight}
  @v : f32[2,4,3,3] {weight}
  {first}
  %1 = AveragePool({x}) {{kernel_shape=[2,2], pads=[0,0,1,1]}} : f32[N,4,8,8]
  %2 = Conv(%1, @u) : f32[N,6,8,8]
  %3 = Relu({x}) : f32[N,4,8,8]
  %4 = Conv(%3, @v) {{pads=[1,1,1,1]}} : f32[N,2,8,8]
  %5 = Concat(%2, %4) {{axis=1}} : f32[N,8,8,8]
  return %5{results}
}}"""


def pooled(c: str = "[0.5,2.0,1.0,3.0]", folded: bool = False, more: bool = False) -> str:
    first, weight, x = ("", "", "%x") if folded else ("%0 = Mul(%x, @c) : f32[N,4,8,8]", "= random(1)", "%0")
    text = POOLED.format(
        c=c, first=first, weight=weight, x=x, names=", z" if more else "", results=", %1" if more else ""
    )
    return text.replace(f"@c : f32[4,1,1] = {c}", "") if folded else text


def test_a_positive_factor_goes_through_pooling_and_activations_to_every_weight(check_rules):
    check_rules(RULES, pooled(), pooled(folded=True), fired=1)


def test_a_negative_factor_does_not_go_through_an_activation(check_rules):
    check_rules(
        RULES, pooled("[0.5,-2.0,1.0,3.0]"), None, fired=0, declined=["the constant is not one number per channel"]
    )


def test_a_factor_of_a_pooled_value_that_is_an_output_stays(check_rules):
    check_rules(RULES, pooled(more=True), None, fired=0, declined=["a user has no weights"])


DENSE = """graph(%x: f32[N,4]) -> (y) {{
  @w : f32[{shape}] {w}
  @b : f32[3] {b}
  {first}
  {body}
  return %z
}}"""


def dense(body: str, shape: str = "4,3", first: str = "") -> str:
    w, b = ("= random(1)", "= random(2)") if first else ("", "")
    x = "%0" if first else "%x"
    return DENSE.format(w=w, b=b, first=first, shape=shape, body=body.replace("%0", x))


SHIFT = "@s : f32[4] = [1,-2,3,4] %0 = Add(%x, @s) : f32[N,4]"


@pytest.mark.parametrize(("attrs", "shape"), [("{transB=1}", "3,4"), ("{alpha=2.0}", "4,3")])
def test_a_summand_is_part_of_the_dense_layer_below(check_rules, attrs: str, shape: str):
    body = f"%z = Gemm(%0, @w, @b) {attrs} : f32[N,3]"
    check_rules(RULES, dense(body, shape, SHIFT), dense(body, shape), fired=1)


def test_a_summand_is_part_of_the_bias_behind_the_product_below(check_rules):
    body = "%1 = MatMul(%0, @w) : f32[N,3] %z = Add(%1, @b) : f32[N,3]"
    check_rules(RULES, dense(body, first=SHIFT), dense(body), fired=1)


def test_a_summand_in_front_of_a_product_without_bias_stays(check_rules):
    body = "%1 = MatMul(%0, @w) : f32[N,3] %z = Relu(%1) : f32[N,3]"
    check_rules([before.fold_affine_into_next], dense(body, first=SHIFT).replace("@b : f32[3] = random(2)", ""), None, fired=0,
                declined=["nothing below it takes a summand"])  # fmt: skip


NORM = """graph(%x: f32[N,S,4]) -> (y) {{
  @g : f32[4] {g}
  @w : f32[4,3] {w}
  %0 = RMSNormalization(%x, @g) {{axis=-1}} : f32[N,S,4]
  %1 = MatMul(%0, @w) : f32[N,S,3]
  {tail}
}}"""


def test_the_scale_of_a_root_mean_square_normalization_is_part_of_the_product_below(check_rules):
    text = NORM.format(g="= [1,2,3,4]", w="= random(1)", tail="return %1")
    check_rules(RULES, text, NORM.format(g="", w="", tail="return %1"), fired=1)


def test_the_scale_of_a_normalization_that_others_see_stays(check_rules):
    text = NORM.format(g="= [1,2,3,4]", w="= random(1)", tail="%2 = Add(%0, %x) : f32[N,S,4] return %1, %2")
    check_rules(RULES, text.replace("(y)", "(y, z)"), None, fired=0, declined=["a user has no weights"])


def test_the_scale_of_a_normalization_that_is_an_output_stays(check_rules):
    text = NORM.format(g="= [1,2,3,4]", w="= random(1)", tail="return %1, %0").replace("(y)", "(y, z)")
    check_rules(RULES, text, None, fired=0, declined=["a user has no weights"])
