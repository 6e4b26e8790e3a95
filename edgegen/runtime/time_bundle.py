"""Time an open bundle in this process. The host starts a fresh process for this, here or on a device, and reads its JSON.

Python >= 3.8, numpy and one back end.
"""

from __future__ import annotations

import dataclasses
import os
import re
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from edgegen.runtime.bundle import OpenBundle, open_bundle
from edgegen.runtime.errors import InputError
from edgegen.runtime.latents import draw, splitmix64
from edgegen.runtime.manifest import ArtifactEntry
from edgegen.runtime.pictures import to_given, to_tensor
from edgegen.runtime.process_facts import core_times, machine_facts, peak_memory_bytes
from edgegen.runtime.runners import CheckedRunner
from edgegen.runtime.sensors.reading import Quantity
from edgegen.runtime.sensors.sense import DEFAULT_HZ, SensorProcess, sample_once
from edgegen.runtime.tensors import Kind, TensorSpec
from edgegen.runtime.timing import clock_jumps, measure, measure_paced, moment

DISTINCT_INPUTS = 16
_SETTLED_RUNS = 3
_PART_RUNS = 20
_NULL_RUNS = 200
_COST_TURN_S, _COST_RUNS = 0.25, 4


@dataclasses.dataclass(frozen=True)
class Timing:
    """What to time and how. `period_s` paces the sustained runs; `cores` pins this process; `sensor_hz` 0 samples nothing.

    For `cost_seconds` each, runs with and without sampling are set against each other afterwards; 0: they are not.
    """

    seed: int = 0
    min_runs: int = 1024
    min_seconds: float = 60.0
    burst_seconds: float = 10.0
    period_s: Optional[float] = None
    cores: Optional[Tuple[int, ...]] = None
    sensor_root: str = "/"
    sensor_hz: float = DEFAULT_HZ
    idle_seconds: float = 1.0
    cost_seconds: float = 0.0


def time_cold(path: str, backend: Optional[str], threads: int, timing: Timing) -> Dict[str, Any]:
    """Return load, compile and first inference in ns, and peak memory: right only in a process that did nothing before."""
    pin(timing.cores)
    before = peak_memory_bytes()
    with open_bundle(path, backend, threads) as bundle:
        return _cold(bundle, timing.seed, before)


def time_warm(path: str, backend: Optional[str], threads: int, timing: Timing) -> Dict[str, Any]:
    """Return what `time_cold` does, then a burst after the warm-up, then the sustained phase, with the sensors of both.

    Timed is `run`: tensors in, tensors out, the copy of the outputs included. Inputs are a ring of 16 distinct ones.
    `parts_ns` are medians of the conversions around it, `harness_ns` is what the timing itself adds to a run.
    """
    usable = usable_cores()
    pin(timing.cores)
    before = peak_memory_bytes()
    if timing.sensor_hz <= 0:
        return _warm(path, backend, threads, timing, before, None)
    spare = sorted(set(usable or ()) - set(timing.cores or usable or ()))
    with SensorProcess(timing.sensor_root, timing.sensor_hz, spare) as sensors:
        if timing.idle_seconds > 0 and measures_power(timing.sensor_root):
            sensors.phase("idle")
            time.sleep(timing.idle_seconds)
            sensors.phase("")
        found = _warm(path, backend, threads, timing, before, sensors)
        found["sensed"] = sensors.finish()
    return found


