"""Export to .tflite for LiteRT: litert-torch writes the float file, ai-edge-quantizer makes the others from it. No TensorFlow.

The generator comes lowered (`edgegen.rewrite.litert`). Files take and give channels-last images in the generator's own dtype:
int8 lives inside. Only `Precision.INT8_FULL` takes and gives int8, with the scales in its settings; runners convert at its ends.
The same generator and calibration give the same bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.artifact import Artifact, describe_artifact
from edgegen.export.flavours import refused_by
from edgegen.export.litert_convert import convert
from edgegen.export.litert_facts import file_facts, int8_ports
from edgegen.export.litert_quantize import quantize
from edgegen.spec import Backend, ComponentSpec, Layout, Precision, TensorSpec

if TYPE_CHECKING:
    import numpy as np

    from edgegen.generator import Generator
    from edgegen.ranges import LearnedRange

SIGNATURE = "serving_default"


def export_litert(
    generator: Generator,
    precisions: tuple[Precision, ...],
    calibration: list[tuple[np.ndarray, ...]],
    out_dir: Path,
    learned: Sequence[LearnedRange] = (),
) -> list[Artifact]:
    """Write one .tflite per precision into `out_dir`/<precision>/ and return the artifacts in the order asked for.

    `calibration` holds inputs in `generator.spec` layout with batch axis 1; only static int8 reads it. Raises
    ExportError naming the node that LiteRT cannot take, and MissingExtraError without the `tflite` extra.
    """
    io = litert_io(generator.spec)
    float_model = convert(generator)
    samples = [_sample(generator.spec, io, arrays) for arrays in calibration]
    artifacts = []
    for precision in precisions:
        content = quantize(float_model, precision, samples, signature=SIGNATURE, learned=learned)
        folder = out_dir / precision.value
        folder.mkdir(parents=True, exist_ok=True)
        entry = f"{generator.spec.name}.tflite"
        (folder / entry).write_bytes(content)
        settings: dict[str, Any] = {
            "signature": SIGNATURE,
            "input_names": [tensor.name for tensor in io.inputs],
            "output_names": [tensor.name for tensor in io.outputs],
        }
        if precision is Precision.INT8_FULL:
            settings["int8_ports"] = int8_ports(content, SIGNATURE)
        facts = {**file_facts(content, precision), "refused_by": refused_by(content, precision)}
        artifacts.append(
            describe_artifact(
                folder, backend=Backend.LITERT, precision=precision, entry=entry, io=io, settings=settings, facts=facts
            )
        )
    return artifacts


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
