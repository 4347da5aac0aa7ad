"""If, Loop and Scan: results that nobody uses, captures, what does not change, what is the same, and what can be
computed outside. What becomes of them, what is left and why.
"""

from __future__ import annotations

import pytest
from tersor.ir import parse
from tersor.ir.inference import infer
from tersor.ir.rewrite import Rewriter, Rule
from tersor.testing import check_rule
from tersor.transforms.simplify.structure import branches

T = "f32[2,3]"


def if_(
    then: str,
    otherwise: str,
    results: str = "%y",
    types: str = T,
    before: str = "",
    captured: str = "%x, %z",
    end: str = "return %y",
    outputs: str = "y",
) -> str:
    names = captured.split(", ") if captured else []
    inner = ", ".join(f"%{n}: {T}" for n, _ in zip("ab", names, strict=False))
    regions = f"then_branch = graph({inner}) -> ({outputs_of(types)}) {{ {then} }} else_branch = graph({inner}) -> ({outputs_of(types)}) {{ {otherwise} }}"
    operands = f"%c, {captured}" if captured else "%c"
    captures = f" captures {len(names)}" if names else ""
    return f"graph(%c: bool[], %x: {T}, %z: {T}) -> ({outputs}) {{ {before} {results} = If({operands}){captures} : {types} regions {{ {regions} }} {end} }}"


def outputs_of(types: str) -> str:
    return ", ".join(f"r{i}" for i in range(types.count("[")))


def loop(body: str, back: str, results: str = "%y, %s", carried: str = "%x", captured: str = "%z", types: str = f"{T}, f32[?,2,3]", before: str = "",
         end: str = "return %y", outputs: str = "y", inner: str = f"%a: {T}, %w: {T}") -> str:  # fmt: skip
    made = ", ".join(f"r{i}" for i in range(back.count("%")))
    head = f"{results} = Loop(%n, bool[]{{true}}, {carried}{', ' + captured if captured else ''})"
    head += f" captures {captured.count('%')}" if captured else ""
    region = f"body = graph(%i: i64[], %go: bool[], {inner}) -> ({made}) {{ {body} return {back} }}"
    return f"graph(%n: i64[], %x: {T}, %z: {T}) -> ({outputs}) {{ {before} {head} : {types} regions {{ {region} }} {end} }}"


def scan(
    body: str, back: str, results: str, types: str, attrs: str = "", end: str = "return %p", outputs: str = "p"
) -> str:
    made = ", ".join(f"r{i}" for i in range(back.count("%")))
    region = f"body = graph(%s: f32[3], %e: f32[3], %w: f32[3]) -> ({made}) {{ {body} return {back} }}"
    return f"graph(%v: f32[3], %x: {T}, %u: f32[3]) -> ({outputs}) {{ {results} = Scan(%v, %x, %u) {{num_scan_inputs=1{attrs}}} captures 1 : {types} regions {{ {region} }} {end} }}"


SUM, EXP = f"%r = Add(%a, %b) : {T} ", f"%r = Exp(%a) : {T} "

