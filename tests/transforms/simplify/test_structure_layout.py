"""Chains of reshapings and Transposes: what is shortened to what, what stays, shared and output interiors."""

import pytest
from tersor.transforms.simplify.structure.layout import compose_layout

RULES = [compose_layout]


def one(body: str, inputs: str = "%x: f32[N,4,6]", outputs: str = "y") -> str:
    return f"graph({inputs}) -> ({outputs}) {{ {body} }}"


COMPOSED = {
    "two Transposes": (
        "%x: f32[N,4,6]",
        "%a = Transpose(%x) {perm=[2,0,1]} : f32[6,N,4] %b = Transpose(%a) {perm=[1,0,2]} : f32[N,6,4] return %b",
        "%b = Transpose(%x) {perm=[0,2,1]} : f32[N,6,4] return %b",
    ),
    "a Transpose and its inverse": (
        "%x: f32[N,4,6]",
        "%a = Transpose(%x) {perm=[2,0,1]} : f32[6,N,4] %b = Transpose(%a) {perm=[1,2,0]} : f32[N,4,6] %c = Neg(%b) : f32[N,4,6] return %c",
        "%c = Neg(%x) : f32[N,4,6] return %c",
    ),
    "a Squeeze and its inverse": (
        "%x: f32[N,1,6]",
        "%a = Squeeze(%x, i64[1]{1}) : f32[N,6] %b = Unsqueeze(%a, i64[1]{1}) : f32[N,1,6] %c = Neg(%b) : f32[N,1,6] return %c",
        "%c = Neg(%x) : f32[N,1,6] return %c",
    ),
    "two Unsqueezes": (
        "%x: f32[N,M]",
        "%a = Unsqueeze(%x, i64[1]{1}) : f32[N,1,M] %b = Unsqueeze(%a, i64[2]{0,4}) : f32[1,N,1,M,1] return %b",
        "%b = Unsqueeze(%x, i64[3]{0,2,4}) : f32[1,N,1,M,1] return %b",
    ),
    "a Reshape of what Flatten made": (
        "%x: f32[N,4,6]",
        "%a = Flatten(%x) {axis=1} : f32[N,24] %b = Reshape(%a, i64[3]{-1,6,4}) : f32[N,6,4] return %b",
        "%b = Reshape(%x, i64[3]{-1,6,4}) : f32[N,6,4] return %b",
    ),
    "a Transpose that moves an axis of size 1": (
        "%x: f32[N,1,6]",
        "%a = Transpose(%x) {perm=[1,0,2]} : f32[1,N,6] return %a",
        "%a = Reshape(%x, i64[3]{1,-1,6}) : f32[1,N,6] return %a",
    ),
    "the last two axes transposed on a flattened batch": (
        "%x: f32[N,S,2,3]",
        """%t = Transpose(%x) {perm=[0,2,1,3]} : f32[N,2,S,3] %s = Shape(%x) : i64[4]
           %n = Slice(%s, i64[1]{0}, i64[1]{1}) : i64[1] %l = Slice(%s, i64[1]{1}, i64[1]{2}) : i64[1]
           %p = Concat(i64[1]{-1}, %l, i64[1]{3}) {axis=0} : i64[3] %a = Reshape(%t, %p) : f32[2*N,S,3]
           %b = Transpose(%a) {perm=[0,2,1]} : f32[2*N,3,S]
           %q = Concat(%n, i64[1]{2}, i64[1]{3}, %l) {axis=0} : i64[4] %c = Reshape(%b, %q) : f32[N,2,3,S] return %c""",
        "%c = Transpose(%x) {perm=[0,2,3,1]} : f32[N,2,3,S] return %c",
    ),
    "windows taken apart and joined": (
        "%x: f32[N,4,6,5]",
        """%a = Reshape(%x, i64[6]{-1,2,2,3,2,5}) : f32[N,2,2,3,2,5] %b = Transpose(%a) {perm=[0,1,3,2,4,5]} : f32[N,2,3,2,2,5]
           %c = Reshape(%b, i64[3]{-1,4,5}) : f32[6*N,4,5] %d = Reshape(%c, i64[6]{-1,2,3,2,2,5}) : f32[N,2,3,2,2,5]
           %e = Transpose(%d) {perm=[0,1,3,2,4,5]} : f32[N,2,2,3,2,5] %f = Reshape(%e, i64[4]{-1,4,6,5}) : f32[N,4,6,5]
           %g = Neg(%f) : f32[N,4,6,5] return %g""",
        "%g = Neg(%x) : f32[N,4,6,5] return %g",
    ),
    "heads split after a flattening": (
        "%x: f32[2,N,12]",
        """%a = Reshape(%x, i64[2]{-1,12}) : f32[2*N,12] %b = Reshape(%a, i64[4]{2,-1,3,4}) : f32[2,N,3,4]
           %c = Transpose(%b) {perm=[0,2,1,3]} : f32[2,3,N,4] return %c""",
        """%b = Reshape(%x, i64[4]{2,-1,3,4}) : f32[2,N,3,4] %c = Transpose(%b) {perm=[0,2,1,3]} : f32[2,3,N,4] return %c""",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPOSED)
def test_a_chain_is_shortened(check_rules, name: str):
    inputs, before, after = COMPOSED[name]
    check_rules(RULES, one(before, inputs), one(after, inputs))


def test_a_chain_whose_interior_others_use_is_followed_past_it_where_that_costs_nothing(check_rules):
    body = "%a = Transpose(%x) {perm=[2,0,1]} : f32[6,N,4] %b = Transpose(%a) {perm=[1,0,2]} : f32[N,6,4] "
    after = "%a = Transpose(%x) {perm=[2,0,1]} : f32[6,N,4] %b = Transpose(%x) {perm=[0,2,1]} : f32[N,6,4] "
    for rest in ("%c = Neg(%a) : f32[6,N,4] return %b, %c", "return %b, %a"):
        check_rules(RULES, one(body + rest, outputs="y, z"), one(after + rest, outputs="y, z"), fired=1)


LEFT = {
    "an interior others use and two nodes to replace one": (
        "%x: f32[N,4,6]",
        "%a = Reshape(%x, i64[3]{-1,2,12}) : f32[N,2,12] %b = Transpose(%a) {perm=[1,0,2]} : f32[2,N,12] return %b, %a",
    ),
    "a Transpose": ("%x: f32[N,4,6]", "%a = Transpose(%x) {perm=[0,2,1]} : f32[N,6,4] return %a, %x"),
    "sizes that are not known": (
        "%x: f32[N,M]",
        "%a = Reshape(%x, i64[2]{2,-1}) : f32[2,K] %b = Transpose(%a) {perm=[1,0]} : f32[K,2] return %b, %x",
    ),
    "a tensor without elements": (
        "%x: f32[0,4]",
        "%a = Reshape(%x, i64[2]{4,0}) {allowzero=1} : f32[4,0] %b = Transpose(%a) {perm=[1,0]} : f32[0,4] return %b, %x",
    ),
    "two unknown sizes that no node has as a shape": (
        "%x: f32[N,M,1,2]",
        "%a = Transpose(%x) {perm=[2,0,1,3]} : f32[1,N,M,2] return %a, %x",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_it_is_left(check_rules, name: str):
    inputs, body = LEFT[name]
    check_rules(RULES, one(body, inputs, "y, z"), None, fired=0, declined=["no shorter chain does the same"])
