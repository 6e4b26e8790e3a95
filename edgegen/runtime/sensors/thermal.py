"""Thermal zones, their trip points, and cooling devices that hold the processor back. Python >= 3.8, standard library only."""

from __future__ import annotations

import os
from typing import Dict, List, Optional

from edgegen.runtime.sensors.reading import Quantity, Reading, folders, number_in, text_of, under

_THERMAL = "/sys/class/thermal"
_LOW_MC, _HIGH_MC = -40_000, 150_000
_ALWAYS_100_C = "PMIC-Die"  # Jetson Xavier: says 100 C whatever happens
_ALERTS = ("throttle-alert", "hot-surface-alert")  # fans and devfreq coolers do not hold the processor back by themselves


def temperatures(root: str) -> List[Reading]:
    """Return the temperature of every zone. A zone whose power is cut cannot be read: None."""
    found = []
    for folder in folders(under(root, _THERMAL), r"thermal_zone[0-9]+"):
        name = text_of(os.path.join(folder, "type")) or os.path.basename(folder)
        path = os.path.join(folder, "temp")
        milli_c, problem = number_in(path, _LOW_MC, _HIGH_MC)
        if name == _ALWAYS_100_C and milli_c == 100_000:
            milli_c, problem = None, f"{path} always says 100 C"
        value = None if milli_c is None else milli_c / 1000
        found.append(Reading(Quantity.TEMPERATURE, name, value, "thermal-zone", problem))
    return found


def alerts(root: str) -> List[Reading]:
    """Return the state of the cooling devices that mean throttling; above 0 they act."""
    found = []
    for folder in folders(under(root, _THERMAL), r"cooling_device[0-9]+"):
        name = text_of(os.path.join(folder, "type")) or ""
        if name.endswith(_ALERTS):
            state, problem = number_in(os.path.join(folder, "cur_state"), 0, 1000)
            found.append(Reading(Quantity.THROTTLING, name, state, "cooling-device", problem))
    return found


def trips_c(root: str) -> Dict[str, float]:
    """Return the lowest trip point of each kind over all zones, in C: passive and hot throttle, critical switches off."""
    found: Dict[str, float] = {}
    for folder in folders(under(root, _THERMAL), r"thermal_zone[0-9]+"):
        for index in range(16):
            kind = text_of(os.path.join(folder, f"trip_point_{index}_type"))
            if kind is None:
                break
            value = _trip(os.path.join(folder, f"trip_point_{index}_temp"))
            if value is not None and kind in ("passive", "hot", "critical"):
                found[kind] = min(value, found.get(kind, value))
    return found


def _trip(path: str) -> Optional[float]:
    milli_c, _ = number_in(path, 1_000, _HIGH_MC)  # zones without a limit say 0, negative or 32-bit numbers
    return None if milli_c is None else milli_c / 1000
