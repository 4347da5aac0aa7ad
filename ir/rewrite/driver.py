"""The worklist driver: tries rules where they can match, until none does.

Every node whose operator some rule asks for is on the list once. After a firing these come back: new nodes; users of
what was replaced, as far down as the deepest pattern looks up; and users of operands that have just one user left,
since an interior value that was shared no longer is. A budget of firings bounds rule sets that undo each other.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field

from ..builder import Builder, Sizes
from ..errors import VerificationError
from ..graph import ENTRY, EXIT, Graph, Node, Value
from ..locations import Loc, fuse
from ..types import ANY
from .fuel import Fuel
from .patterns import Match, producers
from .rules import Declined, Rule, index
from .statistics import RuleStatistics


@dataclass
class RewriteResult:
    """How often rules fired, per-rule statistics, and whether the budget ran out before a fixed point was reached."""

    fired: int = 0
    statistics: dict[str, RuleStatistics] = field(default_factory=dict[str, RuleStatistics])
    exhausted: bool = False

    def busiest(self) -> str:
        """The rules that fired most, for a warning."""
        rows = sorted(self.statistics.items(), key=lambda item: -item[1].hits)[:3]
        return ", ".join(f"{name} ({row.hits})" for name, row in rows)


class Rewriter:
    """A set of rules, indexed by operator. It keeps nothing between runs."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self.index = index(self.rules)
        self.reach = max((r.depth for r in self.rules), default=1)

    def run(
        self,
        graph: Graph,
        *,
        infer: Callable[[Node], None] | None = None,
        sizes: Sizes | None = None,
        fuel: Fuel | None = None,
        budget: int | None = None,
        keep: Set[int] = frozenset(),
    ) -> RewriteResult:
        """Rewrites the graph and its regions in place until no rule fires.

        `infer` sets the types of new nodes; `sizes` gives known contents of integer tensors to `op.sizes`; `fuel`
        bounds the firings from outside (for bisection), `budget` (8 N + 1000 for N nodes) stops after so many that the
        rules must be undoing each other; `exhausted` says so. What a rule raises gets a note of the rule and the node.
        Builders do not compute with tensors whose identities are in `keep`.
        """
        return _Run(self, graph, infer, sizes, fuel or Fuel(), budget, keep).run()


