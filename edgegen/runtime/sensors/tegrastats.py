"""One line of Jetson's `tegrastats`, of JetPack 4 to 7. Python >= 3.8, standard library only.

Of the two numbers of a rail the first is the present one; the second is an average since tegrastats started, which is of no use.
"""

from __future__ import annotations

import re
from typing import List, Optional

from edgegen.runtime.sensors.reading import Quantity, Reading

_SOURCE = "tegrastats"
_CORES = re.compile(r"\bCPU \[([^\]]{0,2000})\]")
_CORE = re.compile(r"[0-9]{1,3}%@([0-9]{1,5})")
_GPU = re.compile(r"\bGR3D_FREQ (?:[0-9]{1,3}%)?@(?:\[([0-9,]{1,60})\]|([0-9]{1,5})\b)")
_MEMORY = re.compile(r"\bEMC_FREQ (?:[0-9]{1,3}%)?@([0-9]{1,5})\b")
_ZONE = re.compile(r"(?<![\w%])([A-Za-z][\w.-]{0,40})@(-?[0-9]{1,4}(?:\.[0-9]{1,3})?)C\b")
_RAIL = re.compile(r"\b([A-Z][A-Z0-9_]{2,40}) ([0-9]{1,7})(?:mW)?/([0-9]{1,7})(?:mW)?(?= |$)")
_NOT_RAILS = ("RAM", "SWAP", "IRAM")
_MAX_LINE = 8192


def parse_line(line: str) -> List[Reading]:
    """Return what the line tells; an empty list if it is no line of tegrastats."""
    line = line[:_MAX_LINE].strip()
    if not re.search(r"\bRAM [0-9]+/[0-9]+MB", line):
        return []
    return [*_clocks(line), *_temperatures(line), *_rails(line)]


def _clocks(line: str) -> List[Reading]:
    found = []
    cores = _CORES.search(line)
    for index, text in enumerate(cores.group(1).split(",") if cores else []):
        core = _CORE.fullmatch(text.strip())
        if core:  # others are "off"
            found.append(Reading(Quantity.CLOCK, f"cpu{index}", int(core.group(1)) * 1e6, _SOURCE))
    gpu = _GPU.search(line)
    if gpu:
        found += _gpu_clocks(gpu.group(1) or gpu.group(2))
    memory = _MEMORY.search(line)
    if memory:
        found.append(Reading(Quantity.CLOCK, "emc", int(memory.group(1)) * 1e6, _SOURCE))
    return found


def _gpu_clocks(text: str) -> List[Reading]:
    """One clock per cluster; a list of one is the GPU itself."""
    values = [part for part in text.split(",") if part and len(part) <= 5]
    names = ["gpu"] if len(values) == 1 else [f"gpu{index}" for index in range(len(values))]
    return [Reading(Quantity.CLOCK, name, int(value) * 1e6, _SOURCE) for name, value in zip(names, values)]


def _temperatures(line: str) -> List[Reading]:
    return [_temperature(name, float(text)) for name, text in _ZONE.findall(line)]


def _temperature(name: str, value: float) -> Reading:
    """-256 is what a zone says whose power is cut, and PMIC@100C is what Xavier says always."""
    wrong = not -40 <= value <= 150 or (name.upper().startswith("PMIC") and value == 100)
    problem = f"tegrastats says {name} has {value:g} C" if wrong else ""
    return Reading(Quantity.TEMPERATURE, name, None if wrong else value, _SOURCE, problem)


def _rails(line: str) -> List[Reading]:
    found = []
    for name, now, _ in _RAIL.findall(line):
        if name not in _NOT_RAILS:
            watts: Optional[float] = int(now) / 1e3
            too_much = int(now) > 500_000
            problem = f"tegrastats says {name} takes {now} mW" if too_much else ""
            found.append(Reading(Quantity.POWER, name, None if too_much else watts, _SOURCE, problem))
    return found
