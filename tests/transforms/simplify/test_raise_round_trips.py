"""What is raised is written again for opsets that lack it, in few nodes, computes the same there, and is raised to the
same operator when it is read again.
"""

import numpy as np
import pytest
from tersor.backends.compare import compare
from tersor.backends.onnx import to_proto
from tersor.backends.runners import OrtRunner, ReferenceRunner, synthesize
from tersor.frontends.onnx import load
from tersor.ir import Graph, Model, parse
from tersor.ir.inference import infer
from tersor.ir.rewrite import Rewriter
from tersor.transforms.simplify import raising

TOKENS, IMAGE = "f32[N,S,16]", "f32[N,6,5,4]"
CONSTANTS = "@w : f32[16] = random(1) @b : f32[16] = random(2) @c : f32[6] = random(3) @d : f32[6] = random(4)"
QUARTERS = "f32[16]{" + ",".join(["0.25"] * 16) + "}"
ONES = QUARTERS.replace("0.25", "1.0")
GROUP = "Reshape InstanceNormalization Reshape BatchNormalization"

# name -> operator, type of its operand, an opset without it, what is written there
WRITTEN: dict[str, tuple[str, str, int, str]] = {
    "gelu": ("Gelu(%x)", TOKENS, 19, "Div Erf Add Mul Mul"),
    "gelu by tanh": ('Gelu(%x) {approximate="tanh"}', TOKENS, 19, "Mul Mul Add Mul Sigmoid Mul"),
    "swish": ("Swish(%x)", TOKENS, 26, "Sigmoid Mul"),
    "quick gelu": ("Swish(%x) {alpha=1.702}", TOKENS, 18, "Mul Sigmoid Mul"),
    "hard swish": ("HardSwish(%x)", TOKENS, 13, "HardSigmoid Mul"),
    "mish": ("Mish(%x)", TOKENS, 17, "Softplus Tanh Mul"),
    "layer norm": (
        "LayerNormalization(%x, @w, @b) {axis=-1, epsilon=1e-05}", TOKENS, 16,
        "ReduceMean Sub Pow ReduceMean Add Sqrt Div Mul Add"),
    "layer norm without scale": (
        f"LayerNormalization(%x, {ONES}) {{axis=-1, epsilon=1e-05}}", TOKENS, 16,
        "ReduceMean Sub Pow ReduceMean Add Sqrt Div"),
    "rms norm": (
        "RMSNormalization(%x, @w) {axis=-1, epsilon=1e-06}", TOKENS, 22, "Pow ReduceMean Add Sqrt Div Mul"),
    "rms norm without scale": (
        f"RMSNormalization(%x, {ONES}) {{axis=-1, epsilon=1e-06}}", TOKENS, 22, "Pow ReduceMean Add Sqrt Div"),
    "rms norm of a sum of squares": (
        f"RMSNormalization(%x, {QUARTERS}) {{axis=-1, epsilon=1e-06}}", TOKENS, 22, "ReduceSumSquare Add Sqrt Div"),
    "group norm": ("GroupNormalization(%x, @c, @d) {num_groups=3, epsilon=1e-05}", IMAGE, 20, GROUP),
    "group norm of images of any height": (
        "GroupNormalization(%x, @c, @d) {num_groups=3, epsilon=1e-05}", "f32[N,6,H,4]", 20, GROUP),
    "group norm of images of any size": (
        "GroupNormalization(%x, @c, @d) {num_groups=3, epsilon=1e-05}", "f32[N,6,H,W]", 20,
        GROUP.replace("n Reshape", "n Shape Reshape")),
    "group norm without bias": (
        "GroupNormalization(%x, @c, f32[6]{0.0,0.0,0.0,0.0,0.0,0.0}) {num_groups=3, epsilon=1e-05}", IMAGE, 20,
        "Reshape InstanceNormalization Reshape Mul"),
    "pixels from channels": (
        'DepthToSpace(%x) {blocksize=2, mode="CRD"}', "f32[N,8,5,W]", 10, "Reshape Transpose Reshape"),
    "pixels from channels of images of any size": (
        'DepthToSpace(%x) {blocksize=2, mode="CRD"}', "f32[N,8,H,W]", 10, "Gather DepthToSpace"),
    "celu": ("Celu(%x) {alpha=0.5}", TOKENS, 11, "Div Elu Mul"),
}  # fmt: skip


def model(name: str) -> Model:
    operator, type_, _, _ = WRITTEN[name]
    made = parse(f"graph(%x: {type_}) -> (y) {{ {CONSTANTS} %a = {operator} return %a }}")
    infer(made)
    return Model(made)


@pytest.mark.parametrize("name", WRITTEN)
def test_it_is_written_in_few_nodes_which_compute_the_same(name: str):
    subject, (_, _, opset, nodes) = model(name), WRITTEN[name]
    assert [node.op_type for node in to_proto(subject, opset).graph.node] == nodes.split()
    feeds = synthesize(subject.graph, count=1, seed=3)[0]
    expected, found = ReferenceRunner(subject).run(feeds), OrtRunner(subject, opset=opset).run(feeds)
    assert compare(expected["y"], found["y"]).max_error <= 1e-5


def raised(graph: Graph) -> list[tuple[str, dict[str, object]]]:
    inference = infer(graph)
    Rewriter(raising.RULES).run(graph, infer=inference.node, sizes=inference.contents_of)
    return [(n.op, {k: np.float32(v) if isinstance(v, float) else v for k, v in n.attrs.items()}) for n in graph]


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_is_raised_to_the_same_operator(name: str):
    subject, opset = model(name), WRITTEN[name][2]
    again = load(to_proto(subject, opset))
    kept = [
        (n.op, {k: np.float32(v) if isinstance(v, float) else v for k, v in n.attrs.items()}) for n in subject.graph
    ]
    found = raised(again.graph)
    assert [op for op, _ in found if op != "Shape"] == [op for op, _ in kept]
    assert all(found[-1][1].get(key) == value for key, value in kept[-1][1].items())
    feeds = synthesize(subject.graph, count=1, seed=4)[0]
    assert compare(OrtRunner(subject).run(feeds)["y"], OrtRunner(again).run(feeds)["y"]).max_error <= 1e-5
