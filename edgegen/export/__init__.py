"""Generator -> Artifact: one module per back end, each with its own quantiser (docs/design.md, decision 2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.spec import Backend, Precision
from edgegen.support import require_offered

if TYPE_CHECKING:
    import numpy as np

    from edgegen.artifact import Artifact
    from edgegen.generator import Generator
    from edgegen.ranges import LearnedRange


def export(
    generator: Generator,
    backend: Backend,
    precisions: tuple[Precision, ...],
    calibration: list[tuple[np.ndarray, ...]],
    out_dir: Path,
    learned: Sequence[LearnedRange] = (),
) -> list[Artifact]:
    """Write one artifact per precision for `backend` and return them; the generator comes lowered for that back end.

    `calibration` holds inputs as `generator.spec` describes them, batch axis 1. `learned` are ranges from quantisation-aware
    training, for back ends whose quantiser takes ranges. Raises ExportError for a precision that the back end has no export in
    (`edgegen.support`), before any conversion.
    """
    require_offered(backend, precisions)
    match backend:
        case Backend.OPENVINO:
            from edgegen.export.openvino import export_openvino as run
        case Backend.LITERT:
            from edgegen.export.tflite import export_litert as run
        case Backend.TENSORRT:
            from edgegen.export.tensorrt import export_tensorrt as run
        case Backend.ONNXRUNTIME:
            from edgegen.export.onnxruntime import export_onnxruntime as run
    ranges: dict[str, Any] = {"learned": learned} if learned else {}
    return run(generator, precisions, calibration, out_dir, **ranges)
