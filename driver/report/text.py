"""Numbers as a reader wants them: three significant digits, decimal units, and an en dash for what was not measured."""

from __future__ import annotations

import math

ABSENT = "–"
_THIN = "\N{NARROW NO-BREAK SPACE}"
_MINUS = "\N{MINUS SIGN}"


def significant(value: float, digits: int = 3) -> str:
    """`value` in plain notation with that many significant digits and thousands separators: 0.0123, 4.57, 1,230."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:,.{decimals}f}".replace("-", _MINUS)


def count(value: int | None) -> str:
    """Every digit: 11,689,512."""
    return ABSENT if value is None else f"{value:,}".replace("-", _MINUS)


def plural(number: int, noun: str) -> str:
    """1 step, 3 steps."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def compact(value: float | None) -> str:
    """Three digits and a power of a thousand: 842, 11.7 k, 40.8 M, 1.82 G."""
    return ABSENT if value is None else _scaled(value, ("", "k", "M", "G", "T", "P"))


def size(value: float | None) -> str:
    """Bytes in decimal units: 512 B, 9.81 kB, 44.6 MB."""
    return ABSENT if value is None else _scaled(value, ("B", "kB", "MB", "GB", "TB", "PB"))


def _scaled(value: float, units: tuple[str, ...]) -> str:
    power = 0
    scaled = float(value)
    # 999.6 kB has to read 1.00 MB, not 1,000 kB: compare what would be printed.
    while abs(float(f"{scaled:.2e}")) >= 1000 and power < len(units) - 1:
        scaled /= 1000
        power += 1
    number = count(round(scaled)) if power == 0 and scaled == round(scaled) else significant(scaled)
    return f"{number}{_THIN}{units[power]}" if units[power] else number


def milliseconds(value: float | None) -> str:
    """12.4 ms, 0.412 ms, 8.31 µs."""
    if value is None:
        return ABSENT
    if value == 0 or abs(value) >= 0.01:
        return f"{significant(value)}{_THIN}ms"
    return f"{significant(value * 1e3)}{_THIN}µs"


def seconds(value: float | None) -> str:
    """0.31 s; two digits are enough for how long a pass took."""
    return ABSENT if value is None else f"{significant(value, 2)}{_THIN}s"


def ratio(value: float | None) -> str:
    """0.45×; two decimals, more below a tenth."""
    if value is None:
        return ABSENT
    return f"{value:.2f}×" if value == 0 or abs(value) >= 0.0995 else f"{significant(value, 2)}×"


def interval(low: float | None, high: float | None) -> str:
    """[0.44, 0.46] with as many decimals as tell the two apart; empty where either end is absent."""
    if low is None or high is None:
        return ""
    largest = max(abs(low), abs(high))
    decimals = max(0, 2 - math.floor(math.log10(largest))) if largest else 0
    while low != high and f"{low:.{decimals}f}" == f"{high:.{decimals}f}" and decimals < 9:
        decimals += 1
    return f"[{low:,.{decimals}f}, {high:,.{decimals}f}]".replace("-", _MINUS)


def change(before: float | None, after: float | None) -> str:
    """The change from `before` to `after` in percent, signed: −78 %, +4.2 %; absent where there is no proportion."""
    if before is None or after is None or before == 0:
        return ABSENT
    percent = (after / before - 1) * 100
    if abs(percent) < 0.05:
        return f"±0{_THIN}%"
    digits = 3 if abs(percent) >= 99 else 2
    return f"{'+' if percent > 0 else ''}{significant(percent, digits)}{_THIN}%"


def difference(before: float, after: float) -> str:
    """The signed difference with two significant digits: −0.0056."""
    return f"{'+' if after > before else ''}{significant(after - before, 2)}"


def decimal(value: float | None) -> str:
    """A metric's value: four significant digits, so 0.9833 and 76.13."""
    return ABSENT if value is None else significant(value, 4)


def scientific(value: float | None) -> str:
    """An error: 2.1e-6; plain from a hundredth up."""
    if value is None:
        return ABSENT
    if value == 0 or abs(value) >= 0.01:
        return significant(value, 2)
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def decibels(value: float | None) -> str:
    """38.2 dB."""
    return ABSENT if value is None else f"{value:.1f}{_THIN}dB".replace("-", _MINUS)


def quantity(value: float | None, unit: str) -> str:
    """A goal's limit or value in the clause's unit."""
    if value is None:
        return ABSENT
    known = {"x": ratio, "B": size, "ms": milliseconds, "dB": decibels}
    if unit in known:
        return known[unit](value)
    return f"{value:.4g}{_THIN}{unit}" if unit else f"{value:.4g}"
