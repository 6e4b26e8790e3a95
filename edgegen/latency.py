"""What a layer costs on a target: measured here for local targets, predicted from the profile for all others.

An estimate is additive: the sum of its layers. It drives pruning before the first artifact exists, and every report sets
it against the measured whole.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from edgegen.spec import Precision

_FORMAT = "edgegen.latency-table/1"
_BYTES = {Precision.F32: 4, Precision.F16: 2, Precision.INT8: 1, Precision.INT8_DYNAMIC: 4}


@dataclasses.dataclass(frozen=True)
class LayerWork:
    """One layer with the numbers its latency depends on; spatial sizes are of the output, batch is 1.

    `kind` is "conv", "transposed", "linear" or "norm"; a norm has `inputs` == `outputs` channels.
    """

    kind: str
    inputs: int
    outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    groups: int
    height: int
    width: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates; 0 for a norm."""
        if self.kind == "norm":
            return 0
        taps = math.prod(self.kernel) * self.inputs * self.outputs // self.groups * self.height * self.width
        return taps // math.prod(self.stride) if self.kind == "transposed" else taps

    @property
    def values_moved(self) -> int:
        """Tensor values read and written, weights included."""
        pixels = self.height * self.width
        scale = math.prod(self.stride)
        source = self.inputs * (pixels // scale if self.kind == "transposed" else pixels * scale)
        return source + self.outputs * pixels + math.prod(self.kernel) * self.inputs * self.outputs // self.groups


_TYPICAL = LayerWork("conv", 64, 64, (3, 3), (1, 1), 1, 64, 64)
_RESOLUTION_S = 50e-6  # below it the call costs more than the work, noise decides, and arithmetic tells more than the clock
_IDLE = LayerWork("conv", 1, 1, (1, 1), (1, 1), 1, 8, 8)


class LatencyModel(Protocol):
    """Estimates layers on one target. `label` is "measured" or "predicted" and goes wherever an estimate is shown."""

    @property
    def label(self) -> str:
        """Where estimates come from."""
        ...

    def seconds(self, work: LayerWork) -> float:
        """Return the estimated latency of one layer."""
        ...


def estimate(model: LatencyModel, works: Iterable[LayerWork]) -> float:
    """Return the estimated latency of a generator in seconds: the sum over its layers."""
    return sum(model.seconds(work) for work in works)


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Predicts from a profile: the larger of compute and memory time (Williams et al., 2009). Channels round up to the tile."""

    macs_per_s: float
    bytes_per_s: float
    precision: Precision
    channel_multiple: int
    label: str = "predicted"

    def seconds(self, work: LayerWork) -> float:
        """Return max(MACs / peak, bytes / bandwidth), with channels padded to the multiple that the hardware computes anyway."""
        tile = self.channel_multiple
        padded = dataclasses.replace(work, inputs=-(-work.inputs // tile) * tile, outputs=-(-work.outputs // tile) * tile)
        macs = padded.macs if work.groups == 1 else work.macs
        return max(macs / self.macs_per_s, padded.values_moved * _BYTES[self.precision] / self.bytes_per_s)


class MeasuredTable:
    """Measures each distinct layer once in OpenVINO on this machine and remembers it in a JSON file; resumable.

    Layers are timed in f32, less what a call of an empty network costs: in a whole generator that is paid once.
    For int8 convolutions the time is divided by the ratio that one typical convolution shows on
    this machine, measured once and stored as well.
    """

    label = "measured"

    def __init__(self, path: Path, precision: Precision, *, threads: int = 0) -> None:
        self._path, self._precision, self._threads = path, precision, threads
        self._seconds: dict[str, float] = {}
        self._works: dict[str, LayerWork] = {}
        if path.exists():
            document = json.loads(path.read_text())
            if document.get("format") == _FORMAT:
                self._seconds = document["seconds"]

    def seconds(self, work: LayerWork) -> float:
        """Return the measured seconds of `work`, from the table or by measuring now.

        Never more than a measured layer of the same geometry with at least as many channels: that one could run in its
        place. Noise only ever adds, so this envelope removes it where it would make a narrower layer look slower.
        """
        self._lookup(_key(work), lambda: _measure(work, self._threads, int8=False))
        self._works[_key(work)] = work
        whole = min(self._seconds[key] for key, other in self._works.items() if _covers(other, work))
        net, bound = max(0.0, whole - self._typical(_IDLE)), work.macs / self.macs_per_s()
        base = bound if bound and net < _RESOLUTION_S else max(net, bound)
        if work.kind == "norm" or self._precision is not Precision.INT8:
            return base
        return base / max(1.0, self.int8_speedup())

    def int8_speedup(self) -> float:
        """How many times faster a typical convolution runs in int8 than in f32 here."""
        quantised = self._lookup("int8:" + _key(_TYPICAL), lambda: _measure(_TYPICAL, self._threads, int8=True))
        return self._typical(_TYPICAL) / quantised

    def macs_per_s(self) -> float:
        """What a typical convolution reaches in f32: a layer so small that its call costs more than its work is held to this."""
        return _TYPICAL.macs / self._typical(_TYPICAL)

    def _typical(self, work: LayerWork) -> float:
        return self._lookup(_key(work), lambda: _measure(work, self._threads, int8=False))

    def save(self) -> None:
        """Write the table atomically."""
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"format": _FORMAT, "seconds": self._seconds}, indent=0, sort_keys=True))
        temporary.replace(self._path)

    def _lookup(self, key: str, measure: Callable[[], float]) -> float:
        if key not in self._seconds:
            self._seconds[key] = measure()
            if len(self._seconds) % 50 == 0:
                self.save()
        return self._seconds[key]


def _covers(other: LayerWork, work: LayerWork) -> bool:
    """Whether `other` has the geometry of `work` and at least its channels."""
    same = dataclasses.replace(other, inputs=work.inputs, outputs=work.outputs, groups=work.groups) == work
    return same and other.inputs >= work.inputs and other.outputs >= work.outputs and (other.groups == 1) == (work.groups == 1)


def _key(work: LayerWork) -> str:
    return (
        f"{work.kind} {work.inputs}>{work.outputs} k{work.kernel[0]}x{work.kernel[1]} s{work.stride[0]}x{work.stride[1]} "
        f"g{work.groups} {work.height}x{work.width}"
    )


def _measure(work: LayerWork, threads: int, *, int8: bool) -> float:
    """Compile a model of this one layer and return its fastest timed run: on a shared machine noise only adds."""
    import numpy as np
    import openvino as ov

    config: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads:
        config["INFERENCE_NUM_THREADS"] = threads
    compiled = ov.Core().compile_model(_layer_model(work, int8=int8), "CPU", config)
    request = compiled.create_infer_request()
    data = np.random.default_rng(0).standard_normal(tuple(compiled.input(0).shape)).astype(np.float32)
    samples: list[float] = []
    started = time.perf_counter()
    while len(samples) < 8 or (time.perf_counter() - started < 0.04 and len(samples) < 60):
        begin = time.perf_counter()
        request.infer([data], share_inputs=True)
        samples.append(time.perf_counter() - begin)
    return min(samples[2:])


def _layer_model(work: LayerWork, *, int8: bool):
    """Return an OpenVINO model of the layer, followed by a pooling that keeps the output small and cheap to hand over."""
    import numpy as np
    from openvino import Model, opset13

    across, down = work.stride[1], work.stride[0]
    grow = work.kind == "transposed"
    height = max(1, work.height // down) if grow else work.height * down
    width = max(1, work.width // across) if grow else work.width * across
    shape = [1, work.inputs] if work.kind == "linear" else [1, work.inputs, height, width]
    source = opset13.parameter(shape, np.float32)
    value = opset13.fake_quantize(source, -4.0, 4.0, -4.0, 4.0, 256) if int8 else source
    rng = np.random.default_rng(0)
    if work.kind == "norm":
        node = opset13.relu(opset13.mvn(value, [2, 3], True, 1e-5, "inside_sqrt"))
    elif work.kind == "linear":
        weight = rng.standard_normal((work.outputs, work.inputs)).astype(np.float32)
        node = opset13.matmul(value, opset13.constant(weight), False, True)
    else:
        node = _convolution(work, value, rng, int8=int8)
    if int8:
        node = opset13.fake_quantize(node, -64.0, 64.0, -64.0, 64.0, 256)
    if work.kind != "linear" and min(work.height, work.width) >= 8:
        node = opset13.max_pool(node, [8, 8], [1, 1], [0, 0], [0, 0], [8, 8]).output(0)
    model: Any = Model  # its stub and its implementation disagree about themselves
    return model([node], [source])


def _convolution(work: LayerWork, value, rng, *, int8: bool):
    import numpy as np
    from openvino import opset13

    before = [(k - 1) // 2 for k in work.kernel]
    after = [k - 1 - b for k, b in zip(work.kernel, before, strict=True)]
    if work.kind == "transposed":
        weight = rng.standard_normal((work.inputs, work.outputs // work.groups, *work.kernel)).astype(np.float32) * 0.05
        pads = [max(0, (k - s + 1) // 2) for k, s in zip(work.kernel, work.stride, strict=True)]
        return opset13.convolution_backprop_data(value, opset13.constant(weight), list(work.stride), None, pads, pads, [1, 1])
    weight = rng.standard_normal((work.outputs, work.inputs // work.groups, *work.kernel)).astype(np.float32) * 0.05
    constant = opset13.constant(weight)
    if int8:
        constant = opset13.fake_quantize(constant, -0.25, 0.25, -0.25, 0.25, 255)
    if work.groups > 1:
        shape = [work.groups, work.outputs // work.groups, work.inputs // work.groups, *work.kernel]
        constant = opset13.reshape(constant, opset13.constant(np.array(shape)), False)
        return opset13.group_convolution(value, constant, list(work.stride), before, after, [1, 1])
    return opset13.convolution(value, constant, list(work.stride), before, after, [1, 1])
