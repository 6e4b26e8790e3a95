"""onnxruntime on the CPU: the ONNX artifacts, and the verification of TensorRT's. Python >= 3.8."""

from __future__ import annotations

import time
from typing import Any, Dict, List, Sequence

import numpy as np

from edgegen.runtime.errors import MissingBackendError, RuntimeBundleError
from edgegen.runtime.manifest import ArtifactEntry

# Before, the float16 QuantizeLinear of the CPU cuts digits off instead of rounding: 27 dB where there are 34. Fixed by
# https://github.com/microsoft/onnxruntime/pull/32452; 1.29.0 was seen to cut off, 1.30.0 to round.
_ROUNDS_FLOAT16 = (1, 30)


class OnnxRunner:
    """An ONNX file without external data. Settings: input_names and output_names; without them, the order of the file.

    A file for TensorRT (settings verify_with) is computed with its Q/DQ nodes as written, in float: fused int8 kernels would
    saturate in 16 bits on some processors, which says nothing about TensorRT.
    """

    def __init__(self, contents: Dict[str, bytes], entry: ArtifactEntry, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError as problem:
            raise MissingBackendError(f"onnxruntime is not installed ({problem})", hint="pip install onnxruntime") from problem
        self._version = str(onnxruntime.__version__)
        _require_rounding(entry, self._version)
        self._threads = threads
        self._stands_in_for = entry.backend if entry.backend != "onnxruntime" else None
        options = session_options(entry, threads)
        begin = time.perf_counter_ns()
        self._session = onnxruntime.InferenceSession(contents[entry.entry], options, providers=["CPUExecutionProvider"])
        self._compile_ns = time.perf_counter_ns() - begin
        self._inputs = _names(entry, "input_names", self._session.get_inputs())
        self._outputs = _names(entry, "output_names", self._session.get_outputs())

    def run(self, inputs: List[np.ndarray]) -> List[np.ndarray]:
        """Return new arrays."""
        return [np.asarray(array) for array in self._session.run(self._outputs, dict(zip(self._inputs, inputs)))]

    def describe(self) -> Dict[str, Any]:
        """Say so in `stands_in_for` if the file was made for another back end: its times then mean nothing."""
        return {
            "backend": "onnxruntime", "version": self._version, "device": "CPU", "threads": self._threads or None,
            "compile_ns": self._compile_ns, "execution_types": None, "stands_in_for": self._stands_in_for,
        }  # fmt: skip

    def close(self) -> None:
        """Drop the session."""
        del self._session


def _require_rounding(entry: ArtifactEntry, version: str) -> None:
    """Raise RuntimeBundleError where this version would give other pictures of a float16 file with Q/DQ than TensorRT."""
    found = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if "verify_with" in entry.settings and entry.precision == "int8" and found < _ROUNDS_FLOAT16:
        raise RuntimeBundleError(
            f"{entry.name}: onnxruntime {version} cannot stand in for TensorRT: it cuts float16 off where int8 rounds",
            hint="use onnxruntime 1.30 or newer (Python 3.11), or TensorRT",
        )


def session_options(entry: ArtifactEntry, threads: int) -> Any:
    """Return the options that the artifact's session is made with."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what matters comes as an exception
    if "verify_with" in entry.settings:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def _names(entry: ArtifactEntry, key: str, ports: Sequence[Any]) -> List[str]:
    given = entry.settings.get(key)
    return [str(name) for name in given] if given else [port.name for port in ports]
