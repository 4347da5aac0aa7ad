"""Rows for LSTM, GRU and RNN with constant weights, as nn.LSTM, nn.GRU and nn.RNN.

ONNX stacks the gates of W, R and B per direction in another order than PyTorch; the weights are reordered, not the
computation. Layers of one module that follow upon one another are that module again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Union

from ...ir import Node, Tensor, Value
from ...ir.tensors import Lazy, reshape, take
from .code import Code, Piece, Variable, call, code, form, method
from .emitter import Emitter, Outputs, Row, float_type
from .placement import scope_of

Held = tuple[Tensor, Tensor, Union[Tensor, None]]
"""W, R and B of one layer."""


@dataclass(frozen=True, slots=True)
class Cell:
    """`gates[i]` is where PyTorch's gate i stands in ONNX's order; `activations` are those built into PyTorch."""

    name: str
    gates: tuple[int, ...]
    activations: tuple[str, ...]
    states: int


LSTM = Cell("nn.LSTM", (0, 2, 3, 1), ("Sigmoid", "Tanh", "Tanh"), 2)  # iofc -> ifgo
GRU = Cell("nn.GRU", (1, 0, 2), ("Sigmoid", "Tanh"), 1)  # zrh -> rzn
RNN = Cell("nn.RNN", (0,), ("Tanh",), 1)


def part(tensor: Tensor, direction: int) -> Tensor:
    """One direction's matrix or vector."""
    chosen = take(tensor, [direction], 0)
    return reshape(chosen, tensor.shape[1:])


def rows(tensor: Tensor, start: int, stop: int) -> Tensor:
    return Lazy("slice", [tensor], axis=0, start=start, stop=stop)


def reordered(tensor: Tensor, cell: Cell, hidden: int) -> Tensor:
    """Gates in PyTorch's order along the first axis."""
    if len(cell.gates) == 1:
        return tensor
    return take(tensor, [g * hidden + i for g in cell.gates for i in range(hidden)], 0)


def weights(cell: Cell, held: Held, hidden: int, layer: int = 0) -> dict[str, Tensor]:
    """PyTorch's parameters by name."""
    w, r, b = held
    made: dict[str, Tensor] = {}
    height = len(cell.gates) * hidden
    for direction in range(w.shape[0]):
        end = f"_l{layer}_reverse" if direction else f"_l{layer}"
        made["weight_ih" + end] = reordered(part(w, direction), cell, hidden)
        made["weight_hh" + end] = reordered(part(r, direction), cell, hidden)
        if b is not None:
            both = part(b, direction)
            made["bias_ih" + end] = reordered(rows(both, 0, height), cell, hidden)
            made["bias_hh" + end] = reordered(rows(both, height, 2 * height), cell, hidden)
    return made


def recurrent(cell: Cell) -> Row:
    def row(node: Node, e: Emitter) -> Outputs:
        check(node, e, cell, constant_weights(node, e)[0])
        layers = stack(node, e, cell)
        held = [constant_weights(n, e) for n in layers]
        hidden, directions = held[0][1].shape[-1], held[0][0].shape[0]
        options: dict[str, Piece] = {"num_layers": len(layers)} if len(layers) > 1 else {}
        if rectified(node, cell):
            options["nonlinearity"] = "relu"
        options |= {} if held[0][2] is not None else {"bias": False}
        if directions == 2:
            options["bidirectional"] = True
        options.update(float_type(held[0][0].dtype))
        made = call(cell.name, held[0][0].shape[-1], hidden, **options)
        tensors: dict[str, Tensor] = {}
        shared: dict[str, Tensor] = {}
        for k, one in enumerate(held):
            tensors |= weights(cell, one, hidden, k)
            shared |= {f"{name}{k or ''}": t for name, t in zip("WRB", one, strict=True) if t is not None}
        module = e.module(node, made, tensors, shared, e.placement.module(node, None, cell.name[3:].lower()))
        e.suggestion = ""
        value = call(module, e.tensor(node.operand(0)), *initial(layers, e, cell))
        return outputs(layers, e, cell, value, directions)

    return row


# Layers of one module


def stack(node: Node, e: Emitter, cell: Cell) -> list[Node]:
    """The layers from a node on that are one module: each reads nothing but what the one before gives."""
    layers, between = [node], list[Node]()
    while True:
        found = following(layers[-1])
        if found is None or not alike(node, found[-1], len(layers), e):
            break
        check(found[-1], e, cell, constant_weights(found[-1], e)[0])
        between += found[:-1]
        layers.append(found[-1])
    if len(layers) > 1 and any(common(layers, i) is None for i in (5, 6) if any(n.input(i) for n in layers)):
        return [node]
    e.absorbed.update(between, layers[1:])
    return layers


