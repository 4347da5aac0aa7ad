"""Affine operations folded into weights: each rule fires, declines with its reason, and respects shared and output
interiors.
"""

import pytest
from tersor.transforms.simplify.algebra import affine

CONV = """graph(%x: f32[N,3,8,8]) -> (y) {{
  @w : f32[4,3,3,3] = random(1)
  @g : f32[4] = [1.5,0.5,-1.0,2.0]
  @t : f32[4] = [0.1,0.2,0.3,0.4]
  @m : f32[4] = [0.5,-0.5,0.25,0.0]
  @v : f32[4] = [1.0,2.0,0.5,4.0]
  @c : {constant} = random(5)
  %a = Conv(%x, @w) {{pads=[1,1,1,1]}} : f32[N,4,8,8]
  {body}
}}"""

FOLDED = """graph(%x: f32[N,3,8,8]) -> (y) {
  @w : f32[4,3,3,3]
  @b : f32[4]
  %a = Conv(%x, @w, @b) {pads=[1,1,1,1]} : f32[N,4,8,8]
  return %a
}"""


def conv(body: str, constant: str = "f32[4,1,1]") -> str:
    return CONV.format(body=body, constant=constant)


BATCHNORM = "%b = BatchNormalization(%a, @g, @t, @m, @v) {epsilon=0.001} : f32[N,4,8,8] "


def test_batchnorm_folds_into_the_convolution_before_it(check_rules):
    check_rules([affine.fold_batchnorm_into_linear], conv(BATCHNORM + "return %b"), FOLDED, fired=1)


def test_batchnorm_in_training_mode_stays(check_rules):
    text = conv(BATCHNORM.replace("{eps", "{training_mode=1, eps").replace("%b =", "%b, %mean, %var =").replace(
        ": f32[N,4,8,8]", ": f32[N,4,8,8], f32[4], f32[4]") + "return %b")  # fmt: skip
    check_rules([affine.fold_batchnorm_into_linear], text, None, declined=["it normalises with the batch's statistics"])


def test_batchnorm_of_a_convolution_that_others_use_stays(check_rules):
    check_rules(
        [affine.fold_batchnorm_into_linear],
        conv(BATCHNORM + "%d = Add(%a, %b) : f32[N,4,8,8] return %d"),
        None,
        fired=0,
    )


def test_batchnorm_of_a_convolution_that_is_an_output_stays(check_rules):
    text = conv(BATCHNORM + "return %b, %a").replace("-> (y)", "-> (y, z)")
    check_rules([affine.fold_batchnorm_into_linear], text, None, fired=0)


@pytest.mark.parametrize("constant", ["f32[4,1,1]", "f32[1,4,1,1]", "f32[]", "f32[1]"])
def test_a_factor_per_channel_folds_into_the_weight(check_rules, constant: str):
    text = conv("%b = Mul(%a, @c) : f32[N,4,8,8] return %b", constant)
    after = FOLDED.replace("@b : f32[4]\n", "").replace(", @b", "")
    check_rules([affine.fold_scale_into_linear], text, after, fired=1)


def test_a_factor_that_varies_over_positions_stays(check_rules):
    text = conv("%b = Mul(%a, @c) : f32[N,4,8,8] return %b", "f32[8,8]")
    check_rules([affine.fold_scale_into_linear], text, None, declined=["the constant is not one number per channel"])


def test_a_factor_of_a_shared_convolution_stays(check_rules):
    check_rules(
        [affine.fold_scale_into_linear],
        conv("%b = Mul(%a, @c) : f32[N,4,8,8] %d = Add(%a, %b) : f32[N,4,8,8] return %d"),
        None,
    )


def test_a_factor_of_an_output_stays(check_rules):
    text = conv("%b = Mul(%a, @c) : f32[N,4,8,8] return %b, %a").replace("-> (y)", "-> (y, z)")
    check_rules([affine.fold_scale_into_linear], text, None, fired=0)


