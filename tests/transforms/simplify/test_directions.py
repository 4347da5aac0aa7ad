"""A recurrent operator from each end of a sequence, joined, is one in both directions."""

from __future__ import annotations

import pytest
from tersor.transforms.simplify.algebra.directions import merge_directions

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
MORE = {"GRU": ", linear_before_reset=1"}


def weights(op: str, ends: str = "ab", directions: int = 1) -> str:
    g = GATES[op] * 3
    return " ".join(
        f"@w{e} : f32[{directions},{g},5] = random({i}1) @r{e} : f32[{directions},{g},3] = random({i}2) "
        f"@b{e} : f32[{directions},{2 * g}] = random({i}3)"
        for i, e in enumerate(ends, 1)
    )


def layers(op: str, outputs: int = 1, second: str = "reverse", x: str = "%x", more: str = "") -> str:
    """%y0 and %y1: all steps, and with more outputs %h0 and %h1: the last ones."""
    types = ["f32[S,1,N,3]", "f32[1,N,3]"][:outputs]

    def layer(i: int, e: str, direction: str, x: str) -> str:
        names = ", ".join(f"%{n}{i}" for n in "yh"[:outputs])
        attrs = f'direction="{direction}", hidden_size=3{MORE.get(op, "")}{more}'
        return f"{names} = {op}({x}, @w{e}, @r{e}, @b{e}) {{{attrs}}} : {', '.join(types)}"

    return f"{weights(op)} {layer(0, 'a', 'forward', '%x')} {layer(1, 'b', second, x)}"


def merged(op: str, outputs: int = 1, more: str = "") -> str:
    names = ", ".join(f"%{n}" for n in "yh"[:outputs])
    types = ", ".join(["f32[S,2,N,3]", "f32[2,N,3]"][:outputs])
    attrs = f'direction="bidirectional", hidden_size=3{MORE.get(op, "")}{more}'
    return f"{weights(op, 'c', 2)} {names} = {op}(%x, @wc, @rc, @bc) {{{attrs}}} : {types}"


def graph(body: str, outputs: str = "z", end: str = "return %z", more: str = "") -> str:
    return f"graph(%x: f32[S,N,5]{more}) -> ({outputs}) {{ {body} {end} }}"


SQUEEZED = """%s0 = Squeeze(%y0, i64[1]{1}) : f32[S,N,3] %s1 = Squeeze(%y1, i64[1]{1}) : f32[S,N,3]
    %z = Concat(%s0, %s1) {axis=-1} : f32[S,N,6]"""
STATES = """%s0 = Squeeze(%h0, i64[1]{0}) : f32[N,3] %s1 = Squeeze(%h1, i64[1]{0}) : f32[N,3]
    %z = Concat(%s0, %s1) {axis=1} : f32[N,6]"""
TURNED = "%t = Transpose(%y) {perm=[0,2,1,3]} : f32[S,N,2,3] %z = Reshape(%t, i64[3]{0,0,6}) : f32[S,N,6]"


@pytest.mark.parametrize("op", GATES)
def test_features_of_both_directions_are_those_of_one_operator(check_rules, op: str):
    before, after = graph(f"{layers(op)} {SQUEEZED}"), graph(f"{merged(op)} {TURNED}")
    check_rules([merge_directions], before, after, fired=1)


@pytest.mark.parametrize("op", GATES)
def test_directions_that_are_joined_are_those_of_one_operator(check_rules, op: str):
    body = f"{layers(op)} %z = Concat(%y0, %y1) {{axis=1}} : f32[S,2,N,3]"
    check_rules([merge_directions], graph(body), graph(merged(op), end="return %y"), fired=1)


@pytest.mark.parametrize("op", GATES)
def test_final_states_of_both_directions_are_those_of_one_operator(check_rules, op: str):
    after = (
        f"{merged(op, 2)} %t = Transpose(%h) {{perm=[1,0,2]}} : f32[N,2,3] %z = Reshape(%t, i64[2]{{0,6}}) : f32[N,6]"
    )
    check_rules([merge_directions], graph(f"{layers(op, 2)} {STATES}"), graph(after), fired=1)


def test_final_states_that_the_graph_gives_back_are_split(check_rules):
    end, outputs = "return %z, %h0, %h1", "z, a, b"
    parts = "%h0, %h1 = Split(%h, i64[2]{1,1}) {axis=0} : f32[1,N,3], f32[1,N,3]"
    before = graph(f"{layers('LSTM', 2)} {SQUEEZED}", outputs, end)
    check_rules([merge_directions], before, graph(f"{merged('LSTM', 2)} {parts} {TURNED}", outputs, end), fired=1)


def test_initial_states_are_joined(check_rules):
    states = ", %p: f32[1,N,3], %q: f32[1,N,3]"
    body = layers("GRU").replace("@ba)", "@ba, _, %p)").replace("@bb)", "@bb, _, %q)")
    after = f"%i = Concat(%p, %q) {{axis=0}} : f32[2,N,3] {merged('GRU').replace('@bc)', '@bc, _, %i)')} {TURNED}"
    check_rules([merge_directions], graph(f"{body} {SQUEEZED}", more=states), graph(after, more=states), fired=1)


def test_activations_of_both_directions_are_named(check_rules):
    body = layers("RNN").replace('"forward"', '"forward", activations=["Relu"]')
    after = merged("RNN", more=', activations=["Relu","Tanh"]')
    check_rules([merge_directions], graph(f"{body} {SQUEEZED}"), graph(f"{after} {TURNED}"), fired=1)


OWN = "it does not join results of two recurrent operators that it alone uses"
LEFT = {
    "both forward": (graph(f"{layers('LSTM', second='forward')} {SQUEEZED}"), "they do not run forward and in reverse"),
    "the reverse one first": (
        graph(f"{layers('LSTM')} {SQUEEZED.replace('(%s0, %s1)', '(%s1, %s0)')}"), "they do not run forward and in reverse"),
    "another sequence": (
        graph(f"%v = Neg(%x) : f32[S,N,5] {layers('LSTM', x='%v')} {SQUEEZED}"), "they run over different sequences"),
    "weights that both share": (
        graph(f"{layers('LSTM')} {SQUEEZED}".replace("@rb,", "@ra,").replace(", @bb)", ", @ba)")),
        "their weights are computed or needed elsewhere"),
    "samples side by side": (
        graph(f"{layers('LSTM')} {SQUEEZED}".replace("{axis=-1} : f32[S,N,6]", "{axis=1} : f32[S,2*N,3]")),
        "it joins them along another axis than that of directions or features"),
    "a state for one of them": (
        graph(f"{layers('GRU').replace('@ba)', '@ba, _, %p)')} {SQUEEZED}", more=", %p: f32[1,N,3]"),
        "one of them begins with a state that the other has not"),
    "steps that are given back too": (graph(f"{layers('LSTM')} {SQUEEZED}", "z, a", "return %z, %y0"), OWN),
    "steps that others need": (
        graph(f"{layers('LSTM')} {SQUEEZED} %n = Neg(%s1) : f32[S,N,3]", "z, a", "return %z, %n"), OWN),
    "states that others need": (
        graph(f"{layers('LSTM', 2)} {SQUEEZED} %n = Neg(%h1) : f32[1,N,3]", "z, a", "return %z, %n"), OWN),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_other_pairs_are_left_with_the_reason(check_rules, name: str):
    text, reason = LEFT[name]
    check_rules([merge_directions], text, None, fired=0, declined=[reason])
