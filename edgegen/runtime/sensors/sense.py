"""The sensor process: samples everything beside the process that is timed, and sums it up per phase.

It prints "ready" and reads commands, one a line: the name of a phase begins it, "" ends it. At the end of its input it prints one
JSON object and ends, so it never outlives the process that started it. Python >= 3.8, standard library only.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from typing import IO, Any, Dict, List, Optional

from edgegen.runtime.sensors.reading import Reading, package_folder
from edgegen.runtime.sensors.sources import Sources
from edgegen.runtime.sensors.summary import PhaseSensors
from edgegen.runtime.sensors.thermal import trips_c

DEFAULT_HZ = 10.0
_END_S = 10.0
_READY = "ready"


def sense(root: str, hz: float, commands: int, out: IO[str]) -> None:
    """Sample the sensors under `root` at `hz` while a phase runs; read phases from the file descriptor `commands`."""
    sources, phases = Sources(root), {}  # type: ignore[var-annotated]
    out.write(_READY + "\n")
    out.flush()
    current: Optional[PhaseSensors] = None
    waiting, due, begin, cpu_begin = b"", time.monotonic(), time.monotonic(), time.process_time()
    while True:
        ready, _, _ = select.select([commands], [], [], max(0.0, due - time.monotonic()) if current is not None else None)
        chunk = os.read(commands, 4096) if ready else b""
        if ready and not chunk:
            break
        waiting += chunk
        *lines, waiting = waiting.split(b"\n")
        for line in lines:
            if current is not None:
                current.add(time.monotonic_ns(), sources.read())  # a phase ends with a sample, so that counters are complete
            name = line.decode("ascii", "replace")
            current = phases.setdefault(name, PhaseSensors()) if name else None
            due = time.monotonic()
        if current is not None and time.monotonic() >= due:
            current.add(time.monotonic_ns(), sources.read())
            due = max(due + 1 / hz, time.monotonic())
    found = _report(phases, hz, time.monotonic() - begin, time.process_time() - cpu_begin)
    out.write(json.dumps({**found, "trips_c": trips_c(root)}, allow_nan=False) + "\n")


def _report(phases: Dict[str, PhaseSensors], hz: float, wall_s: float, cpu_s: float) -> Dict[str, Any]:
    """`cpu_share` is the part of one core that sampling took."""
    share = round(cpu_s / wall_s, 5) if wall_s > 0 else None
    return {"phases": {name: phase.to_json() for name, phase in phases.items()}, "hz": hz, "cpu_share": share}


class SensorProcess:
    """A context manager: `python -m edgegen.runtime sense` beside this process, on a core of its own where there is one.

    A device on which it cannot run is measured without it: `result` is then None.
    """

    def __init__(self, root: str, hz: float, cores: Optional[List[int]]) -> None:
        self._line = [sys.executable, "-m", "edgegen.runtime", "sense", "--sensor-root", os.path.abspath(root), "--hz", str(hz)]
        if cores:
            self._line += ["--cpu", str(cores[-1])]
        self._process: Optional[subprocess.Popen] = None
        self._ready = False
        self.result: Optional[Dict[str, Any]] = None

    def __enter__(self) -> SensorProcess:
        self._process = subprocess.Popen(
            self._line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=package_folder()
        )
        return self

    def phase(self, name: str) -> None:
        """Begin the phase `name`; "" ends the one that runs. The first one waits until the process has started."""
        assert self._process is not None and self._process.stdin is not None and self._process.stdout is not None
        if not self._ready:
            self._ready = True
            self._process.stdout.readline()
        try:
            self._process.stdin.write(name.encode() + b"\n")
            self._process.stdin.flush()
        except OSError:  # it died: the result will say so
            pass

    def finish(self) -> Optional[Dict[str, Any]]:
        """End the process and return what it sums up; None if it died."""
        assert self._process is not None
        try:
            printed, _ = self._process.communicate(timeout=_END_S)
            self.result = json.loads(printed.splitlines()[-1])
        except (OSError, ValueError, IndexError, subprocess.SubprocessError):
            self.result = None
        return self.result

    def __exit__(self, *error: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def sample_once(root: str) -> Dict[str, Reading]:
    """Return every reading of now."""
    return Sources(root).read()
