"""What every runner offers, and the check of what it is fed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...ir import Array, DType, Graph, TensorType, Type, UsageError

Feeds = Mapping[str, Array]
"""One call's inputs by name."""

Samples = Iterable[Feeds]
"""Several calls' inputs; may be iterated more than once."""


class Runner(ABC):
    """Something that computes a model's outputs from its inputs."""

    @abstractmethod
    def run(self, feeds: Feeds) -> dict[str, Array]:
        """The outputs by name. Raises UsageError when feeds do not fit, TersorError when the runtime fails."""

    @abstractmethod
    def run_taps(self, feeds: Feeds) -> list[Array]:
        """The values tapped at construction, in that order; none where the runner takes no taps. Raises as `run`."""


class NamedRunner(Runner):
    """A runner whose runtime computes values by name.

    `names` are the outputs'; a tap is the name of the value that holds it, or its array where it is a constant.
    """

    names: list[str]
    _taps: Sequence[str | Array]

    def run(self, feeds: Feeds) -> dict[str, Array]:
        return dict(zip(self.names, self._run(self.names, feeds), strict=True))

    def run_taps(self, feeds: Feeds) -> list[Array]:
        wanted = list(dict.fromkeys(t for t in self._taps if isinstance(t, str)))
        found = dict(zip(wanted, self._run(wanted, feeds), strict=True)) if wanted else {}
        return [found[t] if isinstance(t, str) else t for t in self._taps]

    @abstractmethod
    def _run(self, names: list[str], feeds: Feeds) -> list[Array]:
        """The values called `names` for the inputs."""


@dataclass(frozen=True)
class Input:
    """What an input accepts; an `optional` one has a default."""

    name: str
    type: Type
    optional: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.type!r}"


def inputs_of(graph: Graph) -> list[Input]:
    """The inputs of a graph, in order."""
    return [Input(v.name, v.type, v in graph.defaults) for v in graph.inputs]


HALVES = (DType.F16, DType.BF16)
"""Element types to which floats of 32 bits are rounded: data need not be written anew for a model in half precision."""


def check_feeds(inputs: Sequence[Input], feeds: Feeds) -> dict[str, Array]:
    """The feeds as the inputs take them: floats of 32 bits are rounded where an input has 16.

    Raises UsageError, with what was expected and found, where a name, element type or shape does not fit.
    """
    wrong = [f"there is no input {n!r}" for n in feeds if n not in {i.name for i in inputs}]
    for expected in inputs:
        if expected.name not in feeds:
            if not expected.optional:
                wrong.append(f"input {expected.name!r} is missing")
        elif isinstance(expected.type, TensorType):
            wrong += [f"input {expected.name!r} {why}" for why in _misfits(expected.type, feeds[expected.name])]
    if wrong:
        found = ", ".join(f"{n}: {_describe(a)}" for n, a in feeds.items()) or "nothing"
        raise UsageError(
            "the inputs do not fit the model",
            why=f"{'; '.join(wrong)}; expected {', '.join(map(str, inputs)) or 'nothing'}; found {found}",
            do="give every input under its name with this element type and shape",
        )
    types = {i.name: i.type.dtype for i in inputs if isinstance(i.type, TensorType)}
    return {n: a.astype(types[n].numpy) if n in types and is_wider(a, types[n]) else a for n, a in feeds.items()}


def is_wider(array: Array, dtype: DType) -> bool:
    """True for floats of 32 bits that an input takes as 16."""
    return dtype in HALVES and _dtype(array) is DType.F32


def _misfits(type_: TensorType, array: Array) -> list[str]:
    wrong: list[str] = []
    found = _dtype(array)
    if found is not type_.dtype and not is_wider(array, type_.dtype):
        wrong.append(f"is {found!r}, not {type_.dtype!r}")
    if type_.shape is not None:
        sizes = zip(type_.shape, array.shape, strict=False)
        if len(type_.shape) != array.ndim or any(isinstance(s, int) and s != n for s, n in sizes):
            wrong.append(f"has the shape {list(array.shape)}, not {list(type_.shape)}")
    return wrong


def _dtype(array: Array) -> DType | str:
    if array.dtype == object:
        return DType.STRING
    try:
        return DType.of_numpy(array.dtype)
    except ValueError:
        return str(array.dtype)


def _describe(array: Array) -> str:
    return f"{_dtype(array)!r}{list(array.shape)}"
