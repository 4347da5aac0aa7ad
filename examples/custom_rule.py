"""Write a rewrite rule, see why it fires where it does, and run it checked against the original.

Run it from the repository root: `python examples/custom_rule.py`
"""

import tersor as ts
from tersor.testing import check_rule

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


# Rules meet a model in a pass. It promises to keep what the model computes, and that is checked.
class PoolToMean(ts.RulePass):
    """Runs the rule above until it fires nowhere any more."""

    name = "pool_to_mean"
    rules = (pool_and_flatten_to_mean,)


model = ts.load("examples/digits/digits.onnx")

# Random graphs that the pattern matches, before and after the rule.
print(check_rule(pool_and_flatten_to_mean, dtypes=["f32"]))

# Why the rule does or does not fire at a node; the graph stays as it is.
for name in ("Flatten", "Relu"):
    print(ts.why(pool_and_flatten_to_mean, model, name))

result = ts.apply(model, "simplify", PoolToMean())
print(f"\n{result}")
print("\nthe end of the graph:")
print(*ts.to_text(result.model.graph).splitlines()[-4:-2], sep="\n")
