"""The emitted files that the pages show, and how long they are: python benchmarks/emitted_source.py [--docs FOLDER]

Writes FOLDER/<name>.py for resnet50, bert_base, swin_t, mobilenet_v3_large (weights are random, nothing is downloaded)
and for the digits network of the examples, each at level "train", run and compared before it counts. The same command
writes the same bytes again. Prints a Markdown table: lines of each file beside the lines of the classes that the
original is made of and, with --peers, beside what pnnx and onnx2torch make of the same module, each in a process of its
own (--peer-path says where they are installed when that is not here).

Needs torch, torchvision and transformers. --shim FILE is run before torchvision is imported: it may declare operators
that a torchvision without its compiled part lacks.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import json
import os
import runpy
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import tersor as ts
import torch
from tersor.backends.torch import emit
from torch import nn

HERE = Path(__file__).parent
DIGITS = HERE.parent / "examples" / "digits" / "digits.onnx"


class Bert(nn.Module):
    """BERT's states from tokens and a mask, by position."""

    def __init__(self) -> None:
        super().__init__()
        transformers = importlib.import_module("transformers")
        self.bert = transformers.BertModel(transformers.BertConfig(), add_pooling_layer=True)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        made = self.bert(input_ids=input_ids, attention_mask=attention_mask)
        return made.last_hidden_state, made.pooler_output


def vision(name: str) -> Callable[[], tuple[nn.Module, tuple[Any, ...]]]:
    def make() -> tuple[nn.Module, tuple[Any, ...]]:
        torchvision = importlib.import_module("torchvision")
        return torchvision.models.get_model(name, weights=None), (torch.randn(1, 3, 224, 224),)

    return make


def bert() -> tuple[nn.Module, tuple[Any, ...]]:
    return Bert(), (torch.randint(5, 1000, (1, 32)), torch.ones(1, 32, dtype=torch.int64))


MODELS = {
    "resnet50": vision("resnet50"), "bert_base": bert, "swin_t": vision("swin_t"),
    "mobilenet_v3_large": vision("mobilenet_v3_large"),
}  # fmt: skip


def made(name: str) -> tuple[nn.Module, tuple[Any, ...]]:
    torch.manual_seed(0)
    module, arguments = MODELS[name]()
    return module.eval(), arguments


# Counting


