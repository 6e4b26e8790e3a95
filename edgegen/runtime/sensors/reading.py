"""One reading of one sensor, and how system files are read: bounded, and never with an exception.

Python >= 3.8, standard library only.
"""

from __future__ import annotations

import dataclasses
import enum
import os
import re
from typing import List, Optional, Tuple

_MAX_BYTES = 1 << 16


class Quantity(enum.Enum):
    """What is read, with its unit. ENERGY and EVENTS only ever grow: what counts is by how much."""

    TEMPERATURE = "temperature_c"
    POWER = "power_w"
    ENERGY = "energy_j"
    CLOCK = "clock_hz"
    EVENTS = "throttle_events"
    THROTTLING = "throttling"  # above 0: it is being held back now


@dataclasses.dataclass(frozen=True)
class Reading:
    """A value, or None with the reason. `wraps_at` is where an ENERGY counter starts again from 0; None if that is unknown."""

    quantity: Quantity
    name: str
    value: Optional[float]
    source: str
    problem: str = ""
    wraps_at: Optional[float] = None

    @property
    def key(self) -> str:
        """What the reading is called in samples: "temperature_c/cpu-thermal"."""
        return f"{self.quantity.value}/{self.name}"


def package_folder() -> str:
    """Return the folder that holds `edgegen`: a process started there finds it with -m, installed or not."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def under(root: str, path: str) -> str:
    """Return the absolute `path` as it lies under `root`."""
    return os.path.join(root, path.lstrip("/"))


def text_of(path: str) -> Optional[str]:
    """Return the text of a small system file without spaces around it; None if it is empty or cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_BYTES).strip().strip("\0") or None
    except OSError:  # a rail that is switched off answers with EAGAIN, EIO or EINVAL
        return None


def number_in(path: str, low: int, high: int) -> Tuple[Optional[int], str]:
    """Return the whole number in the file and "", or None and why it is not one from `low` to `high`."""
    text = text_of(path)
    return (None, f"{path} cannot be read") if text is None else number_of(text, low, high, path)


def number_of(text: str, low: int, high: int, where: str) -> Tuple[Optional[int], str]:
    """Return the whole number that `text` is and "", or None and why it is not one from `low` to `high`."""
    if not re.fullmatch(r"[+-]?[0-9]{1,20}", text):
        return None, f"{where} says {text[:40]!r}"
    value = int(text)
    return (value, "") if low <= value <= high else (None, f"{where} says {value}, which cannot be")


def folders(parent: str, pattern: str) -> List[str]:
    """Return the folders in `parent` whose whole names match `pattern`, zone2 before zone10; none without a parent."""
    try:
        names = os.listdir(parent)
    except OSError:
        return []
    found = [name for name in names if re.fullmatch(pattern, name)]
    return [os.path.join(parent, name) for name in sorted(found, key=_natural)]


def _natural(name: str) -> List[Tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name) if part]
