"""Boards that run: a root file system, what is installed on it, an identity, and an SSH server on loopback that leads there."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from device_rig.apt import RigError, run_tool
from device_rig.build import Cache
from device_rig.identities import IMX8M_PLUS, ORIN_NANO, RASPBERRY_PI_5, YOCTO, Identity, boot
from device_rig.recipe import BUSYBOX, CURRENT, DEBIAN11, DEBIAN12, OLD, PROOT, QEMU, TFLITE, Root, Site

_START_S = 120
_ENTER = Path(__file__).with_name("enter.py")
_MARK = "EDGEGEN_DEVICE_RIG"  # in the environment of every proot: how the processes of a board are found
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclasses.dataclass(frozen=True)
class Model:
    """A kind of board. With the busybox root it has dropbear of its own, else this machine's sshd leads into it."""

    name: str
    root: Root
    site: Site | None
    identity: Identity

    @property
    def parts(self) -> tuple[Root | Site, ...]:
        """What has to be built for it."""
        return (self.root,) if self.site is None else (self.root, self.site)


MODELS = {
    model.name: model
    for model in (
        Model("debian12", DEBIAN12, CURRENT, RASPBERRY_PI_5),
        Model("tflite", DEBIAN12, TFLITE, IMX8M_PLUS),
        Model("debian11", DEBIAN11, OLD, ORIN_NANO),
        Model("busybox", BUSYBOX, None, YOCTO),
    )
}


