"""The layout and the import rules of the package hold."""

import ast
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {"ir": 1, "frontends": 2, "backends": 2, "transforms": 3, "driver": 4, "testing": 4}
REACHES = {
    "ir": {"ir"},
    "frontends": {"frontends", "ir"},
    "backends": {"backends", "ir"},
    "transforms": {"transforms", "backends", "ir"},
    "driver": {"driver", "transforms", "backends", "frontends", "ir"},
    "testing": {"testing", "transforms", "backends", "ir"},
}
NOT_PACKAGED = {"tests", "examples", "benchmarks", "docs", "build", "out", "dist"}


def sources() -> list[Path]:
    return [p for folder in FLOORS for p in sorted((ROOT / folder).rglob("*.py"))]


def absolute_name(path: Path, node: ast.ImportFrom) -> list[str]:
    """The module that a relative import names, as parts below the package."""
    package = list(path.relative_to(ROOT).parent.parts)
    base = package[: len(package) - node.level + 1]
    return base + (node.module.split(".") if node.module else [])


def test_packages_in_pyproject_are_those_on_disk():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {p.parent.relative_to(ROOT) for p in ROOT.rglob("__init__.py")}
    kept = {f for f in folders if not f.parts or (f.parts[0] not in NOT_PACKAGED and not f.parts[0].startswith("."))}
    assert sorted(declared) == sorted(".".join(("tersor", *f.parts)) for f in kept)


def test_every_dependency_is_pinned_to_the_version_that_was_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    names = {one.split(">=")[0] for one in wanted}
    assert {name.lower().replace("_", "-") for name in names} <= {n.lower().replace("_", "-") for n in pinned}


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_only_point_down(floor: str):
    wrong = []
    for path in sorted((ROOT / floor).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                target = absolute_name(path, node)
                if target and target[0] in FLOORS and target[0] not in REACHES[floor]:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} imports {'.'.join(target)}")
    assert not wrong


def test_the_package_imports_itself_only_relatively():
    wrong = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            wrong += [f"{path.relative_to(ROOT)}:{node.lineno}" for n in names if n.split(".")[0] == "tersor"]
    assert not wrong


def test_ir_imports_nothing_of_onnx_but_its_schemas():
    wrong = []
    for path in sorted((ROOT / "ir").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                wrong += [
                    f"{path.name}:{node.lineno} {a.name}"
                    for a in node.names
                    if a.name.split(".")[0] in ("onnx", "torch")
                ]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in (
                "onnx",
                "torch",
                "onnxruntime",
            ):
                allowed = node.module == "onnx" and [a.name for a in node.names] == ["defs"]
                wrong += [] if allowed else [f"{path.name}:{node.lineno} {node.module}"]
    assert not wrong


def test_nothing_is_pickled():
    wrong = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            wrong += [
                f"{path}:{node.lineno}" for n in names if n.split(".")[0] in ("pickle", "cloudpickle", "dill", "joblib")
            ]
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant)
                assert node.value.value is False
    assert not wrong


def test_importing_tersor_pulls_in_neither_torch_nor_a_runtime():
    code = "import sys, tersor; dir(tersor); print([m for m in ('torch', 'onnxruntime', 'onnx') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "tests")
    assert done.stdout.strip() == "[]"


def test_loading_and_compressing_onnx_pulls_in_no_torch():
    code = "import sys, tersor.driver.cli, tersor; tersor.load, tersor.compress, tersor.Prune; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "tests")
    assert done.stdout.strip() == "False"


def test_every_public_name_is_there():
    import tersor

    for name in tersor.__all__:
        assert getattr(tersor, name) is not None


def test_the_wheel_holds_every_module(tmp_path: Path):
    """Built from what git tracks or would track, as a release is."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("the tree is not a git checkout, so the files of a release are not known")
    tree = tmp_path / "source"
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())
    code = "from setuptools import build_meta; import sys; print(build_meta.build_wheel(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=tree,
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": ""},
    )
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {f"tersor/{p.relative_to(tree).as_posix()}" for f in FLOORS for p in (tree / f).rglob("*.py")}
    assert wanted | {"tersor/__init__.py", "tersor/__main__.py", "tersor/py.typed"} <= held
