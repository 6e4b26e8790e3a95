"""Clocks of cores, GPUs and memory. Python >= 3.8, standard library only.

`scaling_cur_freq` and devfreq's `cur_freq` are what was asked for; cuts by the hardware show only in `cpuinfo_cur_freq`.
"""

from __future__ import annotations

import os
from typing import Dict, List, Optional, Tuple

from edgegen.runtime.sensors.reading import Quantity, Reading, folders, number_in, text_of, under

CPU_FOLDER = "/sys/devices/system/cpu"
DEVFREQ_FOLDER = "/sys/class/devfreq"
_MAX_KHZ, _MAX_HZ = 20_000_000, 20_000_000_000


def core_clocks(root: str) -> List[Reading]:
    """Return the clock of every core, the true one where it may be read, else the one that was asked for (named so)."""
    found = []
    for folder in folders(under(root, CPU_FOLDER), r"cpu[0-9]+"):
        cpufreq = os.path.join(folder, "cpufreq")
        if not os.path.isdir(cpufreq):
            continue
        k_hz, problem = number_in(os.path.join(cpufreq, "cpuinfo_cur_freq"), 1, _MAX_KHZ)
        source = "cpuinfo_cur_freq"
        if k_hz is None:
            source = "scaling_cur_freq"
            k_hz, problem = number_in(os.path.join(cpufreq, source), 1, _MAX_KHZ)
        value = None if k_hz is None else k_hz * 1000
        found.append(Reading(Quantity.CLOCK, os.path.basename(folder), value, source, problem))
    return found


def device_clocks(root: str) -> List[Reading]:
    """Return the clocks that devfreq asked for: GPU, NPU, memory."""
    found = []
    for folder in folders(under(root, DEVFREQ_FOLDER), r"[\w.:@-]+"):
        hertz, problem = number_in(os.path.join(folder, "cur_freq"), 0, _MAX_HZ)  # 0: switched off at the moment
        found.append(Reading(Quantity.CLOCK, device_name(folder), hertz, "devfreq", problem))
    return found


def device_name(folder: str) -> str:
    """Return what a devfreq folder is called here: "gpu" for Jetson's 17000000.gpu, else its name."""
    name = os.path.basename(folder)
    parts = name.split(".")
    return parts[1] if len(parts) == 2 and parts[1].isalpha() else name


def clock_limits(root: str) -> Dict[str, Tuple[Optional[int], Optional[int]]]:
    """Return the lowest and the highest clock in Hz that each core and device may take now: equal means locked."""
    found = {}
    for folder in folders(under(root, CPU_FOLDER), r"cpu[0-9]+"):
        cpufreq = os.path.join(folder, "cpufreq")
        if os.path.isdir(cpufreq):
            found[os.path.basename(folder)] = _limits(cpufreq, "scaling_min_freq", "scaling_max_freq", 1000)
    for folder in folders(under(root, DEVFREQ_FOLDER), r"[\w.:@-]+"):
        found[device_name(folder)] = _limits(folder, "min_freq", "max_freq", 1)
    return found


def governors(root: str) -> Dict[str, Optional[str]]:
    """Return the governor of every core that has one."""
    found = {}
    for folder in folders(under(root, CPU_FOLDER), r"cpu[0-9]+"):
        if os.path.isdir(os.path.join(folder, "cpufreq")):
            found[os.path.basename(folder)] = text_of(os.path.join(folder, "cpufreq", "scaling_governor"))
    return found


def _limits(folder: str, low: str, high: str, factor: int) -> Tuple[Optional[int], Optional[int]]:
    values = [number_in(os.path.join(folder, name), 0, _MAX_HZ // factor)[0] for name in (low, high)]
    least, most = (None if value is None else value * factor for value in values)
    return least, most
