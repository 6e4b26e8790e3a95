"""Export for onnxruntime: a plain float32 ONNX file, its float16 form with casts, or the same with int8 Q/DQ nodes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.artifact import Artifact, describe_artifact
from edgegen.export.onnx_graph import feeds, io_names, operation_counts, require_calibration, to_bytes, to_onnx
from edgegen.export.onnx_half import scale_before_norms, to_half
from edgegen.export.onnx_ranges import peaks
from edgegen.export.onnxruntime_int8 import int8_models
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
    sub_pixel: Generator | None = None,
) -> list[Artifact]:
    """Write a model.onnx per candidate below `out_dir` and return the artifacts in the order asked for; int8 has several forms.

    `calibration` holds inputs in `generator.spec` layout with batch axis 1: int8 sets its scales by them, float16 finds the
    tensors that would overflow. `sub_pixel` is the generator without transposed convolutions, which have no int8 kernel: more
    int8 candidates are made of it. Raises ExportError naming the node that ONNX cannot express.
    """
    require_offered(Backend.ONNXRUNTIME, precisions)
    for precision in precisions:
        if precision is not Precision.F32:
            require_calibration(precision, calibration)
    float_model = to_onnx(generator)
    inputs, outputs = io_names(generator)

    def written(precision: Precision, model: onnx.ModelProto, facts: dict[str, Any], form: str = "") -> Artifact:
        folder = out_dir / "-".join([precision.value, *re.findall(r"\w+", form)])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ENTRY).write_bytes(to_bytes(model))
        settings = {"input_names": inputs, "output_names": outputs}
        facts = {**facts, "operations": operation_counts(model)}
        return describe_artifact(
            folder, backend=Backend.ONNXRUNTIME, precision=precision, entry=ENTRY, io=generator.spec, settings=settings,
            facts=facts, form=form,
        )  # fmt: skip

    artifacts: list[Artifact] = []
    for precision in precisions:
        if precision is Precision.F32:
            artifacts.append(written(precision, float_model, {}))
        elif precision is Precision.F16:
            half, pinned = to_half(*scale_before_norms(float_model, peaks(float_model, feeds(float_model, calibration))))
            artifacts.append(written(precision, half, {"kept_f32": pinned}))
        else:
            graphs = ({} if sub_pixel is None else {"sub-pixel": to_onnx(sub_pixel)}) | {"": float_model}
            for one in int8_models(graphs, feeds(float_model, calibration), learned):
                facts = {"ranges": one.ranges, "calibration_psnr_db": one.psnr_db, "kept_float": list(one.kept_float)}
                artifacts.append(written(precision, one.model, facts, one.form))
    return artifacts
