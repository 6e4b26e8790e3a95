"""Export for onnxruntime: a plain float32 ONNX file, its float16 form with casts, or the same with int8 Q/DQ nodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.artifact import Artifact, describe_artifact
from edgegen.export.int8_search import choose_int8
from edgegen.export.onnx_graph import feeds, io_names, operation_counts, require_calibration, to_bytes, to_onnx
from edgegen.export.onnx_half import scale_before_norms, to_half
from edgegen.export.onnx_ranges import peaks
from edgegen.spec import Backend, Precision
from edgegen.support import require_offered

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from edgegen.generator import Generator
    from edgegen.ranges import LearnedRange

ENTRY = "model.onnx"


def export_onnxruntime(
    generator: Generator,
    precisions: tuple[Precision, ...],
    calibration: list[tuple[np.ndarray, ...]],
    out_dir: Path,
    learned: Sequence[LearnedRange] = (),
) -> list[Artifact]:
    """Write model.onnx into `out_dir`/<precision>/ and return the artifacts in the order asked for.

    `calibration` holds inputs in `generator.spec` layout with batch axis 1: int8 sets its scales by them, float16 finds the
    tensors that would overflow. Raises ExportError naming the node that ONNX cannot express.
    """
    require_offered(Backend.ONNXRUNTIME, precisions)
    for precision in precisions:
        if precision is not Precision.F32:
            require_calibration(precision, calibration)
    float_model = to_onnx(generator)
    inputs, outputs = io_names(generator)
    artifacts = []
    for precision in precisions:
        model, facts = _in(precision, float_model, calibration, learned)
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


def _in(
    precision: Precision,
    model: onnx.ModelProto,
    calibration: list[tuple[np.ndarray, ...]],
    learned: Sequence[LearnedRange],
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Return the float32 `model` in `precision` and facts worth reporting."""
    if precision is Precision.F32:
        return model, {}
    samples = feeds(model, calibration)
    reached = peaks(model, samples)
    if precision is Precision.F16:
        half, pinned = to_half(*scale_before_norms(model, reached))
        return half, {"kept_f32": pinned}
    choice = choose_int8(model, reached, samples, learned)
    return choice.model, {
        "ranges": choice.ranges, "calibration_psnr_db": choice.psnr_db, "kept_float": list(choice.kept_float)
    }  # fmt: skip
