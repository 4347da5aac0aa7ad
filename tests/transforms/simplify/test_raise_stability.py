"""What simplify raises and the backend writes out for an older opset is raised again: a second run finds the same graph."""

from __future__ import annotations

from collections import Counter

import pytest
from tersor.backends.compare import compare
from tersor.backends.onnx import to_proto
from tersor.backends.runners import OrtRunner, ReferenceRunner, synthesize
from tersor.frontends.onnx import fallback, load
from tersor.ir import Graph, Model, parse
from tersor.ir.inference import infer
from tersor.transforms.base import Context
from tersor.transforms.simplify import Simplify

PACKED = "%q: f32[N,S,32], %k: f32[N,T,32], %v: f32[N,T,32]"
SHARING = "%q: f32[N,S,32], %k: f32[N,T,16], %v: f32[N,T,16]"
LAYOUTS = {
    "packed heads": (PACKED, "q_num_heads=4, kv_num_heads=4"),
    "packed heads that share keys": (SHARING, "q_num_heads=4, kv_num_heads=2"),
    "heads": ("%q: f32[N,4,S,8], %k: f32[N,4,T,8], %v: f32[N,4,T,8]", ""),
    "heads that share keys": ("%q: f32[N,4,S,8], %k: f32[N,2,T,8], %v: f32[N,2,T,8]", ""),
    "heads that share one key": ("%q: f32[N,4,S,8], %k: f32[N,1,T,8], %v: f32[N,1,T,8]", ""),
}
MASKS = {
    "no mask": ("", "", ""),
    "numbers": (", %m: f32[N,1,S,T]", ", %m", ""),
    "booleans": (", %m: bool[N,1,S,T]", ", %m", ""),
    "booleans for all samples": (", %m: bool[S,T]", ", %m", "scale=1.0"),
    "numbers for each head": (", %m: f32[N,4,S,T]", ", %m", ""),
    "capped scores": (", %m: bool[N,1,S,T]", ", %m", "softcap=5.0"),
    "later keys hidden": ("", "", "is_causal=1"),
    "later keys and others hidden": (", %m: bool[N,1,S,T]", ", %m", "is_causal=1"),
    "later keys hidden beside numbers": (", %m: f32[N,1,S,T]", ", %m", "is_causal=1"),
}


def attention(layout: str, mask: str) -> str:
    (operands, heads), (more, given, attrs) = LAYOUTS[layout], MASKS[mask]
    attributes = ", ".join(text for text in (heads, attrs) if text)
    return f"graph({operands}{more}) -> (y) {{ %y = Attention(%q, %k, %v{given}) {{{attributes}}} return %y }}"


def halves(text: str) -> str:
    return text.replace("f32", "f16")


def known(text: str) -> str:
    return text.replace("S", "5").replace("T", "6")


def cached(mask: str, heads: int) -> str:
    """Keys and values of earlier calls in front of the new ones."""
    more, given, attrs = MASKS[mask]
    keys = f", %x: f32[N,{heads},P,8], %z: f32[N,{heads},P,8]"
    operands = f"%q: f32[N,4,S,8], %k: f32[N,{heads},T,8], %v: f32[N,{heads},T,8]{more.replace('T]', 'P+T]')}{keys}"
    made = f"%y, %a, %b = Attention(%q, %k, %v{given or ', _'}, %x, %z) {{{attrs}}}"
    return f"graph({operands}) -> (y, a, b) {{ {made} return %y, %a, %b }}"


ATTENTIONS = {f"{layout}, {mask}": attention(layout, mask) for layout in LAYOUTS for mask in MASKS} | {
    f"{layout}, {mask}, half precision": halves(attention(layout, mask))
    for layout in ("packed heads that share keys", "heads")
    for mask in ("numbers", "booleans", "later keys hidden")
} | {
    f"{heads} heads with a cache, {mask}": cached(mask, heads)
    for heads in (2, 4)
    for mask in ("no mask", "numbers", "booleans for all samples", "later keys hidden", "later keys and others hidden")
} | {
    "later keys hidden beside bounded numbers": """graph(%q: f32[N,4,S,8], %k: f32[N,4,S,8], %v: f32[N,4,S,8], %b: i8[N,1,S,S])
        -> (y) { %m = Cast(%b) {to=1} %y = Attention(%q, %k, %v, %m) {is_causal=1} return %y }""",
    "known sizes": known(attention("packed heads that share keys", "numbers for each head"))}  # fmt: skip

