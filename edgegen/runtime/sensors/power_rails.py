"""Power monitors of boards: INA3221 (mV and mA), INA238 (microwatts), and the iio files of JetPack 4 (mW).

Power is the product of voltage and current; the total is VDD_IN or POM_5V_IN where a board has it, never the sum of its parts.
Drivers average many conversions (`samples`): peaks of milliseconds do not show. Python >= 3.8, standard library only.
"""

from __future__ import annotations

import os
from typing import List, Optional

from edgegen.runtime.sensors.reading import Quantity, Reading, folders, number_in, text_of, under

TOTAL_RAILS = ("VDD_IN", "POM_5V_IN", "VIN_SYS_5V0", "VIN")
_NOT_RAILS = ("NC", "sum of shunt voltages")
_MAX_MV, _MAX_MA, _MAX_MW, _MAX_UW = 60_000, 50_000, 500_000, 500_000_000
_CHANNELS = range(1, 4)


def rails(root: str) -> List[Reading]:
    """Return the power of every rail in watts."""
    found = []
    for folder in folders(under(root, "/sys/class/hwmon"), r"hwmon[0-9]+"):
        name = text_of(os.path.join(folder, "name"))
        if name == "ina3221":
            found += _ina3221(folder)
        elif name == "ina238":
            found.append(_ina238(folder))
    for folder in folders(under(root, "/sys/bus/iio/devices"), r"iio:device[0-9]+"):
        found += _jetpack4(folder)
    return found


def _ina3221(folder: str) -> List[Reading]:
    found = []
    for channel in _CHANNELS:
        label = text_of(os.path.join(folder, f"in{channel}_label"))
        if label is None or label in _NOT_RAILS:
            continue
        milli_v, no_volts = number_in(os.path.join(folder, f"in{channel}_input"), 0, _MAX_MV)
        milli_a, no_amperes = number_in(os.path.join(folder, f"curr{channel}_input"), 0, _MAX_MA)
        watts = None if milli_v is None or milli_a is None else milli_v * milli_a / 1e6
        found.append(Reading(Quantity.POWER, label, watts, "ina3221", no_volts or no_amperes))
    return found


def _ina238(folder: str) -> Reading:
    micro_w, problem = number_in(os.path.join(folder, "power1_input"), 0, _MAX_UW)
    label = text_of(os.path.join(folder, "in1_label")) or text_of(os.path.join(folder, "label")) or "VIN"
    return Reading(Quantity.POWER, label, None if micro_w is None else micro_w / 1e6, "ina238", problem)


def _jetpack4(folder: str) -> List[Reading]:
    found = []
    for channel in range(3):
        label = text_of(os.path.join(folder, f"rail_name_{channel}"))
        if label is None or label in _NOT_RAILS:
            continue
        milli_w, problem = number_in(os.path.join(folder, f"in_power{channel}_input"), 0, _MAX_MW)
        found.append(Reading(Quantity.POWER, label, None if milli_w is None else milli_w / 1e3, "ina3221", problem))
    return found


def total_rail(names: List[str]) -> Optional[str]:
    """Return which of the rails stands for the whole board; None if none does, and then no total may be made of the others."""
    return next((rail for rail in TOTAL_RAILS if rail in names), None)
