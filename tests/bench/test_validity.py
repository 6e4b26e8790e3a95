"""Validity: computed from what happened, one reason for every way in which a measurement can be worthless."""

from typing import Any

import pytest

from edgegen.bench import sensed
from edgegen.bench.statistics import summarise
from edgegen.bench.validity import Circumstances, deadline, judge, pacing

STEADY = summarise([1_000_000] * 200)
FACTS: dict[str, Any] = {
    "throttle_count": 0, "swap_used_bytes": 0, "cpu_affinity": [0, 1], "load_1min": 0.2, "cpu_governor": "performance",
    "clock_limits": {"cpu0": [1_000, 1_000], "gpu": [300, 900]}, "emulated": False,
}  # fmt: skip
ZONE = {"source": "thermal-zone", "n": 3, "missing": 0, "vanished": False, "first": 40.0, "mean": 45.0, "p50": 44.0, "max": 50.0}
ZONE["min"] = 40.0


def warm(sensors: dict[str, Any] | None = None, *, trips: dict[str, float] | None = None, **after: Any) -> dict[str, Any]:
    sampled = {"temperature_c/soc": ZONE, **(sensors or {})}
    phase = {"sensors": sampled, "slope_c_per_min": None, "warnings": []}
    return {
        "machine_before": FACTS, "machine_after": {**FACTS, **after}, "burst": {"warmup_stable": True},
        "ran": {"backend": "openvino", "execution_types": {"int8": 9, "f32": 1}}, "clock_set_ns": 0, "asleep_ns": 0,
        "harness_ns": 1000, "sustained": {"samples_ns": [1_000_000] * 100},
        "sensed": {"phases": {"sustained": phase}, "hz": 10.0, "cpu_share": 0.01, "trips_c": trips or {}},
    }  # fmt: skip


def counter(rise: float | None) -> dict[str, Any]:
    return {"source": "soctherm", "n": 3, "missing": 0, "vanished": False, "rise": rise, "seconds": 2.0}


def judged(*runs: dict[str, Any], precision: str = "f32") -> Any:
    return judge(STEADY, runs, precision, sensed.thermal(runs))


def test_steady_runs_on_a_quiet_machine_are_valid() -> None:
    validity = judged(warm(), warm(), precision="int8")
    assert validity.valid and not validity.reasons and not validity.warnings


