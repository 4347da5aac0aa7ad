"""The main job on real trained models: python benchmarks/real_models.py --data FOLDER [--only NAME] [--json FILE]

FOLDER holds models/ (cifar_resnet, squeezenet11, minilm, silero_vad), cifar10/, imagenet/ and stsb/; MiniLM needs
`tersor[bench]`. Latencies are ratios of interleaved runs on one thread. Accuracies of the same images are compared, so
small differences mean more than their intervals say.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import sys
import tempfile
import wave
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tersor as ts
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file
from tersor.backends.runners import OrtRunner
from tersor.backends.torch import to_runner
from tersor.driver.data import from_path
from tersor.driver.evaluate import load_function

ROOT = Path(__file__).resolve().parent.parent
CIFAR_MEAN = IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
CIFAR_STD = IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)
ALL = "simplify,prune(ratio=0.3),quantize"


@dataclass
class Row:
    """One job on one model; figures before and after."""

    model: str
    job: str
    metric: str = ""
    before: float | None = None
    after: float | None = None
    parameters: tuple[int, int] | None = None
    flops: tuple[int, int] | None = None
    bytes: tuple[int, int] | None = None
    latency_ratio: tuple[float, float, float] | None = None
    sqnr_db: float | None = None
    max_error: float | None = None
    notes: list[str] = field(default_factory=list)


def row(
    model: str, job: str, result: ts.Result, metric: str = "", sqnr: float | None = None, notes: tuple[str, ...] = ()
) -> Row:
    """A row from a run's record."""
    first, last = result.record.steps[0], result.record.steps[-1]
    timed = last.latency
    return Row(
        model,
        job,
        metric,
        first.metrics[metric].value if metric else None,
        last.metrics[metric].value if metric else None,
        (first.parameters or 0, last.parameters or 0),
        (first.flops or 0, last.flops or 0),
        (first.bytes or 0, last.bytes or 0),
        (timed.ratio, timed.ratio_low, timed.ratio_high)
        if timed and timed.ratio and timed.ratio_low and timed.ratio_high
        else None,
        sqnr if sqnr is not None else last.distance.sqnr_db if last.distance else None,
        last.distance.max_error if last.distance else None,
        list(notes),
    )


def oracle_row(name: str, model: ts.Model, data: Any = None) -> Row:
    """Prune 30 % and report the mask oracle with its negative controls."""
    result = ts.apply(model, "prune(ratio=0.3)", data=data)
    outcome = result.steps[0].outcome
    made = row(name, "mask oracle at 30 %", result)
    made.notes = list(outcome.notes)
    found = outcome.checks.get("mask_oracle")
    if found is not None:
        made.max_error, made.sqnr_db = found.worst, None
        fewer = made.parameters is not None and made.parameters[1] < made.parameters[0]
        made.notes = [f"{found.values} values, outputs moved by {found.changed:.2g}, parameters dropped: {fewer}"]
    return made


