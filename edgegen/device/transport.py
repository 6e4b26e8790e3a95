"""What a way to a device must be able to do, and what comes back. Everything above this file knows devices only like this."""

from __future__ import annotations

import dataclasses
import enum
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

LineSink = Callable[[str], None]
MAX_OUTPUT_BYTES = 1 << 20  # of each stream, unless the caller expects more


class Ended(enum.Enum):
    """How a command on a device came to its end. A link that breaks is no end but a LinkLostError."""

    EXITED = "exited"
    TIMED_OUT = "timed out"
    STOPPED = "stopped"  # by whoever called it
    FLOODED = "printed too much"


@dataclasses.dataclass(frozen=True)
class Completed:
    """A command that ran on a device. A process that died of signal n has `exit_code` 128 + n, as shells count.

    Bytes that are no UTF-8 appear as \\xNN in `stdout` and `stderr`; nothing else is escaped there (see `escape`).
    """

    exit_code: int
    stdout: str = ""
    stderr: str = ""
    ended: Ended = Ended.EXITED


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a device says of itself. `boot_id` changes with every start of the device; None where it has none."""

    system: str
    machine: str
    kernel: str
    node: str
    boot_id: str | None = None
    board: str | None = None


@dataclasses.dataclass(frozen=True)
class Limits:
    """How long a command may run on the device, how much each stream may say, and who may stop it meanwhile."""

    seconds: float
    output_bytes: int = MAX_OUTPUT_BYTES
    stop: threading.Event | None = None


class Transport(Protocol):
    """A way to one device. Safe for several threads at once; `close` gives back what it holds.

    Every method raises DeviceError for a device that cannot be reached or refuses, LinkLostError for a link that breaks.
    Paths on the device are text: absolute, or relative to `folder`, which is edgegen's own folder there.
    """

    name: str  # as users write it: "ssh://pi@kitchen"
    python: str | None  # the Python to use there, where users name one

    def identify(self) -> Identity:
        """Return what the device is; the first contact, so what is wrong with the link shows here."""
        ...

    def folder(self) -> str:
        """Return the absolute path of edgegen's own folder on the device; it exists afterwards."""
        ...

    def push(self, source: Path, goal: str) -> None:
        """Copy the file or folder `source` to `goal` on the device, which appears whole or not at all."""
        ...

    def pull(self, source: str, goal: Path) -> None:
        """Copy the file `source` of the device to `goal`, which appears whole or not at all."""
        ...

    def run(
        self, command: Sequence[str], limits: Limits, *, folder: str | None = None, on_line: LineSink | None = None
    ) -> Completed:
        """Run `command` in `folder` and return what it said.

        The device kills it after `limits.seconds`, and when this process ends. `on_line` gets every line of both streams
        as it comes, escaped and cut to a bounded length.
        """
        ...

    def close(self) -> None:
        """End everything that still runs there for this transport."""
        ...
