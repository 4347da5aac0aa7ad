"""Int8 and int4 of large files: python benchmarks/int8_scale.py --work FOLDER [--only ...] [--results FILE]

Makes chains of 4096 x 4096 matrices with random weights, and quantizes them from file to file, each in a process of its
own. `weights8` and `weights4`: 60 matrices, 1.0 billion parameters, 4.03 GB, weights alone; CPU seconds, seconds, peak
resident memory, and beside that the seconds to copy the file. `static`: 33 matrices, 2.2 GB, more than a protobuf
holds, static int8 with a few samples, then run in ONNX Runtime. FOLDER needs 9 GB and is left empty.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from children import script
from onnx import TensorProto, helper

WIDTH = 4096
KINDS = {"weights8": 60, "weights4": 60, "static": 33}
"""What is done -> matrices."""

TIMEOUT = 3600
ROWS, SAMPLES = 8, 4


def write(path: Path, count: int) -> None:
    """A chain of `count` matrix products with Relu, its weights in <path>.data."""
    weight = np.random.default_rng(0).standard_normal((WIDTH, WIDTH), np.float32) * (2 / WIDTH) ** 0.5
    graph = helper.make_graph(
        [],
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", WIDTH])],
    )
    last = "x"
    with open(f"{path}.data", "wb") as data:
        for index in range(count):
            tensor = graph.initializer.add(
                name=f"w{index}", data_type=TensorProto.FLOAT, dims=weight.shape, data_location=TensorProto.EXTERNAL
            )
            for key, value in (("location", f"{path.name}.data"), ("offset", data.tell()), ("length", weight.nbytes)):
                tensor.external_data.add(key=key, value=str(value))
            np.roll(weight, index, 1).tofile(data)
            graph.node.append(helper.make_node("MatMul", [last, f"w{index}"], [f"m{index}"], name=f"product{index}"))
            last = "y" if index == count - 1 else f"r{index}"
            graph.node.append(helper.make_node("Relu", [f"m{index}"], [last], name=f"relu{index}"))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)


def work(kind: str, source: Path, target: Path) -> dict[str, Any]:
    """Quantizes in this process."""
    import tersor as ts
    from tersor.backends.onnx import save
    from tersor.transforms.base import Context
    from tersor.transforms.quantize import Quantize

    static = kind == "static"
    rng = np.random.default_rng(1)
    feeds = [{"x": rng.standard_normal((ROWS, WIDTH), np.float32)} for _ in range(SAMPLES)]
    read, samples = ts.load, ts.data(feeds) if static else None
    chosen = Quantize() if static else Quantize(mode="weights", bits=int(kind[-1]))
    before = peak()
    started, cpu = time.perf_counter(), time.process_time()
    model = read(source)
    outcome = chosen.run(model, Context(samples=samples))
    save(model, target)
    found: dict[str, Any] = {
        "notes": outcome.notes,
        "cpu": time.process_time() - cpu,
        "seconds": time.perf_counter() - started,
        "peak_mb_before": before,
        "peak_mb": peak(),
        "sqnr": [d.sqnr_db for d in outcome.decisions][-1:],
        "bytes": sum(p.stat().st_size for p in target.parent.glob(f"{target.name}*")),
    }
    if static:
        import onnxruntime as ort

        session = ort.InferenceSession(str(target), providers=["CPUExecutionProvider"])
        found["runs"] = bool(np.isfinite(np.asarray(session.run(None, feeds[0])[0])).all())
    return found


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(kind: str, folder: Path) -> dict[str, Any]:
    source, target = folder / f"chain{KINDS[kind]}.onnx", folder / "quantized.onnx"
    if not source.exists():
        write(source, KINDS[kind])
    found = script("int8_scale.py", "--work", str(folder), "--child", kind, str(source), str(target), timeout=TIMEOUT)
    for path in folder.glob("quantized.onnx*"):
        path.unlink()
    if "error" not in found:
        started = time.perf_counter()
        copy = folder / "copy"
        shutil.copyfile(f"{source}.data", copy)
        with open(copy, "rb") as file:
            os.fsync(file.fileno())
        found |= {"seconds_to_copy": time.perf_counter() - started, "bytes_before": copy.stat().st_size}
        copy.unlink()
    return found


def table(results: dict[str, Any]) -> str:
    lines = ["| what | GB before | GB after | CPU s | s | s to copy | peak MB |", "|" + " --- |" * 7]
    for kind, row in results.items():
        if "error" in row:
            lines.append(f"| {kind} | fails: {row['error'][:200]} | | | | | |")
            continue
        lines.append(
            f"| {kind} | {row['bytes_before'] / 1e9:.2f} | {row['bytes'] / 1e9:.2f} | {row['cpu']:.1f} | "
            f"{row['seconds']:.0f} | {row['seconds_to_copy']:.0f} | {row['peak_mb']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--results", type=Path, default=Path("int8_scale.json"))
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, source, target = options.child
        print(json.dumps(work(kind, Path(source), Path(target))))
        return
    options.work.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = json.loads(options.results.read_text()) if options.results.exists() else {}
    for kind in options.only:
        print(kind, file=sys.stderr, flush=True)
        results[kind] = measured(kind, options.work)
        options.results.write_text(json.dumps(results, indent=1))
    for path in options.work.glob("chain*"):
        path.unlink()
    print(table(results))


if __name__ == "__main__":
    main()
