"""Finds the one rewrite of a pass that breaks something: its steps are counted as fuel, and the fuel is halved.

Where the step is a sweep over the whole graph, its changes are counted and halved in the same way.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..ir import Graph, Model, Node, Placeholder, to_text
from ..ir.rewrite import Firing, Fuel
from .base import Context, Pass

Broken = Callable[[Model], str]
"""What is wrong with a model, '' where nothing is. What it raises is wrong too."""

SHOWN_BYTES = 1 << 20
"""Contents of larger constants are not told apart in the text of a graph: they would all have to be read."""


@dataclass(frozen=True)
class Culprit:
    """The first rewrite after which something is wrong: number `index` of the `count` that the pass does. Of a sweep
    that tells its changes apart it is number `change_index` of the `change_count` of that sweep.

    `firing` is None where the pass does not count its rewrites, or breaks the model outside of them; `before` and
    `after` are the graph's text then around the whole pass. `difference` says what is wrong afterwards.
    """

    done: str
    firing: Firing | None
    index: int
    count: int
    difference: str
    before: str
    after: str
    change_index: int | None = None
    change_count: int | None = None

    @property
    def where(self) -> str:
        """The rewrite on one line: rule, node, and its place in the user's model."""
        if self.firing is None:
            return f"{self.done}; it does not count its rewrites, so it cannot be told which one"
        at = f" at {self.firing.node}" if self.firing.node else ", a sweep over the whole graph"
        part = "" if self.change_index is None else f"change {self.change_index} of {self.change_count} in "
        return f"{self.firing.rule}{at} ({part}rewrite {self.index} of {self.count} in {self.done})"

    @property
    def change(self) -> str:
        """What the rewrite changed, as a difference of the graph's text."""
        return changes(self.before, self.after)

    def __str__(self) -> str:
        return f"{self.where}\n  {self.difference}\n{self.change}"


def find(done: Pass, model: Model, context: Context, broken: Broken) -> Culprit | None:
    """The first rewrite of `done` on `model` after which `broken`, or the pass itself, finds something wrong.

    None where nothing is. `model` stays as it is. The same model, pass and context give the same answer.
    """
    fuel = Fuel()
    wrong = attempt(done, model, context, fuel, broken)
    if not wrong:
        return None

    def breaks(fuel: Fuel) -> bool:
        return bool(attempt(done, model, context, fuel, broken))

    index = first(-1, fuel.spent, lambda middle: breaks(Fuel(middle)))
    whole = Fuel(index)
    breaks(whole)
    if not whole.changed:
        return _shown(done, model, context, Fuel(index), fuel.spent, broken)
    change = first(0, whole.changed, lambda middle: breaks(Fuel(index, changes=middle)))
    found = _shown(done, model, context, Fuel(index, changes=change), fuel.spent, broken)
    return replace(found, change_index=change, change_count=whole.changed)


def first(good: int, bad: int, breaks: Callable[[int], bool]) -> int:
    """The first number after `good` and up to `bad`, which breaks, from which on it does."""
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if breaks(middle) else (middle, bad)
    return bad


def attempt(
    done: Pass, model: Model, context: Context, fuel: Fuel, broken: Broken, subject: Model | None = None
) -> str:
    """Runs the pass on a copy with some fuel; gives what is then wrong."""
    subject = subject or model.clone()
    try:
        done.run(subject, replace(context, fuel=fuel))
        return broken(subject)
    except Exception as error:  # whatever it is, it is what is being looked for
        return f"{type(error).__name__}: {error}"


def _shown(done: Pass, model: Model, context: Context, fuel: Fuel, count: int, broken: Broken) -> Culprit:
    """What the last rewrite that the fuel allows does."""
    subject = model.clone()
    texts = [text_of(subject.graph)]

    def keep(made: Sequence[Node]) -> None:
        name_values(subject.graph, made)
        texts.append(text_of(subject.graph, made))

    fuel.before_last = keep
    wrong = attempt(done, model, context, fuel, broken, subject)
    return Culprit(
        done=str(done),
        firing=fuel.last,
        index=fuel.spent,
        count=count,
        difference=wrong.splitlines()[0] if wrong else "",
        before=texts[-1],
        after=text_of(subject.graph),
    )


def name_values(graph: Graph, without: Sequence[Node]) -> None:
    """Gives names to values without one, so that texts of the graph before and after a change can be compared."""
    for number, node in enumerate(graph.walk()):
        for value in node.outputs if node not in without else ():
            value.name = value.name or f"v{number}.{value.index}"


def text_of(graph: Graph, without: Sequence[Node] = ()) -> str:
    """The text of a graph without some nodes that nothing uses, and without reading large constants."""
    try:
        copy = graph.clone()
    except KeyError:  # an invalid graph: a use without a definition before it
        return to_text(graph)
    hidden = set(without)
    for node, twin in reversed(list(zip(graph.walk(), copy.walk(), strict=True))):
        if node in hidden:
            twin.erase()
    for value in copy.constants():
        if value.tensor.nbytes > SHOWN_BYTES:
            value.const = Placeholder(value.tensor.dtype, value.tensor.shape)
    return to_text(copy)


def changes(before: str, after: str) -> str:
    """The lines in which two texts differ, with some around them; '' where they are the same."""
    return "\n".join(difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", lineterm=""))
