"""Models that compute in bfloat16, for which ONNX Runtime has no kernels on the CPU: run in 32 bits, with every value
rounded.

That is what hardware with bfloat16 does: products are added up in 32 bits, and what a node gives is rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...ir import Array, DType, Graph, Model, Node, TensorType, Value, constant, pairs
from ...ir.tensors import cast
from .base import Feeds
from .ort import OrtRunner


def runner_of(model: Model, *, taps: Sequence[Value] = (), optimize: bool = True, once: bool = False) -> OrtRunner:
    """A runner of the model in ONNX Runtime: a `RoundedRunner` where that has no kernels for bfloat16."""
    kind = RoundedRunner if computes_in_bfloat16(model) else OrtRunner
    return kind(model, taps=taps, optimize=optimize, once=once)


def computes_in_bfloat16(model: Model) -> bool:
    """True where more than Casts takes or gives bfloat16."""
    return any(is_narrow(v) for g in model.graph.graphs() for n in g if n.op != "Cast" for v in (*n.inputs, *n.outputs))


def is_narrow(value: Value | None) -> bool:
    """True for a tensor in bfloat16."""
    return value is not None and value.dtype is DType.BF16


class RoundedRunner(OrtRunner):
    """Runs a copy of the model in 32 bits that rounds each value which is bfloat16 in the model; its time says nothing.

    Raises as `OrtRunner` does.
    """

    def __init__(self, model: Model, *, taps: Sequence[Value] = (), optimize: bool = True, once: bool = False) -> None:
        copy = model.clone()
        twins = pairs(model, copy)
        outputs = zip(model.graph.output_names, model.graph.outputs, strict=True)
        self._narrow = {name for name, value in outputs if is_narrow(value)}
        rounded = widen(copy)
        taps = [t if t.const is not None else rounded.get(twins[t], twins[t]) for t in taps]
        super().__init__(copy, taps=taps, optimize=optimize, once=once)

    def _run(self, names: list[str], feeds: Feeds) -> list[Array]:
        wide = {n: a.astype("f") if getattr(a, "dtype", None) == DType.BF16.numpy else a for n, a in feeds.items()}
        found = super()._run(names, wide)
        return [a.astype(DType.BF16.numpy) if n in self._narrow else a for n, a in zip(names, found, strict=True)]


def widen(model: Model) -> dict[Value, Value]:
    """Changes a model that has values in bfloat16 into one in 32 bits that rounds them; what stands for each.

    What names the type that it makes (Cast, EyeLike) still makes bfloat16.
    """
    rounded: dict[Value, Value] = {}
    makers = {n for g in model.graph.graphs() for n in g if n.op == "Cast" or not any(map(is_narrow, n.inputs))}
    for value in filter(is_narrow, model.graph.constants()):
        value.replace_by(constant(cast(value.tensor, DType.F32), value.name))
    for graph in model.graph.graphs():
        graph.defaults = {v: cast(t, DType.F32) if is_narrow(v) else t for v, t in graph.defaults.items()}
        for node in (graph.entry, *list(graph)):
            for value in filter(is_narrow, node.outputs):
                if node in makers:
                    rounded[value] = _cast(graph, value, DType.F32, node)
                    continue
                assert isinstance(value.type, TensorType), "it is narrow"
                value.type = value.type.with_dtype(DType.F32)
                if node is not graph.entry or graph is model.graph:
                    narrow = _cast(graph, value, DType.BF16, node)
                    rounded[value] = _cast(graph, narrow, DType.F32, narrow.node or node)
    return rounded


def _cast(graph: Graph, value: Value, dtype: DType, maker: Node) -> Value:
    """Puts a Cast between a value and all that reads it."""
    assert isinstance(value.type, TensorType), "it has a precision"
    made = Value("", value.type.with_dtype(dtype))
    value.replace_by(made)
    graph.insert(Node("Cast", [value], {"to": dtype.code}, [made]), maker.next)
    return made
