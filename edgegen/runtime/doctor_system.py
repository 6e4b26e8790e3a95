"""What around the back ends makes times worse or keeps an accelerator away: rights, drivers, clocks, swap, memory.

Everything is read below a root, so that a test can be any board. Python >= 3.8, standard library only.
"""

from __future__ import annotations

import glob
import os
import stat
from typing import List, Optional

from edgegen.runtime.finding import Finding, fails, notice, ok

_NODES = (
    ("dev/dri/renderD*", "GPU"), ("dev/accel/accel*", "NPU"), ("dev/nvhost-gpu", "GPU"), ("dev/nvmap", "GPU memory"),
    ("dev/galcore", "NPU"), ("dev/rknpu", "NPU"), ("dev/apex_*", "Edge TPU"), ("dev/kgsl-3d0", "GPU"),
)  # fmt: skip
_NPU_CLASS = "0x1200"  # PCI class of processing accelerators
_LEAST_FREE_BYTES = 256 << 20


def system_findings(root: str = "/") -> List[Finding]:
    """Return what was found, the things that are in order included."""
    found = [*_rights(root), *_npu_driver(root)]
    for one in (_clocks(root), _swap(root), _memory(root)):
        if one is not None:
            found.append(one)
    return found


def _rights(root: str) -> List[Finding]:
    found = []
    for pattern, what in _NODES:
        for path in sorted(glob.glob(os.path.join(root, pattern))):
            shown = "/" + os.path.relpath(path, root)
            if os.access(path, os.R_OK | os.W_OK):
                found.append(ok(shown, f"the {what} may be used"))
                continue
            group = _group_of(path)
            fix = f"sudo usermod -aG {group} {_user()}, then log in again" if group else f"sudo chmod a+rw {shown}"
            reason = f"the {what} is not open to this user" + (f", who is not in the group '{group}'" if group else "")
            found.append(fails(shown, reason, fix))
    return found


def _npu_driver(root: str) -> List[Finding]:
    found = []
    for folder in sorted(glob.glob(os.path.join(root, "sys/bus/pci/devices/*"))):
        kind = _read(os.path.join(folder, "class")) or ""
        if kind.startswith(_NPU_CLASS) and not os.path.exists(os.path.join(folder, "driver")):
            fix = "Intel: a kernel >= 6.6 with intel_vpu (sudo modprobe intel_vpu) and the package intel-driver-compiler-npu"
            found.append(fails("NPU", f"there is one ({os.path.basename(folder)}) without a driver", fix))
    return found


def _clocks(root: str) -> Optional[Finding]:
    base = os.path.join(root, "sys/devices/system/cpu/cpu0/cpufreq")
    governor, low, high = (
        _read(os.path.join(base, name)) for name in ("scaling_governor", "scaling_min_freq", "scaling_max_freq")
    )
    if governor is None:
        return None
    if low is not None and low == high:
        return ok("clocks", "are locked")
    if governor == "performance":
        return ok("clocks", "the governor is 'performance'")
    jetson = os.path.exists(os.path.join(root, "etc/nv_tegra_release"))
    fix = "sudo jetson_clocks" if jetson else "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
    return notice("clocks", f"are not locked (governor '{governor}'): times will vary", fix)


def _swap(root: str) -> Optional[Finding]:
    text = _read(os.path.join(root, "proc/swaps"))
    if text is None:
        return None
    areas = [line.split()[0] for line in text.splitlines()[1:] if line.split()]
    if not areas:
        return ok("swap", "is off")
    return notice("swap", f"is on ({', '.join(areas[:3])}): times can jump when memory is short", "sudo swapoff -a")


def _memory(root: str) -> Optional[Finding]:
    for line in (_read(os.path.join(root, "proc/meminfo")) or "").splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "MemAvailable:" and words[1].isdigit():
            free = int(words[1]) * 1024
            if free < _LEAST_FREE_BYTES:
                return notice("memory", f"only {free >> 20} MiB are free", "end what else runs, for example a desktop")
            return ok("memory", f"{free >> 20} MiB are free")
    return None


def _group_of(path: str) -> Optional[str]:
    """Return the group whose members may use the node; None if being in it would not help."""
    try:
        about = os.stat(path)
        if about.st_gid == 0 or stat.S_IMODE(about.st_mode) & 0o060 != 0o060:
            return None
        import grp

        return grp.getgrgid(about.st_gid).gr_name
    except (OSError, KeyError, ImportError):
        return None


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "$USER"


def _read(path: str) -> Optional[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 16).strip()
    except OSError:
        return None
