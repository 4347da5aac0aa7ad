"""Runs passes one after the other; verification, comparison with the reference, timing and printing are instruments
around each.

After a pass the graph is verified and its outputs are compared with those before it (contract exact), with the masked
model that the pass names (masked), or measured only (approximate). A pass that fails or breaks its contract is rolled
back, and the run stops: the rewrite that broke it is looked for, and what is needed to see it again is written down.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..backends.runners import Feeds
from ..ir import (
    Model,
    ParityError,
    TersorError,
    UsageError,
    VerificationError,
    verify,
)
from .base import Context, Contract, Outcome, Pass
from .bisect import Culprit, find
from .instruments import Instruments
from .parity import Check, Outputs, Parity, diverged, outputs
from .reproducer import read, write

GROSS = 100
"""Times the tolerance: a difference that no rounding makes where both precisions agree about the larger one."""

SHOWN_LINES = 40
"""Lines of what a rewrite changed that an error carries, as a note."""


class PassError(TersorError):
    """A pass raised something unexpected, or left a model that cannot run; the fault is in the pass (exit code 3)."""


FAULTS = (ParityError, VerificationError, PassError)


@dataclass
class Step:
    """One pass as it ran."""

    done: Pass
    outcome: Outcome
    seconds: float
    nodes_before: int
    nodes: int
    parity: Parity | None
    model: Model = field(repr=False)

    @property
    def contract(self) -> Contract:
        """What the pass kept in this run."""
        return self.outcome.contract or self.done.contract


def run_passes(
    model: Model,
    passes: Sequence[Pass],
    context: Context,
    check: Check | None = None,
    on_step: Callable[[Step], None] | None = None,
    instruments: Instruments | None = None,
) -> list[Step]:
    """Runs the passes on `model` in place.

    Raises ParityError when an exact or masked pass changed the outputs, VerificationError when one left an invalid
    graph, PassError when one raised something unexpected or left a model that cannot run, after rolling it back:
    `model` then is what it was before that pass. Errors that a pass raises on purpose, about what it was given, also
    leave the model as it was before the pass.
    """
    run = _Run(model, context, check or Check(), instruments or Instruments())
    run.instruments.check(passes)
    run.start(passes)
    steps: list[Step] = []
    for index, done in enumerate(passes):
        step = run.step(index, done)
        steps.append(step)
        if on_step is not None:
            on_step(step)
    return steps


class _Run:
    """The passes' surroundings: the inputs, and the outputs of the model as it was before the current pass."""

    def __init__(self, model: Model, context: Context, check: Check, instruments: Instruments) -> None:
        self.model, self.context, self.check, self.instruments = model, context, check, instruments
        self.feeds: list[Feeds] = []
        self.expected: Outputs = []

    def start(self, passes: Sequence[Pass]) -> None:
        if not self.check.enabled or not passes:
            return
        self.feeds = self.check.feeds(self.model, self.context.seed)
        try:
            self.expected = outputs(self.model, self.feeds)
        except TersorError as error:
            if self.check.source == "given":
                raise
            raise UsageError(
                "the model cannot run on made-up inputs, so nothing could be checked",
                where=error.where,
                why=error.why or error.what,
                do="give inputs that it accepts (data=..., --data), or switch the check off "
                "(check=Check(enabled=False), --no-check)",
            ) from error

    def step(self, index: int, done: Pass) -> Step:
        model, snapshot = self.model, self.model.clone()
        before = self.instruments.before(index, done, model)
        started = time.perf_counter()
        ran = False
        try:
            outcome = done.run(model, self.context)
            ran = True
            verify(model.graph, after=str(done))
            seconds = time.perf_counter() - started
            parity = self.compared(done, outcome, snapshot) if self.feeds else None
        except (KeyboardInterrupt, MemoryError):
            model.restore(snapshot)
            raise
        except Exception as error:
            self.instruments.failed(index, done, model)
            model.restore(snapshot)
            fault = self.fault(done, error, ran)
            if fault is error:
                raise
            raise fault from error
        self.instruments.after(index, done, model, before)
        return Step(done, outcome, seconds, len(snapshot.graph), len(model.graph), parity, model.clone())

    def compared(self, done: Pass, outcome: Outcome, snapshot: Model) -> Parity:
        """The comparison by the pass's contract. Raises ParityError where that is broken."""
        found = outputs(self.model, self.feeds)
        contract = outcome.contract or done.contract
        masked = outcome.reference if contract == "masked" else None
        expected = outputs(masked, self.feeds) if masked is not None else self.expected
        bound = None if contract == "approximate" else self.check.tolerance
        worst = diverged(masked or snapshot, expected, self.model, found, self.feeds, bound)
        passed = None if bound is None else worst.difference.max_error <= bound
        parity = Parity(
            against="the masked model" if masked is not None else "the model before this pass",
            inputs=self.check.source,
            difference=worst.difference,
            output=worst.output,
            tolerance=bound,
            passed=passed,
            values_compared=sum(len(a) for a in found),
            precision=worst.precision,
        )
        if passed is False:
            raise ParityError(
                f"{done} changed what the model computes; it was rolled back",
                where=f"output {worst.output!r}",
                why=f"max|a-b|/max|ref| is {worst.difference.max_error:.3g}, expected at most {bound:.3g} on "
                f"{len(self.feeds)} {parity.inputs} input(s) against {parity.against}, in {parity.precision} precision",
                do="run without this pass, and please report it with the model",
            )
        self.expected = found
        return parity

    # When a pass fails

    def fault(self, done: Pass, error: Exception, ran: bool) -> Exception:
        """The error to raise: what a pass says on purpose as it is, else with the rewrite at fault and a way to see it
        again.

        The model is back to what it was before the pass; `ran` where the pass itself had come to its end.
        """
        in_rule = bool(getattr(error, "__notes__", []))
        on_purpose = isinstance(error, TersorError) and not isinstance(error, FAULTS) and not in_rule and not ran
        if on_purpose or isinstance(error, UsageError):
            return error
        told = error if isinstance(error, FAULTS) else PassError(f"{done} failed", why=place(error))
        culprit = self.culprit(done) if ran else None
        if culprit is not None:
            told.why += f"; the first rewrite that does it: {culprit.where}"
            told.add_note("\n".join(culprit.change.splitlines()[:SHOWN_LINES]))
        elif in_rule:
            told.where = "; ".join(getattr(error, "__notes__", []))
        folder = self.reproducer(done, told, culprit)
        if folder is not None:
            told.do = f"see it again with: python {folder / 'repro.py'}"
        return told

    def culprit(self, done: Pass) -> Culprit | None:
        """The rewrite that broke an exact pass, where it can be told."""
        if not self.instruments.bisect or done.contract != "exact":
            return None
        culprit = find_culprit(done, self.model, self.context, self.check, self.feeds, self.expected)
        return culprit if culprit is not None and culprit.firing is not None else None

    def reproducer(self, done: Pass, error: TersorError, culprit: Culprit | None) -> Path | None:
        """Writes the failure down, if that is wanted and possible; gives the folder."""
        if self.instruments.reproducers is None:
            return None
        try:
            folder = write(
                self.instruments.reproducers,
                done,
                self.model,
                error,
                feeds=self.feeds,
                seed=self.context.seed,
                tolerance=self.check.tolerance,
                culprit=culprit,
                weights=self.instruments.reproducer_weights,
            )
        except TersorError as second:
            error.why += f"; no reproducer could be written: {second.what}"
            return None
        if not self.comes_back(folder, done, error):
            error.why += "; made-up weights hide it: a reproducer with yours needs reproducer_weights"
        return folder

    def comes_back(self, folder: Path, done: Pass, error: TersorError) -> bool:
        """True where what was written fails in the same way."""
        case = read(folder)
        check = Check(inputs=case.feeds, tolerance=case.tolerance, enabled=case.checked)
        context = Context(samples=case.feeds or None, seed=case.seed, fallback=self.context.fallback)
        try:
            run_passes(case.model, [done], context, check, instruments=Instruments(bisect=False))
        except Exception as again:  # whatever it is, the question is whether it is the same
            return type(again) is type(error)
        return False


