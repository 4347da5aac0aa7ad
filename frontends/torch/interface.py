"""Names of a program's outputs and of its symbolic sizes, as the user wrote them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree


def output_names(spec: Any) -> list[str]:
    """A name for each leaf of what the module returns: keys of dictionaries and dataclasses, else "output" or
    "output_<place>"."""
    names = list(_paths(spec, ""))
    return [n or "output" for n in names]


def _paths(spec: Any, prefix: str) -> Iterator[str]:
    if spec.is_leaf():
        yield prefix
        return
    children = spec.children()
    keys = _keys(spec, len(children))
    for place, child in enumerate(children):
        if keys is not None:
            here = str(keys[place])
        elif len(children) == 1 and not prefix:
            here = ""
        else:
            here = str(place)
        start = prefix if prefix or keys is not None else "output" if here else ""
        yield from _paths(child, "_".join(part for part in (start, here) if part))


def _keys(spec: Any, count: int) -> list[Any] | None:
    """The keys of a dictionary, named tuple or dataclass; None for lists and tuples."""
    context = getattr(spec, "context", None)
    if isinstance(context, type) and hasattr(context, "_fields"):
        return list(context._fields)
    while isinstance(context, (list, tuple)) and context:
        if len(context) == count and all(isinstance(key, (str, int)) for key in context):
            return list(context)
        context = next((part for part in context if isinstance(part, (list, tuple))), None)
    return None


def unique(names: Sequence[str], taken: set[str]) -> list[str]:
    """The names, with a suffix where one is taken already."""
    out: list[str] = []
    for name in names:
        free, count = name, 0
        while free in taken:
            count += 1
            free = f"{name}_out" if count == 1 else f"{name}_out{count}"
        taken.add(free)
        out.append(free)
    return out


def size_names(program: ExportedProgram, dynamic_shapes: Any, signature: inspect.Signature) -> dict[str, str]:
    """Names that `dynamic_shapes` gives to the program's symbols, by symbol.

    `signature` is that of the module's `forward`: what it gathers in *args is one entry of `dynamic_shapes`. Entries
    that name nothing (Dim.AUTO, Dim.DYNAMIC, None) are passed over.
    """
    if not isinstance(dynamic_shapes, (Mapping, list, tuple)):
        return {}
    kinds = {spec.arg.name for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"}
    fakes = [n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder" and n.name in kinds]
    in_spec: Any = program.call_spec.in_spec
    in_args, in_kwargs = pytree.tree_unflatten(list(range(len(fakes))), in_spec)
    given = signature.bind(*in_args, **in_kwargs).arguments
    tops = [dynamic_shapes.get(n) for n in given] if isinstance(dynamic_shapes, Mapping) else dynamic_shapes
    out: dict[str, str] = {}
    for tree, wanted in zip(given.values(), tops, strict=False):
        for leaf, axes in _leaves(tree, wanted):
            if isinstance(fakes[leaf], torch.Tensor):
                out.update(_named(fakes[leaf], axes))
    return out


def _leaves(tree: Any, wanted: Any) -> Iterator[tuple[int, Any]]:
    """Pairs of a leaf of the arguments and what `dynamic_shapes` says of it."""
    if isinstance(tree, int):
        yield tree, wanted
    elif isinstance(tree, Mapping) and isinstance(wanted, Mapping):
        for key, child in tree.items():
            yield from _leaves(child, wanted.get(key))
    elif isinstance(tree, (list, tuple)) and isinstance(wanted, (list, tuple)):
        for child, below in zip(tree, wanted, strict=False):
            yield from _leaves(child, below)


def _named(fake: torch.Tensor, axes: Any) -> Iterator[tuple[str, str]]:
    pairs = axes.items() if isinstance(axes, Mapping) else enumerate(axes) if isinstance(axes, (list, tuple)) else ()
    for axis, wanted in pairs:
        name = wanted if isinstance(wanted, str) else getattr(wanted, "__name__", "")
        size = fake.shape[axis] if isinstance(axis, int) and axis < fake.dim() else None
        if name and name.isidentifier() and isinstance(size, torch.SymInt) and size.node.expr.is_Symbol:
            yield str(size.node.expr), name