class _Run:
    def __init__(
        self,
        rewriter: Rewriter,
        graph: Graph,
        infer: Callable[[Node], None] | None,
        sizes: Sizes | None,
        fuel: Fuel,
        budget: int | None,
        keep: Set[int],
    ) -> None:
        self.rewriter, self.infer, self.sizes, self.keep = rewriter, infer, sizes, keep
        nodes = list(graph.walk())
        self.fuel = fuel
        self.budget = budget if budget is not None else 8 * len(nodes) + 1000
        self.work = deque(n for n in nodes if n.op in rewriter.index)
        self.queued = set(self.work)
        statistics = {r.name: RuleStatistics() for r in rewriter.rules}
        self.result = RewriteResult(statistics=statistics)
        self.rows = {op: [(r, statistics[r.name]) for r in rules] for op, rules in rewriter.index.items()}

    def run(self) -> RewriteResult:
        while self.work and not self.fuel.empty:
            node = self.work.popleft()
            self.queued.discard(node)
            if node.graph is None:
                continue
            found = producers(node)
            for rule, row in self.rows[node.op]:
                row.tries += 1
                if not rule.is_possible(node, found):
                    continue
                try:
                    if self.attempt(rule, row, node):
                        break
                except Exception as error:
                    error.add_note(f"in rule {rule.name} at {node.where}")
                    raise
            if self.result.fired >= self.budget:
                self.result.exhausted = True
                break
        return self.result

    def attempt(self, rule: Rule, statistics: RuleStatistics, node: Node) -> bool:
        started = time.perf_counter()
        match, matched = rule.match(node)
        fired = False
        if matched:
            assert node.graph is not None
            builder = Builder(node.graph, node, infer=self.infer, sizes=self.sizes, keep=self.keep)
            result = rule.apply(builder, match)
            if not isinstance(result, Declined) and result is not None and _changes_a_rank(node, builder, result):
                result = Declined("it would change a rank")
            if result is None or isinstance(result, Declined):
                if result is not None:
                    statistics.declined[result.why] += 1
                for made in reversed(builder.new):
                    made.erase()
            else:
                self.fuel.burn(rule.name, node, builder.new)
                self.replace(rule, match, node, builder, result)
                statistics.hits += 1
                self.result.fired += 1
                fired = True
        statistics.seconds += time.perf_counter() - started
        return fired

    def replace(
        self, rule: Rule, match: Match, node: Node, builder: Builder, result: Value | Sequence[Value | None]
    ) -> None:
        replacements: list[Value | None] = [result] if isinstance(result, Value) else list(result)
        replacements += [None] * (len(node.outputs) - len(replacements))
        for old, new in zip(node.outputs, replacements, strict=True):
            if new is None and old.users:
                raise VerificationError(
                    f"rule {rule.name} gives no replacement for output {old.index}", where=node.where
                )
        pairs = [(old, new) for old, new in zip(node.outputs, replacements, strict=True) if new is not None]
        pairs += builder.replacements
        detached = self.revise(builder, match, rule)
        for old, new in pairs:
            self.substitute(old, new, builder)
        erased = self.erase([node, *(old.node for old, _ in builder.replacements if old.node), *detached])
        for new_node in reversed(builder.new):
            if not any(v.users for v in new_node.outputs):
                new_node.erase()
        locate([n for n in builder.new if n.graph is not None], match.nodes, erased, rule.name)
        for new_node in (*builder.new, *(revision.node for revision in builder.revisions)):
            self.push(new_node)
            for value in new_node.inputs:
                if value is not None and value.node is not None:
                    self.push(value.node)

    def substitute(self, old: Value, new: Value, builder: Builder) -> None:
        """Gives the users of `old` the value `new`, with the name and the type where `new` has none of its own."""
        made = new.node is not None and new.node in builder.new
        if made or new.const is not None or any(new in revision.changed for revision in builder.revisions):
            new.name = new.name or old.name
        if made and old.type != ANY:
            new.type = old.type
        self.requeue_users(old)
        old.replace_by(new)

    def revise(self, builder: Builder, match: Match, rule: Rule) -> list[Node]:
        """Makes the changes to nodes that stay; gives the nodes whose outputs they no longer use."""
        detached: list[Node] = []
        for revision in builder.revisions:
            node = revision.node
            detached += [v.node for v in node.inputs if v is not None and v.node is not None]
            node.set_inputs(revision.inputs)
            node.attrs = revision.attrs
            node.loc = fuse(node.loc, [n.loc for n in match.nodes], rule.name)
            for value in revision.changed:
                value.name = ""
                self.requeue_users(value)
            for value in node.outputs:
                self.requeue_users(value)
        return detached

    def erase(self, roots: Sequence[Node]) -> list[Node]:
        """Erases nodes without users, and what only they used. Gives the erased nodes."""
        dead, erased = list(roots), list[Node]()
        while dead:
            node = dead.pop()
            if node.graph is None or node.op in (ENTRY, EXIT) or any(v.users for v in node.outputs):
                continue
            operands = [v for v in node.inputs if v is not None and v.node is not None]
            node.erase()
            erased.append(node)
            for value in operands:
                if not value.users and value.node is not None:
                    dead.append(value.node)
                elif len(value.users) == 1:
                    self.requeue_users(value)
        return erased

    def requeue_users(self, value: Value) -> None:
        level: Iterable[Value] = (value,)
        for _ in range(self.rewriter.reach):
            users = dict.fromkeys(user for v in level for user in v.users if user.op != EXIT)
            for user in users:
                self.push(user)
            level = [v for user in users for v in user.outputs]
            if not level:
                break

    def push(self, node: Node) -> None:
        if node.op in self.rewriter.index and node not in self.queued and node.graph is not None:
            self.queued.add(node)
            self.work.append(node)


def _changes_a_rank(node: Node, builder: Builder, result: Value | Sequence[Value | None]) -> bool:
    """True where a replacement certainly has another rank: a constant of one element may have several axes, and a rule
    that takes it for a number then drops them.
    """
    values = [result] if isinstance(result, Value) else result
    pairs = [(old, new) for old, new in zip(node.outputs, values, strict=False) if new is not None]
    return any(
        old.users and old.rank is not None and new.rank is not None and old.rank != new.rank
        for old, new in (*pairs, *builder.replacements)
    )


def locate(made: Sequence[Node], matched: Sequence[Node], erased: Sequence[Node], rule: str) -> None:
    """Gives new nodes the fused location of what they replace; the primary one is that of a matched node with the same
    operator.
    """
    sources: list[Node] = list(dict.fromkeys((*matched, *erased)))
    locs: list[Loc] = [n.loc for n in sources]
    for node in made:
        twin = next((n for n in sources if n.op == node.op), sources[0])
        node.loc = fuse(twin.loc, locs, rule)
