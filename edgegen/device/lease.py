"""One measurement at a time on a device: a lock that goes when its holder goes, however it goes."""

from __future__ import annotations

import contextlib
import functools
import getpass
import platform
import re
import threading
from collections.abc import Iterator
from importlib import resources

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

    Raises DeviceError that names the holder if somebody else measures there. This machine needs no lease: its users share it.
    """
    if isinstance(transport, LocalTransport):
        yield
        return
    holder = _Holder(transport)
    holder.start()
    try:
        yield
    finally:
        holder.stop.set()
        holder.thread.join(timeout=30.0)


class _Holder:
    """The long command on the device that is the lock."""

    def __init__(self, transport: Transport) -> None:
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._hold, daemon=True)
        self._transport = transport
        self._settled = threading.Event()
        self._held = False
        self._done: Completed | None = None
        self._failure: EdgegenError | None = None

    def start(self) -> None:
        self._transport.folder()  # the errors of a first contact are plainer here than in a thread
        self.thread.start()
        self._settled.wait()
        if self._held:
            return
        self.stop.set()
        if self._failure is not None:
            raise self._failure
        assert self._done is not None
        raise _why_not(self._transport.name, self._done)

    def _hold(self) -> None:
        command = ["sh", "-c", _script(), "sh", self._transport.folder(), _who()]
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
    busy = re.search(r"^busy (.*)$", done.stdout, flags=re.MULTILINE)
    if done.exit_code == _BUSY and busy:
        return DeviceError(f"{name} is busy: {escape(busy.group(1), 80)} measures there", hint="wait until that is done")
    return refusal(name, "locking it", done)


def _who() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        user = "somebody"
    return re.sub(r"[^A-Za-z0-9@._-]", "-", f"{user}@{platform.node()}")[:80]
