"""One measurement at a time on a device: a lock that goes when its holder goes, however it goes."""

from __future__ import annotations

import contextlib
import functools
import getpass
import hashlib
import os
import platform
import re
import threading
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from edgegen.device.local import LocalTransport
from edgegen.device.probe import refusal
from edgegen.device.text import escape
from edgegen.device.transport import Completed, Limits, Transport
from edgegen.errors import DeviceError, EdgegenError

_LONGEST_S = 7 * 24 * 3600.0
_BUSY = 75


@functools.lru_cache(maxsize=1)
def _script() -> str:
    lines = resources.files("edgegen.device").joinpath("lease.sh").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


@contextlib.contextmanager
def leased(transport: Transport) -> Iterator[None]:
    """Hold the device while the block runs; what an earlier holder left running there is ended first.

    A holder whose link died without a word still holds the device there, for a minute: then the guard ends what hears nothing
    from its client. If it was a process of this machine that is no more, the device is taken over at once. Raises DeviceError
    that names the holder if somebody else measures there. This machine needs no lease: its users share it.
    """
    if isinstance(transport, LocalTransport):
        yield
        return
    holder = _Holder(transport)
    gone = holder.start()
    if gone:
        holder = _Holder(transport, gone)
        holder.start()
    try:
        yield
    finally:
        holder.stop.set()
        holder.thread.join(timeout=30.0)


class _Holder:
    """The long command on the device that is the lock."""

    def __init__(self, transport: Transport, gone: str = "") -> None:
        self._gone = gone
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._hold, daemon=True)
        self._transport = transport
        self._settled = threading.Event()
        self._held = False
        self._done: Completed | None = None
        self._failure: EdgegenError | None = None

    def start(self) -> str:
        """Take the lock; return "", or who holds it if that is a process of this machine that is no more."""
        self._transport.folder()  # the errors of a first contact are plainer here than in a thread
        self.thread.start()
        self._settled.wait()
        if self._held:
            return ""
        self.stop.set()
        if self._failure is not None:
            raise self._failure
        assert self._done is not None
        holder = _holder(self._done)
        if holder and not self._gone and is_gone(holder):
            return holder
        raise _why_not(self._transport.name, self._done)

    def _hold(self) -> None:
        command = ["sh", "-c", _script(), "sh", self._transport.folder(), who(), self._gone]
        try:
            self._done = self._transport.run(command, Limits(_LONGEST_S, stop=self.stop), on_line=self._heard)
        except EdgegenError as failure:
            self._failure = failure
        finally:
            self._settled.set()

    def _heard(self, line: str) -> None:
        if line.strip() == "held":
            self._held = True
            self._settled.set()


def _why_not(name: str, done: Completed) -> DeviceError:
    holder = _holder(done)
    if holder:
        return DeviceError(
            f"{name} is busy: {escape(holder.partition(':')[0], 80)} measures there",
            hint="wait until that is done: a client that is gone is given up after a minute",
        )
    return refusal(name, "locking it", done)


def _holder(done: Completed) -> str:
    """Return who holds the device; "" if the command failed for another reason."""
    busy = re.search(r"^busy (.*)$", done.stdout, flags=re.MULTILINE)
    return busy.group(1).strip() if done.exit_code == _BUSY and busy else ""


def is_gone(holder: str) -> bool:
    """Return whether `holder` was a process of this machine, since its last start and among those seen from here, that ended."""
    parts = holder.split(":")
    if len(parts) != 3 or parts[1] != _here() or not re.fullmatch(r"[0-9]{1,10}", parts[2]):
        return False
    return bool(parts[1]) and not Path("/proc", parts[2]).exists()


def _here() -> str:
    """Return what tells this machine, since it started, from every other; "" where nothing does."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        return hashlib.sha256((boot + os.readlink("/proc/self/ns/pid")).encode()).hexdigest()[:12]
    except OSError:
        return ""


def who() -> str:
    """Return what the lock says of this process: "user@machine:BOOT:PID"."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        user = "somebody"
    name = re.sub(r"[^A-Za-z0-9@._-]", "-", f"{user}@{platform.node()}")[:80]
    return f"{name}:{_here()}:{os.getpid()}"
