"""What pruning costs without any training: networks, criteria, allocations and compensations at equal FLOPs.

    python benchmarks/prune_quality.py --data FOLDER --work FOLDER [--networks resnet20 resnet56 squeezenet11 minilm]
        [--criteria obs l2 ...] [--scopes optimal local] [--compensate least-squares none] [--less 0.1 ... 0.5]
        [--seeds 3] [--peer PYTHON] [--results FILE.jsonl] [--report FILE.md] [--plots FOLDER]

FOLDER of --data is as in int8_models.py, which writes models and feeds into --work once (MiniLM needs transformers). A
seed chooses --images of the calibration samples; test samples only score. What is lost is paired over the same test
samples, averaged over the seeds, with a 95 % interval over the samples (Spearman: by bootstrap). --peer is a Python
with torch, torch-pruning and, for MiniLM, transformers, which prunes to the same FLOPs. Cases in --results are not run
again. MiniLM is calibrated on training sentences that are not padded.
`seconds` are processor seconds of pruning; latency is that of one sample in ONNX Runtime beside the original.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from int8_models import Feed, prepare, read_feeds, write_feeds
from prune_report import plots, table
from tersor.backends.benchmark import latency
from tersor.backends.runners import OrtRunner
from tersor.backends.torch import emit
from tersor.frontends.onnx import load
from tersor.ir import Array, Model
from tersor.transforms.base import Context
from tersor.transforms.cost import bind_sizes, graph_flops
from tersor.transforms.prune import Prune
from tersor.transforms.prune.importance import IMPORTANCE

NETWORKS = ("resnet20", "resnet56", "squeezenet11", "minilm")
PEERS = ("magnitude-local", "magnitude-global", "taylor-local")
KEY = ("network", "tool", "criterion", "scope", "compensate", "multiple_of", "less", "seed")
RUNS = 30
TEXTS = 2048
"""Sentences to choose from."""
SENTENCES = 16
"""Sentences of a batch."""
Case = dict[str, Any]


def right(model: Model, folder: Path) -> Array:
    """1 for each sample that is classified correctly."""
    runner = OrtRunner(model, threads=1)
    logits = [next(iter(runner.run(feed).values())) for feed in read_feeds(folder / "scoring.npz")]
    flat = np.concatenate([x.reshape(len(x), -1) for x in logits])
    return (flat.argmax(1) == np.load(folder / "labels.npy")).astype(float)


def similarities(model: Model, folder: Path) -> Array:
    """The cosine of the mean-pooled sentence embeddings of each pair."""
    runner, made = OrtRunner(model, threads=1), list[Array]()
    for feed in read_feeds(folder / "scoring.npz"):
        hidden = next(iter(runner.run(feed).values()))
        mask = feed["attention_mask"][..., None]
        pooled = (hidden * mask).sum(1) / mask.sum(1)
        made.append(pooled / np.linalg.norm(pooled, axis=1, keepdims=True))
    vectors = np.concatenate(made)
    return (vectors[0::2] * vectors[1::2]).sum(1)


def scorer(network: str) -> Callable[[Model, Path], Array]:
    return similarities if network == "minilm" else right


def calibration(folder: Path, count: int, seed: int) -> list[Feed]:
    """`count` calibration samples that the seed chooses, in the batches of the file; sentences, which are not padded,
    in batches of one length.
    """
    sentences = folder / "sentences.npz"
    feeds = read_feeds(sentences if sentences.exists() else folder / "calibration.npz")
    random = np.random.default_rng(seed)
    if sentences.exists():
        chosen = [feeds[i] for i in random.permutation(len(feeds))[:count]]
        by_length: dict[int, list[Feed]] = {}
        for feed in chosen:
            by_length.setdefault(next(iter(feed.values())).shape[1], []).append(feed)
        batches = [same[i : i + SENTENCES] for same in by_length.values() for i in range(0, len(same), SENTENCES)]
        together = [{k: np.concatenate([feed[k] for feed in batch]) for k in batch[0]} for batch in batches]
        return [together[i] for i in random.permutation(len(together))]
    batch = len(next(iter(feeds[0].values())))
    whole = {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
    chosen = random.permutation(len(next(iter(whole.values()))))[:count]
    parts = [chosen[i : i + batch] for i in range(0, len(chosen), batch)]
    return [{name: array[part] for name, array in whole.items()} for part in parts]


def write_sentences(data: Path, folder: Path) -> None:
    """Training sentences of STS-B as they are, once: those of int8_models.py are padded, and little else."""
    from transformers import AutoTokenizer

    if (folder / "sentences.npz").exists():
        return
    tokenizer = AutoTokenizer.from_pretrained(data / "models/minilm")
    with open(data / "stsb/stsb-en-train.csv", newline="", encoding="utf-8") as file:
        texts = list(dict.fromkeys(text for row in csv.reader(file) for text in row[:2]))
    chosen = np.random.default_rng(0).permutation(len(texts))[:TEXTS]
    tokens = [tokenizer(texts[i], return_tensors="np") for i in chosen]
    write_feeds(folder / "sentences.npz", [{k: v.astype(np.int64) for k, v in each.items()} for each in tokens])


def cases(options: argparse.Namespace) -> Iterator[Case]:
    choices = (
        range(options.seeds),
        options.networks,
        options.less,
        options.criteria,
        options.scopes,
        options.compensate,
    )
    for seed, network, less, criterion, scope, compensate in product(*choices):
        yield dict(
            zip(KEY, (network, "tersor", criterion, scope, compensate, options.multiple_of, less, seed), strict=True)
        )
    if options.peer:
        for network, less, criterion in product(options.networks, options.less, PEERS):
            kind, scope = criterion.split("-")
            yield dict(zip(KEY, (network, "torch-pruning", kind, scope, "none", 1, less, 0), strict=True))


def run(case: Case, folder: Path, options: argparse.Namespace) -> Case:
    """Prunes with tersor and scores."""
    model = load(folder / "fp32.onnx")
    pruned, feeds = model.clone(), calibration(folder, options.images, case["seed"])
    feed = read_feeds(folder / "timing.npz")[0]
    sizes = bind_sizes(model.graph, {name: array.shape for name, array in feed.items()})
    compensate = None if case["compensate"] == "none" else case["compensate"]
    prune = Prune(
        flops=1 - case["less"], importance=case["criterion"], scope=case["scope"], compensate=compensate,
        only=tuple(options.only), multiple_of=options.multiple_of,
    )  # fmt: skip
    started = time.process_time()
    outcome = prune.run(pruned, Context(samples=feeds, seed=case["seed"]))
    seconds = time.process_time() - started
    timing = latency([OrtRunner(model), OrtRunner(pruned)], feed, runs=RUNS)[1]
    return {
        "fewer_flops": 1 - graph_flops(pruned.graph, sizes) / graph_flops(model.graph, sizes),
        "samples": np.round(scorer(case["network"])(pruned, folder), 5).tolist(),
        "latency": timing.ratio, "seconds": seconds, "missed": outcome.missed,
    }  # fmt: skip


def peer(case: Case, folder: Path, options: argparse.Namespace) -> Case:
    """The same by torch-pruning, in a process of its own. SqueezeNet is the module that tersor emits."""
    if case["network"] == "squeezenet11" and not (folder / "torch").exists():
        emit(load(folder / "fp32.onnx"), folder / "torch")
    script = Path(__file__).with_name("prune_quality_peer.py")
    given = [case["network"], str(options.data), str(folder), case["criterion"], case["scope"], str(case["less"])]
    done = subprocess.run([options.peer, str(script), *given], capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1][:200] if done.stderr.strip() else "no output"}
    return json.loads(done.stdout.splitlines()[-1])


def read(path: Path | None) -> list[Case]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path and path.exists() else []


def dense(network: str, folder: Path) -> Case:
    """The original's scores, and what they are compared with."""
    samples = np.round(scorer(network)(load(folder / "fp32.onnx"), folder), 5)
    return {"samples": samples.tolist(), "labels": np.load(folder / "labels.npy").tolist()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for models and feeds")
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--less", nargs="+", type=float, default=[0.1, 0.2, 0.3, 0.4, 0.5])
    parser.add_argument("--criteria", nargs="*", default=list(IMPORTANCE), choices=list(IMPORTANCE))
    parser.add_argument("--scopes", nargs="+", default=["optimal", "local"])
    parser.add_argument("--compensate", nargs="+", default=["least-squares", "none"])
    parser.add_argument("--only", nargs="*", default=[], help="patterns of layers that may lose channels")
    whole = "channels that stay are a multiple of this; auto: of the runtime's vectors"
    parser.add_argument("--multiple-of", type=lambda text: text if text == "auto" else int(text), default=1, help=whole)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=512, help="calibration samples (default: 512)")
    parser.add_argument("--peer", help="a Python that has torch and torch-pruning")
    parser.add_argument("--results", type=Path, default=Path("prune_quality.jsonl"))
    parser.add_argument("--report", type=Path, help="write the table here, as Markdown")
    parser.add_argument("--plots", type=Path, help="write the plots into this folder, as SVG")
    options = parser.parse_args()
    found = read(options.results)
    known = {tuple(case[name] for name in KEY) for case in found}
    originals = [dict(zip(KEY, (n, "original", "", "", "", 1, 0.0, 0), strict=True)) for n in options.networks]
    for case in [*originals, *cases(options)]:
        if tuple(case.values()) in known:
            continue
        folder = options.work / case["network"]
        prepare(case["network"], folder, options.data, options.work)
        if case["network"] == "minilm":
            write_sentences(options.data, folder)
        if case["tool"] == "original":
            made = case | dense(case["network"], folder)
        else:
            made = case | (run if case["tool"] == "tersor" else peer)(case, folder, options)
        with open(options.results, "a", encoding="utf-8") as file:
            file.write(json.dumps(made) + "\n")
        found.append(made)
        print(*case.values(), f"{made.get('seconds', 0):.0f} s", made.get("failed", ""), file=sys.stderr, flush=True)
    text = table(found)
    print(text)
    if options.report:
        options.report.write_text(text + "\n", encoding="utf-8")
    if options.plots:
        plots(found, options.plots)


if __name__ == "__main__":
    main()