def following(node: Node) -> list[Node] | None:
    """What lies between a layer and the next one, which alone reads its sequence, and that."""
    bidirectional = node.str("direction") == "bidirectional"
    path: list[Node] = []
    value = node.output
    for op in ("Transpose", "Reshape") if bidirectional else ("Squeeze",):
        user = value.only_user
        if user is None or user.op != op or user.domain or user.operand(0) is not value:
            return None
        path.append(user)
        value = user.output
    user = value.only_user
    if user is None or user.op != node.op or user.domain or user.operand(0) is not value:
        return None
    shape = node.output.shape
    if bidirectional:
        hidden = shape[-1] if shape is not None else None
        joined = value.shape is not None and isinstance(hidden, int) and value.shape[2:] == (2 * hidden,)
        if path[0].ints("perm", ()) != (0, 2, 1, 3) or not joined:
            return None
    else:
        axes = path[0].input(1)
        if axes is None or axes.const is None or axes.tensor.numpy().reshape(-1).tolist() != [1]:
            return None
    return [*path, user]


def alike(first: Node, node: Node, layer: int, e: Emitter) -> bool:
    """True for a further layer of the same module: of the same size, with parameters of its names."""
    one, other = ([e.const(n.input(i)) for i in (1, 2, 3)] for n in (first, node))
    if (
        any((a is None) is not (b is None) for a, b in zip(one, other, strict=True))
        or one[1] is None
        or other[1] is None
    ):
        return False
    if one[1].shape != other[1].shape or one[1].dtype is not other[1].dtype or dict(first.attrs) != dict(node.attrs):
        return False
    stems = [{stem_of(key, k) for key in keys_of(w, e)} for w, k in ((one[0], 0), (other[0], layer))]
    if not any(stems):
        return bool(scope_of(first)) and scope_of(first) == scope_of(node)
    return stems[0] == stems[1] and len(stems[0]) == 1 and None not in stems[0]


def keys_of(tensor: Tensor | None, e: Emitter) -> list[str]:
    return [k for t in e.placement.origins(tensor) for k in e.placement.keys[id(t)]] if tensor is not None else []


def stem_of(key: str, layer: int) -> str | None:
    """The module that a parameter for the input of one of its layers belongs to."""
    found = re.fullmatch(rf"(.*?)\.?weight_ih_l{layer}(?:_reverse)?", key)
    return found.group(1) if found is not None else None


def common(layers: Sequence[Node], index: int) -> Value | None:
    """What initial states that layers have one part each of are parts of."""
    parts = [n.input(index) for n in layers]
    source = parts[0].node if parts[0] is not None else None
    if source is None or source.op != "Split" or source.domain or source.int("axis") != 0:
        return None
    return source.operand(0) if list(source.outputs) == parts else None


def constant_weights(node: Node, e: Emitter) -> Held:
    w, r, b = (e.const(node.input(i)) for i in (1, 2, 3))
    if w is None or r is None or (node.input(3) is not None and b is None):
        e.refuse(node, "its weights are not constant")
    return w, r, b


def check(node: Node, e: Emitter, cell: Cell, w: Tensor) -> None:
    """Refuses what PyTorch's modules cannot do."""
    e.need(node.input(4) is None, node, "it has sequence lengths")
    e.need(node.input(7) is None, node, "it has peephole weights")
    e.need(node.attr("clip") is None, node, "it clips")
    e.need(node.str("direction") != "reverse", node, "it only runs backwards")
    e.need(not node.int("layout"), node, "its layout puts the batch first")
    e.need(
        node.attr("activation_alpha") is None and node.attr("activation_beta") is None,
        node,
        "its activations have parameters",
    )
    usual = tuple(a.lower() for a in cell.activations) * w.shape[0]
    plain = (activations(node) or usual)[: len(usual)] == usual
    e.need(plain or rectified(node, cell), node, "its activations are not the usual ones")
    if cell is LSTM:
        e.need(not node.int("input_forget"), node, "it couples input and forget gates")
    if cell is GRU:
        e.need(bool(node.int("linear_before_reset")), node, "it resets before the linear layer (linear_before_reset=0)")


def activations(node: Node) -> tuple[str, ...]:
    named = node.attr("activations")
    return tuple(str(a).lower() for a in named) if isinstance(named, tuple) else ()


