"""Heads around an attention: repeated keys and values are shared, packed projections stay packed; what is left and why."""

from __future__ import annotations

import pytest
from tersor.ir import Model, parse
from tersor.transforms.base import Context
from tersor.transforms.manager import run_passes
from tersor.transforms.simplify import Simplify
from tersor.transforms.simplify.raising.heads import pack_heads, share_repeated_heads

SHARED = ("%q: f32[B,6,S,8]", "%k: f32[B,2,S,8]", "%v: f32[B,2,S,8]")
GROUPED = "%y = Attention(%q, %k, %v) {scale=0.5} : f32[B,6,S,8]"


def graph(body: str, operands: tuple[str, ...], outputs: str = "y", end: str = "return %y") -> str:
    return f"graph({', '.join(operands)}) -> ({outputs}) {{ {body} {end} }}"


def repeat(x: str) -> str:
    """%x as %x2 with three copies of each head, by Expand."""
    return f"""%{x}u = Unsqueeze(%{x}, i64[1]{{2}}) : f32[B,2,1,S,8]
        %{x}e = Expand(%{x}u, i64[5]{{1,1,3,1,1}}) : f32[B,2,3,S,8]
        %{x}2 = Reshape(%{x}e, i64[4]{{0,6,-1,8}}) : f32[B,6,S,8]"""


def repeat_by_concat(x: str) -> str:
    return repeat(x).replace(f"Expand(%{x}u, i64[5]{{1,1,3,1,1}})", f"Concat(%{x}u, %{x}u, %{x}u) {{axis=2}}")


def repeat_by_gather(x: str) -> str:
    return f"%{x}2 = Gather(%{x}, i64[6]{{0,0,0,1,1,1}}) {{axis=1}} : f32[B,6,S,8]"


def attended(q: str = "%q", k: str = "%k2", v: str = "%v2") -> str:
    return f"%y = Attention({q}, {k}, {v}) {{scale=0.5}} : f32[B,6,S,8]"


@pytest.mark.parametrize("by", [repeat, repeat_by_concat])
def test_repeated_keys_and_values_are_shared(check_rules, by):
    after = """%ku = Unsqueeze(%k, i64[1]{2}) : f32[B,2,1,S,8] %vu = Unsqueeze(%v, i64[1]{2}) : f32[B,2,1,S,8]
        %a = Squeeze(%ku, i64[1]{2}) : f32[B,2,S,8] %b = Squeeze(%vu, i64[1]{2}) : f32[B,2,S,8]"""
    before = f"{by('k')} {by('v')} {attended()}"
    check_rules(
        [share_repeated_heads], graph(before, SHARED), graph(f"{after} {attended('%q', '%a', '%b')}", SHARED), fired=1
    )


def test_keys_and_values_of_gathered_heads_are_shared(check_rules):
    before = f"{repeat_by_gather('k')} {repeat_by_gather('v')} {attended()}"
    check_rules([share_repeated_heads], graph(before, SHARED), graph(GROUPED, SHARED), fired=1)


def test_the_only_head_is_shared_by_all(check_rules):
    operands = (SHARED[0], "%k: f32[B,1,S,8]", "%v: f32[B,1,S,8]")
    copies = " ".join(f"%{x}2 = Expand(%{x}, i64[4]{{1,6,1,1}}) : f32[B,6,S,8]" for x in "kv")
    check_rules([share_repeated_heads], graph(f"{copies} {attended()}", operands), graph(GROUPED, operands), fired=1)


@pytest.mark.parametrize("end", ["return %y, %k2", "%z = Neg(%k2) : f32[B,6,S,8] return %y, %z"])
def test_repeated_keys_that_others_need_stay_for_them(check_rules, end: str):
    before = f"{repeat_by_gather('k')} {repeat_by_gather('v')} {attended()}"
    after = f"{repeat_by_gather('k')} {GROUPED}"
    check_rules([share_repeated_heads], graph(before, SHARED, "y, z", end), graph(after, SHARED, "y, z", end), fired=1)


