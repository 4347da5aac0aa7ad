"""A save that is killed at any moment leaves the old file or the new one."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import pytest
from tersor.backends.onnx import save
from tersor.backends.runners import OrtRunner
from tersor.ir import Model, parse

SCRIPT = """
    import os, random, signal, sys
    from tersor.backends.onnx import save
    from tersor.ir import Model, parse

    model = Model(parse({text!r}))
    fatal = int(sys.argv[1])
    count = 0

    def dying(call):
        def wrapper(*args, **kwargs):
            global count
            count += 1
            if count == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)
        return wrapper

    def torn(write):
        def wrapper(descriptor, data):
            global count
            count += 1
            if count == fatal:
                write(descriptor, bytes(data)[: random.Random(fatal).randrange(len(data) + 1)])
                os.kill(os.getpid(), signal.SIGKILL)
            return write(descriptor, data)
        return wrapper

    os.write = torn(os.write)
    for name in ("copy_file_range", "fsync", "replace", "fchmod", "unlink"):
        setattr(os, name, dying(getattr(os, name)))
    save(model, sys.argv[2], external_data=sys.argv[3] == "external")
    sys.stdout.write(str(count))
"""


def graph(number: int) -> str:
    return (
        f"graph(%x: f32[400]) -> (y) {{ @w : f32[400,400] = random({number}) @b : f32[400] = random({number + 9}) "
        f"%0 = MatMul(%x, @w) : f32[400] %y = Add(%0, @b) : f32[400] return %y }}"
    )


def attempt(fatal: int, path: Path, kind: str) -> subprocess.CompletedProcess[str]:
    code = textwrap.dedent(SCRIPT).replace("{text!r}", repr(graph(2)))
    return subprocess.run(
        [sys.executable, "-c", code, str(fatal), str(path), kind],
        capture_output=True,
        text=True,
        check=False,
        cwd=path.parent,
    )


@pytest.mark.parametrize("kind", ["inline", "external"])
def test_a_save_killed_at_a_system_call_leaves_one_whole_model(kind: str, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal(400).astype(np.float32)
    wanted: list[np.ndarray] = []
    for number in (1, 2):
        reference = tmp_path / f"reference{number}" / "m.onnx"
        reference.parent.mkdir()
        save(Model(parse(graph(number))), reference, external_data=kind == "external")
        wanted.append(OrtRunner(reference).run({"x": x})["y"])
    assert not np.array_equal(*wanted)
    path = tmp_path / "place" / "m.onnx"
    path.parent.mkdir()
    whole = attempt(0, path, kind)
    assert whole.returncode == 0, whole.stderr
    calls = int(whole.stdout)
    assert calls >= 4
    seen: set[int] = set()
    for fatal in sorted({1, calls // 2, calls - 1, calls}):
        save(Model(parse(graph(1))), path, external_data=kind == "external")
        assert attempt(fatal, path, kind).returncode == -signal.SIGKILL
        found = OrtRunner(path).run({"x": x})["y"]
        matches = [i for i, w in enumerate(wanted) if np.array_equal(found, w)]
        assert len(matches) == 1, f"killed at call {fatal} of {calls}"
        seen.add(matches[0])
        for left in path.parent.iterdir():
            assert left.name.startswith((".m.onnx", "m.onnx"))
    assert seen == {0, 1}, "some of the kills came before the new model, some after"
    assert onnx.load(path, load_external_data=False).graph.node
