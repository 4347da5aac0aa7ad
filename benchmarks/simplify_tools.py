"""One simplifier on one file, in this process: python benchmarks/simplify_tools.py TOOL MODE SOURCE TARGET

MODE is `import` (nothing else is done), `copy` (load and save) or `simplify` (load, simplify, save). Prints one JSON
line: CPU seconds (user and system, all threads) of the import and of the work, resident memory before the work and at
the peak, and what the tool says of itself. Each tool is called in the fastest of its documented ways for a file.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from typing import Any

Work = Callable[[str, str], Any]
"""Reads one file and writes another; gives what is to be kept of what the tool says."""


def tersor(*, check: bool = False, best: bool = False) -> tuple[Work, Work]:
    from tersor.backends.onnx import save
    from tersor.frontends.onnx import fallback, load
    from tersor.transforms.base import Context
    from tersor.transforms.manager import run_passes
    from tersor.transforms.parity import Check
    from tersor.transforms.simplify import Simplify

    def simplify(source: str, target: str) -> dict[str, Any]:
        model = load(source)
        (step,) = run_passes(model, [Simplify()], Context(fallback=fallback), Check(enabled=check))
        rules = step.outcome.rules
        save(model, target, opset="best" if best else None)
        return {
            "tries": sum(row.tries for row in rules.values()),
            "hits": {name: row.hits for name, row in sorted(rules.items()) if row.hits},
            "seconds": {name: round(row.seconds, 3) for name, row in sorted(rules.items()) if row.seconds > 0.01},
            "warnings": [message for _, message, _ in step.outcome.warnings],
        }

    return simplify, lambda source, target: save(load(source), target)


def _copy(source: str, target: str) -> None:
    import onnx

    onnx.save(onnx.load(source), target)


def onnxslim() -> tuple[Work, Work]:
    import onnxslim as slim

    return slim.slim, _copy


def onnxsim() -> tuple[Work, Work]:
    import onnxsim as sim

    # The threshold keeps the weights where they were, as every other tool does.
    return lambda source, target: sim.simplify(source, output_path=target, external_data_threshold="2GB")[1], _copy


def onnxscript() -> tuple[Work, Work]:
    import onnx
    from onnxscript import optimizer

    return lambda source, target: onnx.save(optimizer.optimize(onnx.load(source)), target), _copy


def onnxoptimizer() -> tuple[Work, Work]:
    import onnx
    import onnxoptimizer as optimizer

    return lambda source, target: onnx.save(optimizer.optimize(onnx.load(source)), target), _copy


def ort_basic() -> tuple[Work, Work]:
    import onnxruntime as ort

    def simplify(source: str, target: str) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = target
        ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    return simplify, _copy


TOOLS: dict[str, Callable[[], tuple[Work, Work]]] = {
    "onnxslim": onnxslim,
    "onnxsim": onnxsim,
    "onnxscript": onnxscript,
    "onnxoptimizer": onnxoptimizer,
    "ort-basic": ort_basic,
    "tersor": tersor,
    "tersor-checked": lambda: tersor(check=True),
    "tersor-best": lambda: tersor(best=True),
}
"""Name -> a function that imports the tool and gives how it simplifies and how it copies a file."""

PEERS = tuple(name for name in TOOLS if not name.startswith("tersor"))


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def resident(field: str) -> float:
    """Megabytes of resident memory: VmRSS now, VmHWM at the peak. getrusage's peak would include the parent's."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(field))


def main(tool: str, mode: str, source: str = "", target: str = "") -> None:
    simplify, copy = TOOLS[tool]()
    imported, before = cpu_seconds(), resident("VmRSS")
    said = None
    if mode != "import":
        said = (copy if mode == "copy" else simplify)(source, target)
    figures: dict[str, Any] = {"import": round(imported, 3), "cpu": round(cpu_seconds() - imported, 3)}
    figures |= {"rss_before": round(before, 1), "rss_peak": round(resident("VmHWM"), 1)}
    if isinstance(said, dict):
        figures |= said
    print("\n" + json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