def rectified(node: Node, cell: Cell) -> bool:
    """True for a simple recurrent layer whose activation is Relu, in each direction."""
    count = 2 if node.str("direction") == "bidirectional" else 1
    return cell is RNN and activations(node)[:count] == ("relu",) * count


def initial(layers: Sequence[Node], e: Emitter, cell: Cell) -> list[Piece]:
    """The initial states; a missing one of an LSTM's two is zero."""
    first = layers[0]
    given = [first.input(i) if len(layers) == 1 else common(layers, i) for i in (5, 6)[: cell.states]]
    if not any(given):
        return []
    states = [e.tensor(v) if v is not None else None for v in given]
    present = next(s for s in states if s is not None)
    full = [s if s is not None else call("torch.zeros_like", present) for s in states]
    return [tuple(full)] if cell.states == 2 else [full[0]]


def outputs(layers: Sequence[Node], e: Emitter, cell: Cell, value: Code, directions: int) -> Outputs:
    """Y is [length, directions, batch, hidden], PyTorch's sequence is [length, batch, directions * hidden]; its final
    states are those of all layers."""
    sequence, state = Variable("sequence"), Variable("state")
    e.assign([sequence, state], value)
    states = [form("{0}[0]", state), form("{0}[1]", state)] if cell.states == 2 else [code(state)]
    if len(layers) > 1:
        states = [whole for i, s in enumerate(states) if (whole := joined(layers, e, i + 1, s)) is not None]
    made: list[list[Code | None]] = []
    for k in range(len(layers)):
        span = (
            ""
            if len(layers) == 1
            else f"[{k * directions or ''}:{(k + 1) * directions if k + 1 < len(layers) else ''}]"
        )
        made.append([None, *(form(f"{{0}}{span}", s) if span else s for s in states)])
    made[-1][0] = laid_out(e, layers[-1].output, code(sequence), directions)
    for node, found in zip(layers[1:], made[1:], strict=True):
        e.bind(node, Outputs(found[: len(node.outputs)]))
    return Outputs(made[0][: len(layers[0].outputs)])


def joined(layers: Sequence[Node], e: Emitter, index: int, states: Code) -> Code | None:
    """The final states of all layers; where they only are joined, their Concat is done with."""
    parts = [n.outputs[index] for n in layers if index < len(n.outputs)]
    if len(parts) != len(layers):
        return states
    user = parts[0].only_user
    plain = user is not None and user.op == "Concat" and not user.domain and user.int("axis") == 0
    if plain and user is not None and list(user.inputs) == parts and all(p.only_user is user for p in parts):
        e.absorbed.add(user)
        e.assign([e.variable(user.output)], states)
    return states


def laid_out(e: Emitter, y: Value, sequence: Code, directions: int) -> Code | None:
    """The sequence with its axis of directions, which is left out where every user does away with it."""
    if directions == 2:
        perm = plainly_joined(y)
        if perm is None:
            return method(method(sequence, "unflatten", -1, (2, -1)), "transpose", 1, 2)
        moved = y.only_user
        assert moved is not None
        end = moved.output.only_user
        assert end is not None
        e.absorbed.update((moved, end))
        e.assign([e.variable(end.output)], sequence if perm == (0, 2, 1, 3) else method(sequence, "transpose", 0, 1))
        return None
    users = list(y.users)
    if users and all(u.op == "Squeeze" and e.static(u.input(1)) == (1,) for u in users):
        e.absorbed.update(users)
        e.assign([e.variable(users[0].output)], sequence)
        for user in users[1:]:
            e.alias(user.output, users[0].output)
        return None
    return method(sequence, "unsqueeze", 1)


def plainly_joined(y: Value) -> tuple[int, ...] | None:
    """How the axes are moved before the directions are joined with what each gives, where nothing else is done."""
    moved = y.only_user
    if moved is None or moved.op != "Transpose" or moved.domain or y.shape is None:
        return None
    perm, end, hidden = moved.ints("perm", ()), moved.output.only_user, y.shape[-1]
    if perm not in ((0, 2, 1, 3), (2, 0, 1, 3)) or end is None or end.op != "Reshape" or end.domain:
        return None
    known = end.output.shape is not None and isinstance(hidden, int) and end.output.shape[2:] == (2 * hidden,)
    return perm if known and end.operand(0) is moved.output else None


ROWS: dict[str, Row] = {"LSTM": recurrent(LSTM), "GRU": recurrent(GRU), "RNN": recurrent(RNN)}
