"""The time of every layer, in which types they ran, and how near they come to what the machine can do."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgegen.bench.children import call_runtime
from edgegen.bench.plan import BenchPlan
from edgegen.bundle import bundle_digest, bundle_manifest, host_errors
from edgegen.device import LocalTransport, Transport, leased, make_ready, place_bundle
from edgegen.errors import BundleError, DeviceError, TargetError
from edgegen.runtime.errors import RuntimeBundleError
from edgegen.runtime.layer_times import LayerTime
from edgegen.runtime.strict_json import parse
from edgegen.spec import Precision
from edgegen.target import load_target

TYPES = ("int8", "f16", "f32", "other")
_RUNS = 30
_MAX_BYTES = 64 << 20
_PEAK_CHANNELS, _PEAK_SIDE = 256, 64
_STREAM_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class LayerProfile:
    """The layers in the order in which they ran; none with a `reason` where the back end does not tell."""

    artifact: str
    backend: str
    layers: tuple[LayerTime, ...]
    reason: str = ""

    @property
    def total_ns(self) -> int:
        """The sum over layers. It is not the latency: counting costs time, and gaps between layers are not in it."""
        return sum(layer.ns for layer in self.layers)

    def longest(self, count: int) -> list[LayerTime]:
        """Return the layers that take longest, longest first."""
        return sorted(self.layers, key=lambda layer: -layer.ns)[:count]

    def shares(self) -> dict[str, tuple[int, float]]:
        """Return per type how many layers ran in it and which part of the time they took."""
        total = self.total_ns or 1
        found = {}
        for name in TYPES:
            of_type = [layer.ns for layer in self.layers if layer.type == name]
            found[name] = (len(of_type), sum(of_type) / total)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the plain JSON object."""
        shares = {name: {"layers": count, "time": round(part, 4)} for name, (count, part) in self.shares().items()}
        return {**dataclasses.asdict(self), "total_ns": self.total_ns, "shares": shares}


@dataclasses.dataclass(frozen=True)
class Peaks:
    """What a machine reaches at best: multiply-accumulates a second by type, and bytes a second from memory.

    `source` is "measured" or "profile".
    """

    macs_per_s: dict[str, float]
    bytes_per_s: float
    source: str


def profile_layers(bundle: Path, plan: BenchPlan, *, transport: Transport | None = None) -> LayerProfile:
    """Return the layers of the bundle's artifact as they run on the device. Raises what `measure_bundle` raises."""
    manifest = bundle_manifest(bundle)
    with host_errors():
        entry = manifest.artifact(plan.backend)
    device = transport or LocalTransport()
    with leased(device):
        board = make_ready(device)
        place = place_bundle(board, bundle, bundle_digest(bundle))
        options = (*plan.common_options(entry.name), "--runs", str(_RUNS))
        found = call_runtime(board, "layers", place, *options, seconds=plan.child_limit_s)
    try:
        layers = tuple(LayerTime(**layer) for layer in found["layers"] or ())
        return LayerProfile(found["artifact"], found["ran"]["backend"], layers, found["reason"])
    except (KeyError, TypeError, AttributeError) as problem:
        raise DeviceError(f"what {board.name} printed are no layers ({problem})", hint="is another edgegen there?") from problem


def read_trtexec_profile(path: Path) -> LayerProfile:
    """Return the layers of a file that `trtexec --exportProfile` wrote. It does not tell types: all are "other".

    Raises BundleError for anything else.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise BundleError(f"{path} is larger than {_MAX_BYTES >> 20} MiB")
        rows = parse(b'{"rows": ' + content + b"}", str(path))["rows"]
    except OSError as problem:
        raise BundleError(f"{path} cannot be read: {problem.strerror}") from problem
    except RuntimeBundleError as problem:
        raise BundleError(problem.message, hint="trtexec --exportProfile=FILE writes such a file") from problem
    layers = [_trtexec_layer(row) for row in rows if isinstance(row, dict) and "name" in row] if isinstance(rows, list) else []
    known = tuple(layer for layer in layers if layer is not None)
    if not known or len(known) != len(layers):
        raise BundleError(f"{path} is no profile of trtexec", hint="trtexec --exportProfile=FILE writes such a file")
    return LayerProfile(path.name, "tensorrt", known)


def _trtexec_layer(row: dict[str, Any]) -> LayerTime | None:
    took = row.get("medianMs", row.get("averageMs"))  # the median is there from TensorRT 8.4 on
    if isinstance(took, bool) or not isinstance(took, (int, float)) or not isinstance(row["name"], str):
        return None
    if not math.isfinite(took) or not 0 <= took < 1e9:
        return None
    return LayerTime(row["name"], row["name"].split(" ")[0].split("_")[0], "other", round(took * 1e6))


def measured_peaks(threads: int) -> Peaks:
    """Return what this machine reaches: OpenVINO's best convolution by type, and copying in memory. Takes a second or two."""
    from edgegen.latency.clock import Timed, fastest_seconds
    from edgegen.latency.openvino_snippets import layer_model
    from edgegen.latency.work import LayerWork

    side, channels = _PEAK_SIDE, _PEAK_CHANNELS
    work = LayerWork("conv", channels, channels, (3, 3), (1, 1), 1, side, side, fused=("relu",), to_int8=True)
    models = [Timed(layer_model(work, int8=int8), cold=False) for int8 in (True, False)]
    int8_s, f32_s = fastest_seconds(models, threads)
    return Peaks({"int8": work.macs / int8_s, "f32": work.macs / f32_s}, _copied_bytes_per_s(), "measured")


def profile_peaks(target_id: str) -> Peaks | None:
    """Return what the profile of a target says that it reaches; None where it does not tell."""
    try:
        target = load_target(target_id)
    except TargetError:  # a board that nobody recognised
        return None
    found = {name: target.macs_per_s(Precision(name)) for name in ("int8", "f16", "f32")}
    macs_per_s, moved = {name: peak for name, peak in found.items() if peak is not None}, target.memory_bytes_per_s
    return Peaks(macs_per_s, moved, "profile") if macs_per_s and moved is not None else None


def layer_facts(profile: LayerProfile, threads: int, target_id: str = "host") -> dict[str, Any]:
    """Return layers, points of the roofline and peaks as JSON, for reports: the peaks are measured on this machine, and those of
    the profile for another target. Without layers there are none.
    """
    points = roofline_points(profile.layers)
    peaks = None if not points else measured_peaks(threads) if target_id == "host" else profile_peaks(target_id)
    return {"profile": profile.to_json(), "points": points, "peaks": None if peaks is None else dataclasses.asdict(peaks)}


def _copied_bytes_per_s() -> float:
    import time

    import numpy as np

    source, target = (np.ones(_STREAM_BYTES, np.uint8) for _ in range(2))
    best = math.inf
    for _ in range(8):
        begin = time.perf_counter_ns()
        np.copyto(target, source)
        best = min(best, (time.perf_counter_ns() - begin) / 1e9)
    return 2 * _STREAM_BYTES / best


def roofline_points(layers: Sequence[LayerTime]) -> list[tuple[str, str, float, float]]:
    """Return (name, type, MACs per byte, MACs per second) of every layer whose work is known and that took time."""
    return [
        (layer.name, layer.type, layer.macs / layer.bytes, layer.macs / (layer.ns / 1e9))
        for layer in layers
        if layer.macs and layer.bytes and layer.ns > 0
    ]
