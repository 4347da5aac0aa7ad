"""The emitted text: what it looks like, that it depends on the graph alone, and that linters and the compiler accept it."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from tersor.backends.compare import compare
from tersor.backends.runners import OrtRunner
from tersor.backends.torch import emit, to_module, to_runner
from tersor.backends.torch.helpers import HELPERS, sources
from tersor.backends.torch.source import generate
from tersor.ir import Model, UnsupportedError, parse

RESIDUAL = """
graph @small_resnet(%image: f32[batch,3,8,8]) -> (logits) {
  @conv1.weight : f32[4,3,3,3] = random(1)
  @bn1.weight : f32[4] = [1.0,0.9,1.1,1.2]
  @bn1.bias : f32[4] = random(2)
  @bn1.running_mean : f32[4] = random(3)
  @bn1.running_var : f32[4] = [1.0,2.0,0.5,1.5]
  @layer1.0.conv1.weight : f32[4,4,3,3] = random(4)
  @layer1.0.conv2.weight : f32[4,4,3,3] = random(5)
  @layer1.1.conv1.weight : f32[4,4,3,3] = random(6)
  @layer1.1.conv2.weight : f32[4,4,3,3] = random(7)
  @layer1.2.conv1.weight : f32[4,4,3,3] = random(8)
  @layer1.2.conv2.weight : f32[4,4,3,3] = random(9)
  @fc.weight : f32[10,4] = random(10)
  @fc.bias : f32[10] = random(11)
  %a = Conv(%image, @conv1.weight) {pads=[1,1,1,1]} : ?   # conv1 @ net.py:1
  %b = BatchNormalization(%a, @bn1.weight, @bn1.bias, @bn1.running_mean, @bn1.running_var) : ?   # bn1 @ net.py:2
  %c = Relu(%b)
  %d = Conv(%c, @layer1.0.conv1.weight) {pads=[1,1,1,1]} : ?   # layer1.0.conv1 @ net.py:3
  %e = Relu(%d) : ?   # layer1.0 @ net.py:3
  %f = Conv(%e, @layer1.0.conv2.weight) {pads=[1,1,1,1]} : ?   # layer1.0.conv2 @ net.py:3
  %g = Add(%f, %c) : ?   # layer1.0 @ net.py:3
  %h = Relu(%g) : ?   # layer1.0 @ net.py:3
  %i = Conv(%h, @layer1.1.conv1.weight) {pads=[1,1,1,1]} : ?   # layer1.1.conv1 @ net.py:3
  %j = Relu(%i) : ?   # layer1.1 @ net.py:3
  %k = Conv(%j, @layer1.1.conv2.weight) {pads=[1,1,1,1]} : ?   # layer1.1.conv2 @ net.py:3
  %l = Add(%k, %h) : ?   # layer1.1 @ net.py:3
  %m = Relu(%l) : ?   # layer1.1 @ net.py:3
  %n = Conv(%m, @layer1.2.conv1.weight) {pads=[1,1,1,1]} : ?   # layer1.2.conv1 @ net.py:3
  %o = Relu(%n) : ?   # layer1.2 @ net.py:3
  %p = Conv(%o, @layer1.2.conv2.weight) {pads=[1,1,1,1]} : ?   # layer1.2.conv2 @ net.py:3
  %q = Add(%p, %m) : ?   # layer1.2 @ net.py:3
  %r = Relu(%q) : ?   # layer1.2 @ net.py:3
  %s = GlobalAveragePool(%r)
  %shape = Shape(%s)
  %n0 = Gather(%shape, i64[]{0})
  %n1 = Unsqueeze(%n0, i64[1]{0})
  %to = Concat(%n1, i64[1]{-1}) {axis=0}
  %t = Reshape(%s, %to)
  %u = Gemm(%t, @fc.weight, @fc.bias) {transB=1} : ?   # fc @ net.py:9
  return %u
}"""

EXPECTED = '''\
class LayerBlock(nn.Module):
    """3 parts of the network, the first of which is layer1.0."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x), inplace=True))  # [batch, 4, 8, 8]
        return F.relu(y + x, inplace=True)


