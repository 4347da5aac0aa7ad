"""The walk from a graph to statements: what operator rows see of the graph and of the file in the making.

A value is a variable, a constant, or *sizes*: integers that are known as Python expressions (`x.shape[0] * 4`), because
they come from shapes. Sizes flow through shape arithmetic without a statement and become a tensor only where an
operator needs one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn, Union

import numpy as np

from ...ir import Array, Dim, DType, Graph, Model, Node, Size, Tensor, TensorType, UnsupportedError, Value
from ...ir.dims import Symbol
from ...ir.tensors import Lazy, reshape
from .code import Code, Member, Piece, Variable, call, code, form, infix, literal, method, raw, sequence
from .constants import formula
from .members import TORCH_TYPES, Members
from .names import identifier, path_of, plain_text
from .placement import Placement, scope_of
from .program import Assign, Block
from .standins import UNSIGNED, standing_in

SIZE_ELEMENTS = 64

FREE_OF_ARITHMETIC = frozenset(
    [
        "QuantizeLinear",
        "DequantizeLinear",
        "Cast",
        "BitCast",
        "Identity",
        "Reshape",
        "Flatten",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Shape",
        "Size",
        "If",
        "Loop",
        "Concat",
        "Expand",
    ]
)
"""Operators that only move or convert, which is all that PyTorch offers for wide unsigned integers."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """A vector (`rank` 1) or scalar (0) of int64 or bool as Python expressions."""

    items: tuple[Code, ...]
    rank: int
    dtype: DType = DType.I64


@dataclass(frozen=True, slots=True)
class Outputs:
    """One expression per output of a node; None for one that nobody uses."""

    values: Sequence[Code | None]


@dataclass(frozen=True, slots=True)
class Unpacked:
    """One expression that evaluates to a tuple of all outputs."""

    value: Code


Result = Union[Code, Outputs, Unpacked, None]
Row = Callable[[Node, "Emitter"], Result]
"""What emits an operator: the expression of its only used output, or of several; None when it has bound them itself."""


class Emitter:
    """State of one emission: statements so far, members, helpers in use, and how each value is reached."""

    def __init__(
        self,
        model: Model,
        table: Mapping[tuple[str, str], Row],
        sizes_row: Callable[[Node, Emitter], Sizes | None],
        contents: Mapping[Value, tuple[Size, ...]],
    ) -> None:
        self.graph, self.table, self.sizes_row, self.contents = model.graph, table, sizes_row, contents
        self.placement, self.classes = Placement(model), model.classes
        used = self.placement.in_use(model.graph)
        self.members = Members(
            {p: id(t) for k, t in model.keys.items() if id(t) in used and (p := path_of(k)) is not None},
            model.keys,
        )
        self.block = Block()
        self.helpers: set[str] = set()
        self.variables: dict[Value, Variable] = {}
        self.sizes: dict[Value, Sizes] = {}
        self.aliases: dict[Value, Value] = {}
        self.dimensions: dict[Dim, Code] = {}
        self.absorbed: set[Node] = set()
        self.parameters: list[Variable] = []
        self.derivations: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}
        self.derived: set[int] = set()
        self.suggestion = ""
        self.heading = ""
        self.section = self.part = ""
        self.scope: tuple[str, ...] = ()

    # The walk

    def run(self) -> None:
        """Emits the whole graph into `block`. Raises UnsupportedError with the location of a node that has no row."""
        for value in self.graph.inputs:
            self.declare(value)
        self.nodes(self.graph)
        self.block.results = [self.tensor(v) for v in self.graph.outputs]

    def declare(self, value: Value) -> None:
        """A parameter of `forward`, and the symbolic sizes that it settles."""
        self.torch_type(value, value.name)
        variable = Variable(identifier(value.name, "x"), note(value))
        self.variables[value] = variable
        self.parameters.append(variable)
        for axis, size in enumerate(value.shape or ()):
            if isinstance(size, Dim) and size not in self.dimensions and plain_symbol(size) is not None:
                name = Variable(identifier(size_name(size), "size"))
                self.assign([name], form(f"{{0}}.shape[{axis}]", variable))
                self.dimensions[size] = code(name)

    def nodes(self, graph: Graph) -> None:
        for node in graph:
            if node not in self.absorbed:
                self.node(node)

    def node(self, node: Node) -> None:
        self.suggestion = ""
        sizes = None if node.domain else self.sizes_row(node, self) or self.from_contents(node)
        if sizes is not None:
            self.sizes[node.output] = sizes
            return
        try:
            result = self.expressed(node)
        except UnsupportedError as error:
            self.spelled_out(node, error)
        else:
            self.bind(node, result)

    def spelled_out(self, node: Node, refused: UnsupportedError) -> None:
        """Emits what stands for a refused node in terms of older operators; what the attempt left behind is not used.
        Raises `refused` where nothing does."""
        made = standing_in(node)
        if not made:
            raise refused
        try:
            for part in made:
                self.node(part)
        except UnsupportedError:
            raise refused from None

    def expressed(self, node: Node) -> Result:
        """What the node's row makes of it."""
        row = self.table.get((node.domain, node.op))
        if row is None:
            self.refuse(node, "it has no row in the emitter's table")
        wide = next((v for v in node.inputs if self.dtype(v) in UNSIGNED), None)
        self.need(
            wide is None or node.op in FREE_OF_ARITHMETIC,
            node,
            "PyTorch hardly computes with 16 to 64 bit unsigned integers",
        )
        self.note_section(node)
        try:
            result = row(node, self)
        except (ValueError, KeyError) as error:
            raise UnsupportedError(
                f"{node.op} cannot be emitted as PyTorch",
                where=node.where,
                why=f"an operand or attribute is unusual: {error}",
            ) from error
        return result

    def from_contents(self, node: Node) -> Sizes | None:
        """What type inference found in a vector or scalar of sizes, when all of them can be reached."""
        found = self.contents.get(node.output) if len(node.outputs) == 1 else None
        dtype, rank = (
            self.dtype(node.output) if found is not None else None,
            node.outputs[0].rank if node.outputs else None,
        )
        if found is None or dtype not in (DType.I64, DType.I32) or rank not in (0, 1):
            return None
        items = [literal(d) if isinstance(d, int) else self.polynomial(d) for d in found]
        reached = [i for i in items if i is not None]
        return Sizes(tuple(reached), rank, dtype) if len(reached) == len(items) else None

    def bind(self, node: Node, result: Result) -> None:
        match result:
            case None:
                return
            case Code():
                values: Sequence[Code | None] = [result]
            case Outputs(values=values):
                pass
            case Unpacked(value=value):
                self.assign([self.variable(o) for o in node.outputs], value)
                return
        for index, output in enumerate(node.outputs):
            made = values[index] if index < len(values) else None
            known = made.only if made is not None else None
            if known is not None:
                self.variables[output] = known
            elif made is not None:
                self.assign([self.variable(output)], made)
            elif not self.absorbed.issuperset(output.users):
                self.refuse(node, f"its output {index} is not supported")

    def assign(self, targets: list[Variable], value: Code) -> None:
        self.block.statements.append(Assign(targets, value, self.heading, self.part, self.scope))
        self.heading = ""

    def note_section(self, node: Node) -> None:
        """A heading comment where the walk enters another part of the model."""
        self.scope = path_of(scope_of(node)) or ()
        self.part = section = self.placement.section(node)
        if section and section != self.section:
            self.section, self.heading = section, plain_text(section)

    @contextmanager
    def region(self, region: Graph, captured: Sequence[Value | None]) -> Iterator[Block]:
        """Collects the statements of a region; its last inputs stand for what it captures."""
        outer, dimensions = self.block, dict(self.dimensions)
        self.block = Block()
        inputs = region.inputs[len(region.inputs) - len(captured) :]
        for inside, outside in zip(inputs, captured, strict=True):
            if outside is not None:
                self.aliases[inside] = outside
        yield self.block
        self.block = outer
        self.dimensions = dimensions

    def refuse(self, node: Node, why: str) -> NoReturn:
        label = f"{node.domain}::{node.op}" if node.domain else node.op
        raise UnsupportedError(
            f"{label} cannot be emitted as PyTorch",
            where=node.where,
            why=why,
            do="emit ONNX instead, or simplify this part away",
        )

    def need(self, holds: bool, node: Node, why: str) -> None:
        """Refuses the node unless a condition holds."""
        if not holds:
            self.refuse(node, why)

    # Operands

    def resolve(self, value: Value) -> Value:
        while value in self.aliases:
            value = self.aliases[value]
        return value

    def tensor(self, value: Value | None) -> Code:
        """The expression of a value as a tensor. Raises ValueError for a missing operand."""
        if value is None:
            raise ValueError("a required operand is missing")
        value = self.resolve(value)
        if value.const is not None:
            return self.constant(value)
        if value in self.sizes:
            return self.materialised(self.sizes[value])
        return code(self.variables[value])

    def optional(self, value: Value | None) -> Code | None:
        return None if value is None else self.tensor(value)

    def const(self, value: Value | None) -> Tensor | None:
        """The tensor of a constant operand, else None."""
        return None if value is None else self.resolve(value).const

    def number(self, value: Value | None) -> int | float | bool | None:
        """The only element of a constant, else None."""
        tensor = self.const(value)
        if tensor is None or tensor.count != 1 or tensor.dtype not in TORCH_TYPES or id(tensor) in self.placement.keys:
            return None
        return python_number(tensor.numpy().reshape(()))

    def static(self, value: Value | None) -> tuple[int, ...] | None:
        """The elements of a constant integer tensor, else None."""
        tensor = self.const(value)
        if tensor is None or not (tensor.dtype.is_integer or tensor.dtype is DType.BOOL) or tensor.count > 4096:
            return None
        return tuple(int(i) for i in tensor.numpy().reshape(-1).tolist())

    def known(self, value: Value | None) -> Sizes | None:
        """A short integer operand as Python expressions: sizes, or a constant of rank 0 or 1."""
        if value is None:
            return None
        value = self.resolve(value)
        if value in self.sizes:
            return self.sizes[value]
        tensor = value.const
        if (
            tensor is None
            or tensor.rank > 1
            or tensor.count > SIZE_ELEMENTS
            or tensor.dtype not in (DType.I64, DType.I32, DType.BOOL)
        ):
            return None
        return Sizes(tuple(literal(x) for x in tensor.numpy().reshape(-1).tolist()), tensor.rank, tensor.dtype)

    def integers(self, value: Value | None) -> list[Piece] | None:
        """The elements of a vector of sizes as expressions."""
        known = self.known(value)
        return None if known is None else list(known.items)

    def integer(self, value: Value) -> Code:
        """A scalar integer as a Python int: an expression, or `.item()` of the tensor."""
        known = self.known(value)
        if known is not None and len(known.items) == 1:
            return known.items[0]
        return form("int({0})", self.tensor(value))

    def shape_argument(self, value: Value) -> Code:
        """A vector of sizes as an argument: a tuple of expressions, or the tensor's list."""
        known = self.integers(value)
        return sequence(known, "(", ")") if known is not None else form("{0}.tolist()", self.tensor(value))

    def beside(self, value: Value | None, other: Value | None) -> Code:
        """An operand of an elementwise operator: a number for a scalar constant when `other` fixes shape and type."""
        number = self.number(value)
        if (
            number is None
            or value is None
            or other is None
            or self.const(other) is not None
            or self.resolve(other) in self.sizes
        ):
            return self.tensor(value)
        rank, other_rank = self.resolve(value).rank or 0, self.rank(other)
        return literal(number) if rank == 0 or (other_rank is not None and rank <= other_rank) else self.tensor(value)

    def rank(self, value: Value | None) -> int | None:
        if value is None:
            return None
        value = self.resolve(value)
        return self.sizes[value].rank if value in self.sizes else value.rank

    def need_rank(self, node: Node, value: Value | None) -> int:
        rank = self.rank(value)
        if rank is None:
            self.refuse(node, "the rank of an operand is not known")
        return rank

    def dtype(self, value: Value | None) -> DType | None:
        if value is None:
            return None
        value = self.resolve(value)
        return value.type.dtype if isinstance(value.type, TensorType) else None

    def torch_type(self, value: Value, name: str = "") -> Code:
        """`torch.float32` and the like for a value's element type."""
        dtype = self.dtype(value)
        if dtype is None or dtype not in TORCH_TYPES:
            shown = "an unknown element type" if dtype is None else f"the element type {dtype.label}"
            raise UnsupportedError(
                "a value cannot be emitted as PyTorch",
                where=f"%{plain_text(name or value.name)}",
                why=f"it has {shown}",
            )
        return raw(f"torch.{TORCH_TYPES[dtype]}")

    def size(self, value: Value, axis: int) -> Code:
        """One size of a value: a number, a variable that holds it, or `x.shape[axis]`."""
        value = self.resolve(value)
        shape = value.shape
        wanted = shape[axis] if shape is not None else None
        if isinstance(wanted, int):
            return literal(wanted)
        found = self.polynomial(wanted) if wanted is not None else None
        if found is not None:
            return found
        name = Variable(identifier(size_name(wanted), "size") if wanted is not None else "size")
        self.assign([name], form(f"{{0}}.shape[{axis}]", self.tensor(value)))
        if wanted is not None:
            self.dimensions[wanted] = code(name)
        return code(name)

    def polynomial(self, size: Dim) -> Code | None:
        """A size as arithmetic over sizes that have a variable, or None when one of them has none."""
        if size in self.dimensions:
            return self.dimensions[size]
        by_name = {s: c for d, c in self.dimensions.items() if (s := plain_symbol(d)) is not None}
        total: Code | None = None
        for monomial, factor in size.terms:
            if not all(isinstance(atom, Symbol) and atom in by_name for atom in monomial):
                return None
            term: Code | None = None
            for atom in monomial:
                assert isinstance(atom, Symbol)
                term = by_name[atom] if term is None else infix("*", term, by_name[atom])
            magnitude = literal(abs(factor))
            term = magnitude if term is None else term if abs(factor) == 1 else infix("*", term, magnitude)
            if total is None:
                total = term if factor > 0 else form("-{0}", term, level=15)
            else:
                total = infix("+" if factor > 0 else "-", total, term)
        return Code(total.parts, total.level) if total is not None else None

    # Constants and members

    def constant(self, value: Value) -> Code:
        """A constant as a tensor: a parameter or a view of one, a buffer, or a small literal."""
        tensor = value.tensor
        shown = self.shown(tensor)
        if shown is not None:
            return shown
        if tensor.dtype not in TORCH_TYPES:
            tensor = self.placement.widened(tensor)
        path, trainable = self.placement.constant(value), self.placement.trainable(value)
        free = not trainable and (bool(self.placement.keys) or not self.placement.is_named(value))
        made = formula(tensor) if free else None
        return code(self.members.tensor(path, tensor, trainable=trainable, value=made))

    def shown(self, tensor: Tensor) -> Code | None:
        """One of the model's own tensors or a view of one, as a parameter or buffer of the original shape and what is
        done to it; None for other constants."""
        keys = self.placement.keys.get(id(tensor))
        if keys is not None:
            path = next((p for p in map(path_of, keys) if p is not None), None)
            trainable = tensor.dtype.is_float and id(tensor) not in self.placement.buffers
            if path is None:
                return None
            if self.classes.get(".".join(path[:-1])) == "Embedding" and path[-1] == "weight" and tensor.rank == 2:
                self.embedding(path[:-1], tensor)
            return code(self.members.tensor(path, tensor, trainable=trainable))
        if self.placement.viewed(tensor) is None:
            return None
        assert isinstance(tensor, Lazy)
        inner = tensor.operands[0]
        row = row_of(inner) if tensor.function == "reshape" and tensor.shape == inner.shape[1:] else None
        if row is not None and isinstance(inner, Lazy) and id(inner) not in self.placement.keys:
            base = self.shown(inner.operands[0])
            return None if base is None else form(f"{{0}}[{row}]", base)
        base = self.shown(inner)
        return None if base is None else viewed(base, tensor)

    def materialised(self, sizes: Sizes) -> Code:
        """Sizes as a tensor."""
        content = sequence(list(sizes.items)) if sizes.rank else sizes.items[0]
        return call("torch.tensor", content, **dtype_option(sizes.dtype, empty=not sizes.items), **self.on_device())

    def on_device(self) -> dict[str, Piece]:
        """`device=x.device` of the first input, for tensors that are made on the spot."""
        return {"device": form("{0}.device", self.parameters[0])} if self.parameters else {}

    def helper(self, name: str) -> str:
        self.helpers.add(name)
        return name

    def module(
        self,
        node: Node,
        constructor: Code,
        tensors: Mapping[str, Tensor],
        shared: Mapping[str, Tensor],
        path: tuple[str, ...],
    ) -> Member:
        """A module for a node; `shared` are its parameters as the graph holds them, for others that use them."""
        key = (constructor.render({}), tuple((k, id(t)) for k, t in shared.items()))
        made = self.members.module(path, constructor, tensors, key)
        for name, tensor in shared.items():
            self.members.own(tensor, made, name)
        if self.placement.descriptive(made.hint):
            self.suggestion = made.hint
        return made

    def embedding(self, path: tuple[str, ...], table: Tensor) -> None:
        """An `nn.Embedding` for a table that is one in the original, however it is read."""
        if table.dtype.is_float and not self.is_owned(table) and self.placement.fits({"weight": table}):
            made = call("nn.Embedding", *table.shape, **float_type(table.dtype))
            self.members.own(table, self.members.module(path, made, {"weight": table}, (id(table),)), "weight")

    def derive(self, what: str, tensor: Tensor, make: Callable[[], Tensor]) -> Tensor:
        """Another form of a constant, the same object each time that it is asked for."""
        found = self.derivations.get((what, id(tensor)))
        if found is None:
            found = self.derivations[what, id(tensor)] = (tensor, make())
            self.derived.add(id(found[1]))
        return found[1]

    def flattened(self, tensor: Tensor) -> Tensor:
        """A constant as a vector."""
        return tensor if tensor.rank == 1 else self.derive("flat", tensor, lambda: reshape(tensor, (tensor.count,)))

    def is_owned(self, tensor: Tensor | None) -> bool:
        return tensor is not None and id(tensor) in self.members.owners

    def variable(self, output: Value) -> Variable:
        """The variable of an output, with the name it would like."""
        hint, generic = self.placement.hint(output, self.suggestion)
        made = self.variables[output] = Variable(hint, note(output), generic=generic)
        return made

    def alias(self, output: Value, same: Value | None) -> None:
        """Says that an output is another value."""
        if same is None:
            raise ValueError("a required operand is missing")
        self.aliases[output] = same


