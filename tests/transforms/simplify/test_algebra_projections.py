"""Projections of one input become one operator and a Split, where that makes fewer nodes."""

import pytest
from tersor.transforms.simplify.algebra import projections

RULE = [projections.merge_projections]

WEIGHTS = """
  @q : f32[6,4] = random(1)
  @k : f32[6,2] = random(2)
  @v : f32[6,2] = random(3)
  @a : f32[4] = random(4)
  @b : f32[2] = random(5)
"""

MERGED = """
  @w : f32[6,8]
  %p = MatMul(%x, @w) : f32[N,S,8]
  %1, %2, %3 = Split(%p, i64[3]{4,2,2}) {axis=-1} : f32[N,S,4], f32[N,S,2], f32[N,S,2]
"""

PLAIN = """
  %1 = MatMul(%x, @q) : f32[N,S,4]
  %2 = MatMul(%x, @k) : f32[N,S,2]
  %3 = MatMul(%x, @v) : f32[N,S,2]
"""

BIASED = """
  %0 = MatMul(%x, @q) : f32[N,S,4]
  %1 = Add(%0, @a) : f32[N,S,4]
  %4 = MatMul(%x, @k) : f32[N,S,2]
  %2 = Add(@b, %4) : f32[N,S,2]
"""


def graph(body: str, results: str = "%1, %2, %3", names: str = "a, b, c") -> str:
    return f"graph(%x: f32[N,S,6]) -> ({names}) {{ {body} return {results} }}"


def test_three_products_of_one_input_become_one(check_rules):
    check_rules(RULE, graph(WEIGHTS + PLAIN), graph(MERGED), fired=1)


def test_two_products_stay_because_a_split_would_not_make_fewer_nodes(check_rules):
    body = WEIGHTS + "%1 = MatMul(%x, @q) : f32[N,S,4] %2 = MatMul(%x, @k) : f32[N,S,2]"
    check_rules(RULE, graph(body, "%1, %2", "a, b"), None, declined=["merging does not make fewer nodes"])


def test_two_products_with_biases_become_one_with_its_bias(check_rules):
    after = """
      @w : f32[6,6]
      @c : f32[6]
      %p = MatMul(%x, @w) : f32[N,S,6]
      %s = Add(%p, @c) : f32[N,S,6]
      %1, %2 = Split(%s, i64[2]{4,2}) {axis=-1} : f32[N,S,4], f32[N,S,2]
    """
    check_rules(RULE, graph(WEIGHTS + BIASED, "%1, %2", "a, b"), graph(after, "%1, %2", "a, b"), fired=1)


def test_a_product_whose_bias_others_go_round_counts_as_one_without(check_rules):
    check_rules(
        RULE, graph(WEIGHTS + BIASED, "%1, %2, %4"), None, fired=0, declined=["merging does not make fewer nodes"]
    )


def test_weights_that_are_used_elsewhere_are_not_doubled(check_rules):
    body = (
        WEIGHTS.replace("[6,2]", "[6,2048]")
        + """
      %1 = MatMul(%x, @k) : f32[N,S,2048]
      %2 = MatMul(%x, @k) : f32[N,S,2048]
      %3 = MatMul(%x, @v) : f32[N,S,2048]
    """
    )
    check_rules(RULE, graph(body), None, fired=0, declined=["its weight is used elsewhere too"])


def test_products_of_different_inputs_stay(check_rules):
    body = WEIGHTS + "%y = Neg(%x) : f32[N,S,6]" + PLAIN.replace("MatMul(%x, @v)", "MatMul(%y, @v)")
    check_rules(RULE, graph(body), None, fired=0)


def test_dense_layers_of_another_form_stay(check_rules):
    weights = "@u : f32[6,4] = random(1) @v : f32[4,6] = random(2) @w : f32[6,4] = random(3)"
    body = """
      %0 = Gemm(%x, @u) : f32[N,4]
      %1 = Gemm(%x, @v) {transB=1} : f32[N,4]
      %2 = Gemm(%x, @w) {alpha=2.0} : f32[N,4]
      return %0, %1, %2
    """
    text = f"graph(%x: f32[N,6]) -> (a, b, c) {{ {weights} {body} }}"
    check_rules(RULE, text, None, fired=0, declined=["merging does not make fewer nodes"])


def test_a_dense_layer_without_bias_gets_zeros(check_rules):
    weights = "@u : f32[6,4] = random(1) @v : f32[6,2] = random(2) @w : f32[6,3] = random(3) @b : f32[2] = random(4)"
    body = """
      %0 = Gemm(%x, @u) : f32[N,4]
      %1 = Gemm(%x, @v, @b) : f32[N,2]
      %2 = Gemm(%x, @w) : f32[N,3]
      return %0, %1, %2
    """
    after = """
      @w : f32[6,9]
      @b : f32[9]
      %p = Gemm(%x, @w, @b) : f32[N,9]
      %0, %1, %2 = Split(%p, i64[3]{4,2,3}) {axis=-1} : f32[N,4], f32[N,2], f32[N,3]
      return %0, %1, %2
    """
    head = "graph(%x: f32[N,6]) -> (a, b, c)"
    check_rules(RULE, f"{head} {{ {weights} {body} }}", f"{head} {{ {after} }}", fired=1)


@pytest.mark.parametrize("transposed", [0, 1])
def test_dense_layers_become_one(check_rules, transposed: int):
    shapes = [(4, 6), (2, 6), (3, 6)] if transposed else [(6, 4), (6, 2), (6, 3)]
    weights = "".join(f"@w{i} : f32[{a},{b}] = random({i}) " for i, (a, b) in enumerate(shapes))
    attrs = f"{{transB={transposed}}}"
    nodes = "".join(f"%{i} = Gemm(%x, @w{i}) {attrs} : f32[N,{n}] " for i, n in enumerate((4, 2, 3)))
    merged = "f32[9,6]" if transposed else "f32[6,9]"
    after = f"@w : {merged} %p = Gemm(%x, @w) {attrs} : f32[N,9] %0, %1, %2 = Split(%p, i64[3]{{4,2,3}}) {{axis=-1}} : f32[N,4], f32[N,2], f32[N,3]"
    tail = "return %0, %1, %2 }"
    head = "graph(%x: f32[N,6]) -> (a, b, c) { "
    check_rules(RULE, f"{head}{weights}{nodes}{tail}", f"{head}{after} {tail}", fired=1)


def test_users_of_the_branches_stay_behind_the_merged_operator(check_rules):
    body = """
      %1 = MatMul(%x, @q) : f32[N,S,4]
      %r = Relu(%1) : f32[N,S,4]
      %2 = MatMul(%x, @k) : f32[N,S,2]
      %3 = MatMul(%x, @v) : f32[N,S,2]
    """
    after = MERGED + "%r = Relu(%1) : f32[N,S,4]"
    check_rules(RULE, graph(WEIGHTS + body, "%r, %2, %3"), graph(after, "%r, %2, %3"), fired=1)
