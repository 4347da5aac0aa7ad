"""Constants that a module computes on the way: written as expressions where they are some, in no state_dict otherwise."""

import numpy as np
import pytest
import tersor as ts
import torch
from tersor.backends.torch import emit, to_module
from tersor.backends.torch.constants import formula
from tersor.frontends.torch import from_module
from tersor.ir import Dense, UsageError
from torch import nn

NOISE = torch.tensor([[0.5, -1.25], [3.0, 0.75]])


class Masked(nn.Module):
    """Adds numbers that it computes from nothing, and multiplies by a parameter."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.rand(2))
        self.register_buffer("noise", NOISE, persistent=False)
        self.register_buffer("places", torch.arange(64).reshape(1, 64), persistent=False)

    def forward(self, x):
        return (x + self.noise + self.places[:, :2]) * self.gain


def simplified():
    torch.manual_seed(0)
    module = Masked().eval()
    model = from_module(module, (torch.rand(2, 2),))
    ts.Simplify(level="train").run(model, ts.Context())
    return module, model


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros((2, 40), np.float32), "torch.zeros(2, 40)"),
        (np.ones((1, 5), np.float32), "torch.ones(1, 5)"),
        (np.full((40,), -3.5, np.float64), "torch.full((40,), -3.5, dtype=torch.float64)"),
        (np.full((40,), -np.inf, np.float32), None),
        (np.full((40,), -0.0, np.float32), None),
        (np.arange(40), "torch.arange(40)"),
        (np.arange(0, 80, 2, np.int32).reshape(8, 5), "torch.arange(0, 80, 2, dtype=torch.int32).reshape(8, 5)"),
        (np.arange(40, dtype=np.float32) - 3, "torch.arange(-3, 37, dtype=torch.float32)"),
        (np.tri(5, 6, dtype=bool)[None], "torch.ones(1, 5, 6, dtype=torch.bool).tril()"),
        (np.tri(5, 6, 2, dtype=bool), "torch.ones(5, 6, dtype=torch.bool).tril(2)"),
        (np.array([[True, False]]), "torch.tensor([[True, False]])"),
        (np.arange(40)[::-1].copy(), "torch.arange(39, -1, -1)"),
        (np.arange(40) ** 2, None),
        (np.random.default_rng(0).random(40), None),
    ],
)
def test_a_formula_gives_the_constant_bit_for_bit(array, text):
    made = formula(Dense(array))
    assert (made.render({}) if made is not None else None) == text
    if text is not None:
        found = eval(text, {"torch": torch}).numpy()
        assert found.dtype == array.dtype
        assert found.tobytes() == np.ascontiguousarray(array).tobytes()


def test_the_original_state_dict_loads_strictly():
    module, model = simplified()
    made = to_module(model)
    assert set(made.state_dict()) == set(module.state_dict()) == {"gain"}
    made.load_state_dict({"gain": torch.tensor([2.0, 3.0])})
    module.load_state_dict(made.state_dict())
    x = torch.rand(2, 2)
    torch.testing.assert_close(made(x), module(x))


def test_a_loaded_file_keeps_its_constants_whatever_weights_it_gets(tmp_path):
    from safetensors.torch import save_file

    module, model = simplified()
    found = emit(model, tmp_path)
    made = found.module_class()
    with pytest.raises(RuntimeError, match="Missing key"):
        made.load_state_dict(module.state_dict())  # it has no constants yet
    save_file({"gain": torch.tensor([5.0, 7.0])}, tmp_path / "other.safetensors")
    namespace = {"__file__": str(found.files[0]), "__name__": "model"}
    exec(found.files[0].read_text(), namespace)
    loaded = namespace["load"](tmp_path / "other.safetensors")
    assert set(loaded.state_dict()) == {"gain"}
    x = torch.rand(2, 2)
    torch.testing.assert_close(loaded(x), (x + NOISE + torch.arange(2)) * torch.tensor([5.0, 7.0]))


def test_weights_come_back_with_constants_and_without(tmp_path):
    module, model = simplified()
    emit(model, tmp_path)
    model.load_weights({"gain": np.array([2.0, 3.0], np.float32)})
    torch.testing.assert_close(to_module(model).gain.detach(), torch.tensor([2.0, 3.0]))
    model.load_weights(tmp_path / "model.safetensors")
    torch.testing.assert_close(to_module(model).gain.detach(), module.gain.detach())
    with pytest.raises(UsageError, match="noise2"):
        model.load_weights({"gain": np.ones(2, np.float32), "noise2": np.ones(2, np.float32)})
