"""Export for TensorRT: a strongly typed ONNX file and the script that builds an engine from it on the board.

TensorRT 11 knows no precision flags and no calibrator, and an engine works on one TensorRT version and one GPU only. So the
types are in the file (float16 constants, Q/DQ nodes, casts), the file is the artifact, and `build_engine.py` beside it makes
the engine where it will run. Files take and give float32. Verification runs the same file in onnxruntime.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.artifact import UNWATCHED, Artifact, Watch, describe_artifact, lost_artifact
from edgegen.errors import ExportError
from edgegen.export.int8_search import choose_int8
from edgegen.export.onnx_graph import feeds, io_names, operation_counts, require_calibration, to_bytes, to_onnx
from edgegen.export.onnx_half import scale_before_norms, to_half
from edgegen.export.onnx_ranges import peaks
from edgegen.export.tensorrt_rules import check_tensorrt_rules, uneven_channels
from edgegen.spec import Backend, Precision
from edgegen.support import require_offered

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from edgegen.generator import Generator
    from edgegen.ranges import LearnedRange

ENTRY = "model.onnx"
BUILDER = "build_engine.py"


def export_tensorrt(
    generator: Generator,
    precisions: tuple[Precision, ...],
    calibration: list[tuple[np.ndarray, ...]],
    out_dir: Path,
    learned: Sequence[LearnedRange] = (),
    watch: Watch = UNWATCHED,
) -> list[Artifact]:
    """Write model.onnx and build_engine.py into `out_dir`/<precision>/ and return the artifacts in the order asked for.

    `calibration` holds inputs in `generator.spec` layout with batch axis 1: int8 sets its scales by them, float16 finds the
    tensors that would overflow. Raises ExportError naming the node that TensorRT would refuse.
    """
    require_offered(Backend.TENSORRT, precisions)
    for precision in precisions:
        if precision is not Precision.F32:
            require_calibration(precision, calibration)
    float_model = to_onnx(generator)
    inputs, outputs = io_names(generator)
    settings = {"verify_with": "onnxruntime", "onnx": ENTRY, "input_names": inputs, "output_names": outputs}
    artifacts = []
    for precision in precisions:
        folder = out_dir / precision.value
        lost = watch.lets(lost_artifact(folder, Backend.TENSORRT, precision, generator.spec, ""))
        if lost:
            artifacts.append(lost)
            continue
        model, facts, reached = _typed(float_model, precision, calibration, learned)
        refuse_violations(model, f"tensorrt/{precision.value}", reached)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ENTRY).write_bytes(to_bytes(model))
        (folder / BUILDER).write_bytes(importlib.resources.files("edgegen.export").joinpath(BUILDER).read_bytes())
        artifacts.append(
            describe_artifact(
                folder,
                backend=Backend.TENSORRT,
                precision=precision,
                entry=ENTRY,
                io=generator.spec,
                settings=settings,
                facts={**facts, "operations": operation_counts(model)},
            )
        )
    return artifacts


def refuse_violations(model: onnx.ModelProto, what: str, peaks: Mapping[str, float] | None = None) -> None:
    """Raise ExportError naming the first node that breaks a rule of TensorRT, and how many more do."""
    violations = check_tensorrt_rules(model, peaks)
    if violations:
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        where = f"node '{first.node}'" if first.node else f"'{first.tensor}'" if first.tensor else "the file"
        raise ExportError(
            f"{what}: {where}: {first.message} [{first.rule}]{more}", hint="leave that layer in float, or replace it"
        )


def _typed(
    model: onnx.ModelProto,
    precision: Precision,
    calibration: list[tuple[np.ndarray, ...]],
    learned: Sequence[LearnedRange],
) -> tuple[onnx.ModelProto, dict[str, Any], Mapping[str, float]]:
    """Return `model` in `precision`, facts worth reporting, and max |x| of its tensors on the calibration inputs."""
    match precision:
        case Precision.F32:
            return model, {}, {}
        case Precision.F16:
            samples = feeds(model, calibration)
            scaled, reached = scale_before_norms(model, peaks(model, samples))
            half, pinned = to_half(scaled, reached)
            return half, {"kept_f32": pinned}, reached
        case Precision.INT8:
            samples = feeds(model, calibration)
            scaled, reached = scale_before_norms(model, peaks(model, samples))
            choice = choose_int8(scaled, reached, samples, learned)
            half, pinned = to_half(choice.model, reached)
            facts = {"ranges": choice.ranges, "calibration_psnr_db": choice.psnr_db, "tried_psnr_db": dict(choice.tried)}
            facts |= {"int8": list(choice.quantized), "kept_float": list(choice.kept_float), "kept_f32": pinned}
            facts["uneven_channels"] = {v.node: v.message for v in uneven_channels(half)}
            return half, facts, reached
        case Precision.INT8_DYNAMIC | Precision.INT8_FULL:
            raise AssertionError("refused before the conversion")