NOT_REPEATED = {
    "heads in turn": (f"{repeat_by_gather('k')} {repeat_by_gather('v')}".replace("0,0,0,1,1,1", "0,1,0,1,0,1"),
        "its keys and values are not repeated"),
    "values alone": ("%k2 = Concat(%k, %k, %k) {axis=1} : f32[B,6,S,8] " + repeat("v"), "its keys and values are not repeated"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_REPEATED)
def test_other_keys_are_left_with_the_reason(check_rules, name: str):
    body, reason = NOT_REPEATED[name]
    check_rules([share_repeated_heads], graph(f"{body} {attended()}", SHARED), None, fired=0, declined=[reason])


PACKED = ("%q: f32[B,S,16]", "%k: f32[B,T,16]", "%v: f32[B,T,16]")


def split(x: str, length: str, heads: int = 2, made: str = "") -> str:
    return f"""%{x}r = Reshape(%{made or x}, i64[4]{{0,0,{heads},8}}) : f32[B,{length},{heads},8]
        %{x}h = Transpose(%{x}r) {{perm=[0,2,1,3]}} : f32[B,{heads},{length},8]"""


def core(q: str = "%qh", k: str = "%kh", v: str = "%vh", more: str = "", shape: str = "i64[3]{0,0,16}") -> str:
    return f"""%a = Attention({q}, {k}, {v}{more}) {{scale=0.5}} : f32[B,2,S,8]
        %t = Transpose(%a) {{perm=[0,2,1,3]}} : f32[B,S,2,8] %y = Reshape(%t, {shape}) : f32[B,S,16]"""


SPLITS = f"{split('q', 'S')} {split('k', 'T')} {split('v', 'T')}"
ATTENTION = "%y = Attention(%q, %k, %v) {scale=0.5, q_num_heads=2, kv_num_heads=2} : f32[B,S,16]"


@pytest.mark.parametrize("shape", ["i64[3]{0,0,16}", "i64[3]{0,0,-1}"])
def test_packed_projections_stay_packed(check_rules, shape: str):
    check_rules([pack_heads], graph(f"{SPLITS} {core(shape=shape)}", PACKED), graph(ATTENTION, PACKED), fired=1)


def test_a_mask_stays(check_rules):
    operands = (*PACKED, "%m: f32[B,1,S,T]")
    after = ATTENTION.replace("%v)", "%v, %m)")
    check_rules([pack_heads], graph(f"{SPLITS} {core(more=', %m')}", operands), graph(after, operands), fired=1)


def test_shared_keys_stay_shared(check_rules):
    operands = ("%q: f32[B,S,32]", *PACKED[1:])
    before = f"{split('q', 'S', 4)} {split('k', 'T')} {split('v', 'T')} {core(shape='i64[3]{0,0,32}')}"
    before = before.replace(
        "%a = Attention(%qh, %kh, %vh) {scale=0.5} : f32[B,2,S,8]",
        "%a = Attention(%qh, %kh, %vh) {scale=0.5} : f32[B,4,S,8]",
    )
    before = before.replace("f32[B,S,2,8] %y", "f32[B,S,4,8] %y").replace(": f32[B,S,16]", ": f32[B,S,32]")
    after = ATTENTION.replace("q_num_heads=2, kv", "q_num_heads=4, kv").replace("f32[B,S,16]", "f32[B,S,32]")
    check_rules([pack_heads], graph(before, operands), graph(after, operands), fired=1)


def test_the_result_of_another_shape_is_reshaped_alone(check_rules):
    before = f"{SPLITS} {core(shape='i64[2]{-1,16}')}".replace("%y = Reshape(%t, i64[2]{-1,16}) : f32[B,S,16]",
                                                             "%y = Reshape(%t, i64[2]{-1,16}) : f32[B*S,16]")  # fmt: skip
    after = ATTENTION.replace("%y =", "%z =") + " %y = Reshape(%z, i64[2]{-1,16}) : f32[B*S,16]"
    check_rules([pack_heads], graph(before, PACKED), graph(after, PACKED), fired=1)


def test_rotated_heads_are_packed(check_rules):
    operands = ("%q: f32[B,S,16]", "%k: f32[B,S,16]", "%v: f32[B,S,16]", "%c: f32[B,S,4]", "%d: f32[B,S,4]")
    turned = " ".join(f"%{x}t = RotaryEmbedding(%{x}h, %c, %d) : f32[B,2,S,8]" for x in "qk")
    before = f"{SPLITS.replace('T,', 'S,')} {turned} {core('%qt', '%kt')}"
    after = """%qt = RotaryEmbedding(%q, %c, %d) {num_heads=2} : f32[B,S,16]
        %kt = RotaryEmbedding(%k, %c, %d) {num_heads=2} : f32[B,S,16] """ + ATTENTION.replace("%q, %k", "%qt, %kt")
    check_rules([pack_heads], graph(before, operands), graph(after, operands), fired=1)


KEPT = (*PACKED, "%e: f32[B,2,P,8]", "%f: f32[B,2,P,8]")
STEP = "%y, %u, %w = Attention(%q, %k, %v, _, %e, %f) {scale=0.5, q_num_heads=2, kv_num_heads=2}"
STEP += " : f32[B,S,16], f32[B,2,P+T,8], f32[B,2,P+T,8]"


def cached() -> str:
    """With keys and values of earlier calls, and all of them as %u and %w."""
    made = core(more=", _, %e, %f").replace("%a =", "%a, %u, %w =")
    return f"{SPLITS} {made.replace('f32[B,2,S,8]', 'f32[B,2,S,8], f32[B,2,P+T,8], f32[B,2,P+T,8]', 1)}"


def test_a_cache_stays_by_heads(check_rules):
    end = "return %y, %u, %w"
    before, after = (graph(text, KEPT, "y, u, w", end) for text in (cached(), STEP))
    check_rules([pack_heads], before, after, fired=1)


def test_a_cache_that_others_need_at_once_keeps_its_heads(check_rules):
    end = "%n = Neg(%u) : f32[B,2,P+T,8] return %y, %u, %w, %n"
    text = graph(cached(), KEPT, "y, u, w, n", end)
    check_rules([pack_heads], text, None, fired=0, declined=["the attention has other users"])


PARTS = "%p0, %p1, %p2 = Split(%x, i64[3]{16,16,16}) {axis=2} : f32[B,S,16], f32[B,S,16], f32[B,S,16]"
ONE = PARTS + " " + ATTENTION.replace("%q, %k, %v", "%p0, %p1, %p2")
STACKED = """%w = Reshape(%x, i64[5]{0,0,3,2,8}) : f32[B,S,3,2,8]
    %h = Transpose(%w) {perm=[2,0,3,1,4]} : f32[3,B,2,S,8]"""
TOGETHER: dict[str, str] = {
    "entries of an axis in front": STACKED + " ".join(
        f"%{x}h = Gather(%h, i64[]{{{i}}}) {{axis=0}} : f32[B,2,S,8]" for i, x in enumerate("qkv")),
    "slices of an axis in front": STACKED + " ".join(
        f"""%{x}s = Slice(%h, i64[1]{{{i}}}, i64[1]{{{i + 1}}}, i64[1]{{0}}) : f32[1,B,2,S,8]
            %{x}h = Squeeze(%{x}s, i64[1]{{0}}) : f32[B,2,S,8]""" for i, x in enumerate("qkv")),
    "parts of an axis in front": STACKED + """
        %s0, %s1, %s2 = Split(%h, i64[3]{1,1,1}) {axis=0} : f32[1,B,2,S,8], f32[1,B,2,S,8], f32[1,B,2,S,8] """ + " ".join(
        f"%{x}h = Squeeze(%s{i}, i64[1]{{0}}) : f32[B,2,S,8]" for i, x in enumerate("qkv")),
    "parts of the heads": """%w = Reshape(%x, i64[4]{0,0,6,8}) : f32[B,S,6,8]
        %h = Transpose(%w) {perm=[0,2,1,3]} : f32[B,6,S,8]
        %qh, %kh, %vh = Split(%h, i64[3]{2,2,2}) {axis=1} : f32[B,2,S,8], f32[B,2,S,8], f32[B,2,S,8]""",
    "parts of the heads as a product wants its keys": """%w = Reshape(%x, i64[4]{0,0,6,8}) : f32[B,S,6,8]
        %h = Transpose(%w) {perm=[0,2,3,1]} : f32[B,6,8,S]
        %qt, %kt, %vt = Split(%h, i64[3]{2,2,2}) {axis=1} : f32[B,2,8,S], f32[B,2,8,S], f32[B,2,8,S] """ + " ".join(
        f"%{x}h = Transpose(%{x}t) {{perm=[0,1,3,2]}} : f32[B,2,S,8]" for x in "qkv"),
}  # fmt: skip


@pytest.mark.parametrize("name", TOGETHER)
def test_parts_of_one_projection_are_split_while_packed(check_rules, name: str):
    operands = ("%x: f32[B,S,48]",)
    check_rules([pack_heads], graph(f"{TOGETHER[name]} {core()}", operands), graph(ONE, operands), fired=1)


PACK_LEFT: dict[str, tuple[str, str]] = {
    "keys that something was done to": (SPLITS.replace("%kh = Transpose(%kr) {perm=[0,2,1,3]}", "%kt = Transpose(%kr) {perm=[0,2,1,3]} : f32[B,2,T,8] %kh = Neg(%kt)"),
        "queries, keys or values are not packed before it"),
    "heads that were not packed": (SPLITS.replace("%vh = Transpose(%vr) {perm=[0,2,1,3]}", "%vh = Reshape(%vr, i64[4]{0,2,-1,8})"),
        "queries, keys or values are not packed before it"),
    "a result with its heads elsewhere": (SPLITS, "its heads do not come last behind it"),
}  # fmt: skip


def test_heads_behind_an_axis_of_size_1_are_not_taken_for_more_heads(check_rules):
    splits = """%w = Reshape(%x, i64[5]{0,1,4,6,8}) : f32[B,1,4,6,8] %h = Transpose(%w) {perm=[0,1,3,2,4]} : f32[B,1,6,4,8]
        %u = Squeeze(%h, i64[1]{1}) : f32[B,6,4,8]
        %qh, %kh, %vh = Split(%u, i64[3]{2,2,2}) {axis=1} : f32[B,2,4,8], f32[B,2,4,8], f32[B,2,4,8]"""
    body = graph(f"{splits} {core().replace('S', '4')}", ("%x: f32[B,4,48]",))
    reason = "queries, keys or values are not packed before it"
    check_rules([pack_heads], body, None, fired=0, declined=[reason])


@pytest.mark.parametrize("name", PACK_LEFT)
def test_other_heads_are_left_with_the_reason(check_rules, name: str):
    splits, reason = PACK_LEFT[name]
    body = f"{splits} {core()}"
    if "elsewhere" in name:
        body = body.replace(
            "%t = Transpose(%a) {perm=[0,2,1,3]} : f32[B,S,2,8]", "%t = Transpose(%a) {perm=[0,2,3,1]} : f32[B,2,8,S]"
        )
        body = body.replace(
            "%y = Reshape(%t, i64[3]{0,0,16}) : f32[B,S,16]", "%y = Reshape(%t, i64[3]{0,16,-1}) : f32[B,16,S]"
        )
    check_rules([pack_heads], graph(body, PACKED), None, fired=0, declined=[reason])


@pytest.mark.parametrize(
    ("interior", "type_", "reason"),
    [("%a", "f32[B,2,S,8]", "the attention has other users"), ("%t", "f32[B,S,2,8]", "its heads do not come last behind it")],
)  # fmt: skip
@pytest.mark.parametrize("end", ["return %y, {0}", "%z = Neg({0}) : {1} return %y, %z"])
def test_results_that_others_need_are_left(check_rules, interior: str, type_: str, reason: str, end: str):
    text = graph(f"{SPLITS} {core()}", PACKED, "y, z", end.format(interior, type_))
    check_rules([pack_heads], text, None, fired=0, declined=[reason])


def test_split_heads_that_others_need_stay_for_them(check_rules):
    end = "%z = Neg(%qh) : f32[B,2,S,8] return %y, %z"
    before = graph(f"{SPLITS} {core()}", PACKED, "y, z", end)
    check_rules([pack_heads], before, graph(f"{split('q', 'S')} {ATTENTION}", PACKED, "y, z", end), fired=1)


def test_parts_of_a_projection_that_a_later_attention_took_first_serve_an_earlier_one_too():
    """Heads that share keys are recognized late, when plain ones behind them are packed already."""
    blocks = ""
    for block, heads in (("a", 4), ("b", 2)):
        keys = ""
        for x, count in (("q", heads), ("k", 2), ("v", 2)):
            keys += f"""%{block}{x}0 = MatMul(%x, @{block}{x}) : f32[B,6,{2 * count}]
              %{block}{x}1 = Reshape(%{block}{x}0, i64[4]{{0,6,{count},2}}) : f32[B,6,{count},2]
              %{block}{x}2 = Transpose(%{block}{x}1) {{perm=[0,2,1,3]}} : f32[B,{count},6,2]
            """
            if x != "q" and heads > count:
                keys += f"""%{block}{x}3 = Unsqueeze(%{block}{x}2, i64[1]{{2}}) : f32[B,2,1,6,2]
                  %{block}{x}4 = Expand(%{block}{x}3, i64[5]{{1,2,2,6,2}}) : f32[B,2,2,6,2]
                  %{block}{x}2r = Reshape(%{block}{x}4, i64[4]{{0,4,6,2}}) : f32[B,4,6,2]
                """
        r = "r" if heads > 2 else ""
        blocks += f"""{keys} %{block}t = Transpose(%{block}k2{r}) {{perm=[0,1,3,2]}} : f32[B,{heads},2,6]
          %{block}s = MatMul(%{block}q2, %{block}t) : f32[B,{heads},6,6]
          %{block}m = Mul(%{block}s, f32[]{{0.70710677}}) : f32[B,{heads},6,6]
          %{block}p = Softmax(%{block}m) {{axis=-1}} : f32[B,{heads},6,6]
          %{block}o = MatMul(%{block}p, %{block}v2{r}) : f32[B,{heads},6,2]
          %{block}u = Transpose(%{block}o) {{perm=[0,2,1,3]}} : f32[B,6,{heads},2]
          %{block} = Reshape(%{block}u, i64[3]{{0,6,{2 * heads}}}) : f32[B,6,{2 * heads}]
        """
    weights = " ".join(
        f"@{block}{x} : f32[8,{2 * (heads if x == 'q' else 2)}] = random({seed})"
        for seed, (block, heads, x) in enumerate((b, h, x) for b, h in (("a", 4), ("b", 2)) for x in "qkv")
    )
    model = Model(parse(f"graph(%x: f32[B,6,8]) -> (a, b) {{ {weights} {blocks} return %a, %b }}"))
    (step,) = run_passes(model, [Simplify()], Context())
    assert step.parity is not None
    assert step.parity.passed
    assert [node.op for node in model.graph].count("Attention") == 2
    assert [node.op for node in model.graph].count("Split") == 1
