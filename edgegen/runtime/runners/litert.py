"""LiteRT: .tflite files on phones, boards and PCs. Python >= 3.8, ai-edge-litert, or tflite-runtime on old boards."""

from __future__ import annotations

import os
import time
from importlib import import_module
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from edgegen.runtime.errors import MissingBackendError
from edgegen.runtime.manifest import ArtifactEntry
from edgegen.runtime.tensors import TensorSpec

_PACKAGES = (("ai_edge_litert.interpreter", "ai-edge-litert"), ("tflite_runtime.interpreter", "tflite-runtime"))


class LiteRtRunner:
    """A .tflite with XNNPACK on the CPU. Settings: signature, input_names, output_names; without them, tensors in file order.

    A fully int8 file takes and gives int8: floats are quantised on the way in and widened on the way out, by the file's scales.

    `threads` 0 takes all cores that the process may use: the library's own default is one.
    """

    def __init__(self, contents: Dict[str, bytes], entry: ArtifactEntry, threads: int) -> None:
        module, self._package = _interpreter_module()
        self._version = _version(self._package, module)
        self._threads = threads or _usable_cores()
        begin = time.perf_counter_ns()
        self._interpreter = module.Interpreter(model_content=contents[entry.entry], num_threads=self._threads)
        self._interpreter.allocate_tensors()
        self._compile_ns = time.perf_counter_ns() - begin
        self._signature = None
        if "signature" in entry.settings:
            self._signature = self._interpreter.get_signature_runner(str(entry.settings["signature"]))
            self._input_names = [str(name) for name in entry.settings["input_names"]]
            self._output_names = [str(name) for name in entry.settings["output_names"]]
            self._steps_in = _int8_steps(self._signature.get_input_details(), self._input_names, entry.io.inputs)
            self._steps_out = _int8_steps(self._signature.get_output_details(), self._output_names, entry.io.outputs)

    def run(self, inputs: List[np.ndarray]) -> List[np.ndarray]:
        """Return copies of the outputs."""
        if self._signature is not None:
            taken = [x if step is None else _to_int8(x, *step) for x, step in zip(inputs, self._steps_in)]
            given = self._signature(**dict(zip(self._input_names, taken)))
            outputs = zip((given[name] for name in self._output_names), self._steps_out)
            return [y if step is None else _to_float(y, *step) for y, step in outputs]
        for detail, array in zip(self._interpreter.get_input_details(), inputs):
            self._interpreter.set_tensor(detail["index"], array)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(detail["index"]) for detail in self._interpreter.get_output_details()]

    def describe(self) -> Dict[str, Any]:
        """Say which package runs it. The library does not tell in which types XNNPACK computes: `execution_types` is None."""
        return {
            "backend": "litert", "package": self._package, "version": self._version, "device": "CPU",
            "threads": self._threads, "compile_ns": self._compile_ns, "execution_types": None,
        }  # fmt: skip

    def close(self) -> None:
        """Drop the interpreter."""
        self._signature = None
        del self._interpreter


def _int8_steps(details: Dict[str, Any], names: List[str], specs: Sequence[TensorSpec]) -> List[Optional[Tuple[float, int]]]:
    """Return (scale, zero point) of each port where the file has int8 and the manifest says float32; None elsewhere."""
    found: List[Optional[Tuple[float, int]]] = []
    for name, spec in zip(names, specs):
        scale, zero = details[name]["quantization"]
        is_int8 = np.dtype(details[name]["dtype"]) == np.int8 and spec.dtype == "float32"
        found.append((float(scale), int(zero)) if is_int8 else None)
    return found


def _to_int8(array: np.ndarray, scale: float, zero: int) -> np.ndarray:
    return np.clip(np.rint(array / np.float32(scale)) + np.float32(zero), -128, 127).astype(np.int8)


def _to_float(array: np.ndarray, scale: float, zero: int) -> np.ndarray:
    return (array.astype(np.float32) - np.float32(zero)) * np.float32(scale)


def _interpreter_module() -> Tuple[Any, str]:
    """Return the interpreter module of the newest package that is installed, and the package's name."""
    reasons = []
    for module, package in _PACKAGES:
        try:
            return import_module(module), package
        except (ImportError, OSError) as problem:  # OSError: it opens libLiteRt.so by itself, which may need a newer C library
            reasons.append(str(problem))
    hint = "pip install ai-edge-litert (or tflite-runtime on old boards)"
    raise MissingBackendError(f"LiteRT is not installed ({'; '.join(reasons)})", hint=hint)


def _version(package: str, module: Any) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # put there by a vendor's image, not by pip
        return str(getattr(module, "__version__", "unknown"))


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
