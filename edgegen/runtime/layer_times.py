"""How long each layer takes and in which type it runs, by what the back end says of itself. Counting perturbs: the sum is not the
latency. Python >= 3.8, numpy and one back end.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from edgegen.runtime.bundle import open_bundle
from edgegen.runtime.errors import RuntimeBundleError
from edgegen.runtime.files import Opened
from edgegen.runtime.manifest import ArtifactEntry
from edgegen.runtime.runners import read_artifact
from edgegen.runtime.runners.onnxruntime import session_options
from edgegen.runtime.runners.openvino import configuration
from edgegen.runtime.time_bundle import ring_input

_WARMUP_RUNS = 5
_OPENVINO_TYPES = (
    ("I8", "int8"),
    ("U8", "int8"),
    ("FP16", "f16"),
    ("BF16", "f16"),
    ("F16", "f16"),
    ("FP32", "f32"),
    ("F32", "f32"),
)
_ONNX_TYPES = {"int8": "int8", "uint8": "int8", "float16": "f16", "bfloat16": "f16", "float": "f32"}
_BYTES = {"int8": 1, "f16": 2, "f32": 4}


@dataclasses.dataclass(frozen=True)
class LayerTime:
    """One layer: median ns of its runs, "int8", "f16", "f32" or "other", and what it works on where that can be told."""

    name: str
    kind: str
    type: str
    ns: int
    macs: Optional[int] = None
    bytes: Optional[int] = None


def layer_times(path: str, backend: Optional[str], threads: int, runs: int) -> Dict[str, Any]:
    """Return the layers of the artifact in the order in which they run; `layers` is None with a `reason` where nothing tells."""
    with open_bundle(path, backend, threads) as bundle:
        ran, entry = bundle.describe(), bundle.artifact
        tensors = [bundle.tensors(*ring_input(entry.io.inputs, 0, index)) for index in range(4)]
    found: Dict[str, Any] = {"artifact": entry.name, "ran": ran, "runs": runs, "layers": None, "reason": ""}
    with Opened(path) as files:
        contents = read_artifact(files, entry, entry.folder + "/")
    if ran["backend"] == "openvino":
        layers = _profile_openvino(contents, entry, threads, tensors, runs)
    elif ran["backend"] == "onnxruntime":
        layers = _profile_onnxruntime(contents[entry.entry], entry, threads, tensors, runs)
    else:
        return {**found, "reason": f"the Python package of {ran['backend']} does not tell the times of layers"}
    return {**found, "layers": [dataclasses.asdict(layer) for layer in layers]}


def _profile_openvino(
    contents: Dict[str, bytes], entry: ArtifactEntry, threads: int, tensors: List[List[np.ndarray]], runs: int
) -> List[LayerTime]:
    import openvino

    core = openvino.Core()
    model = core.read_model(contents[entry.entry], contents[entry.entry.rsplit(".", 1)[0] + ".bin"])
    config = {**configuration(entry, threads), "PERF_COUNT": "YES"}
    compiled = core.compile_model(model, str(entry.settings.get("device", "CPU")), config)
    request = compiled.create_infer_request()
    taken: Dict[str, List[int]] = {}
    rows: Dict[str, Any] = {}
    for index in range(_WARMUP_RUNS + runs):
        for position, array in enumerate(tensors[index % len(tensors)]):
            request.set_input_tensor(position, openvino.Tensor(array, shared_memory=True))
        request.infer()
        for row in request.get_profiling_info() if index >= _WARMUP_RUNS else ():
            if row.status == openvino.ProfilingInfo.Status.EXECUTED:
                rows[row.node_name] = row
                taken.setdefault(row.node_name, []).append(int(row.real_time.total_seconds() * 1e9))
    macs = {op.get_friendly_name(): _macs(op) for op in model.get_ops()}
    nodes = {op.get_friendly_name(): op for op in compiled.get_runtime_model().get_ordered_ops()}
    ordered = [name for name in nodes if name in taken] + [name for name in taken if name not in nodes]
    return [_openvino_layer(rows[name], nodes.get(name), _median(taken[name]), macs) for name in ordered]


def _openvino_layer(row: Any, node: Any, ns: int, macs: Mapping[str, int]) -> LayerTime:
    kind = next((t for end, t in _OPENVINO_TYPES if row.exec_type.upper().endswith(end)), "other")
    if node is None:
        return LayerTime(row.node_name, row.node_type, kind, ns)
    info = node.get_rt_info()
    originals = str(info["originalLayersNames"].astype(str)).split(",") if "originalLayersNames" in info else []
    values = sum(math.prod(port.get_shape()) for port in [*node.inputs(), *node.outputs()])
    return LayerTime(
        row.node_name, row.node_type, kind, ns, macs=sum(macs.get(name, 0) for name in originals),
        bytes=values * _BYTES[kind] if kind in _BYTES else None,
    )  # fmt: skip


def _macs(op: Any) -> int:
    """Return the multiply-accumulates of one operation; 0 for all that has no weights."""
    kind = op.get_type_name()
    if kind not in ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul"):
        return 0
    given, weights, made = (tuple(port.get_shape()) for port in (op.input(0), op.input(1), op.output(0)))
    if kind == "MatMul":
        transposed = bool(op.get_attributes().get("transpose_a", False))
        return math.prod(made) * given[-2 if transposed and len(given) > 1 else -1]
    taps = math.prod(weights)
    pixels = math.prod(given[2:]) if kind.endswith("BackpropData") else math.prod(made[2:])
    return taps * pixels * made[0]


def _profile_onnxruntime(
    content: bytes, entry: ArtifactEntry, threads: int, tensors: List[List[np.ndarray]], runs: int
) -> List[LayerTime]:
    import onnxruntime

    options = session_options(entry, threads)
    with tempfile.TemporaryDirectory() as folder:
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(folder, "profile")
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        names = [str(name) for name in entry.settings.get("input_names", [])] or [port.name for port in session.get_inputs()]
        for index in range(_WARMUP_RUNS + runs):
            session.run(None, dict(zip(names, tensors[index % len(tensors)])))
        with open(session.end_profiling(), encoding="utf-8") as file:
            return read_onnxruntime_profile(json.load(file), _WARMUP_RUNS)


def read_onnxruntime_profile(events: Sequence[Mapping[str, Any]], warmup: int) -> List[LayerTime]:
    """Return the layers of a profile of onnxruntime (a list of trace events); the first `warmup` runs of each do not count.

    Raises RuntimeBundleError for anything else.
    """
    taken: Dict[str, List[int]] = {}
    first: Dict[str, Mapping[str, Any]] = {}
    try:
        for event in events:
            name = str(event.get("name", ""))
            if event.get("cat") == "Node" and name.endswith("_kernel_time"):
                key = name[: -len("_kernel_time")]
                first.setdefault(key, dict(event.get("args", {})))
                taken.setdefault(key, []).append(int(event["dur"]) * 1000)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as problem:
        raise RuntimeBundleError(f"the profile of onnxruntime cannot be understood: {problem}") from problem
    layers = []
    for name, args in first.items():
        samples = taken[name][warmup:] or taken[name]
        layers.append(LayerTime(name, str(args.get("op_name", "?")), _onnx_type(args), _median(samples)))
    return layers


def _onnx_type(args: Mapping[str, Any]) -> str:
    """The type of the first input: integer kernels read int8 or uint8."""
    ports = args.get("input_type_shape") or args.get("output_type_shape")
    ports = ports if isinstance(ports, list) else []
    kinds = [_ONNX_TYPES.get(str(name), "other") for port in ports if isinstance(port, dict) for name in port]
    return kinds[0] if kinds else "other"


def _median(samples: Sequence[int]) -> int:
    return sorted(samples)[(len(samples) - 1) // 2]
