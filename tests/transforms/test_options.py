"""Options become fields in one place, checked against their types; a mistake names what was meant."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tersor.ir import Model, UsageError
from tersor.transforms.base import Context, Outcome, Pass, options_of
from tersor.transforms.options import make, parse_pipeline
from tersor.transforms.prune import Prune
from tersor.transforms.quantize import Quantize
from tersor.transforms.simplify import Simplify


@dataclass(frozen=True)
class Every(Pass):
    """One option of each type."""

    name: ClassVar[str] = "every"
    contract: ClassVar = "exact"

    share: float = 0.5
    count: int = 1
    flag: bool = False
    text: str = ""
    level: Literal["low", 3] = "low"
    names: tuple[str, ...] = ()
    pair: tuple[int, float] = (1, 2.0)
    limit: float | None = 1.0
    either: str | int = ""
    table: Mapping[str, int] = field(default_factory=dict)
    anything: Any = None

    def run(self, model: Model, context: Context) -> Outcome:
        return Outcome()


@dataclass(frozen=True)
class Needs(Every):
    """An option without a default, one that is refused, and an annotation that means nothing here."""

    name: ClassVar[str] = "needs"

    what: str = field(kw_only=True)
    odd: NowhereToBeFound = None  # pyright: ignore  # noqa: F821

    def __post_init__(self) -> None:
        if self.what == "bad":
            raise ValueError("nobody wants bad")


PASSES: dict[str, type[Pass]] = {
    "every": Every,
    "needs": Needs,
    "prune": Prune,
    "simplify": Simplify,
    "quantize": Quantize,
}


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"share": 1}, "share", 1.0),
        ({"names": ["a", "b"]}, "names", ("a", "b")),
        ({"pair": [3, 4]}, "pair", (3, 4.0)),
        ({"limit": "none"}, "limit", None),
        ({"limit": None}, "limit", None),
        ({"limit": 2}, "limit", 2.0),
        ({"either": 5}, "either", 5),
        ({"level": 3}, "level", 3),
        ({"table": {"a": 1}}, "table", {"a": 1}),
        ({"anything": [1, "a"]}, "anything", (1, "a")),
    ],
)
def test_plain_values_take_the_type_of_their_field(given: dict[str, Any], field: str, value: Any):
    made = getattr(make(Every, given), field)
    assert made == value
    assert type(made) is type(value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"share": "0.3"}, "expected a number, found text"),
        ({"share": True}, "expected a number, found true or false"),
        ({"share": 10**400}, "expected a number that a float can hold, found an integer"),
        ({"count": 1.0}, "expected an integer, found a number"),
        ({"count": False}, "expected an integer, found true or false"),
        ({"flag": 1}, "expected true or false, found an integer"),
        ({"flag": "false"}, "expected true or false, found text"),
        ({"text": 3}, "expected text, found an integer"),
        ({"level": "lo"}, "expected 'low' or 3, found text"),
        ({"level": 3.0}, "expected 'low' or 3, found a number"),
        ({"names": "head"}, "expected a list, found text"),
        ({"names": [1]}, "expected a list, of text each, found a list"),
        ({"pair": [1]}, "expected a list of 2, found a list"),
        ({"limit": "nothing"}, "expected a number or None, found text"),
        ({"either": 1.5}, "expected text or an integer, found a number"),
        ({"table": [1]}, "expected a table, found a list"),
        ({"table": {"a": "b"}}, "expected an integer, found a table"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(given: dict[str, Any], expected: str):
    with pytest.raises(UsageError) as found:
        make(Every, given)
    (name,) = given
    assert f"option {name!r} of pass 'every' is" in found.value.what
    assert found.value.why == expected


@pytest.mark.parametrize("name", ["shar", "sahre", "SHARE"])
def test_an_unknown_option_is_refused_with_the_nearest_one(name: str):
    with pytest.raises(UsageError, match=f"pass 'every' has no option '{name}'") as found:
        make(Every, {name: 1})
    assert name.isupper() or found.value.why == "did you mean 'share'?"
    assert "share, count, flag" in found.value.do


def test_an_option_that_is_missing_or_that_the_pass_refuses_is_a_users_mistake():
    with pytest.raises(UsageError, match="cannot be made of these options") as found:
        make(Needs, {})
    assert "'what'" in found.value.why
    with pytest.raises(UsageError) as found:
        make(Needs, {"what": "bad"})
    assert found.value.why == "nobody wants bad"


def test_where_annotations_mean_nothing_values_are_taken_as_they_are():
    made = make(Needs, {"what": "x", "odd": [1]})
    assert dataclasses.asdict(made)["odd"] == (1,)
    assert options_of(Needs)["what"] is dataclasses.MISSING
    assert options_of(Needs)["table"] == {}
    assert str(made) == "needs(what='x', odd=(1,))"


@pytest.mark.parametrize(
    "text",
    [
        "every(count=1, count=2)",
        "every(count=" + "9" * 5000 + ")",
        "every(count={[]: 1})",
        "every(count=" + "-" * 5000 + "1)",
        "every(text='\0')" + "\0",
        "every(" + "(" * 300 + ")" * 300 + ")",
        "every(count=1j)",
        "every(text=b'1')",
        "prune(ratio='0.3')",
        "prune(ratio=None)",
        "prune(only='head')",
        "prune(ratio=nan)",
        "quantize(samples='all')",
        "quantize(block=64.0)",
        "simplify(budget='64k')",
        "simplify(level=1)",
    ],
)
def test_text_that_makes_no_sense_is_a_users_mistake_and_never_another_exception(text: str):
    with pytest.raises(UsageError):
        parse_pipeline(text, PASSES)


def test_an_option_given_twice_is_named():
    with pytest.raises(UsageError, match="option 'count' is given twice"):
        parse_pipeline("every(count=1, share=2, count=2)", PASSES)


def test_the_text_none_is_none_where_that_is_allowed():
    assert parse_pipeline("prune(compensate='none')", PASSES) == [Prune(compensate=None)]


@given(st.text(max_size=40))
def test_whatever_the_text_is_passes_or_a_users_mistake_come_out(text: str):
    for written in (text, f"every({text})", f"every(text={text!r})"):
        with contextlib.suppress(UsageError):
            assert all(isinstance(each, Pass) for each in parse_pipeline(written, PASSES))
