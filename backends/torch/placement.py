"""Where things go and what they are called: module paths, parameter names, variable hints and section headings.

Paths come from constants' names where these are state_dict keys, else from module scopes, else from the operator.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from ...ir import DType, Graph, Model, Node, Tensor, UnsupportedError, Value
from ...ir.tensors import Lazy, cast
from .names import identifier, is_component, path_of

Path = tuple[str, ...]

GENERATED = re.compile(
    r"(?:val|tmp|constant|const|initializer|input|_to_copy|_tensor_constant|lifted_tensor|node|onnx|arg|t|v|c)?_?\d*(?:_\d+)*\Z"
)
"""Names that tools make up for constants."""

OPERATION = re.compile(
    r"(?:unsqueeze|squeeze|expand|view|reshape|permute|transpose|clone|slice|select|gather|cat|stack|where|to|sum|full"
    r"|zeros|ones|arange|add|sub|mul|div|exp|and|or|not|ge|gt|le|lt|eq|ne)(?:_\d+)*\Z"
)
"""Names that PyTorch's tracer makes up from operators."""

PLAIN_LEAF = re.compile(
    r"(?:conv|bn|batch_?norm|norm|fc|linear|layer|ln|act|relu|pool|downsample|op|module|block|net)?\d*[a-z]?\Z"
)
"""Last components of module paths that say nothing about what the module's output means."""

WEIGHT_SUFFIX = re.compile(r"[._](?:weight|kernel|weights|w|W|scale|gamma)\Z")

PARAMETRIC = frozenset(
    [
        "Conv",
        "ConvTranspose",
        "MatMul",
        "Gemm",
        "Add",
        "Mul",
        "PRelu",
        "BatchNormalization",
        "LayerNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        "RMSNormalization",
        "LSTM",
        "GRU",
        "RNN",
        "Gather",
        "Concat",
        "Expand",
        "Einsum",
    ]
)
"""Operators whose constant float operands are trained."""

BIAS_SUFFIX = re.compile(r"[._](?:bias|b|B|beta)\Z")

VIEWS = frozenset(["transpose", "reshape", "slice", "broadcast"])
"""Functions of constants that cost nothing where they are computed again at each call."""

WIDER = {DType.I4: DType.I8, DType.I2: DType.I8, DType.U4: DType.U8, DType.U2: DType.U8}

OUTPUT_HINTS: dict[str, tuple[str, ...]] = {
    "Sigmoid": ("gate",), "HardSigmoid": ("gate",), "ReduceMean": ("mean",), "ArgMax": ("index",),
    "ArgMin": ("index",), "TopK": ("values", "indices"), "DynamicQuantizeLinear": ("levels", "scale", "zero_point"),
    "QuantizeLinear": ("levels",), "LSTM": ("sequence", "hidden", "cell"), "GRU": ("sequence", "hidden"),
    "RNN": ("sequence", "hidden"), "Equal": ("mask",), "Less": ("mask",), "LessOrEqual": ("mask",),
    "Greater": ("mask",), "GreaterOrEqual": ("mask",), "And": ("mask",), "Or": ("mask",), "Not": ("mask",),
    "Split": ("part",), "Range": ("positions",), "CumSum": ("positions",), "NonZero": ("positions",),
    "Softmax": ("weights",),
}  # fmt: skip

CONSTANT_HINTS = {
    "Add": "offset",
    "Sub": "offset",
    "Mul": "factor",
    "Div": "divisor",
    "MatMul": "weight",
    "Gemm": "weight",
    "Gather": "table",
}


