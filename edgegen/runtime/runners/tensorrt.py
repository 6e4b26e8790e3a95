"""TensorRT on Jetson and DRIVE boards: runs the engine that build_engine.py made there from the artifact's ONNX file.

An engine works on one TensorRT version and one GPU only, so it is a cache that lies beside the ONNX file and not a part of
the bundle. Where there is no TensorRT (the host), onnxruntime runs the ONNX file instead, for verification.

THE TENSORRT HALF OF THIS FILE HAS NOT BEEN RUN ON HARDWARE YET: it was written from the API documentation of TensorRT 10 and
cuda-python 12. Python >= 3.8.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any, Dict, List, Optional

import numpy as np

from edgegen.runtime.errors import MissingBackendError, RuntimeBundleError
from edgegen.runtime.files import FolderFiles
from edgegen.runtime.manifest import ArtifactEntry
from edgegen.runtime.strict_json import Reader, parse

_MAX_ENGINE_BYTES = 2 << 30


def open_tensorrt(contents: Dict[str, bytes], entry: ArtifactEntry, threads: int, folder: Optional[str]) -> Any:
    """Return a runner for the engine beside the ONNX file if TensorRT is installed, else one for the ONNX file itself."""
    try:
        import tensorrt
    except ImportError:
        if entry.settings.get("verify_with") == "onnxruntime":
            from edgegen.runtime.runners.onnxruntime import OnnxRunner

            return OnnxRunner(contents, entry, threads)
        hint = "run this on a board with JetPack, or use another back end of the bundle: --backend NAME"
        raise MissingBackendError("tensorrt is not installed", hint=hint) from None
    if folder is None:
        raise RuntimeBundleError("an engine cannot lie in a .zip", hint="unpack the bundle and run build_engine.py in it")
    return TensorRtRunner(tensorrt, read_engine(contents, entry, folder, str(tensorrt.__version__)), entry)


def read_engine(contents: Dict[str, bytes], entry: ArtifactEntry, folder: str, version: str) -> bytes:
    """Return the engine beside the ONNX file. Raises RuntimeBundleError unless it was built from exactly this file by `version`.

    To load an engine is to run code, so this happens before TensorRT sees a byte.
    """
    stem = entry.entry.rsplit(".", 1)[0]
    rebuild = f"python3 {os.path.join(folder, 'build_engine.py')}"
    if not os.path.exists(os.path.join(folder, stem + ".engine")):
        raise RuntimeBundleError(f"{entry.name}: no engine was built on this board yet", hint=rebuild)
    files = FolderFiles(folder)
    about = Reader(parse(files.read(stem + ".engine.json", 1 << 20), stem + ".engine.json"), stem + ".engine.json").whole()
    engine = files.read(stem + ".engine", _MAX_ENGINE_BYTES)
    expected = {
        "engine_sha256": hashlib.sha256(engine).hexdigest(),
        "onnx_sha256": hashlib.sha256(contents[entry.entry]).hexdigest(),
        "tensorrt": version,
    }
    for key, value in expected.items():
        if about.get(key) != value:
            raise RuntimeBundleError(
                f"{entry.name}: the engine's {key} is {about.get(key)!r}, here it is {value!r}", hint=rebuild
            )
    return engine


class TensorRtRunner:
    """An engine with one context and one stream; input and output go through device buffers allocated once. Not yet run."""

    def __init__(self, tensorrt: Any, engine: bytes, entry: ArtifactEntry) -> None:
        self._cuda = _cuda_module()
        self._version = str(tensorrt.__version__)
        self._logger = tensorrt.Logger(tensorrt.Logger.ERROR)
        begin = time.perf_counter_ns()
        self._runtime = tensorrt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            raise RuntimeBundleError(
                f"{entry.name}: TensorRT {self._version} refuses the engine", hint="run build_engine.py again"
            )
        self._context = self._engine.create_execution_context()
        self._compile_ns = time.perf_counter_ns() - begin
        self._stream = self._do("cudaStreamCreate")
        self._inputs = [str(name) for name in entry.settings["input_names"]]
        self._outputs = [str(name) for name in entry.settings["output_names"]]
        specs = list(zip(self._inputs + self._outputs, entry.io.inputs + entry.io.outputs))
        self._host = {name: np.empty((1,) + tuple(spec.shape), spec.dtype) for name, spec in specs}
        self._device = {name: self._do("cudaMalloc", array.nbytes) for name, array in self._host.items()}
        for name, address in self._device.items():
            self._context.set_tensor_address(name, int(address))

    def run(self, inputs: List[np.ndarray]) -> List[np.ndarray]:
        """Copy in, compute, copy out, wait; return new arrays."""
        to_device = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        to_host = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        for name, array in zip(self._inputs, inputs):
            self._do("cudaMemcpyAsync", self._device[name], array.ctypes.data, array.nbytes, to_device, self._stream)
        if not self._context.execute_async_v3(int(self._stream)):
            raise RuntimeBundleError("TensorRT could not start the engine", hint="the board's log says why (dmesg)")
        outputs = [np.empty_like(self._host[name]) for name in self._outputs]
        for name, array in zip(self._outputs, outputs):
            self._do("cudaMemcpyAsync", array.ctypes.data, self._device[name], array.nbytes, to_host, self._stream)
        self._do("cudaStreamSynchronize", self._stream)
        return outputs

    def describe(self) -> Dict[str, Any]:
        """Say which TensorRT runs it."""
        return {
            "backend": "tensorrt", "version": self._version, "device": "GPU", "threads": None,
            "compile_ns": self._compile_ns, "execution_types": None, "includes": ["h2d", "compute", "d2h"],
            "sync": "auto", "cuda_graph": False,
        }  # fmt: skip

    def close(self) -> None:
        """Free the device buffers."""
        for address in self._device.values():
            self._do("cudaFree", address)
        self._device = {}
        self._do("cudaStreamDestroy", self._stream)

    def _do(self, function: str, *arguments: Any) -> Any:
        """Call the CUDA runtime and return its value; an error code becomes an exception."""
        status, *values = getattr(self._cuda, function)(*arguments)
        if int(status) != 0:
            raise RuntimeBundleError(f"{function} failed with CUDA error {int(status)}", hint="the process must be restarted")
        return values[0] if values else None


def _cuda_module() -> Any:
    """Return cuda-python's runtime module, which moved in version 12.6."""
    try:
        from cuda.bindings import runtime
    except ImportError:
        try:
            from cuda import cudart as runtime
        except ImportError as problem:
            raise MissingBackendError(f"cuda-python is not installed ({problem})", hint="pip install cuda-python") from problem
    return runtime