def _warm(
    path: str, backend: Optional[str], threads: int, timing: Timing, memory: Optional[int], sensors: Optional[SensorProcess]
) -> Dict[str, Any]:
    with open_bundle(path, backend, threads) as bundle:
        found = _cold(bundle, timing.seed, memory)
        ring = [ring_input(bundle.artifact.io.inputs, timing.seed, index) for index in range(DISTINCT_INPUTS)]
        tensors = [bundle.tensors(*given) for given in ring]
        found["harness_ns"] = harness_ns(bundle.artifact, tensors)
        found["machine_before"], start = machine_facts(timing.sensor_root), moment()

        def call(index: int) -> None:
            bundle.run(tensors[index % DISTINCT_INPUTS])

        busy = foreign_share(timing.sensor_root)
        _begin(sensors, "burst")
        found["burst"] = measure(call, min_runs=1, min_seconds=timing.burst_seconds).to_json()
        _begin(sensors, "sustained")
        found["sustained"] = _sustained(call, timing)
        _begin(sensors, "")
        found["foreign_share"] = busy()
        found["clock_set_ns"], found["asleep_ns"] = clock_jumps(start, moment())
        found["machine_after"] = machine_facts(timing.sensor_root)
        found["sampler_cost"] = sampler_cost(call, sensors, timing.cost_seconds)
        found["clock"] = clock_facts()
        found["parts_ns"] = _parts(bundle, ring)
        found["ran"] = bundle.describe()
        return found


def foreign_share(root: str) -> Callable[[], Optional[float]]:
    """Return what says which part of all cores other processes have taken since now; that gives None where nothing tells."""
    before, own_before = core_times(root), time.process_time()

    def share() -> Optional[float]:
        after, own_s = core_times(root), time.process_time() - own_before
        if before is None or after is None or after[1] <= before[1]:
            return None
        foreign = (after[0] - before[0]) - own_s * os.sysconf("SC_CLK_TCK")
        return round(min(1.0, max(0.0, foreign / (after[1] - before[1]))), 4)

    return share


