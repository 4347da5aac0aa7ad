"""numpy kernels in double precision of functions that numpy does not have, and of Resize."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.polynomial import chebyshev

from ...ir import Array, Node
from .kernels import Operands, Results

CHUNK = 1 << 13
"""Elements that stay in a core's cache while they are looked at several times."""
NEAR, FAR = 0.75, 6.0
"""Up to which the error function is a power series, and from which on it is 1."""


def chunked(function: Callable[[Array], Array], x: Array) -> Array:
    """An elementwise function of an array of doubles, a part at a time."""
    flat = np.ascontiguousarray(x).reshape(-1)
    out = np.empty_like(flat)
    for start in range(0, flat.size, CHUNK):
        out[start : start + CHUNK] = function(flat[start : start + CHUNK])
    return out.reshape(x.shape)


@functools.cache
def near_coefficients() -> list[float]:
    """Those of erf(x) / x as a power series in x^2, for |x| <= NEAR."""
    return [2 / math.sqrt(math.pi) * (-1) ** n / (math.factorial(n) * (2 * n + 1)) for n in range(16)]


@functools.cache
def far_coefficients() -> list[float]:
    """Those of exp(x^2) erfc(x) as a polynomial in `place(x)`, for NEAR <= x <= FAR."""

    places = chebyshev.chebpts1(16)
    xs = [4 * (1 / t - 1) for t in (MIDDLE + HALF * places).tolist()]
    series = chebyshev.chebfit(places, [math.exp(x * x) * math.erfc(x) for x in xs], 15)
    return chebyshev.cheb2poly(series).tolist()


ENDS = [1 / (1 + x / 4) for x in (FAR, NEAR)]
MIDDLE, HALF = (ENDS[1] + ENDS[0]) / 2, (ENDS[1] - ENDS[0]) / 2


def place(x: Array) -> Array:
    """1 / (1 + x / 4), which makes erfc smooth out to the end, scaled to -1..1."""
    return (1 / (1 + x / 4) - MIDDLE) / HALF


def polynomial(coefficients: list[float], x: Array) -> Array:
    total = np.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total *= x
        total += coefficient
    return total


def erf_of(x: Array) -> Array:
    """erf to within 1e-14 of itself, for an array of doubles."""
    size = np.abs(x)
    near = x * polynomial(near_coefficients(), np.minimum(size, NEAR) ** 2)
    if not (size > NEAR).any():
        return near
    bounded = np.clip(size, NEAR, FAR)
    rest = np.exp(-bounded * bounded) * polynomial(far_coefficients(), place(bounded))
    far = np.copysign(1 - np.where(size >= FAR, 0, rest), x)
    return np.where(size > NEAR, far, near)


def erf(node: Node, xs: Operands) -> Results:
    (x,) = xs
    return None if x is None or x.dtype != np.float64 else chunked(erf_of, x)


def gelu(node: Node, xs: Operands) -> Results:
    """x times the normal distribution, or its approximation by tanh (Gelu-20)."""
    (x,) = xs
    if x is None or x.dtype != np.float64:
        return None
    if node.str("approximate", "none") == "tanh":
        return chunked(lambda v: 0.5 * v * (1 + np.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))), x)
    return chunked(lambda v: 0.5 * v * (1 + erf_of(v * math.sqrt(0.5))), x)


def gemm(node: Node, xs: Operands) -> Results:
    """alpha A B + beta C, A and B transposed where the attributes say so (Gemm-13)."""
    a, b, c = (*xs, None)[:3]
    if a is None or b is None or a.dtype.kind != "f":
        return None
    y = np.matmul(a.T if node.int("transA", 0) else a, b.T if node.int("transB", 0) else b)
    y = y * node.float("alpha", 1.0) if node.float("alpha", 1.0) != 1 else y
    return y if c is None else y + node.float("beta", 1.0) * c


COORDINATES: dict[str, Callable[[Array, int, int, float], Array]] = {
    "half_pixel": lambda i, n, m, scale: (i + 0.5) / scale - 0.5,
    "pytorch_half_pixel": lambda i, n, m, scale: (i + 0.5) / scale - 0.5 if m > 1 else i * 0.0,
    "asymmetric": lambda i, n, m, scale: i / scale,
    "align_corners": lambda i, n, m, scale: i * (n - 1) / (m - 1) if m > 1 else i * 0.0,
}
"""Where in the original (size n) an index of the result (size m) lies."""
NEAREST: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def resize(node: Node, xs: Operands) -> Results:
    """Resize-19 to the nearest element, or linear, along one axis after the other."""
    x, _, scales, sizes = (*xs, None, None, None)[:4]
    mode, where = node.str("mode", "nearest"), node.str("coordinate_transformation_mode", "half_pixel")
    stretches = node.str("keep_aspect_ratio_policy", "stretch") == "stretch"
    if x is None or where not in COORDINATES or mode == "cubic" or node.int("antialias", 0) or not stretches:
        return None
    axes = [a % x.ndim for a in node.ints("axes", range(x.ndim))]
    for index, axis in enumerate(axes):
        n = x.shape[axis]
        if sizes is not None and sizes.size:
            m = int(sizes[index])
            scale = m / n
        else:
            assert scales is not None
            scale = float(scales[index])
            m = math.floor(n * scale)
        if m == n and scale == 1:
            continue
        at = COORDINATES[where](np.arange(m, dtype=np.float64), n, m, scale)
        if mode == "nearest":
            x = x.take(NEAREST[node.str("nearest_mode", "round_prefer_floor")](at).astype(int).clip(0, n - 1), axis)
            continue
        low = np.floor(at).astype(int)
        share = (at - low).reshape(-1, *(1,) * (x.ndim - 1 - axis))
        x = x.take(low.clip(0, n - 1), axis) * (1 - share) + x.take((low + 1).clip(0, n - 1), axis) * share
    return x
