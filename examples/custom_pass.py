"""Write a pass with options: store large weights as float16 and widen them again when the model runs.

Run it from the repository root: `python examples/custom_pass.py`
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import tersor as ts
from tersor.ir import DType, TensorType, UsageError, constant
from tersor.ir.inference import Inference
from tersor.ir.tensors import cast
from tersor.transforms.base import Decision
from tersor.transforms.select import Selection


@dataclass(frozen=True)
class HalfWeights(ts.Pass):
    """Keeps f32 constants of at least `min_elements` in f16, with a Cast behind each.

    The fields are the options, under the same names in Python and in pipeline text: `half_weights(min_elements=64)`.
    Numbers do change, so the contract is "approximate": the distance from the original is measured and reported.
    """

    name: ClassVar[str] = "half_weights"
    contract: ClassVar[Literal["approximate"]] = "approximate"

    min_elements: int = 256
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.min_elements < 1:
            raise UsageError(f"min_elements={self.min_elements} is out of range", do="give a number from 1 on")

    def run(self, model: ts.Model, context: ts.Context) -> ts.Outcome:
        graph, outcome = model.graph, ts.Outcome()
        selection = Selection(graph, self.only, self.skip)  # raises an error for a pattern that matches nothing
        inference = Inference(graph, context.fallback)
        for node in graph:
            large = [i for i, v in enumerate(node.inputs) if v is not None and self.is_large(v)]
            if not large:
                continue
            reason = selection.reason(node)
            if not reason:
                # New nodes go in front of `node`, and get their types as they are made.
                op = ts.Builder(graph, before=node, infer=inference.node, loc=node.loc)
                for index in large:
                    weight = node.operand(index)
                    # An expression over the stored weight: numbers are converted block by block when they are saved.
                    half = constant(cast(weight.tensor, DType.F16), weight.name)
                    node.set_input(index, op.Cast(half, to=DType.F32.code))
                outcome.changed += 1
            outcome.decisions.append(Decision.of(node, "kept" if reason else "f16 weights", reason))
        return outcome

    def is_large(self, value: ts.Value) -> bool:
        """True for a constant that is worth a Cast."""
        is_float = isinstance(value.type, TensorType) and value.type.dtype is DType.F32
        return value.is_const and is_float and value.tensor.count >= self.min_elements


model = ts.load("examples/digits/digits.onnx")

# Behind simplify, which would fold the Cast of a small constant again.
result = ts.apply(model, "simplify", HalfWeights(skip=("head",)))
print(result)

print("\nwhat was decided:")
for decision in result.steps[-1].outcome.decisions:
    print(f"  {decision.layer:<26} {decision.op:<6} {decision.decision:<12} {decision.reason}".rstrip())
