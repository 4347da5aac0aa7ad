"""Operator schemas at the canonical opset, read from `onnx.defs`: arity, attributes and their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from onnx import defs

from .attributes import Attribute, EmptyList

CANONICAL_OPSET = 26
"""The newest ai.onnx opset that the pinned ONNX Runtime runs; every graph's operators are at it (see
`effective_version`).
"""

UNBOUNDED = 2**31 - 1


@dataclass(frozen=True)
class Schema:
    """What the rest of tersor needs to know of an operator.

    `attributes` maps each attribute to its kind ("INT", "FLOATS", "GRAPH", ...), `defaults` those with a default to it,
    `required` names those without which a node is invalid; `has_plain_attributes` says that none holds a tensor, graph
    or type. `optional_inputs[i]` says that input i may be missing.
    """

    name: str
    domain: str
    version: int
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    optional_inputs: tuple[bool, ...]
    optional_outputs: tuple[bool, ...]
    attributes: dict[str, str]
    defaults: dict[str, Attribute]
    required: frozenset[str]
    deterministic: bool
    has_body: bool
    has_plain_attributes: bool

    @property
    def variadic_outputs(self) -> bool:
        return self.outputs[1] >= UNBOUNDED

    def may_omit(self, index: int, attrs: Mapping[str, Attribute]) -> bool:
        """True where output `index` may be left out when nobody uses it."""
        if self.name == "BatchNormalization" and attrs.get("training_mode"):
            return False
        single = len(self.optional_outputs) - 1 if self.variadic_outputs else len(self.optional_outputs)
        return index < single and self.optional_outputs[index]


@lru_cache(maxsize=4096)
def lookup(op: str, domain: str = "", version: int | None = None) -> Schema | None:
    """The schema of an operator, or None for one that onnx does not define.

    Without a version this is the canonical one: ai.onnx at CANONICAL_OPSET (an operator that is newer than that at its
    own first version), other domains at their newest.
    """
    wanted = version or (CANONICAL_OPSET if domain in ("", "ai.onnx") else 2**30)
    try:
        schema = defs.get_schema(op, wanted, domain)
    except defs.SchemaError:
        if version is not None:
            return None
        try:
            schema = defs.get_schema(op, domain)
        except defs.SchemaError:
            return None
    return _convert(schema)


def effective_version(op: str, domain: str = "") -> int | None:
    """The `since_version` of the schema that `lookup` gives."""
    schema = lookup(op, domain)
    return None if schema is None else schema.version


def _convert(schema: Any) -> Schema:
    option = defs.OpSchema.FormalParameterOption
    kinds = {name: a.type.name for name, a in schema.attributes.items()}
    return Schema(
        name=schema.name,
        domain=schema.domain,
        version=schema.since_version,
        inputs=(schema.min_input, schema.max_input),
        outputs=(schema.min_output, schema.max_output),
        optional_inputs=tuple(p.option is not option.Single for p in schema.inputs),
        optional_outputs=tuple(p.option is not option.Single for p in schema.outputs),
        attributes=kinds,
        defaults={n: d for n, a in schema.attributes.items() if (d := _default(a)) is not None},
        required=frozenset(n for n, a in schema.attributes.items() if a.required),
        deterministic=bool(getattr(schema, "deterministic", True)) and schema.name not in _RANDOM,
        has_body=schema.has_function or schema.has_context_dependent_function,
        has_plain_attributes=_PLAIN.issuperset(kinds.values()),
    )


_PLAIN = frozenset(["INT", "FLOAT", "STRING", "INTS", "FLOATS", "STRINGS"])

_RANDOM = frozenset(
    ["RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"]
)


def _default(attribute: Any) -> Attribute | None:
    proto, kind = attribute.default_value, attribute.type.name
    if not proto.name and not proto.type:
        return None
    match kind:
        case "INT":
            return int(proto.i)
        case "FLOAT":
            return float(proto.f)
        case "STRING":
            return proto.s.decode("utf-8")
        case "INTS":
            return tuple(int(i) for i in proto.ints) or EmptyList("INTS")
        case "FLOATS":
            return tuple(float(f) for f in proto.floats) or EmptyList("FLOATS")
        case "STRINGS":
            return tuple(s.decode("utf-8") for s in proto.strings) or EmptyList("STRINGS")
        case _:
            return None
