"""Raspberry Pi: what `vcgencmd` prints. Python >= 3.8, standard library only."""

from __future__ import annotations

import re
from typing import List

from edgegen.runtime.sensors.reading import Quantity, Reading

_BITS = {0: "under-voltage", 1: "frequency-capped", 2: "throttled", 3: "soft-temperature-limit"}
_STICKY = 16  # the same bits again, set since the machine started
_SOURCE = "vcgencmd"


def parse_throttled(text: str) -> List[Reading]:
    """Return four states of now and four that stay set, from `vcgencmd get_throttled`: "throttled=0x50005"."""
    found = re.fullmatch(r"\s*throttled=0x([0-9a-fA-F]{1,8})\s*", text)
    bits = int(found.group(1), 16) if found else None
    if bits is not None and bits >> (_STICKY + len(_BITS)):
        bits = None
    problem = "" if bits is not None else f"vcgencmd get_throttled says {text.strip()[:40]!r}"
    readings = []
    for bit, name in _BITS.items():
        now, ever = (None, None) if bits is None else (bits >> bit & 1, bits >> (bit + _STICKY) & 1)
        readings.append(Reading(Quantity.THROTTLING, name, now, _SOURCE, problem))
        readings.append(Reading(Quantity.EVENTS, f"{name}-since-boot", ever, _SOURCE, problem))
    return readings


def parse_temperature(text: str) -> Reading:
    """Return the temperature from `vcgencmd measure_temp`: "temp=48.3'C"."""
    found = re.fullmatch(r"\s*temp=(-?[0-9]{1,3}(?:\.[0-9]+)?)'C\s*", text)
    value = float(found.group(1)) if found else None
    if value is not None and not -40 <= value <= 150:
        value = None
    problem = "" if value is not None else f"vcgencmd measure_temp says {text.strip()[:40]!r}"
    return Reading(Quantity.TEMPERATURE, "soc", value, _SOURCE, problem)


def parse_clock(text: str) -> Reading:
    """Return the true clock of the cores from `vcgencmd measure_clock arm`: "frequency(0)=2400033792"."""
    found = re.fullmatch(r"\s*frequency\([0-9]+\)=([0-9]{1,11})\s*", text)
    value = int(found.group(1)) if found else None
    if value is not None and not 0 < value <= 20_000_000_000:
        value = None
    problem = "" if value is not None else f"vcgencmd measure_clock says {text.strip()[:40]!r}"
    return Reading(Quantity.CLOCK, "arm", value, _SOURCE, problem)
