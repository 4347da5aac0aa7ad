"""Why a rule does or does not fire at a node: asked on a copy of the graph, so that the graph stays as it is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..builder import Builder
from ..errors import UsageError
from ..graph import Graph, Node
from ..inference import Fallback, Inference
from .rules import Declined, Rule

SHOWN = 8
"""Firings that a summary lists."""

NAMED = re.compile(r" [%@](\"(?:[^\"\\\\]|\\\\.)*\"|[^\s:,]+)(?: \((?:[^()]|\([^()]*\))*\))?")
"""A value's name in a message, with the place that it comes from."""

Verdict = Literal["fires", "declines", "does not match", "fails"]
SAYING_NO: tuple[Verdict, ...] = ("declines", "does not match", "fails")


@dataclass(frozen=True)
class Explanation:
    """The answer for one node: `where` is the node as a person reads it; `why` says what failed, '' where it fires."""

    rule: str
    where: str
    verdict: Verdict
    why: str = ""

    def __str__(self) -> str:
        verb = "fires at" if self.verdict == "fires" else self.verdict
        return f"{self.rule} {verb} {self.where}{f': {self.why}' if self.why else ''}"


class Explainer:
    """Asks rules about the nodes of one graph as it is now, with inferred types and known sizes.

    `of` is the graph, or any node of it. Nothing that a rule does reaches the graph that was given: rules run on a
    copy, and what they build there is taken back.
    """

    def __init__(self, of: Graph | Node, fallback: Fallback | None = None) -> None:
        graph = outermost(of)
        self.copy = graph.clone()
        self.twins = dict(zip(graph.walk(), self.copy.walk(), strict=True))
        self.inference = Inference(self.copy, fallback).run()

    def ask(self, rule: Rule, node: Node) -> Explanation:
        """What the rule says of a node of the given graph."""
        if node.op not in rule.ops:
            why = f"it starts at {' or '.join(rule.ops)}"
            return Explanation(rule.name, node.where, "does not match", why)
        twin = self.twins[node]
        match, matched = rule.match(twin)
        if not matched:
            return Explanation(
                rule.name, node.where, "does not match", match.failure or f"it starts at another {node.op}"
            )
        assert twin.graph is not None
        builder = Builder(twin.graph, twin, infer=self.inference.node, sizes=self.inference.contents_of)
        try:
            result = rule.apply(builder, match)
        except Exception as error:  # the rule is anyone's code, and what it raises is the answer
            return Explanation(rule.name, node.where, "fails", f"{type(error).__name__}: {error}")
        finally:
            for made in reversed(builder.new):
                made.erase()
        if isinstance(result, Declined):
            return Explanation(rule.name, node.where, "declines", result.why)
        if result is None:
            return Explanation(rule.name, node.where, "declines", "it gives no reason")
        return Explanation(rule.name, node.where, "fires")

    def survey(self, rule: Rule) -> Survey:
        """What the rule says of every node at which it can start."""
        return Survey(rule, [self.ask(rule, node) for node in self.twins if node.op in rule.ops])


@dataclass(frozen=True)
class Survey:
    """A rule's answers over a whole graph; as text a summary: where it fires, and how often it says no for which
    reason.
    """

    rule: Rule
    answers: Sequence[Explanation]

    def of(self, verdict: Verdict) -> list[Explanation]:
        """The answers with this verdict."""
        return [a for a in self.answers if a.verdict == verdict]

    def reasons(self, verdict: Verdict) -> Counter[str]:
        """How many nodes have this verdict for which reason; names of nodes are left out of the reasons."""
        return Counter(NAMED.sub("", a.why) for a in self.of(verdict))

    def __str__(self) -> str:
        rows = [f"{self.rule.name}: {len(self.answers)} nodes at which it can start ({', '.join(self.rule.ops)})"]
        fires = self.of("fires")
        if fires:
            rows.append(f"  fires at {len(fires)}")
            rows += [f"    {a.where}" for a in fires[:SHOWN]]
            rows += [f"    and {len(fires) - SHOWN} more"] if len(fires) > SHOWN else []
        for verdict in SAYING_NO:
            counted = self.reasons(verdict)
            rows += [f"  {verdict}: {counted.total()}"] if counted else []
            for why, count in counted.most_common():
                example = next(a for a in self.of(verdict) if NAMED.sub("", a.why) == why)
                rows.append(f"    {count} x {why}")
                rows.append(f"        such as {example.where}")
        return "\n".join(rows)


def outermost(of: Graph | Node) -> Graph:
    """The graph that holds a node or region, however deep."""
    graph = of if isinstance(of, Graph) else of.graph
    if graph is None:
        raise UsageError("the node is in no graph", why="a rewrite took it out", do="ask for a node of the graph")
    while graph.parent is not None and graph.parent.graph is not None:
        graph = graph.parent.graph
    return graph
