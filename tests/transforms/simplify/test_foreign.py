"""Operators of other domains that are called like ONNX's own mean something else: no rule takes them for those."""

import pytest
from tersor.ir import DType, Model, parse, structural_hash
from tersor.ir.inference import infer
from tersor.ir.rewrite import Rewriter, Rule
from tersor.testing.instances import instance
from tersor.transforms.base import Context
from tersor.transforms.simplify import RULES, Simplify

UNNEEDED = ("cast_instead_of_cast_like", "decide_optional", "drop_decided_where")
"""Rules that look at the type of an operand only, or find it never taken."""


@pytest.mark.parametrize("rule", [r for r in RULES["deploy"] if r.name not in UNNEEDED], ids=lambda r: r.name)
def test_a_rule_leaves_a_node_of_another_domain(rule: Rule):
    for seed in range(2):
        made = instance(rule, (seed,), DType.F32)
        for place in range(len(list(made.graph)) if made else 0):
            graph = made.graph.clone()
            node = list(graph)[place]
            node.domain = "com.example"
            result = Rewriter([rule]).run(graph, infer=infer(graph).node)
            assert node.graph is graph or not result.fired, node.where


def test_the_pass_leaves_a_relu_of_a_relu_of_another_domain():
    graph = parse("""graph(%x: f32[2,3]) -> (y) {
        %a = com.example::Sigmoid(%x) : f32[2,3] %b = Relu(%a) : f32[2,3] %c = com.example::Cast(%b) {to=1} : f32[2,3]
        %d = Cast(%c) {to=1} : f32[2,3] %y = com.example::Identity(%d) : f32[2,3] return %y }""")
    before = structural_hash(
        parse("""graph(%x: f32[2,3]) -> (y) {
        %a = com.example::Sigmoid(%x) : f32[2,3] %b = Relu(%a) : f32[2,3] %c = com.example::Cast(%b) {to=1} : f32[2,3]
        %y = com.example::Identity(%c) : f32[2,3] return %y }""")
    )
    Simplify().run(Model(graph, {"": 26, "com.example": 1}), Context())
    assert structural_hash(graph) == before
