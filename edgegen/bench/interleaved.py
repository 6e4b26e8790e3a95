"""Compare callables fairly: in turn, round by round, so that a slow second of the machine hits all of them alike."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def time_interleaved(
    calls: Mapping[str, Callable[[], Any]], rounds: int, *, warmup_rounds: int = 2, settle: int = 1, seed: int = 0
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
                elapsed = _timed(calls[name], settle)
                if index >= 0:
                    taken[name].append(elapsed)
    finally:
        if was_on:
            gc.enable()
    return {name: np.array(samples, dtype=np.int64) for name, samples in taken.items()}


def _timed(call: Callable[[], Any], settle: int) -> int:
    for _ in range(settle):
        call()
    begin = time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - begin
