"""Breaking a line never changes what it means."""

import ast
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tersor.backends.torch.layout import WIDTH, statement

LONG = "a_name_of_twenty_five_chr"
NAMES = st.sampled_from(
    ["x", "self.layer[0].attention", LONG, '"a string, with (brackets["', "3", "-1.5", f"self.{LONG}"]
)
EXPRESSIONS = st.recursive(
    NAMES,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["F.relu", "torch.cat", LONG]), st.lists(inner, max_size=4)).map(
            lambda c: f"{c[0]}({', '.join(c[1])})"
        ),
        st.lists(inner, min_size=1, max_size=4).map(lambda i: f"[{', '.join(i)}]"),
        st.lists(inner, min_size=1, max_size=3).map(lambda i: f"({', '.join(i)},)"),
        st.tuples(inner, st.sampled_from("+-*/@|"), inner).map(lambda o: f"({o[0]} {o[1]} {o[2]})"),
        st.tuples(inner, inner).map(lambda o: f"x[{o[0]}].reshape(size={o[1]})"),
        inner.map(lambda i: f"nn.ModuleList({i} for _ in range(3))"),
    ),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None)
@given(EXPRESSIONS, st.sampled_from(["x = {}", "return {}", "a, b = {}", "self.x = {} + {}"]), st.integers(0, 3))
def test_a_broken_statement_parses_to_the_same_tree(expression, template, depth):
    text = template.format(expression, expression)
    found = textwrap.dedent("\n".join(statement(text, depth, "note")))
    assert ast.dump(ast.parse(found)) == ast.dump(ast.parse(text))


def test_an_item_per_line_when_the_items_do_not_fit_on_one():
    items = ", ".join(f"{LONG}{i}" for i in range(5))
    lines = statement(f"x = torch.cat(({items}), dim=1)", 2)
    assert lines[0] == "        x = torch.cat("
    assert max(map(len, lines)) <= WIDTH


@pytest.mark.parametrize("note", ["[2, 3]", ""])
def test_a_short_statement_is_one_line_with_its_note(note):
    assert statement("x = F.relu(x)", 1, note) == ["    x = F.relu(x)" + (f"  # {note}" if note else "")]


def test_a_note_that_does_not_fit_is_left_out():
    text = "x = " + "a" * 85
    assert statement(text, 0, "[batch, 64, 32]") == [text]
