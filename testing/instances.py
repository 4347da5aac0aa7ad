"""Random graphs that a rule's pattern should match: typed, seeded, small enough to run in milliseconds.

A pattern is built from its root down: each operator says which types its operands need (`operators.py`), operands that
are operators are built first, and variables take what is then missing. Choices that turn out not to fit each other are
given up, and the next ones drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any, cast

import numpy as np
from onnx import defs

from ..ir import CANONICAL_OPSET, Array, Attribute, Dense, DType, Graph, Node, TensorType, TersorError, Value, constant
from ..ir.inference import Inference
from ..ir.rewrite import Rule
from ..ir.rewrite.patterns import COMMUTATIVE, Alternatives, Operator, Pattern, Scalar, Variable

SIZES = (1, 2, 3, 4, 5)
ATTEMPTS = 40
DEEPEST = 2
"""Calls that are followed from a rule's function to find the operators that it speaks of."""


class Reject(Exception):
    """The choices made so far do not fit each other."""


@dataclass(frozen=True)
class Want:
    """What an operator needs at an operand: None leaves open. `contents` are the numbers that a constant must have.

    `positive` asks for numbers that are away from zero (variances, scales).
    """

    dtype: DType | None = None
    shape: tuple[int, ...] | None = None
    contents: Array | None = None
    positive: bool = False


@dataclass
class Instance:
    """A graph to try a rule on; `spans` are the ranges [low, high) of inputs that index something."""

    graph: Graph
    spans: dict[str, tuple[int, int]]


def instance(rule: Rule, seed: Sequence[int], dtype: DType) -> Instance | None:
    """A graph made for the rule's pattern, or of one operator where it has none; None where no choice fitted."""
    for attempt in range(ATTEMPTS):
        drawer = Drawer(np.random.default_rng([*seed, attempt]), dtype)
        try:
            root = rule.pattern if rule.pattern is not None else drawer.single(rule)
            made = drawer.build(root, Want())
        except (Reject, TersorError, ValueError, IndexError):
            continue
        assert made is not None
        assert made.node is not None
        outputs = made.node.outputs
        drawer.graph.set_outputs(outputs, [f"y{v.index}" for v in outputs])
        return Instance(drawer.graph, drawer.spans)
    return None


class Drawer:
    """One graph under construction. `dtype` is the element type of its main data."""

    def __init__(self, random: np.random.Generator, dtype: DType) -> None:
        self.random, self.dtype = random, dtype
        self.graph = Graph("instance")
        self.inference = Inference(self.graph)
        self.bound: dict[str, Value | None] = {}
        self.spans: dict[str, tuple[int, int]] = {}
        self.counted = 0

    # Choices

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def one(self, choices: Sequence[Any]) -> Any:
        return choices[int(self.random.integers(len(choices)))]

    def size(self) -> int:
        return int(self.one(SIZES))

    def shape(self, ranks: Sequence[int] = (1, 2, 3, 3, 4, 4)) -> tuple[int, ...]:
        return tuple(self.size() for _ in range(self.one(ranks)))

    # Values

    def numbers(self, dtype: DType, shape: Sequence[int], positive: bool = False) -> Array:
        """Random numbers as data has them: none is zero among integers, for something may divide by it."""
        if dtype is DType.BOOL:
            return self.random.random(tuple(shape)) < 0.5
        if dtype.is_integer:
            found = self.random.integers(1, 4, tuple(shape))
            return (
                found if not dtype.is_signed or positive else found * self.random.choice([-1, 1], tuple(shape))
            ).astype(dtype.numpy)
        found = self.random.uniform(0.02, 2.0, tuple(shape)) if positive else self.random.standard_normal(tuple(shape))
        return found.astype(dtype.numpy)

    def name(self, hint: str) -> str:
        self.counted += 1
        return f"{hint}{self.counted}"

    def constant(self, want: Want, hint: str = "c") -> Value:
        dtype = want.dtype or self.dtype
        shape = self.shape((0, 1, 2, 3)) if want.shape is None else want.shape
        numbers = want.contents if want.contents is not None else self.numbers(dtype, shape, want.positive)
        return constant(Dense(np.asarray(numbers).astype(dtype.numpy), dtype), self.name(hint))

    def input(self, want: Want, hint: str = "x", span: tuple[int, int] | None = None) -> Value:
        dtype, shape = want.dtype or self.dtype, self.shape() if want.shape is None else want.shape
        made = self.graph.add_input(self.name(hint), TensorType(dtype, shape))
        if span is not None:
            self.spans[made.name] = span
        return made

    def node(
        self, op: str, inputs: Sequence[Value | None], attrs: dict[str, Attribute], outputs: int, domain: str
    ) -> Node:
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        for index, value in enumerate(inputs):
            if (
                value is not None
                and isinstance(value.type, TensorType)
                and not accepts(op, domain, index, value.type.dtype)
            ):
                raise Reject
        made = [Value(self.name("v")) for _ in range(outputs)]
        node = Node(op, inputs, attrs, made, domain=domain)
        self.graph.insert(node)
        self.inference.node(node)
        return node

    # Patterns

    def build(self, pattern: Pattern, want: Want) -> Value | None:
        """A value that the pattern matches."""
        match pattern:
            case Alternatives():
                return self.build(self.one(pattern.patterns), want)
            case Operator():
                return self.operator(pattern, want)
            case Scalar():
                return self.scalar(pattern, want)
            case Variable():
                return self.variable(pattern, want)
            case _:
                raise Reject

    def scalar(self, pattern: Scalar, want: Want) -> Value:
        dtype = want.dtype or self.dtype
        number = np.asarray(pattern.number).astype(dtype.numpy)
        if float(number) != pattern.number and not dtype.is_float:
            raise Reject
        rank = self.one([0, 0, 0, 0, 0, 1, 1, len(want.shape or ()), len(want.shape or ()) + 1])
        return constant(Dense(number.reshape((1,) * rank), dtype), "")

    def variable(self, pattern: Variable, want: Want) -> Value | None:
        if pattern.name and pattern.name in self.bound:
            return self.bound[pattern.name]
        if pattern.optional and self.chance(0.4):
            made = None
        elif pattern.const or want.contents is not None or self.chance(0.08):
            made = self.constant(want, pattern.name or "c")
        else:
            made = self.input(want, pattern.name or "x")
        if pattern.name:
            self.bound[pattern.name] = made
        return made

    def operator(self, pattern: Operator, want: Want) -> Value:
        from .operators import Site, row

        if want.contents is not None:
            raise Reject
        site = Site(self, pattern, want)
        row(pattern.op, pattern.domain)(site)
        inputs = site.inputs()
        if pattern.op in COMMUTATIVE and len(inputs) == 2 and self.chance(0.5):
            inputs.reverse()
        node = self.node(pattern.op, inputs, site.attrs, site.outputs, pattern.domain)
        return node.outputs[pattern.index or 0]

    def single(self, rule: Rule) -> Operator:
        """A pattern for a rule without one: one of its operators, with operators that its code speaks of before it."""
        known = mentioned(rule) or rule.ops
        return self.sketch(self.one(rule.ops), known, self.one([0, 1, 1, 2]))

    def sketch(self, op: str, known: Sequence[str], depth: int) -> Operator:
        from .operators import OPERANDS

        low, high = OPERANDS.get(op, arity(op))
        count = int(self.random.integers(low, min(high, low + 3) + 1))
        fixed = self.chance(0.4)
        operands: list[Pattern] = []
        for index in range(count):
            if depth and (index == 0 or self.chance(0.3)):
                operands.append(self.sketch(self.one(known), known, depth - 1))
            else:
                operands.append(Variable(self.name("a"), const=self.chance(0.7 if index and fixed else 0.2)))
        return Operator(op, operands, {})


