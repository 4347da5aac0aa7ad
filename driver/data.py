"""Calibration and evaluation inputs: anything that can be iterated again and again, checked against the model's
interface.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import length_hint
from pathlib import Path
from typing import Any

import numpy as np

from ..backends.runners import Feeds, check_feeds, inputs_of
from ..ir import Array, Graph, UsageError

BATCH = 32
"""Samples per feed where the model leaves its batch size open."""


class Data:
    """A re-iterable of feeds ({input name: array}), nothing of which is kept in memory.

    `name` is for messages. `source` is called for each pass over the data. Every feed is checked against the graph's
    inputs when the data is bound to it. `feeds` is their number where it is known, else 0; `operator.length_hint` gives
    it.
    """

    def __init__(self, source: Callable[[], Iterator[Feeds]], name: str, feeds: int = 0) -> None:
        self._source, self.name, self.feeds = source, name, feeds

    def __iter__(self) -> Iterator[Feeds]:
        return self._source()

    def __length_hint__(self) -> int:
        return self.feeds

    def first(self) -> dict[str, Array]:
        """The first feed. Raises UsageError when there is none."""
        for feed in self:
            return dict(feed)
        raise UsageError(f"{self.name} is empty", why="it holds no sample", do="give at least one sample")

    def bound(self, graph: Graph) -> Data:
        """The same data, each feed checked against the inputs of `graph`; the first one at once."""

        def checked() -> Iterator[Feeds]:
            for feed in self:
                check(feed, graph, self.name)
                yield feed

        out = Data(checked, self.name, self.feeds)
        out.first()
        return out


class FileData(Data):
    """Data in files, read when the model is known that they are for."""

    def __init__(self, path: Path) -> None:
        super().__init__(self._unbound, str(path))
        self.path = path

    def bound(self, graph: Graph) -> Data:
        return from_path(self.path, graph)

    def _unbound(self) -> Iterator[Feeds]:
        raise UsageError(f"{self.path} has to be bound to a model before it is read", do="call bound(model.graph)")


def data(
    loader: str | os.PathLike[str] | Iterable[Any], *, inputs: Callable[[Any], Mapping[str, Any]] | None = None
) -> Data:
    """Data from files (an .npz, or a folder of .npz and .npy) or from any re-iterable (a list, a DataLoader).

    `inputs` turns one item of an iterable into {input name: array}.

    Raises UsageError for a one-shot iterator, which calibration could not read twice.
    """
    if isinstance(loader, str | os.PathLike):
        if inputs is not None:
            raise UsageError(
                "inputs= goes with a loader, not with a path", do="name the arrays after the model's inputs"
            )
        return FileData(Path(loader))
    if iter(loader) is loader:
        raise UsageError(
            "calibration data can be read only once",
            why=f"{type(loader).__name__} is an iterator",
            do="give a list or a loader",
        )

    def source() -> Iterator[Feeds]:
        for item in loader:
            feed = inputs(item) if inputs is not None else item
            if not isinstance(feed, Mapping):
                raise UsageError(
                    "a sample of the calibration data is not a mapping of input names to arrays",
                    why=f"found {type(feed).__name__}",
                    do='pass inputs=lambda batch: {"x": batch[0]}',
                )
            yield {str(k): np.asarray(v) for k, v in feed.items()}

    return Data(source, "the calibration data", length_hint(loader))


def from_path(path: str | Path, graph: Graph) -> Data:
    """Data from an .npz (one array per input, samples along its first axis) or a folder of .npz and .npy files (one
    feed each).

    In a single .npz, samples are grouped as the model's first dimension says: its fixed batch, or up to 32. Raises
    UsageError when the file is missing, is not what it should be, or does not fit the model.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in (".npz", ".npy"))
        if not files:
            raise UsageError(f"no calibration data in {path}", why="the folder holds no .npz or .npy file")
        return Data(lambda: (_load_feed(f, graph) for f in files), str(path), len(files)).bound(graph)
    if not path.exists():
        raise UsageError(f"no such file: {path}", do="give an .npz file, or a folder of .npz or .npy files")
    arrays = _load_arrays(path, graph)
    inputs = {v.name: v for v in graph.inputs if v not in graph.defaults}
    wanted = {name: arrays[name] for name in inputs if name in arrays}
    missing = [name for name in inputs if name not in arrays]
    if missing:
        raise UsageError(
            f"{path} has no array called {missing[0]!r}",
            why=f"the model's inputs are {', '.join(inputs)}; the file has {', '.join(arrays) or 'nothing'}",
            do=f"save it with numpy.savez({path.name!r}, {missing[0]}=...)",
        )
    counts = {len(a) if a.ndim else 0 for a in wanted.values()}
    if len(counts) != 1 or 0 in counts:
        raise UsageError(
            f"{path} is empty or uneven", why=f"its arrays have {sorted(counts)} samples along their first axis"
        )
    (count,) = counts
    fixed = fixed_batch(graph)
    if fixed is not None and fixed > count:
        raise UsageError(f"{path} has {count} samples", why=f"the model takes {fixed} at a time")
    feeds = count // fixed if fixed else -(-count // BATCH)
    return Data(lambda: _batches(wanted, count, fixed), str(path), feeds).bound(graph)


def fixed_batch(graph: Graph) -> int | None:
    """The first size of the model's inputs where it is fixed, else None."""
    sizes = [v.shape[0] for v in graph.inputs if v.shape and isinstance(v.shape[0], int)]
    return sizes[0] if sizes else None


def _batches(arrays: Mapping[str, Array], count: int, fixed: int | None) -> Iterator[Feeds]:
    """Groups of samples; where the batch is fixed, samples that do not fill one are left out."""
    size = fixed or BATCH
    for start in range(0, count, size):
        if fixed is None or start + fixed <= count:
            yield {k: a[start : start + size] for k, a in arrays.items()}


def _load_arrays(path: Path, graph: Graph) -> dict[str, Array]:
    try:
        loaded = np.load(path, allow_pickle=False)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise UsageError(
            f"{path} cannot be read as numpy data", why=_reason(error), do="save it with numpy.savez"
        ) from error
    if isinstance(loaded, np.ndarray):
        names = [v.name for v in graph.inputs if v not in graph.defaults]
        if len(names) != 1:
            raise UsageError(
                f"{path} holds one array", why=f"the model has the inputs {', '.join(names)}", do="save an .npz"
            )
        return {names[0]: loaded}
    try:
        return {name: loaded[name] for name in loaded.files}
    except (ValueError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{path} cannot be read as numpy data", why=_reason(error), do="save plain arrays, no objects"
        ) from error


def _reason(error: Exception) -> str:
    """What numpy says; but for what it takes for pickles it advises to read them, which nobody should."""
    return "it is none, or holds Python objects" if "pickle" in str(error) else str(error)


def _load_feed(path: Path, graph: Graph) -> Feeds:
    arrays = _load_arrays(path, graph)
    names = {v.name for v in graph.inputs}
    return {k: v for k, v in arrays.items() if k in names} or arrays


def check(feed: Feeds, graph: Graph, name: str) -> None:
    """Raises UsageError, naming the data, when a feed does not fit the graph's inputs."""
    try:
        check_feeds(inputs_of(graph), feed)
    except UsageError as error:
        raise UsageError(f"{name} does not fit the model", why=error.why, do=error.do) from error