BECOMES: dict[str, tuple[Rule, str, str]] = {
    "a result of an If that nobody uses": (
        branches.drop_unused_results,
        if_(SUM + f"%q = Neg(%b) : {T} return %r, %q", f"{EXP} %q = Sin(%b) : {T} return %r, %q", "%y, %o", f"{T}, {T}"),
        if_(SUM + "return %r", EXP + "return %r")),
    "a stack of a Loop that nobody uses": (
        branches.drop_unused_results,
        loop(f"%b = Add(%a, %w) : {T} %t = Exp(%b) : {T}", "%go, %b, %t"),
        loop(f"%b = Add(%a, %w) : {T}", "%go, %b", "%y", types=T)),
    "what is carried for nobody": (
        branches.drop_unused_results,
        loop(f"%b = Add(%a, %w) : {T} %d = Mul(%k, %w) : {T}", "%go, %b, %d", "%y, %o", "%x, %z", types=f"{T}, {T}", inner=f"%a: {T}, %k: {T}, %w: {T}"),
        loop(f"%b = Add(%a, %w) : {T}", "%go, %b", "%y", types=T)),
    "a state of a Scan that nobody uses, and a stack": (
        branches.drop_unused_results,
        scan("%t = Add(%e, %w) : f32[3] %o = Mul(%s, %e) : f32[3] %k = Exp(%t) : f32[3]", "%o, %t, %k", "%q, %p, %m", f"f32[3], f32[3,2], {T}", ", scan_output_axes=[1,0]"),
        scan("%t = Add(%e, %w) : f32[3]", "%t", "%p", "f32[3,2]", ", scan_output_axes=[1]").replace("Scan(%v, ", "Scan(").replace("graph(%s: f32[3], ", "graph(").replace("(r0)", "(r1)")),
    "a captured value that nothing uses": (
        branches.drop_unused_captures, if_(EXP + "return %r", "return %a"),
        if_(EXP + "return %r", "return %a", captured="%x")),
    "a value that is captured twice": (
        branches.drop_unused_captures, if_(SUM + "return %r", "return %b", captured="%x, %x"),
        if_(f"%r = Add(%a, %a) : {T} return %r", "return %a", captured="%x")),
    "a value that is captured twice, and used as the second one": (
        branches.drop_unused_captures, if_(f"%r = Exp(%b) : {T} return %r", "return %b", captured="%x, %x"),
        if_(f"%r = Exp(%a) : {T} return %r", "return %a", captured="%x")),
    "a value that is carried unchanged": (
        branches.capture_unchanged,
        loop(f"%b = Add(%a, %k) : {T}", "%go, %b, %k", "%y, %o", "%x, %z", "", f"{T}, {T}", end="return %y, %o", outputs="y, o", inner=f"%a: {T}, %k: {T}"),
        loop(f"%b = Add(%a, %w) : {T}", "%go, %b", "%y", types=T, end="return %y, %z", outputs="y, o")),
    "two results that are the same": (
        branches.merge_equal_results,
        if_(SUM + "return %r, %r", EXP + "return %r, %r", "%y, %o", f"{T}, {T}", end=f"%p = Sub(%y, %o) : {T} return %p"),
        if_(SUM + "return %r, %r", EXP + "return %r, %r", "%y, %o", f"{T}, {T}", end=f"%p = Sub(%y, %y) : {T} return %p")),
    "what both branches pass on": (
        branches.merge_equal_results,
        if_(SUM + "return %r, %b", EXP + "return %r, %b", "%y, %o", f"{T}, {T}", end=f"%p = Mul(%y, %o) : {T} return %p"),
        if_(SUM + "return %r, %b", EXP + "return %r, %b", "%y, %o", f"{T}, {T}", end=f"%p = Mul(%y, %z) : {T} return %p")),
    "values that are carried from the same start": (
        branches.merge_equal_results,
        loop(f"%b = Add(%a, %w) : {T}", "%go, %b, %b", "%y, %o", "%x, %x", "%z", f"{T}, {T}", end=f"%p = Mul(%y, %o) : {T} return %p", inner=f"%a: {T}, %k: {T}, %w: {T}"),
        loop(f"%b = Add(%a, %w) : {T}", "%go, %b, %b", "%y, %o", "%x, %x", "%z", f"{T}, {T}", end=f"%p = Mul(%y, %y) : {T} return %p", inner=f"%a: {T}, %k: {T}, %w: {T}")),
    "what is computed outside already": (
        branches.reuse_outer_value,
        if_(f"%e = Exp(%a) : {T} %r = Add(%e, %b) : {T} return %r", "return %b", before=f"%e = Exp(%x) : {T}", end=f"%p = Mul(%y, %e) : {T} return %p"),
        if_(f"%r = Add(%f, %b) : {T} return %r", "return %b", before=f"%e = Exp(%x) : {T}", end=f"%p = Mul(%y, %e) : {T} return %p")
        .replace("(%c, %x, %z) captures 2", "(%c, %x, %z, %e) captures 3").replace(f"%b: {T}) ->", f"%b: {T}, %f: {T}) ->")),
    "what both branches compute": (
        branches.hoist_from_branches,
        if_(f"%e = Add(%a, %b) : {T} %r = Exp(%e) : {T} return %r", f"%e = Add(%a, %b) : {T} %r = Sin(%e) : {T} return %r"),
        if_(f"%r = Exp(%e) : {T} return %r", f"%r = Sin(%e) : {T} return %r", before=f"%s = Add(%x, %z) : {T}")
        .replace("(%c, %x, %z) captures 2", "(%c, %x, %z, %s) captures 3").replace(f"%b: {T}) ->", f"%b: {T}, %e: {T}) ->")),
    "what every iteration computes anew": (
        branches.hoist_from_iterations,
        loop(f"%e = Exp(%w) : {T} %f = Mul(%e, %w) : {T} %b = Add(%a, %f) : {T}", "%go, %b", "%y", types=T),
        loop(f"%b = Add(%a, %k) : {T}", "%go, %b", "%y", types=T, captured="%z, %p, %q", before=f"%p = Exp(%z) : {T} %q = Mul(%p, %z) : {T}", inner=f"%a: {T}, %w: {T}, %j: {T}, %k: {T}")),
}  # fmt: skip


