"""Walks a graph down to an opset, version by version of each operator, and finds out which opsets can hold it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import lru_cache

from onnx import defs

from ....ir import (
    CANONICAL_OPSET,
    Builder,
    DType,
    Graph,
    InvalidModelError,
    Model,
    Node,
    TensorType,
    UnsupportedError,
    Value,
    lookup,
)
from ....ir.inference import Inference, infer
from ....ir.types import AnyType
from .carriers import carrier, carry
from .decompositions import DECOMPOSITIONS
from .element_types import TENSOR_NAMES, first_refused, is_new, takes, type_names
from .form import Form, FormRule, Inexpressible, form_of
from .forms import FORMS, NOTHING_OLDER, UNCHANGED
from .operands import drop_unused

OLDEST_OPSET = 7
"""No graph is written for an older one: what broadcasting and training meant before has no row."""


NEWEST = defs.onnx_opset_version()

TYPED_BELOW = 13
"""Rows for older opsets need the ranks of what decompositions made."""

_ALWAYS = {op: version for (op, version), row in DECOMPOSITIONS.items() if row.always}


@lru_cache(maxsize=4096)
def _history(op: str) -> tuple[int, ...]:
    """The versions of an ai.onnx operator, newest first; () for an unknown one."""
    versions: list[int] = []
    below = NEWEST
    try:
        while below:
            versions.append(defs.get_schema(op, below, "").since_version)
            below = versions[-1] - 1
    except defs.SchemaError:  # there is none so old
        pass
    return tuple(versions)


@lru_cache(maxsize=4096)
def _steps(op: str, opset: int) -> tuple[int, ...]:
    """The versions of an ai.onnx operator that are newer than `opset` and not newer than canonical, newest first."""
    schema = lookup(op)
    newest = 0 if schema is None else schema.version
    return tuple(v for v in _history(op) if opset < v <= newest)


def steps(node: Node, opset: int) -> tuple[int, ...]:
    return () if node.domain else _steps(node.op, opset)


def lowered(model: Model, opset: int) -> Model:
    """The model with every node decomposed that `opset`, or every runtime, lacks; the model itself where there is none.

    Raises UnsupportedError for a node that has no decomposition that fits it.
    """
    if not any(_decomposition(n, opset) or carrier(n, opset) for n in model.graph.walk()):
        return model
    copy = model.clone()
    for graph in list(copy.graph.graphs()):
        _decompose_all(graph, opset)
    if opset < TYPED_BELOW:
        infer(copy.graph)
    return copy


def _decomposition(node: Node, opset: int) -> int:
    """The version from which on `node` is what it is, where it must be decomposed for `opset`; else 0."""
    if node.domain:
        return 0
    return next((version for version, needed in _rows(node.op, opset) if needed(node)), 0)


@lru_cache(maxsize=4096)
def _rows(op: str, opset: int) -> tuple[tuple[int, Callable[[Node], bool]], ...]:
    """The versions with a decomposition of an operator that `opset` may ask for, newest first, and when each does."""
    versions = (*_steps(op, opset), *((_ALWAYS[op],) if op in _ALWAYS else ()))
    return tuple((v, row.needed) for v in versions if (row := DECOMPOSITIONS.get((op, v))) is not None)


def _decompose_all(graph: Graph, opset: int) -> None:
    for node in list(graph):
        if node.graph is graph:
            _decompose(graph, node, opset)


def _decompose(graph: Graph, node: Node, opset: int) -> None:
    version = _decomposition(node, opset)
    by = None if version else carrier(node, opset)
    if not version and by is None:
        return
    builder = Builder(graph, node, infer=_typed(graph), loc=node.loc)
    try:
        results = DECOMPOSITIONS[node.op, version].build(node, builder) if by is None else carry(node, builder, by)
    except Inexpressible as error:
        raise refused(node, opset, version, str(error)) from error
    operands = node.inputs
    _replace(node, results)
    drop_unused(operands)
    for made in builder.new:
        if made.graph is graph:
            _decompose(graph, made, opset)
            for region in made.regions.values():
                _decompose_all(region, opset)


def _replace(node: Node, results: Sequence[Value | None]) -> None:
    """Puts the results of a decomposition in place of a node's."""
    for old, new in zip(node.outputs, results, strict=True):
        if new is None or not old.users:
            continue
        if new.const is None and not isinstance(old.type, AnyType) and (new.rank is None or old.rank is not None):
            new.type = old.type
        new.name = new.name or old.name
        old.replace_by(new)
    node.erase()


def stand_in(node: Node, build: Callable[[Node, Builder], Sequence[Value | None]] | None = None) -> list[Node]:
    """Puts what stands for a node in terms of older operators in its place, one step down, or what `build` makes; []
    where nothing does."""
    version = _decomposition(node, OLDEST_OPSET)
    build = build or (DECOMPOSITIONS[node.op, version].build if version else None)
    if build is None or node.graph is None:
        return []
    builder = Builder(node.graph, node, infer=_typed(node.graph), loc=node.loc)
    try:
        _replace(node, build(node, builder))
    except Inexpressible:
        return []
    return [made for made in builder.new if made.graph is not None]


def _typed(graph: Graph) -> Callable[[Node], None]:
    """Gives new nodes their types; where a file declares what cannot be, their operators' element types alone."""
    engine = Inference(graph)

    def typed(node: Node) -> None:
        with contextlib.suppress(InvalidModelError):
            engine.node(node)

    return typed


