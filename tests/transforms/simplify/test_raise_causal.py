"""Masks that hide later keys, and keys and values of earlier calls: in which forms they are the Attention's own, what is
left and why.
"""

from __future__ import annotations

import pytest
from tersor.transforms.simplify.raising.caching import raise_cache
from tersor.transforms.simplify.raising.causal import raise_causal

OPERANDS = ("%q: f32[B,2,S,8]", "%k: f32[B,2,S,8]", "%v: f32[B,2,S,8]")
COUNTED = """%n = Shape(%q) {start=2, end=3} : i64[1] %c = Squeeze(%n, i64[1]{0}) : i64[]
    %r = Range(i64[]{0}, %c, i64[]{1}) : i64[S] %u = Unsqueeze(%r, i64[1]{1}) : i64[S,1]"""
SEEN = f"{COUNTED} %m = LessOrEqual(%r, %u) : bool[S,S]"
ATTENDED = "%y = Attention(%q, %k, %v, %m) {scale=0.5} : f32[B,2,S,8]"
CAUSAL = "%y = Attention(%q, %k, %v) {scale=0.5, is_causal=1} : f32[B,2,S,8]"


def graph(
    body: str, *more: str, operands: tuple[str, ...] = OPERANDS, outputs: str = "y", end: str = "return %y"
) -> str:
    return f"graph({', '.join((*operands, *more))}) -> ({outputs}) {{ {body} {end} }}"


def filled(number: str, type_: str, upper: int, diagonal: int) -> str:
    """A triangle of one number."""
    return f"""%n = Shape(%q) {{start=2, end=3}} : i64[1] %e = Concat(%n, %n) {{axis=0}} : i64[2]
        %f = Expand({number}, %e) : {type_}[S,S] %m = Trilu(%f, i64[]{{{diagonal}}}) {{upper={upper}}} : {type_}[S,S]"""


