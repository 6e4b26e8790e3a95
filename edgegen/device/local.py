"""`local:`, the machine that edgegen runs on: the same guard, no link."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from edgegen.device.guarded import Broken, Exchange, run_guarded
from edgegen.device.probe import identify, own_folder
from edgegen.device.transport import Completed, Identity, Limits, LineSink
from edgegen.errors import DeviceError


class LocalTransport:
    """This machine."""

    name = "local:"

    def __init__(self, *, python: str | None = None, folder: str | None = None, stop: threading.Event | None = None) -> None:
        self.python: str | None = python or sys.executable
        self._home = folder
        self._stop = stop

    def identify(self) -> Identity:
        """See Transport."""
        return identify(self)

    def folder(self) -> str:
        """See Transport."""
        return own_folder(self, self._home)

    def push(self, source: Path, goal: str) -> None:
        """See Transport."""
        self._copy(source, Path(self.folder(), goal))

    def pull(self, source: str, goal: Path) -> None:
        """See Transport."""
        self._copy(Path(self.folder(), source), goal)

    def run(
        self, command: Sequence[str], limits: Limits, *, folder: str | None = None, on_line: LineSink | None = None
    ) -> Completed:
        """See Transport."""
        limits = dataclasses.replace(limits, stop=limits.stop or self._stop)
        done = run_guarded(
            lambda shell: shell, command, limits, folder=folder, home=self._home, exchange=Exchange(on_line=on_line)
        )
        if isinstance(done, Broken):
            raise DeviceError(f"{self.name}: a command could not be started: {done.stderr.strip() or done.exit_code}")
        return done

    def close(self) -> None:
        """Nothing is held: every command ended with its call."""

    def _copy(self, source: Path, goal: Path) -> None:
        part = goal.with_name(f".{goal.name}.{os.getpid()}.part")
        try:
            goal.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, part)
                if goal.exists():
                    shutil.rmtree(goal)
            else:
                shutil.copyfile(source, part)
            part.replace(goal)
        except OSError as problem:
            raise DeviceError(f"{self.name} cannot copy {source} to {goal}: {problem.strerror}") from problem
        finally:
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)
