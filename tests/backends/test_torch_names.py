"""Names in a model are data: whatever they are, the emitted code has the same structure."""

import ast
import keyword

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tersor.backends.runners import OrtRunner
from tersor.backends.torch import to_runner
from tersor.backends.torch.names import MODULE_ATTRIBUTES, class_name, identifier, is_component, path_of, plain_text
from tersor.backends.torch.source import generate
from tersor.ir import Graph, Loc, Model, TensorType, constant
from tersor.ir.dims import symbol
from tersor.ir.types import DType

HOSTILE = [
    "", " ", "x", "self", "torch", "F", "nn", "class", "None", "match", "__init__", "__class__.__base__", "training", "forward", "load_state_dict",
    "a.b.c", "0", "0.weight", "1e9", "layers.00.weight", ".", "..", "a..b", "a.0.1.b", "weight", "bias", "Block", "quantize", "load", "print",
    'a"""\nimport os\n"""', "'; import os; '", "\\", "\\N{BULLET}", "{0}", "{x.__class__}", "%s", "a\nb", "a\r\nb", "a\x00b", "\u202eevil\u2066", "é",
    "ﬁ", "ª", "𝒙", "名前", "x" * 500, "#", "a#b", "a]b", "x)(y", "from", "type", "T_destination", "_parameters", "buffers", "\ud800",
]  # fmt: skip
NAMES = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=20))

STATEMENTS = (
    ast.Module, ast.Import, ast.ImportFrom, ast.alias, ast.ClassDef, ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Assign, ast.Expr,
    ast.Call, ast.Attribute, ast.Name, ast.Constant, ast.keyword, ast.BinOp, ast.operator, ast.BoolOp, ast.boolop, ast.Tuple, ast.List,
    ast.Subscript, ast.UnaryOp, ast.unaryop, ast.expr_context, ast.For, ast.If, ast.Dict, ast.GeneratorExp, ast.comprehension,
    ast.Starred, ast.Compare, ast.cmpop, ast.Slice,
)  # fmt: skip
FREE = {
    "torch",
    "nn",
    "F",
    "Tensor",
    "Path",
    "load_file",
    "super",
    "str",
    "int",
    "range",
    "isinstance",
    "setattr",
    "getattr",
    "tuple",
    "__file__",
}


def network(names: list[str]) -> Model:
    """A small network in which every kind of name is taken from the list."""
    pick = iter(names)
    graph = Graph(next(pick), [])
    size = symbol(next(pick) or "N")
    x = graph.add_input(next(pick), TensorType(DType.F32, (size, 4)))
    y = graph.add_input(next(pick) + " ", TensorType(DType.F32, (size, 4)))
    generator = np.random.default_rng(0)

    def weights(*shape: int):
        return constant(generator.standard_normal(shape).astype(np.float32), next(pick))

    def loc() -> Loc:
        return Loc(scope=next(pick), source=next(pick), origin=next(pick))

    first = graph.add("MatMul", [x, weights(4, 4)], names=[next(pick)], loc=loc()).output
    added = graph.add("Add", [first, y], names=[next(pick)], loc=loc()).output
    scaled = graph.add("Mul", [added, weights(1, 4)], names=[next(pick)], loc=loc()).output
    index = constant(np.array([2, 0, 1, 3, 1]), next(pick))
    taken = graph.add("Gather", [scaled, index], {"axis": 1}, names=[next(pick)], loc=loc()).output
    graph.set_outputs([taken, added], [next(pick), next(pick) + " out"])
    return Model(graph, source_opset=int(len(names[0]) % 2) * 17)


NEEDED = 28


def check_tree(text: str) -> None:
    """Only known kinds of nodes; every name that is read is bound in the file or on the list; no strange attributes."""
    assert text.isascii()
    tree = ast.parse(text)
    bound = set(FREE)
    for node in ast.walk(tree):
        assert isinstance(node, STATEMENTS), node
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            bound.add(node.name)
        if isinstance(node, ast.arg):
            bound.add(node.arg)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        if isinstance(node, ast.ImportFrom):
            assert node.module in {"pathlib", "safetensors.torch", "torch"}
        if isinstance(node, ast.Import):
            assert {a.name for a in node.names} <= {"torch", "torch.nn.functional"}
    loads = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    assert loads <= bound
    attributes = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    assert not any(a.startswith("_") and a != "__init__" for a in attributes)
    assert not any(keyword.iskeyword(a) for a in attributes | bound)


@settings(max_examples=40, deadline=None)
@given(st.lists(NAMES, min_size=NEEDED, max_size=NEEDED))
def test_no_name_becomes_code(names):
    check_tree(generate(network(names)).text)


@pytest.fixture(scope="module")
def feeds() -> list[np.ndarray]:
    return [np.random.default_rng(i).standard_normal((3, 4)).astype(np.float32) for i in range(2)]


@pytest.fixture(scope="module")
def wanted(feeds) -> list[np.ndarray]:
    plain = network([f"n{i}" for i in range(NEEDED)])
    return list(OrtRunner(plain).run(dict(zip([v.name for v in plain.graph.inputs], feeds, strict=True))).values())


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_network_with_one_hostile_name_everywhere_still_computes_the_same(name, feeds, wanted):
    model = network([name] * NEEDED)
    check_tree(generate(model).text)
    found = to_runner(model).run(dict(zip([v.name for v in model.graph.inputs], feeds, strict=True)))
    for a, b in zip(found.values(), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@given(st.text())
def test_identifiers_are_plain_and_free(text):
    for name in (identifier(text, "x"), class_name(text)):
        assert name.isascii()
        assert name.isidentifier()
        assert not keyword.iskeyword(name)
        assert name not in {"torch", "nn", "F", "self", "Block", "quantize", "print"}
    assert "\n" not in plain_text(text)
    assert plain_text(text).isascii()
    assert not set(plain_text(text)) & set("\"'\\")


@given(st.text(alphabet="ab01_.-", max_size=12))
def test_paths_keep_the_text_of_a_key(text):
    path = path_of(text)
    assert path is None or ".".join(path) == text


def test_no_child_hides_an_attribute_of_a_module():
    public = {name for name in dir(torch.nn.Module()) if not name.startswith("_")}
    assert public <= MODULE_ATTRIBUTES
    assert not any(is_component(name) for name in MODULE_ATTRIBUTES)
