"""Build the parts of the boards once and keep them outside the checkout: whole or not at all, one builder at a time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from device_rig.apt import Apt, RigError, debian_mirror, open_apt, run_tool
from device_rig.recipe import PROOT, QEMU, TOOLS, TOOLS_SUITES, Root, Site, Wheels

_PLATFORMS = ("manylinux2014", *(f"manylinux_2_{minor}" for minor in (17, 27, 28, 31, 34, 35)))
_UNREAD = ("./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*", "./usr/share/info/*")


class Cache:
    """Built parts below `folder`, each named by a hash of its recipe."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()

    def tools(self) -> Path:
        """The folder with qemu and proot."""
        return self.folder / f"tools-{_key(TOOLS, TOOLS_SUITES)}"

    def part(self, part: Root | Site) -> Path:
        """The folder of a root file system, or of installed wheels."""
        kind = "root" if isinstance(part, Root) else "site"
        return self.folder / f"{kind}-{part.name}-{_key(part)}"

    def ensure(self, *parts: Root | Site) -> None:
        """Build what is missing of `parts` and the tools. RigError with one sentence if it cannot be built."""
        if platform.system() != "Linux" or platform.machine() != "x86_64":
            raise RigError(f"the device rig runs on Linux on x86-64, not on {platform.system()} on {platform.machine()}")
        with self._locked(), tempfile.TemporaryDirectory(dir=self.folder, prefix=".apt-", ignore_cleanup_errors=True) as scratch:
            builder = _Builder(Path(scratch), self.tools())
            self._make(self.tools(), builder.tools)
            for part in parts:
                make = builder.root if isinstance(part, Root) else builder.site
                self._make(self.part(part), lambda goal, make=make, part=part: make(part, goal))

    def _make(self, goal: Path, make: Callable[[Path], None]) -> None:
        if goal.exists():
            return
        unfinished = goal.with_name(f".{goal.name}.part")
        shutil.rmtree(unfinished, ignore_errors=True)  # of a builder that was killed
        unfinished.mkdir()
        try:
            make(unfinished)
            unfinished.rename(goal)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def default_folder() -> Path:
    """Where parts are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "edgegen-device-rig"


def _key(*recipe: object) -> str:
    """Return the hash of all that decides what is built; this Python too, which compiles the wheels for its own version."""
    said = [repr(recipe).encode(), platform.python_version().encode(), Path(__file__).read_bytes()]
    return hashlib.sha256(b"\0".join(said)).hexdigest()[:12]


class _Builder:
    def __init__(self, scratch: Path, tools: Path) -> None:
        self._scratch = scratch
        self._tools = tools
        self._apts: dict[str, Apt] = {}

    def tools(self, goal: Path) -> None:
        """Unpack proot and the one emulator that is needed of all that come with qemu."""
        apt = open_apt(self._scratch / "tools", debian_mirror(), architecture="amd64", suites=TOOLS_SUITES)
        for package in apt.download(TOOLS):
            _unpack(package, goal, only=f"./{QEMU}" if package.name.startswith("qemu-user_") else None)
        for tool in (QEMU, PROOT):
            if not (goal / tool).is_file():
                raise RigError(f"Debian's packages {', '.join(TOOLS)} no longer hold {tool}: change tests/device_rig/recipe.py")

    def root(self, root: Root, goal: Path) -> None:
        """Unpack the packages into an empty file system; no maintainer script runs."""
        if root.suite not in self._apts:
            folder = self._scratch / root.suite
            self._apts[root.suite] = open_apt(folder, debian_mirror(), architecture="arm64", suites=(root.suite,))
        for name in ("bin", "lib", "sbin"):
            (goal / "usr" / name).mkdir(parents=True)
            (goal / name).symlink_to(f"usr/{name}")
        for name in ("dev", "etc", "proc", "root", "run", "sys", "tmp", "var/tmp"):
            (goal / name).mkdir(parents=True)
        for package in self._apts[root.suite].download_with_dependencies(root.packages):
            _unpack(package, goal)
        if root.busybox:
            self._link_applets(goal)
        else:
            for name in ("passwd", "group"):
                shutil.copy(goal / f"usr/share/base-passwd/{name}.master", goal / "etc" / name)
            (goal / "usr/bin/awk").symlink_to("mawk")

    def site(self, site: Site, goal: Path) -> None:
        """Install wheels for aarch64 with this machine's pip."""
        for wheels in site.wheels:
            install_wheels(wheels, goal)

    def _link_applets(self, goal: Path) -> None:
        line = [str(self._tools / QEMU), "-L", str(goal), str(goal / "bin/busybox"), "--list-full"]
        for applet in run_tool(line, doing="asking busybox for its applets").split():
            link = goal / applet
            if not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to("/bin/busybox")
        (goal / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n", encoding="utf-8")
        (goal / "etc/group").write_text("root:x:0:\n", encoding="utf-8")
        (goal / "etc/shells").write_text("/bin/sh\n", encoding="utf-8")


def install_wheels(wheels: Wheels, goal: Path) -> None:
    """Install wheels for aarch64 into `goal`, compiled where this Python is of the same version."""
    same = platform.python_version_tuple()[:2] == tuple(wheels.python.split("."))
    platforms = [f"--platform={name}_aarch64" for name in _PLATFORMS]
    line = [
        sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps",
        "--only-binary=:all:", "--implementation=cp", f"--python-version={wheels.python}", *platforms,
        f"--target={goal}", "--compile" if same else "--no-compile", *wheels.requirements,
    ]  # fmt: skip
    run_tool(line, doing=f"pip install for aarch64 ({', '.join(wheels.requirements)})", timeout_s=600)


def _unpack(package: Path, goal: Path, *, only: str | None = None) -> None:
    chosen = [only] if only else [f"--exclude={pattern}" for pattern in _UNREAD]
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as archive:
        line = ["tar", "--extract", "--keep-directory-symlink", "--no-same-owner", "--delay-directory-restore", *chosen]
        done = subprocess.run(line, cwd=goal, stdin=archive.stdout, capture_output=True, text=True, errors="replace")
        archive.communicate()
    if done.returncode != 0 or archive.returncode != 0:
        raise RigError(f"{package.name} cannot be unpacked into {goal}: {done.stderr.strip()[:300] or 'dpkg-deb failed'}")
