"""Products of two computed matrices: attention's scores and results, correlations, similarities.

Neither operand is known before the network runs, so both are quantized each time, and the integer kernel finds its
right operand as it lies in memory. That pays for large matrices only: what a product takes in either precision is
modelled from its sizes (`Target.products`), and it stays float where less than `MARGIN` of the time would be won.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from ...backends.onnx.lowering import stand_in
from ...backends.runners import OrtRunner, Samples
from ...ir import Builder, DType, Graph, Model, Node, TensorType, Value, fuse
from ...ir.dims import free_symbols, of_atom
from ..cost import Shape, Sizes, static_shape
from ..samples import alone_in_batch
from ..simplify.structure.dead import erase_dead, is_dead
from .layers import Integer, Product, product_of
from .placement import Pace, Products, Target

MARGIN = 0.1
"""The share of its time that a product has to win: the model is right within 6 to 15 %."""

ATTENTION = "Attention"


@dataclass(frozen=True)
class Extent:
    """`count` products of [rows, inner] by [inner, columns]; operands that are shared by a stack count once."""

    count: int
    rows: int
    inner: int
    columns: int
    left: int
    right: int

    @staticmethod
    def of(left: Shape, right: Shape) -> Extent:
        """From the shapes of both operands, which have two axes or more."""
        stack = 1
        for axis in range(3, max(len(left), len(right)) + 1):
            stack *= max(left[-axis] if axis <= len(left) else 1, right[-axis] if axis <= len(right) else 1)
        return Extent(stack, left[-2], left[-1], right[-1], math.prod(left), math.prod(right))

    def takes(self, pace: Pace) -> float:
        """Microseconds."""
        result = self.count * self.rows * self.columns
        moved = pace.result * result + pace.left * self.left + pace.right * self.right
        return pace.call + 2e-3 * result * self.inner / pace.rate + moved

    def __str__(self) -> str:
        stack = f"{self.count} x " if self.count > 1 else ""
        return f"{stack}[{self.rows}, {self.inner}] by [{self.inner}, {self.columns}]"


def extent(product: Product, sizes: Sizes) -> Extent | None:
    """The sizes of a product; None where a rank is not known."""
    left, right = (static_shape(v, sizes) for v in product.operands)
    return Extent.of(left, right) if left and right and min(len(left), len(right)) > 1 else None


def at(layer: Integer, sizes: Sizes) -> str:
    """The sizes of a product in words, with a space behind them; '' for a layer with weights."""
    return f"{extent(layer, sizes)} " if isinstance(layer, Product) else ""


def paces(product: Product, sizes: Sizes, known: Products) -> tuple[float, float]:
    """Microseconds in float and in int8, conversions not counted."""
    found = extent(product, sizes)
    assert found is not None, "the operands of a product are of known rank"
    turned = sum(math.prod(static_shape(v, sizes) or ()) for v in product.operands if is_turned(v))
    return found.takes(known.float), found.takes(known.int8) + known.turned * turned


def is_turned(value: Value) -> bool:
    """True for what a Transpose gives to one product alone that exchanges the last two axes."""
    node, rank = value.node, value.rank or 0
    if node is None or node.op != "Transpose" or node.domain or value.only_user is None:
        return False
    return node.ints("perm", tuple(range(rank))[::-1]) == (*range(rank - 2), rank - 1, rank - 2)


def observed(model: Model, found: Collection[Integer], sizes: Sizes, samples: Samples) -> Sizes:
    """`sizes` with those that only running the network on the first sample tells: the symbols in the shapes of
    products' operands that no input has.
    """
    wanted = [
        v
        for layer in found
        if isinstance(layer, Product)
        for v in layer.operands
        if any(s not in sizes for size in v.shape or () for s in free_symbols(size))
    ]
    if not wanted:
        return sizes
    more, feed = dict(sizes), alone_in_batch(model.graph, samples)
    for value, array in zip(wanted, OrtRunner(model, taps=wanted).run_taps(feed), strict=True):
        for size, seen in zip(value.shape or (), array.shape, strict=True):
            for s in free_symbols(size):
                if size == of_atom(s):
                    more.setdefault(s, seen)
    return more


def centred(graph: Graph, product: Product) -> Product:
    """Takes the mean of its rows from the right operand, and adds it to the result, where the left one is a softmax.

    Rows of a softmax sum to one, so the result is the same. Their many small numbers are rounded to zero, and what is
    lost of the sum then counts no longer: 4 to 8 dB in attention over 512 positions.
    """
    node, value = product.node, product.right
    softmax = product.left.node
    if softmax is None or softmax.op != "Softmax" or softmax.domain:
        return product
    if softmax.int("axis") % (product.left.rank or 1) != (product.left.rank or 1) - 1 or value.shape is None:
        return product
    op = Builder(graph, node, loc=fuse(node.loc, [], "quantize"))
    mean = op.ReduceMean(value, [-2], keepdims=1)
    mean.type = TensorType(DType.F32, (*value.shape[:-2], 1, value.shape[-1]))
    rest = op.Sub(value, mean)
    mean.name, rest.name = f"{value.name}_mean", f"{value.name}_centred"
    rest.type = value.type
    y = node.output
    users = list(y.users)
    whole = Builder(graph, node.next, loc=op.loc).Add(y, mean)
    whole.type, whole.name, y.name = y.type, y.name, f"{y.name}_centred"
    for user in users:
        user.set_inputs([whole if v is y else v for v in user.inputs])
    node.set_input(1, rest)
    return Product(node, product.left, rest, whole.node)


# Attention, which is two products with a softmax between them


def open_attention(
    graph: Graph, worth: Callable[[Sequence[Product]], str], selected: Callable[[Node], bool]
) -> dict[Node, str]:
    """Takes those Attention nodes apart of which a product is worth int8 (`worth` says '' or why none is); gives the
    others, each with the reason.
    """
    nodes = [node for node in graph if node.op == ATTENTION and not node.domain and selected(node)]
    kept: dict[Node, str] = {}
    copy = graph.clone() if nodes else graph
    idle = {node for node in graph if is_dead(node)}
    twins = dict(zip(graph, copy, strict=True))
    for node in nodes:
        parts = [p for p in map(product_of, apart(twins[node])) if isinstance(p, Product)]
        why = worth(parts) if parts else "it cannot be taken apart into products of f32"
        if why:
            kept[node] = why
        else:
            apart(node)
    if len(kept) < len(nodes):
        erase_dead(graph, allow=lambda node: node not in idle)
    return kept


def apart(node: Node) -> list[Node]:
    """Takes an Attention apart and gives the matrix products that it consists of."""
    made = stand_in(node)
    inner = [part for whole in made if whole.op == ATTENTION for part in apart(whole)]
    return [*(part for part in made if part.op == "MatMul"), *inner]


def worth_of(sizes: Sizes, target: Target, conversion: Callable[[Value], float]) -> Callable[[Sequence[Product]], str]:
    """Says of some products why none of them is worth int8 by itself at these sizes; '' where one is."""

    def why(products: Sequence[Product]) -> str:
        said: list[str] = []
        for product in products:
            slow, fast = paces(product, sizes, target.products)
            fast += sum(map(conversion, product.operands))
            if fast < (1 - MARGIN) * slow:
                return ""
            said.append(f"{extent(product, sizes)} {fast:.0f} us against {slow:.0f} us")
        return f"int8 would not pay here: {'; '.join(said)} modelled, with conversions"

    return why