def lines_of_code(text: str) -> tuple[int, int]:
    """All lines, and those that are neither blank nor comment nor docstring."""
    tree = ast.parse(text)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docs: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            docs.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = text.splitlines()
    plain = [i for i, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")]
    return len(lines), len(set(plain) - docs)


def original_lines(module: nn.Module) -> tuple[int, int]:
    """The same of the classes of all its modules that torch itself does not define, each counted once."""
    kinds = {type(m) for m in module.modules()}
    kinds |= {base for kind in kinds for base in kind.__mro__}
    own = [k for k in kinds if k.__module__.split(".")[0] in ("torchvision", "transformers")]
    own = [k for k in own if issubclass(k, nn.Module) and k.__name__ != "PreTrainedModel"]
    counts = [lines_of_code(inspect.cleandoc("\n" + inspect.getsource(k))) for k in own]
    return sum(a for a, _ in counts), sum(b for _, b in counts)


def simplified(model: ts.Model) -> ts.Model:
    ts.Simplify(level="train").run(model, ts.Context())
    return model


def emitted_lines(source: Any, target: Path) -> tuple[int, int, int]:
    """Writes the emitted file; lines, lines of code and columns."""
    with tempfile.TemporaryDirectory() as scratch:
        found = emit(source, scratch)
        text = found.files[0].read_text("ascii")
    target.write_text(text, "ascii")
    return *lines_of_code(text), max(map(len, text.splitlines()))


# Peers


def pnnx_lines(name: str) -> dict[str, Any]:
    """The file that pnnx writes, and whether it can be imported and run."""
    pnnx = importlib.import_module("pnnx")
    module, arguments = made(name)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"{name}.pt"
        error = ""
        try:
            with torch.no_grad():
                pnnx.export(module, str(path), arguments)
        except Exception as failed:
            error = f"{type(failed).__name__}: {failed}"[:200]
        written = path.with_name(f"{name}_pnnx.py")
        if not written.exists():
            return {"error": error or "it wrote no file"}
        text = written.read_text()
        os.chdir(scratch)
        try:
            outputs = runpy.run_path(str(written))["Model"]().eval()(*arguments)
            found = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
            with torch.no_grad():
                wanted = module(*arguments)
            wanted = wanted[0] if isinstance(wanted, (tuple, list)) else wanted
            error = "" if torch.allclose(found, wanted, atol=1e-3) else "other numbers"
        except Exception as failed:
            error = f"{type(failed).__name__}: {failed}"[:200]
    return {"lines": lines_of_code(text), "error": error}


def onnx2torch_lines(name: str) -> dict[str, Any]:
    """onnx2torch makes a module in memory; what it has of source is the generated `forward`."""
    onnx2torch = importlib.import_module("onnx2torch")
    module, arguments = made(name)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        torch.onnx.export(module, arguments, str(path), dynamo=False, opset_version=17)
        converted = onnx2torch.convert(str(path))
    return {"lines": lines_of_code(converted.code.strip()), "error": ""}


PEERS = {"pnnx": pnnx_lines, "onnx2torch": onnx2torch_lines}


def asked(peer: str, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """A peer's figures from a process of its own."""
    command = [sys.executable, str(Path(__file__)), "--peer", peer, name]
    command += ["--shim", str(options.shim)] if options.shim else []
    path = os.pathsep.join(p for p in (os.environ.get("PYTHONPATH"), options.peer_path) if p)
    try:
        environment = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=options.timeout, env=environment
        )
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (subprocess.TimeoutExpired, IndexError, ValueError) as error:
        return {"error": type(error).__name__}


def shown(found: dict[str, Any]) -> str:
    error = f" ({found['error']})" if found.get("error") else ""
    return f"{found['lines'][0]}{error}" if "lines" in found else f"none{error}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, default=HERE.parent / "docs" / "emitted")
    parser.add_argument("--only", nargs="*", help="names of models")
    parser.add_argument("--peers", action="store_true", help="ask pnnx and onnx2torch as well")
    parser.add_argument("--peer-path", help="a folder that the peers are installed in")
    parser.add_argument("--peer", nargs=2, metavar=("PEER", "NAME"), help=argparse.SUPPRESS)
    parser.add_argument("--timeout", type=float, default=300, help="seconds for a peer and a model")
    parser.add_argument("--shim", type=Path, help="a Python file to run first")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    declared = runpy.run_path(str(options.shim)) if options.shim else {}  # lives as long as what it declares
    if options.peer:
        peer, name = options.peer
        try:
            found = PEERS[peer](name)
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}".split("\n")[0][:120]}
        print(json.dumps(found))
        return
    options.docs.mkdir(parents=True, exist_ok=True)
    print("| | original | emitted | longest line |" + " pnnx | onnx2torch |" * options.peers)
    print("|---|---|---|---|" + "---|---|" * options.peers)
    for name in options.only or [*MODELS, "digits"]:
        if name == "digits":
            model = simplified(ts.load(DIGITS))
            lines, code, columns = emitted_lines(model, options.docs / "digits.py")
            print(f"| digits | | {lines} ({code}) | {columns} |" + " | |" * options.peers, flush=True)
            continue
        module, arguments = made(name)
        model = simplified(ts.load(torch.export.export(module, arguments, strict=False)))
        lines, code, columns = emitted_lines(model, options.docs / f"{name}.py")
        total, own = original_lines(module)
        row = f"| {name} | {total} ({own}) | {lines} ({code}) | {columns} |"
        if options.peers:
            row += "".join(f" {shown(asked(peer, name, options))} |" for peer in PEERS)
        print(row, flush=True)
    declared.clear()


if __name__ == "__main__":
    main()
