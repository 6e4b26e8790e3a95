"""Generator -> OpenVINO IR in f32, f16 and int8.

int8 is made by NNCF on the OpenVINO graph (who places the Q/DQ nodes decides the speed: docs/design.md, decision 2). Which
preset, and which operations stay in float, is found by search (`openvino_int8`): every form that may be best is an artifact.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edgegen.artifact import UNWATCHED, Artifact, Watch, describe_artifact, lost_artifact
from edgegen.errors import ExportError
from edgegen.export.openvino_int8 import Int8Form, Int8Search, int8_forms, quantise
from edgegen.export.openvino_judge import Judge, compiled, decibels
from edgegen.generator import Generator
from edgegen.latency.clock import Timed, fastest_seconds
from edgegen.latency.openvino_norms import with_planar_norms
from edgegen.runtime.runners.openvino import layer_types
from edgegen.spec import Backend, Precision
from edgegen.support import require_offered

ENTRY = "generator.xml"
_FASTER = 0.97  # a difference of 3 % is more than noise
_FAITHFUL_DB = 45.0  # 8-bit pictures: one level of error everywhere is about 48 dB
_NAMED = 8


@dataclasses.dataclass(frozen=True)
class OpenVinoSettings:
    """What the target asks of the artifacts. `device` is OpenVINO's name of the engine. Below `least_int8_share` of the computing
    layers, int8 is refused. `native`: the target is this machine, so what its CPU can do beside f32 may be measured and used."""

    device: str = "CPU"
    least_int8_share: float | None = None
    native: bool = False
    search: Int8Search = Int8Search()


@dataclasses.dataclass(frozen=True)
class _Form:
    """A graph to save: `arithmetic` is what its float layers may compute in."""

    graph: Any
    arithmetic: str
    name: str = ""
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


def export_openvino(
    generator: Generator,
    precisions: tuple[Precision, ...],
    calibration: list[tuple[np.ndarray, ...]],
    out_dir: Path,
    settings: OpenVinoSettings = OpenVinoSettings(),
    watch: Watch = UNWATCHED,
) -> list[Artifact]:
    """Write an IR per form of each precision below out_dir and return the artifacts, in the order of `precisions`.

    `calibration` holds tuples of inputs as `generator.spec` describes them, batch axis 1; only int8 needs them.
    Raises ExportError naming the layer that OpenVINO refuses, or the layers that run in float in spite of int8.
    """
    import openvino as ov

    require_offered(Backend.OPENVINO, precisions)
    graph = convert(generator)
    _name_by_position(graph, generator.spec.name)
    if settings.device == "CPU":
        graph = with_planar_norms(graph)
    made = []
    for precision in precisions:
        lost = watch.lets(lost_artifact(out_dir / precision.value, Backend.OPENVINO, precision, generator.spec, ""))
        if lost:
            made.append(lost)
            continue
        for form in _forms(graph, generator, precision, calibration, settings):
            folder = out_dir / "-".join([precision.value, *form.name.replace(" ", "-").split()])
            folder.mkdir(parents=True, exist_ok=True)
            _name_by_position(form.graph, generator.spec.name)
            ov.save_model(form.graph, str(folder / ENTRY), compress_to_fp16=precision is Precision.F16)
            made.append(
                describe_artifact(
                    folder,
                    backend=Backend.OPENVINO,
                    precision=precision,
                    entry=ENTRY,
                    io=generator.spec,
                    settings={"inference_precision": form.arithmetic, "device": settings.device},
                    facts={**form.facts, **_facts(form.graph)},
                    form=form.name,
                )  # fmt: skip
            )
    return made


def _forms(
    graph: Any, generator: Generator, precision: Precision, calibration: list[tuple[np.ndarray, ...]], settings: OpenVinoSettings
) -> list[_Form]:
    match precision:
        case Precision.INT8:
            search = dataclasses.replace(settings.search, arithmetic=_float_arithmetic(graph, generator, calibration, settings))
            found = int8_forms(graph, generator.spec, calibration, search)
            return _checked(found, generator.spec.name, search.arithmetic, settings)
        case Precision.F16 if settings.native and native_arithmetic() == "bf16":
            return [_Form(graph, _fastest(graph, ("f16", "f32"))), _Form(graph, "bf16", "bf16 arithmetic")]
        case Precision.F16:
            return [_Form(graph, "f16")]
        case _:
            return [_Form(graph, "f32")]


def _checked(found: list[Int8Form], name: str, arithmetic: str, settings: OpenVinoSettings) -> list[_Form]:
    """Return the int8 forms with their int8 shares. Raises ExportError if the fully quantised one falls below the least share."""
    made, names = [], set()
    for form in found:
        label = f"{len(form.kept_float)} float" if form.kept_float else form.preset if made else ""
        facts: dict[str, Any] = {"preset": form.preset, "ranges": form.ranges, "kept_float": list(form.kept_float)}
        if form.psnr_db is not None:
            facts["calibration_psnr_db"] = round(form.psnr_db, 2)
        if settings.device == "CPU":
            types = layer_types(compiled(form.graph, arithmetic))
            floats = [layer for layer, (_, kind) in types.items() if kind != "int8"]
            facts["int8_share"] = round(1 - len(floats) / max(1, len(types)), 4)
            if settings.least_int8_share is not None and facts["int8_share"] < settings.least_int8_share:
                if form.kept_float:
                    continue  # the search may not leave so much in float: the target forbids it
                raise _too_little_int8(name, facts["int8_share"], settings.least_int8_share, floats)
        if label not in names:
            names.add(label)
            made.append(_Form(form.graph, arithmetic, label, facts))
    return made


def _too_little_int8(name: str, share: float, least: float, floats: list[str]) -> ExportError:
    shown = ", ".join(floats[:_NAMED]) + (f" and {len(floats) - _NAMED} more" if len(floats) > _NAMED else "")
    fact = f"int8 of '{name}': {share:.0%} of the computing layers run in int8 on the CPU, the target asks for {least:.0%}"
    return ExportError(f"{fact}; in float: {shown}", hint="leave int8 out of export.precisions: it would gain nothing here")


def _float_arithmetic(
    graph: Any, generator: Generator, calibration: list[tuple[np.ndarray, ...]], settings: OpenVinoSettings
) -> str:
    """Return what float layers compute in beside int8 ones: bf16 where this CPU has it, is faster and as good as f32 for eyes."""
    if not (settings.native and calibration and settings.search.evaluations and native_arithmetic() == "bf16"):
        return "f32"
    if _fastest(graph, ("f32", "bf16")) == "f32":
        return "f32"
    judge = Judge(graph, generator.spec, calibration[: settings.search.judges])
    return "bf16" if decibels(judge.error(graph, "bf16")) >= _FAITHFUL_DB else "f32"


def native_arithmetic() -> str:
    """Return what this CPU computes floats in fastest: "bf16" where it has it, else "f32"."""
    import openvino as ov

    return "bf16" if "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


def _fastest(graph: Any, arithmetics: tuple[str, ...]) -> str:
    """Return the first of `arithmetics`, or the fastest one if it is faster than the first by more than noise."""
    seconds = fastest_seconds([Timed(graph, cold=False, arithmetic=name) for name in arithmetics], threads=1)
    best = min(range(len(seconds)), key=seconds.__getitem__)
    return arithmetics[best if seconds[best] < seconds[0] * _FASTER else 0]


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


def save_nncf_int8(
    generator: Generator, calibration: list[tuple[np.ndarray, ...]], folder: Path, preset: str = "performance"
) -> Artifact:
    """Write what NNCF makes of the plain conversion with `preset` (its default), and return it: the yardstick of benchmarks."""
    import openvino as ov

    folder.mkdir(parents=True, exist_ok=True)
    ov.save_model(quantise(convert(generator), calibration, preset=preset), str(folder / ENTRY), compress_to_fp16=False)
    return describe_artifact(
        folder, backend=Backend.OPENVINO, precision=Precision.INT8, entry=ENTRY, io=generator.spec,
        settings={"inference_precision": "f32"}, facts={}, form=f"NNCF {preset}",
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
