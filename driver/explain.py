"""Why a rewrite rule fires where it does and nowhere else."""

from __future__ import annotations

from difflib import get_close_matches
from fnmatch import fnmatchcase

from ..frontends.onnx import fallback
from ..ir import Model, Node, UsageError
from ..ir.rewrite import Explainer, Explanation, Rule, Survey
from ..transforms import simplify
from ..transforms.rule_pass import RulePass
from ..transforms.select import examples, label, matches
from ..transforms.simplify import raising
from .passes import available

CLOSE = 3


def known_rules() -> dict[str, Rule]:
    """The rules of `simplify` at every level and with every promise, and those of other packages, by name."""
    tables = (*simplify.RULES.values(), *raising.PROMISED.values())
    found = {each.name: each for table in tables for each in table}
    registry = available()
    for name in registry:
        try:
            kind = registry[name]
        except UsageError:  # a broken plug-in has no rules; using its pass says what is wrong
            continue
        for each in kind.rules if issubclass(kind, RulePass) else ():
            found.setdefault(each.name, each)
    return found


def rule_called(name: str) -> Rule:
    """A rule by its name. Raises UsageError, with names that are close, for one that does not exist."""
    known = known_rules()
    if name not in known:
        close = get_close_matches(name, known, CLOSE)
        raise UsageError(
            f"there is no rule called {name!r}",
            why=f"did you mean {' or '.join(map(repr, close))}?" if close else "",
            do="list them with: tersor passes --rules",
        )
    return known[name]


def nodes_called(model: Model, name: str) -> list[Node]:
    """Nodes by name, by the name of a value that they define, or by a pattern of names, scopes or operators.

    Raises UsageError where there is none.
    """
    nodes = list(model.graph.walk())
    exact = [n for n in nodes if n.loc.origin == name or any(v.name == name for v in n.outputs)]
    found = exact or [n for n in nodes if matches(n, name) or any(fnmatchcase(v.name, name) for v in n.outputs)]
    if not found:
        names = dict.fromkeys(t for n in nodes for t in (label(n), n.loc.origin, *(v.name for v in n.outputs)) if t)
        close = get_close_matches(name, names, CLOSE)
        raise UsageError(
            f"no node is called {name!r}",
            why=f"did you mean {' or '.join(map(repr, close))}?" if close else f"there are {examples(nodes)}",
            do="give a node's name, the name of a value, a module scope, an operator or a pattern of these",
        )
    return found


def why(rule: Rule | str, model: Model, node: Node | str | None = None) -> Explanation | Survey:
    """What a rule says of a node: that it fires, or which part of its pattern fails, or why it declines.

    The rule may be given by name. A node may be given by name, by a value's name or by a pattern; for several, and
    without one for the whole model, the answer is a summary. The model stays as it is. Raises UsageError for a rule or
    node that does not exist, InvalidModelError for a model whose types contradict each other.
    """
    asked = rule_called(rule) if isinstance(rule, str) else rule
    found = [node] if isinstance(node, Node) else nodes_called(model, node) if node is not None else []
    explainer = Explainer(model.graph, fallback)
    if node is None:
        return explainer.survey(asked)
    if any(n not in explainer.twins for n in found):
        raise UsageError("the node is not in this model", do="take it from model.graph, or give its name")
    starts = [n for n in found if n.op in asked.ops] or found
    answers = [explainer.ask(asked, n) for n in starts]
    return answers[0] if len(answers) == 1 else Survey(asked, answers)