def mentioned(rule: Rule) -> tuple[str, ...]:
    """The operators whose names stand in a rule's code, in what it calls, and in the tables that it reads."""
    found: dict[str, None] = {}
    seen: set[int] = set()

    def note(thing: object, depth: int) -> None:
        if id(thing) in seen or depth > DEEPEST:
            return
        seen.add(id(thing))
        if isinstance(thing, str):
            if thing[:1].isupper() and _formal(thing, "") is not None:
                found[thing] = None
        elif isinstance(thing, Mapping):
            for key, value in cast("Mapping[object, object]", thing).items():
                note(key, depth)
                note(value, depth)
        elif isinstance(thing, (tuple, list, set, frozenset)):
            for item in sorted(cast("Iterable[object]", thing), key=str):
                note(item, depth)
        elif isinstance(thing, CodeType):
            note(thing.co_consts, depth)
        elif isinstance(thing, FunctionType):
            note(thing.__code__, depth)
            for name in thing.__code__.co_names:
                note(thing.__globals__.get(name), depth + 1)

    note(rule.ops, 0)
    note(rule.function, 0)
    return tuple(found)


@lru_cache(maxsize=512)
def _formal(op: str, domain: str) -> Any:
    try:
        return defs.get_schema(op, CANONICAL_OPSET, domain)
    except defs.SchemaError:
        return None


def arity(op: str, domain: str = "") -> tuple[int, int]:
    """The fewest and the most operands of an operator; (1, 1) for one without a schema."""
    schema = _formal(op, domain)
    return (1, 1) if schema is None else (max(1, schema.min_input), min(schema.max_input, schema.min_input + 2))


@lru_cache(maxsize=4096)
def accepts(op: str, domain: str, index: int, dtype: DType) -> bool:
    """True where the operator's schema takes this element type at an operand."""
    schema = _formal(op, domain)
    if schema is None or not schema.inputs:
        return True
    formal = schema.inputs[min(index, len(schema.inputs) - 1)]
    allowed = {
        formal.type_str,
        *(t for c in schema.type_constraints if c.type_param_str == formal.type_str for t in c.allowed_type_strs),
    }
    return not any(t.startswith("tensor(") for t in allowed) or f"tensor({type_word(dtype)})" in allowed


def type_word(dtype: DType) -> str:
    """The element type as ONNX schemas spell it."""
    return {DType.F32: "float", DType.F64: "double"}.get(dtype, dtype.numpy.name)
