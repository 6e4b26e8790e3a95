"""Compare callables fairly: in turn, round by round, so that a slow second of the machine hits all of them alike."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def clock_of(threads: int) -> Callable[[], int]:
    """Return the clock, in ns, for what runs on `threads` threads (0: all cores).

    On one, which is then the one that calls, it is the processor time of that thread: other work on the machine is not in it.
    Otherwise it is the time on the wall.
    """
    return time.thread_time_ns if threads == 1 else time.perf_counter_ns


def time_interleaved(
    calls: Mapping[str, Callable[[], Any]],
    rounds: int,
    *,
    warmup_rounds: int = 2,
    settle: int = 1,
    seed: int = 0,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, NDArray[np.int64]]:
    """Return per name `rounds` run times in ns, (rounds,). In every round each callable runs once, in a new random order.

    Before each timed run come `settle` untimed ones of the same callable: they bring its weights back into the caches and wait
    out the spinning threads of the one before. The first `warmup_rounds` rounds do not count.
    """
    rng, order = random.Random(seed), list(calls)
    taken: dict[str, list[int]] = {name: [] for name in calls}
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for index in range(-warmup_rounds, rounds):
            rng.shuffle(order)
            for name in order:
                elapsed = _timed(calls[name], settle, clock)
                if index >= 0:
                    taken[name].append(elapsed)
    finally:
        if was_on:
            gc.enable()
    return {name: np.array(samples, dtype=np.int64) for name, samples in taken.items()}


def _timed(call: Callable[[], Any], settle: int, clock: Callable[[], int]) -> int:
    for _ in range(settle):
        call()
    begin = clock()
    call()
    return clock() - begin
