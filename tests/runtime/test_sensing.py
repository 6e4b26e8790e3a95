"""Sensors while something is timed: sums per phase, what vanishes, what rises, and the process that samples them."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from system_tree import write_program, write_tree

from edgegen.runtime.process_facts import emulated, machine_facts
from edgegen.runtime.sensors.reading import Quantity, Reading
from edgegen.runtime.sensors.sense import SensorProcess
from edgegen.runtime.sensors.sources import Sources
from edgegen.runtime.sensors.summary import PhaseSensors

ZONE = "/sys/class/thermal/thermal_zone0"
SECOND = 10**9


def phase(key: Quantity, values: list[float | None], **more: float | None) -> dict:
    found = PhaseSensors()
    for index, value in enumerate(values):
        reading = Reading(key, "x", value, "test", "" if value is not None else "gone", **more)
        found.add(index * SECOND, {reading.key: reading})
    return found.to_json()


def test_a_phase_is_summed_up_per_sensor() -> None:
    found = phase(Quantity.TEMPERATURE, [40.0, 44.0, 45.0, 43.0])
    assert (found["samples"], found["seconds"]) == (4, 3.0)
    sensor = found["sensors"]["temperature_c/x"]
    assert (sensor["first"], sensor["mean"], sensor["p50"], sensor["max"]) == (40.0, 43.0, 43.0, 45.0)
    assert sensor["missing"] == 0 and sensor["vanished"] is False and found["slope_c_per_min"] is None


def test_a_sensor_that_vanishes_says_so_and_one_bad_moment_is_only_missing() -> None:
    gone = phase(Quantity.TEMPERATURE, [40.0, 41.0, None])["sensors"]["temperature_c/x"]
    back = phase(Quantity.TEMPERATURE, [40.0, None, 41.0])
    assert gone["vanished"] is True and gone["missing"] == 1
    assert back["sensors"]["temperature_c/x"]["vanished"] is False and back["warnings"] == ["temperature_c/x: gone"]


def test_a_sensor_without_its_file_vanishes_too() -> None:
    found = PhaseSensors()
    found.add(0, {"power_w/a": Reading(Quantity.POWER, "a", 3.0, "test")})
    found.add(1, {})
    assert found.to_json()["sensors"]["power_w/a"]["vanished"] is True


def test_counters_count_by_how_much_they_grew_also_when_they_wrap() -> None:
    assert phase(Quantity.EVENTS, [7, 7, 9])["sensors"]["throttle_events/x"]["rise"] == 2
    assert phase(Quantity.ENERGY, [90.0, 99.0, 4.0], wraps_at=100.0)["sensors"]["energy_j/x"]["rise"] == 14.0
    assert phase(Quantity.ENERGY, [90.0, 99.0, 4.0])["sensors"]["energy_j/x"]["rise"] is None


def test_the_slope_is_that_of_the_hottest_zone_over_the_last_three_minutes() -> None:
    heating = phase(Quantity.TEMPERATURE, [20.0] * 60 + [40 + index / 60 for index in range(200)])
    assert heating["slope_c_per_min"] == pytest.approx(1.0, abs=0.01)


def test_two_sensors_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    other = "/sys/class/thermal/thermal_zone1"
    write_tree(tmp_path, {f"{ZONE}/type": "soc", f"{ZONE}/temp": 1000, f"{other}/type": "soc", f"{other}/temp": 2000})
    assert [(key, r.value) for key, r in Sources(str(tmp_path)).read().items()] == [
        ("temperature_c/soc", 1.0), ("temperature_c/soc#2", 2.0),
    ]  # fmt: skip


def test_programs_of_boards_are_asked_where_they_are(tmp_path: Path) -> None:
    write_program(
        tmp_path, "vcgencmd", 'case $1 in get_throttled) echo "throttled=0x0";; measure_temp) echo "temp=50.0\'C";; esac'
    )
    found = Sources(str(tmp_path)).read()
    assert found["temperature_c/soc"].value == 50.0 and found["throttling/throttled"].value == 0
    assert found["clock_hz/arm"].value is None


def test_tegrastats_is_asked_only_where_no_file_tells_the_power(tmp_path: Path) -> None:
    line = (Path(__file__).parent / "golden" / "tegrastats-jetpack6.txt").read_text().strip()
    write_program(tmp_path, "tegrastats", f"while true; do echo '{line}'; sleep 0.1; done")
    assert Sources(str(tmp_path)).read()["power_w/VDD_IN"].value == 4.612
    write_tree(tmp_path, {"/sys/class/hwmon/hwmon0/name": "ina238", "/sys/class/hwmon/hwmon0/power1_input": 24_000_000})
    assert sorted(Sources(str(tmp_path)).read()) == ["power_w/VIN"]


def test_the_sensor_process_samples_phase_by_phase(tmp_path: Path) -> None:
    write_tree(tmp_path, {f"{ZONE}/type": "soc", f"{ZONE}/temp": 40_000})
    with SensorProcess(str(tmp_path), 100.0, None) as sensors:
        sensors.phase("cool")
        sensors.phase("hot")
        write_tree(tmp_path, {f"{ZONE}/temp": 60_000})
        sensors.phase("")
        found = sensors.finish()
    assert found is not None and sorted(found["phases"]) == ["cool", "hot"]
    assert found["phases"]["hot"]["samples"] >= 1
    assert found["phases"]["hot"]["sensors"]["temperature_c/soc"]["max"] in (40.0, 60.0) and 0 <= found["cpu_share"] <= 1.5


def test_the_sensor_process_ends_with_whoever_started_it() -> None:
    line = [sys.executable, "-m", "edgegen.runtime", "sense"]
    done = subprocess.run(line, input=b"burst\n\n", capture_output=True, timeout=60, check=True)
    assert b'"burst"' in done.stdout


def test_a_sensor_process_that_died_gives_no_result(tmp_path: Path) -> None:
    with SensorProcess(str(tmp_path), 10.0, None) as sensors:
        assert sensors._process is not None
        sensors._process.kill()
        sensors._process.wait()
        sensors.phase("late")
        assert sensors.finish() is None


CPU = "/sys/devices/system/cpu/cpu"


def test_machine_facts_are_read_under_the_root(tmp_path: Path) -> None:
    files = {"/proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0", "/proc/loadavg": "0.52 0.58 0.59 1/467 12345"}
    for core, (low, high) in enumerate([(1_500_000, 2_400_000), (1_400_000, 2_400_000)]):
        files |= {f"{CPU}{core}/cpufreq/scaling_min_freq": low, f"{CPU}{core}/cpufreq/scaling_max_freq": high}
        files |= {f"{CPU}{core}/cpufreq/scaling_governor": ["ondemand", "performance"][core]}
    facts = machine_facts(str(write_tree(tmp_path, files)))
    assert facts["board"] == "Raspberry Pi 5 Model B Rev 1.0" and facts["load_1min"] == 0.52
    assert (facts["cpu_hz_min"], facts["cpu_hz_max"]) == (1_400_000_000, 2_400_000_000)
    assert facts["cpu_governor"] == "ondemand+performance" and facts["clock_limits"]["cpu0"] == [1_500_000_000, 2_400_000_000]


OTHER = "x86_64" if os.uname().machine.startswith(("aarch64", "arm")) else "aarch64"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"/proc/sys/kernel/arch": os.uname().machine, "/proc/self/status": "Name:\tpython3\nTracerPid:\t0"}, False),
        ({"/proc/sys/kernel/arch": OTHER}, True),
        ({"/proc/self/status": "Name:\tqemu-aarch64\nTracerPid:\t0"}, True),
        ({"/proc/self/status": "Name:\tpython3\nTracerPid:\t7", "/proc/7/comm": "proot"}, True),
        ({"/proc/self/status": "Name:\tpython3\nTracerPid:\t7", "/proc/7/comm": "strace"}, False),
        ({"/proc/cpuinfo": "processor\t: 0\nmodel name\t: QEMU TCG CPU version 2.5+"}, True),
    ],
)
def test_an_emulated_processor_gives_itself_away(tmp_path: Path, files: dict[str, str], expected: bool | None) -> None:
    assert emulated(str(write_tree(tmp_path, files))) is expected


def test_sampling_threads_are_not_left_behind(tmp_path: Path) -> None:
    before = threading.active_count()
    with SensorProcess(str(tmp_path), 10.0, None):
        pass
    assert threading.active_count() == before