def find_culprit(
    done: Pass, model: Model, context: Context, check: Check, feeds: Sequence[Feeds], expected: Outputs
) -> Culprit | None:
    """The first rewrite of an exact pass after which the graph is invalid or computes something else; None without one.

    `expected` are the outputs of `model`, which stays as it is. Without feeds only validity is looked at. Double
    precision decides as in the comparison itself; where it has agreed with single precision about the whole pass, it is
    asked again only about differences that rounding could make.
    """
    agreed = False

    def broken(candidate: Model) -> str:
        nonlocal agreed
        verify(candidate.graph, after=str(done))
        if not feeds:
            return ""
        found = outputs(candidate, feeds)
        rough = diverged(model, expected, candidate, found, feeds, None)
        if rough.difference.max_error <= check.tolerance:
            return ""
        if agreed and rough.difference.max_error > GROSS * check.tolerance:
            return str(rough)
        exact = diverged(model, expected, candidate, found, feeds, check.tolerance)
        agreed = agreed or exact.difference.max_error > rough.difference.max_error / 2
        return str(exact) if exact.difference.max_error > check.tolerance else ""

    return find(done, model, context, broken)


def bisect(model: Model, passes: Sequence[Pass], context: Context, check: Check | None = None) -> Culprit | None:
    """The first rewrite of the passes, run one after the other, that breaks a contract; None where none does.

    Of exact passes it is found down to the rewrite. A masked pass is compared with its masked model as a whole; an
    approximate one has nothing to break but the graph's validity. `model` stays as it is.
    """
    run = _Run(model.clone(), context, check or Check(), Instruments(bisect=False))
    run.start(passes)
    for index, done in enumerate(passes):
        before = run.model.clone()
        try:
            run.step(index, done)
        except FAULTS as error:
            if done.contract == "exact":
                found = find_culprit(done, before, context, run.check, run.feeds, run.expected)
                if found is not None:
                    return found
            return Culprit(str(done), None, 0, 0, error.why or error.what, "", "")
    return None


def place(error: Exception) -> str:
    """An exception on one line, with the line of code that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{f': {text}' if text else ''}{where}"
