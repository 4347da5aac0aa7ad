"""What folding claims of sizes and indices, against every value that the symbols may have."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from tersor.backends.runners import OrtRunner
from tersor.ir import Model, Size, symbol
from tersor.ir.dims import substitute, symbols_of
from tersor.ir.inference import infer
from tersor.transforms.simplify.folding.indices import counting, takes_all_in_order
from tersor.transforms.simplify.folding.targets import bound, expanded, reshape_target, scale

N, S, LONG = symbol("N"), symbol("S"), symbol("LONG", 3)


def at(size: Size, **values: int) -> int:
    """A size for given values of its symbols."""
    known = symbols_of([size])
    found = substitute(size, {known[name]: value for name, value in values.items() if name in known})
    assert isinstance(found, int)
    return found


POSITIONS: list[Size] = [0, 2, -1, -9, LONG, LONG - 1, LONG - 3, LONG + 2, LONG * 2]


@pytest.mark.parametrize(("start", "end"), list(itertools.product(POSITIONS, POSITIONS)), ids=str)
def test_constant_bounds_cut_out_the_same(start: Size, end: Size):
    first, last = bound(LONG, start), bound(LONG, end)
    assert first is not None
    assert last is not None
    for value in range(3, 9):
        row = list(range(value))
        assert row[first:last] == row[at(start, LONG=value) : at(end, LONG=value)]


@pytest.mark.parametrize("position", [S - 1, N, S * -1, LONG - 4], ids=str)
def test_a_bound_of_open_sign_or_of_another_axis_is_no_constant(position: Size):
    assert bound(S if position is not LONG - 4 else LONG, position) is None


SHAPES: list[tuple[Size, ...]] = list(itertools.product((N, S, 2, 6), repeat=3))


@pytest.mark.parametrize("source", [(N, S, 6), (S, N, 2, 3), (6, N), (N * S, 6)], ids=str)
def test_a_constant_target_gives_the_shape_that_was_asked_for(source: tuple[Size, ...]):
    found = 0
    for wanted in [*SHAPES, (N, S), (N, S, 2, 3), (N * S, 6), (N, 6 * S), (6 * N * S,)]:
        target = reshape_target(source, wanted)
        for n, s in itertools.product((1, 2, 5), (1, 3)) if target is not None else ():
            shape, sizes = [at(d, N=n, S=s) for d in source], [at(d, N=n, S=s) for d in wanted]
            if np.prod(shape) != np.prod(sizes):
                continue
            assert target is not None
            copied = [shape[i] if d == 0 else d for i, d in enumerate(target)]
            assert np.zeros(shape).reshape(copied).shape == tuple(sizes)
            found += 1
    assert found


@pytest.mark.parametrize(("size", "wanted"), list(itertools.product((1, 3, N, LONG), (1, 3, N, LONG))), ids=str)
def test_a_constant_shape_expands_to_the_same(size: Size, wanted: Size):
    number = expanded(size, wanted)
    for n, long in itertools.product((1, 2, 3, 4), (3, 4)) if number is not None else ():
        a, b = at(size, N=n, LONG=long), at(wanted, N=n, LONG=long)
        if a == b or 1 in (a, b):
            assert number is not None
            assert np.broadcast_shapes((a,), (number,)) == np.broadcast_shapes((a,), (b,))
    assert (number is None) == (wanted in (N, LONG) and size is not wanted and size not in (3, LONG))


def test_a_constant_scale_gives_the_size_it_stands_for():
    for size, wanted in itertools.product(range(1, 40), range(1, 80)):
        factor = scale(size, wanted)
        assert factor is None or int(np.floor(np.float32(size) * np.float32(factor))) == wanted
    assert scale(N, N * 3) == 3.0
    assert scale(N, N + 1) is None


COUNTED = [
    "%y = Range(%two, %n, %step)",
    "%y = Unsqueeze(%r, i64[1]{1})",
    "%u = Unsqueeze(%r, i64[1]{1}) %y = Add(%u, %q)",
    "%u = Unsqueeze(%r, i64[1]{1}) %m = Mul(%u, %s) %y = Add(%m, %q)",
    "%u = Unsqueeze(%r, i64[1]{1}) %m = Mul(i64[1]{-3}, %u) %y = Sub(%q, %m)",
    "%u = Unsqueeze(%r, i64[2]{0,2}) %t = Concat(i64[2]{2,1}, %s1) {axis=0} %y = Expand(%u, %t)",
    "%u = Unsqueeze(%r, i64[1]{1}) %v = Squeeze(%u, i64[1]{1}) %c = Cast(%v) {to=6} %y = Cast(%c) {to=7}",
    "%m = Sub(%s, %two) %y = Sub(%m, %q)",
]


@pytest.mark.parametrize("body", COUNTED)
def test_indices_count_as_they_are_said_to(graph, body: str):
    body = re.sub(r"([)}]) (?=%)", r"\1 : ? ", body)
    text = f"""graph(%x: f32[N,S]) -> (y) {{
      %n1 = Shape(%x) {{start=0, end=1}} : i64[1] %n = Squeeze(%n1) : i64[] %s1 = Shape(%x) {{start=1, end=2}} : i64[1] %s = Squeeze(%s1) : i64[]
      %r = Range(i64[]{{0}}, %n, i64[]{{1}}) : i64[N] %q = Range(i64[]{{0}}, %s, i64[]{{1}}) : i64[S]
      %two = Add(i64[]{{1}}, i64[]{{1}}) : i64[] %step = Identity(i64[]{{3}}) : i64[] {body} : ? return %y }}"""
    subject = graph(text)
    inference = infer(subject)
    found = counting(subject.outputs[0], inference.contents_of)
    assert found is not None
    for n, s in ((1, 1), (4, 3), (7, 2)):
        (array,) = OrtRunner(Model(subject), optimize=False).run({"x": np.zeros((n, s), np.float32)}).values()
        wanted = np.full(array.shape, at(found.offset, N=n, S=s))
        for axis, stride in enumerate(found.strides):
            places = np.arange(array.shape[axis]).reshape([-1 if i == axis else 1 for i in range(array.ndim)])
            wanted = wanted + at(stride, N=n, S=s) * places
        np.testing.assert_array_equal(array, wanted)
        if takes_all_in_order(found, N * S):
            np.testing.assert_array_equal(array.reshape(-1), np.arange(n * s))