def normalized(images: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """uint8 [N,H,W,3] to float32 [N,3,H,W]."""
    return np.ascontiguousarray(((images / np.float32(255) - mean) / std).astype(np.float32).transpose(0, 3, 1, 2))


def batches(name: str, array: np.ndarray, size: int = 32) -> list[dict[str, np.ndarray]]:
    return [{name: array[i : i + size]} for i in range(0, len(array), size)]


def top1(name: str, output: str, images: np.ndarray, labels: np.ndarray) -> Callable[[Any], np.ndarray]:
    """Per-image correctness, for intervals and paired comparison."""

    def evaluate(run: Any) -> np.ndarray:
        logits = np.concatenate([run(feed)[output] for feed in batches(name, images)])
        return (logits.argmax(1) == labels).astype(np.float32)

    return evaluate


# The models


def digits(root: Path) -> Iterator[Row]:
    folder = ROOT / "examples/digits"
    model = ts.load(folder / "digits.onnx")
    data = from_path(folder / "calibration.npz", model.graph)
    _, evaluate = load_function(f"{folder / 'evaluate.py'}:top1")
    result = ts.compress(
        model,
        "size<=0.3x, drop(top1)<=2%",
        data=data,
        evaluate={"top1": evaluate},
        methods="simplify,prune(ratio=0.25),quantize",
    )
    yield row("digits", "the demo's goal", result, "top1", notes=(result.why,))
    yield oracle_row("digits", model, data)


def resnet20(root: Path) -> Iterator[Row]:
    train, test = np.load(root / "cifar10/train5085.npz"), np.load(root / "cifar10/test512.npz")
    calibration = normalized(train["x"][:1024], CIFAR_MEAN, CIFAR_STD)
    images = normalized(test["x"], CIFAR_MEAN, CIFAR_STD)
    model = ts.load(root / "models/cifar_resnet/resnet20_bn.onnx")
    name, output = model.graph.inputs[0].name, model.graph.output_names[0]
    data = ts.data(batches(name, calibration))
    evaluate = {"top1": top1(name, output, images, test["y"])}
    jobs = {
        "simplify": "simplify",
        "prune 30 %": "prune(ratio=0.3)",
        "prune 30 % by 8": "prune(ratio=0.3, multiple_of=8)",
        "int8": "simplify,quantize",
        "all": ALL,
    }
    for job, methods in jobs.items():
        result = ts.compress(model, data=data, evaluate=evaluate, methods=methods)
        yield row("resnet20 (onnx)", job, result, "top1", notes=agreement(result, name, images))
    yield oracle_row("resnet20 (onnx)", model, data)
    network = ts.load((torch_resnet20(root), (example(images),), None, {"x": {0: dynamic("N")}}))
    name, output = network.graph.inputs[0].name, network.graph.output_names[0]
    data, evaluate = ts.data(batches(name, calibration)), {"top1": top1(name, output, images, test["y"])}
    for job, methods in jobs.items():
        result = ts.compress(network, data=data, evaluate=evaluate, methods=methods)
        yield row("resnet20 (torch)", job, result, "top1", notes=agreement(result, name, images))


def agreement(result: ts.Result, name: str, images: np.ndarray) -> tuple[str, ...]:
    """How far the emitted PyTorch module is from the ONNX file under ONNX Runtime, on real images."""
    with tempfile.TemporaryDirectory() as folder:
        emitted = result.emit_pytorch(folder)
        result.save(Path(folder) / "saved.onnx")
        saved = OrtRunner(ts.load(Path(folder) / "saved.onnx"))
        module = to_runner(result.model)
        worst, same = 0.0, []
        for feed in batches(name, images[:128]):
            (a,), (b,) = saved.run(feed).values(), module.run(feed).values()
            worst = max(worst, float(np.abs(a - b).max() / np.abs(a).max()))
            same.append(a.argmax(1) == b.argmax(1))
        return (
            f"emitted torch vs onnx: max error {worst:.1e}, same class {np.concatenate(same).mean():.1%}, "
            f"{len(emitted.files)} files",
        )


def torch_resnet20(root: Path) -> Any:
    import torch

    spec = importlib.util.spec_from_file_location("resnet", root / "models/cifar_resnet/resnet.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["resnet"] = module
    spec.loader.exec_module(module)
    network = module.ResNet(20)
    weights = {k: torch.from_numpy(v) for k, v in load_file(root / "models/cifar_resnet/resnet20.safetensors").items()}
    network.load_state_dict(weights, strict=False)
    return network.eval()


def example(images: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(images[:2])


def dynamic(name: str) -> Any:
    import torch

    return torch.export.Dim(name, min=1, max=4096)


def squeezenet(root: Path) -> Iterator[Row]:
    archive = np.load(root / "imagenet/images200.npz")
    images = normalized(archive["x"], IMAGENET_MEAN, IMAGENET_STD)
    model = ts.load(root / "models/squeezenet11/squeezenet11.onnx")
    data = ts.data(batches("x", images[:100], 10))
    evaluate = {"top1": top1("x", "logits", images[100:], archive["y"][100:])}
    for job, methods in {"simplify": "simplify", "int8": "simplify,quantize"}.items():
        result = ts.compress(model, data=data, evaluate=evaluate, methods=methods, runs=30)
        held_out = ts.verify(model, result.model, ts.data(batches("x", images[100:], 10)), tolerance=float("inf"))
        yield row("squeezenet11", job, result, "top1", sqnr=held_out.sqnr_db)
    yield oracle_row("squeezenet11", model, data)


def minilm(root: Path) -> Iterator[Row]:
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    folder = root / "models/minilm"
    network = BertModel(BertConfig.from_pretrained(folder, attn_implementation="sdpa"), add_pooling_layer=False).eval()
    weights = {
        k: torch.from_numpy(v.astype(np.float32) if v.dtype == np.float16 else v)
        for k, v in load_file(folder / "model.safetensors").items()
    }
    missing, _ = network.load_state_dict(weights, strict=False)
    assert not [k for k in missing if "position_ids" not in k and "token_type_ids" not in k], missing
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with open(root / "stsb/stsb-en-dev.csv", newline="", encoding="utf-8") as file:
        sentences = [line[i] for line in list(csv.reader(file))[:100] for i in (0, 1)]
    feeds = [{k: v.astype(np.int64) for k, v in tokenizer(s, return_tensors="np").items()} for s in sentences]
    names = list(feeds[0])
    arguments = {k: torch.from_numpy(np.repeat(np.pad(feeds[0][k], ((0, 0), (0, 4))), 2, 0)) for k in names}
    sizes = {0: torch.export.Dim("batch", min=1, max=256), 1: torch.export.Dim("sequence", min=2, max=512)}
    model = ts.load((network, (), arguments, dict.fromkeys(names, sizes)))
    long = {
        k: np.pad(feeds[0][k], ((0, 0), (0, 128 - feeds[0][k].shape[1])), constant_values=int(k == "attention_mask"))
        for k in names
    }
    reference = [embedding(OrtRunner(model).run(f), f) for f in feeds]
    for job, methods in {"simplify": "simplify", "dynamic int8": "simplify,quantize(mode='dynamic')"}.items():
        result = ts.compress(model, data=ts.data([long]), methods=methods, runs=20)
        runner = OrtRunner(result.model)
        cosines = [float(a @ embedding(runner.run(f), f)) for a, f in zip(reference, feeds, strict=True)]
        made = row(
            "minilm",
            job,
            result,
            sqnr=ts.verify(model, result.model, ts.data(feeds[:50]), tolerance=float("inf")).sqnr_db,
        )
        made.metric, made.before, made.after = "cosine", 1.0, float(np.mean(cosines))
        made.notes = [f"smallest cosine {min(cosines):.4f} of {len(cosines)} sentences; latency at length 128"]
        yield made
    yield oracle_row("minilm", model, ts.data([feeds[0]]))


def embedding(outputs: dict[str, np.ndarray], feed: dict[str, np.ndarray]) -> np.ndarray:
    """Mean of the last hidden state over the attention mask, of length one."""
    hidden = next(v for v in outputs.values() if v.ndim == 3)[0]
    mask = feed["attention_mask"][0][:, None]
    pooled = (hidden * mask).sum(0) / mask.sum()
    return pooled / np.linalg.norm(pooled)


def silero(root: Path) -> Iterator[Row]:
    path = root / "models/silero_vad/silero_vad.onnx"
    model = ts.load(path)
    window = {
        "input": padded_speech(root)[None, 32000:32576],
        "state": np.zeros((2, 1, 128), np.float32),
        "sr": np.array(16000, np.int64),
    }
    data = ts.data([window])
    result = ts.apply(model, "simplify", data=data)
    made = row("silero_vad", "simplify", result)
    with tempfile.TemporaryDirectory() as folder:
        result.save(Path(folder) / "s.onnx")
        expected, found = (speech(onnxruntime.InferenceSession(str(p)), root) for p in (path, Path(folder) / "s.onnx"))
    made.max_error = float(np.abs(expected - found).max() / np.abs(expected).max())
    made.sqnr_db, made.notes = (
        None,
        [f"{len(expected)} windows of test.wav under the original file and the simplified one"],
    )
    yield made
    yield oracle_row("silero_vad", model, data)


def speech(session: onnxruntime.InferenceSession, root: Path) -> np.ndarray:
    """Speech probability of each 512-sample window, the state carried on; each window follows the 64 samples before
    it.
    """
    state, out = np.zeros((2, 1, 128), np.float32), []
    padded = padded_speech(root)
    for start in range(0, len(padded) - 576 + 1, 512):
        window = padded[None, start : start + 576]
        probability, state = session.run(None, {"input": window, "state": state, "sr": np.array(16000, np.int64)})
        out.append(probability[0, 0])
    return np.array(out)


def padded_speech(root: Path) -> np.ndarray:
    """The samples of test.wav in [-1, 1) after 64 of silence."""
    with wave.open(str(root / "models/silero_vad/test.wav")) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    return np.concatenate([np.zeros(64, np.float32), samples])


MODELS = {"digits": digits, "resnet20": resnet20, "squeezenet": squeezenet, "minilm": minilm, "silero": silero}


def show(rows: list[Row]) -> None:
    """The table."""
    table = Table(box=None, header_style="bold")
    for heading in (
        "model",
        "job",
        "metric",
        "parameters",
        "FLOPs",
        "bytes",
        "latency",
        "SQNR dB",
        "max error",
        "notes",
    ):
        table.add_column(heading)
    for r in rows:
        metric = f"{r.metric} {r.before:.4f} -> {r.after:.4f}" if r.before is not None and r.after is not None else ""
        shares = [f"{pair[1] / pair[0]:.3f}x" if pair and pair[0] else "" for pair in (r.parameters, r.flops, r.bytes)]
        ratio = "{:.2f}x [{:.2f}, {:.2f}]".format(*r.latency_ratio) if r.latency_ratio else ""
        sqnr = "" if r.sqnr_db is None else f"{r.sqnr_db:.1f}"
        table.add_row(
            r.model,
            r.job,
            metric,
            *shares,
            ratio,
            sqnr,
            "" if r.max_error is None else f"{r.max_error:.1e}",
            "; ".join(r.notes),
        )
    Console(width=220).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", choices=MODELS, action="append")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[Row] = []
    for name in options.only or MODELS:
        for made in MODELS[name](options.data):
            rows.append(made)
            print(f"{made.model}: {made.job} done", file=sys.stderr)
    show(rows)
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
