"""The layers that quantization decides about, and the rows of the per-layer table that come of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ...ir import Node
from ..base import Decision, Rounded
from .accumulated import Reached
from .layers import QUANTIZED, Integer


@dataclass(frozen=True)
class Measured:
    """Per layer the SQNR of its result with that of the layers before it, and how it is rounded; the layers that int8
    would make `slower`, each with the reason, what int8 would take of those that the user left `aside`, and what the
    network's outputs keep.
    """

    noise: Mapping[Node, float]
    rows: Mapping[Node, Rounded]
    slower: Mapping[Node, str] = field(default_factory=dict[Node, str])
    aside: Mapping[Node, str] = field(default_factory=dict[Node, str])
    outputs: Sequence[Reached] = ()


class Candidate:
    """A layer as it was before the pass: `layer` is None where it stays float, and `why` says so; it is None, too, for
    a `recurrent` one that is quantized. `spared` is what int8 could have had, but for the user.
    """

    def __init__(
        self, node: Node, why: str, layer: Integer | None, *, recurrent: bool = False, spared: Integer | None = None
    ) -> None:
        self.node, self.layer, self.recurrent, self.spared = node, layer, recurrent, spared
        self.kept = Decision.of(node, "int8" if why == QUANTIZED else "fp32", why)

    def row(self, measured: Measured, why_float: str = "") -> Decision:
        """The decision, with what was measured of the layer."""
        if self.layer is None and not self.recurrent:
            said = measured.aside.get(self.node, "")
            return replace(self.kept, reason=f"{self.kept.reason}; int8 takes {said}" if said else self.kept.reason)
        if why_float:
            return replace(self.kept, reason=why_float)
        noise, row = measured.noise.get(self.node), measured.rows.get(self.node)
        return replace(self.kept, decision="int8", reason="", sqnr_db=noise, rounded=row)