def test_a_summand_per_channel_becomes_the_bias(check_rules):
    check_rules([affine.fold_shift_into_linear], conv("%b = Add(@c, %a) : f32[N,4,8,8] return %b"), FOLDED, fired=1)


def test_a_summand_that_varies_over_columns_stays(check_rules):
    text = conv("%b = Add(%a, @c) : f32[N,4,8,8] return %b", "f32[8]")
    check_rules([affine.fold_shift_into_linear], text, None, declined=["the constant is not one number per channel"])


def test_a_summand_of_a_shared_convolution_stays(check_rules):
    check_rules(
        [affine.fold_shift_into_linear],
        conv("%b = Add(%a, @c) : f32[N,4,8,8] %d = Mul(%a, %b) : f32[N,4,8,8] return %d"),
        None,
    )


def test_a_summand_of_an_output_stays(check_rules):
    text = conv("%b = Add(%a, @c) : f32[N,4,8,8] return %b, %a").replace("-> (y)", "-> (y, z)")
    check_rules([affine.fold_shift_into_linear], text, None, fired=0)


def test_a_chain_of_affine_operations_becomes_one_convolution(check_rules):
    body = BATCHNORM + "%d = Mul(%b, @c) : f32[N,4,8,8] %e = Add(%d, @c) : f32[N,4,8,8] return %e"
    check_rules(affine.RULES, conv(body), FOLDED, fired=3)


def test_the_bias_that_is_there_is_scaled_too(check_rules):
    text = conv(BATCHNORM + "return %b").replace("Conv(%x, @w)", "Conv(%x, @w, @t)")
    check_rules([affine.fold_batchnorm_into_linear], text, FOLDED, fired=1)


TRANSPOSED = """graph(%x: f32[2,4,5,5]) -> (y) {{
  @w : f32[4,{per_group},3,3] = random(1)
  @g : f32[6] = random(2)
  @t : f32[6] = random(3)
  @m : f32[6] = random(4)
  @v : f32[6] = [1,2,3,4,5,6]
  %a = ConvTranspose(%x, @w) {{group={group}}} : f32[2,6,7,7]
  %b = BatchNormalization(%a, @g, @t, @m, @v) : f32[2,6,7,7]
  return %b
}}"""


def test_batchnorm_folds_into_a_transposed_convolution(check_rules):
    after = """graph(%x: f32[2,4,5,5]) -> (y) {
      @w : f32[4,6,3,3]
      @b : f32[6]
      %a = ConvTranspose(%x, @w, @b) {group=1} : f32[2,6,7,7]
      return %a
    }"""
    check_rules([affine.fold_batchnorm_into_linear], TRANSPOSED.format(group=1, per_group=6), after, fired=1)


def test_batchnorm_folds_into_a_grouped_transposed_convolution(check_rules):
    after = """graph(%x: f32[2,4,5,5]) -> (y) {
      @w : f32[4,3,3,3]
      @b : f32[6]
      %a = ConvTranspose(%x, @w, @b) {group=2} : f32[2,6,7,7]
      return %a
    }"""
    check_rules([affine.fold_batchnorm_into_linear], TRANSPOSED.format(group=2, per_group=3), after, fired=1)


DENSE = """graph(%x: f32[N,5]) -> (y) {{
  @w : f32[{shape}] = random(1)
  @c : f32[3] = random(6)
  @g : f32[3] = random(2)
  @t : f32[3] = random(3)
  @m : f32[3] = random(4)
  @v : f32[3] = [1,2,3]
  {body}
  %z = BatchNormalization(%a, @g, @t, @m, @v) : f32[N,3]
  return %z
}}"""


