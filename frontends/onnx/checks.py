"""Whether a node fits its operator as the file's own opset defines it: a fault here is in the file, not in tersor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from onnx import TensorProto, defs

from ...ir import Attribute, DType, InvalidModelError, Schema, TensorType, Type, UnsupportedError, Value, lookup
from ...ir.attributes import kind_of

_FIRST_EXPERIMENTS = frozenset(
    ["ATen", "Affine", "ConstantFill", "Crop", "DynamicSlice", "GRUUnit", "GivenTensorFill", "ImageScaler",
     "ParametricSoftplus", "Scale", "ScaledTanh"]
)  # fmt: skip
"""Operators that ONNX tried out and took back before 1.5."""


def schema_of(op: str, domain: str, imports: Mapping[str, int], where: object) -> Schema | None:
    """The operator's schema at the version that the file asks for; None for an operator of a domain that onnx does not
    define.

    Raises InvalidModelError for an ai.onnx operator that does not exist there, or a domain that the file does not
    import.
    """
    version = imports.get(domain)
    if version is None:
        raise InvalidModelError(
            f"the model uses {domain or 'ai.onnx'} operators and does not say which version",
            where=where,
            why=f"{op} is of the domain {domain or 'ai.onnx'}, for which there is no opset_import",
            do="add the import with onnx.helper.make_opsetid and save the model again",
        )
    schema = lookup(op, domain, version)
    if schema is not None or domain:
        return schema
    known = lookup(op)
    if known is not None:
        raise InvalidModelError(
            f"{op} is not an operator of opset {version}",
            where=where,
            why=f"it exists since opset {known.version}",
            do=f"export the model again with opset {known.version} or later",
        )
    if op in _FIRST_EXPERIMENTS:
        raise UnsupportedError(
            f"the operator {op} was taken out of ONNX", where=where, do="export the model again with a recent exporter"
        )
    raise InvalidModelError(
        f"the operator {op} is not known",
        where=where,
        why="ONNX has no operator of this name",
        do="give it the domain of its custom operator library, or replace it",
    )


def check_node(
    schema: Schema,
    operands: Sequence[object | None],
    outputs: int,
    *,
    attrs: Mapping[str, Attribute],
    regions: Sequence[str],
    where: object,
) -> None:
    """Raises InvalidModelError when operands, outputs or attributes are not those of the operator."""
    least, most = schema.inputs
    if not least <= len(operands) <= most:
        raise _misfit(schema, where, f"it has {len(operands)} operands, expected {_range(least, most)}")
    if None in operands:
        for index, operand in enumerate(operands[: len(schema.optional_inputs)]):
            if operand is None and not schema.optional_inputs[index]:
                raise _misfit(schema, where, f"operand {index} is missing and not optional")
    least, most = schema.outputs
    if not least <= outputs <= most:
        raise _misfit(schema, where, f"it has {outputs} outputs, expected {_range(least, most)}")
    for name, value in attrs.items():
        wanted = schema.attributes.get(name)
        if wanted is None:
            known = ", ".join(sorted(schema.attributes)) or "none"
            raise _misfit(schema, where, f"there is no attribute {name!r}; there are {known}")
        found = kind_of(value)
        if found != wanted and not (value == () and wanted.endswith("S")):
            raise _misfit(schema, where, f"attribute {name!r} is {found}, expected {wanted}")
    for name in sorted(schema.required):
        if name not in attrs and name not in regions:
            raise _misfit(schema, where, f"attribute {name!r} is missing")


def check_types(schema: Schema, operands: Sequence[Value | None], where: object) -> None:
    """Raises InvalidModelError when an operand has an element type that the operator does not take, or two operands
    that must have one element type have different ones.
    """
    dtypes = tuple([v.type.dtype if v is not None and isinstance(v.type, TensorType) else None for v in operands])
    wrong = _type_fault(schema.name, schema.domain, schema.version, dtypes)
    if wrong:
        raise _misfit(schema, where, wrong)


@lru_cache(maxsize=65536)
def _type_fault(op: str, domain: str, version: int, dtypes: tuple[DType | None, ...]) -> str:
    """What is wrong with the element types of operands, '' for nothing; None stands for one that is not known."""
    schema = defs.get_schema(op, version, domain)
    bound: dict[str, DType] = {}
    for index, dtype in enumerate(dtypes):
        formal = schema.inputs[min(index, len(schema.inputs) - 1)]
        if dtype is None:
            continue
        if f"tensor({_onnx_name(dtype)})" not in formal.types:
            return (
                f"operand {index} ({formal.name}) is {dtype.label}, which is none of {', '.join(sorted(formal.types))}"
            )
        # A literal type binds nothing, nor does a list whose elements may differ.
        if formal.type_str.startswith("tensor(") or not formal.is_homogeneous:
            continue
        other = bound.setdefault(formal.type_str, dtype)
        if other is not dtype:
            return f"operand {index} ({formal.name}) is {dtype.label} and another one of the same type {other.label}"
    return ""


def _onnx_name(dtype: DType) -> str:
    """An element type as schemas spell it."""
    return TensorProto.DataType.Name(dtype.code).lower()


def check_declared(declared: Type, found: Type, name: str, where: object) -> None:
    """Raises InvalidModelError when the file gives a value another element type than its node computes."""
    if isinstance(declared, TensorType) and isinstance(found, TensorType) and declared.dtype is not found.dtype:
        raise InvalidModelError(
            f"the value {name!r} is declared as {declared.dtype.label} and computed as {found.dtype.label}",
            where=where,
            do="export the model again",
        )


def check_newest(schema: Schema, attrs: Mapping[str, Attribute], where: object) -> None:
    """Raises UnsupportedError for an operator outside ai.onnx that a later version of its domain made incompatible.

    Those domains are not raised, and the IR knows one form of each operator, the newest.
    """
    newest = lookup(schema.name, schema.domain) if schema.domain else None
    gone = [] if newest is None else [name for name in attrs if name not in newest.attributes]
    if newest is not None and gone:
        raise UnsupportedError(
            f"{schema.name}-{schema.version} of {schema.domain} cannot be read",
            where=where,
            why=f"it has the attribute {gone[0]!r}, which version {newest.version} no longer has",
            do=f"export the model again with {schema.domain} {newest.version}",
        )


def _misfit(schema: Schema, where: object, why: str) -> InvalidModelError:
    name = f"{schema.domain + '::' if schema.domain else ''}{schema.name}-{schema.version}"
    return InvalidModelError(
        f"a node does not fit its operator {name}", where=where, why=why, do="export the model again"
    )


def _range(least: int, most: int) -> str:
    if least == most:
        return str(least)
    return f"{least} or more" if most >= 2**31 - 1 else f"{least} to {most}"
