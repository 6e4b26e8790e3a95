"""Timing a bundle in this process: phases, sensors beside it, and what the timing itself costs."""

import threading
from pathlib import Path

import numpy as np
import pytest
import small_bundles
from system_tree import write_tree

from edgegen.runtime.bundle import open_bundle
from edgegen.runtime.errors import InputError
from edgegen.runtime.time_bundle import Timing, harness_ns, pin, time_cold, time_warm, usable_cores

COUNTER = "/sys/class/hwmon/hwmon0/oc2_event_cnt"
SHORT = Timing(min_runs=5, min_seconds=0.3, burst_seconds=0.0, sensor_hz=50.0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("time")
    return str(small_bundles.style(folder / "a").write(folder / "b"))


def rooted(root: Path) -> Timing:
    return Timing(min_runs=5, min_seconds=0.3, burst_seconds=0.0, sensor_root=str(root), sensor_hz=50.0)


def test_the_sensors_of_both_phases_come_with_the_times(bundle: str, tmp_path: Path) -> None:
    zone = "/sys/class/thermal/thermal_zone0"
    found = time_warm(bundle, None, 1, rooted(write_tree(tmp_path, {f"{zone}/type": "soc", f"{zone}/temp": 45_000})))
    assert found["sensed"]["phases"]["sustained"]["sensors"]["temperature_c/soc"]["max"] == 45.0
    assert found["sensed"]["phases"]["burst"]["samples"] >= 1 and "idle" not in found["sensed"]["phases"]
    assert abs(found["clock_set_ns"]) < 10**9 and abs(found["asleep_ns"]) < 10**9 and found["harness_ns"] > 0


def test_a_throttle_counter_that_rises_meanwhile_is_seen(bundle: str, tmp_path: Path) -> None:
    write_tree(tmp_path, {"/sys/class/hwmon/hwmon0/name": "soctherm_oc", COUNTER: 3})
    done = threading.Event()

    def throttle() -> None:
        count = 3
        while not done.wait(0.02):
            count += 1
            part = tmp_path / "next"
            part.write_text(f"{count}\n")
            part.replace(tmp_path / COUNTER.lstrip("/"))

    worker = threading.Thread(target=throttle)
    worker.start()
    try:
        found = time_warm(bundle, None, 1, rooted(tmp_path))
    finally:
        done.set()
        worker.join()
    assert found["sensed"]["phases"]["sustained"]["sensors"]["throttle_events/oc2"]["rise"] > 0


def test_power_at_rest_is_watched_first_where_anything_tells_it(bundle: str, tmp_path: Path) -> None:
    write_tree(tmp_path, {"/sys/class/hwmon/hwmon0/name": "ina238", "/sys/class/hwmon/hwmon0/power1_input": 4_000_000})
    timing = Timing(min_runs=1, min_seconds=0, burst_seconds=0, sensor_root=str(tmp_path), idle_seconds=0.1)
    assert time_warm(bundle, None, 1, timing)["sensed"]["phases"]["idle"]["sensors"]["power_w/VIN"]["mean"] == 4.0


def test_what_sampling_costs_is_found_by_runs_with_and_without_in_turn(bundle: str) -> None:
    timing = Timing(min_runs=1, min_seconds=0, burst_seconds=0, sensor_hz=50.0, cost_seconds=0.1)
    found = time_warm(bundle, None, 1, timing)
    assert found["sampler_cost"] > -1 and found["sensed"]["phases"]["cost"]["samples"] >= 2
    assert found["clock"] == {"name": "CLOCK_MONOTONIC", "resolution_ns": 1}
    assert time_warm(bundle, None, 1, SHORT)["sampler_cost"] is None


def test_without_sensors_none_are_asked(bundle: str) -> None:
    assert "sensed" not in time_warm(bundle, None, 1, Timing(min_runs=1, min_seconds=0, burst_seconds=0, sensor_hz=0))


def test_paced_runs_tell_how_late_they_were(bundle: str) -> None:
    timing = Timing(min_runs=5, min_seconds=0, burst_seconds=0, sensor_hz=0, period_s=0.02)
    found = time_warm(bundle, None, 1, timing)["sustained"]
    assert found["period_ns"] == 20_000_000 and len(found["begun_late_ns"]) == len(found["samples_ns"]) == 5


def test_a_process_stays_on_its_cores_and_unknown_cores_are_refused(bundle: str) -> None:
    before = usable_cores()
    assert before is not None
    try:
        time_cold(bundle, None, 1, Timing(cores=(before[-1],)))
        assert usable_cores() == [before[-1]]
    finally:
        pin(tuple(before))
    with pytest.raises(InputError, match="--affinity 4095"):
        pin((4095,))


def test_the_timing_itself_is_measured_with_a_back_end_that_does_nothing(bundle: str) -> None:
    with open_bundle(bundle, None, 1) as opened:
        tensors = [opened.tensors(np.zeros((small_bundles.HEIGHT, small_bundles.WIDTH, 3), np.uint8))] * 16
        assert harness_ns(opened.artifact, tensors) > 0
