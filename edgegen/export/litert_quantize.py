"""The float .tflite to f16, dynamic int8 and static int8, by ai-edge-quantizer."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

from edgegen.errors import ExportError, require
from edgegen.export.litert_convert import muted
from edgegen.export.litert_graph import plan_int8, read_operations
from edgegen.export.litert_islands import in_int8_forms
from edgegen.export.litert_ranges import with_learned
from edgegen.export.litert_search import choose_ranges
from edgegen.spec import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from edgegen.ranges import LearnedRange

FLAVOURS = {
    Precision.F32: "float32",
    Precision.F16: "float16 weights, float32 arithmetic",
    Precision.INT8_DYNAMIC: "dynamic int8 layers, depthwise ones in float32",
    Precision.INT8_FULL: "every tensor in int8, inputs and outputs too",
    Precision.INT8: "static int8 layers; dynamic in front of norms and at the end; float32 between them",
}
QDQ_FLAVOUR = "int8 layers, sums, joins and activations by Q/DQ; dynamic in front of norms and at the end"
# XNNPACK takes no dynamic depthwise convolutions: a separable student ran in 24 ms with them and in 11 ms without.
_DYNAMIC = ("CONV_2D", "CONV_2D_TRANSPOSE", "FULLY_CONNECTED")
_NAMES = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}  # ai-edge-quantizer has its own name for one operation


@dataclasses.dataclass(frozen=True)
class Quantised:
    """A .tflite in some precision, and facts worth reporting of how it came about."""

    content: bytes
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


def quantize(
    model: bytes,
    precision: Precision,
    samples: list[dict[str, np.ndarray]],
    *,
    signature: str,
    learned: Sequence[LearnedRange] = (),
    most_tries: int = 0,
) -> Quantised:
    """Return `model` (a float .tflite) in `precision`; inputs and outputs stay float32, but for `Precision.INT8_FULL`.

    `samples` are calibration inputs by signature name; static int8 needs them, and raises ExportError without. `learned` are
    ranges from quantisation-aware training: they take the place of what calibration sees. `most_tries` single ranges are
    changed in search of better pictures.
    """
    if precision is Precision.F32:
        return Quantised(model)
    if precision in (Precision.INT8, Precision.INT8_FULL) and not samples:
        raise ExportError("static int8 needs calibration inputs", hint="give --data, or leave int8 out of the precisions")
    with muted():
        quantizer = require("ai_edge_quantizer.quantizer", extra="tflite")
        recipe = _recipe(model, precision)

        def made_of(ranges: Any) -> bytes:
            quantization = quantizer.Quantizer(model)
            quantization.load_quantization_recipe(recipe)
            ranges = with_learned(ranges, model, learned) if ranges and learned else ranges
            made = bytes(quantization.quantize(ranges, enable_progress_report=False).quantized_model)
            return in_int8_forms(made) if precision in (Precision.INT8, Precision.INT8_FULL) else made

        try:
            if precision not in (Precision.INT8, Precision.INT8_FULL) or not _needs_ranges(recipe):
                return Quantised(made_of(None))
            seen = _ranges(model, recipe, samples, signature)
            choice = choose_ranges(model, seen, samples, made_of, signature=signature, most_tries=most_tries)
        except Exception as error:  # ai-edge-quantizer raises ValueError, KeyError, RuntimeError from everywhere
            raise ExportError(f"LiteRT {precision.value}: {error}", hint="leave this precision out of the recipe") from error
    if precision is Precision.INT8_FULL:
        _require_int8(choice.content)
    return Quantised(
        choice.content, {"ranges": choice.ranges, "estimator": choice.estimator, "calibration_psnr_db": choice.psnr_db}
    )


def _needs_ranges(recipe: list[dict[str, Any]]) -> bool:
    from ai_edge_quantizer import recipe_manager

    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(recipe)
    return bool(manager.need_calibration())


def _require_int8(content: bytes) -> None:
    """Raise ExportError naming the first operation of `content` that computes in float."""
    left = [operation for operation in read_operations(content) if not operation.gives_int8]
    if left:
        more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
        raise ExportError(
            f"LiteRT {Precision.INT8_FULL.value}: {left[0].kind} '{left[0].scope.rstrip(';')}' has no int8 form{more}",
            hint="use int8, or train the student with layers that have one",
        )


def _recipe(model: bytes, precision: Precision) -> list[dict[str, Any]]:
    from ai_edge_quantizer import qtyping, recipe_manager
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    manager = recipe_manager.RecipeManager()
    operation = qtyping.TFLOperationName
    match precision:
        case Precision.F16:
            weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
            config = qtyping.OpQuantizationConfig(
                weight_tensor_config=weights, compute_precision=qtyping.ComputePrecision.FLOAT, explicit_dequantize=True
            )
            manager.add_quantization_config(".*", operation.ALL_SUPPORTED, config, AlgorithmName.FLOAT_CASTING)
        case Precision.INT8_DYNAMIC:
            for name in _DYNAMIC:
                manager.add_dynamic_config(regex=".*", operation_name=operation(name), num_bits=8)
        case Precision.INT8_FULL:
            manager.add_static_config(
                regex=".*", operation_name=operation.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8
            )
        case _:
            operations = read_operations(model)
            dynamic, static = plan_int8(operations)
            for o in (o for o in operations if o.index in dynamic | static):
                rule = {"regex": f"^{re.escape(o.scope)}$", "operation_name": operation(_NAMES.get(o.kind, o.kind))}
                if o.index in dynamic:
                    manager.add_dynamic_config(**rule, num_bits=8)
                else:
                    manager.add_static_config(**rule, activation_num_bits=8, weight_num_bits=8)
    return manager.get_quantization_recipe()


def _ranges(model: bytes, recipe: list[dict[str, Any]], samples: list[dict[str, np.ndarray]], signature: str) -> dict[str, Any]:
    """Return the lowest and highest value of every tensor over all samples.

    Not `Quantizer.calibrate`: its moving average begins at the first sample with weight 0.95 and clips (28 dB against 42 dB
    on a DCGAN with 16 samples).
    """
    from ai_edge_quantizer import calibrator, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(recipe)
    calibration = calibrator.Calibrator(model, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    calibration.calibrate({signature: samples}, manager)
    return calibration.get_model_qsvs()