@pytest.mark.parametrize(("shape", "attrs"), [("3,5", "{transB=1}"), ("5,3", "")])
def test_batchnorm_folds_into_a_dense_layer(check_rules, shape: str, attrs: str):
    after = f"graph(%x: f32[N,5]) -> (y) {{ @w : f32[{shape}] @b : f32[3] %a = Gemm(%x, @w, @b) {attrs} : f32[N,3] return %a }}"
    text = DENSE.format(shape=shape, body=f"%a = Gemm(%x, @w, @c) {attrs} : f32[N,3]")
    check_rules([affine.fold_batchnorm_into_linear], text, after, fired=1)


def test_batchnorm_folds_into_a_dense_layer_with_a_scaled_product_and_bias(check_rules):
    after = "graph(%x: f32[N,5]) -> (y) { @w : f32[5,3] @b : f32[3] %a = Gemm(%x, @w, @b) {alpha=2.0} : f32[N,3] return %a }"
    text = DENSE.format(shape="5,3", body="%a = Gemm(%x, @w, @c) {alpha=2.0, beta=0.5} : f32[N,3]")
    check_rules([affine.fold_batchnorm_into_linear], text, after, fired=1)


def test_batchnorm_after_a_dense_layer_with_a_computed_bias_stays(check_rules):
    text = DENSE.format(shape="5,3", body="%a = Gemm(%x, @w, %c) : f32[N,3]").replace("@c : f32[3] = random(6)", "")
    check_rules(
        [affine.fold_batchnorm_into_linear], text.replace("f32[N,5])", "f32[N,5], %c: f32[3])"), None,
        declined=["its bias is not one constant per channel"],
    )  # fmt: skip


@pytest.mark.parametrize("bias", [False, True])
def test_batchnorm_folds_into_a_matrix_product(check_rules, bias: bool):
    body = "%p = MatMul(%x, @w) : f32[N,3] %a = Add(%p, @c) : f32[N,3]" if bias else "%a = MatMul(%x, @w) : f32[N,3]"
    after = "graph(%x: f32[N,5]) -> (y) { @w : f32[5,3] @b : f32[3] %p = MatMul(%x, @w) : f32[N,3] %a = Add(%p, @b) : f32[N,3] return %a }"
    check_rules([affine.fold_batchnorm_into_linear], DENSE.format(shape="5,3", body=body), after, fired=1)


def test_batchnorm_after_a_product_of_cubes_stays(check_rules):
    text = """graph(%x: f32[2,3,5]) -> (y) {
      @w : f32[5,4] = random(1)
      @g : f32[3] = random(2)
      @v : f32[3] = [1,2,3]
      %a = MatMul(%x, @w) : f32[2,3,4]
      %b = BatchNormalization(%a, @g, @g, @g, @v) : f32[2,3,4]
      return %b
    }"""
    check_rules([affine.fold_batchnorm_into_linear], text, None, declined=["nothing above it has weights"])


@pytest.mark.parametrize(("names", "results"), [("(y)", "%y2"), ("(y, z)", "%z, %a")])
def test_batchnorm_after_a_product_that_others_use_stays(check_rules, names: str, results: str):
    text = DENSE.format(shape="5,3", body="%a = MatMul(%x, @w) : f32[N,3]").replace("-> (y)", f"-> {names}")
    tail = "%y2 = Add(%a, %z) : f32[N,3] " if "%y2" in results else ""
    check_rules(
        [affine.fold_batchnorm_into_linear], text.replace("return %z", f"{tail}return {results}"), None, fired=0
    )


def test_a_constant_that_gives_a_number_an_axis_keeps_it(check_rules):
    before = """graph(%x: f32[], %y: f32[]) -> (z) {
      %a = Add(%y, f32[1]{2}) : f32[1]
      %b = Sub(%x, %a) : f32[1]
      %z = Add(%b, f32[1]{3}) : f32[1]
      return %z }"""
    after = """graph(%x: f32[], %y: f32[]) -> (z) {
      %a = Add(%y, f32[1]{-1}) : f32[1]
      %b = Sub(%x, %a) : f32[1]
      return %b }"""
    check_rules([affine.fold_shift_into_linear], before, after, fired=1)
