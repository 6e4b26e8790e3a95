"""What sensors said over all processes, as parts of the record."""

from typing import Any

import pytest

from edgegen.bench import sensed

LIMITS = {"clock_limits": {}}


def value(mean: float, source: str = "ina3221", *, top: float | None = None, vanished: bool = False) -> dict[str, Any]:
    found = {"source": source, "n": 10, "missing": 0, "vanished": vanished, "first": mean, "mean": mean, "p50": mean}
    return {**found, "min": mean, "max": mean if top is None else top}


def energy(joules: float | None, seconds: float = 10.0) -> dict[str, Any]:
    return {"source": "rapl", "n": 10, "missing": 0, "vanished": False, "rise": joules, "seconds": seconds}


def run(sensors: dict[str, Any], idle: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    phases = {"sustained": {"sensors": sensors, "slope_c_per_min": more.get("slope"), "warnings": []}}
    if idle:
        phases["idle"] = {"sensors": idle, "slope_c_per_min": None, "warnings": []}
    limits = {"clock_limits": more.get("limits", {})}
    return {"sensed": {"phases": phases, "trips_c": {"passive": 95.0}}, "machine_before": limits, "machine_after": limits}


def test_power_is_that_of_the_input_rail_and_energy_is_per_inference() -> None:
    rails = {"power_w/VDD_IN": value(12.0, top=14.2), "power_w/VDD_SOC": value(2.0)}
    found = sensed.power([run(rails, {"power_w/VDD_IN": value(5.0)}), run(rails)], 100, 2.0)
    assert found is not None and (found.rail, found.method, found.mean_w, found.idle_w) == ("VDD_IN", "ina3221", 12.0, 5.0)
    assert (found.max_w, found.energy_per_inference_mj, found.energy_above_idle_mj, found.n) == (14.2, 240.0, 140.0, 20)


def test_parts_of_a_board_are_never_summed_up_to_a_whole() -> None:
    assert sensed.power([run({"power_w/VDD_SOC": value(2.0), "power_w/VDD_CPU": value(3.0)})], 10, 1.0) is None


def test_a_rail_that_vanished_or_a_process_without_one_gives_no_power() -> None:
    good, gone = run({"power_w/VDD_IN": value(9.0)}), run({"power_w/VDD_IN": value(9.0, vanished=True)})
    assert sensed.power([good, gone], 10, 1.0) is None and sensed.power([good, run({})], 10, 1.0) is None


def test_energy_counters_give_the_power_of_all_packages_and_not_of_their_parts() -> None:
    counters = {"energy_j/package-0": energy(100.0), "energy_j/package-1": energy(50.0), "energy_j/package-0/core": energy(80.0)}
    found = sensed.power([run(counters)], 10, 1.0)
    assert found is not None and (found.rail, found.mean_w, found.max_w) == ("package", 15.0, None)
    assert sensed.power([run({"energy_j/package-0": energy(None)})], 10, 1.0) is None


def test_temperatures_of_all_processes_are_joined() -> None:
    zone = "temperature_c/soc"
    found = sensed.thermal([run({zone: value(40.0)}), run({zone: value(60.0, top=66.2)}, slope=0.2)])
    assert found is not None and found.zones_c["soc"].start == 40.0 and found.zones_c["soc"].mean == 50.0
    assert found.zones_c["soc"].max == 66.2 and found.soaked is True and found.throttled is None
    assert found.trips_c == {"passive": 95.0}


def test_nothing_to_tell_is_none() -> None:
    assert sensed.thermal([run({})]) is None and sensed.power([run({})], 1, 1.0) is None and sensed.clocks([run({})]) is None


def test_clocks_are_the_mean_over_cores_and_a_lock_is_told() -> None:
    cores = {"clock_hz/cpu0": value(2e9, "cpuinfo_cur_freq"), "clock_hz/cpu1": value(1e9, "cpuinfo_cur_freq")}
    found = sensed.clocks([run({**cores, "clock_hz/gpu": value(9e8, "devfreq")}, limits={"cpu0": [2, 2]})])
    assert found is not None and (found.cpu_hz_p50, found.cpu_hz_min, found.gpu_hz_p50) == (1.5e9, 1e9, 9e8)
    assert found.lock_held is True and found.source == "cpuinfo_cur_freq+devfreq"


def test_events_grow_over_all_processes() -> None:
    counter = {"throttle_events/oc2": {"vanished": False, "rise": 2.0}}
    assert sensed.events([run(counter), run(counter)]) == {"oc2": 4.0}
    assert sensed.events([run({"throttle_events/oc2": {"vanished": False}})]) == {}


@pytest.mark.parametrize("run_without", [{"sensed": None}, {}])
def test_processes_without_sensors_have_none(run_without: dict[str, Any]) -> None:
    assert sensed.phase_sensors([run_without]) == [{}]
