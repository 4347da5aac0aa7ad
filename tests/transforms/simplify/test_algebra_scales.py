"""The scale of Attention is part of a projection."""

import pytest
from tersor.transforms.simplify.algebra import scales

RULE = [scales.fold_attention_scale]

TEXT = """graph(%x: f32[N,S,8], %m: f32[N,S,8]) -> (y{names}) {{
  @w : f32[8,8] {w}
  %q = MatMul(%x, @w) : f32[N,S,8]
  %k = Relu(%m) : f32[N,S,8]
  %0 = Attention({operands}) {{q_num_heads=2, kv_num_heads=2{scale}}} : f32[N,S,8]
  return {results}
}}"""


def text(scale: str = "", operands: str = "%q, %k, %m", w: str = "= random(1)", more: bool = False) -> str:
    return TEXT.format(
        scale=scale, operands=operands, w=w, names=", z" if more else "", results="%0, %q" if more else "%0"
    )


@pytest.mark.parametrize("scale", ["", ", scale=0.3"])
@pytest.mark.parametrize("operands", ["%q, %k, %m", "%k, %q, %m"])
def test_it_is_part_of_the_queries_or_the_keys(check_rules, scale: str, operands: str):
    check_rules(RULE, text(scale, operands), text(", scale=1.0", operands, w=""), fired=1)


def test_a_scale_of_one_stays(check_rules):
    check_rules(RULE, text(", scale=1.0"), None, fired=0, declined=["its scale is 1"])


def test_queries_and_keys_without_weights_keep_it(check_rules):
    check_rules(RULE, text(", scale=0.3", "%m, %k, %q"), None, fired=0, declined=["nothing above it has weights"])


@pytest.mark.parametrize(("operands", "more"), [("%q, %m, %q", False), ("%q, %m, %m", True)])
def test_queries_that_others_see_keep_it(check_rules, operands: str, more: bool):
    check_rules(RULE, text(", scale=0.3", operands, more=more), None, fired=0)


def test_keys_beside_those_of_earlier_calls_keep_it(check_rules):
    """Earlier keys come without the scale, and the next call is given the new ones without it."""
    body = """graph(%q: f32[N,2,S,8], %x: f32[N,2,S,8], %v: f32[N,2,S,8], %p: f32[N,2,P,8], %o: f32[N,2,P,8]) -> (y, a, b) {
      @w : f32[8,8] = random(1)
      %k = MatMul(%x, @w) : f32[N,2,S,8]
      %y, %a, %b = Attention(%q, %k, %v, _, %p, %o) {scale=0.3}
      return %y, %a, %b
    }"""
    check_rules(RULE, body, None, fired=0, declined=["nothing above it has weights"])
