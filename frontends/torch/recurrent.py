"""LSTM, GRU and simple recurrent layers: one ONNX node per layer, with torch's gates in ONNX's order.

torch keeps the gates of LSTM as (input, forget, cell, output) and of GRU as (reset, update, new), ONNX wants (input,
output, forget, cell) and (update, reset, hidden). The rows of weights are permuted as lazy tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...ir import Size, Value
from .lowering import Lowering, Row, Rows, dtype_of, rank_of, shape_of, typed


@dataclass(frozen=True)
class Cell:
    """An ONNX recurrent operator: its name, where torch keeps each of its gates, and its fixed attributes."""

    name: str
    gates: tuple[int, ...]
    attrs: tuple[tuple[str, int], ...] = ()
    activation: str = ""


LSTM = Cell("LSTM", (0, 3, 1, 2))
GRU = Cell("GRU", (1, 0, 2), (("linear_before_reset", 1),))
TANH = Cell("RNN", (0,), activation="Tanh")
RELU = Cell("RNN", (0,), activation="Relu")


@dataclass(frozen=True)
class Layers:
    """A stack of recurrent layers as ATen describes it."""

    has_biases: bool
    count: int
    bidirectional: bool

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def stride(self) -> int:
        """Parameters per layer and direction."""
        return 4 if self.has_biases else 2


def recurrent(cell: Cell) -> Row:
    """GRU and RNN: (output, last hidden state)."""

    def row(
        op: Lowering, x: Value, hx: Value, params: Sequence[Value], has_biases: bool, num_layers: int, dropout: float,
        train: bool,
        bidirectional: bool, batch_first: bool,
    ) -> tuple[Value, ...]:  # fmt: skip
        return run(
            op,
            cell,
            x,
            [hx],
            params,
            Layers(has_biases, num_layers, bidirectional),
            dropout if train else 0,
            batch_first,
        )

    return row


def lstm(
    op: Lowering, x: Value, hx: Sequence[Value], params: Sequence[Value], has_biases: bool, num_layers: int,
    dropout: float,
    train: bool, bidirectional: bool, batch_first: bool,
) -> tuple[Value, ...]:  # fmt: skip
    """(output, last hidden state, last cell state)."""
    return run(
        op, LSTM, x, hx, params, Layers(has_biases, num_layers, bidirectional), dropout if train else 0, batch_first
    )


def run(
    op: Lowering, cell: Cell, x: Value, states: Sequence[Value], params: Sequence[Value], layers: Layers,
    dropout: float, batch_first: bool
) -> tuple[Value, ...]:  # fmt: skip
    if dropout:
        op.refuse_training()
    if len(params) != layers.count * layers.directions * layers.stride:
        op.decline("it projects its hidden state (proj_size), which ONNX cannot express")
    alone = rank_of(x) == 2
    if rank_of(states[0]) != rank_of(x):
        op.decline("its states do not have the rank of its input")
    if alone:
        x, states, batch_first = op.unsqueeze(x, [1]), [op.unsqueeze(s, [1]) for s in states], False
    sequence = op.Transpose(x, perm=[1, 0, 2]) if batch_first else x
    length, batch = (shape_of(x)[i] for i in ((1, 0) if batch_first else (0, 1)))
    last: list[list[Value]] = [[] for _ in states]
    for layer in range(layers.count):
        weights = params[layer * layers.directions * layers.stride :][: layers.directions * layers.stride]
        hidden = op.ints(shape_of(weights[1])[1])[0]
        initial = [initial_state(op, s, layer, layers) for s in states]
        y, *ends = op.call_many(
            cell.name, 1 + len(states), sequence, *operands(op, cell, weights, layers), *trailing(initial),
            **attributes(cell, hidden, layers),
        )  # fmt: skip
        for found, end in zip(last, ends, strict=True):
            found.append(end)
        sequence = joined(op, y, [length, batch, layers.directions * hidden], x)
    output = op.Transpose(sequence, perm=[1, 0, 2]) if batch_first else sequence
    finals = [parts[0] if len(parts) == 1 else op.Concat(*parts, axis=0) for parts in last]
    if alone:
        shapes = [[*(t.shape or ())[:1], 1, *(t.shape or ())[1:]] for t in op.outs]
        return tuple(op.squeeze(typed(v, dtype_of(x), s), [1]) for v, s in zip((output, *finals), shapes, strict=True))
    return output, *finals


def attributes(cell: Cell, hidden: int, layers: Layers) -> dict[str, object]:
    out: dict[str, object] = {"hidden_size": hidden, **dict(cell.attrs)}
    if layers.bidirectional:
        out["direction"] = "bidirectional"
    if cell.activation == "Relu":
        out["activations"] = [cell.activation] * layers.directions
    return out


def operands(op: Lowering, cell: Cell, weights: Sequence[Value], layers: Layers) -> list[Value | None]:
    """W [directions, gates * hidden, in], R [directions, gates * hidden, hidden], B [directions, 2 * gates * hidden],
    lengths."""
    with op.computing():
        return packed(op, cell, weights, layers)


def packed(op: Lowering, cell: Cell, weights: Sequence[Value], layers: Layers) -> list[Value | None]:
    """The same, for constant weights as expressions over them."""
    size = op.ints(shape_of(weights[1])[1])[0]
    rows = np.concatenate([np.arange(g * size, (g + 1) * size) for g in cell.gates])
    parts = [
        [gate_rows(op, w, rows) for w in weights[d * layers.stride :][: layers.stride]]
        for d in range(layers.directions)
    ]
    wide = [over_directions(op, [p[i] for p in parts]) for i in range(2)]
    if not layers.has_biases:
        return [*wide, None, None]
    biases = [typed(op.Concat(p[2], p[3], axis=0), dtype_of(p[2]), [2 * len(rows)]) for p in parts]
    return [*wide, over_directions(op, biases), None]


def gate_rows(op: Lowering, weight: Value, rows: np.ndarray) -> Value:
    if (rows == np.arange(rows.size)).all():
        return weight
    return typed(op.Gather(weight, rows, axis=0), dtype_of(weight), shape_of(weight))


def over_directions(op: Lowering, parts: Sequence[Value]) -> Value:
    wide = [op.unsqueeze(p, [0]) for p in parts]
    return wide[0] if len(wide) == 1 else op.Concat(*wide, axis=0)


def initial_state(op: Lowering, state: Value, layer: int, layers: Layers) -> Value | None:
    """The rows of one layer in the initial state [layers * directions, batch, hidden]; nothing where it is known to be
    0."""
    if is_zero(state):
        return None
    if layers.count == 1:
        return state
    first = layer * layers.directions
    return op.Slice(state, [first], [first + layers.directions], [0])


def is_zero(x: Value) -> bool:
    if x.const is not None:
        return x.const.count <= 1 << 20 and not x.const.numpy().any()
    if x.node is not None and x.op == "ConstantOfShape":
        filler = x.node.attrs.get("value")
        return filler is None or not filler.numpy().any()  # pyright: ignore[reportAttributeAccessIssue]
    return False


def trailing(values: Sequence[Value | None]) -> list[Value | None]:
    """Operands at the end of a list: none at all where all are missing."""
    return list(values) if any(v is not None for v in values) else []


def joined(op: Lowering, y: Value, shape: Sequence[Size], like: Value) -> Value:
    """Y [length, directions, batch, hidden] as [length, batch, directions * hidden]."""
    length, batch, width = shape
    if y.node is not None and "direction" not in y.node.attrs:
        typed(y, dtype_of(like), [length, 1, batch, width])
        return op.squeeze(y, [1])
    directions = typed(op.Transpose(y, perm=[0, 2, 1, 3]), dtype_of(like), [length, batch, 2, width // 2])
    return op.reshape(directions, shape)


def lstm_cell(
    op: Lowering, x: Value, hx: Sequence[Value], w_ih: Value, w_hh: Value, b_ih: Value | None = None,
    b_hh: Value | None = None
) -> tuple[Value, ...]:  # fmt: skip
    """One step: (hidden state, cell state)."""
    return step(op, LSTM, x, hx, [w_ih, w_hh, b_ih, b_hh])


def cell_row(cell: Cell) -> Row:
    """One step of GRU and RNN: the hidden state."""
    return lambda op, x, hx, w_ih, w_hh, b_ih=None, b_hh=None: step(op, cell, x, [hx], [w_ih, w_hh, b_ih, b_hh])[0]


def step(
    op: Lowering, cell: Cell, x: Value, states: Sequence[Value], params: Sequence[Value | None]
) -> tuple[Value, ...]:
    """A sequence of length 1; gives the states after it."""
    given = [p for p in params if p is not None]
    wide = [op.unsqueeze(s, [0]) for s in states]
    _, *last = run(op, cell, op.unsqueeze(x, [0]), wide, given, Layers(len(given) == 4, 1, False), 0, False)
    return tuple(op.squeeze(typed(s, dtype_of(x), [1, *op.out_shape]), [0]) for s in last)


ROWS: Rows = {
    "aten.lstm_cell.default": lstm_cell, "aten.gru_cell.default": cell_row(GRU),
    "aten.rnn_tanh_cell.default": cell_row(TANH), "aten.rnn_relu_cell.default": cell_row(RELU),
    "aten.lstm.input": lstm, "aten.gru.input": recurrent(GRU), "aten.rnn_tanh.input": recurrent(TANH),
    "aten.rnn_relu.input": recurrent(RELU),
}  # fmt: skip
