"""Training round trips: weights that an emitted module learnt come back into the graph, and ONNX computes the same."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tersor.backends.compare import compare
from tersor.backends.runners import OrtRunner, synthesize
from tersor.backends.torch import emit, to_module, to_runner
from tersor.frontends.torch import from_module
from tersor.ir import Model, UsageError, parse
from tersor.transforms.base import Context
from tersor.transforms.manager import run_passes
from tersor.transforms.simplify import Simplify
from torch import nn
from torch.nn import functional as F

LAYOUTS = """
graph @layouts(%x: f32[N,6]) -> (y) {
  @first.weight : f32[6,8] = random(1)
  @first.bias : f32[8] = random(2)
  @second : f32[8,8] = random(3)
  @half.a : f32[3,8] = random(4)
  @half.b : f32[3,8] = random(5)
  @scale : f32[8] = random(6)
  @both : f32[2,8] = random(7)
  %m = MatMul(%x, @first.weight)
  %b = Add(%m, @first.bias)
  %r = Tanh(%b)
  %t = Transpose(@second) {perm=[1,0]}
  %s = MatMul(%r, %t)
  %joined = Concat(@half.a, @half.b) {axis=0}
  %j = MatMul(%x, %joined)
  %k = Add(%s, %j)
  %top = Slice(@both, i64[1]{0}, i64[1]{1}, i64[1]{0}, i64[1]{1})
  %low = Slice(@both, i64[1]{1}, i64[1]{2}, i64[1]{0}, i64[1]{1})
  %u = Mul(%k, %top)
  %v = Add(%u, %low)
  %twice = Mul(@scale, f32[]{2.0})
  %y = Mul(%v, %twice)
  return %y
}"""

RECURRENT = """
graph @tagger(%x: f32[L,N,3]) -> (y) {
  @W : f32[2,16,3] = random(1)
  @R : f32[2,16,4] = random(2)
  @B : f32[2,32] = random(3)
  %y, %h, %c = LSTM(%x, @W, @R, @B) {hidden_size=4, direction="bidirectional"}
  return %y
}"""

INTEGERS = """
graph @levels(%x: f32[N,4]) -> (y) {
  @q : i8[4,3] = [1,2,3,4,5,6,7,8,9,10,11,12]
  @s : f32[3] = [0.5,0.25,0.125]
  @z : i8[3] = [0,0,0]
  %w = DequantizeLinear(@q, @s, @z) {axis=1}
  %y = MatMul(%x, %w)
  return %y
}"""


def learn(module, feeds, steps=3):
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    arguments = [torch.from_numpy(np.array(a)) for a in feeds.values()]
    for _ in range(steps):
        results = module(*arguments)
        results = results if isinstance(results, tuple) else (results,)
        loss = sum((r - torch.randn(r.shape)).square().mean() for r in results if r.is_floating_point())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()}


def distance(model, module, feeds):
    module.eval()
    with torch.no_grad():
        found = module(*[torch.from_numpy(np.array(a)) for a in feeds.values()])
    found = found if isinstance(found, tuple) else (found,)
    wanted = OrtRunner(model).run(feeds)
    return max(compare(w, f.numpy()).max_error for w, f in zip(wanted.values(), found, strict=True))


@pytest.mark.parametrize("text", [LAYOUTS, RECURRENT], ids=["layouts", "recurrent"])
def test_trained_weights_come_back_whatever_their_layout(text):
    model = Model(parse(text))
    feeds = synthesize(model.graph)[0]
    module = to_module(model)
    assert distance(model, module, feeds) < 1e-5
    for _ in range(2):
        assert learn(module, feeds) == set()
        assert distance(model, module, feeds) > 1e-4
        model.load_weights(module.state_dict())
        assert distance(model, module, feeds) < 1e-5
        assert (
            compare(
                module(*map(torch.tensor, feeds.values())).detach().numpy(), to_runner(model).run(feeds)["y"]
            ).max_error
            < 1e-5
        )


def test_weights_come_back_from_a_file(tmp_path):
    model = Model(parse(LAYOUTS))
    feeds = synthesize(model.graph)[0]
    emitted = emit(model, tmp_path / "net")
    module = emitted.module_class()
    learn(module, feeds)
    save_file(module.state_dict(), tmp_path / "tuned.safetensors")
    model.load_weights(tmp_path / "tuned.safetensors")
    assert distance(model, module, feeds) < 1e-5


def test_half_precision_weights_come_back(tmp_path):
    text = "graph (%x: bf16[N,4]) -> (y) { @w : bf16[4,3] = random(1) %y = MatMul(%x, @w) return %y }"
    model = Model(parse(text))
    state = {k: v * 2 for k, v in to_module(model).state_dict().items()}
    before = model.graph.constants()[0].tensor.numpy().astype(np.float32)
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "w.safetensors")
    for source in (state, tmp_path / "w.safetensors"):
        model.load_weights(source)
        np.testing.assert_array_equal(model.graph.constants()[0].tensor.numpy().astype(np.float32), before * 2)


def test_the_original_modules_state_dict_fits_the_model_before_and_after_passes():
    torch.manual_seed(0)
    original = nn.ModuleDict({"conv": nn.Conv2d(1, 4, 3), "bn": nn.BatchNorm2d(4), "fc": nn.Linear(4, 3)}).eval()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = original

        def forward(self, x):
            x = F.relu(self.parts["bn"](self.parts["conv"](x)))
            return self.parts["fc"](x.mean((2, 3)))

    net = Net().eval()
    x = torch.randn(2, 1, 6, 6)
    for passes in ([], [Simplify(level="train")]):
        model = from_module(net, (x,))
        run_passes(model, passes, Context())
        tuned = deepcopy(net).train()
        learn(tuned, {"x": x.numpy()}, steps=2)
        assert distance(model, tuned, {"x": x.numpy()}) > 1e-4
        model.load_weights(tuned.state_dict())
        assert distance(model, tuned, {"x": x.numpy()}) < 1e-5


def test_widened_integers_are_narrow_again_in_the_graph():
    model = Model(parse(INTEGERS.replace("i8", "i4").replace("8,9,10,11,12", "0,-1,-2,-3,-4")))
    state = to_module(model).state_dict()
    with pytest.raises(UsageError, match="do not fit into i4"):
        model.load_weights({**state, "q": state["q"] * 4})
    model.load_weights({**state, "q": -state["q"]})
    levels = next(v.tensor for v in model.graph.constants() if v.name == "q")
    assert levels.dtype.label == "i4"
    assert levels.numpy().astype(int).ravel().tolist() == [-1, -2, -3, -4, -5, -6, -7, 0, 1, 2, 3, 4]


def changed(state, **changes):
    found = {**state, **changes}
    return {k: v for k, v in found.items() if v is not None}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: changed(s, extra=torch.zeros(1)), "unknown: 'extra'"),
        (lambda s: changed(s, **{"first.bias": None}), "missing: 'first.bias'"),
        (lambda s: changed(s, **{"first.bias": torch.zeros(9)}), "f32[9], expected is f32[8]"),
        (lambda s: {k: v.double() for k, v in s.items()}, "f64"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_refused_and_nothing_changes(change, said):
    model = Model(parse(LAYOUTS))
    feeds = synthesize(model.graph)[0]
    module = to_module(model)
    state = {k: v + 1 for k, v in module.state_dict().items()}
    with pytest.raises(UsageError) as caught:
        model.load_weights(change(state))
    assert said in str(caught.value)
    assert distance(model, module, feeds) < 1e-5


def test_tied_parameters_may_not_part():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.decoder = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
            self.decoder.weight = self.embedding.weight

        def forward(self, ids):
            return self.decoder(self.embedding(ids))

    model = from_module(Tied(), (torch.tensor([[1, 2]]),))
    state = {k: v.clone() for k, v in Tied().state_dict().items()}
    model.load_weights(state)
    state["decoder.weight"] += 1
    with pytest.raises(UsageError, match="one tensor in the model") as caught:
        model.load_weights(state)
    assert "'decoder.weight', 'embedding.weight'" in str(caught.value)


def test_a_model_without_keys_says_what_to_do():
    with pytest.raises(UsageError, match="emit it first"):
        Model(parse(LAYOUTS)).load_weights({})


def test_weights_of_what_was_evaluated_since_are_refused():
    model = Model(parse(LAYOUTS))
    state = {k: v + 1 for k, v in to_module(model).state_dict().items()}
    for value in model.graph.constants():
        value.const = type(model.graph.constants()[0].tensor)(value.tensor.numpy().copy())
    with pytest.raises(UsageError, match="does not depend on"):
        model.load_weights(state)


def test_a_file_that_is_no_safetensors_file_is_a_usage_error(tmp_path):
    model = Model(parse(LAYOUTS))
    to_module(model)
    (tmp_path / "x.safetensors").write_bytes(b"not this")
    for path in (tmp_path / "x.safetensors", tmp_path / "absent.safetensors"):
        with pytest.raises(UsageError, match="cannot be read"):
            model.load_weights(path)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_torch_compile_accepts_an_emitted_module(backend):
    model = Model(parse(LAYOUTS))
    feeds = synthesize(model.graph)[0]
    module = to_module(model)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend=backend, fullgraph=True)
    x = torch.from_numpy(np.array(feeds["x"]))
    torch.testing.assert_close(compiled(x), module(x))
    learn(compiled, feeds, steps=1)


def test_torch_export_accepts_an_emitted_module_and_its_weights_keep_their_keys():
    model = Model(parse(LAYOUTS))
    module = to_module(model)
    program = torch.export.export(module, (torch.randn(3, 6),), dynamic_shapes=({0: torch.export.Dim("N")},))
    assert set(program.state_dict) == set(module.state_dict())
    again = from_module(module, (torch.randn(3, 6),))
    x = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    assert (
        compare(
            OrtRunner(model).run({"x": x})["y"],
            next(iter(OrtRunner(again).run({again.graph.inputs[0].name: x}).values())),
        ).max_error
        < 1e-5
    )
