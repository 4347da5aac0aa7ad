"""How many feeds data holds is said where it is known, so that progress has an end."""

from collections.abc import Iterator
from operator import length_hint
from pathlib import Path

import numpy as np
import pytest
import tersor as ts
from tersor.ir import Array, parse
from tersor.transforms.quantize.calibrate import observe
from tersor.transforms.quantize.observers import MinMax

FEEDS = [{"x": np.full((2, 3), i, np.float32)} for i in range(5)]
GRAPH = """graph @g(%x: f32[N,3]) -> (y) {
  %1 = Relu(%x) : f32[N,3]
  return %1
}"""


class Stream:
    def __iter__(self) -> Iterator[dict[str, Array]]:
        return iter(FEEDS)


def test_a_list_of_feeds_says_how_many_it_holds() -> None:
    assert length_hint(ts.data(FEEDS)) == 5


def test_data_that_does_not_know_says_nothing() -> None:
    assert length_hint(ts.data(Stream())) == 0


@pytest.mark.parametrize(("batch", "feeds"), [("N", 3), ("32", 2)])
def test_a_file_is_counted_in_the_batches_that_the_model_takes(tmp_path: Path, batch: str, feeds: int) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((70, 3), np.float32))
    data = ts.data(tmp_path / "x.npz").bound(parse(GRAPH.replace("N,", f"{batch},")))
    assert length_hint(data) == feeds == len(list(data))


@pytest.mark.parametrize(("source", "total"), [(FEEDS, 5), (Stream(), None)])
def test_calibration_says_how_far_it_is(source: object, total: int | None) -> None:
    said: list[tuple[int, int | None]] = []
    graph = parse(GRAPH)
    model = ts.Model(graph)
    data = ts.data(source).bound(graph)  # type: ignore[arg-type]
    observe(model, [(graph.outputs[0], MinMax)], data, progress=lambda what, done, of: said.append((done, of)))
    assert said == [(i, total) for i in range(1, 6)]
