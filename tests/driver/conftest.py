"""A small trained-like network as an ONNX file with calibration data, the command line, and a plug-in."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tersor
from tersor.driver.cli import main
from tersor.ir import Model, parse
from tersor.ir.inference import infer

NETWORK = """graph @net(%x: f32[N,3,8,8]) -> (logits) {
  @conv1.weight : f32[16,3,3,3] = random(1)
  @bn.weight : f32[16] = random(2)
  @bn.bias : f32[16] = random(3)
  @bn.mean : f32[16] = random(4)
  @bn.var : f32[16] = [1,2,1,2,1,2,1,2,1,2,1,2,1,2,1,2]
  @conv2.weight : f32[16,16,3,3] = random(5)
  @fc.weight : f32[10,16] = random(6)
  @fc.bias : f32[10] = random(7)
  %0 = Conv(%x, @conv1.weight) {pads=[1,1,1,1]} : f32[N,16,8,8]   # conv1 @ net.py:3
  %1 = BatchNormalization(%0, @bn.weight, @bn.bias, @bn.mean, @bn.var) : f32[N,16,8,8]   # bn @ net.py:4
  %2 = Relu(%1) : f32[N,16,8,8]   # relu @ net.py:5
  %3 = Conv(%2, @conv2.weight) {pads=[1,1,1,1]} : f32[N,16,8,8]   # conv2 @ net.py:6
  %4 = Relu(%3) : f32[N,16,8,8]   # relu2 @ net.py:7
  %5 = GlobalAveragePool(%4) : f32[N,16,1,1]   # pool @ net.py:8
  %6 = Flatten(%5) : f32[N,16]   # flatten @ net.py:9
  %7 = Gemm(%6, @fc.weight, @fc.bias) {transB=1} : f32[N,10]   # fc @ net.py:10
  return %7
}"""


@pytest.fixture
def network() -> Model:
    graph = parse(NETWORK)
    infer(graph)
    return Model(graph, source_opset=17)


@pytest.fixture
def folder(tmp_path: Path, network: Model) -> Path:
    """A folder with net.onnx, calib.npz (40 samples) and metric.py."""
    tersor.save(network, tmp_path / "net.onnx")
    samples = np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "calib.npz", x=samples)
    (tmp_path / "metric.py").write_text(
        "import numpy as np\n"
        "def positive(run):\n"
        "    x = np.random.default_rng(1).standard_normal((20, 3, 8, 8)).astype(np.float32)\n"
        "    return (run({'x': x})['logits'][:, 0] > 0).astype(np.float32)\n"
    )
    return tmp_path


# The command line


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; gives its exit code and what it printed on stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(a) for a in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.fixture
def refused(run: Run, folder: Path) -> Callable[..., str]:
    """Runs a command that must fail with a code, one clear message, no traceback and no change to any file."""

    def call(code: int, *arguments: object) -> str:
        before = tree(folder)
        found, out, err = run(*arguments)
        assert found == code, err
        assert err.startswith("tersor: ")
        assert "Traceback" not in out + err
        assert len(err.strip().splitlines()) <= 4
        assert tree(folder) == before
        return err

    return call


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# A package of somebody else


MODULE = '''
from dataclasses import dataclass
from typing import ClassVar

import tersor as ts
from tersor import P, decline, rule

x = P.var("x")


@rule(P.Relu(P.Relu(x)))
def relu_once(op, x):
    """Relu of Relu is Relu."""
    return op.Relu(x)


@rule("GlobalAveragePool")
def pool_to_mean(op, node):
    """GlobalAveragePool is a mean over the axes behind the second."""
    x = node.operand(0)
    return decline("its rank is not known") if x.rank is None else op.ReduceMean(x, list(range(2, x.rank)))


rules = (relu_once, pool_to_mean)


@dataclass(frozen=True)
class Rename(ts.Pass):
    """Names the graph."""

    name: ClassVar[str] = "rename"
    contract: ClassVar = "exact"

    to: str = "renamed"
    times: int = 1

    def run(self, model, context):
        model.graph.name = self.to * self.times
        return ts.Outcome(changed=1)


not_a_pass = 42
'''

ENTRIES = """[tersor.passes]
my-rename = tiny_plugin:Rename
tiny-rules = tiny_plugin:rules
pool-rule = tiny_plugin:pool_to_mean
wrong-kind = tiny_plugin:not_a_pass
gone = tiny_plugin_that_is_not_there:Pass
"""


Register = Callable[[Path, str, str], None]


@pytest.fixture
def distribution() -> Register:
    """Makes the metadata of an installed distribution: its folder, its name, its entry points."""
    return register


def register(folder: Path, name: str, entries: str) -> None:
    info = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(entries)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with a package that registers passes and rules."""
    place = tmp_path / "site"
    register(place, "tiny-plugin", ENTRIES)
    (place / "tiny_plugin.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(place))
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, "tiny_plugin", raising=False)
    return place