FORMS = {
    "keys at most at the place of the query": SEEN,
    "queries at least at the place of the key": f"{COUNTED} %m = GreaterOrEqual(%u, %r) : bool[S,S]",
    "keys that are not behind": f"{COUNTED} %l = Greater(%r, %u) : bool[S,S] %m = Not(%l) : bool[S,S]",
    "queries that are not before": f"{COUNTED} %l = Less(%u, %r) : bool[S,S] %m = Not(%l) : bool[S,S]",
    "axes for samples and heads": f"{SEEN.replace('%m', '%o')} %m = Unsqueeze(%o, i64[2]{{0,1}}) : bool[1,1,S,S]",
    "numbers": f"{SEEN.replace('%m', '%o')} %m = Where(%o, f32[]{{0.0}}, f32[]{{-1.7e+38}}) : f32[S,S]",
    "numbers for later keys": (
        f"{COUNTED} %o = Less(%u, %r) : bool[S,S] %m = Where(%o, f32[]{{-inf}}, f32[]{{0.0}}) : f32[S,S]"),
    "a lower triangle of truth": filled("bool[]{true}", "bool", 0, 0),
    "a lower triangle of ones": filled("f32[]{1.0}", "f32", 0, 0).replace("%m", "%o") + "%m = Cast(%o) {to=9} : bool[S,S]",
    "an upper triangle of minus infinity": filled("f32[]{-inf}", "f32", 1, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_a_mask_of_later_keys_is_the_attentions(check_rules, name: str):
    check_rules([raise_causal], graph(f"{FORMS[name]} {ATTENDED}"), graph(CAUSAL), fired=1)


CONSTANT = tuple(text.replace("S", "3") for text in OPERANDS)


@pytest.mark.parametrize(
    "mask",
    ["bool[3,3]{true,false,false,true,true,false,true,true,true}",
     "f32[1,1,3,3]{0.0,-inf,-inf,0.0,0.0,-inf,0.0,0.0,0.0}",
     "f32[3,3]{0.0,-1e+38,-3e+38,0.0,0.0,-1e+38,0.0,0.0,0.0}"],
)  # fmt: skip
def test_a_constant_triangle_is_the_attentions(check_rules, mask: str):
    body, after = (text.replace("S", "3") for text in (ATTENDED.replace("%m", mask), CAUSAL))
    check_rules([raise_causal], graph(body, operands=CONSTANT), graph(after, operands=CONSTANT), fired=1)


BESIDE: dict[str, tuple[str, str, str]] = {
    "booleans": (
        "%b: bool[B,1,S,S]", f"{SEEN.replace('%m', '%o')} %m = And(%o, %b) : bool[B,1,S,S]", ""),
    "numbers": (
        "%b: f32[B,1,S,S]", f"{SEEN.replace('%m', '%o')} %m = Where(%o, %b, f32[]{{-inf}}) : f32[B,1,S,S]", ""),
    "bounded numbers, and a large penalty": (
        "%b: i8[B,1,S,S]",
        f"%f = Cast(%b) {{to=1}} : f32[B,1,S,S] {SEEN.replace('%m', '%o')} %p = Where(%o, f32[]{{0.0}}, f32[]{{-1.7e+38}}) : f32[S,S] %m = Add(%f, %p) : f32[B,1,S,S]",
        "%f = Cast(%b) {to=1} : f32[B,1,S,S]"),
}  # fmt: skip


@pytest.mark.parametrize("name", BESIDE)
def test_what_is_masked_besides_stays_the_mask(check_rules, name: str):
    operand, body, before = BESIDE[name]
    rest = "%f" if before else "%b"
    after = f"{before} {CAUSAL.replace('%v)', f'%v, {rest})')}"
    check_rules([raise_causal], graph(f"{body} {ATTENDED}", operand), graph(after, operand), fired=1)


EARLIER = ("%q: f32[B,2,S,8]", "%k: f32[B,2,S,8]", "%v: f32[B,2,S,8]", "%x: f32[B,2,P,8]", "%z: f32[B,2,P,8]")
PLACES = """%n = Shape(%q) {start=2, end=3} : i64[1] %c = Squeeze(%n, i64[1]{0}) : i64[]
    %i = Shape(%x) {start=2, end=3} : i64[1] %p = Squeeze(%i, i64[1]{0}) : i64[] %t = Add(%c, %p) : i64[]
    %r = Range(i64[]{0}, %t, i64[]{1}) : i64[P+S]"""
AFTER = {
    "counted from them on": "%j = Range(%p, %t, i64[]{1}) : i64[S] %u = Unsqueeze(%j, i64[1]{1}) : i64[S,1]",
    "moved by their number": """%h = Range(i64[]{0}, %c, i64[]{1}) : i64[S] %g = Unsqueeze(%h, i64[1]{1}) : i64[S,1]
        %u = Add(%g, %p) : i64[S,1]""",
}
CACHED = "%y, %a, %b = Attention(%q, %k, %v, %m, %x, %z) {scale=0.5} : f32[B,2,S,8], f32[B,2,P+S,8], f32[B,2,P+S,8]"


@pytest.mark.parametrize("name", AFTER)
def test_queries_come_behind_the_keys_of_earlier_calls(check_rules, name: str):
    end = "return %y, %a, %b"
    body = f"{PLACES} {AFTER[name]} %m = LessOrEqual(%r, %u) : bool[S,P+S] {CACHED}"
    after = CACHED.replace("%m,", "_,").replace("{scale=0.5}", "{scale=0.5, is_causal=1}")
    check_rules(
        [raise_causal],
        graph(body, operands=EARLIER, outputs="y, a, b", end=end),
        graph(after, operands=EARLIER, outputs="y, a, b", end=end),
        fired=1,
    )


UNKNOWN = "its mask is not known to hide later keys"
LEFT: dict[str, tuple[str, tuple[str, ...], str]] = {
    "earlier keys": (SEEN.replace("LessOrEqual(%r, %u)", "GreaterOrEqual(%r, %u)"), (), UNKNOWN),
    "the key of the same place": (SEEN.replace("LessOrEqual", "Less"), (), UNKNOWN),
    "places counted from 1": (SEEN.replace("Range(i64[]{0}, %c,", "%d = Add(%c, i64[]{1}) : i64[] %r = Range(i64[]{1}, %d,").replace("%r = %d", "%d"), (), UNKNOWN),
    "a small penalty": (FORMS["numbers"].replace("-1.7e+38", "-9.0"), (), UNKNOWN),
    "numbers without bounds, and a large penalty": (BESIDE["numbers"][1].replace("-inf", "-1.7e+38"), ("%b: f32[B,1,S,S]",), UNKNOWN),
    "booleans for all queries and fewer keys": (
        BESIDE["booleans"][1], ("%b: bool[B,1,1,1]",), "what is masked besides is not known to be as long as the keys"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_other_masks_are_left_with_the_reason(check_rules, name: str):
    body, more, reason = LEFT[name]
    check_rules([raise_causal], graph(f"{body} {ATTENDED}", *more), None, fired=0, declined=[reason])


@pytest.mark.parametrize("end", ["return %y, %m", "%z = Not(%m) : bool[S,S] return %y, %z"])
def test_a_mask_that_others_need_is_left(check_rules, end: str):
    reason = "what hides later keys is needed elsewhere"
    text = graph(f"{SEEN} {ATTENDED}", outputs="y, z", end=end)
    check_rules([raise_causal], text, None, fired=0, declined=[reason])


# Keys and values of earlier calls

JOINED = "%a = Concat(%x, %k) {axis=2} : f32[B,2,P+S,8] %b = Concat(%z, %v) {axis=-2} : f32[B,2,P+S,8]"
OVER = "%y = Attention(%q, %a, %b, %m) {scale=0.5} : f32[B,2,S,8]"
SUM = "%m: f32[B,1,S,P+S]"


def kept(body: str, end: str = "return %y, %a, %b", outputs: str = "y, a, b", *more: str) -> str:
    operands = (*EARLIER, *more)
    if "%m" in body:
        width = "%w = Shape(%q) {start=2, end=3} : i64[1] %o = Shape(%x) {start=2, end=3} : i64[1]"
        width += " %s = Add(%w, %o) : i64[1] %l = Concat(%w, %s) {axis=0} : i64[2]"
        body = f"{width} %m = Expand(%d, %l) : f32[S,P+S] {body}"
        operands = (*operands, "%d: f32[S,1]")
    return graph(body, operands=operands, outputs=outputs, end=end)


@pytest.mark.parametrize("mask", [", %m", ""])
def test_earlier_keys_and_values_that_are_given_back_with_new_ones_are_a_cache(check_rules, mask: str):
    after = CACHED.replace(", %m,", ", %m," if mask else ", _,")
    check_rules([raise_cache], kept(f"{JOINED} {OVER.replace(', %m', mask)}"), kept(after), fired=1)


NOT_KEPT = "they are not given back, or needed for more than that"
NO_CACHE = {
    "nobody keeps them": (kept(f"{JOINED} {OVER}", "return %y", "y"), NOT_KEPT),
    "keys alone are kept": (kept(f"{JOINED} {OVER}", "return %y, %a", "y, a"), NOT_KEPT),
    "keys are needed elsewhere": (
        kept(f"{JOINED} {OVER} %f = Neg(%a) : f32[B,2,P+S,8]", "return %y, %a, %b, %f", "y, a, b, f"), NOT_KEPT),
    "new ones come first": (
        kept(f"{JOINED} {OVER}".replace("Concat(%x, %k)", "Concat(%x, %k, %k)").replace("Concat(%z, %v)", "Concat(%z, %v, %v)").replace(", %m", "").replace("P+S", "P+2*S")),
        "its keys and values are not earlier ones with new ones behind them"),
    "later keys are hidden by their place": (
        kept(f"{JOINED} {OVER.replace('scale', 'is_causal=1, scale').replace(', %m', '')}"),
        "what a query sees depends on its place, which a cache moves"),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_CACHE)
def test_what_is_no_cache_is_left_with_the_reason(check_rules, name: str):
    text, reason = NO_CACHE[name]
    check_rules([raise_cache], text, None, fired=0, declined=[reason])
