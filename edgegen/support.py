"""The one table of exports: what edgegen writes for which back end in which precision, and how far that was seen to work.

`--help`, docs/exports.md, the checks of profiles, recipes and exporters, and `edgegen bench --all` read it; nothing repeats it.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator

from edgegen.errors import ExportError, nearest
from edgegen.spec import Backend, Precision


class Status(str, enum.Enum):
    """How far an export was seen to work."""

    RUNS = "runs here"
    VERIFIED = "verified here by onnxruntime, not yet run by its back end"
    ELSEWHERE = "runs on x86, not yet run on the device"
    REFUSED = "refused"


@dataclasses.dataclass(frozen=True)
class Export:
    """One back end in one precision: what its file holds, or why there is none."""

    backend: Backend
    precision: Precision
    status: Status
    holds: str = ""
    reason: str = ""
    hint: str = ""


@dataclasses.dataclass(frozen=True)
class Needs:
    """What export and verification for a back end import, and the extra of edgegen that brings it ("" for none)."""

    extra: str
    modules: tuple[str, ...]


NEEDS = {
    Backend.OPENVINO: Needs("", ("openvino", "nncf")),
    Backend.LITERT: Needs("tflite", ("litert_torch", "ai_edge_quantizer", "ai_edge_litert")),
    Backend.TENSORRT: Needs("onnx", ("onnx", "onnxscript", "onnxruntime")),
    Backend.ONNXRUNTIME: Needs("onnx", ("onnx", "onnxscript", "onnxruntime")),
}
TITLES = {
    Backend.OPENVINO: "OpenVINO",
    Backend.LITERT: "LiteRT",
    Backend.TENSORRT: "TensorRT",
    Backend.ONNXRUNTIME: "onnxruntime",
}


def _runs(backend: Backend, precision: Precision, holds: str) -> Export:
    return Export(backend, precision, Status.RUNS, holds)


def _verified(precision: Precision, holds: str) -> Export:
    return Export(Backend.TENSORRT, precision, Status.VERIFIED, holds)


def _refused(backend: Backend, precision: Precision, reason: str, hint: str) -> Export:
    return Export(backend, precision, Status.REFUSED, "", reason, hint)


EXPORTS: tuple[Export, ...] = (
    _runs(Backend.OPENVINO, Precision.F32, "IR, computed in float32"),
    _runs(Backend.OPENVINO, Precision.F16, "IR with float16 weights; computed in float32 on CPUs, in float16 on GPUs and NPUs"),
    _runs(Backend.OPENVINO, Precision.INT8, "IR quantised by NNCF on the OpenVINO graph"),
    _refused(Backend.OPENVINO, Precision.INT8_DYNAMIC, "OpenVINO has no dynamic int8 for convolutions", "use int8"),
    _refused(Backend.OPENVINO, Precision.INT8_FULL, "OpenVINO takes and gives float pictures", "use int8"),
    _runs(Backend.LITERT, Precision.F32, ".tflite, computed in float32"),
    _runs(Backend.LITERT, Precision.F16, ".tflite with float16 weights; computed in float32 on CPUs, in float16 on GPUs"),
    _runs(Backend.LITERT, Precision.INT8, ".tflite with int8 layers, float32 between and behind norms and at both ends"),
    _runs(Backend.LITERT, Precision.INT8_DYNAMIC, ".tflite with int8 weights, ranges of activations found in each run"),
    _runs(Backend.LITERT, Precision.INT8_FULL, ".tflite with every tensor in int8, inputs and outputs too: what NPUs take"),
    _verified(Precision.F32, "strongly typed ONNX in float32, and build_engine.py"),
    _verified(Precision.F16, "strongly typed ONNX in float16 with casts, and build_engine.py"),
    _verified(Precision.INT8, "strongly typed ONNX with int8 Q/DQ nodes, the rest in float16, and build_engine.py"),
    _refused(Backend.TENSORRT, Precision.INT8_DYNAMIC, "TensorRT refuses dynamic int8 (DynamicQuantizeLinear)", "use int8"),
    _refused(Backend.TENSORRT, Precision.INT8_FULL, "TensorRT keeps norms and activations in float16", "use int8"),
    _runs(Backend.ONNXRUNTIME, Precision.F32, "ONNX in float32"),
    _runs(Backend.ONNXRUNTIME, Precision.F16, "ONNX in float16 with casts: half the size; CPUs compute it in float32"),
    _runs(Backend.ONNXRUNTIME, Precision.INT8, "ONNX with int8 Q/DQ nodes from onnxruntime's own quantiser"),
    _refused(
        Backend.ONNXRUNTIME, Precision.INT8_DYNAMIC, "onnxruntime has no dynamic int8 for transposed convolutions", "use int8"
    ),
    _refused(Backend.ONNXRUNTIME, Precision.INT8_FULL, "onnxruntime takes and gives float pictures", "use int8"),
)  # fmt: skip


def export_of(backend: Backend, precision: Precision) -> Export:
    """Return the row of a back end and a precision; there is one for every pair."""
    return next(row for row in EXPORTS if (row.backend, row.precision) == (backend, precision))


def status_on(row: Export, *, local: bool) -> Status:
    """Return how far an export was seen to work on a target; `local`: that target is this machine."""
    return row.status if local or row.status is not Status.RUNS else Status.ELSEWHERE


def offered(backend: Backend) -> tuple[Precision, ...]:
    """Return the precisions in which edgegen writes files for `backend`."""
    return tuple(row.precision for row in EXPORTS if row.backend is backend and row.status is not Status.REFUSED)


def require_offered(backend: Backend, precisions: tuple[Precision, ...]) -> None:
    """Raise ExportError with the reason for the first precision that `backend` has no export in."""
    for precision in precisions:
        row = export_of(backend, precision)
        if row.status is Status.REFUSED:
            raise ExportError(f"{backend.value}/{precision.value}: {row.reason}", hint=row.hint)


def parse_backend(name: str) -> Backend:
    """Return the back end called `name`; else ExportError with the nearest names."""
    known = tuple(backend.value for backend in Backend)
    if name not in known:
        raise ExportError(f"back end '{name}' is unknown", hint=nearest(name, known))
    return Backend(name)


def runs_here() -> tuple[Export, ...]:
    """Return the exports that this machine can write and time: their status says so, and what they need is installed."""
    return tuple(row for row in EXPORTS if row.status is Status.RUNS and not missing_modules(row.backend))


def missing_modules(backend: Backend) -> tuple[str, ...]:
    """Return the modules that `backend` needs and that are not installed."""
    return tuple(module for module in NEEDS[backend].modules if not _is_installed(module))


def _is_installed(module: str) -> bool:
    from importlib.util import find_spec

    try:
        return find_spec(module) is not None
    except ImportError:  # an import hook that refuses
        return False


def option_help() -> str:
    """Return what `--help` says about choosing a back end."""
    said = "; ".join(f"{b.value} ({', '.join(p.value for p in offered(b))})" for b in Backend)
    return f"Another back end of the target than its best: {said}."


def as_markdown() -> Iterator[str]:
    """Yield the lines of the table as docs/exports.md shows it."""
    yield "| back end | precision | status | what is written, or why nothing is |"
    yield "|---|---|---|---|"
    for row in EXPORTS:
        yield f"| {TITLES[row.backend]} | {row.precision.value} | {row.status.value} | {row.holds or row.reason} |"
