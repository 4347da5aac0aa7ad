"""What the tests share: graphs as text, passes run on them, texts compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from textwrap import dedent

import pytest
from hypothesis import settings
from tersor.ir import Graph, Model, parse, skeleton, verify
from tersor.ir.inference import infer
from tersor.ir.rewrite import Rewriter, Rule, RuleStatistics

Check = Callable[..., Mapping[str, RuleStatistics]]

# How long an example takes says more about the machine than about what is tested.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture
def graph() -> Callable[..., Graph]:
    """A verified graph with inferred types from its text."""

    def make(text: str, **constants: object) -> Graph:
        made = parse(dedent(text), constants)  # pyright: ignore[reportArgumentType]
        infer(made)
        verify(made)
        return made

    return make


@pytest.fixture
def model(graph: Callable[..., Graph]) -> Callable[..., Model]:
    """A model around a graph from its text."""
    return lambda text, **constants: Model(graph(text, **constants))


@pytest.fixture
def check_rules(graph: Callable[..., Graph]) -> Check:
    """Runs rules on `before`; the result must be `after` (None: unchanged) and compute the same.

    `declined` names reasons that must have been given. Contents of constants are compared by running both graphs, not
    by text.
    """

    def check(
        rules: Sequence[Rule], before: str, after: str | None, *, fired: int | None = None, declined: Sequence[str] = ()
    ) -> Mapping[str, RuleStatistics]:
        from tersor.backends.runners import synthesize
        from tersor.transforms.parity import outputs, worst_difference

        original, rewritten = graph(before), graph(before)
        inference = infer(rewritten)
        result = Rewriter(rules).run(rewritten, infer=inference.node, sizes=inference.contents_of)
        verify(rewritten)
        expected = skeleton(original if after is None else graph(after))
        assert skeleton(rewritten) == expected
        assert not result.exhausted
        if fired is not None:
            assert result.fired == fired
        reasons = {why for row in result.statistics.values() for why in row.declined}
        assert set(declined) <= reasons
        feeds = synthesize(original, count=2, seed=1)
        worst, _ = worst_difference(outputs(Model(original), feeds), outputs(Model(rewritten), feeds))
        assert worst.max_error <= 1e-5
        return result.statistics

    return check
