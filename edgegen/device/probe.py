"""Questions to a device that need no more than a POSIX shell there."""

from __future__ import annotations

import errno
from pathlib import Path

from edgegen.device.text import escape, last_line
from edgegen.device.transport import Completed, Ended, Identity, Limits, Transport
from edgegen.errors import DeviceError, StorageError

_QUICK = Limits(seconds=60.0)
_IDENTIFY = """
uname -s; uname -m; uname -r; uname -n
cat /proc/sys/kernel/random/boot_id 2>/dev/null || echo
tr -d '\\0' 2>/dev/null </proc/device-tree/model || :
"""
_FOLDER = """
d=$1
[ -n "$d" ] || d=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/edgegen
mkdir -p "$d/run" && cd "$d" && pwd -P
"""


def shell(transport: Transport, script: str, *arguments: str, limits: Limits = _QUICK, folder: str | None = None) -> Completed:
    """Run a POSIX shell script on the device with `arguments` as $1, $2, ..."""
    return transport.run(["sh", "-c", script, "sh", *arguments], limits, folder=folder)


def answer(transport: Transport, script: str, *arguments: str, doing: str, limits: Limits = _QUICK) -> list[str]:
    """Return the lines that the script prints; DeviceError that names `doing` if it fails."""
    done = shell(transport, script, *arguments, limits=limits)
    if done.ended is not Ended.EXITED or done.exit_code != 0:
        raise refusal(transport.name, doing, done)
    return done.stdout.splitlines()


def refusal(name: str, doing: str, done: Completed) -> DeviceError:
    """Return the error for a command that failed on the device `name` while `doing` something."""
    name = name.rstrip(":")
    if done.ended is not Ended.EXITED:
        return DeviceError(f"{name}: {doing}: the device {done.ended.value}")
    said = last_line(done.stderr) or last_line(done.stdout) or f"exit code {done.exit_code}"
    if "No space left" in done.stderr or "Disk quota" in done.stderr:
        return DeviceError(
            f"{name}: {doing}: the disk of the device is full", hint="free some space there, or give another ?folder="
        )
    return DeviceError(f"{name}: {doing}: {said}")


def cannot_write(goal: Path, problem: OSError) -> StorageError:
    """Return the error for a file of this machine that what comes from a device cannot be written to."""
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"{goal} cannot be written: the disk of this machine is full", hint="free some space, then again")
    return StorageError(f"{goal} cannot be written: {problem.strerror}", hint="choose another folder")


def identify(transport: Transport) -> Identity:
    """Ask the device what it is."""
    lines = [escape(line, 200).strip() for line in answer(transport, _IDENTIFY, doing="asking what it is")]
    if len(lines) < 4 or not lines[0]:
        raise DeviceError(f"{transport.name}: `uname` gives no answer", hint="the device needs a POSIX shell with uname")
    rest = lines[4:] + ["", ""]
    return Identity(lines[0], lines[1], lines[2], lines[3], boot_id=rest[0] or None, board=rest[1] or None)


def own_folder(transport: Transport, wanted: str | None) -> str:
    """Make edgegen's folder on the device and return its absolute path."""
    lines = answer(transport, _FOLDER, wanted or "", doing="making its folder")
    if not lines or not lines[-1].startswith("/"):
        raise DeviceError(f"{transport.name}: edgegen's folder there has no absolute path")
    return lines[-1]
