"""Hold a device in a changed state for a while, and bring it back whatever happens to the client.

Before anything is changed a journal says how to undo it. Whoever holds the state renews a lease; a watchdog, detached from the
client, brings the state back when the lease ends or the client's process is gone. Should the watchdog die too, the next `hold` or
`release` finds the journal. Python >= 3.8, standard library only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from typing import Any, Dict, Iterator, List, Optional

from edgegen.runtime.device_state import Undo, Wanted, apply, how_to_undo, restore, undo_from_json
from edgegen.runtime.errors import StateError
from edgegen.runtime.sensors.reading import package_folder, text_of

_WATCH_S = 0.25
_RETRIES = 20


@dataclasses.dataclass(frozen=True)
class Journal:
    """Who holds the state, until when (seconds since the start of the machine `boot`), and how to undo it."""

    token: str
    root: str
    deadline_s: float
    boot: str
    client: Optional[int]
    undo: Undo

    @property
    def live(self) -> bool:
        """Whether the lease still runs and the client, if it is on this machine, still is."""
        if self.boot != boot_id() or time.monotonic() > self.deadline_s:
            return False
        return self.client is None or _runs(self.client)


@dataclasses.dataclass(frozen=True)
class Lease:
    """Who asks, for how long, and its process if that is on this machine."""

    token: str
    seconds: float
    client: Optional[int] = None


def hold(path: str, root: str, wanted: Wanted, lease: Lease) -> Dict[str, Any]:
    """Change the state as `wanted` for the time of the lease, or only renew the lease if it is held by the same token.

    A state that a dead client left is brought back first. Raises StateError while another client holds it, and for what cannot
    be changed; then nothing has been.
    """
    with _locked(path):
        found = read_journal(path)
        if found is not None and found.token == lease.token and found.live:
            _write_journal(path, dataclasses.replace(found, deadline_s=time.monotonic() + lease.seconds))
            return {"renewed": True, "brought_back_first": False}
        if found is not None and found.live:
            left = found.deadline_s - time.monotonic()
            raise StateError(f"another bench holds the state of this device for {left:.0f} s more", hint="wait for it to end")
        if found is not None:
            _bring_back(path, found)
        undo = how_to_undo(root, wanted, path + ".clocks")
        journal = Journal(lease.token, root, time.monotonic() + lease.seconds, boot_id(), lease.client, undo)
        _write_journal(path, journal)
        try:
            apply(root, wanted, undo)
        except BaseException:
            _bring_back(path, journal)
            raise
    _start_watchdog(path, lease.token)
    return {"renewed": False, "brought_back_first": found is not None}


def release(path: str, token: Optional[str] = None) -> bool:
    """Bring the state back now and return whether there was anything to bring back.

    With a `token` only what it holds or what nobody holds any more. Raises StateError for what cannot be brought back; the
    journal then stays.
    """
    if not os.path.exists(path):
        return False
    with _locked(path):
        found = read_journal(path)
        if found is None or (token is not None and found.token != token and found.live):
            return False
        _bring_back(path, found)
        return True


def watch(path: str, token: str) -> None:
    """Wait until the state that `token` holds was brought back, or bring it back when its lease ends or its client is gone."""
    failures = 0
    while failures < _RETRIES:
        time.sleep(_WATCH_S)
        with _locked(path):
            found = read_journal(path)
            if found is None or found.token != token:
                return
            if found.live:
                continue
            try:
                _bring_back(path, found)
                return
            except StateError:
                failures += 1


def read_journal(path: str) -> Optional[Journal]:
    """Return the journal at `path`; None if there is none. Raises StateError for one that cannot be understood."""
    text = text_of(path)
    if text is None:
        return None
    try:
        value = json.loads(text)
        undo = undo_from_json(value.pop("undo"))
        return Journal(undo=undo, **value)
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise StateError(
            f"{path} cannot be understood: {problem}", hint="set the power mode and clocks by hand, then delete it"
        ) from problem


def boot_id() -> str:
    """Return what tells one start of the machine from the next."""
    return text_of("/proc/sys/kernel/random/boot_id") or "unknown"


def _bring_back(path: str, journal: Journal) -> None:
    left = restore(journal.root, journal.undo)
    if left != Undo():
        _write_journal(path, dataclasses.replace(journal, undo=left, deadline_s=0.0))
        what: List[str] = [name for name, _ in left.files] + ([f"power mode {left.power_mode}"] if left.power_mode else [])
        what += [left.clocks_file] if left.clocks_file else []
        raise StateError(
            f"could not be brought back: {', '.join(what)}", hint=f"as root: python -m edgegen.runtime release ({path})"
        )
    for stale in (path, journal.undo.clocks_file):
        if stale is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(stale)


def _write_journal(path: str, journal: Journal) -> None:
    """Write beside, sync, rename: there is never half a journal."""
    part = f"{path}.{os.getpid()}.part"
    try:
        with open(part, "w", encoding="utf-8") as file:
            file.write(json.dumps({**dataclasses.asdict(journal), "undo": journal.undo.to_json()}))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as problem:
        raise StateError(f"{path} cannot be written: {problem.strerror}", hint="nothing was changed") from problem


def _start_watchdog(path: str, token: str) -> None:
    line = [sys.executable, "-m", "edgegen.runtime", "watch", "--journal", os.path.abspath(path), "--token", token]
    nothing = subprocess.DEVNULL
    subprocess.Popen(line, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True, cwd=package_folder())


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    import fcntl

    try:
        os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
        handle = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise StateError(f"{problem.filename} cannot be written: {problem.strerror}", hint="nothing was changed") from problem
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _runs(pid: int) -> bool:
    """Return whether the process is there and no zombie."""
    text = text_of(f"/proc/{pid}/stat")
    return text is not None and not text.rpartition(")")[2].strip().startswith("Z")
