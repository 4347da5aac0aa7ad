"""Copies of models that yield inner values, and whose interface a runtime's Python binding can hold."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from ...ir import Array, DType, Model, Node, TensorType, Value, pairs
from ...ir.tensors import cast

CARRIERS = {
    **dict.fromkeys(
        (DType.BF16, DType.F8E4M3FN, DType.F8E4M3FNUZ, DType.F8E5M2, DType.F8E5M2FNUZ, DType.F4E2M1, DType.F8E8M0),
        DType.F32,
    ),
    **dict.fromkeys((DType.U4, DType.U2), DType.U8),
    **dict.fromkeys((DType.I4, DType.I2), DType.I8),
}
"""Element types that numpy does not have itself, and the next wider one, which holds all of their numbers exactly."""


@dataclass(frozen=True)
class Tapped:
    """A copy of a model with the tapped values as further outputs.

    `taps` has for each tap the name of its output, or a constant's numbers. `carried` says which inputs and outputs of
    the copy have a wider element type than they should have, and which one that is.
    """

    model: Model
    taps: list[str | Array]
    carried: dict[str, DType]


def tapped(model: Model, taps: Sequence[Value] = (), *, carry: bool = False) -> Tapped:
    """Copies a model so that `taps` are outputs too; with `carry` numpy has the types of all inputs and outputs.

    Raises ValueError for a tap that is not in the outermost graph.
    """
    copy = model.clone()
    names = _add_outputs(model, copy, taps)
    carried = _carry(copy) if carry else {}
    return Tapped(copy, [names[t] if t.const is None else t.const.numpy() for t in taps], carried)


def _add_outputs(model: Model, copy: Model, taps: Sequence[Value]) -> dict[Value, str]:
    """Makes the taps outputs of the copy and gives their names."""
    twins = pairs(model, copy)
    taken = {v.name for v in model.graph.inputs} | set(model.graph.output_names)
    names: dict[Value, str] = {}
    for tap in taps:
        if tap.const is not None or tap in names:
            continue
        if tap not in twins:
            raise ValueError(f"{tap!r} is no value of the outermost graph")
        names[tap] = free(f"tap_{len(names)}", taken)
    graph = copy.graph
    graph.set_outputs([*graph.outputs, *(twins[t] for t in names)], [*graph.output_names, *names.values()])
    return names


def free(name: str, taken: Container[str]) -> str:
    """The name, with underscores behind it where it is taken."""
    while name in taken:
        name += "_"
    return name


def _carry(model: Model) -> dict[str, DType]:
    graph = model.graph
    carried: dict[str, DType] = {}
    for value in graph.inputs:
        own = value.dtype
        if own not in CARRIERS or not isinstance(value.type, TensorType):
            continue
        carried[value.name] = own
        narrow = Value(value.name, value.type)
        value.replace_by(narrow)
        graph.insert(Node("Cast", [value], {"to": own.code}, [narrow]), graph.entry.next)
        value.type = value.type.with_dtype(CARRIERS[own])
        if value in graph.defaults:
            graph.defaults[value] = cast(graph.defaults[value], CARRIERS[own])
    outputs: list[Value] = []
    for value, name in zip(graph.outputs, graph.output_names, strict=True):
        own = value.dtype
        if own in CARRIERS and isinstance(value.type, TensorType):
            carried[name] = own
            wide = value.type.with_dtype(CARRIERS[own])
            outputs.append(graph.add("Cast", [value], {"to": CARRIERS[own].code}, [wide]).output)
        else:
            outputs.append(value)
    graph.outputs = outputs
    return carried
