"""Attention and rotary positions written out for older opsets: exact in every case, in the fewest nodes, masks once."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from tersor.backends.compare import compare
from tersor.backends.onnx import to_proto
from tersor.backends.runners import OrtRunner, ReferenceRunner
from tersor.frontends.onnx import load
from tersor.ir import Model, parse
from tersor.ir.inference import infer

FOUR = "%q: f32[B,4,S,8], %k: f32[B,4,T,8], %v: f32[B,4,T,6]"
GROUPED = "%q: f32[B,4,S,8], %k: f32[B,2,T,8], %v: f32[B,2,T,6]"
ONE_HEAD = "%q: f32[B,4,S,8], %k: f32[B,1,T,8], %v: f32[B,1,T,6]"
PACKED = "%q: f32[B,S,32], %k: f32[B,T,32], %v: f32[B,T,24]"
PACKED_GROUPED = "%q: f32[B,S,32], %k: f32[B,T,16], %v: f32[B,T,12]"
SIZES = {"B": 2, "S": 4, "T": 5}


def model(text: str) -> Model:
    graph = parse(text)
    infer(graph)
    return Model(graph)


def text(operands: str, masks: str = "", attrs: str = "scale=0.3") -> str:
    packed = "B,S," in operands
    if packed:
        kept = 2 if "16]" in operands else 4
        attrs = f"q_num_heads=4, kv_num_heads={kept}, {attrs}"
    more = f", {masks}" if masks else ""
    used = f", {masks.split(':', maxsplit=1)[0]}" if masks else ""
    shape = "f32[B,S,24]" if packed else "f32[B,4,S,6]"
    return f"graph({operands}{more}) -> (y) {{ %y = Attention(%q, %k, %v{used}) {{{attrs}}} : {shape} return %y }}"


def feeds_of(subject: Model, **given: np.ndarray) -> dict[str, np.ndarray]:
    """Random inputs; booleans and minus infinities hide the second row entirely and much of the rest."""
    random, out = np.random.default_rng(0), dict[str, np.ndarray]()
    for value in subject.graph.inputs:
        if value.name in given:
            out[value.name] = given[value.name]
            continue
        shape = tuple(d if isinstance(d, int) else SIZES.get(str(d), 4) for d in value.shape or ())
        array = random.standard_normal(shape).astype(np.float32)
        if value.name in ("m", "b"):
            seen = random.random(shape) > 0.4
            seen[..., 1 if shape[-2] > 1 else 0, :] = False
            array = seen if value.name == "b" else np.where(seen, array, -np.inf).astype(np.float32)
        out[value.name] = array
    return out


def counts(proto: object) -> Counter[str]:
    return Counter(node.op_type for node in proto.graph.node)  # pyright: ignore[reportAttributeAccessIssue]


LAYOUTS = {
    "by heads": FOUR,
    "grouped": GROUPED,
    "one head": ONE_HEAD,
    "packed": PACKED,
    "packed grouped": PACKED_GROUPED,
}
MASKS = {
    "none": ("", ""),
    "booleans": ("%b: bool[B,1,S,T]", ""),
    "booleans of rank 2": ("%b: bool[S,T]", ""),
    "booleans per head": ("%b: bool[B,4,S,T]", ""),
    "booleans for all queries": ("%b: bool[B,1,1,T]", ""),
    "numbers": ("%m: f32[B,1,S,T]", ""),
    "numbers per head without a batch": ("%m: f32[4,S,T]", ""),
    "causal": ("", "is_causal=1"),
    "causal booleans": ("%b: bool[B,1,S,T]", "is_causal=1"),
    "causal numbers": ("%m: f32[S,T]", "is_causal=1"),
    "window": ("", "left_window_size=1, right_window_size=1"),
    "causal window with booleans": ("%b: bool[S,T]", "is_causal=1, left_window_size=2"),
    "soft cap": ("%m: f32[S,T]", "softcap=2.0"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mask", MASKS)
def test_what_is_written_computes_what_the_operator_means(layout: str, mask: str) -> None:
    operand, attrs = MASKS[mask]
    subject = model(text(LAYOUTS[layout], operand, ", ".join(filter(None, ("scale=0.3", attrs)))))
    feeds = feeds_of(subject)
    reference = ReferenceRunner(subject).run(feeds)["y"]
    assert np.isfinite(reference).all()
    found = OrtRunner(load(to_proto(subject, 18))).run(feeds)["y"]
    assert compare(reference, found).max_error <= 1e-5


@pytest.mark.parametrize("layout", ["grouped", "packed"])
@pytest.mark.parametrize("attrs", ["", "is_causal=1", "is_causal=1, left_window_size=2"])
def test_valid_lengths_are_written_out(layout: str, attrs: str) -> None:
    body = text(LAYOUTS[layout], "", ", ".join(filter(None, ("scale=0.3", attrs))))
    body = body.replace(") -> (y)", ", %n: i64[B]) -> (y)").replace("%v)", "%v, _, _, _, %n)")
    subject = model(body)
    feeds = feeds_of(subject, n=np.array([3, 5]))
    reference = ReferenceRunner(subject).run(feeds)["y"]
    for opset in (18, 23):
        assert compare(reference, OrtRunner(load(to_proto(subject, opset))).run(feeds)["y"]).max_error <= 1e-5


@pytest.mark.parametrize("opset", [13, 18, 22])
def test_sizes_that_are_known_make_a_constant_mask(opset: int) -> None:
    static = FOUR.replace("S", "3").replace("T", "3").replace("B", "2")
    subject = model(text(static, "", "scale=1.0, is_causal=1").replace("f32[B,4,S,6]", "f32[2,4,3,6]"))
    proto = to_proto(subject, opset)
    assert counts(proto) == Counter(["Transpose", "MatMul", "Add", "Softmax", "MatMul"])
    feeds = feeds_of(subject)
    reference = ReferenceRunner(subject).run(feeds)["y"]
    assert compare(reference, OrtRunner(load(proto)).run(feeds)["y"]).max_error <= 1e-5


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (text(PACKED, "", "scale=1.0"), "Reshape Transpose Reshape Transpose Reshape Transpose MatMul Softmax MatMul Transpose Reshape"),
        (text(PACKED, ""), "Reshape Transpose Mul Reshape Transpose Reshape Transpose MatMul Softmax MatMul Transpose Reshape"),
        (text(PACKED_GROUPED, "", "scale=1.0"), "Reshape Transpose Reshape Transpose Reshape Transpose MatMul Softmax MatMul Transpose Reshape"),
        (text(ONE_HEAD, "", "scale=1.0"), "Transpose MatMul Softmax MatMul"),
        ("""graph(%x: f32[B,S,96]) -> (y) {
              %q, %k, %v = Split(%x, i64[3]{32,32,32}) {axis=2} : f32[B,S,32], f32[B,S,32], f32[B,S,32]
              %y = Attention(%q, %k, %v) {scale=1.0, q_num_heads=4, kv_num_heads=4} : f32[B,S,32] return %y }""",
         "Reshape Transpose Split Transpose MatMul Softmax MatMul Transpose Reshape"),
        ("""graph(%x: f32[B,S,64]) -> (y) {
              %k, %q, %v = Split(%x, i64[3]{16,32,16}) {axis=-1} : f32[B,S,16], f32[B,S,32], f32[B,S,16]
              %y = Attention(%q, %k, %v) {scale=1.0, q_num_heads=4, kv_num_heads=2} : f32[B,S,32] return %y }""",
         "Reshape Transpose Split Reshape Transpose MatMul Softmax MatMul Transpose Reshape"),
        ("""graph(%w: f32[B,2,3,96]) -> (y) { %x = Reshape(%w, i64[3]{-1,3,96}) : f32[2*B,3,96]
              %q, %k, %v = Split(%x, i64[3]{32,32,32}) {axis=2} : f32[2*B,3,32], f32[2*B,3,32], f32[2*B,3,32]
              %y = Attention(%q, %k, %v) {scale=1.0, q_num_heads=4, kv_num_heads=4} : f32[2*B,3,32] return %y }""",
         "Reshape Transpose Split Transpose MatMul Softmax MatMul Transpose Reshape"),
        ("""graph(%x: f32[2*B,3,96]) -> (y) {
              %q, %k, %v = Split(%x, i64[3]{32,32,32}) {axis=2} : f32[2*B,3,32], f32[2*B,3,32], f32[2*B,3,32]
              %a = Attention(%q, %k, %v) {scale=1.0, q_num_heads=4, kv_num_heads=4} : f32[2*B,3,32]
              %y = Reshape(%a, i64[3]{-1,6,32}) : f32[B,6,32] return %y }""",
         "Reshape Transpose Split Transpose MatMul Softmax MatMul Transpose Reshape"),
        ("""graph(%x: f32[B,S,96]) -> (y) {
              %q, %k, %v = Split(%x, i64[3]{32,32,32}) {axis=2} : f32[B,S,32], f32[B,S,32], f32[B,S,32]
              %a = Attention(%q, %k, %v) {scale=1.0, q_num_heads=4, kv_num_heads=4} : f32[B,S,32]
              %y = Reshape(%a, i64[4]{0,-1,0,1}) : f32[B,S,32,1] return %y }""",
         "Reshape Transpose Split Transpose MatMul Softmax MatMul Transpose Reshape Reshape"),
    ],
    ids=["packed", "packed and scaled", "packed grouped", "one head", "one projection", "one projection, grouped, keys first",
         "windows flattened before", "windows joined behind", "sizes of heads copied behind"],
)  # fmt: skip
def test_it_takes_no_more_nodes_than_there_are_things_to_do(body: str, expected: str) -> None:
    subject = model(body)
    proto = to_proto(subject, 18)
    assert counts(proto) == Counter(expected.split())
    feeds = feeds_of(subject)
    assert compare(ReferenceRunner(subject).run(feeds)["y"], OrtRunner(load(proto)).run(feeds)["y"]).max_error <= 1e-5


@pytest.mark.parametrize(("perm", "shape", "expected"), [("0,1,3,2", "4,8,T", ""), ("0,2,1,3", "T,4,8", "Transpose")])
def test_keys_that_were_transposed_are_transposed_at_most_once(perm: str, shape: str, expected: str) -> None:
    subject = model(f"""graph(%q: f32[B,4,S,8], %k: f32[B,{shape}], %v: f32[B,4,T,8]) -> (y) {{
      %t = Transpose(%k) {{perm=[{perm}]}} : f32[B,4,T,8]
      %y = Attention(%q, %t, %v) {{scale=1.0}} : f32[B,4,S,8] return %y }}""")
    proto = to_proto(subject, 18)
    assert counts(proto) == Counter(f"{expected} MatMul Softmax MatMul".split())
    feeds = feeds_of(subject)
    assert compare(ReferenceRunner(subject).run(feeds)["y"], OrtRunner(load(proto)).run(feeds)["y"]).max_error <= 1e-5


LAYERS = """graph(%q: f32[B,4,S,8]{more}) -> (y) {{
  {before} %a = Attention(%q, %q, %q{mask}) {{scale=1.0{attrs}}} : f32[B,4,S,8]
  %y = Attention(%a, %a, %a{mask}) {{scale=1.0{attrs}}} : f32[B,4,S,8] return %y }}"""
TWICE = "Transpose MatMul Add Softmax MatMul " * 2


@pytest.mark.parametrize(
    ("more", "before", "mask", "attrs", "expected"),
    [
        (", %b: bool[B,1,S,S]", "", ", %b", "", TWICE + "Where ReduceMax Exp Mul Mul"),
        (", %b: bool[B,1,S,S]", "%z = Where(%b, f32[]{0.0}, f32[]{-1.7e+38}) : f32[B,1,S,S]", ", %z", "", TWICE + "Where"),
        (", %m: f32[B,1,S,S]", "", ", %m", "", TWICE + "Max ReduceMax Greater Cast Mul Mul"),
        ("", "", "", ", is_causal=1", TWICE + "Shape Gather Range Unsqueeze LessOrEqual Where"),
    ],
    ids=["booleans that may hide rows", "finite numbers", "numbers that may hide rows", "causal with a size that is not known"],
)  # fmt: skip
def test_what_layers_have_in_common_is_computed_once(
    more: str, before: str, mask: str, attrs: str, expected: str
) -> None:
    subject = model(LAYERS.format(more=more, before=before, mask=mask, attrs=attrs))
    proto = to_proto(subject, 18)
    assert counts(proto) == Counter(expected.split())
    feeds = feeds_of(subject)
    assert compare(ReferenceRunner(subject).run(feeds)["y"], OrtRunner(load(proto)).run(feeds)["y"]).max_error <= 1e-5


ROTARY = {
    "halves": ("%x: f32[B,3,S,8]", "f32[B,S,4]", "", "", "f32[B,3,S,8]"),
    "neighbours": ("%x: f32[B,3,S,8]", "f32[B,S,4]", "", "interleaved=1", "f32[B,3,S,8]"),
    "packed": ("%x: f32[B,S,24]", "f32[B,S,4]", "", "num_heads=3", "f32[B,S,24]"),
    "packed neighbours": ("%x: f32[B,S,24]", "f32[B,S,4]", "", "num_heads=3, interleaved=1", "f32[B,S,24]"),
    "part of the features": ("%x: f32[B,3,S,8]", "f32[B,S,2]", "", "rotary_embedding_dim=4", "f32[B,3,S,8]"),
    "positions": ("%x: f32[B,3,S,8]", "f32[9,4]", "%p: i64[B,S]", "", "f32[B,3,S,8]"),
    "packed positions, part, neighbours": (
        "%x: f32[B,S,24]", "f32[9,2]", "%p: i64[B,S]", "num_heads=3, interleaved=1, rotary_embedding_dim=4", "f32[B,S,24]"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROTARY)
def test_rotations_compute_what_the_operator_means(name: str) -> None:
    x, table, positions, attrs, result = ROTARY[name]
    operands = ", ".join(filter(None, (x, f"%c: {table}", f"%s: {table}", positions)))
    used = "%x, %c, %s, %p" if positions else "%x, %c, %s"
    subject = model(f"graph({operands}) -> (y) {{ %y = RotaryEmbedding({used}) {{{attrs}}} : {result} return %y }}")
    feeds = feeds_of(subject, p=np.random.default_rng(1).integers(0, 9, (2, 4)))
    reference = ReferenceRunner(subject).run(feeds)["y"]
    assert compare(reference, OrtRunner(load(to_proto(subject, 18))).run(feeds)["y"]).max_error <= 1e-5


def layer(kept: int) -> str:
    return f"""
      %u = RotaryEmbedding(%q, %c, %s) {{num_heads=4}} : f32[B,S,32]
      %w = RotaryEmbedding(%k, %c, %s) {{num_heads={kept}}} : f32[B,S,{8 * kept}]
      %y = Attention(%u, %w, %v) {{scale=1.0, q_num_heads=4, kv_num_heads={kept}}} : f32[B,S,32] return %y }}"""


TURNED = "Mul Split Concat Mul Add"
TABLES = "Concat Neg Concat Unsqueeze Unsqueeze"


@pytest.mark.parametrize(
    ("head", "kept", "expected"),
    [
        ("""graph(%x: f32[B,S,64], %c: f32[B,S,4], %s: f32[B,S,4]) -> (y) {
              %q, %k, %v = Split(%x, i64[3]{32,16,16}) {axis=2} : f32[B,S,32], f32[B,S,16], f32[B,S,16]""",
         2, f"{TABLES} Reshape Transpose Split {TURNED} Split Reshape Transpose MatMul Softmax MatMul Transpose Reshape"),
        ("graph(%q: f32[B,S,32], %k: f32[B,S,32], %v: f32[B,S,32], %c: f32[B,S,4], %s: f32[B,S,4]) -> (y) {",
         4, f"{TABLES} Concat Reshape Transpose {TURNED} Split Transpose Reshape Transpose MatMul Softmax MatMul Transpose Reshape"),
    ],
    ids=["one projection, grouped", "three projections"],
)  # fmt: skip
def test_queries_and_keys_are_rotated_together(head: str, kept: int, expected: str) -> None:
    subject = model(head + layer(kept))
    proto = to_proto(subject, 18)
    assert counts(proto) == Counter(expected.split())
    feeds = feeds_of(subject)
    assert compare(ReferenceRunner(subject).run(feeds)["y"], OrtRunner(load(proto)).run(feeds)["y"]).max_error <= 1e-5


def test_rotations_of_unequal_angles_stay_apart() -> None:
    subject = model("""graph(%q: f32[B,S,32], %v: f32[B,S,32], %c: f32[B,S,4], %s: f32[B,S,4], %t: f32[B,S,4]) -> (y) {
      %u = RotaryEmbedding(%q, %c, %s) {num_heads=4} : f32[B,S,32]
      %w = RotaryEmbedding(%v, %c, %t) {num_heads=4} : f32[B,S,32]
      %y = Attention(%u, %w, %v) {q_num_heads=4, kv_num_heads=4} : f32[B,S,32] return %y }""")
    feeds = feeds_of(subject)
    found = OrtRunner(load(to_proto(subject, 18))).run(feeds)["y"]
    assert compare(ReferenceRunner(subject).run(feeds)["y"], found).max_error <= 1e-5


def test_tables_that_are_the_same_for_a_batch_are_not_expanded() -> None:
    subject = model("""graph(%x: f32[B,3,S,8], %c: f32[1,S,4], %s: f32[1,S,4]) -> (y) {
      %n = Shape(%x) {start=0, end=1} : i64[1] %e = Concat(%n, i64[2]{1,1}) {axis=0} : i64[3]
      %d = Expand(%c, %e) : f32[B,S,4] %t = Expand(%s, %e) : f32[B,S,4]
      %y = RotaryEmbedding(%x, %d, %t) : f32[B,3,S,8] return %y }""")
    proto = to_proto(subject, 18)
    assert counts(proto) == Counter(f"{TABLES} {TURNED}".split())
    feeds = feeds_of(subject)
    assert compare(ReferenceRunner(subject).run(feeds)["y"], OrtRunner(load(proto)).run(feeds)["y"]).max_error <= 1e-5


@pytest.mark.parametrize("opset", [22, 23, 24, 25])
@pytest.mark.parametrize(
    ("operands", "mask"),
    [(FOUR, "%m: f32[B,1,1,T]"), (FOUR, "%b: bool[1,T]"), (PACKED, "%m: f32[1,T]"), (GROUPED, "%b: bool[B,1,1,T]")],
)
def test_a_mask_with_one_row_for_all_queries_runs_at_every_opset(operands: str, mask: str, opset: int):
    subject = model(text(operands, mask))
    random = np.random.default_rng(1)
    feeds = feeds_of(subject)
    for name in ("m", "b"):
        if name in feeds:
            drawn = random.standard_normal(feeds[name].shape)
            feeds[name] = drawn > -0.8 if name == "b" else drawn.astype(np.float32)
            feeds[name][..., 0] = True if name == "b" else 0
    want = ReferenceRunner(subject).run(feeds)["y"]
    assert compare(want, OrtRunner(subject, opset=opset).run(feeds)["y"]).max_error < 1e-5


def test_a_mask_with_a_row_for_each_query_stays_as_it_is():
    assert counts(to_proto(model(text(FOUR, "%m: f32[B,1,S,T]")), opset=24)) == {"Attention": 1}
    one_query = FOUR.replace("S", "1")
    assert counts(to_proto(model(text(one_query, "%m: f32[B,1,1,T]").replace("S", "1")), opset=24)) == {"Attention": 1}
