"""Checks a rewrite rule on random instances of its pattern.

For every instance and each of its forms: the rule ends, what it leaves is a valid graph with the same interface and the
same outputs, a second run has nothing left to do, and where it does not fire the graph is untouched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..backends.compare import compare
from ..backends.runners import Feeds, OrtRunner, ReferenceRunner, Runner
from ..ir import Array, DType, Graph, Model, TensorType, TersorError, parse, structural_hash, to_text, verify
from ..ir.inference import infer
from ..ir.rewrite import Explainer, Rewriter, Rule
from ..ir.rewrite.patterns import Alternatives, Operator, Pattern
from ..transforms.parity import in_double
from .instances import Instance, instance
from .variants import Variant, variants

TOLERANCES = {DType.F16: 4e-3, DType.BF16: 3e-2}
DTYPES = (DType.F32,) * 7 + (DType.I64, DType.F64, DType.I32)
"""Element types of the instances' main data; integers show what holds for real numbers only."""

DRAWS = 12
"""How many graphs are drawn for one on which the rule fires: most rules ask for more than their pattern says."""

AS_IT_COMES = 4
"""Every so many instances one is taken as it comes, to see what the rule says to those that it is not meant for."""

SETTLING_RUNS = 4


@dataclass
class RuleReport:
    """What a check saw: forms that the rule was tried on and fired on, by kind, and why it declined the others.

    `unusable` counts instances that could not be made or that no runner takes, so that they say nothing.
    """

    rule: str
    seed: int
    tried: Counter[str] = field(default_factory=Counter[str])
    fired: Counter[str] = field(default_factory=Counter[str])
    declined: Counter[str] = field(default_factory=Counter[str])
    compared: int = 0
    unusable: int = 0

    def __str__(self) -> str:
        rows = [f"{self.rule}: {self.tried.total()} graphs, {self.compared} outputs compared (seed {self.seed})"]
        rows += [f"  {kind:<32} tried {n:>4}, fired {self.fired[kind]:>4}" for kind, n in self.tried.items()]
        rows += [f"  declined {n:>4} x {why}" for why, n in self.declined.most_common()]
        rows += [f"  {self.unusable} instances could not be used"] if self.unusable else []
        return "\n".join(rows)


def check_rule(
    rule: Rule,
    *,
    examples: Sequence[str | Graph] = (),
    also: Sequence[Rule] = (),
    count: int = 40,
    seed: int = 0,
    tolerance: float = 1e-5,
    dtypes: Sequence[DType | str] = DTYPES,
) -> RuleReport:
    """Checks that a rule keeps what graphs compute, on `count` random instances and on `examples`; gives what it saw.

    Instances come from the rule's pattern: types and attributes that its operators take, constants where it wants them,
    commutative operands in both orders. A rule without a pattern is tried on single nodes of its operators; where that
    is too little, give `examples`: graphs, or their text. Each is tried as it is, with symbolic first sizes, with all
    sizes symbolic, with unknown ranks, with an interior value that another node uses, and with one that is an output of
    the graph. `also` are rules that run together with it. tolerance: the largest max|a-b| / max|a| of an output (larger
    for narrow floats; settled in double precision). The same seed gives the same graphs.

    Raises AssertionError that shows the graph before and after, when a check fails or the rule never fires.
    """
    report = RuleReport(rule.name, seed)
    checker = _Checker(rule, also, tolerance, report)
    for graph in examples:
        given = parse(graph) if isinstance(graph, str) else graph.clone()
        infer(given)
        verify(given)
        checker.instance(given, {}, np.random.default_rng(seed), "an example")
    kinds = [DType.of_label(d) if isinstance(d, str) else d for d in dtypes]
    for number in range(0 if examples and rule.pattern is None else count):
        made = checker.drawn(number, kinds[number % len(kinds)])
        if made is None:
            report.unusable += 1
            continue
        checker.instance(made.graph, made.spans, np.random.default_rng([seed, number, 1]), f"instance {number}")
    if not report.fired.total():
        raise AssertionError(_never_fired(rule, report, checker.last))
    return report


