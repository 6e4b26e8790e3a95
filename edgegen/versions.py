"""The versions of everything that shapes an artifact: bundles and reports name them."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

from edgegen import __version__

_PACKAGES = ("torch", "openvino", "nncf", "onnx", "onnxruntime", "litert-torch", "ai-edge-quantizer", "numpy")


def tool_versions() -> dict[str, str]:
    """Return the versions of edgegen, Python and every installed package that has a say in the artifact."""
    found = {"edgegen": __version__, "python": sys.version.split()[0]}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
