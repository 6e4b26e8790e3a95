"""Export for onnxruntime: a plain float32 ONNX file, or the same with int8 Q/DQ nodes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgegen.artifact import Artifact, describe_artifact
from edgegen.errors import ExportError
from edgegen.export.int8_search import choose_int8
from edgegen.export.onnx_graph import feeds, io_names, operation_counts, require_calibration, to_bytes, to_onnx
from edgegen.export.onnx_ranges import peaks
from edgegen.spec import Backend, Precision

if TYPE_CHECKING:
    import numpy as np

    from edgegen.generator import Generator

ENTRY = "model.onnx"


def export_onnxruntime(
    generator: Generator, precisions: tuple[Precision, ...], calibration: list[tuple[np.ndarray, ...]], out_dir: Path
) -> list[Artifact]:
    """Write model.onnx into `out_dir`/<precision>/ for f32 and int8 and return the artifacts in the order asked for.

    `calibration` holds inputs in `generator.spec` layout with batch axis 1; only int8 reads it. Raises ExportError for other
    precisions, and naming the node that ONNX cannot express.
    """
    for precision in precisions:
        if precision not in (Precision.F32, Precision.INT8):
            raise ExportError(f"onnxruntime on a CPU gains nothing from {precision.value}", hint="use f32 or int8")
        if precision is Precision.INT8:
            require_calibration(precision, calibration)
    float_model = to_onnx(generator)
    inputs, outputs = io_names(generator)
    artifacts = []
    for precision in precisions:
        model, facts = float_model, {}
        if precision is Precision.INT8:
            samples = feeds(float_model, calibration)
            choice = choose_int8(float_model, peaks(float_model, samples), samples)
            model = choice.model
            facts = {"ranges": choice.ranges, "calibration_psnr_db": choice.psnr_db, "kept_float": list(choice.kept_float)}
        folder = out_dir / precision.value
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ENTRY).write_bytes(to_bytes(model))
        artifacts.append(
            describe_artifact(
                folder,
                backend=Backend.ONNXRUNTIME,
                precision=precision,
                entry=ENTRY,
                io=generator.spec,
                settings={"input_names": inputs, "output_names": outputs},
                facts={**facts, "operations": operation_counts(model)},
            )
        )
    return artifacts
