"""Rows for losses, which graphs made for training hold."""

from __future__ import annotations

from ...ir import Node
from .code import Code, Piece, call, method
from .emitter import Emitter, Outputs, Row


def loss_options(node: Node, e: Emitter) -> dict[str, Piece]:
    """weight, ignore_index and reduction where they are not PyTorch's defaults."""
    weight, ignored, reduction = node.input(2), node.attr("ignore_index"), node.str("reduction")
    options: dict[str, Piece] = {"weight": e.tensor(weight)} if weight is not None else {}
    if isinstance(ignored, int):
        options["ignore_index"] = ignored
    if reduction != "mean":
        options["reduction"] = reduction
    return options


def nll_loss(node: Node, e: Emitter) -> Code:
    """NegativeLogLikelihoodLoss-13: weighted means are divided by the sum of weights in both."""
    target = method(e.tensor(node.operand(1)), "long")
    return call("F.nll_loss", e.tensor(node.operand(0)), target, **loss_options(node, e))


def cross_entropy(node: Node, e: Emitter) -> Outputs:
    """SoftmaxCrossEntropyLoss-13: the loss and the logarithms of probabilities."""
    scores, target = e.tensor(node.operand(0)), method(e.tensor(node.operand(1)), "long")
    loss = call("F.cross_entropy", scores, target, **loss_options(node, e))
    return Outputs([loss, call("F.log_softmax", scores, dim=1)] if len(node.outputs) > 1 else [loss])


ROWS: dict[str, Row] = {"NegativeLogLikelihoodLoss": nll_loss, "SoftmaxCrossEntropyLoss": cross_entropy}