TABLE = "%c: f32[N,S,4], %s: f32[N,S,4]"
ROTATIONS = {
    "heads": ("%x: f32[N,3,S,8]", ""),
    "packed heads": ("%x: f32[N,S,24]", "num_heads=3"),
    "neighbours": ("%x: f32[N,3,S,8]", "interleaved=1"),
    "packed neighbours": ("%x: f32[N,S,24]", "num_heads=3, interleaved=1"),
    "some features": ("%x: f32[N,3,S,12]", "rotary_embedding_dim=8"),
    "some features of packed heads": ("%x: f32[N,S,36]", "num_heads=3, rotary_embedding_dim=8"),
    "some neighbours": ("%x: f32[N,3,S,12]", "rotary_embedding_dim=8, interleaved=1"),
}


def alone(name: str) -> str:
    operand, attrs = ROTATIONS[name]
    return f"graph({operand}, {TABLE}) -> (y) {{ %y = RotaryEmbedding(%x, %c, %s) {{{attrs}}} return %y }}"


def broadcast(name: str) -> str:
    """The same with tables for all samples."""
    wide = """%n = Shape(%x) {start=0, end=1} %e = Concat(%n, i64[2]{1,1}) {axis=0}
        %cw = Expand(%c, %e) %sw = Expand(%s, %e)"""
    text = alone(name).replace("[N,S,4]", "[1,S,4]").replace("(%x, %c, %s)", "(%x, %cw, %sw)")
    return text.replace("{ %y", f"{{ {wide} %y", 1)


def positioned(name: str) -> str:
    tables = "@c : f32[9,4] = random(1) @s : f32[9,4] = random(2)"
    text = (
        alone(name)
        .replace("S,", "7,")
        .replace(TABLE.replace("S", "7"), "%p: i64[N,7]")
        .replace("(%x, %c, %s)", "(%x, @c, @s, %p)")
    )
    return text.replace("{ %y", f"{{ {tables} %y", 1)


def together(operands: str, shared: int, attrs: str, before: str = "") -> str:
    """Queries and keys of one attention that are rotated alike."""
    first, second = (", ".join([f"num_heads={n}", *([attrs] if attrs else [])]) for n in (4, shared))
    table = TABLE.replace(",4]", ",2]") if "rotary_embedding_dim" in attrs else TABLE
    return f"""graph({operands}, {table}) -> (y) {{ {before}
        %a = RotaryEmbedding(%q, %c, %s) {{{first}}} %b = RotaryEmbedding(%k, %c, %s) {{{second}}}
        %y = Attention(%a, %b, %v) {{q_num_heads=4, kv_num_heads={shared}}} return %y }}""".replace("T,", "S,")


PARTS = "%q, %k, %v = Split(%x, i64[3]{32,16,16}) {axis=-1}"
TURNED = {
    **{f"{name} rotated": alone(name) for name in ROTATIONS},
    **{f"{name} rotated by tables for all samples": broadcast(name) for name in ("heads", "packed neighbours")},
    **{f"{name} rotated by positions": positioned(name) for name in ("heads", "some neighbours")},
    "heads rotated together": together(PACKED, 4, ""),
    "heads that share keys rotated together": together(SHARING, 2, ""),
    "neighbours rotated together": together(SHARING, 2, "interleaved=1"),
    "some features rotated together": together(SHARING, 2, "rotary_embedding_dim=4"),
    "parts of one projection rotated together": together("%x: f32[N,S,64]", 2, "", PARTS),
    "neighbours in one projection rotated together": together("%x: f32[N,S,64]", 2, "interleaved=1", PARTS),
}


def stepping(shared: int, before: str = "", operands: str = "") -> str:
    """Queries and new keys that are rotated alike, behind those of earlier calls."""
    operands = operands or f"%q: f32[N,S,32], %k: f32[N,S,{8 * shared}], %v: f32[N,S,{8 * shared}]"
    return f"""graph({operands}, %e: f32[N,{shared},P,8], %f: f32[N,{shared},P,8], {TABLE}) -> (y, g, h) {{ {before}
        %a = RotaryEmbedding(%q, %c, %s) {{num_heads=4}} %b = RotaryEmbedding(%k, %c, %s) {{num_heads={shared}}}
        %y, %g, %h = Attention(%a, %b, %v, _, %e, %f) {{q_num_heads=4, kv_num_heads={shared}, is_causal=1}}
        return %y, %g, %h }}"""


