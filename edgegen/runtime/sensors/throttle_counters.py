"""Counters of throttling: Jetson's over-current alarms (soctherm) and the thermal counters of Intel cores.

They count since the start of the machine: what matters is by how much they grew. Python >= 3.8, standard library only.
"""

from __future__ import annotations

import os
from typing import List

from edgegen.runtime.sensors.reading import Quantity, Reading, folders, number_in, text_of, under

_MAX_COUNT = 1 << 63


def over_current(root: str) -> List[Reading]:
    """Return oc1 (under-voltage), oc2 (average over-current) and oc3 (instantaneous over-current, which also happens at idle)."""
    found = []
    for folder in folders(under(root, "/sys/class/hwmon"), r"hwmon[0-9]+"):
        if text_of(os.path.join(folder, "name")) != "soctherm_oc":
            continue
        for number in range(1, 4):
            path = os.path.join(folder, f"oc{number}_event_cnt")
            if os.path.exists(path):
                count, problem = number_in(path, 0, _MAX_COUNT)
                found.append(Reading(Quantity.EVENTS, f"oc{number}", count, "soctherm", problem))
    return found


def core_throttles(root: str) -> List[Reading]:
    """Return how often each Intel core, and its package, was throttled for heat."""
    found = []
    for folder in folders(under(root, "/sys/devices/system/cpu"), r"cpu[0-9]+"):
        for kind in ("core", "package"):
            path = os.path.join(folder, "thermal_throttle", f"{kind}_throttle_count")
            if os.path.exists(path):
                count, problem = number_in(path, 0, _MAX_COUNT)
                found.append(Reading(Quantity.EVENTS, f"{os.path.basename(folder)}-{kind}", count, "thermal-throttle", problem))
    return found
