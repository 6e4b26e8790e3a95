"""`ssh://user@host:port` over the system's own OpenSSH, with users' ssh_config, jump hosts, agents and known_hosts."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from edgegen.device.address import Address
from edgegen.device.copying import push
from edgegen.device.guarded import Broken, Exchange, run_guarded
from edgegen.device.probe import cannot_write, identify, own_folder
from edgegen.device.ssh_failures import explain
from edgegen.device.transport import Completed, Identity, Limits, LineSink
from edgegen.errors import DeviceError

_PINNED = "edgegen-pinned-board"  # the name under which a pinned key stands in a known_hosts of its own
_MAX_CONTROL_PATH = 80  # of the 104 bytes that a socket's name may have; ssh appends a suffix while it makes it
_OPTIONS = (
    "BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=3",
    "ForwardAgent=no", "ForwardX11=no", "ClearAllForwardings=yes", "LogLevel=INFO", "RequestTTY=no",
)  # fmt: skip


class SshTransport:
    """A board behind ssh. Connections share one master where the user's configuration has none of its own."""

    def __init__(self, address: Address, *, stop: threading.Event | None = None) -> None:
        self.name = str(address)
        self.python: str | None = address.python
        self._address = address
        self._folder: str | None = None
        self._stop = stop
        self._connected = False
        self._lock = threading.Lock()
        self._scratch = Path(tempfile.mkdtemp(prefix="edgegen-"))
        self._options = [*_OPTIONS, *self._pinned()]

    def identify(self) -> Identity:
        """See Transport."""
        return identify(self)

    def folder(self) -> str:
        """See Transport."""
        with self._lock:
            if self._folder is None:
                self._folder = own_folder(self, self._address.folder)
            return self._folder

    def push(self, source: Path, goal: str) -> None:
        """See Transport. By rsync, scp or tar, whatever the board has."""
        push(self, source, self._absolute(goal))

    def pull(self, source: str, goal: Path) -> None:
        """See Transport."""
        part = goal.with_name(f".{goal.name}.part")
        try:
            with part.open("wb") as sink:
                done = self.exchange(["cat", self._absolute(source)], Limits(600.0), Exchange(sink=sink))
            if done.exit_code != 0:
                raise DeviceError(f"{self.name}: {source} cannot be copied from there: {done.stderr.strip()[-300:]}")
            part.replace(goal)
        except OSError as problem:
            raise cannot_write(goal, problem) from problem
        finally:
            part.unlink(missing_ok=True)

    def run(
        self, command: Sequence[str], limits: Limits, *, folder: str | None = None, on_line: LineSink | None = None
    ) -> Completed:
        """See Transport."""
        return self.exchange(command, limits, Exchange(on_line=on_line), folder=folder)

    def exchange(self, command: Sequence[str], limits: Limits, exchange: Exchange, *, folder: str | None = None) -> Completed:
        """Run `command` as `run` does, with its input or output in a file."""
        limits = dataclasses.replace(limits, stop=limits.stop or self._stop)
        try:
            done = run_guarded(
                self._start, command, limits, folder=folder, home=self._folder or self._address.folder, exchange=exchange
            )
        except FileNotFoundError as problem:
            raise DeviceError("`ssh` is not installed on this machine", hint="install OpenSSH's client") from problem
        self._connected = self._connected or not isinstance(done, Broken) or done.began
        if isinstance(done, Broken):
            raise self.failure(done)
        return done

    def failure(self, broken: Broken) -> DeviceError:
        """Return the error that says why ssh ended early."""
        return explain(self.name, broken, self.settings(), connected=self._connected, pinned=self._address.host_key is not None)

    def command(self, program: str = "ssh") -> list[str]:
        """Return `ssh` (or scp) with all options, up to where the host stands."""
        words = [program]
        if self._address.ssh_config is not None:
            words += ["-F", self._address.ssh_config]
        for option in (*self._options, *self._multiplexing()):
            words += ["-o", option]
        if self._address.port is not None:
            words += ["-P" if program == "scp" else "-p", str(self._address.port)]
        if self._address.user is not None:
            words += ["-o", f"User={self._address.user}"]
        return words

    @property
    def host(self) -> str:
        """The host as users write it; an IPv6 address in brackets."""
        return self._address.host

    def close(self) -> None:
        """See Transport."""
        if (self._scratch / "c").exists():
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(
                    [*self.command(), "-O", "exit", "--", self._plain_host()], capture_output=True, timeout=10, check=False
                )
        shutil.rmtree(self._scratch, ignore_errors=True)

    @functools.cached_property
    def _resolved(self) -> dict[str, str]:
        words = ["ssh", "-G"]
        words += [] if self._address.ssh_config is None else ["-F", self._address.ssh_config]
        words += [] if self._address.port is None else ["-p", str(self._address.port)]
        words += [] if self._address.user is None else ["-o", f"User={self._address.user}"]
        try:
            done = subprocess.run(
                [*words, "--", self._plain_host()], capture_output=True, text=True, timeout=30, errors="replace"
            )
        except (OSError, subprocess.TimeoutExpired):
            return {}
        if done.returncode != 0:
            return {}
        return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)

    def settings(self) -> dict[str, str]:
        """Return what the user's ssh configuration makes of this address: hostname, user, port, controlpath, ..."""
        return self._resolved

    def _start(self, shell: Sequence[str]) -> list[str]:
        return [*self.command(), "--", self._plain_host(), shlex.join(shell)]

    def _plain_host(self) -> str:
        return self._address.host.strip("[]")

    def _absolute(self, path: str) -> str:
        return path if path.startswith("/") else f"{self.folder()}/{path}"

    def _multiplexing(self) -> tuple[str, ...]:
        path = str(self._scratch / "c")
        if self._resolved.get("controlpath", "none") != "none" or len(path) > _MAX_CONTROL_PATH or "%" in path:
            return ()
        return ("ControlMaster=auto", f"ControlPath={path}", "ControlPersist=30")

    def _pinned(self) -> list[str]:
        if self._address.host_key is None:
            return []
        known = self._scratch / "known_hosts"
        known.write_text(f"{_PINNED} {self._address.host_key}\n", encoding="ascii")
        return [f"HostKeyAlias={_PINNED}", f"UserKnownHostsFile={known}", "GlobalKnownHostsFile=/dev/null"]
