"""Run the tiny generator on one back end: `python -m edgegen.runtime.backend_trial NAME`, in a process that may die of it.

Python >= 3.8, numpy and that back end.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import sys
import time
from importlib import import_module
from typing import Callable, Dict, List

from edgegen.runtime.bundle import open_bundle
from edgegen.runtime.check import check
from edgegen.runtime.errors import RuntimeBundleError
from edgegen.runtime.finding import Finding, fails, ok

BACKENDS = ("openvino", "litert", "onnxruntime", "tensorrt")
TINY_BUNDLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tiny_bundle.zip")
_LEAST_TENSORRT = 10  # strongly typed networks with int8 Q/DQ nodes


def try_openvino() -> Finding:
    """Compile and run the IR, and name the devices that OpenVINO sees."""
    openvino = import_module("openvino")
    finding = _run("openvino")
    devices = ", ".join(openvino.Core().available_devices)
    return dataclasses.replace(finding, reason=f"{finding.reason}; sees {devices}")


def try_litert() -> Finding:
    """Run the .tflite with whichever package is there; the error of the newer one is the one worth telling."""
    try:
        import_module("ai_edge_litert.interpreter")
    except ModuleNotFoundError:
        import_module("tflite_runtime.interpreter")
    return _run("litert")


def try_onnxruntime() -> Finding:
    """Run the ONNX file."""
    import_module("onnxruntime")
    return _run("onnxruntime")


def try_tensorrt() -> Finding:
    """Look for TensorRT of a version that fits, then for a GPU; both before TensorRT is touched, which dies without one."""
    tensorrt = import_module("tensorrt")
    version = str(tensorrt.__version__)
    if int(version.split(".")[0]) < _LEAST_TENSORRT:
        fix = "flash JetPack 6.1 or later, which brings 10.3; until then another back end of the bundle: --backend NAME"
        return fails("tensorrt", f"is {version}, {_LEAST_TENSORRT} or later is needed", fix)
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return fails("tensorrt", f"{version} has no CUDA driver (libcuda.so.1)", "sudo apt install nvidia-jetpack")
    count = ctypes.c_int(0)
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return fails("tensorrt", f"{version} sees no GPU", "is the user in the group 'video'? see `nvidia-smi`")
    return ok("tensorrt", f"{version} with {count.value} GPU; engines are built per bundle (build_engine.py)")


TRIALS: Dict[str, Callable[[], Finding]] = {
    "openvino": try_openvino, "litert": try_litert, "onnxruntime": try_onnxruntime, "tensorrt": try_tensorrt,
}  # fmt: skip


def _run(backend: str) -> Finding:
    begin = time.perf_counter()
    with open_bundle(TINY_BUNDLE, backend, 1) as bundle:
        result = check(bundle)
    took_ms = (time.perf_counter() - begin) * 1e3
    version = result.ran["version"]
    if not result.passed:
        worst = min((case.psnr_db for case in result.cases if case.psnr_db is not None), default=None)
        found = "values that are not finite" if worst is None else f"a wrong picture ({worst:.1f} dB)"
        return fails(backend, f"{version} gives {found} for the tiny generator", "try another version of the package")
    return ok(backend, f"{version} runs the tiny generator ({took_ms:.0f} ms with loading)")


def main(arguments: List[str]) -> int:
    """Print the finding of one back end as JSON."""
    try:
        finding = TRIALS[arguments[0]]()
    except RuntimeBundleError as failure:
        sys.stderr.write(f"{failure.message}\n")
        return 1
    sys.stdout.write(json.dumps(dataclasses.asdict(finding), allow_nan=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
