"""Recipes: what they say is run, what they do not say right is refused by file and key, and a lock gives the same
bytes again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tersor
from tersor.driver.recipes import READERS, Recipe
from tersor.ir import UsageError
from tersor.transforms.prune import Prune
from tersor.transforms.quantize import Quantize
from tersor.transforms.simplify import Simplify

RECIPE = """
[goal]
conditions = ["size<=0.9x", "drop(positive)<=90%"]
metrics = ["metric.py:positive"]

[data]
path = "calib.npz"

[run]
seed = 3
opset = 18

[[step]]
pass = "simplify"

[[step]]
pass = "prune"
ratio = 0.25
skip = ["conv2"]
compensate = "none"

[[step]]
pass = "quantize"
observer = "percentile"
percentile = 99
"""

STEP = '[[step]]\npass = "simplify"\n'


@pytest.fixture
def written(folder: Path) -> Path:
    (folder / "recipe.toml").write_text(RECIPE)
    return folder / "recipe.toml"


def test_a_recipe_is_its_passes_and_its_sections(written: Path):
    made = tersor.recipe(written)
    assert made.steps == (
        Simplify(),
        Prune(ratio=0.25, skip=("conv2",), compensate=None),
        Quantize(observer="percentile", percentile=99.0),
    )
    assert made.goal.text == "size<=0.9x, drop(positive)<=90%"
    assert made.samples == written.parent / "calib.npz"
    assert (made.run.seed, made.opset, made.run.check, made.runs) == (3, 18, True, 0)


def test_what_a_recipe_says_is_what_the_same_passes_give_in_python(written: Path, network):
    made = tersor.recipe(written)
    result = made.apply(network)
    data = tersor.data(written.parent / "calib.npz")
    other = tersor.apply(network, *made.steps, data=data, seed=3)
    assert [str(s.done) for s in result.steps] == [str(s.done) for s in other.steps]
    for name, found in (("a", result), ("b", other)):
        found.save(written.parent / f"{name}.onnx", opset=made.opset)
    assert (written.parent / "a.onnx").read_bytes() == (written.parent / "b.onnx").read_bytes()
    assert result.met is True
    assert result.record.steps[-1].metrics["positive"].value is not None


def test_toml_and_json_and_a_mapping_say_the_same(written: Path, folder: Path):
    document = READERS[".toml"](RECIPE)
    (folder / "recipe.json").write_text(json.dumps(document))
    from_toml, from_json = tersor.recipe(written), tersor.recipe(folder / "recipe.json")
    assert from_toml.steps == from_json.steps == tersor.recipe(document).steps
    assert from_toml.to_json() == from_json.to_json()


def test_a_recipe_runs_on_the_command_line_and_its_lock_gives_the_same_bytes(run, written: Path, folder: Path):
    model, again = folder / "net.onnx", folder / "sub/again.onnx"
    code, out, err = run("run", written, model, "-o", folder / "out.onnx", "--report", folder / "r.json")
    assert code == 0, err
    assert "goal met" in out
    assert onnx.load(folder / "out.onnx").opset_import[0].version == 18
    lock = json.loads((folder / "out.lock.json").read_text())
    assert lock["lock"]["versions"]["onnx"] == onnx.__version__
    assert [f["role"] for f in lock["lock"]["inputs"]] == ["model", "data", "metric"]
    assert lock["step"][1]["importance"] == "l2"
    assert json.loads((folder / "r.json").read_text())["run"]["outputs"] == lock["lock"]["outputs"]
    again.parent.mkdir()
    code, _, err = run("run", folder / "out.lock.json", model, "-o", again, "--strict", "--jobs", "2")
    assert (code, err) == (0, "")
    assert again.read_bytes() == (folder / "out.onnx").read_bytes()
    repeated = json.loads((folder / "sub/again.lock.json").read_text())
    assert repeated["data"]["path"] == "../calib.npz"
    assert {**repeated, "data": 0, "goal": 0, "lock": 0} == {**lock, "data": 0, "goal": 0, "lock": 0}
    assert [f["sha256"] for f in repeated["lock"]["outputs"]] == [f["sha256"] for f in lock["lock"]["outputs"]]


def test_compress_leaves_a_lock_that_gives_the_same_model(run, folder: Path):
    model = folder / "net.onnx"
    methods = ["--methods", "simplify,prune(ratio=0.25),quantize", "--data", folder / "calib.npz", "--runs", "0"]
    assert run("compress", model, "-o", folder / "out", *methods)[0] == 0
    lock = folder / "out/lock.json"
    assert run("run", lock, model, "-o", folder / "again.onnx", "--strict", "--no-lock")[0] == 0
    assert (folder / "again.onnx").read_bytes() == (folder / "out/model.onnx").read_bytes()
    assert not (folder / "again.lock.json").exists()


def test_weights_in_a_file_of_their_own_are_part_of_the_lock(run, refused, folder: Path):
    model = folder / "ext.onnx"
    onnx.save(onnx.load(folder / "net.onnx"), model, save_as_external_data=True, location="w.bin", size_threshold=0)
    (folder / "r.toml").write_text(STEP)
    assert run("run", folder / "r.toml", model, "-o", folder / "out.onnx")[0] == 0
    lock = json.loads((folder / "out.lock.json").read_text())["lock"]
    assert [(f["role"], f["name"]) for f in lock["inputs"]] == [("model", "ext.onnx"), ("weights", "w.bin")]
    weights = bytearray((folder / "w.bin").read_bytes())
    weights[1] ^= 1
    (folder / "w.bin").write_bytes(weights)
    error = refused(2, "run", folder / "out.lock.json", model, "-o", folder / "b.onnx")
    assert "weights w.bin" in error


def test_a_lock_of_other_inputs_is_refused_and_other_versions_are_a_warning(run, refused, written: Path, folder: Path):
    assert run("run", written, folder / "net.onnx", "-o", folder / "out.onnx")[0] == 0
    lock = folder / "out.lock.json"
    np.savez(folder / "other.npz", x=np.ones((4, 3, 8, 8), np.float32))
    error = refused(2, "run", lock, folder / "net.onnx", "-o", folder / "b.onnx", "--data", folder / "other.npz")
    assert "not those of the lock" in error
    assert "data other.npz" in error
    lock.write_text(lock.read_text().replace(f'"onnx": "{onnx.__version__}"', '"onnx": "0.1"'))
    _, _, err = run("run", lock, folder / "net.onnx", "-o", folder / "b.onnx")
    assert f"warning: not the versions of the lock: onnx {onnx.__version__} (the lock has 0.1)" in err
    error = refused(3, "run", lock, folder / "net.onnx", "-o", folder / "c.onnx", "--strict")
    assert "not the versions" in error


def test_bytes_that_are_not_those_of_the_lock_are_said(run, folder: Path):
    (folder / "r.toml").write_text(STEP)
    run("run", folder / "r.toml", folder / "net.onnx", "-o", folder / "out.onnx")
    lock = json.loads((folder / "out.lock.json").read_text())
    lock["lock"]["outputs"][0]["sha256"] = "0" * 64
    (folder / "out.lock.json").write_text(json.dumps(lock))
    code, _, err = run("run", folder / "out.lock.json", folder / "net.onnx", "-o", folder / "b.onnx")
    assert code == 0
    assert "warning: not the bytes of the lock: b.onnx" in err


def test_the_command_line_takes_the_place_of_what_the_recipe_says(run, folder: Path):
    (folder / "r.toml").write_text(f"[run]\nopset = 18\n{STEP}")
    out = folder / "out.onnx"
    assert run("run", folder / "r.toml", folder / "net.onnx", "-o", out, "--opset", "keep", "--seed", "7")[0] == 0
    assert onnx.load(out).opset_import[0].version == 17
    assert json.loads((folder / "out.lock.json").read_text())["run"]["seed"] == 7


def test_a_missed_goal_exits_with_1_and_a_goal_with_latency_is_timed(run, folder: Path):
    (folder / "r.toml").write_text(f'[goal]\nconditions = "latency<=0.0001x"\n{STEP}')
    assert tersor.recipe(folder / "r.toml").runs == 60
    out = folder / "out.onnx"
    code, shown, _ = run("run", folder / "r.toml", folder / "net.onnx", "-o", out, "--runs", "3")
    assert code == 1
    assert "goal missed" in shown
    assert out.exists()


def test_a_dry_run_and_a_bisection_of_a_recipe_write_nothing(run, written: Path, folder: Path):
    before = sorted(os.listdir(folder))
    command = ["run", written, folder / "net.onnx", "-o", folder / "out.onnx"]
    assert "prune(ratio=0.25" in run(*command, "--dry-run")[1]
    assert "no rewrite breaks" in run(*command, "--bisect")[1]
    assert sorted(os.listdir(folder)) == before


def test_passes_and_rules_of_plug_ins_are_steps_by_name(run, refused, plugin: Path, folder: Path, network):
    (folder / "r.toml").write_text('[[step]]\npass = "tiny-rules"\n[[step]]\npass = "my-rename"\nto = "z"\ntimes = 2\n')
    assert run("run", folder / "r.toml", folder / "net.onnx", "-o", folder / "out.onnx")[0] == 0
    found = onnx.load(folder / "out.onnx").graph
    assert found.name == "zz"
    assert "GlobalAveragePool" not in {n.op_type for n in found.node}
    lock = json.loads((folder / "out.lock.json").read_text())
    assert lock["lock"]["versions"]["tiny-plugin"] == "1.2"
    assert lock["step"][1] == {"pass": "my-rename", "to": "z", "times": 2}
    assert tersor.recipe({"step": [{"pass": "my-rename", "to": "b"}]}).apply(network).model.graph.name == "b"
    (folder / "r.toml").write_text('[[step]]\npass = "my-rename"\ntimes = "2"\n')
    error = refused(2, "run", folder / "r.toml", folder / "net.onnx", "-o", folder / "b.onnx")
    assert "option 'times' of pass 'my-rename' is '2'" in error
    assert "expected an integer, found text" in error
    (folder / "r.toml").write_text('[[step]]\npass = "my-renam"\n')
    error = refused(2, "run", folder / "r.toml", folder / "net.onnx", "-o", folder / "b.onnx")
    assert "did you mean 'my-rename'?" in error


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["has no steps"]),
        ("step = []", ["has no steps"]),
        ('step = "simplify"', ["has no steps"]),
        ("[[step]]", ["step 1", "names its pass"]),
        ("[[step]]\npass = 3", ["step 1", "names its pass"]),
        ('[[step]]\npass = "simplfy"', ["step 1", "no pass called 'simplfy'", "did you mean 'simplify'?"]),
        (f'{STEP}[[step]]\npass = "prune"\nration = 0.3', ["step 2", "no option 'ration'", "did you mean 'ratio'?"]),
        (f'{STEP}[[step]]\npass = "prune"\nratio = "0.3"', ["step 2", "expected a number, found text"]),
        (f'{STEP}[[step]]\npass = "prune"\nratio = 7', ["step 2", "out of range"]),
        (f'{STEP}[[step]]\npass = "quantize"\nmode = "dynamic"\nsamples = 3', ["step 2", "has no effect"]),
        (f"[gaol]\n{STEP}", ["section 'gaol'", "did you mean 'goal'?"]),
        (f"[search]\ntrials = 3\n{STEP}", ["section [search]", "does not search"]),
        (f'[model]\npath = "a"\n{STEP}', ["section [model]", "when the recipe is run"]),
        (f"goal = 3\n{STEP}", ["[goal] is not a table"]),
        (f"[goal]\ncondition = []\n{STEP}", ["no option 'condition'", "did you mean 'conditions'?"]),
        (f'[goal]\nconditions = "size<3x"\n{STEP}', ["[goal]", "not a goal: 'size<3x'"]),
        (f'[goal]\nconditions = "top1>=0.3"\n{STEP}', ["[goal]", "asks for 'top1'"]),
        (f"[goal]\nconditions = 3\n{STEP}", ["[goal]", "expected text or a list"]),
        (f"[run]\nseed = 1.5\n{STEP}", ["[run]", "'seed'", "expected an integer, found a number"]),
        (f'[run]\nopset = "newest"\n{STEP}', ["[run]", "'opset'", "'keep' or 'best' or an integer"]),
        (f'[run]\nruns = "all"\n{STEP}', ["[run]", "'runs'", "an integer or None"]),
        (f'[data]\npath = "a\\u0000"\n{STEP}', ["is no path"]),
        (f"[run]\nruns = -1\n{STEP}", ["runs = -1 is negative"]),
        (f'[data]\npath = ["a"]\n{STEP}', ["[data]", "'path'", "expected text, found a list"]),
        (f'[lock]\ninputs = [{{role = "model"}}]\n{STEP}', ["[lock]", "cannot be made of these options"]),
        ('[[step]]\npass = "simplify"\npass = "prune"', ["not valid TOML"]),
        ("[[step]", ["not valid TOML"]),
        ("a = " + "[" * 3000, ["not valid TOML"]),
    ],
)
def test_what_is_not_understood_is_refused_with_its_file_and_key(refused, folder: Path, text: str, expected: list[str]):
    (folder / "r.toml").write_text(text)
    error = refused(2, "run", folder / "r.toml", folder / "net.onnx", "-o", folder / "out.onnx")
    assert all(part in error for part in [f"{folder}/r.toml", *expected]), error


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("r.toml", b"\xff\xfe\x00", "byte 0 of it is not UTF-8"),
        ("r.toml", b"\x00\x01", "not valid TOML"),
        ("r.json", b"\x00\x01", "not valid JSON"),
        ("r.json", b"[1]", "found a list"),
        ("r.json", b'{"step": [], "step": []}', "'step' is given twice"),
        ("r.json", b'{"run": {"seed": NaN}}', "NaN is no JSON number"),
        ("r.json", b"[" * 100_000, "not valid JSON"),
        ("r.yaml", b"", "something.toml or something.json"),
        ("r", b"", "something.toml or something.json"),
    ],
)
def test_what_is_no_recipe_is_refused(refused, folder: Path, name: str, content: bytes, expected: str):
    (folder / name).write_bytes(content)
    error = refused(2, "run", folder / name, folder / "net.onnx", "-o", folder / "out.onnx")
    assert expected in error


def test_files_that_are_not_there_and_places_that_cannot_be_written_are_refused(refused, written: Path, folder: Path):
    model, out = folder / "net.onnx", folder / "out.onnx"
    (folder / "folder.toml").mkdir()
    wrong: list[tuple[str, list[Any]]] = [
        ("No such file", [folder / "nothing.toml", model, "-o", out]),
        ("Is a directory", [folder / "folder.toml", model, "-o", out]),
        ("nothing.onnx", [written, folder / "nothing.onnx", "-o", out]),
        ("nothing.npz", [written, model, "-o", out, "--data", folder / "nothing.npz"]),
        ("is an input", [written, model, "-o", written, "--force"]),
        ("is an input", [written, model, "-o", out, "--report", folder / "sub/../recipe.toml", "--force"]),
        ("'.txt'", [written, model, "-o", out, "--report", folder / "r.txt"]),
        ("no folder", [written, model, "-o", folder / "no/out.onnx"]),
        ("no folder", [written, model, "-o", out, "--report", folder / "no/r.html"]),
    ]
    (folder / "sub").mkdir()
    for expected, arguments in wrong:
        assert expected in refused(2, "run", *arguments)
    (folder / "out.lock.json").write_text("precious")
    assert "--force" in refused(2, "run", written, model, "-o", out)


def test_an_option_that_is_no_plain_value_cannot_be_written_down(folder: Path):
    with pytest.raises(UsageError, match="option 'budget' of pass 'simplify' cannot be written down"):
        Recipe((Simplify(budget=np.float32(3)),)).save(folder / "r.json")  # pyright: ignore[reportArgumentType]