GONE = {"temperature_c/gpu": {**ZONE, "vanished": True}}
SWAPPING = {**warm(swap_used_bytes=8 << 20), "machine_before": {**FACTS, "swap_used_bytes": 8 << 20}}
EMULATED = {**warm(), "machine_before": {**FACTS, "emulated": True}}


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (warm(throttle_count=3), "the processor was throttled"),
        (warm(swap_used_bytes=4096), "memory was swapped out meanwhile"),
        (warm({"throttle_events/oc2": counter(3)}), "throttled: oc2 rose by 3"),
        (warm({"throttling/under-voltage": {**ZONE, "max": 1}}), "throttling: under-voltage was 1"),
        (warm(trips={"passive": 50.0}), "soc reached 50 C; throttling begins at 50 C"),
        (warm(clock_limits={"cpu0": [500, 1_000], "gpu": [300, 900]}), "the lock of the clocks was lost meanwhile: cpu0"),
        (warm(clock_limits={"cpu0": [1_000, 1_000], "gpu": [300, 600]}), "the limits of clocks moved meanwhile: gpu"),
        ({**warm(), "clock_set_ns": -3_600_000_000_000}, "the clock was set by -3600.0 s meanwhile"),
        ({**warm(), "asleep_ns": 2_000_000_000}, "the machine slept for 2.0 s meanwhile"),
        (warm(GONE), "the sensor temperature_c/gpu vanished meanwhile"),
        (EMULATED, "the processor is emulated"),
        ({**warm(), "foreign_share": 0.25}, "other work took 25 % of the cores meanwhile"),
        (SWAPPING, "8 MiB of swap were in use"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_of_these_makes_runs_invalid(run: dict[str, Any], reason: str) -> None:
    validity = judged(run)
    assert not validity.valid and len(validity.reasons) == 1 and validity.reasons[0].startswith(reason)


def test_short_over_current_events_are_only_a_warning() -> None:
    validity = judged(warm({"throttle_events/oc3": counter(17)}), warm({"throttle_events/oc3": counter(5)}))
    assert validity.valid and validity.warnings == ("short over-current events: oc3 rose by 22",)


def test_too_few_and_unsteady_runs_are_invalid() -> None:
    assert "too few for a p90" in judge(summarise([1] * 63), [warm()], "f32").reasons[0]
    assert "vary by 33.4%, more than 10.0%" in judge(summarise([1_000_000, 2_000_000] * 100), [warm()], "f32").reasons[0]


def test_a_gpu_has_to_be_steadier_than_a_processor() -> None:
    uneven = summarise([1_000_000, 1_100_000] * 100)
    gpu = {**warm(), "ran": {"backend": "openvino", "device": "Intel(R) Arc(TM) Graphics (iGPU)"}}
    assert judge(uneven, [warm()], "f32").valid
    assert judge(uneven, [gpu], "f32").reasons == ("run times vary by 4.8%, more than 2.5%: the machine was not at rest",)


def test_few_cases_and_a_warm_start_are_told_and_what_is_alright_is_not() -> None:
    waits = [{"waited_s": 3.0, "above_c": 4.5}, {"waited_s": 20.0, "above_c": 7.25}]
    found = judge(STEADY, [{**warm(), "foreign_share": 0.02}], "f32", None, Circumstances(3, waits))
    assert found.valid and found.warnings == (
        "3 stored cases passed: 16 would say more", "a process began 7.2 C above rest after waiting for 20 s",
    )  # fmt: skip
    assert judge(STEADY, [warm()], "f32", None, Circumstances(16, waits[:1])).warnings == ()
    assert sensed.cool_start([]) is None and sensed.cool_start(waits).reached is False


def test_an_int8_file_that_runs_in_float_is_a_warning() -> None:
    facts = {**warm(), "ran": {"backend": "openvino", "execution_types": {"int8": 1, "f32": 9}}}
    assert judged(facts, precision="int8").warnings == ("only 1 of 10 layers run in int8",)
    assert judged(facts).warnings == ()


def test_processes_that_differ_and_timing_that_costs_too_much_are_warnings() -> None:
    slow = {**warm(), "sustained": {"samples_ns": [1_200_000] * 100}, "harness_ns": 20_000}
    assert judged(warm(), slow).warnings == (
        "processes differ: their medians go from 1.000 to 1.200 ms", "timing itself takes 20.0 us of each run",
    )  # fmt: skip


def test_sampling_that_slows_the_runs_down_is_told_and_noise_is_not() -> None:
    costs = [{**warm(), "sampler_cost": share} for share in (-0.004, 0.031, 0.035, 0.04)]
    assert judged(*costs[1:]).warnings == ("runs take 3.5 % longer while the sensors are sampled",)
    assert judged(*costs).warnings == ()
    assert sensed.sampler_cost_pct(costs[:1]) == -0.4 and sensed.sampler_cost_pct([warm()]) is None


def test_a_warm_up_that_never_gets_stable_is_told() -> None:
    assert judged({**warm(), "burst": {"warmup_stable": False}}).warnings == ("the warm-up did not become stable",)


def test_a_sensor_process_that_died_is_a_warning() -> None:
    assert "ended early" in judged({**warm(), "sensed": None}).warnings[0]


def test_facts_that_cannot_be_read_accuse_nobody() -> None:
    nothing = {**dict.fromkeys(FACTS), "clock_limits": {}}
    facts = {**warm(), "machine_before": nothing, "machine_after": nothing}
    assert judged(facts, precision="int8").valid


def test_paced_runs_count_what_was_late_and_what_was_dropped() -> None:
    run = {"period_ns": 30, "done_after_ns": [10, 40, 50, 10], "begun_late_ns": [0, 1, 15, 0], "dropped": 1}
    found = pacing([run])
    assert (found.misses, found.dropped, found.longest_miss_run, found.miss_ratio) == (2, 1, 2, 0.6)
    assert found.begun_late_ms.max == pytest.approx(15e-6)


def test_a_deadline_counts_misses_and_the_longest_row_of_them() -> None:
    found = deadline([1, 9, 9, 1, 9, 9, 9, 1], 5e-9)
    assert (found.misses, found.longest_miss_run, found.miss_ratio) == (5, 3, 0.625)
