"""`adb://serial`: a phone or headset behind the `adb` program. No root is needed; edgegen's folder is below /data/local/tmp."""

from __future__ import annotations

import dataclasses
import errno
import shlex
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from edgegen.device.address import Address
from edgegen.device.guarded import Broken, Exchange, run_guarded
from edgegen.device.probe import cannot_write, identify, own_folder, refusal, shell
from edgegen.device.text import decode, last_line
from edgegen.device.transport import Completed, Identity, Limits, LineSink
from edgegen.errors import DeviceError, LinkLostError

_FOLDER = "/data/local/tmp/edgegen"
_COPY_S = 1800.0
_GONE = (
    "not found", "no devices", "device offline", "still connecting", "unauthorized", "still authorizing",
    "permissions for device", "no permissions", "closed",
)  # fmt: skip
_PUT_IN_PLACE = 'rm -rf "$2" && mv "$1" "$2"'


class AdbTransport:
    """A device behind adb. `program` is the adb to call."""

    def __init__(self, address: Address, *, program: str = "adb", stop: threading.Event | None = None) -> None:
        self.name = str(address)
        self.python: str | None = address.python
        self._serial = address.host
        self._home = address.folder or _FOLDER
        self._program = program
        self._stop = stop
        self._connected = False

    def identify(self) -> Identity:
        """See Transport."""
        return identify(self)

    def folder(self) -> str:
        """See Transport."""
        return own_folder(self, self._home)

    def push(self, source: Path, goal: str) -> None:
        """See Transport."""
        goal = self._absolute(goal)
        part = f"{goal}.part"
        done = shell(self, 'mkdir -p "$(dirname "$1")" && rm -rf "$2"', goal, part)
        if done.exit_code != 0:
            raise refusal(self.name, f"making the folder of {goal}", done)
        try:
            self._copy("push", str(source.resolve()), part)
            done = shell(self, _PUT_IN_PLACE, part, goal)
            if done.exit_code != 0:
                raise refusal(self.name, f"putting {goal} in place", done)
        except LinkLostError:
            raise
        except DeviceError:
            shell(self, 'rm -rf "$1"', part)
            raise

    def pull(self, source: str, goal: Path) -> None:
        """See Transport."""
        part = goal.with_name(f".{goal.name}.part")
        try:
            self._copy("pull", self._absolute(source), str(part.resolve()))
            part.replace(goal)
        finally:
            part.unlink(missing_ok=True)

    def run(
        self, command: Sequence[str], limits: Limits, *, folder: str | None = None, on_line: LineSink | None = None
    ) -> Completed:
        """See Transport."""
        limits = dataclasses.replace(limits, stop=limits.stop or self._stop)
        try:
            done = run_guarded(self._start, command, limits, folder=folder, home=self._home, exchange=Exchange(on_line=on_line))
        except FileNotFoundError as problem:
            raise _no_adb() from problem
        self._connected = self._connected or not isinstance(done, Broken) or done.began
        if isinstance(done, Broken):
            raise self._why(done.stderr)
        return done

    def close(self) -> None:
        """Nothing is held: every command ended with its call."""

    def _start(self, words: Sequence[str]) -> list[str]:
        return [self._program, "-s", self._serial, "shell", shlex.join(words)]

    def _absolute(self, path: str) -> str:
        return path if path.startswith("/") else f"{self.folder()}/{path}"

    def _copy(self, what: str, source: str, goal: str) -> None:
        words = [self._program, "-s", self._serial, what, source, goal]
        try:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COPY_S, check=False)
        except FileNotFoundError as problem:
            raise _no_adb() from problem
        except subprocess.TimeoutExpired as problem:
            raise DeviceError(f"{self.name}: copying {source} took longer than {_COPY_S:g} s") from problem
        if done.returncode != 0:
            said = decode(done.stdout + b"\n" + done.stderr)
            if _is_gone(said):
                raise self._why(said)
            if what == "pull" and "No space left" in said:  # the device only reads
                raise cannot_write(Path(goal), OSError(errno.ENOSPC, "No space left on device"))
            raise refusal(self.name, f"copying {source}", Completed(done.returncode, "", said))

    def _why(self, said: str) -> DeviceError:
        if self._connected:
            return LinkLostError(f"the link to {self.name} was lost", hint="`adb devices` shows whether it is still there")
        if "insufficient permissions" in said or "no permissions" in said:
            hint = (
                "add a udev rule for it, or its user to the group plugdev (Debian: apt install android-sdk-platform-tools-common)"
            )
            return DeviceError(f"this user may not open the device {self.name}", hint=hint)
        if "unauthorized" in said or "still authorizing" in said:
            return DeviceError(f"{self.name} has not allowed this machine", hint="confirm the question on its screen, then again")
        if "device offline" in said or "still connecting" in said:
            return DeviceError(f"{self.name} is offline", hint="unplug it and plug it in again, or `adb reconnect`")
        if _is_gone(said):
            return DeviceError(f"no device with the serial '{self._serial}' is connected", hint="`adb devices` lists them")
        return DeviceError(f"{self.name}: adb failed: {last_line(said) or 'no reason given'}")


def _is_gone(said: str) -> bool:
    return any(words in said for words in _GONE)


def _no_adb() -> DeviceError:
    return DeviceError(
        "`adb` is not installed on this machine", hint="install Android's platform tools (Debian: apt install adb)"
    )
