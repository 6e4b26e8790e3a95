"""Run a command under guard.sh, through a shell that is here or at the other end of a link."""

from __future__ import annotations

import dataclasses
import functools
import os
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import IO

from edgegen.device.streams import Stream
from edgegen.device.transport import Completed, Ended, Limits, LineSink

_TIMEOUT_CODES = (124, 137, 143)  # of coreutils, after KILL, of busybox
_GRACE_S = 20.0  # for the device to end what it was told to end
_POLL_S = 0.2
_BEAT_S = 15.0  # after four that did not come the device ends the command: ssh itself notices a dead link sooner
_LINGER_S = 2.0  # for output that is still on its way when the mark of the end is there


@dataclasses.dataclass(frozen=True)
class Broken:
    """The shell ended without the mark of the command's end. `began` False: it never came to the command."""

    exit_code: int
    stderr: str
    began: bool


@dataclasses.dataclass(frozen=True)
class Exchange:
    """What a guarded command is given and where its output goes: `feed` to its input, `sink` from its output. Every `beat_s`
    seconds, which are whole, the device is told that somebody is still here."""

    feed: Path | None = None
    sink: IO[bytes] | None = None
    on_line: LineSink | None = None
    beat_s: float = _BEAT_S


@functools.lru_cache(maxsize=1)
def guard_script() -> str:
    """Return guard.sh without its comment lines: some servers take 9,000 characters of command and no more."""
    lines = resources.files("edgegen.device").joinpath("guard.sh").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


def run_guarded(
    start: Callable[[Sequence[str]], Sequence[str]],
    command: Sequence[str],
    limits: Limits,
    *,
    folder: str | None = None,
    home: str | None = None,
    exchange: Exchange = Exchange(),
) -> Completed | Broken:
    """Run `command` under the guard and return how it ended; Broken if the shell or the link did not last as long.

    `start` turns the arguments of a POSIX shell command into those of a process here. `folder` is where the command starts,
    `home` edgegen's folder on the device (None: the guard finds it). Raises the OSError of a sink that takes no more.
    """
    nonce = secrets.token_hex(8)
    mode = "watch" if exchange.feed is None else "feed"
    guard = ["sh", "-c", guard_script(), "sh", nonce, str(max(1, round(limits.seconds))), folder or "", home or "", mode,
             f"{exchange.beat_s:.0f}"]  # fmt: skip
    out = Stream(nonce, limits.output_bytes, exchange.on_line, exchange.sink)
    err = Stream(nonce, limits.output_bytes, exchange.on_line)
    begun = time.monotonic()
    ended, code = _converse([*start([*guard, *command])], (out, err), limits, exchange)
    if out.sink_failure is not None:
        raise out.sink_failure
    claimed = err.exit_code()
    if claimed is None:
        claimed = out.exit_code()  # where a terminal joins both streams into one
    if ended is Ended.EXITED:
        if claimed is None:
            return Broken(code, err.text() if err.began else err.noise, err.began)
        late = claimed in _TIMEOUT_CODES and time.monotonic() - begun >= limits.seconds
        ended, code = (Ended.TIMED_OUT if late else Ended.EXITED), claimed
    return Completed(code, out.text(), err.text(), ended)


def _converse(arguments: list[str], streams: tuple[Stream, Stream], limits: Limits, exchange: Exchange) -> tuple[Ended, int]:
    changed, feed = threading.Event(), exchange.feed
    source = subprocess.PIPE if feed is None else feed.open("rb")
    try:
        # a session of its own: Ctrl-C reaches this process only, which then lets go of the lifeline and waits
        process = subprocess.Popen(
            arguments, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
    finally:
        if feed is not None:
            source.close()  # type: ignore[union-attr]
    readers = [
        threading.Thread(target=stream.read, args=(pipe, changed), daemon=True)
        for stream, pipe in zip(streams, (process.stdout, process.stderr))
    ]
    for reader in readers:
        reader.start()
    try:
        ended = _await(streams, limits, changed, _Lifeline(process.stdin, exchange.beat_s))
    finally:
        _let_go(process, readers)
    return ended, process.returncode


class _Lifeline:
    """Says every few seconds that this process is still here."""

    def __init__(self, pipe: IO[bytes] | None, every_s: float) -> None:
        self._pipe, self._every_s, self._due = pipe, every_s, time.monotonic() + every_s

    def beat(self) -> None:
        """Say so if it is time."""
        if self._pipe is None or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + self._every_s
        try:
            os.write(self._pipe.fileno(), b"\n")  # not through its buffer, which would fail once more when it is closed
        except (OSError, ValueError):  # what ends the process on the other side of it ends this wait too
            self._pipe = None


def _await(streams: tuple[Stream, Stream], limits: Limits, changed: threading.Event, lifeline: _Lifeline) -> Ended:
    deadline = time.monotonic() + limits.seconds + _GRACE_S
    marked = False
    while not all(stream.ended for stream in streams):
        changed.wait(_POLL_S)
        changed.clear()
        lifeline.beat()
        if any(stream.flooded for stream in streams):
            return Ended.FLOODED
        if limits.stop is not None and limits.stop.is_set():
            return Ended.STOPPED
        if time.monotonic() > deadline:
            return Ended.EXITED if marked else Ended.TIMED_OUT
        if not marked and any(stream.exit_code() is not None for stream in streams):
            marked, deadline = True, time.monotonic() + _LINGER_S  # something that it started may hold the streams open
    return Ended.EXITED


def _let_go(process: subprocess.Popen[bytes], readers: list[threading.Thread]) -> None:
    """Close the lifeline, which ends the command on the device; after a grace the process here ends in any case."""
    if process.stdin is not None:
        process.stdin.close()
    elif process.poll() is None and any(reader.is_alive() for reader in readers):
        process.terminate()  # what it is being fed is not worth waiting for
    try:
        process.wait(timeout=_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for reader, pipe in zip(readers, (process.stdout, process.stderr)):
        reader.join(timeout=2.0)
        if pipe is not None and not reader.is_alive():  # closing under a reader would wait for it
            pipe.close()
