"""Emitted modules train, and what they learnt can be saved and loaded."""

import torch
from safetensors.torch import load_file, save_file
from tersor.backends.torch import emit, to_module
from tersor.ir import Model, parse

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
