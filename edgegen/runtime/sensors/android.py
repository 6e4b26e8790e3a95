"""Android: what `dumpsys thermalservice` and `dumpsys battery` print. Python >= 3.8, standard library only."""

from __future__ import annotations

import math
import re
from typing import List, Optional

from edgegen.runtime.sensors.reading import Quantity, Reading

_SOURCE = "thermalservice"
_STATUS = re.compile(r"^\s*Thermal Status: ([0-9]{1,2})\s*$", re.MULTILINE)
_ZONE = re.compile(r"Temperature\{mValue=(-?[0-9.]{1,12}|NaN), mType=-?[0-9]{1,3}, mName=([^,{}\n]{1,60}), mStatus=[0-9]{1,2}\}")
_PRESENT = "Current temperatures from HAL:"
_AFTER = "Current cooling devices from HAL:"
_MAX_TEXT = 1 << 20
_MOST_SEVERE = 6


def parse_thermalservice(text: str) -> List[Reading]:
    """Return the thermal status (0 none, 3 severe, 6 shutdown) and every temperature; the present ones, not the cached."""
    text = text[:_MAX_TEXT]
    found = _STATUS.search(text)
    status = int(found.group(1)) if found and int(found.group(1)) <= _MOST_SEVERE else None
    problem = "" if status is not None else "dumpsys thermalservice tells no thermal status"
    readings = [Reading(Quantity.THROTTLING, "thermal-status", status, _SOURCE, problem)]
    present = text.partition(_PRESENT)[2].partition(_AFTER)[0]
    for value, name in _ZONE.findall(present or text):
        celsius = _celsius(value)
        problem = "" if celsius is not None else f"dumpsys thermalservice says {name} has {value} C"
        readings.append(Reading(Quantity.TEMPERATURE, name, celsius, _SOURCE, problem))
    return readings


def parse_charging(text: str) -> Optional[bool]:
    """Return whether `dumpsys battery` says that the phone is charged from anywhere; None if it does not say."""
    sources = re.findall(r"^\s*(?:AC|USB|Wireless|Dock) powered: (true|false)\s*$", text[:_MAX_TEXT], re.MULTILINE)
    return "true" in sources if sources else None


def _celsius(text: str) -> Optional[float]:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and -40 <= value <= 150 else None
