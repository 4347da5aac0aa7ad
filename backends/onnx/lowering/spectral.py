"""Windows, Fourier transforms and mel weights (opset 17 and 20) in terms of ranges, cosines and matrix products."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ....ir import Array, Builder, Dense, DType, Node, Value, constant
from .operands import cast, dtype_of, indices, normal, number, rank_of, scalar, size_of, vector, wide

LAST = np.iinfo(np.int64).max


def window(coefficients: Sequence[float]) -> Callable[[Node, Builder], Sequence[Value | None]]:
    """A sum of cosines over `size` points (HannWindow, HammingWindow, BlackmanWindow)."""

    def build(node: Node, op: Builder) -> Sequence[Value | None]:
        size, dtype = node.operand(0), DType.of_code(node.int("output_datatype"))
        if size.const is not None:
            return [_known_window(int(size.const.item()), coefficients, bool(node.int("periodic")), dtype)]
        count = op.Reshape(wide(op, size), constant(np.zeros(0, np.int64)))
        period = count if node.int("periodic") else op.Sub(count, scalar(1))
        places = op.Cast(indices(op, count), to=DType.F64.code)
        turns = op.Div(op.Mul(places, 2 * np.pi), op.Cast(op.Max(period, scalar(1)), to=DType.F64.code))
        terms = [
            op.Mul(cosine(op, op.Mul(turns, float(i)) if i > 1 else turns), (-1) ** i * c)
            for i, c in enumerate(coefficients)
            if i
        ]
        total = op.Add(terms[0], coefficients[0])
        for term in terms[1:]:
            total = op.Add(total, term)
        return [op.Cast(total, to=dtype.code)]

    return build


def _known_window(count: int, coefficients: Sequence[float], periodic: bool, dtype: DType) -> Value:
    turns = 2 * np.pi * np.arange(count) / max(1, count if periodic else count - 1)
    array: Array = np.zeros(count)
    for i, c in enumerate(coefficients):
        array += (-1) ** i * c * np.cos(i * turns)
    return constant(Dense(array, dtype))


def cosine(op: Builder, angle: Value) -> Value:
    """Runtimes have the cosine of 32-bit floats alone; angles of a few turns lose nothing that matters."""
    return op.Cast(op.Cos(op.Cast(angle, to=DType.F32.code)), to=DType.F64.code)


def has_computed_axis(node: Node) -> bool:
    axis = node.input(2)
    return axis is not None and (axis.const is None or node.operand(0).rank is None)


def dft_along(node: Node, op: Builder) -> Sequence[Value | None]:
    """A transform along a computed axis: the axes in front of it are one, those behind are one (DFT-20)."""
    return [_around(node, op, lambda x: op.DFT(x, node.input(1), scalar(1), **node.attrs))]


def _around(node: Node, op: Builder, transform: Callable[[Value], Value]) -> Value:
    """What `transform` makes of [before, length, behind, parts] along axis 1, in the operand's own axes."""
    x, given = node.operand(0), node.input(2)
    shape = op.Shape(x)
    axis = op.Reshape(normal(op, scalar(-2) if given is None else given, rank_of(op, x)), [-1])
    after = op.Add(axis, constant(np.ones(1, np.int64)))
    before, behind = op.Slice(shape, [0], axis, [0]), op.Slice(shape, after, [-1], [0])
    length, parts = op.Gather(shape, axis, axis=0), op.Slice(shape, [-1], [LAST], [0])
    first, last = (op.ReduceProd(vector(op, 1, v), [0]) for v in (before, behind))
    y = transform(op.Reshape(x, vector(op, first, length, last, parts)))
    sizes = op.Shape(y)
    found, results = op.Slice(sizes, [1], [2], [0]), op.Slice(sizes, [3], [4], [0])
    return op.Reshape(y, vector(op, before, found, behind, results))


def dft(node: Node, op: Builder) -> Sequence[Value | None]:
    """A product with a matrix of cosines and sines (DFT-17)."""
    inverse, onesided = bool(node.int("inverse", 0)), bool(node.int("onesided", 0))
    return [_around(node, op, lambda x: fourier(op, x, node.input(1), inverse=inverse, onesided=onesided))]


def fourier(op: Builder, x: Value, given: Value | None, *, inverse: bool, onesided: bool) -> Value:
    """The transform of [before, length, behind, parts] along axis 1; `given` is the length to cut or fill it to."""
    own = dtype_of(x)
    precision = own if own is DType.F64 else DType.F32
    x = cast(op, x, own, precision)
    length = op.Reshape(wide(op, given), constant(np.zeros(0, np.int64))) if given is not None else size_of(op, x, 1)
    halved, one, two = inverse and onesided, scalar(1), scalar(2)
    if halved and given is None:
        length = op.Mul(op.Sub(length, one), two)
    half = op.Add(op.Div(length, two), one)
    x = op.Slice(x, [0], op.Reshape(half if halved else length, [-1]), [1])
    real, imaginary = _parts(op, x)
    columns = indices(op, size_of(op, real, 1))
    if halved:  # the other half of the spectrum is the conjugate of this one
        once = op.Or(op.Equal(columns, scalar(0)), op.Equal(op.Mul(columns, two), length))
        twice = op.Unsqueeze(op.Where(once, number(1, precision), number(2, precision)), [1])
        real, imaginary = op.Mul(real, twice), None if imaginary is None else op.Mul(imaginary, twice)
    rows = indices(op, half if onesided and not inverse else length)
    cosines, sines = (cast(op, v, DType.F32, precision) for v in _circle(op, rows, columns, length))
    if inverse:
        sines = op.Neg(sines)
    if imaginary is None:
        parts = [op.MatMul(cosines, real), op.Neg(op.MatMul(sines, real))]
    else:
        parts = [
            op.Add(op.MatMul(cosines, real), op.MatMul(sines, imaginary)),
            op.Sub(op.MatMul(cosines, imaginary), op.MatMul(sines, real)),
        ]
    if inverse:
        parts = [op.Div(p, op.Cast(length, to=precision.code)) for p in parts[: 1 if halved else 2]]
    return cast(op, op.Concat(*[op.Unsqueeze(p, [3]) for p in parts], axis=3), precision, own)


