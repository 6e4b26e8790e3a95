"""What an OpenVINO graph loses of the picture, and what each of its layers takes: the two sides of every int8 choice."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgegen.pictures import Arrays, unit_picture
from edgegen.runtime.runners.openvino import layer_types
from edgegen.spec import ComponentSpec

_PROFILED_RUNS = 6
_ONE_THREAD = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": "1", "ENABLE_CPU_PINNING": "NO"}


class Judge:
    """Compares graphs with the float `graph` on a few inputs, as eyes see the pictures: cut off at black and white.

    The mean squared error of independent roundings adds up (on a style network of 37 int8 operations the sum of each alone told
    27.4 dB and all together gave 27.1), so single operations can be judged one by one.
    """

    def __init__(self, graph: Any, spec: ComponentSpec, inputs: Sequence[Arrays]) -> None:
        self._spec, self._inputs = spec, inputs
        self._truth = self._pictures(graph, "f32")

    def error(self, graph: Any, arithmetic: str = "f32") -> float:
        """Return the mean squared error of the pictures, their values in [0, 1]; infinite where any of them is not finite."""
        errors = [
            float(np.mean(np.square(made - truth)))
            for made, truth in zip(self._pictures(graph, arithmetic), self._truth, strict=True)
        ]
        return float(np.mean(errors))

    def _pictures(self, graph: Any, arithmetic: str) -> list[np.ndarray]:
        request = compiled(graph, arithmetic).create_infer_request()
        output = self._spec.outputs[0]
        found = []
        for arrays in self._inputs:
            raw = request.infer(list(arrays))[0]
            finite = raw.dtype.kind != "f" or bool(np.isfinite(raw).all())
            found.append(unit_picture(raw, output).astype(np.float64) if finite else np.full((1, 1, 1), np.inf))
        return found


def decibels(error: float) -> float:
    """Return the PSNR in dB of a mean squared error of values in [0, 1]; 100 at most."""
    return 100.0 if error <= 1e-10 else -10.0 * math.log10(error)


def compiled(graph: Any, arithmetic: str, **settings: str) -> Any:
    """Return `graph` compiled for one thread of this machine's CPU."""
    import openvino as ov

    config = {**_ONE_THREAD, "INFERENCE_PRECISION_HINT": arithmetic, **settings}
    return ov.Core().compile_model(graph, "CPU", config)


@dataclasses.dataclass(frozen=True)
class LayerRun:
    """What one operation of a graph came to: the layer that runs it takes `seconds` and computes in `type` ("int8", "f32")."""

    seconds: float
    type: str


def layer_runs(graph: Any, inputs: Arrays, *, arithmetic: str, whole_s: float) -> dict[str, LayerRun]:
    """Return how each operation of `graph` runs, by name; operations that run as one layer share its time.

    A profile counts seconds on the wall, which other processes share: they are scaled to add up to `whole_s`.
    """
    model = compiled(graph, arithmetic, PERF_COUNT="YES")
    request = model.create_infer_request()
    taken: dict[str, float] = {}
    for _ in range(_PROFILED_RUNS):
        request.infer(list(inputs))
        for layer in request.profiling_info:
            seconds = layer.real_time.total_seconds()
            taken[layer.node_name] = min(seconds, taken.get(layer.node_name, math.inf))
    scale = whole_s / (sum(taken.values()) or 1.0)
    return {name: LayerRun(taken.get(layer, 0.0) * scale, kind) for name, (layer, kind) in _run_by(model).items()}


def _run_by(model: Any) -> dict[str, tuple[str, str]]:
    """Return, by the name of every operation of the graph it was compiled from, the layer that runs it and the type of that."""
    types = layer_types(model)
    found: dict[str, tuple[str, str]] = {}
    for layer in model.get_runtime_model().get_ops():
        info, name = layer.get_rt_info(), str(layer.get_friendly_name())
        if name in types:
            originals = str(info["originalLayersNames"].astype(str)).split(",") if "originalLayersNames" in info else []
            found.update(dict.fromkeys((name, *originals), (name, types[name][1])))
    return found
