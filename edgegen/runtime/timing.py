"""Time a call honestly: warm up until it is stable, then at least so many runs and so many seconds, integer nanoseconds.

Python >= 3.8, standard library only.
"""

from __future__ import annotations

import dataclasses
import gc
import math
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

_WINDOW = 20
_STABLE_COV = 0.05
_MAX_WARMUP_RUNS = 60
_MAX_WARMUP_NS = 30 * 10**9
_SPIN_NS = 200_000  # the end of a wait is spent awake: sleeping wakes up late by about this much


@dataclasses.dataclass(frozen=True)
class Samples:
    """Raw run times in the order they were taken. `warmup_stable` is None after a fixed number of warm-up runs."""

    samples_ns: Tuple[int, ...]
    duration_ns: int
    warmup_runs: int
    warmup_ns: int
    warmup_stable: Optional[bool]

    def to_json(self) -> Dict[str, Any]:
        """Return the plain JSON object."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class PacedSamples:
    """Run times of calls that were due at a fixed period, and by how much each began and ended after its due time.

    A call that is still running when the next one is due takes its place: those that could not begin are `dropped`.
    """

    samples_ns: Tuple[int, ...]
    begun_late_ns: Tuple[int, ...]
    done_after_ns: Tuple[int, ...]
    dropped: int
    duration_ns: int
    period_ns: int

    def to_json(self) -> Dict[str, Any]:
        """Return the plain JSON object."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Clock:
    """What tells the time and waits; tests bring their own."""

    now_ns: Callable[[], int] = time.perf_counter_ns
    sleep_s: Callable[[float], None] = time.sleep


_CLOCK = Clock()


def measure(
    call: Callable[[int], Any], *, min_runs: int, min_seconds: float, warmup_runs: Optional[int] = None, clock: Clock = _CLOCK
) -> Samples:
    """Time `call(i)` for i = 0, 1, 2, ... until there are `min_runs` runs AND `min_seconds` have passed.

    `call` gets the number of the run, so that it can take another input each time. Warm-up ends when the last 20 runs vary by
    less than 5 % (standard deviation over mean), after 60 runs or after 30 s; or after exactly `warmup_runs`. The garbage
    collector rests meanwhile.
    """
    if min_runs < 1:
        raise ValueError(f"min_runs is {min_runs}, at least 1 is needed")
    with _GarbageKept():
        begin = clock.now_ns()
        warmup, stable = _warm_up(call, warmup_runs, clock)
        start = clock.now_ns()
        samples: List[int] = []
        least_ns = int(min_seconds * 1e9)
        while len(samples) < min_runs or clock.now_ns() - start < least_ns:
            samples.append(_timed(call, warmup + len(samples), clock))
        return Samples(tuple(samples), clock.now_ns() - start, warmup, start - begin, stable)


def measure_paced(
    call: Callable[[int], Any], *, min_runs: int, min_seconds: float, period_s: float, clock: Clock = _CLOCK
) -> PacedSamples:
    """Time `call(i)` as a camera would ask for it: once every `period_s`, at least `min_runs` times and for `min_seconds`.

    Without warm-up. The processor may slow down between calls, as it would on a device: so paced runs can take longer.
    """
    if min_runs < 1 or period_s <= 0:
        raise ValueError(f"min_runs is {min_runs} and period_s is {period_s}: both must be above 0")
    period_ns, least_ns = int(period_s * 1e9), int(min_seconds * 1e9)
    samples: List[int] = []
    late: List[int] = []
    after: List[int] = []
    with _GarbageKept():
        start, slot = clock.now_ns(), 0
        while len(samples) < min_runs or clock.now_ns() - start < least_ns:
            due = start + slot * period_ns
            _wait_until(due, clock)
            begin = clock.now_ns()
            call(len(samples))
            end = clock.now_ns()
            samples.append(end - begin)
            late.append(begin - due)
            after.append(end - due)
            slot = max(slot + 1, (end - start) // period_ns)
        dropped = slot - len(samples)
        return PacedSamples(tuple(samples), tuple(late), tuple(after), dropped, clock.now_ns() - start, period_ns)


def _wait_until(due: int, clock: Clock) -> None:
    left = due - clock.now_ns()
    if left > _SPIN_NS:
        clock.sleep_s((left - _SPIN_NS) / 1e9)
    while clock.now_ns() < due:
        pass


def _warm_up(call: Callable[[int], Any], runs: Optional[int], clock: Clock) -> Tuple[int, Optional[bool]]:
    """Return how many runs were made and whether they became stable; None if their number was fixed."""
    if runs is not None:
        for index in range(runs):
            call(index)
        return runs, None
    samples: List[int] = []
    start = clock.now_ns()
    while len(samples) < _MAX_WARMUP_RUNS and clock.now_ns() - start < _MAX_WARMUP_NS:
        samples.append(_timed(call, len(samples), clock))
        if len(samples) >= _WINDOW and variation(samples[-_WINDOW:]) < _STABLE_COV:
            return len(samples), True
    return len(samples), False


def variation(samples: Sequence[int]) -> float:
    """Return the coefficient of variation: standard deviation (n - 1) over mean; 0 for a single sample."""
    if len(samples) < 2:
        return 0.0
    mean = sum(samples) / len(samples)
    return math.sqrt(sum((s - mean) ** 2 for s in samples) / (len(samples) - 1)) / mean if mean else 0.0


def _timed(call: Callable[[int], Any], index: int, clock: Clock) -> int:
    begin = clock.now_ns()
    call(index)
    return clock.now_ns() - begin


class _GarbageKept:
    """Lets the garbage collector rest: what it finds would be paid by one run."""

    def __enter__(self) -> None:
        self._was_on = gc.isenabled()
        gc.collect()
        gc.disable()

    def __exit__(self, *error: object) -> None:
        if self._was_on:
            gc.enable()


@dataclasses.dataclass(frozen=True)
class Moment:
    """One instant on three clocks. The wall clock may be set meanwhile, and a machine that sleeps stops the monotonic one."""

    monotonic_ns: int
    wall_ns: int
    boot_ns: Optional[int]


def moment() -> Moment:
    """Return the present instant."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return Moment(time.monotonic_ns(), time.time_ns(), None if boot is None else time.clock_gettime_ns(boot))


def clock_jumps(before: Moment, after: Moment) -> Tuple[int, int]:
    """Return by how many ns the wall clock was set between two moments, and for how many ns the machine slept."""
    passed = after.monotonic_ns - before.monotonic_ns
    known = before.boot_ns is not None and after.boot_ns is not None
    asleep = (after.boot_ns - before.boot_ns) - passed if known else 0  # type: ignore[operator]
    return after.wall_ns - before.wall_ns - passed - asleep, asleep