class Placement:
    """Naming decisions for one model."""

    def __init__(self, model: Model) -> None:
        self.named = model.source_opset == 0
        self.keys: dict[int, list[str]] = {}
        for key, tensor in model.keys.items():
            self.keys.setdefault(id(tensor), []).append(key)
        self.buffers = {id(tensor) for key, tensor in model.keys.items() if key in model.buffers}
        self.outputs = dict(zip(model.graph.outputs, model.graph.output_names, strict=True))
        self.wide: dict[int, tuple[Tensor, Tensor]] = {}
        self.populations = Counter(module for node in model.graph.walk() for module in modules_around(scope_of(node)))
        """How many nodes stand in each module, those in its children included."""

    # Constants

    def is_named(self, value: Value) -> bool:
        """True when a constant's name is a state_dict key that must stay as it is."""
        path = path_of(value.name)
        return path is not None and (len(path) > 1 or self.named) and not GENERATED.match(value.name.lower())

    def constant(self, value: Value) -> Path:
        """The path of a parameter or buffer of its own."""
        path = path_of(value.name)
        traced = self.named and OPERATION.match(value.name) and id(value.const) not in self.keys
        if path is not None and not GENERATED.match(value.name.lower()) and not traced:
            return path
        user = next(iter(value.users), None)
        stem = CONSTANT_HINTS.get(user.op, "constant") if user is not None else "constant"
        human = (
            value.name
            and not traced
            and not re.search(r"[:/]|^\W*\d", value.name)
            and not GENERATED.match(value.name.lower())
        )
        return (module_name(value.name, stem),) if human else (stem,)

    def trainable(self, value: Value) -> bool:
        """Whether a constant is a parameter: one of the model's own, or what depends on one; without a state_dict
        floats that serve as weights, biases or embeddings, not as masks."""
        tensor = value.tensor
        if self.keys:
            known = {id(t) for t in self.origins(tensor)} or {i for i, k in self.keys.items() if value.name in k}
            return tensor.dtype.is_float and not known <= self.buffers
        serves = any(u.op in PARAMETRIC for u in value.users) or value.name.endswith((".weight", ".bias"))
        if not tensor.dtype.is_float or tensor.count < 2 or not serves:
            return False
        return tensor.count > 1 << 20 or bool(np.all(np.abs(tensor.numpy().astype(np.float64)) < 1e4))

    def origins(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of the model's own state_dict that a constant depends on."""
        if id(tensor) in self.keys:
            return [tensor]
        return [t for o in tensor.operands for t in self.origins(o)] if isinstance(tensor, Lazy) else []

    def viewed(self, tensor: Tensor | None) -> Tensor | None:
        """The tensor of the model's own state_dict that a constant shows in another shape or in part."""
        while isinstance(tensor, Lazy) and tensor.function in VIEWS and id(tensor) not in self.keys:
            tensor = tensor.operands[0]
        return tensor if id(tensor) in self.keys else None

    def in_use(self, graph: Graph) -> set[int]:
        """The identities of those that the graph still has, whole or in view: what pruning made smaller takes over the
        names of others.
        """
        shown = (self.viewed(v.const) for v in graph.constants())
        return {id(tensor) for tensor in shown if tensor is not None}

    def fits(self, tensors: Mapping[str, Tensor]) -> bool:
        """False where a module with these tensors would give some of the model's own another key or shape."""
        stems: list[set[str]] = []
        for name, tensor in tensors.items():
            keys = self.keys.get(id(tensor))
            if keys is None and self.viewed(tensor) is not None:
                return False
            if keys is not None:
                stems.append({k[: -len(name) - 1] for k in keys if k.endswith(f".{name}")})
        return not stems or bool(set.intersection(*stems))

    def widened(self, tensor: Tensor) -> Tensor:
        """A tensor of 2- or 4-bit integers as bytes. Raises UnsupportedError for other types that PyTorch lacks."""
        if tensor.dtype not in WIDER:
            raise UnsupportedError(
                f"a constant of type {tensor.dtype.label} cannot be emitted as PyTorch", why="PyTorch has no such type"
            )
        key = id(tensor)
        if key not in self.wide:
            self.wide[key] = (tensor, cast(tensor, WIDER[tensor.dtype]))
        return self.wide[key][1]

    # Modules

    def module(self, node: Node, weight: Value | None, default: str, bias: Value | None = None) -> Path:
        """The path of a module: its weight's or bias's name without the last part, the node's scope, or a default.

        A tied weight has several names, of which the one in the node's scope is meant.
        """
        scope = path_of(scope_of(node))
        tensor = weight.const if weight is not None else None
        if isinstance(tensor, Lazy) and tensor.function == "transpose":
            tensor = tensor.operands[0]
        if scope and f"{'.'.join(scope)}.weight" in self.keys.get(id(tensor), ()):
            return scope
        for value, suffix in ((weight, WEIGHT_SUFFIX), (bias, BIAS_SUFFIX)):
            stem = suffix.sub("", value.name) if value is not None else ""
            path = path_of(stem) if value is not None and stem != value.name else None
            if path is not None:
                return path
        return scope or (default,)

    def keeps_key(self, value: Value, leaf: str = "weight") -> bool:
        """False when a module would give the constant another state_dict key than the model's own."""
        path = path_of(value.name)
        return not self.is_named(value) or path is None or path[-1] == leaf

    def descriptive(self, leaf: str) -> bool:
        return not PLAIN_LEAF.match(leaf.lower())

    # Variables and sections

    def hint(self, output: Value, suggestion: str) -> tuple[str, bool]:
        """What a node's output would like to be called, and whether any short name will do."""
        if output in self.outputs and not GENERATED.match(self.outputs[output].lower()):
            return self.outputs[output], False
        if suggestion:
            return suggestion, False
        hints = OUTPUT_HINTS.get(output.op, ())
        return (hints[min(output.index, len(hints) - 1)], False) if hints else ("x", True)

    def section(self, node: Node) -> str:
        """The part of the model that a node belongs to: its scope up to the first index."""
        path = path_of(scope_of(node))
        if not path or len(path) < 2:
            return ""
        cut = next((i + 1 for i, name in enumerate(path) if name.isdigit()), 1)
        return ".".join(path[:cut])


def module_name(text: str, fallback: str) -> str:
    """An attribute name from a hint."""
    name = identifier(text, fallback)
    return name if is_component(name) else f"{name}_"


def modules_around(scope: str) -> Iterator[str]:
    """A module path and those of its containers."""
    parts = scope.split(".")
    return (".".join(parts[: i + 1]) for i in range(len(parts)))


def scope_of(node: Node) -> str:
    """The module path of a node: its scope, or what an exporter wrote into its name ("/layer1/layer1.0/conv1/Conv")."""
    if node.loc.scope:
        return node.loc.scope
    parts = node.loc.origin.split("/")
    if len(parts) < 3 or parts[0]:
        return ""
    path = ""
    for part in parts[1:-1]:
        if path and (part == path or part.startswith(path + ".")):
            path = part
        else:
            last = path.rsplit(".", 1)[-1]
            tail = part[len(last) :] if last and part.startswith(last + ".") else f".{part}"
            path = f"{path}{tail}" if path else part
    return path
