"""What this process and machine say about themselves. Every fact is None where it cannot be read. Python >= 3.8.

Facts are read under a root, "/" on a device, that tests can fake.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from typing import Any, Dict, List, Optional, Tuple

from edgegen.runtime.board_facts import board_facts
from edgegen.runtime.device_state import power_mode
from edgegen.runtime.sensors import clocks, process_memory, throttle_counters
from edgegen.runtime.sensors.reading import text_of, under

_ARCHITECTURES = (("x86", ("x86_64", "amd64", "i686", "i586", "i386")), ("arm", ("aarch64", "arm64", "armv", "arm")))
_EMULATORS = ("qemu-", "proot", "box64", "box86", "fex", "rosetta")


def peak_memory_bytes(root: str = "/") -> Optional[int]:
    """Return the most memory this process ever held (VmHWM): weights, activations, the back end and Python itself."""
    found = process_memory.peak_bytes(text_of(under(root, "/proc/self/status")) or "")
    if found is not None:
        return found
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def machine_facts(root: str = "/") -> Dict[str, Any]:
    """Return os, kernel, machine, python, cpu, usable cores, governors, clock limits, load, memory, throttle counts, and what
    `board_facts` does."""
    meminfo = text_of(under(root, "/proc/meminfo")) or ""
    limits = clocks.clock_limits(root)
    cores = [both for name, both in limits.items() if name.startswith("cpu")]
    lows, highs = [low for low, _ in cores if low is not None], [high for _, high in cores if high is not None]
    return {
        "os": _os_name(root), "kernel": platform.release(), "machine": platform.machine(), "python": platform.python_version(),
        "cpu": _cpu_name(root), "cpu_affinity": _affinity(), "cpu_governor": _one(clocks.governors(root)),
        "cpu_hz_min": min(lows, default=None), "cpu_hz_max": max(highs, default=None),
        "clock_limits": {name: list(both) for name, both in limits.items()},
        "load_1min": _load(root), "swap_used_bytes": process_memory.swap_used_bytes(meminfo),
        "free_bytes": process_memory.free_bytes(meminfo), "throttle_count": _throttle_count(root),
        "board": text_of(under(root, "/proc/device-tree/model")), "power_mode": power_mode(root), "emulated": emulated(root),
        **board_facts(root),
    }  # fmt: skip


def emulated(root: str = "/") -> Optional[bool]:
    """Return whether a program stands in for the processor (qemu in user mode, with or without proot); None if nothing tells.

    Then all times are worthless. Signs: the kernel runs on another architecture than this process says; the process carries the
    emulator's name, or an emulator traces it; the processor calls itself QEMU's. A virtual machine on a real processor is none.
    """
    status = text_of(under(root, "/proc/self/status"))
    kernel = text_of(under(root, "/proc/sys/kernel/arch"))
    cpuinfo = text_of(under(root, "/proc/cpuinfo"))
    if status is None and kernel is None and cpuinfo is None:
        return None
    names = [_field(status, "Name"), _tracer(root, status)]
    if any(name and name.lower().startswith(_EMULATORS) for name in names):
        return True
    families = {_family(text) for text in (kernel, platform.machine()) if text}
    if cpuinfo and re.search(r"^vendor_id\s*:\s*(GenuineIntel|AuthenticAMD)", cpuinfo, re.MULTILINE):
        families.add("x86")
    return len(families) > 1 or bool(cpuinfo and re.search(r"^model name\s*:\s*QEMU TCG", cpuinfo, re.MULTILINE))


def core_times(root: str = "/") -> Optional[Tuple[int, int]]:
    """Return how much time all cores together have worked and how much has passed on them, in ticks; None where nothing tells."""
    found = re.match(r"cpu +([0-9]{1,19}(?: [0-9]{1,19}){7,9})(?:\n|$)", text_of(under(root, "/proc/stat")) or "")
    if found is None:
        return None
    user, nice, system, idle, waiting, irq, soft_irq, stolen = [int(word) for word in found.group(1).split()[:8]]
    busy = user + nice + system + irq + soft_irq + stolen
    return busy, busy + idle + waiting


def _tracer(root: str, status: Optional[str]) -> Optional[str]:
    pid = _field(status, "TracerPid")
    return text_of(under(root, f"/proc/{pid}/comm")) if pid and pid.isdigit() and pid != "0" else None


def _field(status: Optional[str], name: str) -> Optional[str]:
    found = re.search(rf"^{name}:\s*(\S+)", status or "", re.MULTILINE)
    return found.group(1) if found else None


def _family(machine: str) -> str:
    return next((family for family, names in _ARCHITECTURES if machine.lower().startswith(names)), machine)


def _throttle_count(root: str) -> Optional[int]:
    counts = [reading.value for reading in throttle_counters.core_throttles(root) if reading.value is not None]
    return int(sum(counts)) if counts else None


def _one(governors: Dict[str, Optional[str]]) -> Optional[str]:
    """Return the governor of all cores, or all of them if they differ."""
    found: List[str] = sorted({governor for governor in governors.values() if governor})
    return "+".join(found) or None


def _affinity() -> Optional[list]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _load(root: str) -> Optional[float]:
    found = re.match(r"[0-9]{1,6}\.[0-9]{1,4}(?= )", text_of(under(root, "/proc/loadavg")) or "")
    return float(found.group()) if found else None


def _os_name(root: str) -> str:
    for line in (text_of(under(root, "/etc/os-release")) or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return platform.platform()


def _cpu_name(root: str) -> Optional[str]:
    for line in (text_of(under(root, "/proc/cpuinfo")) or "").splitlines():
        if line.lower().startswith(("model name", "hardware")):
            return line.partition(":")[2].strip()
    return platform.processor() or None
