"""OpenVINO: Intel and ARM CPUs, Intel GPUs and NPUs. Python >= 3.8, openvino >= 2023.1."""

from __future__ import annotations

import time
from typing import Any, Dict, List, Tuple

import numpy as np

from edgegen.runtime.errors import MissingBackendError, RuntimeBundleError
from edgegen.runtime.manifest import ArtifactEntry

_BOOKKEEPING = ("Input", "Output", "Const", "Reorder", "Reshape")  # layers that move values and compute none
_TYPES = {"u8": "int8", "i8": "int8", "f16": "f16", "bf16": "bf16", "f32": "f32"}


class OpenVinoRunner:
    """An IR compiled for latency. Settings: inference_precision ("f32", "f16", "bf16") and device ("CPU", "GPU", "NPU").

    Runs on the device that the settings name and on no other: a slower one in its place would be a wrong measurement.
    """

    def __init__(self, contents: Dict[str, bytes], entry: ArtifactEntry, threads: int) -> None:
        try:
            import openvino
        except ImportError as problem:
            raise MissingBackendError(f"openvino is not installed ({problem})", hint="pip install openvino") from problem
        weights = entry.entry.rsplit(".", 1)[0] + ".bin"
        if weights not in contents:
            raise RuntimeBundleError(f"{entry.name}: {weights} is not one of the artifact's files")
        self._version = str(openvino.__version__)
        self._device = str(entry.settings.get("device", "CPU"))
        self._config = configuration(entry, threads)
        core = openvino.Core()
        _require_device(core, self._device, entry.name)
        begin = time.perf_counter_ns()
        compiled = core.compile_model(core.read_model(contents[entry.entry], contents[weights]), self._device, self._config)
        self._compile_ns = time.perf_counter_ns() - begin
        self._tensor = openvino.Tensor
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        self._output_count = len(compiled.outputs)

    def run(self, inputs: List[np.ndarray]) -> List[np.ndarray]:
        """Return copies of the outputs; inputs are read in place."""
        for index, array in enumerate(inputs):
            self._request.set_input_tensor(index, self._tensor(array, shared_memory=True))
        self._request.infer()
        return [self._request.get_output_tensor(index).data.copy() for index in range(self._output_count)]

    def describe(self) -> Dict[str, Any]:
        """Add `execution_types`: how many computing layers run in which type, by what the compiled graph says of itself.

        An int8 file may run in float without a word; this is where it shows. `shares` are the same as parts of 1.
        """
        types = self._execution_types()
        return {
            "backend": "openvino", "version": self._version, "device": self._property("FULL_DEVICE_NAME"),
            "threads": int(self._compiled.get_property("INFERENCE_NUM_THREADS")) if self._device == "CPU" else None,
            "config": dict(self._config), "compile_ns": self._compile_ns, "execution_types": types,
            "shares": {name: round(count / sum(types.values()), 4) for name, count in types.items()},
        }  # fmt: skip

    def close(self) -> None:
        """Drop the compiled graph."""
        del self._request, self._compiled

    def _property(self, name: str) -> str:
        import openvino

        return str(openvino.Core().get_property(self._device, name)).strip()

    def _execution_types(self) -> Dict[str, int]:
        counts: Dict[str, int] = {}
        for _, name in layer_types(self._compiled).values():
            counts[name] = counts.get(name, 0) + 1
        return counts


def configuration(entry: ArtifactEntry, threads: int) -> Dict[str, str]:
    """Return the properties that the artifact is compiled with."""
    config = {"PERFORMANCE_HINT": "LATENCY"}
    if "inference_precision" in entry.settings:
        config["INFERENCE_PRECISION_HINT"] = str(entry.settings["inference_precision"])
    if threads and entry.settings.get("device", "CPU") == "CPU":
        config["INFERENCE_NUM_THREADS"] = str(threads)
    return config


def layer_types(compiled: Any) -> Dict[str, Tuple[str, str]]:
    """Return the kind of every computing layer of a compiled graph and the type it runs in ("int8", "f32"), by layer name."""
    found = {}
    for layer in compiled.get_runtime_model().get_ops():
        info = layer.get_rt_info()
        kind, ran, primitive = (_text(info, key) for key in ("layerType", "runtimePrecision", "primitiveType"))
        if kind not in _BOOKKEEPING:
            int8 = primitive.lower().endswith("_i8")
            found[str(layer.get_friendly_name())] = (kind, "int8" if int8 else _TYPES.get(ran, ran))
    return found


def _require_device(core: Any, device: str, name: str) -> None:
    """Raise MissingBackendError unless `core` has `device`; "GPU" is there if one of several ("GPU.0") is."""
    there = [str(found) for found in core.available_devices]
    if device not in there and not any(found.startswith(device + ".") for found in there):
        raise MissingBackendError(
            f"{name} is for the {device} and OpenVINO finds none here (it finds {', '.join(there) or 'nothing'})",
            hint=f"install Intel's {device} driver, or take a bundle made for the CPU",
        )


def _text(info: Any, key: str) -> str:
    try:
        value = info[key]
    except (KeyError, RuntimeError):
        return ""
    return str(value.astype(str)) if hasattr(value, "astype") else str(value)
