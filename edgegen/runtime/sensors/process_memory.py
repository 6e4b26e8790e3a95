"""Memory of a process and of the machine, from /proc. Python >= 3.8, standard library only."""

from __future__ import annotations

import re
from typing import Dict, Optional

_LINE = re.compile(r"^(\w+):\s*([0-9]{1,15}) kB\s*$", re.MULTILINE)


def parse_kilobytes(text: str) -> Dict[str, int]:
    """Return the values of /proc/PID/status or /proc/meminfo that are given in kB, in bytes: {"VmHWM": 41943040, ...}."""
    return {name: int(value) * 1024 for name, value in _LINE.findall(text)}


def peak_bytes(status: str) -> Optional[int]:
    """Return the most memory the process ever held (VmHWM); None if the text does not tell, or says 0."""
    return parse_kilobytes(status).get("VmHWM") or None


def swap_used_bytes(meminfo: str) -> Optional[int]:
    """Return how much swap is in use; None if the text does not tell or contradicts itself."""
    found = parse_kilobytes(meminfo)
    if "SwapTotal" not in found or "SwapFree" not in found or found["SwapFree"] > found["SwapTotal"]:
        return None
    return found["SwapTotal"] - found["SwapFree"]


def free_bytes(meminfo: str) -> Optional[int]:
    """Return the memory that a new process could get."""
    return parse_kilobytes(meminfo).get("MemAvailable")
