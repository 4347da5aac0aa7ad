"""The command line: what it writes and prints, and how it takes mistakes."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import tersor
from tersor.driver.cli import main
from tersor.driver.evaluate import load_function
from tersor.frontends.onnx import load
from tersor.ir import CANONICAL_OPSET
from tersor.transforms.cost import graph_flops

# What works


def test_inspect_shows_interface_and_operators(run, folder):
    code, out, _ = run("inspect", folder / "net.onnx", "--json")
    shown = json.loads(out)
    assert code == 0
    assert shown["inputs"] == {"x": "f32[N,3,8,8]"}
    assert shown["operators"]["Conv"] == 2
    assert shown["parameters"] == 3 * 16 * 9 + 16 * 16 * 9 + 4 * 16 + 170


def test_inspect_prints_the_graph_as_text(run, folder):
    _, out, _ = run("inspect", folder / "net.onnx", "--text")
    assert "= BatchNormalization(" in out


def test_simplify_writes_a_smaller_graph_at_the_same_opset(run, folder):
    code, out, _ = run("simplify", folder / "net.onnx", "-o", folder / "s.onnx")
    written = onnx.load(folder / "s.onnx")
    assert code == 0
    assert "BatchNormalization" not in {n.op_type for n in written.graph.node}
    assert written.opset_import[0].version == 17
    assert "simplify" in out


def test_simplify_writes_the_opset_that_is_asked_for(run, folder):
    for asked, written in (("keep", 17), ("18", 18), ("best", CANONICAL_OPSET)):
        output = folder / f"{asked}.onnx"
        assert run("simplify", folder / "net.onnx", "-o", output, "--opset", asked)[0] == 0
        assert onnx.load(output).opset_import[0].version == written


def test_simplify_takes_promises_by_name(run, folder):
    code, out, _ = run("simplify", folder / "net.onnx", "-o", folder / "s.onnx", "--assume", "no-fully-masked-rows")
    assert code == 0
    assert "assume='no-fully-masked-rows'" in out


def test_prune_removes_channels(run, folder):
    assert run("prune", folder / "net.onnx", "-o", folder / "p.onnx", "--ratio", "0.5", "--skip", "conv2")[0] == 0
    shapes = {i.name: list(i.dims) for i in onnx.load(folder / "p.onnx").graph.initializer}
    assert shapes["conv1.weight"] == [8, 3, 3, 3]
    assert shapes["conv2.weight"] == [16, 8, 3, 3]


def test_prune_keeps_to_a_budget(run, folder):
    assert run("prune", folder / "net.onnx", "-o", folder / "p.onnx", "--flops", "0.7")[0] == 0
    before, after = (graph_flops(load(folder / name).graph) for name in ("net.onnx", "p.onnx"))
    assert 0.5 < after / before <= 0.7


def test_a_budget_that_cannot_be_kept_is_code_1_with_the_best_effort_and_why(run, folder):
    code, _, err = run("prune", folder / "net.onnx", "-o", folder / "p.onnx", "--flops", "0.01", "--max-ratio", "0.5")
    assert code == 1
    assert "missed: prune: flops=0.01 was not reached" in err
    assert (folder / "p.onnx").is_file()


def test_quantize_writes_qdq(run, folder):
    assert run("quantize", folder / "net.onnx", "-o", folder / "q.onnx", "--data", folder / "calib.npz")[0] == 0
    operators = [n.op_type for n in onnx.load(folder / "q.onnx").graph.node]
    assert "QuantizeLinear" in operators


def test_compress_leaves_model_module_and_reports(run, folder):
    code, out, err = run(
        "compress",
        folder / "net.onnx",
        "-o",
        folder / "out",
        "--pytorch",
        "--methods",
        "simplify,prune(ratio=0.25),quantize",
        "--data",
        folder / "calib.npz",
        "--eval",
        f"{folder / 'metric.py'}:positive",
        "--goal",
        "size<=0.9x",
        "--runs",
        "3",
    )
    assert code == 0, err
    assert {"model.onnx", "model.py", "model.safetensors", "report.html", "report.json"} <= {
        p.name for p in (folder / "out").iterdir()
    }
    record = json.loads((folder / "out/report.json").read_text())
    assert record["schema"] == "tersor.report/1"
    assert [s["name"] for s in record["steps"]] == ["baseline", "simplify", "prune", "quantize"]
    assert record["goal"]["met"] is True
    assert all(s["latency"]["runs"] == 3 for s in record["steps"])
    assert 0 <= record["steps"][-1]["metrics"]["positive"]["value"] <= 1
    assert "goal met" in out
    onnx.checker.check_model(str(folder / "out/model.onnx"))


def test_a_missed_goal_exits_with_1_and_saves_the_best_effort(run, folder):
    code, out, _ = run("compress", folder / "net.onnx", "-o", folder / "out", "--goal", "size<=0.01x", "--runs", "0")
    assert code == 1
    assert "goal missed: size<=0.01x" in out
    assert (folder / "out/model.onnx").exists()


def test_verify_says_how_far_apart_two_models_are(run, refused, folder):
    run("simplify", folder / "net.onnx", "-o", folder / "s.onnx")
    assert run("verify", folder / "net.onnx", folder / "s.onnx")[0] == 0
    run("prune", folder / "net.onnx", "-o", folder / "p.onnx")
    assert "the models differ" in refused(4, "verify", folder / "net.onnx", folder / "p.onnx")


def test_bench_gives_ratios_to_the_first(run, folder):
    code, out, _ = run("bench", folder / "net.onnx", folder / "net.onnx", "--runs", "3", "--json")
    first, second = json.loads(out)
    assert code == 0
    assert first["ratio"] == 1
    assert second["ratio"] > 0


def test_emit_writes_pytorch_or_another_opset(run, folder):
    assert run("emit", folder / "net.onnx", "-o", folder / "torch")[0] == 0
    assert (folder / "torch/model.py").exists()
    assert run("emit", folder / "net.onnx", "-o", folder / "new.onnx", "--to", "onnx", "--opset", "21")[0] == 0
    assert onnx.load(folder / "new.onnx").opset_import[0].version == 21


def test_emit_writes_a_file_on_integers_as_pytorch(run, folder, network):
    steps = ["simplify", "quantize(form='qoperator')"]
    result = tersor.apply(network, *steps, data=tersor.data(folder / "calib.npz"))
    result.save(folder / "q.onnx")
    assert run("emit", folder / "q.onnx", "-o", folder / "torch")[0] == 0
    assert "dequantize(" in (folder / "torch/model.py").read_text()


def test_a_dry_run_says_what_it_would_do_and_does_nothing(run, folder):
    before = {p: p.read_bytes() for p in folder.iterdir()}
    code, out, _ = run("prune", folder / "net.onnx", "-o", folder / "p.onnx", "--ratio", "0.3", "--dry-run")
    assert code == 0
    assert "prune(ratio=0.3" in out
    assert {p: p.read_bytes() for p in folder.iterdir()} == before


def test_the_same_command_writes_the_same_bytes(run, folder):
    for name in ("a.onnx", "b.onnx"):
        run("quantize", folder / "net.onnx", "-o", folder / name, "--data", folder / "calib.npz")
    assert (folder / "a.onnx").read_bytes() == (folder / "b.onnx").read_bytes()


def test_python_dash_m_works_and_a_pipe_gets_no_progress(folder):
    done = subprocess.run(
        [sys.executable, "-m", "tersor", "simplify", str(folder / "net.onnx"), "-o", str(folder / "m.onnx")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


# Bad input


def test_a_missing_file(refused, folder):
    assert "nothing.onnx" in refused(2, "inspect", folder / "nothing.onnx")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(100), b"<!DOCTYPE html><html></html>"])
def test_a_file_that_is_not_onnx(refused, folder, content: bytes):
    (folder / "bad.onnx").write_bytes(content)
    refused(3, "simplify", folder / "bad.onnx", "-o", folder / "out.onnx")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file(refused, folder, share: float):
    whole = (folder / "net.onnx").read_bytes()
    (folder / "cut.onnx").write_bytes(whole[: int(len(whole) * share)])
    refused(3, "simplify", folder / "cut.onnx", "-o", folder / "out.onnx")


def test_missing_external_data(refused, folder):
    proto = onnx.load(folder / "net.onnx")
    onnx.save(proto, folder / "ext.onnx", save_as_external_data=True, location="ext.bin", size_threshold=0)
    os.remove(folder / "ext.bin")
    assert "ext.bin" in refused(3, "inspect", folder / "ext.onnx")


def test_an_operator_that_is_not_known(refused, folder):
    proto = onnx.load(folder / "net.onnx")
    proto.graph.node[2].op_type = "Reluuu"
    onnx.save(proto, folder / "odd.onnx")
    assert "Reluuu" in refused(3, "inspect", folder / "odd.onnx")


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"y": np.zeros((4, 3, 8, 8), np.float32)}, "'x'"),
        ({"x": np.zeros((4, 3, 8, 9), np.float32)}, "shape"),
        ({"x": np.zeros((4, 3, 8), np.float32)}, "shape"),
        ({"x": np.zeros((4, 3, 8, 8), np.float64)}, "f64"),
        ({"x": np.zeros((0, 3, 8, 8), np.float32)}, "empty"),
        ({}, "'x'"),
    ],
)
def test_calibration_data_that_does_not_fit(refused, folder, arrays: dict[str, np.ndarray], expected: str):
    np.savez(folder / "wrong.npz", **arrays)
    error = refused(2, "quantize", folder / "net.onnx", "-o", folder / "q.onnx", "--data", folder / "wrong.npz")
    assert expected.lower() in error.lower()


def test_calibration_data_that_is_not_finite(refused, folder):
    np.savez(folder / "wrong.npz", x=np.full((4, 3, 8, 8), np.nan, np.float32))
    assert "'x'" in refused(3, "quantize", folder / "net.onnx", "-o", folder / "q.onnx", "--data", folder / "wrong.npz")


def test_calibration_data_that_is_no_data(refused, folder):
    (folder / "wrong.npz").write_text("no archive")
    refused(2, "quantize", folder / "net.onnx", "-o", folder / "q.onnx", "--data", folder / "wrong.npz")
    np.savez(folder / "objects.npz", x=np.array([{}], dtype=object))
    refused(2, "quantize", folder / "net.onnx", "-o", folder / "q.onnx", "--data", folder / "objects.npz")


def test_static_int8_without_data_is_refused_not_made_up(refused, folder):
    assert "calibration" in refused(2, "quantize", folder / "net.onnx", "-o", folder / "q.onnx")


@pytest.mark.parametrize("verb", ["prune", "quantize"])
def test_a_skip_pattern_that_matches_nothing(refused, folder, verb: str):
    more = ["--data", folder / "calib.npz"]
    error = refused(2, verb, folder / "net.onnx", "-o", folder / "q.onnx", "--skip", "layer9.*", *more)
    assert "'layer9.*' matches nothing" in error


def test_a_folder_that_was_made_for_work_that_failed_is_taken_away_again(refused, folder):
    refused(2, "compress", folder / "net.onnx", "-o", folder / "made" / "here", "--methods", "quantize")
    assert not (folder / "made").exists()


def test_an_output_folder_that_is_not_there(refused, folder):
    refused(2, "simplify", folder / "net.onnx", "-o", folder / "no/such/out.onnx")


def test_an_output_that_cannot_be_written(refused, folder):
    (folder / "taken").mkdir()
    refused(2, "simplify", folder / "net.onnx", "-o", folder / "taken", "--force")
    (folder / "file").write_text("precious")
    refused(2, "compress", folder / "net.onnx", "-o", folder / "file", "--runs", "0")


def test_an_output_that_exists_is_kept_unless_forced(run, refused, folder):
    (folder / "s.onnx").write_text("precious")
    assert "--force" in refused(2, "simplify", folder / "net.onnx", "-o", folder / "s.onnx")
    assert run("simplify", folder / "net.onnx", "-o", folder / "s.onnx", "--force")[0] == 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--methods", "simplfy"),
        ("--methods", "prune(ration=0.3)"),
        ("--methods", "prune(ratio=2)"),
        ("--methods", "prune(0.3)"),
        ("--methods", "simplify;"),
        ("--goal", "latency<0.5x"),
        ("--goal", "speed<=2x"),
        ("--goal", "size<=5parsecs"),
        ("--goal", "drop(top1)<=1%"),
        ("--eval", "metric.py"),
        ("--eval", "nowhere.py:f"),
    ],
)
def test_options_that_make_no_sense(refused, folder, option: str, value: str):
    refused(2, "compress", folder / "net.onnx", "-o", folder / "out", "--runs", "0", option, value)


def test_an_evaluate_function_that_is_not_there(refused, folder):
    error = refused(
        2,
        "compress",
        folder / "net.onnx",
        "-o",
        folder / "out",
        "--eval",
        f"{folder / 'metric.py'}:nope",
        "--runs",
        "0",
    )
    assert "nope" in error


def test_a_users_function_leaves_nothing_beside_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "metric.py").write_text("def top1(run):\n    return __file__\n")
    name, function = load_function(f"{tmp_path / 'metric.py'}:top1")
    assert (name, function(lambda feeds: feeds)) == ("top1", str(tmp_path / "metric.py"))
    assert [path.name for path in tmp_path.iterdir()] == ["metric.py"]


def test_usage_errors_of_the_parser_exit_with_2():
    with pytest.raises(SystemExit) as caught:
        main(["prune"])
    assert caught.value.code == 2


# A hostile user


def test_an_output_never_takes_the_place_of_a_device_or_a_pipe(refused, folder):
    os.mkfifo(folder.parent / "pipe")
    error = refused(2, "simplify", folder / "net.onnx", "-o", folder.parent / "pipe", "--force")
    assert "a device or a pipe" in error
    assert stat.S_ISFIFO(os.stat(folder.parent / "pipe").st_mode)


def test_an_output_never_takes_the_place_of_the_data_or_of_a_metric(refused, folder):
    data = ["--data", folder / "calib.npz"]
    assert "an input of this run" in refused(
        2, "quantize", folder / "net.onnx", "-o", folder / "calib.npz", *data, "--force"
    )
    os.symlink(folder / "calib.npz", folder / "link.onnx")
    assert "an input of this run" in refused(
        2, "prune", folder / "net.onnx", "-o", folder / "link.onnx", *data, "--force"
    )


def test_a_model_may_be_written_over_itself(run, folder):
    assert run("simplify", folder / "net.onnx", "-o", folder / "net.onnx", "--force")[0] == 0
    assert "BatchNormalization" not in {n.op_type for n in onnx.load(folder / "net.onnx").graph.node}


@pytest.mark.parametrize("name", ["a/", "", ".", "x" * 300 + ".onnx", "file/out.onnx", "nul\0.onnx"])
def test_names_that_are_no_files(refused, folder, monkeypatch, name: str):
    monkeypatch.chdir(folder)
    (folder / "file").write_text("")
    refused(2, "simplify", folder / "net.onnx", "-o", name, "--force")


def test_names_that_are_no_utf_8_come_through(run, folder):
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/n\xff.onnx"))
    odd.write_bytes((folder / "net.onnx").read_bytes())
    (folder / "r.toml").write_text('[[step]]\npass = "simplify"\n')
    out = Path(os.fsdecode(os.fsencode(folder) + b"/o\xff.onnx"))
    report = folder / "r.html"
    assert run("run", folder / "r.toml", odd, "-o", out, "--report", report, "--quiet")[0] == 0
    assert r"n\udcff" in report.read_text()
    lock = out.with_name(f"{out.stem}.lock.json")
    assert run("run", lock, odd, "-o", folder / "again.onnx", "--quiet", "--strict")[0] == 0


@pytest.mark.parametrize(
    ("verb", "option", "value"),
    [
        ("simplify", "--seed", "-1"),
        ("simplify", "--seed", "1.5"),
        ("prune", "--multiple-of", "two"),
        ("quantize", "--jobs", "0"),
        ("compress", "--runs", "-1"),
        ("simplify", "--opset", "newest"),
    ],
)
def test_numbers_that_make_no_sense_are_usage_errors(capsys, folder, verb: str, option: str, value: str):
    with pytest.raises(SystemExit) as caught:
        main([verb, str(folder / "net.onnx"), "-o", str(folder / "out"), option, value])
    assert caught.value.code == 2
    assert option in capsys.readouterr().err


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "1e999", "2"])
def test_a_ratio_out_of_range(refused, folder, value: str):
    error = refused(2, "prune", folder / "net.onnx", "-o", folder / "p.onnx", f"--ratio={value}")
    assert "out of range" in error


@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
def test_a_tolerance_out_of_range(capsys, folder, value: str):
    with pytest.raises(SystemExit):
        main(["verify", str(folder / "net.onnx"), str(folder / "net.onnx"), f"--tolerance={value}"])
    assert "no number from 0 on" in capsys.readouterr().err


def test_a_metric_that_is_no_python_file(refused, folder):
    arguments = ["compress", folder / "net.onnx", "-o", folder / "out", "--runs", "0"]
    assert "no Python file" in refused(2, *arguments, "--eval", f"{folder / 'calib.npz'}:f")


def test_data_with_objects_in_it_is_refused_without_advice_to_read_it(refused, folder):
    np.save(folder / "objects.npy", np.array([{}], dtype=object))
    error = refused(2, "prune", folder / "net.onnx", "-o", folder / "p.onnx", "--data", folder / "objects.npy")
    assert "allow_pickle" not in error
    assert "Python objects" in error


def test_what_the_system_refuses_is_one_line(refused, folder, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")

    monkeypatch.setattr("tersor.driver.commands.save", full)
    assert "somewhere: No space left" in refused(2, "simplify", folder / "net.onnx", "-o", folder / "s.onnx")


def test_an_interruption_leaves_what_was_there(folder):
    """In the middle of a metric, which says that it has begun."""
    (folder / "out").mkdir()
    (folder / "out/model.onnx").write_text("precious")
    (folder / "slow.py").write_text("import time\ndef f(run):\n    print('begun', flush=True)\n    time.sleep(60)\n")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    command = ["compress", folder / "net.onnx", "-o", folder / "out", "--eval", f"{folder / 'slow.py'}:f", "--force"]
    mine = signal.signal(signal.SIGINT, signal.SIG_DFL)  # a process in the background hands on that it ignores it
    process = subprocess.Popen(
        [sys.executable, "-B", "-m", "tersor", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, mine)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert err == "tersor: interrupted; nothing was left half written\n"
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("raise KeyError('x')", "KeyError: 'x' (odd.py:2)"),
        ("return 'text'", "returned str"),
        ("return None", "is not a number"),
        ("return run({})", "input 'x' is missing"),
    ],
)
def test_a_metric_that_fails_is_said_with_its_line(refused, folder, body: str, expected: str):
    (folder / "odd.py").write_text(f"def f(run):\n    {body}\n")
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    arguments = ["run", folder / "r.toml", folder / "net.onnx", "-o", folder / "out.onnx"]
    (folder / "r.toml").write_text('[goal]\nmetrics = ["odd.py:f"]\n[[step]]\npass = "simplify"\n')
    try:
        assert expected in refused(2, *arguments)
    finally:
        sys.dont_write_bytecode = before


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_streams_that_are_closed_are_no_reason_to_stop(folder, monkeypatch, stream: str):
    monkeypatch.setattr(sys, stream, None)
    assert main(["simplify", str(folder / "net.onnx"), "-o", str(folder / "s.onnx")]) == 0
