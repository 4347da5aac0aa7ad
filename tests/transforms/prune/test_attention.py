"""Attention loses dimensions of heads and whole heads, and keeps the scale of the original."""

from __future__ import annotations

import numpy as np
import pytest
from tersor.ir import Node, UsageError
from tersor.transforms.base import Context, Outcome
from tersor.transforms.manager import run_passes
from tersor.transforms.prune import Prune


def prune(model, **options: object) -> Outcome:
    (step,) = run_passes(model, [Prune(**options)], Context(seed=2))  # pyright: ignore[reportArgumentType]
    assert step.parity is not None
    assert step.parity.passed
    assert step.outcome.checks["mask_oracle"].changed > 1e-3
    return step.outcome


def node(model, op: str) -> Node:
    return next(n for n in model.graph if n.op == op)


def shapes(model) -> dict[str, tuple[int, ...]]:
    return {v.name: v.tensor.shape for v in model.graph.constants() if v.name}


def projected(queries: int, shared: int, size: int, attributes: str = "") -> str:
    """Self-attention of five positions; each projection is viewed as heads of `size` dimensions and moved to the front."""
    return f"""graph(%x: f32[N,5,12]) -> (y) {{
      @q : f32[12,{queries * size}] = random(1)
      @k : f32[12,{shared * size}] = random(2)
      @v : f32[12,{shared * size}] = random(3)
      @o : f32[{queries * size},12] = random(4)
      %q = MatMul(%x, @q)
      %k = MatMul(%x, @k)
      %v = MatMul(%x, @v)
      %qs = Reshape(%q, i64[4]{{0,5,{queries},{size}}})
      %ks = Reshape(%k, i64[4]{{0,5,{shared},{size}}})
      %vs = Reshape(%v, i64[4]{{0,5,{shared},{size}}})
      %qt = Transpose(%qs) {{perm=[0,2,1,3]}}
      %kt = Transpose(%ks) {{perm=[0,2,1,3]}}
      %vt = Transpose(%vs) {{perm=[0,2,1,3]}}
      %a = Attention(%qt, %kt, %vt) {{{attributes}}}
      %at = Transpose(%a) {{perm=[0,2,1,3]}}
      %am = Reshape(%at, i64[3]{{0,5,{queries * size}}})
      %y = MatMul(%am, @o)
      return %y
    }}"""


def test_dimensions_go_at_the_same_places_of_every_head_and_the_scale_is_stated(model):
    made = model(projected(queries=2, shared=2, size=16))
    prune(made)
    assert shapes(made) == {"q": (12, 16), "k": (12, 16), "v": (12, 16), "o": (16, 12)}
    assert node(made, "Attention").float("scale") == pytest.approx(0.25)


def test_a_scale_that_is_given_stays(model):
    made = model(projected(queries=2, shared=2, size=16, attributes="scale=0.5"))
    prune(made)
    assert node(made, "Attention").float("scale") == 0.5


def test_whole_heads_go_where_there_are_more_of_them_than_dimensions(model):
    made = model(projected(queries=16, shared=16, size=2))
    prune(made)
    assert node(made, "Attention").output.shape[1:] == (8, 5, 2)
    assert shapes(made)["o"] == (16, 12)
    assert "scale" not in node(made, "Attention").attrs


def test_a_shared_head_goes_with_the_query_heads_that_use_it(model):
    made = model(projected(queries=16, shared=8, size=2))
    prune(made)
    attention = node(made, "Attention")
    assert [v.shape[1] for v in attention.inputs if v is not None] == [8, 4, 4]
    assert shapes(made) == {"q": (12, 16), "k": (12, 8), "v": (12, 8), "o": (16, 12)}


PACKED = """graph(%x: f32[1,5,12]) -> (y) {{
      @q : f32[12,{queries}] = random(1)
      @k : f32[12,{shared}] = random(2)
      @v : f32[12,{shared}] = random(3)
      @o : f32[{queries},12] = random(4)
      @cos : f32[1,5,4] = random(5)
      @sin : f32[1,5,4] = random(6)
      %q = MatMul(%x, @q)
      %k = MatMul(%x, @k)
      %v = MatMul(%x, @v)
      %qr = RotaryEmbedding(%q, @cos, @sin) {{num_heads={own}, rotary_embedding_dim={turned}}}
      %kr = RotaryEmbedding(%k, @cos, @sin) {{num_heads={heads}, rotary_embedding_dim={turned}}}
      %a = Attention(%qr, %kr, %v) {{q_num_heads={own}, kv_num_heads={heads}}}
      %y = MatMul(%a, @o)
      return %y
    }}"""


