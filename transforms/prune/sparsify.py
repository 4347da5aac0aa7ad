"""The pass `sparsify`: single weights become zero, anywhere or N of every M along what a layer reads.

The tensors keep their shape. ONNX Runtime multiplies the zeros like other numbers, so nothing gets faster there; files
become smaller, and other runtimes and accelerators use the patterns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ...ir import Array, Model, Node, UsageError, Value
from ...ir.tensors import sparse
from ..base import Context, Contract, Decision, Outcome, Pass
from ..matrices import input_axis, matrix, set_matrix
from ..select import Selection
from .compensate import Offset, correct_bias
from .obs import damped
from .statistics import Calibration, Moments, Watch

PATTERN = re.compile(r"(\d+):(\d+)\Z")
STORED = ("sparse", "dense")
BLOCK = 128
"""Columns whose weights compete with each other, where there is no pattern."""


def store_sparse(node: Node) -> bool:
    """Keeps the node's weight as a sparse tensor, where that is smaller in a file."""
    old = node.operand(1)
    made = sparse(old.tensor)
    if made is not None:
        node.set_input(1, Value(old.name, old.type, const=made))
    return made is not None


@dataclass(frozen=True)
class Sparsify(Pass):
    """Zeros in the weights of convolutions and matrix products.

    `ratio` is the share of each layer's weights that become zero, or `pattern` such as "2:4": of every 4 weights that
    follow each other along the inputs of an output, 2 become zero. Without calibration data the smallest ones go. With
    it a weight's score is what its layer's outputs lose, and the weights that come after it make up for that
    (SparseGPT; Frantar and Alistarh, ICML 2023). Only layers that match `only` and not `skip` are changed.

    Where `stored` is "sparse", weights that make an ONNX file smaller so become sparse initializers: those of single
    precision from two thirds of zeros on.
    """

    name: ClassVar[str] = "sparsify"
    contract: ClassVar[Contract] = "approximate"

    ratio: float = 0.5
    pattern: str = ""
    stored: Literal["sparse", "dense"] = "sparse"
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.ratio < 1:
            what = f"sparsify(ratio={self.ratio}) is out of range"
            raise UsageError(what, do="give a share from 0 up to, not including, 1")
        found = PATTERN.match(self.pattern)
        if self.pattern and (found is None or not 0 < int(found[1]) < int(found[2])):
            raise UsageError(
                f"sparsify(pattern={self.pattern!r}) is no pattern", do='give zeros:weights, such as "2:4"'
            )

        if self.stored not in STORED:
            raise UsageError(f"sparsify(stored={self.stored!r}) is unknown", do=f"there are {', '.join(STORED)}")

    def run(self, model: Model, context: Context) -> Outcome:
        """Raises UsageError where calibration data does not fit."""
        selection = Selection(model.graph, self.only, self.skip)
        nodes = [n for n in model.graph if input_axis(n) is not None]
        chosen = [n for n in nodes if not selection.reason(n) and len(n.operand(1).users) == 1]
        moments: list[Moments | None] = [None] * len(chosen)
        if context.samples is not None:
            data = Calibration(context.samples, context.progress, context.seed)
            moments[:] = data.moments(model, [Watch(n, n.output) for n in chosen])
        zeros = total = sparse_ones = 0
        decisions: list[Decision] = []
        for node, found in zip(chosen, moments, strict=True):
            weight = matrix(node)
            grams = [None] * len(weight) if found is None else damped(found.gram(Offset.of(node) is not None))
            made = np.stack([self.thinned(part, gram) for part, gram in zip(weight, grams, strict=True)])
            set_matrix(node, made)
            sparse_ones += self.stored == "sparse" and store_sparse(node)
            if found is not None:
                correct_bias(node, found)
            count = int((made == 0).sum())
            zeros, total = zeros + count, total + made.size
            decisions.append(Decision.of(node, f"{count / made.size:.0%} zeros", f"{count} of {made.size} weights"))
        others = [n for n in nodes if n not in set(chosen)]
        decisions += [Decision.of(n, "kept", selection.reason(n) or "its weight is shared") for n in others]
        note = f"{zeros:,} of {total:,} weights of {len(chosen)} layers are zero; ONNX Runtime is no faster for it"
        kept_as = f"{sparse_ones} of the layers' weights are stored as sparse initializers"
        return Outcome(changed=len(chosen), decisions=decisions, notes=[note, *([kept_as] if sparse_ones else [])])

    def thinned(self, weight: Array, gram: Array | None) -> Array:
        """A weight [outputs, columns] with zeros, given the Gram matrix of what it reads."""
        if gram is None:
            return np.where(self.losers(np.square(weight)), 0, weight)
        # The upper factor U with H^-1 = U^T U: its row i is how later columns make up for column i (as in GPTQ).
        upper = np.linalg.cholesky(np.linalg.inv(gram)).T
        work = weight.copy()
        width = self.width(work.shape[1])
        for start in range(0, work.shape[1], width):
            block = slice(start, min(start + width, work.shape[1]))
            gone = self.losers(np.square(work[:, block] / np.diagonal(upper)[block]))
            for column in range(block.start, block.stop):
                dead = gone[:, column - start]
                error = np.where(dead, work[:, column], 0) / upper[column, column]
                work[:, column + 1 :] -= np.outer(error, upper[column, column + 1 :])
                work[dead, column] = 0
        return work

    def width(self, columns: int) -> int:
        """Columns that are decided about at a time: whole patterns."""
        every = int(self.pattern.split(":")[1]) if self.pattern else 1
        return min(columns, BLOCK // every * every or every)

    def losers(self, scores: Array) -> NDArray[np.bool_]:
        """Which of the weights [outputs, columns] become zero, the lowest scores first; a rest of a pattern stays."""
        gone = np.zeros(scores.shape, np.bool_)
        if not self.pattern:
            order = np.argsort(scores, axis=None, kind="stable")[: int(self.ratio * scores.size + 1e-9)]
            gone.reshape(-1)[order] = True
            return gone
        zeros, every = map(int, self.pattern.split(":"))
        whole = scores.shape[1] // every * every
        parts = scores[:, :whole].reshape(len(scores), -1, every)
        ranks = np.argsort(np.argsort(parts, axis=2, kind="stable"), axis=2, kind="stable")
        gone[:, :whole] = (ranks < zeros).reshape(len(scores), whole)
        return gone