class _Checker:
    def __init__(self, rule: Rule, also: Sequence[Rule], tolerance: float, report: RuleReport) -> None:
        self.rule, self.rules, self.report = rule, (rule, *also), report
        self.tolerance = tolerance
        self.last: Graph | None = None
        self.avoid = frozenset(op for r in self.rules for op in (*r.ops, *operators(r.pattern)))

    def drawn(self, number: int, dtype: DType) -> Instance | None:
        """An instance on which the rule fires, if one comes up soon; else the last one drawn."""
        made: Instance | None = None
        for draw in range(DRAWS if number % AS_IT_COMES else 1):
            again = instance(self.rule, (self.report.seed, number, draw), dtype)
            if again is None:
                break
            made = again
            if self.promising(again.graph):
                break
        return made

    def promising(self, graph: Graph) -> bool:
        """True where the rule fires, or raises, which `form` will then show."""
        copy = graph.clone()
        try:
            inference = infer(copy)
            return Rewriter(self.rules).run(copy, infer=inference.node, sizes=inference.contents_of).fired > 0
        except Exception:  # whatever it is, the checks come to it
            return True

    def instance(self, graph: Graph, spans: dict[str, tuple[int, int]], random: np.random.Generator, name: str) -> None:
        self.last = graph
        for variant in variants(graph, spans, random, self.avoid):
            wanted = run(variant.graph, variant.feeds)
            if variant.kind == "as drawn" and wanted[0] is None:
                self.report.unusable += 1
                return
            self.report.tried[variant.kind] += 1
            try:
                self.form(variant, wanted)
            except _Failure as failure:
                raise AssertionError(failure.text(self.rule, name, self.report.seed, variant)) from failure.__cause__

    def form(self, variant: Variant, wanted: list[dict[str, Array] | None]) -> None:
        after = variant.graph.clone()
        if not self.rewritten(after):
            if structural_hash(after) != structural_hash(variant.graph):
                raise _Failure("the rule does not fire, but changed the graph", after)
            return
        self.report.fired[variant.kind] += 1
        again = after.clone()
        runs = next((n for n in range(SETTLING_RUNS) if not self.rewritten(again)), None)
        if runs is None:
            raise _Failure("the rule does not settle: it fires again and again on its own result", again)
        self.interface(variant.graph, after)
        self.outputs(variant, wanted, after)

    def rewritten(self, graph: Graph) -> int:
        """Runs the rules in place and checks what they leave; gives how often they fired."""
        try:
            inference = infer(graph)
            result = Rewriter(self.rules).run(graph, infer=inference.node, sizes=inference.contents_of)
        except Exception as error:  # the rule is anyone's code, and that it raises is the finding
            raise _Failure(f"the rule raises {type(error).__name__}: {error}", graph) from error
        if result.exhausted:
            raise _Failure(f"the rule does not end: it fired {result.fired} times", graph)
        try:
            verify(graph, after=self.rule.name)
        except TersorError as error:
            raise _Failure(f"the rule leaves an invalid graph: {error}", graph) from error
        self.report.declined.update(result.statistics[self.rule.name].declined)
        return result.fired

    def interface(self, before: Graph, after: Graph) -> None:
        for name, old, new in zip(before.output_names, before.outputs, after.outputs, strict=True):
            if isinstance(old.type, TensorType) and isinstance(new.type, TensorType):
                differ = old.type.dtype is not new.type.dtype or (
                    old.type.rank is not None and new.type.rank is not None and old.type.rank != new.type.rank
                )
                if differ:
                    raise _Failure(f"output {name!r} has the type {new.type!r} instead of {old.type!r}", after)

    def outputs(self, variant: Variant, wanted: list[dict[str, Array] | None], after: Graph) -> None:
        for feed, expected, found in zip(variant.feeds, wanted, run(after, variant.feeds), strict=True):
            if expected is None:
                continue
            if found is None:
                shapes = {k: list(v.shape) for k, v in feed.items()}
                raise _Failure(f"the graph cannot run any more, on inputs of the shapes {shapes}", after)
            self.report.compared += len(expected)
            for name, array in expected.items():
                for before, now in zip(elements(array), elements(found[name]), strict=True):
                    self.compare(variant.graph, after, feed, name, before, now)

    def compare(self, before: Graph, after: Graph, feed: Feeds, name: str, expected: Array, found: Array) -> None:
        if expected.dtype != found.dtype or expected.shape != found.shape:
            kinds = f"{found.dtype}{list(found.shape)} instead of {expected.dtype}{list(expected.shape)}"
            raise _Failure(f"output {name!r} is {kinds}", after)
        types = {
            v.type.dtype for node in (before.entry, *before) for v in node.outputs if isinstance(v.type, TensorType)
        }
        bound = max([self.tolerance, *(TOLERANCES[t] for t in types if t in TOLERANCES)])
        error = compare(expected, found).max_error
        if error <= bound:
            return
        settled = in_double(Model(before), Model(after), [feed]) if expected.dtype.kind == "f" else None
        error = settled[0].max_error if settled is not None else error
        if error > bound:
            raise _Failure(
                f"output {name!r} differs: max|a-b|/max|a| is {error:.3g}, expected at most {bound:g}", after
            )


class _Failure(Exception):
    """A check that failed, with the graph as the rule left it."""

    def __init__(self, why: str, after: Graph) -> None:
        super().__init__(why)
        self.why, self.after = why, after

    def text(self, rule: Rule, name: str, seed: int, variant: Variant) -> str:
        return (
            f"{rule.name} is wrong: {self.why}\n({name}, {variant.kind}, seed {seed})\n\nbefore:\n"
            f"{to_text(variant.graph)}\nafter:\n{to_text(self.after)}"
        )


def elements(value: Array | Sequence[Array]) -> list[Array]:
    """The tensors of a sequence; a tensor itself."""
    return [value] if isinstance(value, np.ndarray) else [np.asarray(v) for v in value]


def run(graph: Graph, feeds: Sequence[Feeds]) -> list[dict[str, Array] | None]:
    """The outputs for each feed, None where the graph cannot run on it; without ONNX Runtime's own rewriting.

    What ONNX Runtime does not take is run by the reference evaluator.
    """
    for make in (lambda m: OrtRunner(m, optimize=False), ReferenceRunner):
        try:
            runner = make(Model(graph))
        except TersorError:
            continue
        return [_outputs(runner, feed) for feed in feeds]
    return [None] * len(feeds)


def _outputs(runner: Runner, feed: Feeds) -> dict[str, Array] | None:
    try:
        return runner.run(feed)
    except TersorError:
        return None


def operators(pattern: Pattern | None) -> Iterator[str]:
    """The operators that a pattern speaks of."""
    if isinstance(pattern, Alternatives):
        for each in pattern.patterns:
            yield from operators(each)
    elif isinstance(pattern, Operator):
        yield pattern.op
        for each in pattern.operands:
            yield from operators(each)


def _never_fired(rule: Rule, report: RuleReport, last: Graph | None) -> str:
    rows = [f"{rule.name} never fired\n{report}"]
    if last is None:
        rows.append("no instance could be made: give examples=[...], graphs or their text")
    else:
        rows += ["the last instance, and what the rule says of it:", to_text(last), str(Explainer(last).survey(rule))]
        rows.append("give examples=[...], graphs or their text, where random instances are too far from what it wants")
    return "\n".join(rows)