def turned(own: int, heads: int, size: int, turned: int) -> str:
    """Packed self-attention of one sentence of five positions, the first `turned` dimensions of each head turned."""
    return PACKED.format(queries=own * size, shared=heads * size, own=own, heads=heads, turned=turned)


def test_packed_heads_go_as_a_whole_where_there_are_several_with_those_that_share_them(model):
    made = model(turned(own=8, heads=4, size=8, turned=8))
    prune(made)
    assert shapes(made) == {
        "q": (12, 32),
        "k": (12, 16),
        "v": (12, 16),
        "o": (32, 12),
        "cos": (1, 5, 4),
        "sin": (1, 5, 4),
    }
    attention, rotary = node(made, "Attention"), node(made, "RotaryEmbedding")
    assert (attention.int("q_num_heads"), attention.int("kv_num_heads")) == (4, 2)
    assert rotary.int("num_heads") == 4
    assert "scale" not in attention.attrs


def test_dimensions_that_are_turned_go_in_pairs_and_their_columns_of_the_tables_with_them(model):
    made = model(turned(own=2, heads=2, size=16, turned=8))
    prune(made)
    rotary = node(made, "RotaryEmbedding")
    half = rotary.int("rotary_embedding_dim") // 2
    assert 0 < half < 4
    assert shapes(made)["cos"] == shapes(made)["sin"] == (1, 5, half)
    assert shapes(made)["q"] == shapes(made)["k"] == (12, 2 * int(rotary.output.shape[2]) // 2)
    assert rotary.output.shape[2] < 32


def test_packed_heads_lose_dimensions(model):
    made = model("""graph(%x: f32[N,5,12]) -> (y) {
      @q : f32[12,32] = random(1)
      @k : f32[12,16] = random(2)
      @v : f32[12,24] = random(3)
      @o : f32[48,12] = random(4)
      %q = MatMul(%x, @q)
      %k = MatMul(%x, @k)
      %v = MatMul(%x, @v)
      %a = Attention(%q, %k, %v) {q_num_heads=4, kv_num_heads=2}
      %y = MatMul(%a, @o)
      return %y
    }""")
    prune(made)
    assert shapes(made) == {"q": (12, 16), "k": (12, 8), "v": (12, 12), "o": (24, 12)}
    assert node(made, "Attention").float("scale") == pytest.approx(1 / np.sqrt(8))


def test_a_bias_per_head_follows_heads(model):
    text = projected(queries=16, shared=16, size=2).replace(
        "%a = Attention(%qt, %kt, %vt) {}", "%a = Attention(%qt, %kt, %vt, @bias) {}"
    )
    made = model(text.replace("@o :", "@bias : f32[1,16,5,5] = random(5)\n @o :"))
    prune(made)
    assert shapes(made)["bias"] == (1, 8, 5, 5)


def test_products_of_dimensions_that_are_not_zero_keep_them(model):
    text = projected(queries=2, shared=2, size=16)
    made = model(text.replace("%qs = Reshape(%q", "%qn = Sigmoid(%q) %kn = Sigmoid(%k) %qs = Reshape(%qn").replace(
        "%ks = Reshape(%k,", "%ks = Reshape(%kn,"))  # fmt: skip
    prune(made)
    assert shapes(made) == {"q": (12, 32), "k": (12, 32), "v": (12, 16), "o": (16, 12)}


def test_keys_of_earlier_calls_that_come_from_outside_keep_their_heads(model):
    made = model("""graph(%x: f32[N,5,12], %pk: f32[N,2,3,4], %pv: f32[N,2,3,4]) -> (y) {
      @q : f32[12,8] = random(1)
      @o : f32[8,12] = random(4)
      %q = MatMul(%x, @q)
      %a, %nk, %nv = Attention(%q, %q, %q, _, %pk, %pv) {q_num_heads=2, kv_num_heads=2}
      %y = MatMul(%a, @o)
      return %y
    }""")
    outcome = Prune().run(made, Context())
    assert "it is the input 'pk'" in outcome.decisions[0].reason


def test_heads_that_a_view_moves_into_a_symbolic_batch_keep_their_dimensions_apart(model):
    """(length, N, heads * d) becomes (length, N * heads, d) and comes back, as in torch.nn.MultiheadAttention."""
    made = model("""graph(%x: f32[5,N,12]) -> (y) {
      @q : f32[12,32] = random(1)
      @o : f32[32,12] = random(2)
      %q = MatMul(%x, @q)
      %v = Reshape(%q, i64[3]{5,-1,8})
      %h = Relu(%v)
      %b = Reshape(%h, i64[3]{5,-1,32})
      %y = MatMul(%b, @o)
      return %y
    }""")
    prune(made)
    assert shapes(made) == {"q": (12, 16), "o": (16, 12)}
    assert [n.operand(1).tensor.numpy().tolist() for n in made.graph if n.op == "Reshape"] == [[5, -1, 4], [5, -1, 16]]


def test_a_view_keeps_heads_apart_where_packed_attention_wants_them_whole(model):
    made = model("""graph(%x: f32[2,5,12]) -> (y) {
      @qkv : f32[12,96] = random(1)
      @o : f32[32,12] = random(2)
      %p = MatMul(%x, @qkv)
      %v = Reshape(%p, i64[5]{0,0,3,4,8})
      %q0 = Gather(%v, i64[]{0}) {axis=2}
      %k0 = Gather(%v, i64[]{1}) {axis=2}
      %v0 = Gather(%v, i64[]{2}) {axis=2}
      %q = Reshape(%q0, i64[3]{0,0,32})
      %k = Reshape(%k0, i64[3]{0,0,32})
      %w = Reshape(%v0, i64[3]{0,0,32})
      %a = Attention(%q, %k, %w) {q_num_heads=4, kv_num_heads=4}
      %y = MatMul(%a, @o)
      return %y
    }""")
    prune(made)
    assert shapes(made)["qkv"] == (12, 48)
    assert shapes(made)["o"] == (16, 12)
    assert node(made, "Attention").int("q_num_heads") == 2


@pytest.mark.parametrize(
    ("queries", "shared", "size"), [(4, 4, 16), (16, 16, 2), (8, 4, 8)], ids=["few heads", "many heads", "shared heads"]
)
@pytest.mark.parametrize("rotary", [False, True], ids=["apart", "packed and turned"])
@pytest.mark.parametrize("heads", ["heads", "dims"])
def test_the_user_says_whether_heads_or_their_dimensions_go(model, queries, shared, size, rotary, heads):
    if rotary and size != 8:
        text = turned(own=queries, heads=shared, size=8, turned=8)
        size = 8
    else:
        text = turned(queries, shared, size, 8) if rotary else projected(queries, shared, size)
    made = model(text)
    prune(made, heads=heads)
    kept = (queries // 2, shared // 2, size) if heads == "heads" else (queries, shared, size // 2)
    assert shapes(made)["q"] == (12, kept[0] * kept[2])
    assert shapes(made)["k"] == shapes(made)["v"] == (12, kept[1] * kept[2])
    assert shapes(made)["o"] == (kept[0] * kept[2], 12)
    attention = node(made, "Attention")
    assert ("scale" in attention.attrs) == (heads == "dims")
    if rotary:
        assert (attention.int("q_num_heads"), attention.int("kv_num_heads")) == kept[:2]
    else:
        assert [v.shape[1] for v in attention.inputs if v is not None] == [kept[0], kept[1], kept[1]]


@pytest.mark.parametrize("heads", ["heads", "dims"])
def test_a_network_without_attention_cannot_lose_what_was_asked_for(model, heads):
    made = model("""graph(%x: f32[5,12]) -> (y) {
      @q : f32[12,32] = random(1)
      @o : f32[32,12] = random(2)
      %q = MatMul(%x, @q)
      %y = MatMul(%q, @o)
      return %y
    }""")
    with pytest.raises(UsageError, match="finds no attention") as caught:
        Prune(heads=heads).run(made, Context())
    assert "simplify" in caught.value.do


def test_one_head_that_all_queries_share_cannot_go_as_a_whole(model):
    made = model(projected(queries=8, shared=1, size=16))
    with pytest.raises(UsageError, match="finds no attention") as caught:
        Prune(heads="heads").run(made, Context())
    assert "Attention %a" in caught.value.why
    made = model(projected(queries=8, shared=1, size=16))
    prune(made, heads="dims")
    assert shapes(made)["k"] == (12, 8)


def test_what_heads_may_be_is_told():
    with pytest.raises(UsageError, match="there are auto, heads, dims"):
        Prune(heads="both")  # pyright: ignore[reportArgumentType]
