"""Each source of sensors against what real boards print; what makes no sense is None with a reason, never a number."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from system_tree import write_tree

from edgegen.runtime.nvpmodel import parse_current, parse_modes
from edgegen.runtime.sensors import android, clocks, power_rails, process_memory, rapl, tegrastats, thermal, throttle_counters
from edgegen.runtime.sensors import vcgencmd as pi
from edgegen.runtime.sensors.reading import Quantity, Reading, number_of

GOLDEN = Path(__file__).parent / "golden"
GIGA = 1e9


def values(readings: list[Reading], quantity: Quantity) -> dict[str, float | None]:
    return {reading.name: reading.value for reading in readings if reading.quantity is quantity}


def tegra(name: str) -> list[Reading]:
    return tegrastats.parse_line((GOLDEN / f"tegrastats-{name}.txt").read_text())


def test_tegrastats_of_jetpack_4_has_rails_without_units_and_a_pmic_that_always_says_100() -> None:
    found = tegra("jetpack4")
    assert values(found, Quantity.POWER) == {"POM_5V_IN": 4.612, "POM_5V_GPU": 0.524, "POM_5V_CPU": 1.048}
    assert values(found, Quantity.CLOCK) == {
        "cpu0": 1.428e9, "cpu2": 1.428e9, "cpu3": 1.428e9, "gpu": 0.921e9, "emc": 1.6e9,
    }  # fmt: skip
    zones = values(found, Quantity.TEMPERATURE)
    assert zones["PMIC"] is None and zones["CPU"] == 36.5 and zones["thermal"] == 35.25


def test_tegrastats_of_jetpack_5_gives_the_first_number_of_a_rail_and_no_temperature_of_a_zone_without_power() -> None:
    found = tegra("jetpack5")
    assert values(found, Quantity.POWER) == {"VDD_IN": 9.321, "VDD_CPU_GPU_CV": 3.12, "VDD_SOC": 1.48}
    zones = values(found, Quantity.TEMPERATURE)
    assert zones["CV0"] is None and zones["tj"] == 51.218 and len(zones) == 9
    assert values(found, Quantity.CLOCK)["gpu"] == 1.02e9
    assert [r.problem for r in found if r.name == "CV0"] == ["tegrastats says CV0 has -256 C"]


def test_tegrastats_of_jetpack_6_has_a_date_and_two_gpu_clusters() -> None:
    found = tegra("jetpack6")
    clock = values(found, Quantity.CLOCK)
    assert (clock["gpu0"], clock["gpu1"], clock["emc"], clock["cpu5"]) == (0.305e9, 0.0, 2.133e9, 0.729e9)
    assert values(found, Quantity.POWER)["VDD_IN"] == 4.612 and values(found, Quantity.TEMPERATURE)["gpu"] == 47.593


def test_tegrastats_of_jetpack_7_on_orin_and_thor() -> None:
    orin, thor = tegra("jetpack7-orin"), tegra("jetpack7-thor")
    assert values(orin, Quantity.CLOCK)["gpu1"] == 1.3 * GIGA and values(orin, Quantity.POWER)["VIN_SYS_5V0"] == 3.831
    assert [values(thor, Quantity.CLOCK)[f"gpu{i}"] for i in range(3)] == [GIGA] * 3
    assert values(thor, Quantity.POWER)["VIN"] == 24.113 and values(thor, Quantity.TEMPERATURE)["soc012"] == 42.906


@pytest.mark.parametrize("line", ["", "tegrastats: command not found", "RAM 1/2GB", "cpu@51C"])
def test_what_is_no_line_of_tegrastats_gives_nothing(line: str) -> None:
    assert tegrastats.parse_line(line) == []


INA3221 = {
    "/sys/class/hwmon/hwmon3/name": "ina3221", "/sys/class/hwmon/hwmon3/in1_label": "VDD_IN",
    "/sys/class/hwmon/hwmon3/in1_input": 5000, "/sys/class/hwmon/hwmon3/curr1_input": 1860,
    "/sys/class/hwmon/hwmon3/in2_label": "VDD_CPU_GPU_CV", "/sys/class/hwmon/hwmon3/in2_input": 4992,
    "/sys/class/hwmon/hwmon3/curr2_input": -8, "/sys/class/hwmon/hwmon3/in3_label": "NC",
    "/sys/class/hwmon/hwmon3/in3_input": 1, "/sys/class/hwmon/hwmon3/in7_label": "sum of shunt voltages",
}  # fmt: skip


def test_ina3221_power_is_voltage_times_current_and_neither_nc_nor_the_sum_of_shunts_is_a_rail(tmp_path: Path) -> None:
    found = power_rails.rails(str(write_tree(tmp_path, INA3221)))
    assert values(found, Quantity.POWER) == {"VDD_IN": 9.3, "VDD_CPU_GPU_CV": None}
    assert "says -8, which cannot be" in found[1].problem


def test_ina238_tells_microwatts(tmp_path: Path) -> None:
    root = write_tree(tmp_path, {"/sys/class/hwmon/hwmon0/name": "ina238", "/sys/class/hwmon/hwmon0/power1_input": 24_113_000})
    assert values(power_rails.rails(str(root)), Quantity.POWER) == {"VIN": 24.113}


def test_jetpack_4_tells_power_through_iio_in_milliwatts(tmp_path: Path) -> None:
    device = "/sys/bus/iio/devices/iio:device0"
    root = write_tree(tmp_path, {f"{device}/rail_name_0": "POM_5V_IN", f"{device}/in_power0_input": 4612})
    assert values(power_rails.rails(str(root)), Quantity.POWER) == {"POM_5V_IN": 4.612}


def test_the_total_is_the_input_rail_and_never_a_sum() -> None:
    assert power_rails.total_rail(["VDD_SOC", "VDD_IN"]) == "VDD_IN"
    assert power_rails.total_rail(["VDD_SOC", "VDD_CPU"]) is None


def test_soctherm_counts_over_current_events(tmp_path: Path) -> None:
    folder = "/sys/class/hwmon/hwmon2"
    counts = {f"{folder}/oc1_event_cnt": 0, f"{folder}/oc2_event_cnt": "eleven", f"{folder}/oc3_event_cnt": 4711}
    root = write_tree(tmp_path, {f"{folder}/name": "soctherm_oc", **counts})
    found = throttle_counters.over_current(str(root))
    assert values(found, Quantity.EVENTS) == {"oc1": 0, "oc2": None, "oc3": 4711}
    assert "says 'eleven'" in found[1].problem


def test_intel_cores_count_their_throttling(tmp_path: Path) -> None:
    folder = "/sys/devices/system/cpu/cpu0/thermal_throttle"
    root = write_tree(tmp_path, {f"{folder}/core_throttle_count": 7, f"{folder}/package_throttle_count": 9})
    assert values(throttle_counters.core_throttles(str(root)), Quantity.EVENTS) == {"cpu0-core": 7, "cpu0-package": 9}


def test_thermal_zones_are_in_celsius_and_nonsense_is_none(tmp_path: Path) -> None:
    zone = "/sys/class/thermal/thermal_zone"
    files = {f"{zone}0/type": "cpu-thermal", f"{zone}0/temp": 45123, f"{zone}1/type": "PMIC-Die", f"{zone}1/temp": 100_000}
    files |= {f"{zone}2/type": "cv0-thermal", f"{zone}10/type": "ten", f"{zone}10/temp": -256_000}
    found = thermal.temperatures(str(write_tree(tmp_path, files)))
    assert values(found, Quantity.TEMPERATURE) == {"cpu-thermal": 45.123, "PMIC-Die": None, "cv0-thermal": None, "ten": None}
    assert [r.name for r in found][-1] == "ten" and "cannot be read" in found[2].problem


def test_trip_points_are_the_lowest_of_their_kind(tmp_path: Path) -> None:
    files: dict[str, object] = {}
    for zone, kind, milli_c in ((0, "passive", 99_000), (1, "passive", 95_000), (2, "critical", 104_500), (3, "passive", 0)):
        folder = f"/sys/class/thermal/thermal_zone{zone}"
        files |= {f"{folder}/trip_point_0_type": kind, f"{folder}/trip_point_0_temp": milli_c}
    assert thermal.trips_c(str(write_tree(tmp_path, files))) == {"passive": 95.0, "critical": 104.5}


def test_only_alerts_among_the_cooling_devices_mean_throttling(tmp_path: Path) -> None:
    device = "/sys/class/thermal/cooling_device"
    files = {f"{device}0/type": "pwm-fan", f"{device}0/cur_state": 3, f"{device}1/type": "cpu-throttle-alert"}
    files |= {f"{device}1/cur_state": 1, f"{device}2/type": "devfreq-17000000.gpu", f"{device}2/cur_state": 2}
    assert values(thermal.alerts(str(write_tree(tmp_path, files))), Quantity.THROTTLING) == {"cpu-throttle-alert": 1}


def test_rapl_domains_carry_the_value_at_which_they_wrap(tmp_path: Path) -> None:
    files = {"0/name": "package-0", "0/energy_uj": 5_000_000, "0/max_energy_range_uj": 262_143_328_850}
    files |= {"0:0/name": "core", "0:0/energy_uj": 1_000_000, "0:0/max_energy_range_uj": 262_143_328_850}
    root = write_tree(tmp_path, {f"/sys/class/powercap/intel-rapl:{name}": value for name, value in files.items()})
    found = rapl.energies(str(root))
    assert values(found, Quantity.ENERGY) == {"package-0": 5.0, "package-0/core": 1.0}
    assert found[0].wraps_at == pytest.approx(262_143.32885)


def test_a_counter_that_wrapped_has_grown() -> None:
    assert rapl.grown(10.0, 12.5, 100.0) == 2.5 and rapl.grown(99.0, 1.0, 100.0) == 2.0
    assert rapl.grown(99.0, 1.0, None) is None and rapl.grown(120.0, 1.0, 100.0) is None


CORE = "/sys/devices/system/cpu/cpu0/cpufreq"


def test_core_clocks_are_the_true_ones_where_they_may_be_read(tmp_path: Path) -> None:
    asked = {f"{CORE}/scaling_cur_freq": 1_800_000}
    assert clocks.core_clocks(str(write_tree(tmp_path / "a", asked)))[0].source == "scaling_cur_freq"
    true = clocks.core_clocks(str(write_tree(tmp_path / "b", {**asked, f"{CORE}/cpuinfo_cur_freq": 1_200_000})))[0]
    assert (true.value, true.source) == (1.2e9, "cpuinfo_cur_freq")


def test_devfreq_names_the_gpu_of_a_jetson_and_limits_tell_a_lock(tmp_path: Path) -> None:
    gpu = "/sys/class/devfreq/17000000.gpu"
    files = {f"{gpu}/cur_freq": 1_020_000_000, f"{gpu}/min_freq": 1_020_000_000, f"{gpu}/max_freq": 1_020_000_000}
    root = str(write_tree(tmp_path, {**files, f"{CORE}/scaling_min_freq": 729_600, f"{CORE}/scaling_max_freq": 1_728_000}))
    assert values(clocks.device_clocks(root), Quantity.CLOCK) == {"gpu": 1.02e9}
    assert clocks.clock_limits(root) == {"cpu0": (729_600_000, 1_728_000_000), "gpu": (1_020_000_000, 1_020_000_000)}


def test_a_raspberry_pi_tells_what_is_now_and_what_was_ever() -> None:
    found = pi.parse_throttled("throttled=0x50005\n")
    assert values(found, Quantity.THROTTLING) == {
        "under-voltage": 1, "frequency-capped": 0, "throttled": 1, "soft-temperature-limit": 0,
    }  # fmt: skip
    assert values(found, Quantity.EVENTS)["throttled-since-boot"] == 1
    assert (
        pi.parse_temperature("temp=48.3'C\n").value == 48.3 and pi.parse_clock("frequency(0)=2400033792").value == 2_400_033_792
    )


@pytest.mark.parametrize("text", ["", "throttled=50005", "VCHI initialization failed", "throttled=0xFFFFFFFF"])
def test_what_vcgencmd_does_not_say_is_none_with_a_reason(text: str) -> None:
    found = pi.parse_throttled(text)
    assert all(reading.value is None and "get_throttled says" in reading.problem for reading in found)
    assert pi.parse_temperature("temp=480.3'C").value is None and pi.parse_clock("frequency(0)=0").value is None


def test_android_tells_present_temperatures_and_not_the_cached() -> None:
    found = android.parse_thermalservice((GOLDEN / "thermalservice.txt").read_text())
    assert values(found, Quantity.THROTTLING) == {"thermal-status": 2}
    assert values(found, Quantity.TEMPERATURE) == {"BIG": 71.25, "VIRTUAL-SKIN": 38.4, "GPU": None}


def test_android_tells_whether_it_is_being_charged() -> None:
    text = (GOLDEN / "battery.txt").read_text()
    assert android.parse_charging(text) is True
    assert android.parse_charging(text.replace("USB powered: true", "USB powered: false")) is False
    assert android.parse_charging("Can't find service: battery") is None


def test_memory_of_a_process_and_of_the_machine() -> None:
    assert process_memory.peak_bytes((GOLDEN / "status.txt").read_text()) == 128 << 20
    meminfo = (GOLDEN / "meminfo.txt").read_text()
    assert process_memory.swap_used_bytes(meminfo) == 4 << 20 and process_memory.free_bytes(meminfo) == 6 << 30
    assert process_memory.swap_used_bytes(meminfo.replace("SwapFree:        3", "SwapFree:        9")) is None


def test_power_modes_are_read_by_name() -> None:
    assert parse_modes((GOLDEN / "nvpmodel.conf").read_text()) == {"15W": 0, "25W": 1, "MAXN_SUPER": 2}
    assert parse_current("NV Power Mode: MAXN_SUPER\n2\n") == "MAXN_SUPER" and parse_current("error") is None


@pytest.mark.parametrize("text", ["", "1.5", "0x10", "nan", "٣", "1_000", "9" * 30])
def test_what_is_no_whole_number_is_none(text: str) -> None:
    value, problem = number_of(text, 0, 100, "here")
    assert value is None and problem.startswith("here says")


_PRINTED = st.text(max_size=300) | st.builds(
    lambda name, cut, put: (text := (GOLDEN / name).read_text())[: cut % len(text)] + put + text[cut % len(text) :],
    st.sampled_from(sorted(path.name for path in GOLDEN.iterdir())), st.integers(0, 5000), st.text(max_size=20),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(_PRINTED)
def test_no_text_makes_a_parser_fail_or_say_what_cannot_be(text: str) -> None:
    readings = [*tegrastats.parse_line(text), *pi.parse_throttled(text), pi.parse_temperature(text), pi.parse_clock(text)]
    readings += android.parse_thermalservice(text)
    for reading in readings:
        assert (reading.value is None) == bool(reading.problem)
        if reading.quantity is Quantity.TEMPERATURE and reading.value is not None:
            assert -40 <= reading.value <= 150
        if reading.quantity in (Quantity.POWER, Quantity.CLOCK) and reading.value is not None:
            assert 0 <= reading.value <= 1e11
    android.parse_charging(text), parse_modes(text), parse_current(text)
    for found in (process_memory.peak_bytes(text), process_memory.swap_used_bytes(text)):
        assert found is None or found >= 0


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=40))
def test_no_file_makes_a_source_fail(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    root = tmp_path_factory.mktemp("any")
    files = [*INA3221, f"{CORE}/cpuinfo_cur_freq", f"{CORE}/scaling_min_freq", "/sys/class/thermal/thermal_zone0/temp",
             "/sys/class/thermal/thermal_zone0/type", "/sys/class/powercap/intel-rapl:0/energy_uj"]  # fmt: skip
    for name in files:
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"ina3221\n" if name.endswith("hwmon3/name") else content)
    from edgegen.runtime.sensors.sources import Sources

    for reading in Sources(str(root)).read().values():
        assert (reading.value is None) == bool(reading.problem)
    clocks.clock_limits(str(root)), thermal.trips_c(str(root))