def row_of(tensor: Tensor) -> int | None:
    """Which row of another tensor a slice is, where it is one."""
    if not isinstance(tensor, Lazy) or tensor.function != "slice" or tensor.parameters["axis"] != 0:
        return None
    start, stop = tensor.parameters["start"], tensor.parameters["stop"]
    return start if isinstance(start, int) and stop == start + 1 else None


def viewed(base: Code, view: Lazy) -> Code:
    """A view of a tensor as PyTorch writes it."""
    numbers = {k: v if isinstance(v, tuple) else (v,) for k, v in view.parameters.items()}
    match view.function:
        case "transpose":
            perm = numbers["perm"]
            moved = [i for i, p in enumerate(perm) if i != p]
            return method(base, "transpose", *moved) if len(moved) == 2 else method(base, "permute", *perm)
        case "slice":
            (axis,), (start,), (stop,) = numbers["axis"], numbers["start"], numbers["stop"]
            end = "" if stop == view.operands[0].shape[int(str(axis))] else stop
            return form(f"{{0}}[{':, ' * int(str(axis))}{start or ''}:{end}]", base)
        case "broadcast":
            return method(base, "expand", *view.shape)
        case _:
            return method(base, "reshape", *(view.shape or [()]))


def plain_symbol(size: Dim) -> Symbol | None:
    """The symbol that a size is, or None for any other expression."""
    if len(size.terms) != 1:
        return None
    monomial, factor = size.terms[0]
    return monomial[0] if factor == 1 and len(monomial) == 1 and isinstance(monomial[0], Symbol) else None


