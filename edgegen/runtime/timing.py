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


def measure(call: Callable[[int], Any], *, min_runs: int, min_seconds: float, warmup_runs: Optional[int] = None) -> Samples:
    """Time `call(i)` for i = 0, 1, 2, ... until there are `min_runs` runs AND `min_seconds` have passed.

    `call` gets the number of the run, so that it can take another input each time. Warm-up ends when the last 20 runs vary by
    less than 5 % (standard deviation over mean), after 60 runs or after 30 s; or after exactly `warmup_runs`. The garbage
    collector rests meanwhile.
    """
    if min_runs < 1:
        raise ValueError(f"min_runs is {min_runs}, at least 1 is needed")
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        begin = time.perf_counter_ns()
        warmup, stable = _warm_up(call, warmup_runs)
        start = time.perf_counter_ns()
        samples: List[int] = []
        least_ns = int(min_seconds * 1e9)
        while len(samples) < min_runs or time.perf_counter_ns() - start < least_ns:
            samples.append(_timed(call, warmup + len(samples)))
        return Samples(tuple(samples), time.perf_counter_ns() - start, warmup, start - begin, stable)
    finally:
        if was_on:
            gc.enable()


def _warm_up(call: Callable[[int], Any], runs: Optional[int]) -> Tuple[int, Optional[bool]]:
    """Return how many runs were made and whether they became stable; None if their number was fixed."""
    if runs is not None:
        for index in range(runs):
            call(index)
        return runs, None
    samples: List[int] = []
    start = time.perf_counter_ns()
    while len(samples) < _MAX_WARMUP_RUNS and time.perf_counter_ns() - start < _MAX_WARMUP_NS:
        samples.append(_timed(call, len(samples)))
        if len(samples) >= _WINDOW and variation(samples[-_WINDOW:]) < _STABLE_COV:
            return len(samples), True
    return len(samples), False


def variation(samples: Sequence[int]) -> float:
    """Return the coefficient of variation: standard deviation (n - 1) over mean; 0 for a single sample."""
    if len(samples) < 2:
        return 0.0
    mean = sum(samples) / len(samples)
    return math.sqrt(sum((s - mean) ** 2 for s in samples) / (len(samples) - 1)) / mean if mean else 0.0


def _timed(call: Callable[[int], Any], index: int) -> int:
    begin = time.perf_counter_ns()
    call(index)
    return time.perf_counter_ns() - begin
