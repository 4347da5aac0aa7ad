"""Model-local functions: which body a call means, and what its names and attributes stand for inside.

Functions are always inlined. The bodies that ONNX itself gives for some of its operators are not: those stay operators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import AttributeProto, FunctionProto, NodeProto

from ...ir import InvalidModelError
from .scopes import Binding, Entry, Scope, domain_of, entries, in_order
from .strings import text, texts

Key = tuple[str, str, str]


def imports_of(proto: onnx.ModelProto | FunctionProto) -> dict[str, int]:
    return {domain_of(o): o.version for o in proto.opset_import}


class Functions:
    """The functions of one model, by domain, name and overload."""

    def __init__(self, protos: Sequence[FunctionProto]) -> None:
        self.known: dict[Key, FunctionProto] = {(domain_of(f), text(f.name), text(f.overload)): f for f in protos}
        self._bodies: dict[int, list[Entry]] = {}

    def find(self, entry: Entry) -> FunctionProto | None:
        if not self.known:
            return None
        return self.known.get((entry.domain, entry.op, text(entry.proto.overload)))

    def body(self, function: FunctionProto, where: object) -> list[Entry]:
        """The nodes of a function, definitions before uses."""
        found = self._bodies.get(id(function))
        if found is None:
            file = f"{where}, function {text(function.name)!r}"
            found = in_order(entries(function.node, file), texts(function.input))
            self._bodies[id(function)] = found
        return found


def bound_attributes(function: FunctionProto, call: NodeProto, outer: Scope, inner: Scope) -> dict[str, Binding]:
    """What `@name` means in the body: the call's attribute, else the function's default, else nothing."""
    bound: dict[str, Binding] = {text(a.name): (a, inner) for a in function.attribute_proto}
    for attribute in call.attribute:
        given = dereference(attribute, outer)
        if given is not None:
            bound[text(attribute.name)] = given
    return bound


def dereference(attribute: AttributeProto, scope: Scope) -> Binding | None:
    """The attribute itself, or what it refers to in the call around it; None where the call does not set it."""
    if not attribute.ref_attr_name:
        return attribute, scope
    return scope.bindings.get(text(attribute.ref_attr_name))


def check_call(function: FunctionProto, entry: Entry, imports: Mapping[str, int], where: object) -> None:
    """Raises InvalidModelError when a call has more operands or results than its function, or the body no opset."""
    if len(entry.inputs) > len(function.input) or len(entry.outputs) > len(function.output):
        raise InvalidModelError(
            f"a call does not fit the function {text(function.name)!r}",
            where=where,
            why=f"it has {len(entry.inputs)} operands and {len(entry.outputs)} results, "
            f"the function {len(function.input)} and {len(function.output)}",
        )
    if not imports:
        raise InvalidModelError(f"the function {text(function.name)!r} does not say which opsets it uses", where=where)
