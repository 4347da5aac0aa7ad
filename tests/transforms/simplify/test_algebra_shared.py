"""Weights that are used in two forms are not held twice, so that a file does not grow."""

from tersor.transforms.base import Context
from tersor.transforms.simplify import Simplify

TIED = """graph(%i: i64[N,S]) -> (y) {{
  @e : f32[400,64] = random(1)
  @w : f32[64,64] = random(2)
  %0 = Gather(@e, %i) {{axis=0}} : f32[N,S,64]
  %1 = MatMul(%0, @w) : f32[N,S,64]
  %t = Transpose({table}) {{perm=[1,0]}} : f32[64,400]
  %2 = MatMul(%1, %t) : f32[N,S,400]
  return %2
}}"""


def test_a_table_that_a_lookup_and_a_product_share_is_transposed_at_run_time(model):
    tied = model(TIED.format(table="@e"))
    Simplify().run(tied, Context())
    assert sorted(str(c.tensor.shape) for c in tied.graph.constants()) == ["(400, 64)", "(64, 64)"]


def test_a_table_that_only_constants_use_is_transposed_at_once(model):
    apart = model(TIED.format(table="@f").replace("@w :", "@f : f32[400,64] = random(3) @w :"))
    Simplify().run(apart, Context())
    assert "Transpose" not in [node.op for node in apart.graph]


def test_what_constants_compute_of_a_weight_is_folded_however_often_they_use_it(model):
    weight = """graph(%x: f32[N,128]) -> (y) {
      @w : f32[200,128] = random(1)
      %m = ReduceMean(@w, i64[1]{1}) : f32[200,1]
      %c = Sub(@w, %m) : f32[200,128]
      %s = Mul(%c, %c) : f32[200,128]
      %v = ReduceMean(%s, i64[1]{1}) : f32[200,1]
      %d = Sqrt(%v) : f32[200,1]
      %n = Div(%c, %d) : f32[200,128]
      %y = Gemm(%x, %n) {transB=1} : f32[N,200]
      return %y
    }"""
    standardised = model(weight)
    Simplify().run(standardised, Context())
    assert [node.op for node in standardised.graph] == ["Gemm"]
