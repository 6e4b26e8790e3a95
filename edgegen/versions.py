"""The versions of everything that shapes an artifact: bundles and reports name them."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgegen import __version__

_GIT_S = 5.0
_PACKAGES = ("torch", "openvino", "nncf", "onnx", "onnxruntime", "litert-torch", "ai-edge-quantizer", "numpy")


def commit() -> str | None:
    """Return the commit of the checkout that edgegen runs from, "+" behind it where something was changed; None elsewhere."""
    top = Path(__file__).parents[1]
    if not (top / ".git").exists():
        return None
    line = ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
    try:
        found = subprocess.run(line, cwd=top, capture_output=True, text=True, timeout=_GIT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


def tool_versions() -> dict[str, str]:
    """Return the versions of edgegen, Python and every installed package that has a say in the artifact."""
    found = {"edgegen": __version__, "python": sys.version.split()[0]}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
