"""Where quantization goes in a graph of float layers, as an annotation: which values get a
QuantizeLinear/DequantizeLinear pair.

The rules are those under which ONNX Runtime's x64 kernels fuse (found by dumping its optimised graphs); what another
runtime wants otherwise is in its row of `TARGETS`:

* an int8 Conv takes u8 and gives u8, so its input and its result are quantized; a Gemm takes u8 and gives f32;
* a Relu or Clip behind a kernel that gives u8 vanishes into the range of the QuantizeLinear behind it, so nothing
  stands between;
* operators that only move or choose elements, additions, concatenations and pools stay in u8 where they connect int8
  layers (`CONNECTORS`); elsewhere they stay float, and so does every operator without a row;
* a value has one pair, whoever uses it. A value that an int8 kernel gives exists in u8 only, so all its users take
  the pair; one that a float operator gives is taken as it is by float operators.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from ...ir import Graph, Node, Value
from .layers import Integer, Product, is_f32
from .observers import Range

IMAGE_RANK = 4
"""Rank of what convolutions over two axes read and write."""


@dataclass(frozen=True)
class Connector:
    """An operator with a u8 kernel that may connect int8 layers.

    `every` operand is data, or the first alone. `keeps` the values: what comes out is among what went in, so scale
    and zero point are shared. `shrinks`: it pays even when only float operators follow. `accepts` says which nodes
    the kernel covers.
    """

    every: bool = False
    keeps: bool = False
    shrinks: bool = False
    accepts: Callable[[Node], bool] = lambda _: True


def _is_image(node: Node) -> bool:
    return node.operand(0).rank == IMAGE_RANK and not any(v.users for v in node.outputs[1:])


MOVES = Connector(keeps=True)
ADDS = Connector(every=True)
MAPS = Connector()

CONNECTORS: dict[str, Connector] = {
    "Add": ADDS,
    "Mul": ADDS,
    "Concat": ADDS,
    "MaxPool": Connector(keeps=True, shrinks=True, accepts=_is_image),
    "AveragePool": Connector(shrinks=True, accepts=_is_image),
    "GlobalAveragePool": Connector(shrinks=True, accepts=_is_image),
    "LeakyRelu": MAPS,
    "Sigmoid": MAPS,
    "Reshape": MOVES,
    "Flatten": MOVES,
    "Squeeze": MOVES,
    "Unsqueeze": MOVES,
    "Transpose": MOVES,
    "Slice": MOVES,
    "Split": MOVES,
    "Gather": MOVES,
    "Expand": MOVES,
    "Tile": MOVES,
    "DepthToSpace": MOVES,
    "Identity": MOVES,
    "Resize": Connector(keeps=True, accepts=lambda node: node.str("mode") == "nearest"),
}


@dataclass(frozen=True)
class Pace:
    """What products of two matrices take in one precision: microseconds per `call`, `rate` GFLOP/s, and microseconds
    per element of the result, of the left and of the right operand.
    """

    call: float
    rate: float
    result: float = 0.0
    left: float = 0.0
    right: float = 0.0


@dataclass(frozen=True)
class Products:
    """A runtime's kernels for products of two computed matrices, conversions not counted: fitted to times of some sixty
    shapes, from 32 x 32 x 32 to 4096 x 4096 x 512, alone and in stacks, on one core with AVX-512 VNNI and AMX.
    `signed`: the integer kernel takes i8 without a zero point, and u8 without one on the left. `turned`: microseconds
    per element of an operand whose last two axes a Transpose exchanges, which the float kernel alone does by itself.
    """

    float: Pace
    int8: Pace
    signed: bool = False
    turned: float = 0.0


@dataclass(frozen=True)
class Target:
    """What a runtime wants of a quantized file: a row of data.

    `connectors` are the operators that stay in u8 between int8 layers. `writes` are the operators with weights whose
    integer kernel gives u8, so that their result is quantized whoever uses it; the others' is where an int8 kernel
    takes it. `words`: input channels of convolutions are padded to whole words, and pools between float operators are
    kept from the slow u8 kernel. `rounds_floats`: the runtime rounds weights of float layers between two pairs by
    itself, from which they have to be kept. `stacks`: matrix products take any number of axes, and Reshapes around
    two-dimensional ones cost. `lines`: convolutions over one axis have an int8 kernel as they are, not only as
    convolutions over two axes. `modelled`: the model of time in `gain` is of this runtime. `reads_back`:
    the graph that it executes can be looked at for layers that stayed float. `products` is what products of two
    computed matrices take.
    """

    connectors: Mapping[str, Connector]
    products: Products
    writes: frozenset[str] = frozenset()
    words: bool = False
    rounds_floats: bool = False
    stacks: bool = False
    lines: bool = False
    modelled: bool = False
    reads_back: bool = False


PLAIN = ("Add", "Concat", "MaxPool", *(op for op, row in CONNECTORS.items() if row is MOVES))
"""What OpenVINO keeps in u8."""

TARGETS: dict[str, Target] = {
    "ort-cpu": Target(
        CONNECTORS,
        Products(
            Pace(4.0, 66.6, right=0.35e-3),
            Pace(8.0, 81.0, result=0.25e-3, left=0.14e-3, right=0.05e-3),
            turned=1.3e-3,
        ),
        frozenset(["Conv"]),
        words=True,
        rounds_floats=True,
        modelled=True,
        reads_back=True,
    ),
    "openvino-cpu": Target(
        {op: CONNECTORS[op] for op in PLAIN},
        Products(
            Pace(40.0, 85.0, result=1.0e-3, left=0.36e-3, right=0.36e-3),
            Pace(300.0, 770.0, result=1.9e-3, left=0.29e-3, right=0.29e-3),
            signed=True,
        ),
        stacks=True,
        lines=True,
    ),
}
ORT = TARGETS["ort-cpu"]


@dataclass
class Placement:
    """The annotation of a graph.

    `quantized` holds the values with a pair, in graph order; True where an int8 kernel gives the value. `shared` maps
    a value to the one whose scale and zero point it takes. `takers` are the int8 nodes, each with the operands that
    it takes in u8. `signed` are those that have to be i8 without a zero point: True always, False where they are
    negative somewhere.
    """

    quantized: dict[Value, bool] = field(default_factory=dict[Value, bool])
    shared: dict[Value, Value] = field(default_factory=dict[Value, Value])
    takers: dict[Node, list[Value]] = field(default_factory=dict[Node, list[Value]])
    signed: dict[Value, bool] = field(default_factory=dict[Value, bool])

    def source(self, value: Value) -> Value:
        """The value whose range decides the parameters of `value`."""
        while value in self.shared:
            value = self.shared[value]
        return value

    def sources(self) -> list[Value]:
        """The values to calibrate, in graph order."""
        return list(dict.fromkeys(self.source(v) for v in self.quantized))


FLOAT_RESULT = ("Gemm", "MatMul")
"""Operators whose integer kernel gives float."""


def place(graph: Graph, chosen: Mapping[Node, Integer], target: Target = ORT) -> Placement:
    """The annotation for the chosen layers."""
    connecting = _connectors(graph, chosen, target)
    found: dict[Value, bool] = {}
    placement = Placement(takers={node: list(layer.operands) for node, layer in chosen.items()})
    for node in connecting:
        placement.takers[node] = data(node)
        if CONNECTORS[node.op].keeps:
            placement.shared.update((v, node.operand(0)) for v in node.outputs if v.users)
    for node in connecting:
        if node.op == "Concat":
            placement.shared.update((v, results(node)[0]) for v in _takes_scale_of(node) if v not in placement.shared)
    for operands in placement.takers.values():
        found.update((v, False) for v in operands)
    for node in placement.takers:
        given = [v for v in results(node) if node.op not in FLOAT_RESULT]
        if node in chosen and node.op not in target.writes:
            given = [v for v in given if v in found]
        found.update((v, True) for v in given)
    if not target.writes:
        read = {v for n, vs in placement.takers.items() if not isinstance(chosen.get(n), Product) for v in vs}
        found.update((v, True) for v in read if v.rank == IMAGE_RANK)
    order = (v for node in (graph.entry, *graph) for v in node.outputs)
    placement.quantized = {v: found[v] for v in order if v in found}
    for layer in chosen.values() if target.products.signed else ():
        if isinstance(layer, Product):
            placement.signed[placement.source(layer.right)] = True
            placement.signed.setdefault(placement.source(layer.left), False)
    return placement


def _connectors(graph: Graph, chosen: Mapping[Node, Integer], target: Target) -> list[Node]:
    """The nodes of `CONNECTORS` that stay in u8: the largest set of which each member is justified by the others and
    the layers."""
    able = (node for node in graph if node not in chosen and node.op in target.connectors and may_connect(node))
    kept = {node: target.connectors[node.op] for node in able}
    streams = {v for node in (*chosen, *kept) for v in results(node) if node.op not in FLOAT_RESULT}
    changed = True
    while changed:
        changed = False
        for node in (*kept, *reversed(kept)):
            if node in kept and not _justified(node, streams, chosen, kept):
                del kept[node]
                streams.difference_update(results(node))
                changed = True
    return list(kept)


def may_connect(node: Node) -> bool:
    """True for a node of `CONNECTORS` that its u8 kernel covers."""
    row = None if node.domain else CONNECTORS.get(node.op)
    if row is None or not node.inputs or node.inputs[0] is None:
        return False
    operands = data(node)
    return (
        all(v.const is None and is_f32(v) and v.op != "DequantizeLinear" for v in operands)
        and len(operands) == len(node.inputs if row.every else operands)
        and row.accepts(node)
    )


def _justified(
    node: Node, streams: Collection[Value], chosen: Mapping[Node, Integer], kept: Mapping[Node, Connector]
) -> bool:
    """True where it pays to keep a node in u8: what comes in is u8 already and what goes out is wanted so.

    With operands of both kinds the float ones must be quantized for it, which pays only when all users want u8; so
    does taking a float value that is quantized for others anyway.
    """

    def takes(user: Node, value: Value) -> bool:
        return (user in chosen and value in chosen[user].operands) or (user in kept and value in data(user))

    operands, outputs = data(node), [v for v in results(node) if v.users]
    incoming = [v in streams for v in operands]
    if all(incoming):
        return kept[node].shrinks or any(takes(user, v) for v in outputs for user in v.users)
    wanted = all(takes(user, v) for v in outputs for user in v.users)
    if any(incoming):
        return wanted
    return wanted and all(any(takes(user, v) for user in v.users if user is not node) for v in operands)


def _takes_scale_of(concat: Node) -> list[Value]:
    """The operands that are quantized as the result is: then the Concat copies bytes, and nothing is rounded twice.

    Those that nothing else uses (others would lose resolution for it) and that a Relu limits as it limits the result.
    """
    whole = limit(concat.output)
    return [v for v in data(concat) if v.only_user is concat and limit(v) == whole]


def data(node: Node) -> list[Value]:
    """The operands of a connector that hold data (not indices, shapes or axes)."""
    operands = node.inputs if CONNECTORS[node.op].every else node.inputs[:1]
    return [v for v in operands if v is not None]


def results(node: Node) -> list[Value]:
    """What a node gives, past a Relu or Clip that vanishes into the range of the result."""
    if len(node.outputs) == 1:
        user = node.output.only_user
        keeps = node.op in CONNECTORS and CONNECTORS[node.op].keeps
        if user is not None and not keeps and clip_range(user) is not None:
            return [user.output]
    return [v for v in node.outputs if v.users or v is node.output]


def result(node: Node, layer: Integer) -> Value:
    """What a layer gives, as `results` says, and a product with what is added to it."""
    return layer.adder.output if isinstance(layer, Product) and layer.adder else results(node)[0]


def clip_range(node: Node) -> Range | None:
    """The interval that a Relu or Clip leaves, where it holds zero and is known; None for other nodes."""
    if node.domain:
        return None
    if node.op == "Relu":
        return Range(0.0, math.inf)
    if node.op != "Clip":
        return None
    ends = [-math.inf, math.inf]
    for index, value in enumerate(node.inputs[1:3]):
        if value is not None:
            if value.const is None:
                return None
            ends[index] = float(value.tensor.item())
    return Range(*ends) if ends[0] <= 0.0 <= ends[1] and ends[0] < ends[1] else None


def limit(value: Value) -> Range | None:
    """The interval outside which a value never lies because a Relu or Clip computes it, or everything that it
    consists of."""
    node = value.node
    if node is None or node.domain:
        return None
    if node.op == "Concat":
        limits = {limit(v) for v in data(node)}
        return limits.pop() if len(limits) == 1 else None
    if node.op in CONNECTORS and CONNECTORS[node.op].keeps:
        return limit(node.operand(0))
    return clip_range(node)
