"""How far one computation's numbers are from another's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ir import Array

CHUNK = 1 << 20
SLICE = 1 << 16
"""Elements that stay in a core's cache while they are looked at several times."""
PLAIN = (np.dtype(np.float32), np.dtype(np.float64))


@dataclass(frozen=True)
class Difference:
    """What `compare` found.

    `max_error` is max|reference - candidate| / max|reference|, `max_abs` the numerator alone. `sqnr_db` is the signal
    to quantization noise ratio 10 log10(sum reference^2 / sum (reference - candidate)^2), infinite where nothing
    differs. `cosine` is the cosine of the angle between the two as vectors. `argmax_agreement` is the share of rows
    (vectors along the last axis) whose largest entry is at the same place, None where rows have one entry. `mismatch`
    is the share of elements that are not equal: what counts for integers, booleans and strings. `count` is the number
    of elements.

    NaN equals NaN, and an infinity itself; where only one side has one, errors are infinite. So they are where strings
    or shapes differ, and `reason` says it.
    """

    max_error: float
    max_abs: float
    sqnr_db: float
    cosine: float
    argmax_agreement: float | None
    mismatch: float
    count: int
    reason: str = ""


class Comparison:
    """Accumulates the difference over any number of pairs; memory does not grow with them."""

    def __init__(self) -> None:
        self.count = self.unequal = self.rows = self.agreeing = 0
        self.max_abs = self.max_reference = 0.0
        self.signal = self.noise = self.power = self.dot = 0.0
        self.reason = ""

    def update(self, reference: Any, candidate: Any) -> None:
        """Adds a pair of arrays, or of equally nested lists and dictionaries of them (ONNX sequences and maps)."""
        if isinstance(reference, (list, tuple, dict)) or isinstance(candidate, (list, tuple, dict)):
            self._update_nested(reference, candidate)
            return
        a, b = np.asarray(reference), np.asarray(candidate)
        if a.shape != b.shape:
            self.reason = self.reason or f"shape {list(b.shape)} instead of {list(a.shape)}"
            return
        self.count += a.size
        if a.dtype.kind in "OUS" or b.dtype.kind in "OUS":
            unequal = int((a != b).sum())
            self.unequal += unequal
            self.reason = self.reason or ("other strings" if unequal else "")
            return
        for x, y in _chunks(a, b):
            self._update_numbers(x, y)
        if a.ndim and a.shape[-1] > 1 and a.size and a.dtype.kind != "c":
            agree = _argmax(a) == _argmax(b)
            self.rows += agree.size
            self.agreeing += int(agree.sum())

    def _update_nested(self, reference: Any, candidate: Any) -> None:
        a, b = _parts(reference), _parts(candidate)
        if a is None or b is None or a.keys() != b.keys():
            self.reason = self.reason or "another number of parts, or other keys"
            return
        for key, value in a.items():
            self.update(value, b[key])

    def _update_numbers(self, x: Array, y: Array) -> None:
        differs = (x != y) & ~(np.isnan(x) & np.isnan(y))
        self.unequal += int(np.count_nonzero(differs))
        finite = np.isfinite(x) & np.isfinite(y)
        if not finite.all():
            if (differs & ~finite).any():
                self.reason = self.reason or "NaN or infinity where the other has a number"
            x, y = x[finite], y[finite]
        if not x.size:
            return
        difference = np.abs(x - y)
        self.max_abs = max(self.max_abs, float(difference.max()))
        self.max_reference = max(self.max_reference, float(np.abs(x).max()))
        self.signal += float(np.vdot(x, x).real)
        self.noise += float(np.vdot(difference, difference).real)
        self.power += float(np.vdot(y, y).real)
        self.dot += float(np.vdot(x, y).real)

    def difference(self) -> Difference:
        """The difference of everything so far."""
        wrong = bool(self.reason)
        return Difference(
            max_error=math.inf if wrong else _ratio(self.max_abs, self.max_reference),
            max_abs=math.inf if wrong else self.max_abs,
            sqnr_db=-math.inf if wrong else _decibels(self.signal, self.noise),
            cosine=0.0 if wrong else _cosine(self.dot, self.signal, self.power),
            argmax_agreement=self.agreeing / self.rows if self.rows else None,
            mismatch=self.unequal / self.count if self.count else float(wrong),
            count=self.count,
            reason=self.reason,
        )


def compare(reference: Any, candidate: Any) -> Difference:
    """The difference of two arrays of any element types, or of equally nested lists and dictionaries of them."""
    comparison = Comparison()
    comparison.update(reference, candidate)
    return comparison.difference()


def max_error(reference: Array, candidate: Array) -> float:
    """`compare(reference, candidate).max_error`; floats that numpy has are subtracted in their own precision, which is
    far faster.
    """
    if reference.shape != candidate.shape or reference.dtype != candidate.dtype or reference.dtype not in PLAIN:
        return compare(reference, candidate).max_error
    worst = scale = 0.0
    a, b = reference.reshape(-1), candidate.reshape(-1)
    with np.errstate(all="ignore"):
        for start in range(0, a.size, SLICE):
            x = a[start : start + SLICE]
            apart = x - b[start : start + SLICE]
            ends = float(apart.max()), -float(apart.min())
            if not math.isfinite(ends[0] + ends[1]):
                return compare(reference, candidate).max_error
            worst = max(worst, *ends)
            scale = max(scale, float(x.max()), -float(x.min()))
    return _ratio(worst, scale)


def _parts(value: Any) -> dict[Any, Any] | None:
    if isinstance(value, dict):
        return value
    return dict(enumerate(value)) if isinstance(value, (list, tuple)) else None


def _chunks(a: Array, b: Array) -> Iterator[tuple[Array, Array]]:
    """Both arrays in double precision, a part at a time."""
    flat_a, flat_b = a.reshape(-1), b.reshape(-1)
    wide = np.complex128 if "c" in (a.dtype.kind, b.dtype.kind) else np.float64
    for start in range(0, flat_a.size, CHUNK):
        yield flat_a[start : start + CHUNK].astype(wide), flat_b[start : start + CHUNK].astype(wide)


def _argmax(array: Array) -> Array:
    plain = array if array.dtype.kind in "biuf" else array.astype(np.float32)
    return plain.argmax(axis=-1)


def _ratio(error: float, scale: float) -> float:
    return error / scale if scale else (math.inf if error else 0.0)


def _decibels(signal: float, noise: float) -> float:
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def _cosine(dot: float, a: float, b: float) -> float:
    if a and b:
        return max(-1.0, min(1.0, dot / math.sqrt(a) / math.sqrt(b)))
    return 1.0 if a == b else 0.0
