"""The parts of a record that sensors tell. Like all of a record, None means unknown, never zero."""

from __future__ import annotations

import dataclasses
from typing import Any

from edgegen.bench.statistics import Summary


def added() -> Any:
    """Return a field that the first records did not have: None is left out, so that they stay as they were."""
    return dataclasses.field(default=None, metadata={"added": True})


@dataclasses.dataclass(frozen=True)
class CoolStart:
    """How long each process waited until all zones were near where they were at rest, and how far above that it began at most.

    `reached`: each began within 5 C of it.
    """

    waited_s: tuple[float, ...]
    above_rest_c: float
    reached: bool


@dataclasses.dataclass(frozen=True)
class Power:
    """Power of the sustained phase, from the same runs as the latency. `rail` is the whole board, or the processor package.

    `idle_w` was taken right before loading; `energy_above_idle_mj` leaves it out.
    """

    method: str
    rail: str
    n: int
    mean_w: float
    idle_w: float | None = None
    max_w: float | None = None
    energy_per_inference_mj: float | None = None
    energy_above_idle_mj: float | None = None
    uncertainty: str | None = None


@dataclasses.dataclass(frozen=True)
class ZoneHeat:
    """The temperature of one zone during the sustained phase."""

    start: float
    mean: float
    max: float


@dataclasses.dataclass(frozen=True)
class Thermal:
    """`soaked`: the hottest zone moved by less than 0.5 C a minute over the last three; None if it ran for less than that.

    `throttle_events` are by how much counters grew; `throttled` is None where nothing would tell.
    """

    zones_c: dict[str, ZoneHeat]
    trips_c: dict[str, float]
    soaked: bool | None = None
    throttled: bool | None = None
    throttle_events: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Clocks:
    """Clocks during the sustained phase, and whether the limits that were equal before it still were after it."""

    cpu_hz_p50: float | None = None
    cpu_hz_min: float | None = None
    gpu_hz_p50: float | None = None
    gpu_hz_min: float | None = None
    source: str | None = None
    lock_held: bool | None = None


@dataclasses.dataclass(frozen=True)
class Pacing:
    """Runs that were due once a period. A run that was done later than one period after it was due is a miss, and so is every
    one that could not begin because the one before took so long (`dropped`)."""

    period_ms: float
    misses: int
    dropped: int
    miss_ratio: float
    longest_miss_run: int
    begun_late_ms: Summary
