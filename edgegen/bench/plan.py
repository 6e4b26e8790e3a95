"""What to run: profiles from quick to full, pacing, cores, and the state that the device is to be in."""

from __future__ import annotations

import dataclasses
import enum
import math
import secrets
from typing import Any

from edgegen.runtime.device_state import Wanted

QUICK_RUNS, QUICK_SECONDS = 64, 10.0
STANDARD_RUNS, STANDARD_SECONDS = 1024, 60.0
FULL_SECONDS = 600.0
_BURST_SECONDS, _BURST_SHARE = 10.0, 1 / 6  # the burst takes at most a sixth of the sustained phase
_PATIENCE = 4.0  # how much longer than planned the state of the device is held: the runs may be slow
_LEAST_LEASE_S = 300.0
_COST_SECONDS, _COST_SHARE, _LEAST_COST_S = 2.0, 0.2, 0.2  # what sampling costs is found beside the sustained phase of a process


class Profile(enum.Enum):
    """How long a measurement takes. A record names the largest one that it satisfies, whatever was asked for."""

    QUICK = "quick"
    STANDARD = "standard"
    FULL = "full"


@dataclasses.dataclass(frozen=True)
class BenchPlan:
    """How to measure. `min_runs` and `min_seconds` are shared out to `processes` fresh ones, all of which also give cold numbers;
    each of `cold_processes` only loads and infers once.

    `period_s` paces the sustained runs, `cores` pins the measuring processes, `wanted` changes the state of the device for the
    time of the measurement. The device ends a process that takes longer than `child_limit_s`. `sensor_root` is where /sys lies.
    Before each process that is timed the device gets `cool_wait_s` at most to cool down to what it was at rest. The inputs are
    drawn from `seed`, None: one of the moment. `ambient_c` is what somebody says of the room.
    """

    backend: str | None = None
    threads: int = 0
    min_runs: int = STANDARD_RUNS
    min_seconds: float = STANDARD_SECONDS
    processes: int = 1
    cold_processes: int = 2
    seed: int | None = None
    child_limit_s: float = 4 * 3600.0
    period_s: float | None = None
    cores: tuple[int, ...] | None = None
    wanted: Wanted = Wanted()
    sensor_hz: float = 10.0
    sensor_root: str = "/"
    journal: str | None = None
    cool_wait_s: float = 0.0
    ambient_c: float | None = None

    @property
    def profile(self) -> str:
        """What the record may call itself."""
        if self.min_seconds >= FULL_SECONDS:
            return Profile.FULL.value
        if self.min_seconds >= STANDARD_SECONDS and self.min_runs >= STANDARD_RUNS:
            return Profile.STANDARD.value
        return Profile.QUICK.value if self.min_seconds >= QUICK_SECONDS and self.min_runs >= QUICK_RUNS else "short"

    @property
    def process_seconds(self) -> float:
        """How long the sustained phase of each process lasts at least."""
        return self.min_seconds / self.processes

    @property
    def cost_seconds(self) -> float:
        """For how long each process sets runs with and without sampling against each other; 0 where it would say nothing."""
        seconds = min(_COST_SECONDS, self.process_seconds * _COST_SHARE)
        return seconds if seconds >= _LEAST_COST_S and self.sensor_hz > 0 else 0.0

    def seeded(self) -> BenchPlan:
        """Return the same plan with a seed: nothing can be made for inputs that nobody knows before."""
        return self if self.seed is not None else dataclasses.replace(self, seed=secrets.randbelow(1 << 31))

    @property
    def lease_s(self) -> float:
        """For how long the state of the device is asked for at a time: longer than a process should take."""
        return max(_LEAST_LEASE_S, _PATIENCE * self.process_seconds)

    def common_options(self, artifact: str) -> tuple[str, ...]:
        """Return the options of `python -m edgegen.runtime` that every command of this plan gets."""
        return ("--backend", artifact, "--threads", str(self.threads))

    def cold_options(self) -> tuple[str, ...]:
        """Return the options of `time --cold`."""
        pinned = () if self.cores is None else ("--affinity", ",".join(map(str, self.cores)))
        return ("--seed", str(self.seed or 0), *pinned)

    def warm_options(self) -> tuple[str, ...]:
        """Return the options of `time`."""
        values: dict[str, Any] = {
            "--min-runs": math.ceil(self.min_runs / self.processes), "--min-seconds": self.process_seconds,
            "--burst-seconds": min(_BURST_SECONDS, self.process_seconds * _BURST_SHARE), "--sensor-root": self.sensor_root,
            "--hz": self.sensor_hz, "--cost-seconds": self.cost_seconds,
        }  # fmt: skip
        paced = () if self.period_s is None else ("--period-s", str(self.period_s))
        return (*self.cold_options(), *paced, *(str(part) for pair in values.items() for part in pair))


def profile_plan(profile: Profile) -> BenchPlan:
    """Return the plan of a profile: `dataclasses.replace` changes single settings."""
    match profile:
        case Profile.QUICK:
            return BenchPlan(min_runs=QUICK_RUNS, min_seconds=QUICK_SECONDS, processes=3, cold_processes=0, cool_wait_s=20.0)
        case Profile.STANDARD:
            return BenchPlan(
                min_runs=STANDARD_RUNS, min_seconds=STANDARD_SECONDS, processes=5, cold_processes=0, cool_wait_s=120.0
            )
        case Profile.FULL:
            return BenchPlan(min_runs=STANDARD_RUNS, min_seconds=FULL_SECONDS, processes=5, cold_processes=0, cool_wait_s=600.0)