class VirtualBoard:
    """A running board. Its /root and /tmp are below `folder` and new; the root file system is shared, so leave it alone.

    `files` holds its /proc and /sys files, by path: change them to make a sensor rise or vanish. `client` holds commands ssh,
    scp and sftp that know the board's keys: put it first in PATH, as `environment` does.
    """

    def __init__(self, model: Model, cache: Cache, folder: Path) -> None:
        self.model = model
        self.files = folder / "files"
        self.home = folder / "home"
        self.client = folder / "client"
        self.port = _free_port()
        self._folder = folder
        self._cache = cache
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def user(self) -> str:
        """Who may log in: root on dropbear, whoever runs this on sshd, which can let in nobody else without being root."""
        return "root" if self.model.root.busybox else _own_name()

    @property
    def url(self) -> str:
        """The address for edgegen, with the configuration that knows the board's keys."""
        return f"ssh://{self.user}@127.0.0.1:{self.port}?ssh_config={self._folder / 'ssh_config'}"

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment with `client` first in PATH."""
        return {**os.environ, "PATH": f"{self.client}{os.pathsep}{os.environ['PATH']}"}

    @property
    def known_hosts(self) -> Path:
        """The file with the board's host key."""
        return self._folder / "known_hosts"

    def run(self, command: str, *, given: bytes = b"", timeout_s: float = 300) -> subprocess.CompletedProcess[bytes]:
        """Run a shell command on the board through ssh."""
        line = [str(self.client / "ssh"), "-p", str(self.port), f"{self.user}@127.0.0.1", command]
        return subprocess.run(line, input=given, capture_output=True, timeout=timeout_s)

    def prepare(self) -> None:
        """Write keys and configuration."""
        for folder in (self.files, self.home, self.client, self._folder / "tmp", self._folder / "proot"):
            folder.mkdir(parents=True)
        self.model.identity.write(self.files)
        (self._folder / "board.json").write_text(json.dumps(self._entrance()), encoding="utf-8")
        _make_key(self._folder / "user_key")
        _write_client(self.client, self._folder)
        (self._folder / "ssh_config").write_text(self._client_configuration(), encoding="utf-8")
        if self.model.root.busybox:
            key = self._make_dropbear_key()
        else:
            _make_key(self._folder / "host_key")
            key = (self._folder / "host_key.pub").read_text(encoding="utf-8")
            (self._folder / "sshd_config").write_text(self._server_configuration(), encoding="utf-8")
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {' '.join(key.split()[:2])}\n", encoding="utf-8")

    def power_on(self) -> None:
        """Start the server, as a new boot. RigError with what it says if it does not come up."""
        for name, content in boot().items():
            (self.files / name).write_text(content, encoding="utf-8")
        with (self._folder / "server.log").open("ab") as log:
            self._server = subprocess.Popen(
                self._server_line(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + _START_S
        while not _answers(self.port):
            if self._server.poll() is not None or time.monotonic() > deadline:
                said = (self._folder / "server.log").read_text(encoding="utf-8", errors="replace").strip()
                raise RigError(
                    f"the SSH server of the board {self.model.name} does not start: {said[-600:] or 'it says nothing'}"
                )
            time.sleep(0.1)

    def power_off(self) -> None:
        """End the server, its connections and everything that runs on the board, at once, as when the plug is pulled."""
        if self._server is not None:
            _kill(_descendants(self._server.pid))
            self._server.wait()
            self._server = None
        for _ in range(200):  # a process may start another while it is looked for
            left = self.processes()
            if not left:
                return
            _kill(left)
            time.sleep(0.05)
        raise RigError(f"processes of the board {self.model.name} do not end: {left}")

    def processes(self) -> list[int]:
        """Return what runs on the board. Whatever it forgets of its environment, one of the board's proots traces it."""
        mark = str(self._folder / "board.json").encode()
        tracers, traced = set(), {}
        for process, status in _all_processes():
            with contextlib.suppress(OSError):  # ended, or somebody else's
                if mark in Path(f"/proc/{process}/environ").read_bytes():
                    tracers.add(process)
            traced[process] = _number(status, "TracerPid")
        # the proots last, since without them the others could not be told from this machine's
        return [process for process, tracer in traced.items() if tracer in tracers] or [p for p in tracers if p in traced]

    def _entrance(self) -> dict[str, object]:
        tools, root = self._cache.tools(), self._cache.part(self.model.root)
        binds = ["-b", "/proc", "-b", "/dev", "-b", "/sys", "-b", f"{self.home}:/root", "-b", f"{self._folder / 'tmp'}:/tmp"]
        if self.model.site is not None:
            binds += ["-b", f"{self._cache.part(self.model.site)}:/{self.model.site.folder}"]
        binds += self.model.identity.binds(self.files)
        emulator = f"{tools / QEMU} -cpu {self.model.identity.cpu}"  # not QEMU_CPU: a login forgets its environment
        return {
            "proot": [str(tools / PROOT), "-0", "-q", emulator, "-r", str(root), *binds, "-w", "/root"],
            "environment": {
                "PATH": _PATH, "HOME": "/root", "USER": "root", "LANG": "C.UTF-8",
                "LD_LIBRARY_PATH": str(tools / "usr/lib/x86_64-linux-gnu"), "PROOT_TMP_DIR": str(self._folder / "proot"),
                _MARK: str(self._folder / "board.json"),
            },
        }  # fmt: skip

    def _enter(self) -> list[str]:
        return [sys.executable, "-I", "-S", str(_ENTER), str(self._folder / "board.json")]

    def _server_line(self) -> list[str]:
        if self.model.root.busybox:
            key, pid = self._folder / "host_key", self._folder / "dropbear.pid"
            return [
                *self._emulated("usr/sbin/dropbear"),
                "-F",
                "-E",
                "-s",
                "-r",
                str(key),
                "-p",
                f"127.0.0.1:{self.port}",
                "-P",
                str(pid),
            ]
        return [_sshd(), "-D", "-e", "-f", str(self._folder / "sshd_config")]

    def _server_configuration(self) -> str:
        lines = {
            "Port": self.port, "ListenAddress": "127.0.0.1", "HostKey": self._folder / "host_key",
            "PidFile": self._folder / "sshd.pid", "AuthorizedKeysFile": self._folder / "user_key.pub", "UsePAM": "no",
            "StrictModes": "no", "PasswordAuthentication": "no", "KbdInteractiveAuthentication": "no",
            "PermitRootLogin": "prohibit-password", "MaxStartups": "100", "MaxSessions": "100", "PrintMotd": "no",
            "Subsystem": "sftp /usr/lib/openssh/sftp-server", "ForceCommand": f"exec {shlex.join(self._enter())}",
        }  # fmt: skip
        return "".join(f"{key} {value}\n" for key, value in lines.items())

    def _client_configuration(self) -> str:
        lines = {
            "IdentityFile": self._folder / "user_key", "IdentitiesOnly": "yes", "UserKnownHostsFile": self.known_hosts,
            "GlobalKnownHostsFile": "/dev/null", "StrictHostKeyChecking": "yes", "LogLevel": "ERROR",
        }  # fmt: skip
        return "Host 127.0.0.1\n" + "".join(f"  {key} {value}\n" for key, value in lines.items())

    def _emulated(self, program: str) -> list[str]:
        """Return what runs an aarch64 program of the board's root as a process of this machine.

        dropbear runs so, with sessions that enter the board one by one, as those of sshd do: one proot for all of them loses
        system calls of processes that run at the same time.
        """
        emulator = [str(self._cache.tools() / QEMU), "-cpu", self.model.identity.cpu, "-L", str(self._folder / "prefix")]
        return [*emulator, str(self._cache.part(self.model.root) / program)]

    def _make_dropbear_key(self) -> str:
        """Write what dropbear reads: its key, the account, whose shell leads into the board, and who may log in."""
        prefix, shell = self._folder / "prefix", self._folder / "shell"
        (prefix / "etc").mkdir(parents=True)
        for name in ("lib", "usr"):
            (prefix / name).symlink_to(self._cache.part(self.model.root) / name)
        shell.write_text(f'#!/bin/sh\n[ "$1" != -c ] || shift\nexec {shlex.join(self._enter())} "$@"\n', encoding="utf-8")
        shell.chmod(0o755)
        account = f"root:x:{os.geteuid()}:{os.getegid()}:root:{self.home}:{shell}\n"
        (prefix / "etc/passwd").write_text(account, encoding="utf-8")
        (prefix / "etc/shells").write_text(f"{shell}\n", encoding="utf-8")
        (self.home / ".ssh").mkdir(mode=0o700)
        shutil.copy(self._folder / "user_key.pub", self.home / ".ssh" / "authorized_keys")
        line = [*self._emulated("usr/bin/dropbearkey"), "-t", "ed25519", "-f", str(self._folder / "host_key")]
        made = run_tool(line, doing="making the key of a dropbear server")
        return next(line for line in made.splitlines() if line.startswith("ssh-"))


@contextlib.contextmanager
def running(model: Model, folder: Path, *, cache: Cache | None = None) -> Iterator[VirtualBoard]:
    """Build what is missing, start the board and end it, with everything that runs on it, at the end."""
    for command, package in (("ssh", "openssh-client"), ("ssh-keygen", "openssh-client")):
        if shutil.which(command) is None:
            raise RigError(f"{command} is missing: apt-get install {package}")
    cache = cache or Cache()
    if " " in f"{cache.folder}{folder}":
        raise RigError(f"proot takes no path with a space: set XDG_CACHE_HOME and TMPDIR to folders without ({cache.folder})")
    if not model.root.busybox:
        _sshd()
    cache.ensure(*model.parts)
    board = VirtualBoard(model, cache, folder)
    board.prepare()
    try:
        board.power_on()
        yield board
    finally:
        board.power_off()


def _sshd() -> str:
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise RigError("sshd is missing: apt-get install openssh-server")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd locks up the process that talks before the login
    return found


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise RigError(f"user {os.geteuid()} has no entry in /etc/passwd, so sshd lets nobody in: use one that has") from None


def _make_key(path: Path) -> None:
    run_tool(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "device-rig", "-f", str(path)], doing="ssh-keygen")


def _write_client(folder: Path, board: Path) -> None:
    """Write commands that add the board's configuration to those of this machine."""
    for name in ("ssh", "scp", "sftp"):
        own = shutil.which(name)
        if own is None:
            continue
        (folder / name).write_text(f'#!/bin/sh\nexec {own} -F {board / "ssh_config"} "$@"\n', encoding="utf-8")
        (folder / name).chmod(0o755)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(port: int) -> bool:
    """Whether a server there greets as SSH servers do."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_START_S) as link:
            return link.recv(4) == b"SSH-"
    except OSError:
        return False


def _all_processes() -> Iterator[tuple[int, str]]:
    """Yield every living process with its /proc status."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                status = (entry / "status").read_text(encoding="utf-8", errors="replace")
                if "\nState:\tZ" not in status:
                    yield int(entry.name), status


def _number(status: str, key: str) -> int:
    return int(status.partition(f"\n{key}:\t")[2].split(maxsplit=1)[0])


def _descendants(process: int) -> list[int]:
    """Return `process` and all that it started, directly or not."""
    parents = {child: _number(status, "PPid") for child, status in _all_processes()}
    found = [process]
    for parent in found:  # grows while it is read
        found += [child for child, its in parents.items() if its == parent]
    return found


def _kill(processes: list[int]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)
