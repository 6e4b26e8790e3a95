"""What is ready on this device and what is not, with the fix: `python -m edgegen.runtime.doctor [--json]`.

Every back end is tried in a process of its own, because some of them end it. Python >= 3.8, numpy.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import Any, Dict, List, Optional

from edgegen.runtime.backend_trial import BACKENDS
from edgegen.runtime.doctor_system import system_findings
from edgegen.runtime.finding import Finding, Health, absent, fails
from edgegen.runtime.process_facts import machine_facts

_TRIAL_S = 180
_SYMBOL = re.compile(r"version [`'](GLIBC|GLIBCXX|CXXABI)_([0-9.]+)' not found")
_LIBRARY = re.compile(r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object file")
_PACKAGES = {
    "openvino": ("openvino",), "litert": ("ai-edge-litert", "tflite-runtime"), "onnxruntime": ("onnxruntime",),
    "tensorrt": ("tensorrt",),
}  # fmt: skip


def examine(root: str = "/") -> Dict[str, Any]:
    """Return the plain JSON of everything that was found; `root` is where /proc, /sys, /dev and /etc lie."""
    facts = machine_facts()
    findings = [*(try_backend(name) for name in BACKENDS), *system_findings(root)]
    return {"machine": facts, "libc": _libc(), "findings": [dataclasses.asdict(finding) for finding in findings]}


def try_backend(name: str) -> Finding:
    """Run the tiny generator on one back end in a fresh process and return what came of it."""
    line = [sys.executable, "-m", "edgegen.runtime.backend_trial", name]
    folder = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    try:
        done = subprocess.run(line, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TRIAL_S, check=False)
    except subprocess.TimeoutExpired:
        return fails(name, f"gave nothing within {_TRIAL_S} s", "reinstall it: " + _install(name))
    said = done.stderr.decode("utf-8", "replace")
    if done.returncode == 0:
        try:
            return Finding(**json.loads(done.stdout.decode("utf-8").strip().splitlines()[-1]))
        except (ValueError, TypeError, IndexError):
            return fails(name, "printed something else than a result", "reinstall it: " + _install(name))
    return diagnose(name, done.returncode, said, _libc())


def diagnose(name: str, code: int, said: str, libc: str) -> Finding:
    """Return what a trial that failed means, from its exit code and what it said."""
    symbol = _SYMBOL.search(said)
    if symbol:
        return _too_old(name, symbol.group(1), symbol.group(2), said, libc)
    library = _LIBRARY.search(said)
    if library:
        return fails(name, f"needs {library.group(1)}, which is not installed", _library_fix(library.group(1)))
    if "No module named" in said and "numpy" not in said.rsplit("No module named", 1)[1][:12]:
        return absent(name, "is not installed", _install(name))
    if "NumPy 1.x" in said or "numpy.core.multiarray failed to import" in said or "_ARRAY_API not found" in said:
        return fails(name, "was built for numpy 1", f"{sys.executable} -m pip install 'numpy<2'")
    if code < 0 or code > 128:
        return _died(name, -code if code < 0 else code - 128)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return fails(name, (lines[-1] if lines else f"exit code {code}")[:300], "reinstall it: " + _install(name))


def _too_old(name: str, library: str, version: str, said: str, libc: str) -> Finding:
    what = "glibc" if library == "GLIBC" else "libstdc++"
    has = f", this system has {libc}" if library == "GLIBC" else f" ({library}_{version})"
    reason = f"needs {what} {version}{has}" if library == "GLIBC" else f"needs a newer {what}{has}"
    tag = _wheel_tag(name)
    claimed = re.search(r"manylinux_(\d+)_(\d+)", tag or "")
    if library == "GLIBC" and claimed and _numbers(version) > (int(claimed.group(1)), int(claimed.group(2))):
        reason += f"; its wheel claims {claimed.group(0)} and is wrong"
    fix = "use onnxruntime, which needs glibc 2.28, or an image with Debian 12 / Ubuntu 22.04 or later"
    return fails(name, reason, fix)


def _died(name: str, number: int) -> Finding:
    try:
        shown = signal.Signals(number).name
    except ValueError:
        shown = f"signal {number}"
    fixes = {
        "SIGILL": "this build uses instructions that the processor lacks: try an older version of the package",
        "SIGKILL": "the system killed it: free some memory",
        "SIGSEGV": "try another version of the package; on emulators, name the processor (QEMU_CPU)",
    }
    return fails(name, f"died ({shown})", fixes.get(shown, "try another version of the package"))


def _library_fix(library: str) -> str:
    known = {"libgomp": "libgomp1", "libstdc++": "libstdc++6", "libGL": "libgl1", "libOpenCL": "ocl-icd-libopencl1"}
    if library.startswith(("libnv", "libcud")):
        return "it comes with JetPack: sudo apt install nvidia-jetpack"
    package = next((package for stem, package in known.items() if library.startswith(stem)), None)
    return f"sudo apt install {package}" if package else f"install the package that holds {library}"


def _install(name: str) -> str:
    if name == "tensorrt":
        return "it comes with JetPack (sudo apt install nvidia-jetpack); other boards have no use for it"
    return f"{sys.executable} -m pip install {_PACKAGES[name][0]}"


def _wheel_tag(name: str) -> Optional[str]:
    from importlib import metadata

    for package in _PACKAGES[name]:
        try:
            wheel = metadata.distribution(package).read_text("WHEEL")
        except metadata.PackageNotFoundError:
            continue
        tags = [line.partition(":")[2].strip() for line in (wheel or "").splitlines() if line.startswith("Tag:")]
        return " ".join(tags) or None
    return None


def _numbers(version: str) -> tuple:
    return tuple(int(part) for part in version.split(".") if part.isdigit())[:2]


def _libc() -> str:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").replace("glibc ", "") or "no glibc"
    except (ValueError, OSError, AttributeError):
        return "no glibc"


def main(arguments: Optional[List[str]] = None) -> int:
    """Print what was found; 0 if a back end works."""
    parser = argparse.ArgumentParser("python -m edgegen.runtime.doctor", description="Say what is ready on this device.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--root", default="/", help="where /proc, /sys, /dev and /etc lie")
    options = parser.parse_args(arguments)
    begin = time.perf_counter()
    found = examine(options.root)
    found["seconds"] = round(time.perf_counter() - begin, 3)
    if options.json:
        sys.stdout.write(json.dumps(found, allow_nan=False) + "\n")
    else:
        for finding in found["findings"]:
            fix = f"\n     fix: {finding['fix']}" if finding["fix"] else ""
            sys.stdout.write(f"{finding['health']:<7} {finding['name']}: {finding['reason']}{fix}\n")
    return 0 if any(f["health"] == Health.OK.value and f["name"] in BACKENDS for f in found["findings"]) else 1


if __name__ == "__main__":
    sys.exit(main())
