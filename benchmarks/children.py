"""What benchmarks share: work in processes of its own, where neither memory nor a crash of one tool touches another."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def script(name: str, *arguments: str, timeout: float, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The last line that a script of this folder prints, as JSON; what went wrong under "error". One thread."""
    command = [sys.executable, str(HERE / name), *arguments]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    try:
        done = subprocess.run(
            command, env=variables, capture_output=True, text=True, timeout=timeout, check=False, errors="replace"
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no end after {timeout} s"}
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return {"error": f"exit code {done.returncode}: {lines[-1][:300] if lines else ''}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def forked(target: Callable[..., None], *arguments: Any, timeout: float) -> dict[str, Any]:
    """What `target(sender, *arguments)` sends from a fork of this process, with what is imported here."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(sender, *arguments), daemon=True)
    process.start()
    sender.close()
    try:
        if receiver.poll(timeout):
            return receiver.recv()
        return {"stage": "timeout", "error": f"no end after {timeout} s"}
    except EOFError:
        return {"stage": "crash", "error": "the process died"}
    finally:
        process.kill()
        process.join()
