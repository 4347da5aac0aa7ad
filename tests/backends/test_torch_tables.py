"""Constant index tables come out as the movements that they are; what is no movement stays a table."""

import numpy as np
import pytest
import torch
from tersor.backends.runners import OrtRunner
from tersor.backends.torch import to_module
from tersor.backends.torch.source import generate
from tersor.backends.torch.tables import movement
from tersor.ir import Model, parse


def windows(size, window, shift):
    """Where the entries of shifted windows lie in a square picture."""
    picture = np.roll(np.arange(size * size).reshape(size, size), (-shift, -shift), (0, 1))
    return picture.reshape(size // window, window, size // window, window).transpose(0, 2, 1, 3)


def back(size, window, shift):
    """Where the pixels of a picture lie in its shifted windows."""
    return np.argsort(windows(size, window, shift), axis=None).reshape(size, size)


def applied(found, x, table):
    """What a movement makes of a vector."""
    if found.grid:
        x = np.roll(x.reshape(found.grid), found.before, (0, 1))
    x = x.reshape(found.digits)[tuple(slice(a, b) for a, b in found.parts)].transpose(found.perm).reshape(table.shape)
    return np.roll(x, found.after, tuple(range(x.ndim))) if found.after else x


TABLES = {
    "all in order": (np.arange(6).reshape(2, 3), 6),
    "a part": (np.arange(3, 9), 12),
    "every other one": (np.arange(1, 12, 2), 12),
    "channels shuffled": (np.arange(12).reshape(3, 4).T.reshape(-1), 12),
    "half of them": (np.arange(12).reshape(2, 6).T.reshape(-1)[:6], 12),
    "windows": (windows(6, 3, 0).reshape(4, 9), 36),
    "shifted windows": (windows(6, 3, 1).reshape(4, 9), 36),
    "back from shifted windows": (back(6, 3, 1), 36),
    "a roll": (np.roll(np.arange(8), 3), 8),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_movement_does_what_its_table_does(name):
    table, size = TABLES[name]
    found = movement(table, size)
    assert found is not None
    x = np.random.default_rng(0).random(size)
    np.testing.assert_array_equal(applied(found, x, table), x[table])


def test_a_table_in_no_order_is_no_movement():
    assert movement(np.random.default_rng(0).permutation(24), 24) is None
    assert movement(np.array([0, 0, 1, 1, 2, 5]), 6) is None


def text_of(table):
    shape = ",".join(map(str, table.shape))
    return f"i64[{shape}]{{{','.join(map(str, table.reshape(-1)))}}}"


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("batch", ["3", "N"])
def test_emitted_movements_compute_what_onnx_does(name, batch):
    table, size = TABLES[name]
    text = f"graph (%x: f32[{batch},{size},2]) -> (y) {{ %y = Gather(%x, {text_of(table)}) {{axis=1}} return %y }}"
    model = Model(parse(text))
    x = np.random.default_rng(0).random((3, size, 2)).astype(np.float32)
    module = to_module(model)
    assert not module.state_dict()
    assert "Buffer" not in generate(model).text
    np.testing.assert_array_equal(module(torch.from_numpy(x)).numpy(), OrtRunner(model).run({"x": x})["y"])


@pytest.mark.parametrize(
    ("body", "written"),
    [
        ("%y = GatherND(%x, i64[1,2,2]{0,0,0,1})", "x"),
        ("%z = Gather(%x, i64[2,2]{1,1,1,1}) {axis=0} %y = Add(%z, f32[2,2,2]{1,2,3,4,5,6,7,9})", "x[1:2]"),
        (
            "%b = Cast(%x) {to=9} %a = And(%b, bool[2,2]{true,true,true,true}) %y = Cast(%a) {to=1}",
            "x.to(torch.bool).to",
        ),
        ("%z = Gather(%x, i64[2,2]{0,1,1,1}) {axis=0} %y = Relu(%z)", "x[self.table]"),
    ],
)
def test_what_a_table_stands_for_is_written(body, written):
    model = Model(parse(f"graph (%x: f32[2,2]) -> (y) {{ {body} return %y }}"))
    assert written in generate(model).text
    x = np.array([[0.0, 1.0], [2.0, 3.0]], np.float32)
    np.testing.assert_array_equal(
        to_module(model)(torch.from_numpy(x)).detach().numpy(), OrtRunner(model).run({"x": x})["y"]
    )


def test_features_that_grow_are_joined_to_what_was_joined_before():
    text = """graph (%a: f32[1,2], %b: f32[1,2], %c: f32[1,2]) -> (y, z) {
      %y = Concat(%a, %b) {axis=1} %z = Concat(%a, %b, %c) {axis=1} return %y, %z }"""
    model = Model(parse(text))
    assert "torch.cat((y, c), dim=1)" in generate(model).text
    a, b, c = (torch.rand(1, 2) for _ in range(3))
    assert torch.equal(to_module(model)(a, b, c)[1], torch.cat((a, b, c), 1))
