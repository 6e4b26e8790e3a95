"""What the sensor process summed up, over all processes of a measurement, as parts of the record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgegen.bench.record_sensors import Clocks, CoolStart, Power, Thermal, ZoneHeat
from edgegen.runtime.cooling import NEAR_C
from edgegen.runtime.sensors.power_rails import total_rail
from edgegen.runtime.sensors.reading import Quantity

Json = Mapping[str, Any]
_SOAKED_C_PER_MIN = 0.5
_AVERAGED = {"ina3221": "the sensor averages many conversions", "ina238": "the sensor averages many conversions"}
_PACKAGE = "package"
_MEMORY_CLOCKS = ("emc", "dmc", "ddrc")


def phase_sensors(warm: Sequence[Json], phase: str = "sustained") -> list[Json]:
    """Return per process what its sensors said in `phase`, by key; an empty mapping where none were sampled."""
    return [((run.get("sensed") or {}).get("phases", {}).get(phase) or {}).get("sensors", {}) for run in warm]


def of_quantity(sensors: Json, quantity: Quantity) -> dict[str, Json]:
    """Return the sensors of one quantity by name."""
    prefix = quantity.value + "/"
    return {key[len(prefix) :]: value for key, value in sensors.items() if key.startswith(prefix)}


def vanished(warm: Sequence[Json]) -> list[str]:
    """Return the sensors that had values and then none."""
    return sorted({key for sensors in phase_sensors(warm) for key, value in sensors.items() if value["vanished"]})


def events(warm: Sequence[Json]) -> dict[str, float]:
    """Return by how much each counter of throttling grew, in both phases of all processes."""
    grown: dict[str, float] = {}
    for phase in ("burst", "sustained"):
        for sensors in phase_sensors(warm, phase):
            for name, value in of_quantity(sensors, Quantity.EVENTS).items():
                if value.get("rise") is not None:
                    grown[name] = grown.get(name, 0) + value["rise"]
    return grown


def throttling_now(warm: Sequence[Json]) -> dict[str, float]:
    """Return the states that mean throttling and were above 0 at any time, with their highest value."""
    found: dict[str, float] = {}
    for phase in ("burst", "sustained"):
        for sensors in phase_sensors(warm, phase):
            for name, value in of_quantity(sensors, Quantity.THROTTLING).items():
                if value.get("max", 0) > 0:
                    found[name] = max(found.get(name, 0), value["max"])
    return found


def thermal(warm: Sequence[Json]) -> Thermal | None:
    """Return temperatures and throttling; None where no sensor tells of either."""
    zones: dict[str, ZoneHeat] = {}
    tells = False
    for sensors in phase_sensors(warm):
        tells = tells or any(key.startswith((Quantity.EVENTS.value, Quantity.THROTTLING.value)) for key in sensors)
        for name, value in of_quantity(sensors, Quantity.TEMPERATURE).items():
            if "first" in value:
                zones[name] = _joined(zones.get(name), value)
    if not zones and not tells:
        return None
    grown = events(warm)
    hurts = any(count > 0 for name, count in grown.items() if name != "oc3") or bool(throttling_now(warm))
    last = (warm[-1].get("sensed") or {}).get("phases", {}).get("sustained") or {}
    slope = last.get("slope_c_per_min")
    return Thermal(
        zones_c=zones, trips_c=dict((warm[-1].get("sensed") or {}).get("trips_c", {})),
        soaked=None if slope is None else abs(slope) < _SOAKED_C_PER_MIN, throttled=hurts if tells else None,
        throttle_events=grown,
    )  # fmt: skip


def _joined(before: ZoneHeat | None, value: Json) -> ZoneHeat:
    first, mean, top = (round(value[key], 3) for key in ("first", "mean", "max"))
    if before is None:
        return ZoneHeat(first, mean, top)
    return ZoneHeat(before.start, round((before.mean + mean) / 2, 3), max(before.max, top))


def power(warm: Sequence[Json], run_count: int, run_seconds: float) -> Power | None:
    """Return the power of the whole board, or else of the processor package; None where any process lacks it."""
    found = [_process_power(sensors) for sensors in phase_sensors(warm)]
    parts = [part for part in found if part is not None]
    if not parts or len(parts) != len(found) or len({part[0] for part in parts}) != 1:
        return None
    rail, method = parts[0][0], parts[0][1]
    seconds = sum(part[3] for part in parts)
    mean = sum(part[2] * part[3] for part in parts) / seconds if seconds else parts[0][2]
    tops = [part[5] for part in parts if part[5] is not None]
    idle = next((p[2] for p in (_process_power(s) for s in phase_sensors(warm, "idle")) if p is not None and p[0] == rail), None)
    each_s = run_seconds / run_count
    return Power(
        method=method, rail=rail, n=sum(part[4] for part in parts), mean_w=round(mean, 4),
        idle_w=None if idle is None else round(idle, 4), max_w=max(tops) if tops else None,
        energy_per_inference_mj=round(mean * each_s * 1e3, 4),
        energy_above_idle_mj=None if idle is None else round((mean - idle) * each_s * 1e3, 4), uncertainty=_AVERAGED.get(method),
    )  # fmt: skip


def _process_power(sensors: Json) -> tuple[str, str, float, float, int, float | None] | None:
    """Return rail, method, mean watts, seconds, samples and highest watts of one process."""
    rails = of_quantity(sensors, Quantity.POWER)
    rail = total_rail(list(rails))
    if rail is not None and "mean" in rails[rail] and not rails[rail]["vanished"]:
        value = rails[rail]
        return rail, value["source"], value["mean"], float(value["n"]), value["n"], value["max"]
    energies = of_quantity(sensors, Quantity.ENERGY)
    chosen = [name for name in energies if name == "psys"] or [name for name in energies if name.startswith(_PACKAGE + "-")]
    chosen = [name for name in chosen if "/" not in name]
    values = [energies[name] for name in chosen]
    if not values or any(v.get("rise") is None or v["vanished"] or not v["seconds"] for v in values):
        return None
    watts = sum(value["rise"] / value["seconds"] for value in values)
    rail = "psys" if chosen == ["psys"] else _PACKAGE
    return rail, values[0]["source"], watts, float(values[0]["seconds"]), values[0]["n"], None


def clocks(warm: Sequence[Json]) -> Clocks | None:
    """Return the clocks of the sustained phase, means over cores and processes; None where neither clocks nor limits are told."""
    held = lock_held(warm)
    cores = [v for sensors in phase_sensors(warm) for v in _clock_values(sensors, "cpu", "arm")]
    gpus = [v for sensors in phase_sensors(warm) for v in _clock_values(sensors, "gpu")]
    if not cores and not gpus and held is None:
        return None
    return Clocks(
        cpu_hz_p50=_mean([v["p50"] for v in cores]), cpu_hz_min=min((v["min"] for v in cores), default=None),
        gpu_hz_p50=_mean([v["p50"] for v in gpus]), gpu_hz_min=min((v["min"] for v in gpus), default=None),
        source="+".join(sorted({v["source"] for v in [*cores, *gpus]})) or None, lock_held=held,
    )  # fmt: skip


def lock_held(warm: Sequence[Json]) -> bool | None:
    """Return whether clocks that were locked before the first run were so after the last; None if nothing was locked."""
    before, after = warm[0]["machine_before"]["clock_limits"], warm[-1]["machine_after"]["clock_limits"]
    locked = {name: both for name, both in before.items() if both[0] is not None and both[0] == both[1]}
    return all(after.get(name) == both for name, both in locked.items()) if locked else None


def moved_limits(warm: Sequence[Json]) -> list[str]:
    """Return whose clock limits are no longer what they were before the first run."""
    before, after = warm[0]["machine_before"]["clock_limits"], warm[-1]["machine_after"]["clock_limits"]
    return sorted(name for name in before if after.get(name) != before[name])


def sensor_warnings(warm: Sequence[Json]) -> list[str]:
    """Return what was wrong with single readings, each once; and that there were none, where sampling was asked for."""
    found: dict[str, None] = {}
    for run in warm:
        if "sensed" in run and run["sensed"] is None:
            found["the sensor process ended early: no temperatures, clocks or power"] = None
        for phase in ((run.get("sensed") or {}).get("phases") or {}).values():
            found.update(dict.fromkeys(phase["warnings"]))
    return list(found)


def cool_start(waits: Sequence[Json]) -> CoolStart | None:
    """Return how the processes waited for a cool device; None where no zone tells."""
    above = [wait["above_c"] for wait in waits if wait["above_c"] is not None]
    if not above:
        return None
    return CoolStart(tuple(wait["waited_s"] for wait in waits), max(above), max(above) <= NEAR_C)


def background_load_pct(warm: Sequence[Json]) -> float | None:
    """Return how much of all cores other processes took while runs were timed, in percent; the worst of all timed processes."""
    shares = [run["foreign_share"] for run in warm if run.get("foreign_share") is not None]
    return round(100 * max(shares), 2) if shares else None


def sampler_cost_pct(warm: Sequence[Json]) -> float | None:
    """Return by how much longer the median run takes while the sensors are sampled, in percent; the median of all processes."""
    found = sorted(run["sampler_cost"] for run in warm if run.get("sampler_cost") is not None)
    return round(100 * found[len(found) // 2], 3) if found else None


def memory_clock_hz(warm: Sequence[Json]) -> float | None:
    """Return the clock of the memory in the sustained phase, the mean of the processes; None where nothing tells."""
    return _mean([value["p50"] for sensors in phase_sensors(warm) for value in _clock_values(sensors, *_MEMORY_CLOCKS)])


def _clock_values(sensors: Json, *prefixes: str) -> Iterator[Json]:
    for name, value in of_quantity(sensors, Quantity.CLOCK).items():
        if name.startswith(prefixes) and "p50" in value:
            yield value


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 1) if values else None
