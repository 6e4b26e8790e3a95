"""Debian packages without root: an apt of its own that takes the mirror and the proxy from the machine's configuration."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_DEBIAN = {
    "bullseye", "bookworm", "trixie", "forky", "sid", "oldoldstable", "oldstable", "stable", "testing", "unstable",
}  # fmt: skip
_TIMEOUT_S = 300


class RigError(Exception):
    """The boards cannot be made here; one sentence that says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Apt:
    """A package index of its own, below `folder`."""

    folder: Path

    def download(self, packages: tuple[str, ...]) -> list[Path]:
        """Return the .deb files of exactly these packages."""
        goal = self.folder / "single"
        goal.mkdir(exist_ok=True)
        self._run("download", *packages, cwd=goal)
        return sorted(goal.glob("*.deb"))

    def download_with_dependencies(self, packages: tuple[str, ...]) -> list[Path]:
        """Return the .deb files of these packages and of everything that they need."""
        archives = self.folder / "cache" / "archives"
        for old in archives.glob("*.deb"):
            old.unlink()
        self._run("install", "--yes", "--download-only", *packages)
        return sorted(archives.glob("*.deb"))

    def update(self) -> None:
        """Fetch the index."""
        self._run("update", "--error-on=any")

    def _run(self, *arguments: str, cwd: Path | None = None) -> None:
        run_tool(
            ["apt-get", "--quiet=2", *arguments], doing=f"`apt-get {arguments[0]}` for the device rig", cwd=cwd,
            environment={**os.environ, "APT_CONFIG": str(self.folder / "apt.conf"), "LC_ALL": "C"},
        )  # fmt: skip


def open_apt(folder: Path, mirror: str, *, architecture: str, suites: tuple[str, ...]) -> Apt:
    """Return an apt for the main section of `suites`, its index fetched from `mirror`. RigError if that fails."""
    if not KEYRING.is_file():
        raise RigError(f"{KEYRING} is missing: apt-get install debian-archive-keyring")
    for part in ("lists/partial", "cache/archives/partial", "parts"):
        (folder / part).mkdir(parents=True)
    (folder / "status").touch()
    sources = "".join(f"deb [signed-by={KEYRING}] {mirror} {suite} main\n" for suite in suites)
    (folder / "sources.list").write_text(sources, encoding="utf-8")
    (folder / "apt.conf").write_text(_configuration(folder, architecture), encoding="utf-8")
    apt = Apt(folder)
    apt.update()
    return apt


def debian_mirror() -> str:
    """Return the Debian mirror that this machine's own apt sources name."""
    if shutil.which("apt-get") is None:
        raise RigError("the device rig is built from Debian packages, and there is no apt-get here: run it on Debian")
    line = ["apt-get", "--no-release-info", "indextargets", "--format", "$(CREATED_BY) $(RELEASE) $(REPO_URI)"]
    listed = run_tool(line, doing="asking apt for its sources", environment={**os.environ, "LC_ALL": "C"})
    mirror = choose_mirror(listed)
    if mirror is None:
        raise RigError("apt's sources name no Debian mirror (/etc/apt/sources.list.d): run the device rig on Debian")
    return mirror


def choose_mirror(listed: str) -> str | None:
    """Return the first repository of a Debian release in lines "Packages RELEASE URI"; None if there is none."""
    for line in listed.splitlines():
        kind, release, uri, *_ = [*line.split(), "", "", ""]
        if kind == "Packages" and release in _DEBIAN:
            return uri
    return None


def run_tool(
    line: list[str],
    *,
    doing: str,
    cwd: Path | None = None,
    environment: dict[str, str] | None = None,
    timeout_s: int = _TIMEOUT_S,
) -> str:
    """Return what the command prints. RigError that names `doing` if it fails or takes longer than `timeout_s`."""
    try:
        done = subprocess.run(
            line, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=timeout_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RigError(f"{doing} took more than {timeout_s} s: is the network up?") from None
    except OSError as problem:
        raise RigError(f"{doing} failed: {line[0]}: {problem.strerror}") from problem
    if done.returncode != 0:
        raise RigError(f"{doing} failed: {_reason(done.stderr) or _reason(done.stdout) or f'exit code {done.returncode}'}")
    return done.stdout


def _reason(text: str) -> str:
    """Return the first error that apt or pip names, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E:", "Err:", "ERROR:", "error:"))]
    return (errors or lines[-1:] or [""])[0][:500]


def _configuration(folder: Path, architecture: str) -> str:
    """Return an apt.conf that shares nothing with the machine's but how it reaches the network."""
    shown = run_tool(["apt-config", "dump", "Acquire"], doing="asking apt for its configuration")
    network = [line for line in shown.splitlines() if line.startswith("Acquire::") and "::IndexTargets" not in line]
    own = {
        "Dir::Etc::Parts": folder / "parts", "Dir::Etc::Main": folder / "none", "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": folder / "parts", "Dir::State::Lists": folder / "lists", "Dir::State::Status": folder / "status",
        "Dir::Cache": folder / "cache", "Debug::NoLocking": 1, "APT::Sandbox::User": "", "APT::Architecture": architecture,
        "APT::Architectures": architecture, "APT::Install-Recommends": 0, "Acquire::Languages": "none", "Acquire::Retries": 2,
        "Acquire::http::Timeout": 30, "Acquire::https::Timeout": 30,
    }  # fmt: skip
    return "\n".join([*network, *(f'{key} "{value}";' for key, value in own.items())]) + "\n"
