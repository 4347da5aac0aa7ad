"""A model: a graph, the operator sets it uses, and what its file said about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from .graph import Graph
from .schemas import CANONICAL_OPSET


@dataclass
class Model:
    """A graph with its surroundings.

    `opset` maps domains to versions; "" (ai.onnx) is always the canonical one. `source_opset` is the ai.onnx version
    that the model came in (0: it did not come from ONNX); the ONNX backend goes back to it unless told otherwise.
    `metadata` is ONNX's metadata_props; `doc`, `producer`, `producer_version`, `domain` and `version` are the fields of
    the same meaning in ModelProto.
    """

    graph: Graph
    opset: dict[str, int] = field(default_factory=lambda: {"": CANONICAL_OPSET})
    source_opset: int = 0
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    doc: str = ""
    producer: str = ""
    producer_version: str = ""
    domain: str = ""
    version: int = 0

    def clone(self) -> Model:
        """An independent copy that shares tensors, types and locations; cheap enough to take before every pass."""
        return Model(
            self.graph.clone(), dict(self.opset), self.source_opset, dict(self.metadata), self.doc, self.producer,
            self.producer_version, self.domain, self.version,
        )  # fmt: skip

    def restore(self, snapshot: Model) -> None:
        """Goes back to what `snapshot = model.clone()` kept; the snapshot may be used again."""
        copy = snapshot.clone()
        self.__dict__.update(copy.__dict__)
