"""Random chains of linear operators, movement, pooling, activations and constants: whatever fires, the graph computes the
same.
"""

import numpy as np
import pytest
from tersor.backends.runners import synthesize
from tersor.ir import Builder, DType, Graph, Model, TensorType, Value, constant, symbol, verify
from tersor.ir.inference import infer
from tersor.ir.rewrite import Rewriter
from tersor.transforms.parity import outputs, worst_difference
from tersor.transforms.simplify import algebra

SEEDS = 60


class Source:
    """Random nodes on top of values that are there already."""

    def __init__(self, seed: int, rank: int) -> None:
        self.random = np.random.default_rng(seed)
        self.graph = Graph("g")
        shape = (symbol("N"), 4, 6, 6) if rank == 4 else (symbol("N"), 5, 8)
        self.values = [self.graph.add_input("x", TensorType(DType.F32, shape))]
        inference = infer(self.graph)
        self.op = Builder(self.graph, infer=inference.node)

    def weight(self, *shape: int, low: float = -1.0) -> Value:
        return constant(self.random.uniform(low, 1.0, shape).astype(np.float32), f"w{self.random.integers(99)}")

    def per_channel(self, value: Value) -> Value:
        """A constant of a random form that broadcasts to `value`, sometimes along a position too."""
        shape = [d if isinstance(d, int) else 1 for d in value.shape or ()]
        kept = self.random.choice(len(shape), self.random.integers(0, 2), replace=False)
        if self.random.random() < 0.15:
            kept = np.arange(1, len(shape))
        full = [d if axis in kept else 1 for axis, d in enumerate(shape)]
        lead = next((i for i, d in enumerate(full) if d != 1), len(full))
        return self.weight(*(full[lead:] if self.random.random() < 0.5 else full), low=0.25)

    def pick(self) -> Value:
        recent = self.values[-3:]
        return recent[self.random.integers(len(recent))]

    def step(self, value: Value) -> list[Value]:
        choices = [self.affine, self.affine, self.linear, self.linear, self.move, self.activate, self.combine]
        return choices[self.random.integers(len(choices))](value)

    def affine(self, x: Value) -> list[Value]:
        name = self.random.choice(["Mul", "Add", "Div", "Sub", "Neg", "BatchNormalization", "Swapped"])
        if name == "Neg":
            return [self.op.Neg(x)]
        if name == "BatchNormalization":
            c = x.shape[1] if x.shape and len(x.shape) > 1 else None
            if not isinstance(c, int):
                return []
            g, b, m, v = (self.weight(c, low=0.25) for _ in range(4))
            return [self.op.BatchNormalization(x, g, b, m, v)]
        c = self.per_channel(x)
        return [self.op.Sub(c, x) if name == "Swapped" else self.op.node(name, [x, c]).output]

    def linear(self, x: Value) -> list[Value]:
        shape = x.shape or ()
        out = int(self.random.integers(1, 4)) * 2
        if len(shape) == 4 and isinstance(shape[1], int) and shape[1] % 2 == 0 and self.random.random() < 0.7:
            group = int(self.random.integers(1, 3))
            kernel = int(self.random.choice([1, 3]))
            pad = [kernel // 2] * 4 if self.random.random() < 0.5 or shape[2] == 1 else [0] * 4
            bias = self.weight(out) if self.random.random() < 0.5 else None
            if self.random.random() < 0.25:
                w = self.weight(shape[1], out // group, kernel, kernel)
                return [self.op.ConvTranspose(x, w, bias, group=group, pads=pad)]
            w = self.weight(out, shape[1] // group, kernel, kernel)
            if any(isinstance(d, int) and d < kernel for d in shape[2:]):
                return []
            return [self.op.Conv(x, w, bias, group=group, pads=pad)]
        if not shape or not isinstance(shape[-1], int):
            return []
        if self.random.random() < 0.4:
            return [self.op.MatMul(x, self.weight(shape[-1], out)) for _ in range(3)]
        product = self.op.MatMul(x, self.weight(shape[-1], out))
        return [self.op.Add(product, self.weight(out)) if self.random.random() < 0.6 else product]

    def move(self, x: Value) -> list[Value]:
        shape, rank = x.shape or (), len(x.shape or ())
        kind = self.random.integers(4)
        if kind == 0 and rank > 2:
            return [self.op.Transpose(x, perm=[0, *(1 + self.random.permutation(rank - 1)).tolist()])]
        if kind == 1 and isinstance(shape[-1], int) and shape[-1] % 2 == 0 and rank < 5:
            return [self.op.Reshape(x, [0] * (rank - 1) + [2, shape[-1] // 2])]
        axis = int(self.random.integers(1, rank)) if rank > 1 else 0
        size = shape[axis] if shape else None
        if kind == 2 and isinstance(size, int) and size > 1:
            first = int(self.random.integers(1, size))
            return list(self.op.Split(x, [first, size - first], axis=axis, outputs=2))
        if kind == 3 and isinstance(size, int) and size > 1:
            return [self.op.Gather(x, constant(np.array(i, np.int64)), axis=axis) for i in range(2)] if rank > 2 else []
        return []

    def activate(self, x: Value) -> list[Value]:
        if (
            len(x.shape or ()) == 4
            and self.random.random() < 0.4
            and all(isinstance(d, int) and d > 2 for d in x.shape[2:])
        ):
            op = self.random.choice(["MaxPool", "AveragePool", "GlobalAveragePool"])
            attrs = {} if op.startswith("Global") else {"kernel_shape": (2, 2)}
            return [self.op.node(op, [x], attrs).output]
        return [self.op.node(str(self.random.choice(["Relu", "Tanh", "LeakyRelu"])), [x]).output]

    def combine(self, x: Value) -> list[Value]:
        same = [v for v in self.values if v.type == x.type and v is not x]
        if not same:
            return []
        other = same[self.random.integers(len(same))]
        return [self.op.node(str(self.random.choice(["Add", "Mul", "Sub"])), [x, other]).output]


def build(seed: int) -> Graph:
    source = Source(seed, 4 if seed % 2 else 3)
    for _ in range(14):
        source.values += source.step(source.pick())
    unused = [v for v in source.values if not v.users and not v.is_input]
    source.graph.set_outputs(unused, [f"y{i}" for i in range(len(unused))])
    return source.graph


def test_random_chains_compute_the_same():
    fired = 0
    for seed in range(SEEDS):
        original, rewritten = build(seed), build(seed)
        inference = infer(rewritten)
        result = Rewriter(algebra.RULES).run(rewritten, infer=inference.node, sizes=inference.contents_of)
        verify(rewritten)
        assert not result.exhausted
        fired += result.fired
        feeds = synthesize(original, count=1, seed=seed)
        worst, _ = worst_difference(outputs(Model(original), feeds), outputs(Model(rewritten), feeds))
        assert worst.max_error < 1e-5, (seed, str(original), result.busiest())
    assert fired > 2 * SEEDS


@pytest.mark.parametrize("seed", [3, 8])
def test_what_is_done_is_done_once(seed: int):
    graph = build(seed)
    inference = infer(graph)
    rewriter = Rewriter(algebra.RULES)
    rewriter.run(graph, infer=inference.node, sizes=inference.contents_of)
    assert not rewriter.run(graph, infer=inference.node, sizes=inference.contents_of).fired
