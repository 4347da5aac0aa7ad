"""Mixtures of experts: hidden units of experts that are stacked in one tensor, and sums of what experts give to tokens."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from tersor.ir import skeleton
from tersor.transforms.base import Context, Outcome
from tersor.transforms.manager import run_passes
from tersor.transforms.prune import Prune


def prune(model, **options: object) -> Outcome:
    (step,) = run_passes(model, [Prune(**options)], Context(seed=1))  # pyright: ignore[reportArgumentType]
    assert step.parity is not None
    assert step.parity.passed
    assert step.outcome.checks["mask_oracle"].changed > 1e-3
    return step.outcome


def sizes(model) -> dict[str, tuple[int, ...]]:
    return {v.name: v.tensor.shape for v in model.graph.constants()}


def experts(units: int, gated: str) -> str:
    """Three experts of `units` hidden units on all tokens, weighted by a router: one product for all of them."""
    return f"""graph(%x: f32[N,4]) -> (y) {{
      @router : f32[4,3] = random(1)
      @up : f32[3,4,{2 * units}] = random(2)
      @bias : f32[3,1,{2 * units}] = random(3)
      @down : f32[3,{units},4] = random(4)
      @shift : f32[3,1,4] = random(5)
      %logits = MatMul(%x, @router)
      %p = Softmax(%logits) {{axis=-1}}
      %t = Transpose(%p) {{perm=[1,0]}}
      %weights = Unsqueeze(%t, i64[1]{{2}})
      %a = MatMul(%x, @up)
      %b = Add(%a, @bias)
      {gated}
      %d = MatMul(%c, @down)
      %e = Add(%d, @shift)
      %f = Mul(%e, %weights)
      %y = ReduceSum(%f, i64[1]{{0}}) {{keepdims=0}}
      return %y
    }}"""


GATED = {
    "halves": "%g, %u = Split(%b) {axis=-1, num_outputs=2} %s = Sigmoid(%g) %c = Mul(%u, %s)",
    "every other one": """%g = Slice(%b, i64[1]{0}, i64[1]{9223372036854775807}, i64[1]{-1}, i64[1]{2})
      %u = Slice(%b, i64[1]{1}, i64[1]{9223372036854775807}, i64[1]{-1}, i64[1]{2})
      %s = Sigmoid(%g)
      %v = Add(%u, f32[]{1.0})
      %c = Mul(%v, %s)""",
}


@pytest.mark.parametrize("form", GATED)
def test_experts_that_are_stacked_in_one_tensor_lose_the_same_hidden_units(model, form: str):
    made = model(experts(8, GATED[form]))
    prune(made)
    found = sizes(made)
    assert (found["up"], found["bias"], found["down"]) == ((3, 4, 8), (3, 1, 8), (3, 4, 4))
    assert found["shift"] == (3, 1, 4)


def chosen(units: int) -> str:
    """The weights of each token's own expert."""
    return f"""graph(%x: f32[N,4], %ids: i64[N]) -> (y) {{
      @up : f32[3,{units},4] = random(2)
      @down : f32[3,4,{units}] = random(4)
      %w = Gather(@up, %ids)
      %v = Gather(@down, %ids)
      %column = Unsqueeze(%x, i64[1]{{2}})
      %a = MatMul(%w, %column)
      %c = Relu(%a)
      %d = MatMul(%v, %c)
      %y = Squeeze(%d, i64[1]{{2}})
      return %y
    }}"""


def test_weights_that_are_picked_by_token_lose_the_same_hidden_units(model, graph):
    made = model(chosen(8))
    prune(made)
    assert skeleton(made.graph) == skeleton(graph(chosen(4)))


