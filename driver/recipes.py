"""Recipes: a run written down as TOML or JSON, and the lock that says what exactly it was.

    [goal]
    conditions = ["size<=0.4x", "drop(top1)<=2%"]
    metrics = ["evaluate.py:top1"]

    [data]
    path = "calibration.npz"

    [[step]]
    pass = "prune"
    ratio = 0.25

Each section is a dataclass below, and each step one of the passes; both are built by `transforms.options`, as pipeline
text is. Paths are relative to the recipe's folder. A lock is a recipe too: every option is there, with the hashes of
the files that went in and came out and the versions of what computed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..backends.onnx import Opset
from ..ir import Model, UsageError
from ..transforms.base import Pass, Progress, options_of, silent
from ..transforms.instruments import Instruments
from ..transforms.options import build, kind_of, make, named, suggestion
from ..transforms.parity import Check
from .compress import compress
from .data import Data, FileData
from .evaluate import Evaluate, load_function
from .files import save_text
from .goals import parse_goal
from .locks import Lock
from .measure import RUNS
from .passes import available
from .result import Result

T = TypeVar("T")

LONGEST = 16 << 20
"""Bytes of a recipe; a larger file is something else."""


@dataclass(frozen=True)
class Goal:
    """What the result is judged by: conditions as on the command line, and metrics as FILE.py:NAME."""

    conditions: str | tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The conditions as one text."""
        return self.conditions if isinstance(self.conditions, str) else ", ".join(self.conditions)


@dataclass(frozen=True)
class Samples:
    """Calibration data: an .npz file, or a folder of .npz and .npy files; '' for none."""

    path: str = ""


@dataclass(frozen=True)
class Options:
    """The command line's options of the same names; `runs` counts timed runs, by default those that the goal needs."""

    seed: int = 0
    opset: Literal["keep", "best"] | int = "keep"
    freeze_defaults: bool = False
    check: bool = True
    runs: int | None = None


@dataclass(frozen=True)
class Recipe:
    """Passes with everything that a run of them needs but the model; `lock` is None in a recipe that a person wrote.

    `place` is where it was read from; relative paths in it start there.
    """

    steps: tuple[Pass, ...]
    goal: Goal = Goal()
    data: Samples = Samples()
    run: Options = Options()
    lock: Lock | None = None
    place: Path | None = None

    @property
    def opset(self) -> Opset:
        """The opset to write, as `save` takes it."""
        return None if self.run.opset == "keep" else self.run.opset

    @property
    def runs(self) -> int:
        """Timed runs of each step: where nothing is said, as many as a condition on latency needs, else none."""
        if self.run.runs is not None:
            return self.run.runs
        return RUNS if "latency" in self.goal.text else 0

    def path(self, text: str) -> Path:
        """A path of the recipe, from the working directory."""
        return Path(text) if self.place is None else self.place.parent / text

    @property
    def samples(self) -> Path | None:
        """The calibration data, where the recipe names any."""
        return self.path(self.data.path) if self.data.path else None

    def with_data(self, path: str | os.PathLike[str]) -> Recipe:
        """The same with other calibration data, at a path from the working directory."""
        text = os.fspath(path) if self.place is None else relative(Path(path), self.place.parent)
        return replace(self, data=Samples(text))

    def metrics(self) -> dict[str, Evaluate]:
        """The functions that the metrics name: imported, so this runs the user's code."""
        return dict(load_function(reference) for reference in self.references)

    @property
    def references(self) -> list[str]:
        """The metrics as FILE.py:NAME, from the working directory."""
        split = [reference.rpartition(":") for reference in self.goal.metrics]
        return [f"{self.path(path)}:{name}" if path else name for path, _, name in split]

    def apply(
        self,
        model: Model,
        *,
        data: Data | None = None,
        evaluate: Mapping[str, Evaluate] | None = None,
        instruments: Instruments | None = None,
        progress: Progress = silent,
        executor: Executor | None = None,
        call: str = "",
    ) -> Result:
        """Runs the steps on a copy of `model` and judges the goal, as `tersor.compress` does and raises.

        `data` and `evaluate` take the place of the recipe's own. Where the model comes from, and whether its defaults
        are frozen, is the caller's business; so is saving the result, at `opset`.
        """
        given = self.metrics() if evaluate is None else evaluate
        return compress(
            model,
            self.goal.text or None,
            data=FileData(self.samples) if data is None and self.samples is not None else data,
            evaluate=given,
            methods=self.steps,
            check=None if self.run.check else Check(enabled=False),
            instruments=instruments,
            seed=self.run.seed,
            runs=self.runs,
            progress=progress,
            executor=executor,
            call=call,
        )

    def to_json(self, place: str | os.PathLike[str] | None = None) -> str:
        """The recipe as JSON with every option, for a file at `place`: paths are made relative to its folder.

        Raises UsageError for an option of a pass that is no plain value.
        """
        return json.dumps(self._document(None if place is None else Path(place)), indent=2) + "\n"

    def save(self, place: str | os.PathLike[str]) -> None:
        """Writes the recipe as JSON, completely or not at all. Raises UsageError where that is impossible."""
        save_text(place, self.to_json(place))

    def _document(self, place: Path | None) -> dict[str, Any]:
        def moved(text: str) -> str:
            here = self.path(text)
            return str(here) if place is None else relative(here, place.parent)

        metrics = tuple(f"{moved(path)}:{name}" for path, _, name in (m.rpartition(":") for m in self.goal.metrics))
        sections = {
            "goal": replace(self.goal, metrics=metrics),
            "data": replace(self.data, path=moved(self.data.path) if self.data.path else ""),
            "run": replace(self.run, runs=self.runs),
            "lock": self.lock,
        }
        document = {key: dataclasses.asdict(value) for key, value in sections.items() if value is not None}
        return document | {"step": [written(step) for step in self.steps]}


