"""A whole program with operators that have no rules comes by PyTorch's own exporter, and says so."""

from __future__ import annotations

import types
import warnings

import numpy as np
import onnx
import pytest
import tersor as ts

torch = pytest.importorskip("torch")

from tersor.backends.runners import OrtRunner  # noqa: E402
from tersor.driver import exporter  # noqa: E402
from tersor.driver.exporter import FallbackWarning  # noqa: E402
from tersor.frontends.onnx import load as load_onnx  # noqa: E402
from tersor.frontends.torch import UnknownOperatorsError, from_exported  # noqa: E402
from torch.export import export  # noqa: E402


@torch.library.custom_op("tersor_tests::counted", mutates_args=())
def counted(x: torch.Tensor) -> torch.Tensor:
    return torch.histc(x, 4)


@counted.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return x.new_empty(4)


class Counted(torch.nn.Module):
    """Uses an operator that nobody else knows."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return counted(self.linear(x))


class Training(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(x, 0.5, training=True)


X = torch.linspace(0, 1, 8).reshape(2, 4)


def stock(monkeypatch: pytest.MonkeyPatch, exported: object) -> list[object]:
    """Puts a function in the place of the stock exporter, and an ONNX reader in that of the bridge; gives its calls."""
    calls: list[object] = []

    def export_onnx(program: object, **options: object) -> object:
        calls.append((program, options))
        if isinstance(exported, Exception):
            raise exported
        return types.SimpleNamespace(model=exported)

    monkeypatch.setattr(torch.onnx, "export", export_onnx)
    monkeypatch.setattr(exporter, "bridge", lambda _: types.SimpleNamespace(load=load_onnx))
    return calls


def written() -> onnx.ModelProto:
    return onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> g (float[4] x) => (float[4] y) { y = Abs(x) }'
    )


def test_the_frontend_names_every_operator_it_does_not_know():
    program = export(Counted(), (X,), strict=False)
    with pytest.raises(UnknownOperatorsError) as caught:
        from_exported(program)
    assert "tersor_tests.counted.default" in caught.value.operators
    assert caught.value.program is program


def test_an_unknown_operator_makes_the_whole_program_come_by_the_stock_exporter(monkeypatch: pytest.MonkeyPatch):
    calls = stock(monkeypatch, written())
    program = export(Counted(), (X,), strict=False)
    with pytest.warns(FallbackWarning, match=r"tersor_tests\.counted\.default"):
        model = ts.load(program)
    assert calls == [(program, {"dynamo": True, "verbose": False})]
    assert [n.op for n in model.graph] == ["Abs"]


def test_a_module_with_arguments_falls_back_as_its_program_does(monkeypatch: pytest.MonkeyPatch):
    stock(monkeypatch, written())
    with pytest.warns(FallbackWarning, match="stock exporter"):
        assert list(ts.load((Counted(), (X,))).graph.output_names) == ["y"]


def test_where_the_stock_exporter_fails_too_the_first_error_is_shown(monkeypatch: pytest.MonkeyPatch):
    stock(monkeypatch, RuntimeError("no conversion either"))
    with pytest.raises(UnknownOperatorsError) as caught:
        ts.load(export(Counted(), (X,), strict=False))
    assert "no conversion either" in caught.value.why
    assert "counted" in str(caught.value)


def test_what_no_exporter_could_mean_does_not_fall_back(monkeypatch: pytest.MonkeyPatch):
    calls = stock(monkeypatch, written())
    with pytest.raises(ts.TersorError, match="dropout"):
        ts.load(export(Training(), (X,), strict=False))
    assert not calls


def test_a_program_with_rules_does_not_warn(monkeypatch: pytest.MonkeyPatch):
    calls = stock(monkeypatch, written())
    linear = torch.nn.Linear(4, 3).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error", FallbackWarning)
        model = ts.load((linear, (X,)))
    got = next(iter(OrtRunner(model).run({model.graph.inputs[0].name: X.numpy()}).values()))
    assert np.allclose(got, linear(X).detach().numpy(), atol=1e-6)
    assert not calls
