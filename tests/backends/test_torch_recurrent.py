"""Layers of one recurrent module are that module again; what only looks like it stays apart."""

import pytest
import tersor as ts
import torch
from tersor.backends.torch import to_module
from tersor.frontends.torch import from_module
from torch import nn


class Tagger(nn.Module):
    """A recurrent network and a linear layer over its sequence; gives its final states as well if asked to."""

    def __init__(self, cell=nn.LSTM, *, states=False, **options):
        super().__init__()
        self.rnn = cell(4, 5, **options)
        self.head = nn.Linear(5 * (1 + self.rnn.bidirectional), 3)
        self.states = states

    def forward(self, x, *initial):
        sequence, state = self.rnn(x, *([initial] if len(initial) == 2 else initial))
        found = state if isinstance(state, tuple) else (state,)
        return (self.head(sequence), *(found if self.states else ()))


class Tapped(nn.Module):
    """Two layers with weights of one module's names, between which something else reads."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.GRU(4, 5), nn.GRU(5, 5)

    def forward(self, x):
        between = self.first(x)[0]
        return self.second(between)[0] + between


CASES = {
    "two layers": (lambda: Tagger(num_layers=2, batch_first=True), 0),
    "both directions": (lambda: Tagger(num_layers=2, bidirectional=True), 0),
    "three layers and their states": (lambda: Tagger(nn.GRU, num_layers=3, bidirectional=True, states=True), 0),
    "initial states": (lambda: Tagger(num_layers=2, states=True), 2),
    "no biases": (lambda: Tagger(nn.RNN, num_layers=2, bias=False), 0),
}


def emitted(module, *arguments):
    torch.manual_seed(0)
    module = module.eval()
    model = from_module(module, arguments)
    ts.Simplify(level="train").run(model, ts.Context())
    made = to_module(model)
    wanted, found = module(*arguments), made(*arguments)
    torch.testing.assert_close(found if isinstance(found, tuple) else (found,), wanted)
    return model, made


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_layers_of_one_module_are_one_module_with_the_original_keys(name):
    make, states = CASES[name]
    module = make()
    layers = module.rnn.num_layers * (1 + module.rnn.bidirectional)
    arguments = [torch.rand(6, 2, 4), *(torch.rand(layers, 2, 5) for _ in range(states))]
    model, made = emitted(module, *arguments)
    assert type(made.rnn) is type(module.rnn)
    assert made.rnn.num_layers == module.rnn.num_layers
    state = {k: v * 2 for k, v in module.state_dict().items()}
    made.load_state_dict(state)
    module.load_state_dict(state)
    torch.testing.assert_close(
        made(*arguments)[0] if layers and module.states else made(*arguments), module(*arguments)[0]
    )
    model.load_weights(made.state_dict())
    torch.testing.assert_close(to_module(model).rnn.weight_hh_l1, module.rnn.weight_hh_l1)


@pytest.mark.filterwarnings("ignore")
def test_a_layer_whose_sequence_something_else_reads_stays_a_module_of_its_own():
    module = Tapped().eval()
    x = torch.rand(6, 2, 4)
    made = to_module(from_module(module, (x,)))
    assert set(made.state_dict()) == set(module.state_dict())
    torch.testing.assert_close(made(x), module(x))
