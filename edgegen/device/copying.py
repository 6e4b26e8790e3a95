"""Copy to a board by what it has: rsync, else scp, else a tar that its shell unpacks, else file by file.

Everything lands beside the goal first and gets its name when it is whole.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from edgegen.device.guarded import Broken, Exchange
from edgegen.device.probe import refusal, shell
from edgegen.device.text import decode
from edgegen.device.transport import Completed, Ended, Limits, Transport
from edgegen.errors import DeviceError, LinkLostError

_COPY = Limits(seconds=1800.0)
_PLAIN = re.compile(r"[A-Za-z0-9/._+@=,-]+")  # scp before 9.0 hands the path to the remote shell
_PREPARE = """
set -e
mkdir -p "$(dirname "$1")"
command -v rsync >/dev/null && echo rsync
command -v tar >/dev/null && echo tar
:
"""
_REMOVE = 'rm -rf "$1"'
_PUT_IN_PLACE = 'rm -rf "$2" && mv "$1" "$2"'


class Link(Transport, Protocol):
    """A transport that programs of this machine can use too."""

    @property
    def host(self) -> str:
        """The host as programs write it."""
        ...

    def command(self, program: str = "ssh") -> list[str]:
        """Return the program with the options that lead to the board."""
        ...

    def exchange(self, command: Sequence[str], limits: Limits, exchange: Exchange, *, folder: str | None = None) -> Completed:
        """Run a command with its input or output in a file."""
        ...

    def failure(self, broken: Broken) -> DeviceError:
        """Return the error that says why the link ended early."""
        ...


def push(link: Link, source: Path, goal: str) -> None:
    """Copy the file or folder `source` to `goal`, an absolute path on the board."""
    if not source.exists():
        raise DeviceError(f"{source} does not exist")
    done = shell(link, _PREPARE, goal)
    if done.exit_code != 0 or done.ended is not Ended.EXITED:
        raise refusal(link.name, f"making the folder of {goal}", done)
    part = f"{goal}.part"
    try:
        _copy(link, source, part, done.stdout.split())
        done = shell(link, _PUT_IN_PLACE, part, goal)
        if done.exit_code != 0:
            raise refusal(link.name, f"putting {goal} in place", done)
    except LinkLostError:
        raise
    except DeviceError:
        shell(link, _REMOVE, part)
        raise


def _copy(link: Link, source: Path, part: str, has: list[str]) -> None:
    if ("rsync" in has and _by_rsync(link, source, part)) or _by_scp(link, source, part):
        return
    shell(link, _REMOVE, part)
    if source.is_file():
        _by_cat(link, source, part)
    elif "tar" in has:
        _by_tar(link, source, part)
    else:
        _one_by_one(link, source, part)


def _by_rsync(link: Link, source: Path, part: str) -> bool:
    if shutil.which("rsync") is None:
        return False
    start = f"{source.resolve()}/" if source.is_dir() else str(source.resolve())
    words = ["rsync", "-rtLs", "--delete", "--timeout=60", "--chmod=D755,F644", "-e", shlex.join(link.command())]
    return _program(link, [*words, "--", start, f"{link.host}:{part}"])


def _by_scp(link: Link, source: Path, part: str) -> bool:
    if shutil.which("scp") is None or not _PLAIN.fullmatch(part):
        return False
    shell(link, _REMOVE, part)  # scp would copy into a folder that is there
    return _program(link, [*link.command("scp"), "-q", "-r", "--", str(source.resolve()), f"{link.host}:{part}"])


def _program(link: Link, words: list[str]) -> bool:
    """Run a copying program; False if it cannot do it with this board. A full disk and a lost link are errors at once."""
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COPY.seconds, start_new_session=True)
    except (OSError, subprocess.TimeoutExpired):
        return False
    said = decode(done.stderr)
    if "No space left" in said:
        raise refusal(link.name, "copying", Completed(1, "", said))
    return done.returncode == 0


def _by_cat(link: Link, source: Path, part: str) -> None:
    _fed(link, ["sh", "-c", 'cat >"$1"', "sh", part], source)


def _by_tar(link: Link, source: Path, part: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        packed = Path(scratch, "folder.tar")
        with tarfile.open(packed, "w", format=tarfile.USTAR_FORMAT, dereference=True) as archive:
            archive.add(source, arcname=".", filter=_anonymous)
        _fed(link, ["sh", "-c", 'mkdir -p "$1" && tar xf - -C "$1"', "sh", part], packed)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() else 0o644
    return member


def _one_by_one(link: Link, source: Path, part: str) -> None:
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        goal = f"{part}/{path.relative_to(source).as_posix()}"
        _fed(link, ["sh", "-c", 'mkdir -p "$(dirname "$1")" && cat >"$1"', "sh", goal], path)


def _fed(link: Link, command: list[str], feed: Path) -> None:
    done = link.exchange(command, _COPY, Exchange(feed=feed))
    if done.exit_code != 0 or done.ended is not Ended.EXITED:
        raise refusal(link.name, f"copying {feed.name}", done)