def _circle(op: Builder, rows: Value, columns: Value, length: Value) -> tuple[Value, Value]:
    """Cosines and sines of row * column turns of a circle over `length`; remainders of integers lose no digits."""
    turns = op.Mod(op.Mul(op.Unsqueeze(rows, [1]), op.Unsqueeze(columns, [0])), length)
    part = op.Div(op.Cast(turns, to=DType.F64.code), op.Cast(length, to=DType.F64.code))
    angle = op.Cast(op.Mul(part, 2 * np.pi), to=DType.F32.code)
    return op.Cos(angle), op.Sin(angle)


def _parts(op: Builder, x: Value) -> tuple[Value, Value | None]:
    """Real and imaginary parts of [..., 1 or 2]; None where it is known that there are none of the latter."""
    if x.shape is not None and x.shape[-1] == 1:
        return op.Squeeze(x, [3]), None
    filled = op.Concat(x, op.Mul(x, number(0, x)), axis=3)
    return op.Gather(filled, scalar(0), axis=3), op.Gather(filled, scalar(1), axis=3)


def stft(node: Node, op: Builder) -> Sequence[Value | None]:
    """Fourier transforms of frames that are gathered and weighted (STFT-17)."""
    x, step, weights, given = node.operand(0), wide(op, node.operand(1)), node.input(2), node.input(3)
    if given is not None:
        length = op.Reshape(wide(op, given), constant(np.zeros(0, np.int64)))
    else:
        length = size_of(op, x, 1) if weights is None else size_of(op, weights, 0)
    step = op.Reshape(step, constant(np.zeros(0, np.int64)))
    count = op.Add(op.Div(op.Sub(size_of(op, x, 1), length), step), scalar(1))
    starts = op.Unsqueeze(op.Mul(indices(op, count), step), [1])
    frames = op.Gather(x, op.Add(starts, op.Unsqueeze(indices(op, length), [0])), axis=1)
    if weights is not None:
        frames = op.Mul(frames, op.Unsqueeze(weights, [1]))
    return [op.DFT(frames, None, scalar(2), onesided=node.int("onesided"))]


def mel_weight_matrix(node: Node, op: Builder) -> Sequence[Value | None]:
    """Triangles over the bins of a spectrogram, evenly spaced in mel (MelWeightMatrix-17)."""
    double, one = DType.F64.code, scalar(1)
    bands, length, rate = (wide(op, node.operand(i)) for i in range(3))
    decade = float(np.log(10))
    low, high = (
        op.Mul(op.Log(op.Add(op.Div(op.Cast(node.operand(i), to=double), 700.0), 1.0)), 2595 / decade) for i in (3, 4)
    )
    points = op.Add(bands, scalar(2))
    step = op.Div(op.Sub(high, low), op.Cast(points, to=double))
    mels = op.Add(op.Mul(op.Cast(indices(op, points), to=double), step), low)
    hertz = op.Mul(op.Sub(op.Exp(op.Mul(mels, decade / 2595)), 1.0), 700.0)
    bins = op.Div(op.Mul(op.Cast(op.Add(length, one), to=double), hertz), op.Cast(rate, to=double))
    bins = op.Cast(op.Floor(bins), to=DType.I64.code)
    left, centre, right = (
        op.Unsqueeze(op.Slice(bins, [i], op.Reshape(op.Add(bands, scalar(i)), [-1]), [0]), [0]) for i in range(3)
    )
    bin_ = op.Unsqueeze(indices(op, op.Add(op.Div(length, scalar(2)), one)), [1])
    rising = op.And(op.LessOrEqual(left, bin_), op.LessOrEqual(bin_, centre))
    falling = op.And(op.Less(centre, bin_), op.Less(bin_, right))
    up = _ratio(op, op.Sub(bin_, left), op.Sub(centre, left))
    up = op.Where(op.Equal(bin_, centre), number(1, DType.F64), up)
    down = _ratio(op, op.Sub(right, bin_), op.Sub(right, centre))
    zero = number(0, DType.F64)
    weights = op.Where(rising, up, op.Where(falling, down, zero))
    return [op.Cast(weights, to=node.int("output_datatype"))]


def _ratio(op: Builder, a: Value, b: Value) -> Value:
    """a / b of integers as floats, with 1 for a divisor that is 0 (its quotient is not used)."""
    return op.Div(op.Cast(a, to=DType.F64.code), op.Cast(op.Max(b, scalar(1)), to=DType.F64.code))
