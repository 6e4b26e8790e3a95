"""What the boards are made of. A change here is a new key of the cache, so everything is built again."""

from __future__ import annotations

import dataclasses

TOOLS_SUITES = ("bookworm", "bookworm-backports")
TOOLS = ("qemu-user/bookworm-backports", "proot/bookworm", "libtalloc2/bookworm")
QEMU = "usr/bin/qemu-aarch64"  # from 10.0 on it shows an ARM /proc/cpuinfo; 7.2 shows the host's, and LiteRT dies of it
PROOT = "usr/bin/proot"


@dataclasses.dataclass(frozen=True)
class Root:
    """An aarch64 root file system. `busybox`: its applets are linked, and there is next to nothing else."""

    name: str
    suite: str
    packages: tuple[str, ...]
    busybox: bool = False


@dataclasses.dataclass(frozen=True)
class Wheels:
    """Requirements, installed without their dependencies, as `python` would take them on aarch64."""

    python: str
    requirements: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Site:
    """What is pip-installed on a board; bound over `folder` of a root, so that one root serves several boards."""

    name: str
    folder: str
    wheels: tuple[Wheels, ...]


_SYSTEM = (
    "base-files", "base-passwd", "bash", "coreutils", "dash", "debianutils", "findutils", "grep", "gzip", "hostname", "libgomp1",
    "libstdc++6", "mawk", "openssh-sftp-server", "procps", "python3", "rsync", "sed", "tar", "util-linux",
)  # fmt: skip
DEBIAN12 = Root("debian12", "bookworm", (*_SYSTEM, "usr-is-merged"))
DEBIAN11 = Root("debian11", "bullseye", _SYSTEM)
BUSYBOX = Root("busybox", "bookworm", ("busybox", "dropbear-bin"), busybox=True)

_PYTHON_3_11 = "usr/local/lib/python3.11/dist-packages"
_PYTHON_3_9 = "usr/local/lib/python3.9/dist-packages"
CURRENT = Site(
    "current", _PYTHON_3_11,
    (Wheels("3.11", ("ai-edge-litert==2.3.0", "openvino==2026.4.1", "onnxruntime==1.32.0", "numpy==2.4.6")),),
)  # fmt: skip
TFLITE = Site("tflite", _PYTHON_3_11, (Wheels("3.11", ("tflite-runtime==2.14.0", "numpy==1.26.4")),))
# What does not run with glibc 2.31: OpenVINO says so in its tag, LiteRT's tag says 2.27. LiteRT has left Python 3.9, but its
# libraries carry no Python version in their names, so 3.9 gets as far with them as a newer Python on that board: to the loader.
OLD = Site(
    "old", _PYTHON_3_9,
    (
        Wheels("3.9", ("openvino==2025.3.0", "onnxruntime==1.19.2", "numpy==2.0.2")),
        Wheels("3.11", ("ai-edge-litert==2.3.0",)),
    ),
)  # fmt: skip