TURNED |= {
    "heads rotated together behind a cache": stepping(4),
    "heads that share keys rotated together behind a cache": stepping(2),
    "parts of one projection rotated together behind a cache": stepping(2, PARTS, "%x: f32[N,S,64]"),
}

CHANNELS = "@w : f32[6] = random(1) @b : f32[6] = random(2)"
OTHERS = {
    "gelu": "Gelu(%x)",
    "gelu by tanh": 'Gelu(%x) {approximate="tanh"}',
    "swish": "Swish(%x)",
    "scaled swish": "Swish(%x) {alpha=1.702}",
    "hard swish": "HardSwish(%x)",
    "mish": "Mish(%x)",
    "rms norm": "RMSNormalization(%x, @last) {axis=-1, epsilon=1e-06}",
    "layer norm": "LayerNormalization(%x, @last, @last) {axis=-1, epsilon=1e-05}",
    "group norm": "GroupNormalization(%x, @w, @b) {num_groups=3, epsilon=1e-05}",
    "group norm without scale": "GroupNormalization(%x, f32[6]{1,1,1,1,1,1}, @b) {num_groups=2, epsilon=1e-05}",
    "pixels from channels": 'DepthToSpace(%d) {blocksize=2, mode="CRD"}',
    "softplus": "Softplus(%x)",
}
ELSEWHERE = {
    name: f"graph(%x: f32[N,6,5,4], %d: f32[N,8,H,W]) -> (y) {{ {CHANNELS} @last : f32[4] = random(3) %y = {operator} return %y }}"
    for name, operator in OTHERS.items()
}  # fmt: skip
OPSETS = {"gelu": 16, "pixels from channels": 10}
"""The lowest opset at which something is written, where that is not 13."""

ALL = ATTENTIONS | TURNED | ELSEWHERE


def simplified(model: Model) -> Model:
    Simplify().run(model, Context(fallback=fallback))
    return model


def operators(graph: Graph) -> Counter[str]:
    return Counter(node.op for node in graph.walk())


@pytest.mark.parametrize("name", ALL)
def test_a_second_run_leaves_the_same_operators(name: str):
    graph = parse(ALL[name])
    infer(graph)
    first = simplified(Model(graph))
    file = to_proto(first, OPSETS.get(name, 17 if name in ATTENTIONS else 13))
    second = simplified(load(file))
    assert operators(second.graph) == operators(first.graph)
    again = to_proto(second, OPSETS.get(name, 17 if name in ATTENTIONS else 13))
    assert len(again.graph.node) <= len(file.graph.node)


COMPUTED = [
    "packed heads that share keys, booleans",
    "heads that share keys, numbers for each head",
    "heads that share one key, capped scores",
    "heads, numbers",
    "heads that share keys, later keys and others hidden",
    "2 heads with a cache, later keys and others hidden",
    "4 heads with a cache, later keys hidden",
    "4 heads with a cache, numbers",
    "heads that share keys rotated together behind a cache",
    "parts of one projection rotated together behind a cache",
    "some neighbours rotated",
    "packed neighbours rotated by tables for all samples",
    "heads rotated by positions",
    "some features rotated together",
    "neighbours in one projection rotated together",
]


@pytest.mark.parametrize("name", COMPUTED)
def test_what_is_raised_again_computes_the_same(name: str):
    graph = parse(ALL[name])
    infer(graph)
    model = Model(graph)
    feeds = synthesize(graph, count=1, seed=7)[0]
    expected = ReferenceRunner(model).run(feeds)
    again = simplified(load(to_proto(simplified(model), 17)))
    for found in (
        ReferenceRunner(again).run(feeds),
        OrtRunner(again).run(feeds),
        OrtRunner(again, opset=17).run(feeds),
    ):
        for output, array in expected.items():
            assert compare(array, found[output]).max_error <= 1e-5
