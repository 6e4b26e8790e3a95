"""All sensors of a device at once. Files are read at every sample, programs that must be started only once a second.

Python >= 3.8, standard library only.
"""

from __future__ import annotations

import os
import subprocess
import time
from typing import Callable, Dict, List, Optional, Sequence

from edgegen.runtime.sensors import android, clocks, power_rails, rapl, tegrastats, thermal, throttle_counters, vcgencmd
from edgegen.runtime.sensors.reading import Reading, under

_FILES: Sequence[Callable[[str], List[Reading]]] = (
    thermal.temperatures, thermal.alerts, power_rails.rails, rapl.energies, throttle_counters.over_current,
    throttle_counters.core_throttles, clocks.core_clocks, clocks.device_clocks,
)  # fmt: skip
_PROGRAM_FOLDERS = ("/usr/bin", "/usr/sbin", "/opt/vc/bin", "/system/bin", "/bin", "/sbin")
_PROGRAM_S = 5.0
_PROGRAM_PERIOD_S = 1.0
_MAX_OUTPUT = 1 << 20


class Sources:
    """The sensors below `root`. Two of the same name are told apart by a number: "thermal" and "thermal#2"."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._programs = _programs(root)
        self._last: List[Reading] = []
        self._last_at: Optional[float] = None

    def read(self) -> Dict[str, Reading]:
        """Return every reading by its key."""
        found = [reading for source in _FILES for reading in source(self._root)]
        return _keyed([*found, *self._from_programs()])

    def _from_programs(self) -> List[Reading]:
        now = time.monotonic()
        if self._programs and (self._last_at is None or now - self._last_at >= _PROGRAM_PERIOD_S):
            self._last_at = now
            self._last = [reading for program in self._programs for reading in program()]
        return self._last


def program_path(root: str, name: str) -> Optional[str]:
    """Return where the program `name` lies below `root`; None if it is not there."""
    paths = [under(root, f"{folder}/{name}") for folder in _PROGRAM_FOLDERS]
    return next((path for path in paths if os.access(path, os.X_OK)), None)


def output_of(line: Sequence[str], timeout_s: float = _PROGRAM_S) -> str:
    """Return what a program prints, at most 1 MiB; "" if it fails or takes too long."""
    try:
        done = subprocess.run(
            line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=timeout_s
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout[:_MAX_OUTPUT].decode("utf-8", "replace") if done.returncode == 0 else ""


def _programs(root: str) -> List[Callable[[], List[Reading]]]:
    found: List[Callable[[], List[Reading]]] = []
    pi = program_path(root, "vcgencmd")
    if pi is not None:
        found.append(lambda: vcgencmd.parse_throttled(output_of([pi, "get_throttled"])))
        found.append(lambda: [vcgencmd.parse_clock(output_of([pi, "measure_clock", "arm"]))])
        found.append(lambda: [vcgencmd.parse_temperature(output_of([pi, "measure_temp"]))])
    phone = program_path(root, "dumpsys")
    if phone is not None:
        found.append(lambda: android.parse_thermalservice(output_of([phone, "thermalservice"])))
    jetson = program_path(root, "tegrastats")
    if jetson is not None and not power_rails.rails(root):  # else the files tell the same for less
        found.append(lambda: tegrastats.parse_line(_first_line(jetson)))
    return found


def _first_line(program: str) -> str:
    """Return the first line of a program that prints for ever, and end it."""
    try:
        running = subprocess.Popen(
            [program, "--interval", "100"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError:
        return ""
    try:
        assert running.stdout is not None
        return running.stdout.readline(_MAX_OUTPUT).decode("utf-8", "replace")
    finally:
        running.kill()
        running.communicate()


def _keyed(readings: Sequence[Reading]) -> Dict[str, Reading]:
    found: Dict[str, Reading] = {}
    for reading in readings:
        key, number = reading.key, 1
        while key in found:
            number += 1
            key = f"{reading.key}#{number}"
        found[key] = reading
    return found
