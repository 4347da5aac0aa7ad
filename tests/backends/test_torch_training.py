"""Emitted modules train, and what they learnt can be saved and loaded."""

import torch
from safetensors.torch import load_file, save_file
from tersor.backends.runners import OrtRunner
from tersor.backends.torch import emit, to_module
from tersor.frontends.torch import from_module
from tersor.ir import Model, parse
from tersor.transforms.base import Context
from tersor.transforms.simplify import Simplify

NETWORK = """
graph @net(%x: f32[N,1,8,8]) -> (logits) {
  @conv.weight : f32[8,1,3,3] = random(1)
  @bn.weight : f32[8] = [1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0]
  @bn.bias : f32[8] = [0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0]
  @bn.running_mean : f32[8] = [0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0]
  @bn.running_var : f32[8] = [1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0]
  @scale : f32[8,1,1] = random(5)
  @fc.weight : f32[3,8] = random(2)
  @fc.bias : f32[3] = random(3)
  %a = Conv(%x, @conv.weight) {pads=[1,1,1,1]}
  %b = BatchNormalization(%a, @bn.weight, @bn.bias, @bn.running_mean, @bn.running_var)
  %c = Relu(%b)
  %d = Mul(%c, @scale)
  %e = ReduceMean(%d, i64[2]{2,3}) {keepdims=0}
  %f = Dropout(%e, f32[]{0.1})
  %y = Gemm(%f, @fc.weight, @fc.bias) {transB=1}
  return %y
}"""


def train(module: torch.nn.Module, steps: int) -> list[float]:
    torch.manual_seed(0)
    x = torch.randn(48, 1, 8, 8)
    labels = torch.arange(48) % 3
    x += labels[:, None, None, None]
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    losses = []
    module.train()
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(module(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_training_moves_every_parameter_and_lowers_the_loss():
    module = to_module(Model(parse(NETWORK)))
    before = {k: v.clone() for k, v in module.state_dict().items()}
    losses = train(module, 30)
    assert losses[-1] < 0.5 * losses[0]
    unmoved = [k for k, v in module.state_dict().items() if torch.equal(v, before[k])]
    assert unmoved == []


def test_batch_normalization_uses_batch_statistics_while_training():
    module = to_module(Model(parse(NETWORK)))
    x = torch.randn(16, 1, 8, 8) * 5 + 3
    evaluated = module(x)
    assert torch.equal(module(x), evaluated)
    module.train()
    module(x)
    assert not torch.equal(module.eval()(x), evaluated)


def test_a_fine_tuned_state_dict_goes_through_safetensors(tmp_path):
    emitted = emit(Model(parse(NETWORK)), tmp_path / "net")
    module = emitted.module_class()
    module.load_state_dict(load_file(emitted.files[1]))
    train(module, 3)
    save_file(module.state_dict(), tmp_path / "tuned.safetensors")
    again = emitted.module_class()
    again.load_state_dict(load_file(tmp_path / "tuned.safetensors"))
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(again.eval()(x), module.eval()(x))


class Mixer(torch.nn.Module):
    """Attention and convolutions in blocks that repeat, a class token, a parameter that starts as zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.token = torch.nn.Parameter(torch.zeros(1, 1, 8))
        self.stem = torch.nn.Sequential(torch.nn.Conv1d(4, 8, 3, padding=1), torch.nn.ReLU())
        self.blocks = torch.nn.ModuleList(
            torch.nn.TransformerEncoderLayer(8, heads, 16, dropout=0.0, batch_first=True, norm_first=True)
            for heads in (2, 4, 2)
        )
        self.head = torch.nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), 1)
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])


def test_a_fresh_module_trains_as_emitted_and_its_weights_come_back():
    torch.backends.mha.set_fastpath_enabled(False)
    torch.manual_seed(0)
    original, x = Mixer().eval(), torch.randn(2, 4, 6)
    model = from_module(original, (x,))
    Simplify(level="train").run(model, Context())
    module = to_module(model)
    module.load_state_dict(original.state_dict())
    torch.testing.assert_close(module(x), original(x))
    torch.nn.functional.cross_entropy(module(x), torch.tensor([0, 2])).backward()
    reached = {name for name, p in module.named_parameters() if p.grad is not None}
    assert reached == {name for name, _ in original.named_parameters()}
    torch.optim.Adam(module.parameters(), lr=0.01).step()
    model.load_weights(module.state_dict())
    original.load_state_dict(module.state_dict())
    with torch.no_grad():
        wanted = module(x)
        torch.testing.assert_close(original(x), wanted)
    (found,) = OrtRunner(model).run({model.graph.inputs[0].name: x.numpy()}).values()
    torch.testing.assert_close(torch.from_numpy(found), wanted)


def test_torch_compiles_and_exports_what_is_emitted():
    torch.backends.mha.set_fastpath_enabled(False)
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6)
    model = from_module(Mixer().eval(), (x,))
    Simplify(level="train").run(model, Context())
    module = to_module(model)
    torch.testing.assert_close(torch.compile(module, backend="eager", fullgraph=True)(x), module(x))
    torch.testing.assert_close(torch.export.export(module, (x,)).module()(x), module(x))
