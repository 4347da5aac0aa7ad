"""Which activations the emitted source computes in place."""

import pytest
from tersor.backends.torch.source import generate
from tersor.ir import Model, parse
from tersor.ir.inference import infer


def source(body: str, outputs: str = "y") -> str:
    graph = parse(
        f"graph(%x: f32[2,4,8,8]) -> ({outputs}) {{ @a.conv.weight : f32[4,4,1,1] = random(1) %c = Conv(%x, @a.conv.weight) : ?  # a.conv\n{body} }}"
    )
    infer(graph)
    return generate(Model(graph)).text


@pytest.mark.parametrize(
    ("activation", "written"),
    [
        ("Relu(%c)", "nn.ReLU(inplace=True)"),
        ("HardSwish(%c)", "nn.Hardswish(inplace=True)"),
        ("Clip(%c, f32[]{0.0}, f32[]{6.0})", "nn.ReLU6(inplace=True)"),
        ("LeakyRelu(%c) {alpha=0.2}", "nn.LeakyReLU(0.2, inplace=True)"),
        ("Swish(%c)", "nn.SiLU(inplace=True)"),
    ],
)
def test_what_the_same_module_made_for_it_alone_is_overwritten(activation: str, written: str):
    assert written in source(f"%y = {activation} : ?  # a.act\nreturn %y")


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        ("%r = Relu(%c)  # a.act\n%y = Add(%r, %c)  # a\nreturn %y", "y"),
        ("%y = Relu(%c)  # a.act\nreturn %y, %c", "y, c"),
        ("%y = Relu(%c)  # b.act\n%z = Relu(%y)  # b\nreturn %z", "z"),
        ("%y = Relu(%x)  # a.act\n%z = Add(%y, %c)  # a\nreturn %z", "z"),
        ("%t = Transpose(%c) {perm=[0,2,3,1]}  # a\n%y = Relu(%t)  # a.act\nreturn %y", "y"),
        ("%s = Sigmoid(%c)  # a\n%y = Relu(%s)  # a.act\nreturn %y", "y"),
        ("%y = Relu(%c)\nreturn %y", "y"),
    ],
    ids=[
        "used again",
        "an output",
        "made by another module",
        "an input",
        "a view",
        "needed by a gradient",
        "no module known",
    ],
)
def test_anything_else_is_left_alone(body: str, outputs: str):
    assert "inplace" not in source(body, outputs)
