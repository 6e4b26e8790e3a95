"""Export to .tflite for LiteRT: litert-torch writes the float file, ai-edge-quantizer makes the others from it. No TensorFlow.

The generator comes lowered (`edgegen.rewrite.litert`). Files take and give channels-last images in the generator's own dtype:
int8 lives inside. Only `Precision.INT8_FULL` takes and gives int8, with the scales in its settings; runners convert at its ends.
The same generator and calibration give the same bytes.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.artifact import UNWATCHED, Artifact, Watch, describe_artifact, lost_artifact
from edgegen.errors import ExportError
from edgegen.export.flavours import refused_by
from edgegen.export.litert_convert import convert
from edgegen.export.litert_facts import file_facts, int8_ports
from edgegen.export.litert_islands import in_int8_forms, with_float_ends
from edgegen.export.litert_quantize import QDQ_FLAVOUR, Quantised, quantize
from edgegen.ranges import Estimator
from edgegen.spec import Backend, ComponentSpec, Layout, Precision, TensorSpec

if TYPE_CHECKING:
    import numpy as np

    from edgegen.generator import Generator
    from edgegen.ranges import LearnedRange

SIGNATURE = "serving_default"


class Int8Form(str, enum.Enum):
    """How `Precision.INT8` is made: by ai-edge-quantizer from the float file, or by the converter from Q/DQ in the graph."""

    STATIC = ""
    QDQ = "Q/DQ"


@dataclasses.dataclass(frozen=True)
class LitertSettings:
    """What int8 is worth: the forms that are tried, and how many single ranges are changed in search of better pictures.

    A generator of more than `most_qdq_parameters` gets no Q/DQ form: its conversion takes 2 s of one core per million.
    """

    forms: tuple[Int8Form, ...] = (Int8Form.STATIC,)
    most_tries: int = 0
    most_qdq_parameters: int = 16_000_000


def export_litert(
    generator: Generator,
    precisions: tuple[Precision, ...],
    calibration: list[tuple[np.ndarray, ...]],
    out_dir: Path,
    learned: Sequence[LearnedRange] = (),
    settings: LitertSettings = LitertSettings(),
    watch: Watch = UNWATCHED,
) -> list[Artifact]:
    """Write one .tflite per precision and form of int8 into folders below `out_dir`; return the artifacts in the order asked for.

    `calibration` holds inputs in `generator.spec` layout with batch axis 1; only static int8 reads it. Raises ExportError naming
    the node that LiteRT cannot take, and MissingExtraError without the `tflite` extra.
    """
    io = litert_io(generator.spec)
    float_model = convert(generator)
    samples = [_sample(generator.spec, io, arrays) for arrays in calibration]

    def built(precision: Precision, form: Int8Form, folder: Path, make: Callable[[], Quantised]) -> Artifact:
        lost = watch.lets(lost_artifact(folder, Backend.LITERT, precision, io, "", form.value))
        return lost or _written(make(), precision, form, io, folder)

    def quantized(precision: Precision) -> Quantised:
        return quantize(float_model, precision, samples, signature=SIGNATURE, learned=learned, most_tries=settings.most_tries)

    artifacts = []
    for precision in precisions:
        first = built(precision, Int8Form.STATIC, out_dir / precision.value, lambda p=precision: quantized(p))
        artifacts.append(first)
        has_static = first.lost or "estimator" in first.facts
        if precision is Precision.INT8 and Int8Form.QDQ in settings.forms and has_static:
            way, folder = Estimator(first.facts.get("estimator", Estimator.MIN_MAX)), out_dir / f"{precision.value}-qdq"
            try:
                _require_small(generator, settings.most_qdq_parameters)
                artifacts.append(
                    built(precision, Int8Form.QDQ, folder, lambda w=way: _in_qdq_form(generator, calibration, w, learned))
                )
            except ExportError as refused:  # the file without Q/DQ was written: one candidate less
                artifacts.append(lost_artifact(folder, Backend.LITERT, precision, io, refused.message, Int8Form.QDQ.value))
    return artifacts


def _require_small(generator: Generator, most_parameters: int) -> None:
    """Raise ExportError for a generator whose Q/DQ form takes too long to convert."""
    from edgegen.graph import count_params

    count = count_params(generator.module)
    if count > most_parameters:
        raise ExportError(f"not tried: {count:,} parameters, and above {most_parameters:,} converting with Q/DQ takes minutes")


def _in_qdq_form(
    generator: Generator, calibration: list[tuple[np.ndarray, ...]], way: Estimator, learned: Sequence[LearnedRange]
) -> Quantised:
    """Return int8 made by the converter from Q/DQ; layers that it leaves in float become dynamic."""
    from edgegen.export.litert_qdq import with_qdq

    content = with_float_ends(in_int8_forms(convert(with_qdq(generator, calibration, way, learned), has_qdq=True)))
    made = quantize(content, Precision.INT8_DYNAMIC, [], signature=SIGNATURE)
    return Quantised(made.content, {"ranges": way.value})


def _written(made: Quantised, precision: Precision, form: Int8Form, io: ComponentSpec, folder: Path) -> Artifact:
    """Write one .tflite into `folder` and return its artifact."""
    folder.mkdir(parents=True, exist_ok=True)
    entry = f"{io.name}.tflite"
    (folder / entry).write_bytes(made.content)
    settings: dict[str, Any] = {
        "signature": SIGNATURE,
        "input_names": [tensor.name for tensor in io.inputs],
        "output_names": [tensor.name for tensor in io.outputs],
    }
    if precision is Precision.INT8_FULL:
        settings["int8_ports"] = int8_ports(made.content, SIGNATURE)
    facts = {**file_facts(made.content, precision), **made.facts, "refused_by": refused_by(made.content, precision)}
    if form is Int8Form.QDQ:
        facts["flavour"] = QDQ_FLAVOUR
    return describe_artifact(
        folder, backend=Backend.LITERT, precision=precision, entry=entry, io=io, settings=settings, facts=facts, form=form.value
    )


def litert_io(spec: ComponentSpec) -> ComponentSpec:
    """Return what the .tflite takes and gives: images channels-last, names as in its signature."""
    inputs = tuple(_channels_last(tensor, f"args_{i}") for i, tensor in enumerate(spec.inputs))
    outputs = tuple(_channels_last(tensor, f"output_{i}") for i, tensor in enumerate(spec.outputs))
    return ComponentSpec(spec.name, inputs, outputs)


def _channels_last(tensor: TensorSpec, name: str) -> TensorSpec:
    if tensor.layout is not Layout.CHW:
        return dataclasses.replace(tensor, name=name)
    channels, height, width = tensor.shape
    return dataclasses.replace(tensor, name=name, shape=(height, width, channels), layout=Layout.HWC)


def _sample(spec: ComponentSpec, io: ComponentSpec, arrays: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    """Return calibration arrays under their signature names, in the file's layout."""
    import numpy as np

    sample = {}
    for tensor, there, array in zip(spec.inputs, io.inputs, arrays, strict=True):
        moved = array.transpose(0, 2, 3, 1) if tensor.layout is Layout.CHW else array
        sample[there.name] = np.ascontiguousarray(moved, dtype=tensor.dtype)
    return sample