@pytest.mark.parametrize("name", BECOMES)
def test_it_is_replaced(check_rules, name: str):
    rule, before, after = BECOMES[name]
    check_rules([rule], before, after, fired=1)


@pytest.mark.parametrize("name", BECOMES)
def test_it_computes_the_same_where_the_interior_is_shared_an_output_or_of_symbolic_sizes(name: str):
    rule, before, _ = BECOMES[name]
    assert check_rule(rule, examples=[before]).fired["as drawn"]


LEFT: dict[str, tuple[Rule, str, str]] = {
    "results that are used": (
        branches.drop_unused_results, if_(SUM + "return %r", EXP + "return %r"), "all of its results are used, or none"),
    "what is carried for another result": (
        branches.drop_unused_results,
        loop(f"%b = Add(%a, %k) : {T} %d = Mul(%k, %w) : {T}", "%go, %b, %d", "%y, %o", "%x, %z", types=f"{T}, {T}", inner=f"%a: {T}, %k: {T}, %w: {T}"),
        "what is carried for it is needed for other results"),
    "captured values that are used": (branches.drop_unused_captures, if_(SUM + "return %r", "return %b"), "every captured value is used"),
    "values that change": (branches.capture_unchanged, loop(f"%b = Add(%a, %w) : {T}", "%go, %b", "%y", types=T), "every value that it carries changes, or it gives nothing else"),
    "values that change places": (
        branches.capture_unchanged,
        loop("", "%go, %k, %a", "%y, %o", "%x, %z", "", f"{T}, {T}", inner=f"%a: {T}, %k: {T}"), "every value that it carries changes, or it gives nothing else"),
    "results that are the same in one branch": (
        branches.merge_equal_results, if_(SUM + "return %r, %r", EXP + "return %r, %b", "%y, %o", f"{T}, {T}", end=f"%p = Sub(%y, %o) : {T} return %p"),
        "no two of its results are the same value"),
    "values that are carried from another start": (
        branches.merge_equal_results,
        loop(f"%b = Add(%a, %w) : {T}", "%go, %b, %b", "%y, %o", "%x, %z", "%z", f"{T}, {T}", end=f"%p = Mul(%y, %o) : {T} return %p", inner=f"%a: {T}, %k: {T}, %w: {T}"),
        "no two of its results are the same value"),
    "what is computed behind it": (
        branches.reuse_outer_value, if_(f"%e = Exp(%a) : {T} return %e", "return %b", end=f"%f = Exp(%x) : {T} %p = Mul(%y, %f) : {T} return %p"),
        "nothing that its regions compute is computed before it"),
    "branches that compute different things": (
        branches.hoist_from_branches, if_(f"%e = Exp(%a) : {T} return %e", f"%e = Exp(%b) : {T} return %e"), "its branches have nothing in common"),
    "what could fail, in a Loop that may not run": (
        branches.hoist_from_iterations,
        loop(f"%j = Squeeze(%w, i64[1]{{0}}) : ? %g = ReduceSum(%j) {{keepdims=0}} : f32[] %b = Add(%a, %g) : {T}", "%go, %b", "%y", types=T),
        "all that it computes depends on the iteration, or could fail"),
    "what depends on the iteration": (
        branches.hoist_from_iterations, loop(f"%b = Add(%a, %w) : {T}", "%go, %b", "%y", types=T), "all that it computes depends on the iteration, or could fail"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_it_is_left_with_the_reason(name: str):
    rule, text, reason = LEFT[name]
    graph = parse(text)
    result = Rewriter([rule]).run(graph, infer=infer(graph).node)
    assert not result.fired
    assert reason in result.statistics[rule.name].declined
