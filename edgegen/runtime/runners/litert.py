"""LiteRT: .tflite files on phones, boards and PCs. Python >= 3.8, ai-edge-litert, or tflite-runtime on old boards."""

from __future__ import annotations

import os
import time
from importlib import import_module
from typing import Any, Dict, List, Tuple

import numpy as np

from edgegen.runtime.errors import MissingBackendError
from edgegen.runtime.manifest import ArtifactEntry

_PACKAGES = (("ai_edge_litert.interpreter", "ai-edge-litert"), ("tflite_runtime.interpreter", "tflite-runtime"))


class LiteRtRunner:
    """A .tflite with XNNPACK on the CPU. Settings: signature, input_names, output_names; without them, tensors in file order.

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

    def run(self, inputs: List[np.ndarray]) -> List[np.ndarray]:
        """Return copies of the outputs."""
        if self._signature is not None:
            given = self._signature(**dict(zip(self._input_names, inputs)))
            return [given[name] for name in self._output_names]
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
