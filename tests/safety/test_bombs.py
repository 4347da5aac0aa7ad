"""Small files that ask for much: refused or left alone with little memory, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper, parser

MEMORY = 1536 << 20
"""Bytes of address space, of which the imports take most; every bomb asks for a terabyte or more."""


def run(script: str, path: Path) -> subprocess.CompletedProcess[str]:
    limited = f"""
        import resource, sys, time
        import tersor
        from tersor.frontends.onnx import load
        from tersor.transforms.base import Context
        from tersor.transforms.simplify import Simplify
        from tersor.backends.onnx import save
        resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))
        path = {str(path)!r}
    """
    code = textwrap.dedent(limited) + textwrap.dedent(script)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, cwd=path.parent,
        env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PATH": ""},
    )  # fmt: skip


def saved(body: str, path: Path) -> Path:
    onnx.save(
        parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]>\ng (float[N,M] x) => (float y) {{ {body} }}'),
        path,
    )
    return path


HUGE = 1 << 40
VECTOR = f"s = Constant <value = int64[1] {{{HUGE}}}> ()"
MATRIX = "s = Constant <value = int64[2] {1048576, 1048576}> ()"
FOLD_BOMBS = {
    "ConstantOfShape": f"{MATRIX} z = ConstantOfShape (s) y = ReduceSum (z)",
    "Expand": f"{MATRIX} o = Constant <value = float {{1.0}}> () z = Expand (o, s) y = ReduceSum (z)",
    "Tile": f"{VECTOR} o = Constant <value = float[1] {{1.0}}> () z = Tile (o, s) y = ReduceSum (z)",
    "Tile of integers": f"{VECTOR} o = Constant <value = int64[1] {{1}}> () r = Tile (o, s) z = Cast <to = 1> (r) y = ReduceSum (z)",
    "Range": f"a = Constant <value = int64 {{0}}> () b = Constant <value = int64 {{{HUGE}}}> () d = Constant <value = int64 {{1}}> () r = Range (a, b, d) z = Cast <to = 1> (r) y = ReduceSum (z)",
    "Pad": f"s = Constant <value = int64[2] {{0, {HUGE}}}> () o = Constant <value = float[1] {{1.0}}> () z = Pad (o, s) y = ReduceSum (z)",
    "OneHot": f"i = Constant <value = int64[1] {{1}}> () d = Constant <value = int64 {{{HUGE}}}> () v = Constant <value = float[2] {{0.0, 1.0}}> () z = OneHot (i, d, v) y = ReduceSum (z)",
    "Resize": "o = Constant <value = float[1,1,1,1] {1.0}> () s = Constant <value = int64[4] {1, 1, 1048576, 1048576}> () z = Resize (o, , , s) y = ReduceSum (z)",
    "EyeLike": f"{MATRIX} e = ConstantOfShape (s) z = EyeLike (e) y = ReduceSum (z)",
    "sizes": "a0 = Shape (x) " + " ".join(f"a{i + 1} = Concat <axis = 0> (a{i}, a{i})" for i in range(40)) + " z = Cast <to = 1> (a40) y = ReduceSum (z)",
    "doubling": "a0 = Constant <value = float[64] {%s}> () " % ",".join(["1.0"] * 64) + " ".join(f"a{i + 1} = Concat <axis = 0> (a{i}, a{i})" for i in range(40)) + " y = ReduceSum (a40)",  # noqa: UP031
}  # fmt: skip


def test_fold_bombs_are_not_evaluated(tmp_path: Path):
    for name, body in FOLD_BOMBS.items():
        saved(body, tmp_path / f"{name}.onnx")
    done = run(
        """
        import pathlib
        for each in sorted(pathlib.Path(path).parent.glob("*.onnx")):
            model = load(each)
            Simplify().run(model, Context())
            save(model, each.with_suffix(".out"))
            print(each.stem, each.with_suffix(".out").stat().st_size < 1_000_000)
        """,
        tmp_path / "all.onnx",
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == sorted(f"{name} True" for name in FOLD_BOMBS)


def tensor_bomb(kind: str) -> onnx.ModelProto:
    """A model whose one weight claims a shape that its data do not have."""
    claims = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 20, 1 << 20])
    graph = helper.make_graph([], "g", [], [onnx.ValueInfoProto(name="w")])
    match kind:
        case "no data":
            graph.initializer.append(claims)
        case "a few bytes":
            claims.raw_data = bytes(8)
            graph.initializer.append(claims)
        case "strings":
            claims.data_type = TensorProto.STRING
            graph.initializer.append(claims)
        case "packed":
            claims.data_type, claims.int32_data[:] = TensorProto.INT4, [1]
            graph.initializer.append(claims)
        case "sparse":
            values = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
            indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
            graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1 << 20, 1 << 20]))
        case _:
            claims.dims[:] = [1 << 62] * 8
            graph.initializer.append(claims)
    return helper.make_model(graph)


TENSOR_BOMBS = ["no data", "a few bytes", "strings", "packed", "sparse", "overflow"]


def test_tensors_that_claim_more_than_they_hold_are_refused_before_anything_is_allocated(tmp_path: Path):
    for kind in TENSOR_BOMBS:
        onnx.save(tensor_bomb(kind), tmp_path / f"{kind}.onnx")
    done = run(
        """
        import pathlib
        for each in sorted(pathlib.Path(path).parent.glob("*.onnx")):
            start = time.perf_counter()
            try:
                load(each)
            except tersor.TersorError as error:
                print(each.stem, type(error).__name__, time.perf_counter() - start < 1)
        """,
        tmp_path / "all.onnx",
    )
    assert done.returncode == 0, done.stderr
    kinds = {"sparse": "LimitError", "overflow": "LimitError", "no data": "LimitError", "a few bytes": "LimitError", "packed": "LimitError"}  # fmt: skip
    assert done.stdout.splitlines() == [f"{k} {kinds.get(k, 'InvalidModelError')} True" for k in sorted(TENSOR_BOMBS)]


@pytest.mark.parametrize("kind", ["sparse", "overflow"])
def test_the_command_line_refuses_a_bomb_with_code_3_and_without_a_traceback(kind: str, tmp_path: Path):
    onnx.save(tensor_bomb(kind), tmp_path / "bomb.onnx")
    done = run(
        """
        from tersor.driver.cli import main
        sys.exit(main(["inspect", path]))
        """,
        tmp_path / "bomb.onnx",
    )
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert "'w'" in done.stderr
