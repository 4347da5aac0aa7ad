"""A rewrite that breaks something is found, named and written down so that it runs again."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from tersor.ir import Model, ParityError, TersorError, UsageError, VerificationError, structural_hash
from tersor.ir.rewrite import Fuel, P, decline, rule
from tersor.transforms.base import Context, Outcome, Pass
from tersor.transforms.bisect import find
from tersor.transforms.instruments import Instruments
from tersor.transforms.manager import PassError, bisect, run_passes
from tersor.transforms.parity import Check
from tersor.transforms.reproducer import read
from tersor.transforms.rule_pass import RulePass
from tersor.transforms.simplify import Simplify

x = P.var("x")


@rule(P.Neg(P.Neg(x)))
def double_negation(op, x):
    """-(-x) is x."""
    return x


@rule(P.Tanh(x).named("tanh"))
def wrong_after_the_second(op, x, tanh):
    """Replaces Tanh by Sin where the location says so: a fault that shows at one node only."""
    return op.Sin(x) if tanh.loc.scope == "net.wrong" else decline("not here")


@rule(P.Relu(x))
def raises(op, x):
    raise KeyError("axis")


class Cleaning(RulePass):
    """Two rules, one of them wrong."""

    name: ClassVar[str] = "cleaning"
    rules: ClassVar = (double_negation, wrong_after_the_second)


class Raising(RulePass):
    name: ClassVar[str] = "raising"
    rules: ClassVar = (raises,)


@dataclass(frozen=True)
class Mistaken(Pass):
    name: ClassVar[str] = "mistaken"
    contract: ClassVar = "exact"

    def run(self, model: Model, context: Context) -> Outcome:
        raise UsageError("this option makes no sense")


@dataclass(frozen=True)
class Scale(Pass):
    """Changes the weight without counting it as a rewrite."""

    name: ClassVar[str] = "scale"
    contract: ClassVar = "exact"

    def run(self, model: Model, context: Context) -> Outcome:
        node = next(n for n in model.graph if n.op == "MatMul")
        node.set_input(1, node.operand(1) * 2.0)
        return Outcome(changed=1)


@dataclass(frozen=True)
class Careless(Pass):
    """Leaves a broken graph in its second rewrite."""

    name: ClassVar[str] = "careless"
    contract: ClassVar = "exact"

    def run(self, model: Model, context: Context) -> Outcome:
        def breaks() -> int:
            node = next(iter(model.graph))
            node.unlink()
            model.graph.insert(node)
            return 1

        context.fuel.sweep("harmless", lambda: 0, {})
        context.fuel.sweep("breaks", breaks, {})
        return Outcome()


TEXT = """graph(%x: f32[N,40]) -> (y) {
  @secret : f32[40,40] = random(1)
  %a = MatMul(%x, @secret) : f32[N,40]   # net.linear @ net.py:3
  %b = Neg(%a) : f32[N,40]
  %c = Neg(%b) : f32[N,40]
  %d = Tanh(%c) : f32[N,40]   # net.right @ net.py:4
  %e = Neg(%d) : f32[N,40]
  %f = Neg(%e) : f32[N,40]
  %g = Tanh(%f) : f32[N,40]   # net.wrong @ net.py:5
  %h = Relu(%g) : f32[N,40]
  return %h
}"""


def test_the_rewrite_that_breaks_the_outputs_is_named_with_its_node_and_place(model):
    culprit = bisect(model(TEXT), [Cleaning()], Context())
    assert culprit is not None
    assert culprit.firing is not None
    assert culprit.firing.rule == "wrong_after_the_second"
    assert culprit.firing.loc.scope == "net.wrong"
    assert culprit.firing.loc.source == "net.py:5"
    assert "max|a-b|/max|ref| of output 'y'" in culprit.difference
    assert "-  %g = Tanh(" in culprit.change
    assert "+  %g = Sin(" in culprit.change
    assert "MatMul" not in [row[3:] for row in culprit.change.splitlines() if row[0] in "+-"]


def test_the_answer_is_the_same_each_time(model):
    first, second = (bisect(model(TEXT), [Cleaning()], Context()) for _ in range(2))
    assert first == second
    assert str(first) == str(second)


def test_the_right_rewrites_before_it_stay_and_the_pipeline_goes_on_to_the_pass_at_fault(model):
    subject = model(TEXT)
    before = structural_hash(subject.graph)
    culprit = bisect(subject, [Simplify(), Cleaning()], Context())
    assert culprit is not None
    assert culprit.done == "cleaning"
    assert structural_hash(subject.graph) == before


def test_passes_that_are_right_have_no_culprit(model):
    assert bisect(model(TEXT), [Simplify()], Context()) is None


def test_a_pass_that_does_not_count_its_rewrites_is_named_as_a_whole(model):
    culprit = bisect(model(TEXT), [Scale()], Context())
    assert culprit is not None
    assert culprit.firing is None
    assert culprit.done == "scale"


def test_an_invalid_graph_is_traced_to_the_sweep_that_left_it(model):
    culprit = bisect(model(TEXT), [Careless()], Context(), Check(enabled=False))
    assert culprit is not None
    assert culprit.firing is not None
    assert culprit.firing.rule == "breaks"


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 5, 8])
def test_simplify_with_limited_fuel_stops_after_that_many_rewrites(model, limit: int):
    subject, fuel = model(TEXT), Fuel(limit)
    Simplify().run(subject, Context(fuel=fuel))
    assert fuel.spent <= limit


def test_every_step_of_simplify_is_found_when_it_is_the_one(model):
    """Whatever rewrite is declared wrong, it is the one that is named."""
    subject, whole = model(TEXT), Fuel()
    Simplify().run(subject.clone(), Context(fuel=whole))
    sizes = []
    for limit in range(whole.spent + 1):
        copy = subject.clone()
        Simplify().run(copy, Context(fuel=Fuel(limit)))
        sizes.append(len(copy.graph))
    for wanted in set(sizes[1:]) - {sizes[0]}:
        found = find(Simplify(), subject, Context(), lambda m, w=wanted: "small" if len(m.graph) <= w else "")
        assert found is not None
        assert found.index == next(i for i, size in enumerate(sizes) if size <= wanted)


FOLDS = """graph(%x: f32[4]) -> (y) {
  @a : f32[4] = [1,2,3,4]
  %one = Exp(@a) : f32[4]   # first @ net.py:1
  %two = Sqrt(@a) : f32[4]   # second @ net.py:2
  %three = Log(@a) : f32[4]   # third @ net.py:3
  %b = Cos(%x) : f32[4]   # fourth @ net.py:4
  %c = Cos(%x) : f32[4]   # fifth @ net.py:5
  %d = Sum(%one, %two, %three, %b, %c) : f32[4]
  return %d
}"""


@pytest.mark.parametrize(
    ("op", "count", "rule", "scope"),
    [
        ("Exp", 0, "fold_constants", "first"),
        ("Sqrt", 0, "fold_constants", "second"),
        ("Log", 0, "fold_constants", "third"),
        ("Cos", 1, "merge_common", "fifth"),
    ],
)
def test_in_a_sweep_the_one_change_at_fault_is_found(model, op: str, count: int, rule: str, scope: str):
    def broken(candidate: Model) -> str:
        used = [n for n in candidate.graph if n.op == op and n.output.users]
        return f"{op} is missing" if len(used) <= count else ""

    found = find(Simplify(), model(FOLDS), Context(), broken)
    assert found is not None
    assert found.firing is not None
    assert found.firing.rule == rule
    assert found.firing.loc.scope == scope
    assert f"change {found.change_index} of {found.change_count} in rewrite" in found.where
    taken = [row for row in found.change.splitlines() if row.startswith("-  %")]
    assert len(taken) == (1 if rule == "fold_constants" else 2)


def test_a_sweep_that_does_not_tell_its_changes_apart_is_named_as_a_whole(model):
    culprit = bisect(model(TEXT), [Careless()], Context(), Check(enabled=False))
    assert culprit is not None
    assert culprit.change_index is None
    assert "breaks, a sweep over the whole graph (rewrite 2 of 2 in careless)" in culprit.where


# In the manager


def test_a_parity_error_names_the_rewrite(model):
    with pytest.raises(ParityError, match=r"wrong_after_the_second at Tanh %g \(net.wrong \(net.py:5\)\)"):
        run_passes(model(TEXT), [Cleaning()], Context())


def test_a_rule_that_raises_is_named_with_its_node_and_the_model_is_as_before(model):
    subject = model(TEXT)
    before = structural_hash(subject.graph)
    with pytest.raises(PassError, match="in rule raises at Relu %h") as found:
        run_passes(subject, [Raising()], Context())
    assert "KeyError: 'axis'" in str(found.value)
    assert isinstance(found.value.__cause__, KeyError)
    assert structural_hash(subject.graph) == before


# Printing


def test_graphs_are_printed_around_the_passes_that_were_asked_for(model, capsys):
    wanted = Instruments(print_before=("simplify",), print_after=("all",), print_changed=("simplify",))
    run_passes(model(TEXT), [Simplify()], Context(), instruments=wanted)
    shown = capsys.readouterr().err
    assert [row for row in shown.splitlines() if row.startswith("# ")] == [
        "# before simplify",
        "# after simplify",
        "# changed simplify",
    ]
    assert "-  %b = Neg(" in shown


def test_graphs_are_printed_into_files_and_only_a_failing_pass_on_failure(model, tmp_path: Path):
    wanted = Instruments(print_on_failure=("all",), folder=tmp_path / "texts")
    with pytest.raises(ParityError):
        run_passes(model(TEXT), [Simplify(), Cleaning()], Context(), instruments=wanted)
    assert [p.name for p in (tmp_path / "texts").iterdir()] == ["02-cleaning-failure.txt"]
    assert "Sin(" in (tmp_path / "texts/02-cleaning-failure.txt").read_text()


def test_a_pass_that_is_not_run_cannot_be_printed(model):
    with pytest.raises(UsageError, match="simplfy"):
        run_passes(model(TEXT), [Simplify()], Context(), instruments=Instruments(print_after=("simplfy",)))


# Reproducers


def written(place: Path) -> Path:
    (folder,) = place.iterdir()
    return folder


def failing(subject: Model, done: Pass, place: Path, **options: bool) -> Exception:
    with pytest.raises((ParityError, PassError, VerificationError)) as found:
        run_passes(subject, [done], Context(), instruments=Instruments(reproducers=place, **options))
    return found.value


def test_a_failure_is_written_down_and_named_and_fails_the_same_way_with_one_command(model, tmp_path: Path):
    error = failing(model(TEXT), Cleaning(), tmp_path / "kept")
    folder = written(tmp_path / "kept")
    assert f"python {folder}/repro.py" in str(error)
    module = tmp_path / "test_bisect.py"
    module.write_bytes(Path(__file__).read_bytes())
    case = json.loads((folder / "case.json").read_text())
    case["pass"]["class"] = "test_bisect:Cleaning"
    (folder / "case.json").write_text(json.dumps(case))
    done = subprocess.run(
        [sys.executable, str(folder / "repro.py")],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        cwd=tmp_path,
    )
    assert done.returncode == ParityError.exit_code, done.stderr
    assert "cleaning changed what the model computes" in done.stderr
    assert "wrong_after_the_second at Tanh" in done.stderr
    assert "Traceback" not in done.stderr
    assert "wrong_after_the_second" in (folder / "culprit.txt").read_text()


def test_a_reproducer_holds_no_weights_but_their_type_shape_and_range(model, tmp_path: Path):
    subject = model(TEXT)
    failing(subject, Cleaning(), tmp_path)
    folder = written(tmp_path)
    secret = next(v for v in subject.graph.constants() if v.name == "secret").tensor
    raw = secret.numpy().tobytes()
    assert not any(raw[:64] in p.read_bytes() for p in folder.rglob("*") if p.is_file())
    assert not any(secret.digest in p.read_text() for p in folder.rglob("*") if p.is_file())
    found = next(v for v in read(folder).model.graph.constants() if v.name == "secret").tensor
    assert found.type == secret.type
    assert secret.numpy().min() <= found.numpy().min() < found.numpy().max() <= secret.numpy().max()
    assert not np.allclose(found.numpy(), secret.numpy())


def test_a_reproducer_holds_the_weights_when_asked(model, tmp_path: Path):
    subject = model(TEXT)
    failing(subject, Cleaning(), tmp_path, reproducer_weights=True)
    found = next(v for v in read(written(tmp_path)).model.graph.constants() if v.name == "secret").tensor
    secret = next(v for v in subject.graph.constants() if v.name == "secret").tensor
    np.testing.assert_array_equal(found.numpy(), secret.numpy())


def test_the_same_failure_is_written_once(model, tmp_path: Path):
    for _ in range(2):
        failing(model(TEXT), Cleaning(), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_inputs_that_the_user_gave_are_made_up_too(model, tmp_path: Path):
    feed = {"x": np.random.default_rng(5).standard_normal((3, 40)).astype(np.float32)}
    with pytest.raises(ParityError):
        run_passes(
            model(TEXT), [Cleaning()], Context(), Check(inputs=[feed]), instruments=Instruments(reproducers=tmp_path)
        )
    (again,) = read(written(tmp_path)).feeds
    assert again["x"].shape == (3, 40)
    assert not np.allclose(again["x"], feed["x"])


def test_shapes_axes_and_single_numbers_are_kept(model, tmp_path: Path):
    text = TEXT.replace("Relu(%g)", "Mul(%g, f32[]{0.125})").replace(
        "return %h", "%i = Reshape(%h, i64[2]{-1,20}) : f32[M,20] return %i"
    )
    failing(model(text), Cleaning(), tmp_path)
    shown = (written(tmp_path) / "graph.txt").read_text()
    assert "f32[]{0.125}" in shown
    assert "i64[2]{-1,20}" in shown


def test_a_users_mistake_writes_nothing(model, tmp_path: Path):
    with pytest.raises(UsageError):
        run_passes(model(TEXT), [Mistaken()], Context(), instruments=Instruments(reproducers=tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_a_place_that_cannot_be_written_does_not_hide_the_failure(model, tmp_path: Path):
    (tmp_path / "file").write_text("")
    error = failing(model(TEXT), Cleaning(), tmp_path / "file")
    assert isinstance(error, ParityError)
    assert "no reproducer could be written" in str(error)


@rule(P.MatMul(x, P.const("w")))
def wrong_for_these_weights(op, x, w):
    """A fault that other weights do not show."""
    return op.MatMul(x, w * 2.0) if abs(float(w.tensor.numpy()[0, 0]) - SECRET) < 1e-6 else decline("other weights")


SECRET = float(np.random.default_rng(1).standard_normal((40, 40)).astype(np.float32)[0, 0])


class Picky(RulePass):
    name: ClassVar[str] = "picky"
    rules: ClassVar = (wrong_for_these_weights,)


def test_where_made_up_weights_hide_the_failure_the_error_says_so(model, tmp_path: Path):
    assert "made-up weights hide it" in str(failing(model(TEXT), Picky(), tmp_path / "without"))
    assert "made-up weights" not in str(failing(model(TEXT), Picky(), tmp_path / "with", reproducer_weights=True))
    assert "made-up weights" not in str(failing(model(TEXT), Cleaning(), tmp_path / "other"))


class NotFinite(TersorError):
    """What a pass says of the user's data."""


@dataclass(frozen=True)
class Refusing(Mistaken):
    name: ClassVar[str] = "refusing"

    def run(self, model: Model, context: Context) -> Outcome:
        raise NotFinite("the calibration data are not finite")


def test_what_a_pass_says_of_the_users_data_is_no_fault_of_the_pass(model, tmp_path: Path):
    with pytest.raises(NotFinite):
        run_passes(model(TEXT), [Refusing()], Context(), instruments=Instruments(reproducers=tmp_path / "none"))
    assert not (tmp_path / "none").exists()


@rule(P.Relu(x))
def to_an_operator_that_nobody_has(op, x):
    return op.Reluh(x, domain="nowhere")


class Unrunnable(RulePass):
    name: ClassVar[str] = "unrunnable"
    rules: ClassVar = (double_negation, to_an_operator_that_nobody_has)


def test_a_model_that_cannot_run_after_a_pass_is_a_fault_with_its_rewrite(model):
    with pytest.raises(PassError, match="to_an_operator_that_nobody_has at Relu %h"):
        run_passes(model(TEXT), [Unrunnable()], Context())