def size_name(size: Dim) -> str:
    symbol = plain_symbol(size)
    return symbol.name if symbol is not None and not symbol.is_fresh and path_of(symbol.name) else "size"


def note(value: Value) -> str:
    """A value's shape for a comment, such as "[N, 64, 32, 32]"."""
    if value.shape is None or not value.shape:
        return ""
    return plain_text("[" + ", ".join("?" if "?" in str(d) else str(d) for d in value.shape) + "]")


def python_number(element: Array) -> int | float | bool:
    """An array's only element as the shortest Python number that gives it back."""
    if element.dtype.kind in "iub":
        return element.item()
    shortest = float(str(element.astype(np.float32)))
    # float32's largest number, at its shortest, is past it as a double, which PyTorch refuses.
    exact = element.dtype == np.float64 or abs(shortest) > float(np.finfo(np.float32).max)
    return float(element) if exact else shortest


def dtype_option(dtype: DType, *, empty: bool) -> dict[str, Piece]:
    """The dtype argument of torch.tensor, where its contents do not say it."""
    return {} if dtype in (DType.I64, DType.BOOL) and not empty else {"dtype": raw(f"torch.{TORCH_TYPES[dtype]}")}


def float_type(dtype: DType) -> dict[str, Piece]:
    """The dtype option of a module's constructor."""
    return {} if dtype is DType.F32 else {"dtype": raw(f"torch.{TORCH_TYPES[dtype]}")}
