"""Timing compiled OpenVINO models on a machine that others use too."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

_LEAST_ROUNDS, _MOST_ROUNDS = 6, 40
_ENOUGH_NS = 25_000_000  # of one model
_SMALL_NS = 2_000_000  # what runs longer works on more than the caches of a core hold: warming them up gains nothing
_EVICT_BYTES = 2 << 20
_QUANTILE = 5  # the fifth part of the samples that is fastest: its slowest counts


@dataclasses.dataclass(frozen=True)
class Timed:
    """An OpenVINO model to time. `cold`: with nothing of it in the caches of a core, where the other layers of a large generator
    leave nothing either. Otherwise it runs once right before each timed run, as all of a small generator stays there.
    `arithmetic` is what its float layers may compute in: "f32", "f16" or "bf16"."""

    model: Any
    cold: bool
    arithmetic: str = "f32"


def fastest_seconds(models: Sequence[Timed], threads: int) -> list[float]:
    """Return what one run of each model takes on the CPU, in seconds, run in turn, round by round.

    On one thread the processor time of that thread is counted: other processes do not appear in it. On several it is the time on
    the wall, of which they take part. Either way noise only adds, so a low quantile is returned.
    """
    import openvino as ov

    evict = _eviction()
    core = ov.Core()
    calls, samples = [_compiled(core, timed, threads) for timed in models], [list[int]() for _ in models]
    clock: Callable[[], int] = time.thread_time_ns if threads == 1 else time.perf_counter_ns
    for round_number in range(_MOST_ROUNDS):
        waiting = [i for i, s in enumerate(samples) if round_number < _LEAST_ROUNDS or sum(s) < _ENOUGH_NS]
        if not waiting:
            break
        for index in waiting:
            if not samples[index] or samples[index][-1] < _SMALL_NS:
                calls[index]()
            if models[index].cold:
                evict()
            begin = clock()
            calls[index]()
            samples[index].append(clock() - begin)
    return [sorted(s)[len(s) // _QUANTILE] * 1e-9 for s in samples]


def _eviction() -> Callable[[], Any]:
    """Return what pushes all else out of the caches of a core. Shared caches are larger: they keep it, as in a generator."""
    import numpy as np

    buffer = np.zeros(_EVICT_BYTES, np.uint8)
    return lambda: np.add(buffer, 1, out=buffer)


def _compiled(core: Any, timed: Timed, threads: int) -> Callable[[], Any]:
    import numpy as np

    config: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": timed.arithmetic}
    if threads:
        config["INFERENCE_NUM_THREADS"] = threads
    if threads == 1:  # by default every process would run on the same core, idle or not
        config["ENABLE_CPU_PINNING"] = False
    compiled = core.compile_model(timed.model, "CPU", config)
    request, rng = compiled.create_infer_request(), np.random.default_rng(0)
    data = [rng.standard_normal(tuple(port.shape)).astype(np.float32) for port in compiled.inputs]
    return lambda: request.infer(data, share_inputs=True)
