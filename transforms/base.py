"""What a pass is: a frozen dataclass whose fields are its options, with a contract that the manager checks."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ..backends.runners import Samples
from ..ir import Model, Node
from ..ir.inference import Fallback
from ..ir.rewrite import Fuel, RuleStatistics
from .select import label

Contract = Literal["exact", "masked", "approximate"]
"""exact: the same function up to floating-point reassociation; masked: equals the original with the removed channels
masked; approximate: another function whose distance is measured and reported."""

Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, how many units are done and how many there are (None: not known)."""


def silent(label: str, done: int, total: int | None) -> None:
    """A progress callback that shows nothing."""


@dataclass(frozen=True)
class Rounded:
    """How a layer is rounded, and what that costs it.

    [low, high] is the range of its input. `weight_sqnr_db` is of its weight, `alone_sqnr_db` of its result where
    nothing else is rounded; microseconds are `measured` or of a model. `counts` are the input's values on equal bins
    over the interval `seen`, kept for the layers that lose most.
    """

    scheme: str
    low: float | None = None
    high: float | None = None
    weight_sqnr_db: float | None = None
    alone_sqnr_db: float | None = None
    before_us: float | None = None
    after_us: float | None = None
    measured: bool = False
    counts: tuple[int, ...] = ()
    seen: tuple[float, float] | None = None


@dataclass(frozen=True)
class Decision:
    """One row of the per-layer table: what was decided for a layer and why; `sqnr_db` is of its result, with what the
    layers before it have added."""

    layer: str
    op: str
    decision: str
    reason: str
    scope: str = ""
    source: str = ""
    sqnr_db: float | None = None
    rounded: Rounded | None = None

    @staticmethod
    def of(node: Node, decision: str, reason: str, sqnr_db: float | None = None) -> Decision:
        return Decision(label(node), node.op, decision, reason, node.loc.scope, node.loc.source, sqnr_db)


@dataclass
class Outcome:
    """What a pass did besides changing the model.

    `reference` is the model that the result must equal where the contract is "masked"; `changed` counts rewrites or
    changed layers; `checks` are named results of checks that the pass ran itself (the mask oracle). `contract` is what
    this run kept where that is not what the pass says in general. `missed` says what the options asked for and the best
    effort did not reach.
    """

    changed: int = 0
    decisions: list[Decision] = field(default_factory=list[Decision])
    rules: Mapping[str, RuleStatistics] = field(default_factory=dict[str, RuleStatistics])
    notes: list[str] = field(default_factory=list[str])
    warnings: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    reference: Model | None = None
    checks: dict[str, Any] = field(default_factory=dict[str, Any])
    contract: Contract | None = None
    missed: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Context:
    """What a pass may use: calibration samples (None: the user gave none), a seed, type inference for unusual
    operators, progress, and an executor for work that can be shared out (None: one thing after the other).

    A pass that rewrites gives `fuel` to its rewriter and sweeps, so that the rewrite which breaks something can be
    found.
    """

    samples: Samples | None = None
    seed: int = 0
    fallback: Fallback | None = None
    progress: Progress = silent
    fuel: Fuel = field(default_factory=Fuel)
    executor: Executor | None = None


@dataclass(frozen=True)
class Pass(ABC):
    """Changes a model in place. Subclasses are frozen dataclasses; every field is an option of the same name
    everywhere.
    """

    name: ClassVar[str]
    contract: ClassVar[Contract]

    @abstractmethod
    def run(self, model: Model, context: Context) -> Outcome:
        """Changes `model` in place and says what was done."""

    def __str__(self) -> str:
        """The pass in pipeline text, without the options that have their default."""
        defaults = options_of(type(self))
        values = {name: getattr(self, name) for name in defaults}
        options = [f"{name}={value!r}" for name, value in values.items() if value != defaults[name]]
        return f"{self.name}({', '.join(options)})" if options else self.name


def options_of(kind: type[Pass]) -> dict[str, Any]:
    """The names of a pass's options and their defaults; `dataclasses.MISSING` is that of an option without one."""
    return {
        f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        for f in dataclasses.fields(kind)
        if f.init
    }
