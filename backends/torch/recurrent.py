"""Rows for LSTM, GRU and RNN with constant weights, as nn.LSTM, nn.GRU and nn.RNN of one layer.

ONNX stacks the gates of W, R and B per direction in another order than PyTorch; the weights are reordered, not the
computation.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ir import Node, Tensor, Value
from ...ir.tensors import Lazy, reshape, take
from .code import Code, Piece, Variable, call, code, form, method
from .emitter import Emitter, Outputs, Row, float_type


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


def weights(cell: Cell, w: Tensor, r: Tensor, b: Tensor | None, hidden: int) -> dict[str, Tensor]:
    """PyTorch's parameters by name."""
    made: dict[str, Tensor] = {}
    height = len(cell.gates) * hidden
    for direction in range(w.shape[0]):
        end = "_l0_reverse" if direction else "_l0"
        made["weight_ih" + end] = reordered(part(w, direction), cell, hidden)
        made["weight_hh" + end] = reordered(part(r, direction), cell, hidden)
        if b is not None:
            both = part(b, direction)
            made["bias_ih" + end] = reordered(rows(both, 0, height), cell, hidden)
            made["bias_hh" + end] = reordered(rows(both, height, 2 * height), cell, hidden)
    return made


def recurrent(cell: Cell) -> Row:
    def row(node: Node, e: Emitter) -> Outputs:
        held = constant_weights(node, e)
        check(node, e, cell, held[0])
        hidden, directions = held[1].shape[-1], held[0].shape[0]
        options: dict[str, Piece] = {} if held[2] is not None else {"bias": False}
        if directions == 2:
            options["bidirectional"] = True
        options.update(float_type(held[0].dtype))
        made = call(cell.name, held[0].shape[-1], hidden, **options)
        shared = {"W": held[0], "R": held[1], **({"B": held[2]} if held[2] is not None else {})}
        path = e.placement.module(node, None, cell.name[3:].lower())
        module = e.module(node, made, weights(cell, *held, hidden), shared, path)
        e.suggestion = ""
        return outputs(
            node,
            e,
            cell,
            call(module, e.tensor(node.operand(0)), *initial(node, e, cell, hidden, directions)),
            directions,
        )

    return row


def constant_weights(node: Node, e: Emitter) -> tuple[Tensor, Tensor, Tensor | None]:
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
    named = node.attr("activations")
    usual = tuple(a.lower() for a in cell.activations) * w.shape[0]
    found = tuple(str(a).lower() for a in named) if isinstance(named, tuple) else usual
    e.need(found[: len(usual)] == usual, node, "its activations are not the usual ones")
    if cell is LSTM:
        e.need(not node.int("input_forget"), node, "it couples input and forget gates")
    if cell is GRU:
        e.need(bool(node.int("linear_before_reset")), node, "it resets before the linear layer (linear_before_reset=0)")


def initial(node: Node, e: Emitter, cell: Cell, hidden: int, directions: int) -> list[Piece]:
    """The initial states; a missing one of an LSTM's two is zero."""
    given = [node.input(5), node.input(6)][: cell.states]
    if not any(given):
        return []
    states = [e.tensor(v) if v is not None else None for v in given]
    present = next(s for s in states if s is not None)
    full = [s if s is not None else call("torch.zeros_like", present) for s in states]
    return [tuple(full)] if cell.states == 2 else [full[0]]


def outputs(node: Node, e: Emitter, cell: Cell, value: Code, directions: int) -> Outputs:
    """Y is [length, directions, batch, hidden], PyTorch's sequence is [length, batch, directions * hidden]."""
    sequence, state = Variable("sequence"), Variable("state")
    e.assign([sequence, state], value)
    states = [form("{0}[0]", state), form("{0}[1]", state)] if cell.states == 2 else [code(state)]
    made: list[Code | None] = [laid_out(e, node.output, code(sequence), directions), *states]
    return Outputs(made[: len(node.outputs)])


def laid_out(e: Emitter, y: Value, sequence: Code, directions: int) -> Code | None:
    """The sequence with its axis of directions, which is left out where every user squeezes it away."""
    if directions == 2:
        return method(method(sequence, "unflatten", -1, (2, -1)), "transpose", 1, 2)
    users = list(y.users)
    if users and all(u.op == "Squeeze" and e.static(u.input(1)) == (1,) for u in users):
        e.absorbed.update(users)
        e.assign([e.variable(users[0].output)], sequence)
        for user in users[1:]:
            e.alias(user.output, users[0].output)
        return None
    return method(sequence, "unsqueeze", 1)


ROWS: dict[str, Row] = {"LSTM": recurrent(LSTM), "GRU": recurrent(GRU), "RNN": recurrent(RNN)}
