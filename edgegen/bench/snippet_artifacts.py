"""Snippets as artifacts of a back end, by the exports that make those of generators: what tables of devices are measured with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.artifact import Artifact, describe_artifact
from edgegen.errors import RecipeError
from edgegen.latency.snippets import Part, Snippet
from edgegen.spec import Backend, ComponentSpec, Kind, Layout, Precision, TensorSpec

if TYPE_CHECKING:
    import numpy as np

    from edgegen.generator import Generator

TIMED_IN = (Backend.OPENVINO, Backend.LITERT, Backend.ONNXRUNTIME)
"""The back ends whose artifacts can be made on the host and timed alone."""
_SAMPLES = 2  # inputs that set int8 ranges: what the values are does not change the time


def require_timed(backend: Backend) -> None:
    """Raise RecipeError for a back end that layers are not timed in."""
    if backend not in TIMED_IN:
        raise RecipeError(
            f"layers are not timed one by one in {backend.value}: its engines are built on the board, and fuse across layers",
            hint="its latency is predicted from the profile; --backend onnxruntime measures another back end of the board",
        )


def snippet_artifact(snippet: Snippet, backend: Backend, folder: Path) -> Artifact:
    """Write the model of `snippet` for `backend` into `folder`, which exists, and return it.

    Raises MissingExtraError without the packages that exports for it need, RecipeError for a back end that is not `TIMED_IN`.
    """
    require_timed(backend)
    match backend:
        case Backend.OPENVINO:
            return _openvino(snippet.part, folder)
        case Backend.LITERT:
            return _litert(snippet.part, folder)
        case _:
            return _onnxruntime(snippet.part, folder)


def _openvino(part: Part, folder: Path) -> Artifact:
    import openvino

    from edgegen.latency.openvino_snippets import openvino_model

    model = openvino_model(part)
    openvino.save_model(model, folder / "snippet.xml", compress_to_fp16=False)
    io = ComponentSpec("snippet", tuple(map(_port, model.inputs)), tuple(map(_port, model.outputs)))
    return describe_artifact(
        folder, backend=Backend.OPENVINO, precision=Precision.F32, entry="snippet.xml", io=io,
        settings={"inference_precision": "f32"}, facts={},
    )  # fmt: skip


def _port(port: Any) -> TensorSpec:
    shape = tuple(int(size) for size in port.shape)[1:]
    return TensorSpec("value", Kind.NOISE, shape, Layout.CHW if len(shape) == 3 else Layout.D)


def _litert(part: Part, folder: Path) -> Artifact:
    from edgegen.export.tflite import export_litert

    generator = _lowered(part, Backend.LITERT)
    (made,) = export_litert(generator, (_precision(part),), _samples(generator), folder)
    return made


def _onnxruntime(part: Part, folder: Path) -> Artifact:
    from edgegen.export.onnx_graph import feeds, io_names, to_bytes, to_onnx
    from edgegen.export.onnxruntime_int8 import int8_models

    generator = _lowered(part, Backend.ONNXRUNTIME)
    model = to_onnx(generator)
    if part.int8:
        model = int8_models({"": model}, feeds(model, _samples(generator)))[0].model  # the first form has every layer in int8
    (folder / "snippet.onnx").write_bytes(to_bytes(model))
    inputs, outputs = io_names(generator)
    return describe_artifact(
        folder, backend=Backend.ONNXRUNTIME, precision=_precision(part), entry="snippet.onnx", io=generator.spec,
        settings={"input_names": inputs, "output_names": outputs}, facts={},
    )  # fmt: skip


def _precision(part: Part) -> Precision:
    return Precision.INT8 if part.int8 else Precision.F32


def _lowered(part: Part, backend: Backend) -> Generator:
    from edgegen.bench.snippet_generator import snippet_generator
    from edgegen.rewrite import lower

    return lower(snippet_generator(part), backend)


def _samples(generator: Generator) -> list[tuple[np.ndarray, ...]]:
    from edgegen.graph import example_inputs

    return [tuple(x.numpy() for x in example_inputs(generator.spec, seed=seed)) for seed in range(_SAMPLES)]