def scattered(units: int, index: str) -> str:
    """What two experts give is added to their tokens' rows; the channels of the sum are those of a hidden layer."""
    return f"""graph(%x: f32[6,4], %rows: i64[6], %wide: i64[6,8]) -> (y) {{
      @a : f32[4,{units}] = random(1)
      @b : f32[4,{units}] = random(2)
      @c : f32[4,{units}] = random(3)
      @head : f32[{units},3] = random(4)
      %base = MatMul(%x, @a)
      %first, %second = Split(%x) {{axis=0, num_outputs=2}}
      %d = MatMul(%first, @b)
      %e = MatMul(%second, @c)
      %made = Concat(%d, %e) {{axis=0}}
      %column = Unsqueeze(%rows, i64[1]{{1}})
      {index}
      %sum = ScatterElements(%base, %index, %made) {{axis=0, reduction="add"}}
      %y = MatMul(%sum, @head)
      return %y
    }}"""


INDICES = {
    "sizes of which are constants": "%index = Expand(%column, i64[2]{{6,{units}}})",
    "one of which stays what it is": "%index = Expand(%column, i64[2]{{1,{units}}})",
    "that are tiled": "%index = Tile(%column, i64[2]{{1,{units}}})",
}


@pytest.mark.parametrize("form", INDICES)
def test_channels_pass_rows_that_are_added_by_indices_repeated_for_each_channel(model, graph, form: str):
    made = model(scattered(8, INDICES[form].format(units=8)))
    prune(made)
    assert skeleton(made.graph) == skeleton(graph(scattered(4, INDICES[form].format(units=4))))


KEEP = {
    "are the caller's": "%index = Identity(%wide)",
    "others see": "%index = Expand(%column, i64[2]{6,8}) %seen = ReduceSum(%index, i64[1]{1})",
}


@pytest.mark.parametrize("why", KEEP)
def test_channels_stay_where_indices(model, why: str):
    text = scattered(8, KEEP[why])
    if "seen" in text:
        text = text.replace("-> (y)", "-> (y, seen)").replace("return %y", "return %y, %seen")
    made = model(text)
    run_passes(made, [Prune()], Context(seed=1))
    assert sizes(made)["head"] == (8, 3)


def test_rows_that_are_gathered_by_indices_repeated_for_each_channel_lose_channels(model):
    made = model("""graph(%x: f32[2,6,4], %rows: i64[2,3]) -> (y) {
      @a : f32[4,8] = random(1)
      @head : f32[8,3] = random(4)
      %b = MatMul(%x, @a)
      %column = Unsqueeze(%rows, i64[1]{2})
      %index = Expand(%column, i64[3]{1,1,8})
      %c = GatherElements(%b, %index) {axis=1}
      %y = MatMul(%c, @head)
      return %y
    }""")
    prune(made)
    assert (sizes(made)["a"], sizes(made)["head"]) == ((4, 4), (4, 3))


@pytest.mark.skipif(not find_spec("torch"), reason="the module is PyTorch's")
def test_a_mixture_of_pytorch_by_batched_products_loses_hidden_units_and_its_residual_stream():
    import torch
    from tersor.frontends.torch import from_module

    class Mixture(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.router = torch.nn.Linear(5, 8), torch.nn.Linear(8, 4, bias=False)
            self.up = torch.nn.Parameter(torch.randn(4, 8, 24) * 0.3)
            self.down = torch.nn.Parameter(torch.randn(4, 12, 8) * 0.3)
            self.head = torch.nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            stream = self.embed(x)
            logits = self.router(stream)
            best, ids = logits.topk(2, dim=1)
            scores = torch.full_like(logits, float("-inf")).scatter(1, ids, best).sigmoid()
            rows = (stream.repeat(4, 1) * scores.T.reshape(-1, 1)).view(4, -1, 8)
            gate, value = torch.bmm(rows, self.up).chunk(2, dim=-1)
            mixed = torch.bmm(value * torch.nn.functional.silu(gate), self.down)
            return self.head(stream + mixed.sum(0))

    torch.manual_seed(0)
    made = from_module(Mixture(), (torch.randn(6, 5),), dynamic_shapes=({0: torch.export.Dim("tokens", min=2)},))
    prune(made)
    found = sizes(made)
    assert (found["up"], found["down"]) == ((4, 4, 12), (4, 6, 4))
