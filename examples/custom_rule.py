"""Write a rewrite rule, see why it fires where it does, and run it checked against the original.

Run it from the repository root: `python examples/custom_rule.py`
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import tersor as ts
from tersor.ir.inference import infer
from tersor.ir.rewrite import Rewriter

# A rule is a pattern and a function. The function's parameters are the names that the pattern binds.
x = ts.P.var("x")


@ts.rule(ts.P.Flatten(ts.P.GlobalAveragePool(x)).named("flatten"))
def pool_and_flatten_to_mean(op: ts.Builder, x: ts.Value, flatten: ts.Node):
    """GlobalAveragePool, then Flatten to [N, C], is one ReduceMean over the spatial axes."""
    if x.rank is None:
        return ts.decline("its rank is not known")
    if flatten.int("axis") % x.rank != 1:
        return ts.decline("it flattens to another shape than [N, C]")
    return op.ReduceMean(x, list(range(2, x.rank)), keepdims=0)


# Rules meet a model in a pass: a frozen dataclass with a name and a contract. "exact" is what will be checked.
@dataclass(frozen=True)
class PoolToMean(ts.Pass):
    """Runs the rule above until it fires nowhere any more."""

    name: ClassVar[str] = "pool_to_mean"
    contract: ClassVar[Literal["exact"]] = "exact"

    def run(self, model: ts.Model, context: ts.Context) -> ts.Outcome:
        inference = infer(model.graph, context.fallback)
        found = Rewriter([pool_and_flatten_to_mean]).run(model.graph, infer=inference.node)
        return ts.Outcome(changed=found.fired, rules=found.statistics)


model = ts.load("examples/digits/digits.onnx")

# `explain` says why a rule does or does not fire at a node, and leaves the graph as it is.
for node in model.graph:
    if node.op in ("Flatten", "Relu"):
        print(pool_and_flatten_to_mean.explain(node))

result = ts.apply(model, "simplify", PoolToMean())
print(f"\n{result}")
print("\nthe end of the graph:")
print(*ts.to_text(result.model.graph).splitlines()[-4:-2], sep="\n")
