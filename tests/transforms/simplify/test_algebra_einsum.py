"""Einsum becomes the operator that it is, and stays where that would take more nodes."""

import pytest
from tersor.transforms.simplify.algebra import einsum

RULE = [einsum.write_einsum_as_operator]


def graph(inputs: str, body: str, weights: str = "") -> str:
    return f"graph({inputs}) -> (z) {{ {weights} {body} return %0 }}"


TWO: dict[str, tuple[str, str, str, str]] = {
    "batched product": ("f32[N,h,S,4]", "f32[N,h,4,T]", "bhid,bhdj->bhij", "%0 = MatMul(%x, %y) : f32[N,h,S,T]"),
    "product with a matrix": ("f32[N,S,4]", "f32[4,T]", "bsd,de->bse", "%0 = MatMul(%x, %y) : f32[N,S,T]"),
    "product in the other order": ("f32[4,T]", "f32[N,S,4]", "de,bsd->bse", "%0 = MatMul(%y, %x) : f32[N,S,T]"),
    "product with a vector": ("f32[N,S,4]", "f32[4]", "bsd,d->bs", "%0 = MatMul(%x, %y) : f32[N,S]"),
    "elementwise product": ("f32[N,S,4]", "f32[N,S,4]", "bsd,bsd->bsd", "%0 = Mul(%x, %y) : f32[N,S,4]"),
    "product that broadcasts": ("f32[N,S,4]", "f32[4]", "bsd,d->bsd", "%0 = Mul(%x, %y) : f32[N,S,4]"),
    "implicit result": ("f32[N,4]", "f32[4,T]", "ab,bc", "%0 = MatMul(%x, %y) : f32[N,T]"),
}


@pytest.mark.parametrize("name", TWO)
def test_it_is_one_operator(check_rules, name: str):
    x, y, equation, after = TWO[name]
    inputs, result = f"%x: {x}, %y: {y}", after.rpartition(" : ")[2]
    before = f'%0 = Einsum(%x, %y) {{equation="{equation}"}} : {result}'
    check_rules(RULE, graph(inputs, before), graph(inputs, after), fired=1)


ONE: dict[str, tuple[str, str]] = {
    "transpose": ("ijk->kij", "%0 = Transpose(%x) {perm=[2,0,1]} : f32[4,N,S]"),
    "sum": ("ijk->ik", "%0 = ReduceSum(%x, i64[1]{1}) {keepdims=0} : f32[N,4]"),
    "sum of everything": ("ijk->", "%0 = ReduceSum(%x, i64[3]{0,1,2}) {keepdims=0} : f32[]"),
}


@pytest.mark.parametrize("name", ONE)
def test_of_one_operand_it_is_one_operator(check_rules, name: str):
    equation, after = ONE[name]
    before = f'%0 = Einsum(%x) {{equation="{equation}"}} : {after.rpartition(" : ")[2]}'
    check_rules(RULE, graph("%x: f32[N,S,4]", before), graph("%x: f32[N,S,4]", after), fired=1)


def test_a_constant_operand_is_transposed_for_nothing(check_rules):
    before = '%0 = Einsum(%x, @w) {equation="bsd,ed->bse"} : f32[N,S,3]'
    after = "%0 = MatMul(%x, @w) : f32[N,S,3]"
    check_rules(RULE, graph("%x: f32[N,S,4]", before, "@w : f32[3,4] = random(1)"),
                graph("%x: f32[N,S,4]", after, "@w : f32[4,3]"), fired=1)  # fmt: skip


def test_a_transpose_in_front_takes_the_one_that_is_needed(check_rules):
    text = """%t = Transpose(%y) {{perm=[0,2,1,3]}} : f32[N,h,T,4] {body}"""
    inputs = "%x: f32[N,h,S,4], %y: f32[N,T,h,4]"
    before = text.format(body='%0 = Einsum(%x, %t) {equation="bhid,bhjd->bhij"} : f32[N,h,S,T]')
    after = text.format(body="%u = Transpose(%t) {perm=[0,1,3,2]} : f32[N,h,4,T] %0 = MatMul(%x, %u) : f32[N,h,S,T]")
    check_rules(RULE, graph(inputs, before), graph(inputs, after), fired=1)


LEFT = {
    "transposes": ("f32[N,S,4]", "f32[N,T,4]", "bsd,btd->bst", "f32[N,S,T]", "it would need Transposes"),
    "several summed axes": ("f32[N,3,4]", "f32[3,4,T]", "bhd,hdt->bt", "f32[N,T]", "it is no product of two matrices"),
    "a diagonal": ("f32[4,4]", "f32[4]", "ii,i->i", "f32[4]", "its equation takes a diagonal"),
    "an ellipsis": ("f32[N,4]", "f32[4,T]", "...d,dt->...t", "f32[N,T]", "its equation has an ellipsis"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_it_stays_with_the_reason(check_rules, name: str):
    x, y, equation, result, reason = LEFT[name]
    text = graph(f"%x: {x}, %y: {y}", f'%0 = Einsum(%x, %y) {{equation="{equation}"}} : {result}')
    check_rules(RULE, text, None, fired=0, declined=[reason])


def test_it_stays_where_sizes_may_differ_and_broadcast(check_rules):
    body = """%c = Compress(%y, bool[4]{true,true,true,true}) {axis=0} : f32[M,T]
      %0 = Einsum(%x, %c) {equation="bd,dt->bt"} : f32[N,T]"""
    reason = "its operands broadcast, or their sizes are not known to agree"
    check_rules(RULE, graph("%x: f32[N,4], %y: f32[4,T]", body), None, fired=0, declined=[reason])
