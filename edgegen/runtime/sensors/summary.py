"""Samples of all sensors during one phase, as a few numbers per sensor. Python >= 3.8, standard library only."""

from __future__ import annotations

import math
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from edgegen.runtime.sensors.rapl import grown
from edgegen.runtime.sensors.reading import Quantity, Reading

_MAX_WARNINGS = 20
_SLOPE_WINDOW_NS = 180 * 10**9
_CUMULATIVE = (Quantity.ENERGY, Quantity.EVENTS)


class PhaseSensors:
    """Collects the samples of one phase."""

    def __init__(self) -> None:
        self._times_ns: List[int] = []
        self._series: Dict[str, List[Tuple[int, Reading]]] = {}

    def add(self, time_ns: int, readings: Mapping[str, Reading]) -> None:
        """Take one sample of all sensors, made at `time_ns`."""
        self._times_ns.append(time_ns)
        for key, reading in readings.items():
            self._series.setdefault(key, []).append((time_ns, reading))

    def to_json(self) -> Dict[str, Any]:
        """Return the number of samples, what each sensor said, and the slope of the hottest zone over the last three minutes."""
        count = len(self._times_ns)
        return {
            "samples": count, "seconds": (self._times_ns[-1] - self._times_ns[0]) / 1e9 if count else 0.0,
            "sensors": {key: _summary(series, self._times_ns) for key, series in sorted(self._series.items())},
            "slope_c_per_min": self._slope(), "warnings": self._warnings(),
        }  # fmt: skip

    def _slope(self) -> Optional[float]:
        """Least squares through what the zone said that is hottest at the end; None with less than three minutes of it."""
        zones = [series for key, series in self._series.items() if key.startswith(Quantity.TEMPERATURE.value)]
        known = [[(at, r.value) for at, r in series if r.value is not None] for series in zones]
        hottest = max((series for series in known if series), key=lambda series: series[-1][1], default=None)
        if hottest is None or hottest[-1][0] - hottest[0][0] < _SLOPE_WINDOW_NS:
            return None
        last = [(at / 60e9, value) for at, value in hottest if at >= hottest[-1][0] - _SLOPE_WINDOW_NS]
        mean_x, mean_y = (sum(point[axis] for point in last) / len(last) for axis in (0, 1))
        spread = sum((x - mean_x) ** 2 for x, _ in last)
        return round(sum((x - mean_x) * (y - mean_y) for x, y in last) / spread, 4) if spread else None

    def _warnings(self) -> List[str]:
        found: List[str] = []
        for key, series in sorted(self._series.items()):
            problem = next((reading.problem for _, reading in series if reading.problem), None)
            if problem is not None:
                found.append(f"{key}: {problem}")
        return found[:_MAX_WARNINGS]


def _summary(series: Sequence[Tuple[int, Reading]], times_ns: Sequence[int]) -> Dict[str, Any]:
    """`missing` counts samples without a value; `vanished`: it had values, and none at the end."""
    reading = series[0][1]
    values = [r.value for _, r in series if r.value is not None and math.isfinite(r.value)]
    found: Dict[str, Any] = {
        "source": reading.source, "n": len(values), "missing": len(times_ns) - len(values),
        "vanished": bool(values) and (series[-1][0] != times_ns[-1] or series[-1][1].value is None),
    }  # fmt: skip
    if not values:
        return found
    if reading.quantity in _CUMULATIVE:
        return {**found, "rise": _rise(values, reading), "seconds": (series[-1][0] - series[0][0]) / 1e9}
    ordered = sorted(values)
    return {
        **found, "first": values[0], "mean": sum(values) / len(values), "p50": ordered[(len(ordered) - 1) // 2],
        "min": ordered[0], "max": ordered[-1],
    }  # fmt: skip


def _rise(values: Sequence[float], reading: Reading) -> Optional[float]:
    """Return by how much a counter grew from sample to sample; None if it fell and cannot have wrapped."""
    total = 0.0
    for before, after in zip(values, values[1:]):
        step = grown(before, after, reading.wraps_at)
        if step is None:
            return None
        total += step
    return total