SECTIONS: dict[str, type[Any]] = {"goal": Goal, "data": Samples, "run": Options, "lock": Lock}
"""The tables of a recipe; `step` is a list of them, one for each pass."""

REFUSED = {
    "search": "tersor runs the steps as they are written: it does not search for options that reach a goal",
    "model": "the model is given when the recipe is run, so that a recipe fits many of them",
    "output": "the output is named when the recipe is run",
}
"""Sections that there could be and are not -> why."""


def recipe(source: str | os.PathLike[str] | Mapping[str, Any]) -> Recipe:
    """A recipe from a .toml or .json file, or from a mapping of the same form.

    Nothing of it is run and no file that it names is read. Raises UsageError that names the file and the key for
    whatever is not understood: unknown sections, passes and options, with the nearest name there is, and values of
    another type.
    """
    if isinstance(source, Mapping):
        return parsed(source, "the recipe", None)
    place = Path(source)
    return parsed(document_in(place), str(place), place)


def document_in(place: Path) -> Mapping[str, Any]:
    """The tables of a recipe file. Raises UsageError where it cannot be read as what its suffix says."""
    read = READERS.get(place.suffix.lower())
    if read is None:
        raise UsageError(f"{place} is not a recipe by its name", do=f"call it something{' or something'.join(READERS)}")
    try:
        with open(place, "rb") as file:
            content = file.read(LONGEST + 1)
    except OSError as error:
        raise UsageError(f"{place} cannot be read", why=error.strerror or str(error)) from error
    if len(content) > LONGEST:
        raise UsageError(f"{place} is not a recipe", why=f"it has more than {LONGEST >> 20} MB")
    try:
        found = read(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{place} is not a recipe", why=f"byte {error.start} of it is not UTF-8 text") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place} is not valid {place.suffix[1:].upper()}", why=str(error)) from error
    if not isinstance(found, dict):
        raise UsageError(f"{place} is not a recipe", why=f"expected a table of sections, found {kind_of(found)}")
    return found


