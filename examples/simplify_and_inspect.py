"""Load a network, simplify it, and see what was done to it and by which rule.

Run it from the repository root: `python examples/simplify_and_inspect.py`
"""

from collections import Counter

import tersor as ts

# Weights stay in the file, mapped, until something needs their numbers.
model = ts.load("examples/digits/digits.onnx")
print("inputs    ", *model.graph.inputs)
print("operators ", dict(Counter(node.op for node in model.graph).most_common()))

# `apply` works on a copy. After each pass it verifies the graph and compares the outputs with those before it.
result = ts.apply(model, "simplify")
print(f"\n{result}")

# Every rule says how often it fired, and why it left a match alone.
(step,) = result.steps
for name, row in step.outcome.rules.items():
    if row.hits or row.declined:
        reasons = "; ".join(f"{why} ({count})" for why, count in row.declined.items())
        print(f"{name:<28} fired {row.hits:>2}   {f'declined: {reasons}' if reasons else ''}".rstrip())

# A node that a rule made knows every node of the original that went into it.
fused = next(node for node in result.model.graph if node.loc.fused)
print(f"\n{fused.op} made by {fused.loc.rule} from", " and ".join(loc.scope for loc in fused.loc.fused))

# The text form shows a whole graph; large constants appear by the hash of their contents.
print("\nthe last three lines of the graph:")
print(*ts.to_text(result.model.graph).splitlines()[-5:-2], sep="\n")
