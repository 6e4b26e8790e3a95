"""Generator -> OpenVINO IR in f32, f16 and int8.

int8 is made by NNCF on the OpenVINO graph (who places the Q/DQ nodes decides the speed: docs/design.md, decision 2), with the
normalisations left in float: on an InstanceNorm generator that costs no time and is worth 11 dB.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edgegen.artifact import Artifact, describe_artifact
from edgegen.errors import ExportError
from edgegen.generator import Generator
from edgegen.spec import Backend, Precision
from edgegen.support import require_offered

ENTRY = "generator.xml"
_FLOAT_TYPES = ["MVN"]


def export_openvino(
    generator: Generator, precisions: tuple[Precision, ...], calibration: list[tuple[np.ndarray, ...]], out_dir: Path
) -> list[Artifact]:
    """Write one IR per precision to out_dir/<precision>/ and return the artifacts.

    `calibration` holds tuples of inputs as `generator.spec` describes them, batch axis 1; only int8 needs them.
    Raises ExportError naming the layer that OpenVINO refuses.
    """
    import openvino as ov

    require_offered(Backend.OPENVINO, precisions)
    graph = convert(generator)
    made = []
    for precision in precisions:
        folder = out_dir / precision.value
        folder.mkdir(parents=True, exist_ok=True)
        match precision:
            case Precision.F32 | Precision.F16:
                model = graph
            case Precision.INT8:
                model = quantise(graph, calibration)
            case Precision.INT8_DYNAMIC | Precision.INT8_FULL:
                raise AssertionError("refused before the conversion")
        _name_by_position(model, generator.spec.name)
        ov.save_model(model, str(folder / ENTRY), compress_to_fp16=precision is Precision.F16)
        hint = "f16" if precision is Precision.F16 else "f32"
        made.append(
            describe_artifact(
                folder,
                backend=Backend.OPENVINO,
                precision=precision,
                entry=ENTRY,
                io=generator.spec,
                settings={"inference_precision": hint},
                facts=_facts(model),
            )  # fmt: skip
        )
    return made


def convert(generator: Generator) -> Any:
    """Return the float OpenVINO model of `generator`, static shapes, batch 1, tensors named as in its spec."""
    import openvino as ov
    import torch

    from edgegen.graph import example_inputs

    inputs = example_inputs(generator.spec)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # shapes are static here: what it warns of is wanted
        try:
            model = ov.convert_model(generator.module, example_input=inputs, input=[tuple(x.shape) for x in inputs])
        except Exception as error:  # the converter names the operation in its text
            raise ExportError(
                f"OpenVINO cannot convert the generator: {error}", hint="see `edgegen inspect` for its layers"
            ) from error
    for port, tensor in zip(model.inputs, generator.spec.inputs, strict=True):
        port.get_tensor().set_names({tensor.name})
    for port, tensor in zip(model.outputs, generator.spec.outputs, strict=True):
        port.get_tensor().set_names({tensor.name})
    return model


def quantise(graph: Any, calibration: list[tuple[np.ndarray, ...]], *, keep_norms_float: bool = True) -> Any:
    """Return an int8 copy of `graph`: NNCF, mixed preset, min-max ranges over all of `calibration`."""
    import nncf

    if not calibration:
        raise ExportError("int8 needs calibration inputs and there are none", hint="give --data")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    scope = nncf.IgnoredScope(types=_FLOAT_TYPES, validate=False) if keep_norms_float else nncf.IgnoredScope()
    names = [port.get_any_name() for port in graph.inputs]
    data = nncf.Dataset(calibration, lambda item: dict(zip(names, item, strict=True)))
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars would stand in front of --json
        return nncf.quantize(
            graph.clone(), data, preset=nncf.QuantizationPreset.MIXED, subset_size=len(calibration), ignored_scope=scope
        )


def save_default_int8(generator: Generator, calibration: list[tuple[np.ndarray, ...]], folder: Path) -> Artifact:
    """Write what NNCF makes of the generator with default settings, and return it: the yardstick of benchmarks."""
    import openvino as ov

    folder.mkdir(parents=True, exist_ok=True)
    ov.save_model(quantise(convert(generator), calibration, keep_norms_float=False), str(folder / ENTRY), compress_to_fp16=False)
    return describe_artifact(
        folder, backend=Backend.OPENVINO, precision=Precision.INT8, entry=ENTRY, io=generator.spec,
        settings={"inference_precision": "f32"}, facts={},
    )  # fmt: skip


def _name_by_position(model: Any, name: str) -> None:
    """Replace the numbers in generated names, which count what the process made before: equal graphs then give equal files."""
    model.set_friendly_name(name)
    for index, operation in enumerate(model.get_ordered_ops()):
        stem, _, number = operation.get_friendly_name().rpartition("_")
        if number.isdigit():
            operation.set_friendly_name(f"{stem}_{index}")


def _facts(model: Any) -> dict[str, Any]:
    kinds = Counter(op.get_type_name() for op in model.get_ops())
    return {"operations": {k: n for k, n in sorted(kinds.items()) if k not in ("Constant", "Parameter", "Result")}}
