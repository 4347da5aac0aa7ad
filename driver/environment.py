"""Versions of what a run used, and the machine it ran on."""

from __future__ import annotations

import platform as system
import sys
from importlib import metadata
from pathlib import Path

from . import report


def tool() -> report.Tool:
    """Versions of tersor and of what it stands on; torch only where it was imported."""
    versions = {name: metadata.version(name) for name in ("tersor", "onnx", "onnxruntime", "numpy")}
    torch = metadata.version("torch") if "torch" in sys.modules else None
    return report.Tool(**versions, python=system.python_version(), torch=torch)


def platform() -> report.Platform:
    """The processor by its name, one thread, ONNX Runtime on the CPU."""
    return report.Platform(cpu=cpu_name(), threads=1, runtime="ort-cpu", system=f"{system.system()} {system.machine()}")


def cpu_name() -> str:
    """The processor's name as the system tells it, else its architecture."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return system.processor() or system.machine()