def from_json(text: str) -> Any:
    """JSON without NaN and without keys that come twice. Raises ValueError."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in items]
        if len(set(names)) != len(names):
            raise ValueError(f"key {next(n for n in names if names.count(n) > 1)!r} is given twice")
        return dict(items)

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON number")

    return json.loads(text, object_pairs_hook=pairs, parse_constant=refuse)


READERS: dict[str, Callable[[str], Any]] = {".toml": tomllib.loads, ".json": from_json}


def parsed(document: Mapping[str, Any], name: str, place: Path | None) -> Recipe:
    """The recipe that a document says; `name` is what messages call it."""
    for key in document:
        if key in REFUSED:
            raise UsageError(f"{name} has a section [{key}]", why=REFUSED[key], do="leave it out")
        if key not in (*SECTIONS, "step"):
            raise UsageError(
                f"{name} has a section {key!r}", **suggestion(key, (*SECTIONS, "step"), "its sections are")
            )
    sections = {
        key: _in(f"{name}, [{key}]", lambda key=key, kind=kind: section(kind, document[key], f"[{key}]"))
        for key, kind in SECTIONS.items()
        if key in document
    }
    steps = document.get("step", [])
    if not isinstance(steps, list) or not steps:
        raise UsageError(
            f"{name} has no steps",
            why="" if "step" not in document else "[[step]] is a list of tables that are not empty",
            do='name at least one: [[step]] and below it pass = "simplify"',
        )
    passes = available()
    made = tuple(
        _in(f"{name}, step {number}", lambda each=each: step_of(each, passes)) for number, each in enumerate(steps, 1)
    )
    out = Recipe(steps=made, place=place, **sections)
    _in(f"{name}, [goal]", lambda: checked(out.goal))
    _in(f"{name}, [run]", lambda: natural(out.run))
    _in(name, lambda: possible(out))
    return out


def _in(where: str, make: Callable[[], T]) -> T:
    """What `make` gives; a mistake in there says where it is."""
    try:
        return make()
    except UsageError as error:
        error.where = f"{where}{': ' if error.where else ''}{error.where}"
        raise


def section(kind: type[T], values: Any, name: str) -> T:
    if not isinstance(values, Mapping):
        raise UsageError(f"{name} is not a table", why=f"found {kind_of(values)}")
    return build(kind, values, name, [f.name for f in fields(kind)])  # pyright: ignore[reportArgumentType]


def step_of(values: Any, passes: Mapping[str, type[Pass]]) -> Pass:
    """One pass from its table: its name under `pass`, and its options."""
    name = values.get("pass") if isinstance(values, Mapping) else None
    if not isinstance(name, str):
        raise UsageError(
            "a step names its pass", why=f"found {kind_of(values)} without it", do='write pass = "simplify"'
        )
    return make(named(name, passes), {key: value for key, value in values.items() if key != "pass"})


def checked(goal: Goal) -> None:
    """Raises UsageError for conditions that make no sense."""
    parse_goal(goal.text, tuple(reference.rpartition(":")[2] for reference in goal.metrics))


def possible(out: Recipe) -> None:
    """Raises UsageError for paths that no file can have."""
    for text in (out.data.path, *out.goal.metrics):
        if "\0" in text:
            raise UsageError(f"{text!r} is no path", do="name a file")


def natural(run: Options) -> None:
    """Raises UsageError for numbers that are out of range."""
    for name in ("runs", "seed"):
        if (number := getattr(run, name)) is not None and number < 0:
            raise UsageError(f"{name} = {number} is negative", do="give a number from 0 on")


def written(done: Pass) -> dict[str, Any]:
    """A pass as the table of a step, every option in it. Raises UsageError for one that is no plain value."""
    values = {name: plain(getattr(done, name)) for name in options_of(type(done))}
    for name, value in values.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"option {name!r} of pass {done.name!r} cannot be written down",
                why=f"{getattr(done, name)!r} is not a plain value",
            ) from error
    return {"pass": done.name, **values}


def plain(value: Any) -> Any:
    """Tuples as lists, as they come back from a file."""
    return [plain(item) for item in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def relative(path: Path, folder: Path) -> str:
    """The path as seen from a folder, whatever links lead to either of them."""
    return os.path.relpath(Path(os.path.realpath(path.parent), path.name), os.path.realpath(folder))


def lock_path(output: Path) -> Path:
    """Where the lock of a run goes: beside its output."""
    return output.with_name(f"{output.stem if output.suffix == '.onnx' else output.name}.lock.json")