class SmallResnet(nn.Module):
    """The network: 1 input, 1 output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(*(LayerBlock() for _ in range(3)))
        self.fc = nn.Linear(4, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(image)))  # [batch, 4, 8, 8]
        x = self.layer1(x)  # [batch, 4, 8, 8]
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))  # [batch, 10]
'''

ENCODER = """
graph @encoder(%ids: i64[N,L], %mask: f32[N,L]) -> (states, scores) {
  @embedding.weight : f32[20,8] = random(1)
  @layers.0.query.weight : f32[8,8] = random(2)
  @layers.0.query.bias : f32[8] = random(3)
  @layers.0.norm.weight : f32[8] = random(4)
  @layers.0.norm.bias : f32[8] = random(5)
  @layers.0.gamma : f32[8] = random(6)
  @positions : i64[1,16] = [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]
  %e = Gather(@embedding.weight, %ids) : ?   # embedding @ net.py:1
  %m = MatMul(%e, @layers.0.query.weight) : ?   # layers.0.query @ net.py:2
  %q = Add(%m, @layers.0.query.bias) : ?   # layers.0.query @ net.py:2
  %s = Shape(%ids)
  %heads = Concat(%s, i64[2]{2,4}) {axis=0}
  %r = Reshape(%q, %heads)
  %t = Transpose(%r) {perm=[0,2,1,3]}
  %k = Transpose(%t) {perm=[0,1,3,2]}
  %a = MatMul(%t, %k)
  %b = Mul(%a, f32[]{0.5})
  %neg = Unsqueeze(%mask, i64[2]{1,2})
  %c = Add(%b, %neg)
  %w = Softmax(%c)
  %v = MatMul(%w, %t)
  %back = Transpose(%v) {perm=[0,2,1,3]}
  %flat = Concat(%s, i64[1]{8}) {axis=0}
  %o = Reshape(%back, %flat)
  %scaled = Mul(%o, @layers.0.gamma)
  %res = Add(%scaled, %e)
  %n = LayerNormalization(%res, @layers.0.norm.weight, @layers.0.norm.bias) : ?   # layers.0.norm @ net.py:3
  %tied = Transpose(@embedding.weight) {perm=[1,0]}
  %logits = MatMul(%n, %tied)
  return %n, %logits
}"""


def body(text: str) -> str:
    return text[text.index("class ") : text.index("\n\n\ndef load")] + "\n"


def test_a_residual_network_reads_as_a_person_would_write_it():
    assert body(generate(Model(parse(RESIDUAL))).text) == EXPECTED


def test_the_text_depends_on_the_graph_alone():
    assert generate(Model(parse(ENCODER))).text == generate(Model(parse(ENCODER))).text
    model = Model(parse(ENCODER))
    before = str(model.graph)
    generate(model)
    assert str(model.graph) == before


def test_state_dict_keys_are_the_names_of_the_constants():
    module = to_module(Model(parse(ENCODER)))
    assert set(module.state_dict()) == {
        "embedding.weight", "layers.0.query.weight", "layers.0.query.bias", "layers.0.norm.weight", "layers.0.norm.bias", "layers.0.gamma",
    }  # fmt: skip
    residual = to_module(Model(parse(RESIDUAL))).state_dict()
    assert {"bn1.running_mean", "bn1.num_batches_tracked", "layer1.2.conv2.weight", "fc.bias"} <= set(residual)


def test_a_constant_with_several_users_is_one_parameter():
    module = to_module(Model(parse(ENCODER)))
    shapes = [tuple(p.shape) for _, p in module.named_parameters()]
    assert shapes.count((20, 8)) == 1
    assert "F.linear(states, self.embedding.weight)" in generate(Model(parse(ENCODER))).text


def test_symbolic_sizes_follow_the_input():
    model = Model(parse(ENCODER))
    runner, reference = to_runner(model), OrtRunner(model)
    generator = np.random.default_rng(0)
    for batch, length in ((1, 3), (4, 7)):
        feeds = {
            "ids": generator.integers(0, 20, (batch, length)),
            "mask": generator.standard_normal((batch, length)).astype(np.float32),
        }
        wanted, found = reference.run(feeds), runner.run(feeds)
        assert max(compare(wanted[n], found[n]).max_error for n in wanted) < 1e-5


def test_equal_blocks_of_another_order_are_not_rolled_into_a_loop():
    swapped = RESIDUAL.replace("%i = Conv(%h, @layer1.1.conv1", "%i = Conv(%h, @layer1.1.conv2").replace(
        "%k = Conv(%j, @layer1.1.conv2", "%k = Conv(%j, @layer1.1.conv1"
    )
    text = generate(Model(parse(swapped))).text
    assert "for block in" not in text
    model = Model(parse(swapped))
    image = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    wanted, found = OrtRunner(model).run({"image": image}), to_runner(model).run({"image": image})
    assert compare(wanted["logits"], found["logits"]).max_error < 1e-5


def test_long_statements_stay_within_a_hundred_columns_and_mean_the_same():
    names = [f"a_rather_long_name_for_an_input_{i}" for i in range(9)]
    inputs = ", ".join(f"%{n}: f32[2,N]" for n in names)
    text = f"graph ({inputs}) -> (y) {{ %c = Concat({', '.join('%' + n for n in names)}) {{axis=0}} %y = Softmax(%c) return %y }}"
    source = generate(Model(parse(text))).text
    assert max(map(len, source.splitlines())) <= 100
    feeds = {n: np.full((2, 3), i, np.float32) for i, n in enumerate(names)}
    found = to_runner(Model(parse(text))).run(feeds)["y"]
    assert found.shape == (18, 3)


def test_linters_accept_what_is_emitted(tmp_path):
    pytest.importorskip("ruff", reason="ruff is a development tool")
    for name, text in {"residual": RESIDUAL, "encoder": ENCODER}.items():
        emit(Model(parse(text)), tmp_path, stem=name)
    helpers = (
        "import torch\nimport torch.nn.functional as F\nfrom torch import Tensor, nn\n\n\n"
        + "\n\n\n".join(sources(HELPERS))
        + "\n"
    )
    (tmp_path / "helpers.py").write_text(helpers)
    for command in (["check", "--select", "E,F,I"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", "--line-length", "100", str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_compiler_has_nothing_to_warn_about():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for text in (RESIDUAL, ENCODER):
            compile(generate(Model(parse(text))).text, "model.py", "exec")


@pytest.mark.parametrize(
    ("text", "where", "why"),
    [
        (
            'graph (%x: f32[2]) -> (y) { %y = "acme.example"::Frobnicate(%x) : f32[2]   # head.frob @ net.py:7\n return %y }',
            "head.frob (net.py:7)",
            "no row",
        ),
        (
            "graph (%x: f32[1,1,4,4], %r: f32[1,4], %b: i64[1]) -> (y) { %y = RoiAlign(%x, %r, %b) return %y }",
            "RoiAlign",
            "no row",
        ),
        ("graph (%x: str[2]) -> (y) { %y = Identity(%x) return %y }", "%x", "str"),
        ("graph (%x: u64[2]) -> (y) { %y = Div(%x, %x) return %y }", "Div", "unsigned"),
        (
            "graph (%x: f32[1,2,4], %r: f32[6], %s: f32[3]) -> (y) { %y = Resize(%x, %r, %s) "
            '{coordinate_transformation_mode="tf_crop_and_resize"} : f32[1,2,N] return %y }',
            "Resize",
            "it crops",
        ),
        (
            "graph (%x: f32[1,1,4,4]) -> (y, i) { %y, %i = MaxPool(%x) {kernel_shape=[2,2], storage_order=1} return %y, %i }",
            "MaxPool",
            "indices",
        ),
        ("graph (%x: f32[1,1,4]) -> (y) { %y = Cast(%x) {to=17} return %y }", "Cast", "f8e4m3fn"),
    ],
)
def test_what_has_no_equivalent_is_refused_with_its_place(text, where, why):
    with pytest.raises(UnsupportedError) as caught:
        generate(Model(parse(text)))
    assert where in str(caught.value)
    assert why in str(caught.value)


def test_unnamed_constants_get_plain_names():
    text = """graph (%x: f32[N,3]) -> (y) {
      @"onnx::MatMul_12" : f32[3,4] = random(1) @"/head/Constant_output_0" : f32[4] = [1.0,2.0,3.5,4.0]
      %m = MatMul(%x, @"onnx::MatMul_12") %y = Div(%m, @"/head/Constant_output_0") return %y }"""
    model = Model(parse(text), source_opset=17)
    assert set(to_module(model).state_dict()) == {"linear.weight", "divisor"}


def test_a_trained_module_keeps_its_buffers_apart_from_its_parameters():
    module = to_module(Model(parse(RESIDUAL)))
    assert {n for n, _ in module.named_buffers()} == {"bn1.running_mean", "bn1.running_var", "bn1.num_batches_tracked"}
    assert all(p.requires_grad and isinstance(p, torch.nn.Parameter) for p in module.parameters())
