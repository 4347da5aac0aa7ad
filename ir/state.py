"""Trained weights back into a graph: from the tensors of a state_dict to the constants that they came from.

A state_dict's tensor and a graph's constant seldom are the same: one is the transpose, a slice or a reordering of the
other. Both are expressions over common tensors, and the key map says which expression each key stood for. A new tensor
is followed down through what can be undone (transpositions, slices, ...) to what it was made from; every constant that
has one of these inside is then built again around it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Union, cast

import numpy as np

from .errors import UsageError
from .graph import Graph
from .tensors import Array, Dense, Lazy, Tensor, reshape, transpose
from .tensors.base import from_raw
from .types import DType

StateDict = Union[Mapping[str, Any], str, "os.PathLike[str]"]
"""Arrays, or anything with `numpy()`, by key; or the path of a safetensors file."""

COUNTERS = "num_batches_tracked"
"""What BatchNorm counts while training; no operator reads it."""

SHOWN = 5

Region = tuple[Any, ...]
Found = tuple[Tensor, Region | None, Tensor]
"""An operand, the part of it that is known (None: all of it), and that part's new numbers."""


def load(
    graph: Graph, maps: Sequence[Mapping[str, Tensor]], given: StateDict, optional: Set[str] = frozenset()
) -> list[dict[str, Tensor]]:
    """Puts the tensors of a state_dict in place of those that a key map names; gives the key maps for the next time.

    Of the key maps the first that has the same keys is taken, `optional` ones apart. Either everything is replaced or,
    on an error, nothing.
    Raises UsageError for unknown or missing keys, other shapes or element types, one tensor under two keys that has
    become two, and what the graph does not depend on any more.
    """
    arrays = read(given) if isinstance(given, (str, os.PathLike)) else given
    if not any(maps):
        raise UsageError(
            "the model has no state_dict keys yet",
            why="it does not come from PyTorch, and no PyTorch source has been emitted from it",
            do="emit it first (emit_pytorch, to_torch): the keys are those of the emitted module",
        )
    keys = next((m for m in maps if m and differing(m, arrays, optional) == ([], [])), None)
    if keys is None:
        raise unfit(*differing(next(m for m in maps if m), arrays, optional))
    incoming = Incoming()
    for key, old in keys.items():
        if not key.endswith(COUNTERS) and not (key in optional and key not in arrays):
            incoming.assign(old, checked(key, arrays[key], old), {key})
    incoming.assemble()
    rebuilt = Rebuilt(incoming.new)
    made = [(value, rebuilt(value.tensor)) for value in graph.constants()]
    defaults = {value: rebuilt(tensor) for value, tensor in graph.defaults.items()}
    reached = {key for found in rebuilt.used for key in incoming.keys[found]}
    lost = [k for k, old in keys.items() if k not in reached and not incoming.new.get(id(old), old).same_as(old)]
    if lost:
        raise UsageError(
            f"the graph does not depend on {listed(lost)} any more",
            why="what was computed from it has been evaluated since",
            do="load the weights before compressing the model, or emit the model again and train that",
        )
    for value, tensor in made:
        value.const = tensor
    graph.defaults = defaults
    return [{key: rebuilt(old) for key, old in m.items()} for m in maps]


def differing(
    keys: Mapping[str, Tensor], arrays: Mapping[str, Any], optional: Set[str] = frozenset()
) -> tuple[list[str], list[str]]:
    """The keys that a state_dict has too many and those that it lacks; batch counters do not count."""
    unknown = [k for k in arrays if k not in keys and not k.endswith(COUNTERS)]
    return unknown, [k for k in keys if k not in arrays and k not in optional and not k.endswith(COUNTERS)]


def unfit(unknown: Sequence[str], missing: Sequence[str]) -> UsageError:
    parts = [f"{what}: {listed(found)}" for what, found in (("unknown", unknown), ("missing", missing)) if found]
    return UsageError(
        "the state_dict has other keys than the model",
        why="; ".join(parts),
        do="give the whole state_dict of the module that was emitted from this model, or that the model was made from",
    )


def listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(repr(n) for n in names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def checked(key: str, given: Any, old: Tensor) -> Dense:
    """An entry of a state_dict as a tensor. Raises UsageError where shape or element type are others than before."""
    new = given if isinstance(given, Dense) else Dense(as_array(given))
    if new.shape != old.shape or new.dtype is not old.dtype:
        raise UsageError(
            f"{key!r} does not fit the model",
            why=f"it is {new.dtype.label}{list(new.shape)}, expected is {old.dtype.label}{list(old.shape)}",
            do="load weights of the same architecture in the same precision",
        )
    return new


def as_array(given: Any) -> Array:
    """An independent array of anything with `numpy()` or `__array__`; PyTorch's bfloat16, which has neither, goes by
    way of float32."""
    found = given.detach().cpu() if hasattr(given, "detach") else given
    if str(getattr(found, "dtype", "")) == "torch.bfloat16":
        return np.array(found.float().numpy()).astype(DType.BF16.numpy)
    return np.array(found.numpy() if hasattr(found, "numpy") else found)


def read(path: str | os.PathLike[str]) -> dict[str, Dense]:
    """The tensors of a safetensors file by key. Raises UsageError where it cannot be read."""
    import safetensors

    try:
        entries = cast(Any, safetensors).deserialize(Path(path).read_bytes())
        return {key: _entry(entry) for key, entry in entries}
    except (OSError, safetensors.SafetensorError, KeyError, ValueError) as error:
        raise UsageError(
            f"{os.fspath(path)} cannot be read as safetensors",
            why=str(error),
            do="give a file written by safetensors.torch.save_file, or a state_dict",
        ) from error


def _entry(entry: Mapping[str, Any]) -> Dense:
    dtype = DType.of_label(str(entry["dtype"]).lower())
    return Dense(from_raw(bytes(entry["data"]), dtype, tuple(int(d) for d in entry["shape"])), dtype)


# Down to what a tensor was made from


def _concat(old: Lazy, new: Tensor) -> Iterable[Found]:
    axis, start = cast(int, old.parameters["axis"]), 0
    for operand in old.operands:
        stop = start + operand.shape[axis]
        yield operand, None, Lazy("slice", [new], axis=axis, start=start, stop=stop)
        start = stop


def _transpose(old: Lazy, new: Tensor) -> Iterable[Found]:
    yield old.operands[0], None, transpose(new, np.argsort(cast("tuple[int, ...]", old.parameters["perm"])).tolist())


def _reshape(old: Lazy, new: Tensor) -> Iterable[Found]:
    yield old.operands[0], None, reshape(new, old.operands[0].shape)


def _slice(old: Lazy, new: Tensor) -> Iterable[Found]:
    part = slice(cast(int, old.parameters["start"]), cast(int, old.parameters["stop"]))
    yield old.operands[0], (*[slice(None)] * cast(int, old.parameters["axis"]), part), new


def _take(old: Lazy, new: Tensor) -> Iterable[Found]:
    indices = old.operands[1].numpy()
    if len(np.unique(indices)) == indices.size:
        yield old.operands[0], (*[slice(None)] * cast(int, old.parameters["axis"]), indices), new


def _cast(old: Lazy, new: Tensor) -> Iterable[Found]:
    """Narrow integers that were widened. Raises UsageError where they have become too large."""
    before = old.operands[0]
    if before.dtype.is_integer and new.dtype.is_integer and before.dtype.bits < new.dtype.bits:
        narrow = new.numpy().astype(before.dtype.numpy)
        if not np.array_equal(narrow.astype(new.dtype.numpy), new.numpy()):
            raise UsageError(f"a tensor of the state_dict holds integers that do not fit into {before.dtype.label}")
        yield before, None, Dense(narrow, before.dtype)


UNDONE: dict[str, Callable[[Lazy, Tensor], Iterable[Found]]] = {
    "concat": _concat,
    "transpose": _transpose,
    "reshape": _reshape,
    "slice": _slice,
    "take": _take,
    "cast": _cast,
}
"""The functions of weight expressions that can be undone."""


class Incoming:
    """New tensors by the identity of what they replace, and which key each one comes from."""

    def __init__(self) -> None:
        self.new: dict[int, Tensor] = {}
        self.keys: dict[int, set[str]] = {}
        self.parts: dict[int, tuple[Tensor, list[tuple[Region, Tensor, set[str]]]]] = {}

    def assign(self, old: Tensor, new: Tensor, keys: set[str]) -> None:
        """Replaces a tensor, and with it what it was made from. Raises UsageError when it has another new value."""
        self.keys.setdefault(id(old), set()).update(keys)
        known = self.new.setdefault(id(old), new)
        if known is not new:
            if not known.same_as(new):
                raise self.conflict(self.keys[id(old)])
            return
        if isinstance(old, Lazy) and old.function in UNDONE:
            for operand, region, value in UNDONE[old.function](old, new):
                if region is None:
                    self.assign(operand, value, keys)
                else:
                    self.parts.setdefault(id(operand), (operand, []))[1].append((region, value, keys))

    def assemble(self) -> None:
        """Puts tensors of which parts are known together; what no part says stays as it was."""
        while self.parts:
            old, parts = self.parts.pop(next(iter(self.parts)))
            array, known = np.array(self.new.get(id(old), old).numpy()), np.full(old.shape, id(old) in self.new)
            for region, value, keys in parts:
                part = value.numpy()
                before, here = array[region], known[region]
                if not np.array_equal(before[here], part[here]):
                    raise self.conflict({*keys, *self.keys.get(id(old), ())})
                array[region], known[region] = part, True
                self.keys.setdefault(id(old), set()).update(keys)
            if id(old) not in self.new:
                self.assign(old, Dense(array, old.dtype), self.keys[id(old)])

    @staticmethod
    def conflict(keys: Iterable[str]) -> UsageError:
        return UsageError(
            f"{listed(sorted(keys))} are one tensor in the model and differ in the state_dict",
            do="train the module with its parameters tied, as it was emitted",
        )


class Rebuilt:
    """Constants around new tensors; `used` are the identities of what was replaced on the way."""

    def __init__(self, new: Mapping[int, Tensor]) -> None:
        self.new, self.used = new, set[int]()
        self.done: dict[int, Tensor] = {}

    def __call__(self, tensor: Tensor) -> Tensor:
        found = self.new.get(id(tensor))
        if found is not None:
            self.used.add(id(tensor))
            return found
        if not isinstance(tensor, Lazy):
            return tensor
        if id(tensor) not in self.done:
            operands = [self(t) for t in tensor.operands]
            same = all(a is b for a, b in zip(operands, tensor.operands, strict=True))
            self.done[id(tensor)] = tensor if same else Lazy(tensor.function, operands, **tensor.parameters)
        return self.done[id(tensor)]