def spelled(node: Node, opset: int) -> Form | None:
    """A node's form at `opset`, None where it is as the node stands. Raises UnsupportedError where there is none."""
    down = steps(node, opset)
    if not down:
        if opset > CANONICAL_OPSET and not node.domain:
            _check_unchanged_since(node, opset)
        return None
    same = _same_since(node.op, opset)
    if same and _are_taken(node, opset):
        return None
    written = [v if v.users or not v.index else None for v in node.outputs]
    if same:
        _check_types(node, node.op, opset, "inputs", node.operands)
        _check_types(node, node.op, opset, "outputs", written)
        return None
    form = form_of(node)
    change = _change_before(form.op, opset, CANONICAL_OPSET + 1)
    while change is not None:
        _respell(form, opset, *change)
        # A row may have renamed the operator: the rows that follow are those of the older one.
        change = _change_before(form.op, opset, change[0])
    _check_types(node, form.op, opset, "inputs", form.operands)
    _check_types(node, form.op, opset, "outputs", written)
    return form


@lru_cache(maxsize=4096)
def _same_since(op: str, opset: int) -> bool:
    """True where an operator is written at `opset` as it is at the canonical one."""
    return all((op, v) not in FORMS and op in UNCHANGED.get(v, ()) for v in _steps(op, opset))


@lru_cache(maxsize=4096)
def _change_before(op: str, opset: int, version: int) -> tuple[int, FormRule | None] | None:
    """The newest version of an operator below `version` at which its form changed, and the row that goes back; without
    one the operator cannot be written for older ones.
    """
    changes = ((v, FORMS.get((op, v))) for v in _steps(op, opset) if v < version)
    return next(((v, rule) for v, rule in changes if rule is not None or op not in UNCHANGED.get(v, ())), None)


def _respell(form: Form, opset: int, version: int, rule: FormRule | None) -> None:
    """Edits a form of `version` into one of the version before."""
    try:
        if rule is None:
            why = f", and {NOTHING_OLDER[form.op]}" if form.op in NOTHING_OLDER else ""
            raise Inexpressible(f"the operator is new in opset {version}{why}")
        rule(form)
    except Inexpressible as error:
        raise refused(form.node, opset, version, str(error)) from error


def _check_unchanged_since(node: Node, opset: int) -> None:
    schema = lookup(node.op)
    newer = [v for v in _history(node.op) if schema is not None and schema.version < v <= opset]
    if newer:
        raise UnsupportedError(
            f"the model cannot be written for opset {opset}",
            where=node.where,
            why=f"the operator changed at opset {newer[-1]}, and operators are known up to opset {CANONICAL_OPSET}",
            do=f"use opset {CANONICAL_OPSET} or lower",
        )


def _are_taken(node: Node, opset: int) -> bool:
    """True where the operator at `opset` takes the element types, for the usual node: tensors in and one tensor out."""
    if len(node.outputs) != 1 or node.captures:
        return False
    dtypes: list[DType | None] = []
    for value in (*node.inputs, node.outputs[0]):
        if value is None:
            dtypes.append(None)
        elif isinstance(value.type, TensorType):
            dtypes.append(value.type.dtype)
        else:
            return False
    return _takes_all(node.op, opset, tuple(dtypes))


@lru_cache(maxsize=65536)
def _takes_all(op: str, opset: int, dtypes: tuple[DType | None, ...]) -> bool:
    """True where an operator takes all of these element types; that of its output is the last."""
    names = tuple("" if d is None else TENSOR_NAMES[d] for d in dtypes)
    return all(
        first_refused(op, opset, side, part) is None for side, part in (("inputs", names[:-1]), ("outputs", names[-1:]))
    )


def _check_types(node: Node, op: str, opset: int, side: str, values: Sequence[Value | None]) -> None:
    """Raises UnsupportedError where the operator at `opset` does not take an element type."""
    names = type_names(values)
    index = first_refused(op, opset, side, names)
    if index is None:
        return
    works = next(
        (v for v in reversed(steps(node, opset)) if takes(node.op, v, side, index, names[index])), CANONICAL_OPSET
    )
    value = values[index]
    assert value is not None
    why = "a type that does not exist there" if is_new(value.type, opset) else "which the operator does not take there"
    raise refused(node, opset, works, f"its {side[:-1]} {index} is {value.type!r}, {why}")


def refused(node: Node, opset: int, works: int, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"the model cannot be written for opset {opset}",
        where=node.where,
        why=why,
        do=f"use opset {works} or higher, the lowest that has this",
    )


def expressible(model: Model, opset: int) -> bool:
    """True where the whole model has a form at `opset`."""
    try:
        for node in lowered(model, opset).graph.walk():
            spelled(node, opset)
    except UnsupportedError:
        return False
    return True


def lowest(model: Model, start: int) -> int:
    """The lowest opset from `start` on at which the model can be written."""
    newest = newest_needed(model)
    return next((v for v in range(start, newest) if expressible(model, v)), newest)


def lowest_without_decomposition(model: Model, start: int) -> int:
    """The lowest opset from `start` on that has every operator of the model."""
    needed, newest = start, newest_needed(model)
    if newest > CANONICAL_OPSET:
        return newest
    for node in model.graph.walk():
        for opset in range(needed, CANONICAL_OPSET + 1):
            if not _decomposition(node, opset) and _has_form(node, opset):
                needed = opset
                break
    return needed


def _has_form(node: Node, opset: int) -> bool:
    try:
        spelled(node, opset)
    except UnsupportedError:
        return False
    return True


def newest_needed(model: Model) -> int:
    """The canonical opset, or that of the newest operator in the model where that is newer."""
    versions = (s.version for n in model.graph.walk() if not n.domain and (s := lookup(n.op)) is not None)
    return max(CANONICAL_OPSET, max(versions, default=0))
