"""Workers on this machine: one process per unit, which a crash or a kill of one leaves alone."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

import edgegen
from edgegen.sweep.store import Store
from edgegen.sweep.units import Unit
from edgegen.sweep.work import RESULT

_GRACE_S = 5.0


class LocalWorkers:
    """Runs up to `slots` units at a time, each in a process of its own with `threads` threads."""

    def __init__(self, store: Store, *, slots: int, threads: int) -> None:
        self.slots, self._threads, self._store = slots, threads, store
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._ended: queue.Queue[tuple[Unit, int]] = queue.Queue()

    def start(self, unit: Unit, after: Unit | None) -> None:
        """Start a unit that goes on from the finished unit `after`."""
        part = self._store.part(unit)
        shared = None if after is None else str(self._store.folder(after).resolve())
        told = {"job": dict(unit.job), "shared": shared, "threads": self._threads}
        (part / "job.json").write_text(json.dumps(told, indent=1))
        root = Path(edgegen.__file__).resolve().parents[1]  # -m finds the package in the working directory, installed or not
        with (part / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "edgegen.sweep.work", str(part.resolve())],
                cwd=root, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._running[unit.key] = process
        threading.Thread(target=lambda: self._ended.put((unit, process.wait())), daemon=True).start()

    def wait(self) -> tuple[Unit, str | None]:
        """Return the next unit that ended and, if it left no result, how its worker died."""
        unit, code = self._ended.get()
        process = self._running.pop(unit.key)
        if process.stdin is not None:
            process.stdin.close()
        if code == 0 and (self._store.part_path(unit) / RESULT).exists():
            return unit, None
        return unit, _signal_name(-code) if code < 0 else f"exit code {code}: {self._last_words(unit)}"

    def close(self) -> None:
        """Stop what still runs; what a stopped unit had finished stays for --resume."""
        for process in self._running.values():
            _signal_all(process, signal.SIGTERM)
        for process in self._running.values():
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                _signal_all(process, signal.SIGKILL)
                process.wait()
        self._running.clear()

    def _last_words(self, unit: Unit) -> str:
        lines = (self._store.part_path(unit) / "log.txt").read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "no output"


def _signal_all(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal a worker and what it started: they are a session of their own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
