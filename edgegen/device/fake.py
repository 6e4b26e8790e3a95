"""`fake:script.json` and `FakeTransport`: a device for tests that does what its script says and keeps what is pushed."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path

from edgegen.device.text import escape
from edgegen.device.transport import Completed, Ended, Identity, Limits, LineSink
from edgegen.errors import DeviceError, LinkLostError

_FOLDER = "/fake/edgegen"


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the fake does when a command holds `when`: it waits, says something and ends, or loses the link."""

    completed: Completed
    when: str = ""
    delay_s: float = 0.0
    link_lost: bool = False


class FakeTransport:
    """Answers each command with the first answer left whose `when` occurs in it, used once unless it is the last one.

    Files that were pushed can be pulled. A command that would take longer than it may is ended, as on a device.
    """

    def __init__(self, *answers: Completed | Answer, name: str = "fake:", stop: threading.Event | None = None) -> None:
        self.name = name
        self.python: str | None = None
        self.commands: list[tuple[str, ...]] = []
        self.files: dict[str, bytes] = {}
        self.closed = False
        self._answers = [a if isinstance(a, Answer) else Answer(a) for a in answers]
        self._stop = stop or threading.Event()
        self._lock = threading.Lock()

    def identify(self) -> Identity:
        """See Transport."""
        self._check_open()
        return Identity("Linux", "aarch64", "6.6.0-fake", "fake", "00000000-fake", "Fake Board")

    def folder(self) -> str:
        """See Transport."""
        self._check_open()
        return _FOLDER

    def push(self, source: Path, goal: str) -> None:
        """See Transport."""
        self._check_open()
        goal = goal if goal.startswith("/") else f"{_FOLDER}/{goal}"
        inside = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
        for path in inside:
            key = goal if path == source else f"{goal}/{path.relative_to(source).as_posix()}"
            self.files[key] = path.read_bytes()

    def pull(self, source: str, goal: Path) -> None:
        """See Transport."""
        self._check_open()
        source = source if source.startswith("/") else f"{_FOLDER}/{source}"
        if source not in self.files:
            raise DeviceError(f"{self.name}: {source} does not exist")
        goal.write_bytes(self.files[source])

    def run(
        self, command: Sequence[str], limits: Limits, *, folder: str | None = None, on_line: LineSink | None = None
    ) -> Completed:
        """See Transport."""
        self._check_open()
        answer = self._next(tuple(command))
        stop = limits.stop or self._stop
        if stop.wait(min(answer.delay_s, limits.seconds)):
            return Completed(143, ended=Ended.STOPPED)
        if answer.link_lost:
            raise LinkLostError(f"the link to {self.name} was lost")
        if answer.delay_s > limits.seconds:
            return Completed(124, ended=Ended.TIMED_OUT)
        done = answer.completed
        if max(len(done.stdout), len(done.stderr)) > limits.output_bytes:
            cut = limits.output_bytes
            return dataclasses.replace(done, stdout=done.stdout[:cut], stderr=done.stderr[:cut], ended=Ended.FLOODED)
        if on_line is not None:
            for line in (done.stdout + done.stderr).splitlines():
                on_line(escape(line))
        return done

    def close(self) -> None:
        """See Transport."""
        self.closed = True

    def _check_open(self) -> None:
        if self.closed:
            raise DeviceError(f"{self.name} was closed")

    def _next(self, command: tuple[str, ...]) -> Answer:
        text = " ".join(command)
        with self._lock:
            self.commands.append(command)
            fitting = [answer for answer in self._answers if answer.when in text]
            if not fitting:
                raise AssertionError(f"{self.name} has no answer to: {text}")
            if len(fitting) > 1:
                self._answers.remove(fitting[0])
            return fitting[0]
