"""Numbers as people read them: a unit on each, about three figures, and a dash for what is unknown."""

from __future__ import annotations

UNKNOWN = "–"
_NARROW_SPACE = "\u202f"


def milliseconds(value: float | None) -> str:
    """Return a duration given in ms, in the unit that suits it: 850 µs, 7.9 ms, 1.2 s."""
    if value is None:
        return UNKNOWN
    if value < 1:
        return _with_unit(value * 1000, "µs")
    return _with_unit(value, "ms") if value < 10_000 else _with_unit(value / 1000, "s")


def seconds(value: float | None) -> str:
    """Return a wall time: 0.4 s, 12 s, 5 min 12 s, 1 h 04 min."""
    if value is None:
        return UNKNOWN
    if value < 59.95:
        return _with_unit(value, "s")
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}{_NARROW_SPACE}min {rest:02}{_NARROW_SPACE}s"
    return f"{minutes // 60}{_NARROW_SPACE}h {minutes % 60:02}{_NARROW_SPACE}min"


def size(value: float | None) -> str:
    """Return a count of bytes: 512 B, 96.0 KiB, 1.21 MiB."""
    return _scaled(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def amount(value: float | None, unit: str = "") -> str:
    """Return a large count: 175 k, 1.57 G; with a unit, 1.57 GMAC."""
    return _scaled(value, 1000, tuple(prefix + unit for prefix in ("", "k", "M", "G", "T")))


def decibel(value: float | None) -> str:
    """Return a level in dB."""
    return UNKNOWN if value is None else f"{value:.1f}{_NARROW_SPACE}dB"


def score(value: float | None) -> str:
    """Return a similarity between 0 and 1."""
    return UNKNOWN if value is None else f"{value:.3f}"


def percent(value: float | None) -> str:
    """Return a share of 1 in percent."""
    return UNKNOWN if value is None else f"{value * 100:.3g}{_NARROW_SPACE}%"


def deviation(value: float | None) -> str:
    """Return a relative error with its sign: +4.1 %, −12 %."""
    if value is None:
        return UNKNOWN
    share = abs(value) * 100
    return f"{'−' if value < 0 else '+'}{share:{'.2g' if share < 99.5 else '.0f'}}{_NARROW_SPACE}%"


def times(value: float | None) -> str:
    """Return a factor: 11.2×."""
    return UNKNOWN if value is None else f"{_figures(value)}×"


def ratio(before: float | None, after: float | None) -> float | None:
    """Return before / after; None when either is unknown or zero."""
    return before / after if before and after else None


def _scaled(value: float | None, base: int, units: tuple[str, ...]) -> str:
    if value is None:
        return UNKNOWN
    power = 0
    while abs(value) >= base * 0.9995 and power < len(units) - 1:
        value, power = value / base, power + 1
    text = f"{value:.0f}" if power == 0 else _figures(value)
    return f"{text}{_NARROW_SPACE}{units[power]}" if units[power] else text


def _with_unit(value: float, unit: str) -> str:
    return f"{_figures(value)}{_NARROW_SPACE}{unit}"


def _figures(value: float) -> str:
    """Return about three figures without an exponent."""
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
