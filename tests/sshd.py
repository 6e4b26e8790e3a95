"""A real sshd on loopback with keys of its own, and a cable that can be cut between it and the client."""

import contextlib
import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from edgegen.device import Address, Scheme


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@dataclasses.dataclass
class Server:
    """An sshd of its own in `folder`; `board` is edgegen's folder on what it leads to."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def board(self) -> Path:
        return self.folder / "board"

    @property
    def config(self) -> Path:
        return self.folder / "ssh_config"

    def address(self, port: int | None = None, **changes: object) -> Address:
        given = Address(Scheme.SSH, "127.0.0.1", None, port or self.port, folder=str(self.board), ssh_config=str(self.config))
        return dataclasses.replace(given, **changes)

    def url(self) -> str:
        return f"ssh://127.0.0.1:{self.port}?folder={self.board}&ssh_config={self.config}"

    def know(self, port: int, key: str = "host") -> None:
        """Make the client trust the server at `port`."""
        public = (self.folder / f"{key}.pub").read_text()
        with (self.folder / "known_hosts").open("a") as known:
            known.write(f"[127.0.0.1]:{port} {public}")

    def kill(self) -> None:
        """End the server with all its sessions at once, as a power cut does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGSTOP)
        for pid in [*sessions(self.process.pid), self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def sessions(server: int) -> list[int]:
    """Every process below the server that is an sshd, deepest last."""
    found, level = [], [server]
    while level:
        listed = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", ",".join(map(str, level))], capture_output=True, text=True)
        level = [int(line.split()[0]) for line in listed.stdout.splitlines() if line.split()[1].startswith("sshd")]
        found += level
    return found


def start_server(folder: Path, *, force: str = "", sftp: bool = True, before: str = "") -> Server:
    """Start an sshd in `folder`. `force` is a script that runs instead of each command, `before` shell code before the server."""
    port = free_port()
    for name in ("host", "user"):
        if not (folder / name).exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized_keys")
    (folder / "board").mkdir(exist_ok=True)
    lines = [
        f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {folder}/host", f"AuthorizedKeysFile {folder}/authorized_keys",
        f"PidFile {folder}/pid", "UsePAM no", "StrictModes no", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
        "PermitRootLogin prohibit-password", "MaxStartups 100",
    ]  # fmt: skip
    if sftp:
        lines.append("Subsystem sftp internal-sftp" if not force else "Subsystem sftp /usr/lib/openssh/sftp-server")
    if force:
        (folder / "force").write_text(force)
        lines.append(f"ForceCommand sh {folder}/force")
    (folder / "sshd_config").write_text("\n".join(lines) + "\n")
    (folder / "ssh_config").write_text(
        f"Host *\n IdentityFile {folder}/user\n IdentitiesOnly yes\n IdentityAgent none\n"
        f" UserKnownHostsFile {folder}/known_hosts\n GlobalKnownHostsFile /dev/null\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    sshd = f"/usr/sbin/sshd -D -e -f {folder}/sshd_config"
    words = ["unshare", "-m", "sh", "-c", f"{before}\nexec {sshd}"] if before else sshd.split()
    with (folder / "sshd.log").open("ab") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    server = Server(folder, port, process)
    server.know(port)
    until = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return server
        assert process.poll() is None and time.monotonic() < until, (folder / "sshd.log").read_text()
        time.sleep(0.02)


class Cable:
    """A TCP connection to `port` at one's own `port`, which can be cut, or go dead without a word to either end."""

    def __init__(self, port: int) -> None:
        self._goal = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        self._dead = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End all connections and take no new ones."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # closing alone would let the waiting thread take one more
        self._listener.close()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def go_dead(self) -> None:
        """Lose every packet from now on, as a network does that is out of reach: no end, no reset, nothing comes back."""
        self._dead.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self._dead.is_set():
                    self._ends.append(near)
                    continue
                far = socket.create_connection(("127.0.0.1", self._goal))
                self._ends += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := one.recv(65536):
                if not self._dead.is_set():
                    other.sendall(block)
        for end in () if self._dead.is_set() else (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
