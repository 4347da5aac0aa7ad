"""Higher-order operators from PyTorch: submodules that run depending on data become regions, and compute the same."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from tersor.backends.runners import OrtRunner  # noqa: E402
from tersor.backends.torch import to_runner  # noqa: E402
from tersor.frontends.torch import from_module  # noqa: E402
from tersor.ir import UnsupportedError, verify  # noqa: E402
from torch import nn  # noqa: E402
from torch._higher_order_ops.associative_scan import associative_scan  # noqa: E402
from torch._higher_order_ops.map import map as over_entries  # noqa: E402
from torch._higher_order_ops.scan import scan  # noqa: E402


class Net(nn.Module):
    """A function of a tensor [rows, 4] that may use two layers."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.function, self.first, self.second = function, nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.function(self, x)


def one_of_two(net, x):
    chosen = torch.cond(x.sum() > 0, lambda y: net.first(y) * x.shape[0], lambda y: net.second(y).relu() + y[:1], (x,))
    return chosen + 1


def one_of_four(net, x):
    def inner(y):
        return torch.cond(y[0, 0] > 0, net.first, net.second, (y,))

    return torch.cond(x.sum() > 0, inner, lambda y: y * 2, (x,))


def until_large(net, x):
    def grown(count, y):
        return count + 1, net.first(y) + x

    return torch.while_loop(lambda count, y: (count < 7) & (y.abs().sum() < 30), grown, (torch.tensor(0), x))


def decaying(net, x):
    return scan(lambda kept, row: (kept * 0.9 + net.first(row), kept.sum()), torch.zeros(4), x, dim=0)


def each_row(net, x):
    return over_entries(lambda row: net.first(row).relu(), x)


def products_so_far(net, x):
    return associative_scan(lambda a, b: a * b, x, 0, combine_mode="generic")


def each_row_at_once(net, x):
    return torch.vmap(lambda row: net.first(row).sum())(x)


@pytest.mark.parametrize(
    ("function", "operators"),
    [
        (one_of_two, {"If"}), (one_of_four, {"If"}), (until_large, {"Loop"}), (decaying, {"Scan"}), (each_row, {"Scan"}),
        (products_so_far, set()), (each_row_at_once, set()),
    ],
    ids=lambda f: getattr(f, "__name__", ""),
)  # fmt: skip
def test_a_submodule_that_runs_depending_on_data_is_a_region(function, operators):
    net = Net(function)
    given = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    model = from_module(net, (given,))
    verify(model.graph)
    assert {node.op for node in model.graph.walk() if node.regions} == operators
    for x in (given, given - 3, given * 0.1 + 1):
        results = net(x)
        expected = [results] if torch.is_tensor(results) else list(results)
        for runner in (OrtRunner(model), to_runner(model)):
            found = runner.run({"x": x.numpy()})
            for name, wanted in zip(model.graph.output_names, expected, strict=True):
                np.testing.assert_allclose(found[name], wanted.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_the_rows_of_a_branch_may_be_symbolic():
    net = Net(one_of_two)
    model = from_module(net, (torch.ones(3, 4),), dynamic_shapes=({0: torch.export.Dim("rows")},))
    for x in (torch.ones(5, 4), -torch.ones(2, 4)):
        (found,) = OrtRunner(model).run({"x": x.numpy()}).values()
        np.testing.assert_allclose(found, net(x).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_element_types_that_autocast_chooses_are_in_the_graph():
    def lower(net, x):
        with torch.autocast("cpu", torch.bfloat16):
            return net.first(x), net.second(x).float()

    model = from_module(Net(lower), (torch.ones(3, 4),))
    assert [str(v.type) for v in model.graph.outputs] == ["bf16[3,4]", "f32[3,4]"]


def test_an_operator_without_a_row_in_a_branch_is_refused_with_its_place():
    net = Net(lambda net, x: torch.cond(x.sum() > 0, lambda y: y + torch.rand(4), lambda y: y, (x,)))
    with pytest.raises(UnsupportedError, match=r"aten\.rand"):
        from_module(net, (torch.ones(3, 4),))
