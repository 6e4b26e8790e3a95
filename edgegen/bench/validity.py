"""Is a measurement worth comparing? Computed from what happened, never set by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgegen.bench import sensed
from edgegen.bench.record import CasesQuality, Deadline, Validity
from edgegen.bench.record_sensors import Pacing, Thermal
from edgegen.bench.statistics import Summary, least_count, summarise
from edgegen.runtime.sensors.reading import Quantity

Json = Mapping[str, Any]
_MAX_COV = 0.10  # on a CPU; above it something else was running or the clock moved
_MAX_GPU_COV = 0.025
_MAX_FOREIGN_PCT = 10.0  # of all cores
_GATE_CASES = 16
_MAX_LOAD_PER_CORE = 0.5
_INT8_SHARE = 0.5  # of the computing layers of an int8 file: below it, it runs in float
_MAX_SET_NS, _MAX_ASLEEP_NS = 500_000_000, 100_000_000
_HARNESS_SHARE = 0.01
_MAX_SAMPLER_PCT = 2.0
_PROCESS_SPREAD = 0.10
_HARMLESS = ("oc3",)  # Orin Nano at full clocks has 1 to 30 a second of 1 ms, even at idle


def judge_gate(quality: CasesQuality) -> Validity:
    """Return the validity of a record whose correctness gate failed."""
    reason = "no stored cases to check it with" if quality.n == 0 else "the stored cases fail: timings are withheld"
    return Validity(False, (reason,))


@dataclasses.dataclass(frozen=True)
class Circumstances:
    """What came before the timed runs: how many stored cases passed, how long each process waited for a cool device, and what is
    doubtful about which target the device is."""

    cases: int = _GATE_CASES
    waits: Sequence[Json] = ()
    target: str = ""


def judge(
    sustained: Summary,
    warm: Sequence[Json],
    precision: str,
    thermal: Thermal | None = None,
    before: Circumstances = Circumstances(),
) -> Validity:
    """Return the validity of sustained runs; `warm` is what each timing process said, in their order."""
    reasons = [*_of_runs(sustained, warm), *_of_state(warm), *_of_clocks(warm), *_of_heat(warm, thermal)]
    warnings = [
        *_worth_knowing(warm, precision), *_uneven(sustained, warm), *sensed.sensor_warnings(warm), *_of_the_start(before),
    ]  # fmt: skip
    return Validity(not reasons, tuple(reasons), tuple(warnings))


def _of_runs(sustained: Summary, warm: Sequence[Json]) -> Iterator[str]:
    if sustained.n < least_count(0.9):
        yield f"{sustained.n} runs are too few for a p90 ({least_count(0.9)})"
    limit = _MAX_GPU_COV if _is_gpu(warm[-1]["ran"]) else _MAX_COV
    if sustained.cov > limit:
        yield f"run times vary by {sustained.cov:.1%}, more than {limit:.1%}: the machine was not at rest"


def _is_gpu(ran: Json) -> bool:
    return "GPU" in str(ran.get("device") or "") or ran["backend"] == "tensorrt"


def _of_state(warm: Sequence[Json]) -> Iterator[str]:
    ran = warm[-1]["ran"]
    if warm[0]["machine_before"].get("emulated"):
        yield "the processor is emulated: its times mean nothing"
    if any(_grew(run, "throttle_count") for run in warm):
        yield "the processor was throttled"
    if any(_grew(run, "swap_used_bytes") for run in warm):
        yield "memory was swapped out meanwhile"
    elif warm[0]["machine_before"]["swap_used_bytes"]:
        yield f"{warm[0]['machine_before']['swap_used_bytes'] / 2**20:.0f} MiB of swap were in use"
    if ran.get("stands_in_for"):
        yield f"{ran['backend']} stands in for {ran['stands_in_for']}: good for verification, its times mean nothing"
    foreign_pct = sensed.background_load_pct(warm) or 0.0
    if foreign_pct > _MAX_FOREIGN_PCT:
        yield f"other work took {foreign_pct:.0f} % of the cores meanwhile"
    for key in sensed.vanished(warm):
        yield f"the sensor {key} vanished meanwhile: what it would have said is not known"


def _of_clocks(warm: Sequence[Json]) -> Iterator[str]:
    jump = max((run.get("clock_set_ns", 0) for run in warm), key=abs)
    if abs(jump) > _MAX_SET_NS:
        yield f"the clock was set by {jump / 1e9:+.1f} s meanwhile"
    asleep = max(run.get("asleep_ns", 0) for run in warm)
    if asleep > _MAX_ASLEEP_NS:
        yield f"the machine slept for {asleep / 1e9:.1f} s meanwhile"
    moved = ", ".join(sensed.moved_limits(warm))
    if moved:
        lost = sensed.lock_held(warm) is False
        yield f"the lock of the clocks was lost meanwhile: {moved}" if lost else f"the limits of clocks moved meanwhile: {moved}"


def _of_heat(warm: Sequence[Json], thermal: Thermal | None) -> Iterator[str]:
    for name, count in sensed.events(warm).items():
        if count > 0 and name not in _HARMLESS:
            yield f"throttled: {name} rose by {count:g}"
    for name, level in sensed.throttling_now(warm).items():
        yield f"throttling: {name} was {level:g}"
    trip = None if thermal is None else thermal.trips_c.get("passive")
    if thermal is not None and trip is not None:
        for name, zone in thermal.zones_c.items():
            if zone.max >= trip:
                yield f"{name} reached {zone.max:g} C; throttling begins at {trip:g} C"


def _worth_knowing(warm: Sequence[Json], precision: str) -> Iterator[str]:
    before, ran = warm[0]["machine_before"], warm[-1]["ran"]
    types = ran.get("execution_types")
    if types and precision.startswith("int8") and types.get("int8", 0) < _INT8_SHARE * sum(types.values()):
        yield f"only {types.get('int8', 0)} of {sum(types.values())} layers run in int8"
    if any(run["burst"]["warmup_stable"] is False for run in warm):
        yield "the warm-up did not become stable"
    cores = len(before["cpu_affinity"] or ()) or 1
    if (before["load_1min"] or 0) > _MAX_LOAD_PER_CORE * cores + 1:
        yield f"other work was running: load {before['load_1min']:.1f} on {cores} cores"
    if before["cpu_governor"] not in (None, "performance"):
        yield f"the CPU governor is '{before['cpu_governor']}', not 'performance'"
    harmless = [f"{name} rose by {count:g}" for name, count in sensed.events(warm).items() if count > 0 and name in _HARMLESS]
    if harmless:
        yield f"short over-current events: {', '.join(harmless)}"


def _of_the_start(before: Circumstances) -> Iterator[str]:
    if before.cases < _GATE_CASES:
        yield f"{before.cases} stored case{'' if before.cases == 1 else 's'} passed: {_GATE_CASES} would say more"
    if before.target:
        yield before.target
    start = sensed.cool_start(before.waits)
    if start is not None and not start.reached:
        yield f"a process began {start.above_rest_c:.1f} C above rest after waiting for {max(start.waited_s):g} s"


def _uneven(sustained: Summary, warm: Sequence[Json]) -> Iterator[str]:
    medians = [summarise(run["sustained"]["samples_ns"]).p50 for run in warm]
    if max(medians) > (1 + _PROCESS_SPREAD) * min(medians):
        yield f"processes differ: their medians go from {min(medians):.3f} to {max(medians):.3f} ms"
    harness = max((run.get("harness_ns", 0) for run in warm), default=0)
    if harness > _HARNESS_SHARE * sustained.p50 * 1e6:
        yield f"timing itself takes {harness / 1e3:.1f} us of each run"
    costs = [100 * run["sampler_cost"] for run in warm if run.get("sampler_cost") is not None]
    if min(costs, default=0.0) > _MAX_SAMPLER_PCT:  # in every process: a busy machine makes single ones look so
        yield f"runs take {sensed.sampler_cost_pct(warm):.1f} % longer while the sensors are sampled"
    sampled = any(run.get("sensed") for run in warm)
    if sampled and not any(sensed.of_quantity(sensors, Quantity.TEMPERATURE) for sensors in sensed.phase_sensors(warm)):
        yield "no temperature can be read: throttling for heat would not show"


def deadline(samples_ns: Sequence[int], budget_s: float) -> Deadline:
    """Return how the runs kept a frame budget."""
    late = [sample > budget_s * 1e9 for sample in samples_ns]
    return Deadline(round(budget_s * 1e3, 6), sum(late), round(sum(late) / len(late), 9), _longest(late))


def pacing(runs: Sequence[Json]) -> Pacing:
    """Return how paced runs kept their period; `runs` are the sustained phases of all processes."""
    late = [done > run["period_ns"] for run in runs for done in run["done_after_ns"]]
    dropped = sum(run["dropped"] for run in runs)
    begun = [max(0, ns) for run in runs for ns in run["begun_late_ns"]]
    return Pacing(
        period_ms=round(runs[0]["period_ns"] / 1e6, 6), misses=sum(late), dropped=dropped,
        miss_ratio=round((sum(late) + dropped) / (len(late) + dropped), 9), longest_miss_run=_longest(late),
        begun_late_ms=summarise(begun),
    )  # fmt: skip


def _longest(late: Sequence[bool]) -> int:
    longest = current = 0
    for missed in late:
        current = current + 1 if missed else 0
        longest = max(longest, current)
    return longest


def _grew(run: Json, key: str) -> bool:
    before, after = run["machine_before"][key], run["machine_after"][key]
    return before is not None and after is not None and after > before