def sampler_cost(call: Callable[[int], None], sensors: Optional[SensorProcess], seconds: float) -> Optional[float]:
    """Return by which share the median run is longer while the sensors are sampled: both kinds in turn, `seconds` of each.

    None without sensors or seconds. Below zero means: less than the noise.
    """
    if sensors is None or seconds <= 0:
        return None
    turns = max(2, round(seconds / _COST_TURN_S))
    taken: Dict[str, List[int]] = {"": [], "cost": []}
    for turn in range(turns):
        for phase in sorted(taken, reverse=turn % 2 == 1):  # the order changes, so that a machine that slows down hits both alike
            _begin(sensors, phase)
            taken[phase].extend(measure(call, min_runs=_COST_RUNS, min_seconds=seconds / turns, warmup_runs=1).samples_ns)
    _begin(sensors, "")
    without, sampled = (sorted(samples)[len(samples) // 2] for samples in taken.values())
    return round(sampled / without - 1, 5)


def clock_facts() -> Dict[str, Any]:
    """Return which clock times the runs, and its resolution in ns."""
    info = time.get_clock_info("perf_counter")
    found = re.search(r"CLOCK_\w+", info.implementation)
    return {"name": found.group() if found else info.implementation, "resolution_ns": max(1, round(info.resolution * 1e9))}


def _begin(sensors: Optional[SensorProcess], phase: str) -> None:
    if sensors is not None:
        sensors.phase(phase)


def _sustained(call: Callable[[int], None], timing: Timing) -> Dict[str, Any]:
    if timing.period_s is None:
        return measure(call, min_runs=timing.min_runs, min_seconds=timing.min_seconds, warmup_runs=0).to_json()
    return measure_paced(call, min_runs=timing.min_runs, min_seconds=timing.min_seconds, period_s=timing.period_s).to_json()


def pin(cores: Optional[Tuple[int, ...]]) -> None:
    """Keep this process, and the threads that back ends start later, on `cores`. Raises InputError for one that is not there."""
    if cores is None:
        return
    if not hasattr(os, "sched_setaffinity"):
        raise InputError("this system cannot keep a process on chosen cores", hint="leave --affinity out")
    try:
        os.sched_setaffinity(0, cores)
    except (OSError, ValueError) as problem:
        usable = ", ".join(str(core) for core in usable_cores() or ())
        raise InputError(f"--affinity {','.join(map(str, cores))}: {problem}", hint=f"usable cores: {usable}") from problem


def usable_cores() -> Optional[List[int]]:
    """Return the cores that this process may use; None where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def measures_power(root: str) -> bool:
    """Return whether anything under `root` tells power or energy."""
    return any(r.value is not None and r.quantity in (Quantity.POWER, Quantity.ENERGY) for r in sample_once(root).values())


class NullRunner:
    """A back end that does nothing: timing it gives what the timing itself costs."""

    def __init__(self, entry: ArtifactEntry) -> None:
        self._outputs = [np.zeros((1,) + tuple(spec.shape), spec.dtype) for spec in entry.io.outputs]

    def run(self, inputs: List[np.ndarray]) -> List[np.ndarray]:
        """Return the same zeros each time."""
        return self._outputs

    def describe(self) -> Dict[str, Any]:
        """Say so."""
        return {"backend": "null", "version": "0"}

    def close(self) -> None:
        """Nothing to give back."""


def harness_ns(entry: ArtifactEntry, tensors: List[List[np.ndarray]]) -> int:
    """Return the median ns of a run of the artifact if its back end took no time: ring, checks and clock."""
    runner = CheckedRunner(NullRunner(entry), entry)

    def call(index: int) -> None:
        runner.run(tensors[index % DISTINCT_INPUTS])

    return _median(call, _NULL_RUNS)


def ring_input(specs: Any, seed: int, index: int) -> List[np.ndarray]:
    """Return input number `index` of the ring, as an application gives it: random pixels, ids or latents drawn from `seed`."""
    return [_random(spec, seed * DISTINCT_INPUTS + index, position) for position, spec in enumerate(specs)]


def _random(spec: TensorSpec, seed: int, position: int) -> np.ndarray:
    if spec.kind not in (Kind.IMAGE, Kind.LABEL_MAP):
        return draw(spec, seed, position)[0]
    if spec.kind is Kind.LABEL_MAP:
        ids = splitmix64(seed, spec.height * spec.width) % np.uint64(spec.channels)
        return ids.astype(np.int64).reshape(spec.height, spec.width)
    count = spec.height * spec.width * spec.channels
    return splitmix64(seed, (count + 7) // 8).view(np.uint8)[:count].reshape(spec.height, spec.width, spec.channels)


def _cold(bundle: OpenBundle, seed: int, memory_before: Optional[int]) -> Dict[str, Any]:
    tensors = bundle.tensors(*ring_input(bundle.artifact.io.inputs, seed, 0))
    begin = time.perf_counter_ns()
    bundle.run(tensors)
    first_ns = time.perf_counter_ns() - begin
    for _ in range(_SETTLED_RUNS):
        bundle.run(tensors)
    return {
        "artifact": bundle.artifact.name, "load_ns": bundle.load_ns, "compile_ns": bundle.describe()["compile_ns"],
        "first_inference_ns": first_ns, "vm_hwm_bytes": peak_memory_bytes(), "vm_hwm_at_start_bytes": memory_before,
    }  # fmt: skip


def _parts(bundle: OpenBundle, ring: List[List[np.ndarray]]) -> Dict[str, int]:
    """Return the median ns of turning a given input into tensors ("pre") and the first output into a picture ("post")."""
    spec = bundle.artifact.io.outputs[0]
    output = bundle.run(bundle.tensors(*ring[0]))[0]
    inputs = bundle.artifact.io.inputs
    return {
        "pre": _median(lambda i: [to_tensor(v, s) for v, s in zip(ring[i % DISTINCT_INPUTS], inputs)]),
        "post": _median(lambda i: to_given(output, spec)),
    }


def _median(call: Callable[[int], Any], runs: int = _PART_RUNS) -> int:
    samples = sorted(measure(call, min_runs=runs, min_seconds=0, warmup_runs=3).samples_ns)
    return samples[(len(samples) - 1) // 2]
