"""Model-local functions: which body a call means, and what its names and attributes stand for inside.

Functions are always inlined. The bodies that ONNX itself gives for some of its operators are not: those stay operators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import AttributeProto, FunctionProto, NodeProto

from ...ir import InvalidModelError
from .scopes import Binding, Entry, Scope, entries, in_order

Key = tuple[str, str, str]


def domain_of(domain: str) -> str:
    """The domain with ONNX's own under one name."""
    return "" if domain == "ai.onnx" else domain


def imports_of(proto: onnx.ModelProto | FunctionProto) -> dict[str, int]:
    return {domain_of(o.domain): o.version for o in proto.opset_import}


class Functions:
    """The functions of one model, by domain, name and overload."""

    def __init__(self, protos: Sequence[FunctionProto]) -> None:
        self.known: dict[Key, FunctionProto] = {(domain_of(f.domain), f.name, f.overload): f for f in protos}
        self._bodies: dict[int, list[Entry]] = {}

    def find(self, node: NodeProto) -> FunctionProto | None:
        if not self.known:
            return None
        return self.known.get((domain_of(node.domain), node.op_type, node.overload))

    def body(self, function: FunctionProto, where: str) -> list[Entry]:
        """The nodes of a function, definitions before uses."""
        found = self._bodies.get(id(function))
        if found is None:
            found = in_order(entries(function.node), function.input, f"{where}, function {function.name!r}")
            self._bodies[id(function)] = found
        return found


def bound_attributes(function: FunctionProto, call: NodeProto, outer: Scope, inner: Scope) -> dict[str, Binding]:
    """What `@name` means in the body: the call's attribute, else the function's default, else nothing."""
    bound: dict[str, Binding] = {a.name: (a, inner) for a in function.attribute_proto}
    for attribute in call.attribute:
        given = dereference(attribute, outer)
        if given is not None:
            bound[attribute.name] = given
    return bound


def dereference(attribute: AttributeProto, scope: Scope) -> Binding | None:
    """The attribute itself, or what it refers to in the function around it; None where the function was called without it."""
    if not attribute.ref_attr_name:
        return attribute, scope
    return scope.bindings.get(attribute.ref_attr_name)


def check_call(function: FunctionProto, entry: Entry, imports: Mapping[str, int], where: str) -> None:
    """Raises InvalidModelError when a call has more operands or results than the function, or the body imports nothing."""
    if len(entry.inputs) > len(function.input) or len(entry.outputs) > len(function.output):
        raise InvalidModelError(
            f"a call does not fit the function {function.name!r}",
            where=where,
            why=f"it has {len(entry.inputs)} operands and {len(entry.outputs)} results, the function {len(function.input)} and {len(function.output)}",
        )
    if not imports:
        raise InvalidModelError(f"the function {function.name!r} does not say which opsets it uses", where=where)
