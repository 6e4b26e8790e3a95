"""What this process and machine say about themselves. Every fact is None where it cannot be read. Python >= 3.8."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any, Dict, Optional


def peak_memory_bytes() -> Optional[int]:
    """Return the most memory this process ever held (VmHWM): weights, activations, the back end and Python itself."""
    text = read_text("/proc/self/status")
    for line in (text or "").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def machine_facts() -> Dict[str, Any]:
    """Return os, kernel, machine, python, cpu, usable cores, governor, clock limits, load, swap in use and throttle count."""
    return {
        "os": _os_name(), "kernel": platform.release(), "machine": platform.machine(), "python": platform.python_version(),
        "cpu": _cpu_name(), "cpu_affinity": _affinity(), "cpu_governor": read_text(_CPUFREQ + "scaling_governor"),
        "cpu_hz_min": _kilo(_CPUFREQ + "scaling_min_freq"), "cpu_hz_max": _kilo(_CPUFREQ + "scaling_max_freq"),
        "cpu_hz": _kilo(_CPUFREQ + "cpuinfo_cur_freq"), "load_1min": _load(), "swap_used_bytes": _swap_used(),
        "throttle_count": _number("/sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"),
        "board": (read_text("/proc/device-tree/model") or "").strip("\0") or None,
    }  # fmt: skip


_CPUFREQ = "/sys/devices/system/cpu/cpu0/cpufreq/"


def read_text(path: str) -> Optional[str]:
    """Return the text of a small system file, or None."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 16).strip() or None
    except OSError:
        return None


def _number(path: str) -> Optional[int]:
    text = read_text(path)
    return int(text) if text and text.isdigit() else None


def _kilo(path: str) -> Optional[int]:
    value = _number(path)
    return None if value is None else value * 1000


def _affinity() -> Optional[list]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _load() -> Optional[float]:
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None


def _swap_used() -> Optional[int]:
    values = {}
    for line in (read_text("/proc/meminfo") or "").splitlines():
        key, _, rest = line.partition(":")
        if key in ("SwapTotal", "SwapFree"):
            values[key] = int(rest.split()[0]) * 1024
    return values["SwapTotal"] - values["SwapFree"] if len(values) == 2 else None


def _os_name() -> str:
    for line in (read_text("/etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return platform.platform()


def _cpu_name() -> Optional[str]:
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        if line.lower().startswith(("model name", "hardware")):
            return line.partition(":")[2].strip()
    return platform.processor() or None
