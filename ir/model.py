"""A model: a graph, the operator sets it uses, and what its file said about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from .graph import Graph, Value
from .schemas import CANONICAL_OPSET
from .state import StateDict, load
from .tensors import Tensor


@dataclass
class Model:
    """A graph with its surroundings.

    `opset` maps domains to versions; "" (ai.onnx) is always the canonical one. `source_opset` is the ai.onnx version
    that the model came in (0: it did not come from ONNX); the ONNX backend goes back to it unless told otherwise.
    `metadata` is ONNX's metadata_props; `doc`, `producer`, `producer_version`, `domain` and `version` are the fields of
    the same meaning in ModelProto. `keys` are the tensors by state_dict key of the PyTorch module that the model came
    from, `emitted` those of the module that was emitted last; both stay connected to the constants made from them.
    `constants` are the keys of emitted buffers that the original has not and a state_dict may lack. `buffers` are the
    keys that are no parameters, `classes` the names of the modules' classes by path.
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
    keys: dict[str, Tensor] = field(default_factory=dict[str, Tensor], repr=False, compare=False)
    emitted: dict[str, Tensor] = field(default_factory=dict[str, Tensor], repr=False, compare=False)
    buffers: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    constants: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    classes: dict[str, str] = field(default_factory=dict[str, str], repr=False, compare=False)

    def clone(self) -> Model:
        """An independent copy that shares tensors, types and locations; cheap enough to take before every pass."""
        return Model(
            self.graph.clone(), dict(self.opset), self.source_opset, dict(self.metadata), self.doc, self.producer,
            self.producer_version, self.domain, self.version, dict(self.keys),
            dict(self.emitted), self.buffers, self.constants, dict(self.classes),
        )  # fmt: skip

    def restore(self, snapshot: Model) -> None:
        """Goes back to what `snapshot = model.clone()` kept; the snapshot may be used again."""
        copy = snapshot.clone()
        self.__dict__.update(copy.__dict__)

    def load_weights(self, weights: StateDict) -> None:
        """Takes over trained weights: a state_dict, or a safetensors file of one, with all keys and no others.

        These are the keys of the module that was emitted last (`emit_pytorch`, `to_torch`), or those of the module that
        the model was made from. Transposed, sliced and reordered parameters go where they came from, and constants
        that were computed from them are computed again. Counters of batches are not needed. Raises UsageError, and
        changes nothing, for unknown or missing keys, for another shape or element type, for tied parameters that have
        become two, and for a parameter that the graph does not depend on any more.
        """
        self.emitted, self.keys = load(self.graph, (self.emitted, self.keys), weights, self.constants)


def pairs(model: Model, copy: Model) -> dict[Value, Value]:
    """The values of the outermost graph of a model and what they are in a copy of it."""
    found = dict[Value, Value]()
    for old, new in zip((model.graph.entry, *model.graph), (copy.graph.entry, *copy.graph), strict=True):
        found.update(zip(old.outputs, new.outputs, strict=True))
    return found
