"""What each back end's own tool makes of a generator with default settings: the yardstick of export.py and int8_front.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

Samples = list[tuple[np.ndarray, ...]]


def defaults(generator: Any, backend: Any, samples: Samples, folder: Path) -> tuple[list[Any], dict[str, str]]:
    """Return the artifacts of the tool for `backend`, and the error of each precision for which it gives none."""
    from edgegen.spec import Backend

    make = {Backend.OPENVINO: _openvino, Backend.LITERT: _litert, Backend.ONNXRUNTIME: _onnxruntime}[backend]
    made, failed = [], dict[str, str]()
    for precision, form, write in make(generator, samples):
        target = folder / form.replace(" ", "-")
        target.mkdir(parents=True, exist_ok=True)
        try:
            made.append(_described(generator, backend, precision, form, target, write(target)))
        except Exception as error:  # converters raise what they like; a tool that fails is a result
            failed[f"{precision.value} ({form})"] = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
    return made, failed


def _described(generator: Any, backend: Any, precision: Any, form: str, folder: Path, written: tuple[str, dict]) -> Any:
    from edgegen.artifact import describe_artifact

    entry, settings = written
    return describe_artifact(folder, backend=backend, precision=precision, entry=entry, io=generator.spec, settings=settings,
                             facts={}, form=form)  # fmt: skip


def _openvino(generator: Any, samples: Samples) -> list[tuple[Any, str, Any]]:
    """convert_model, save_model and nncf.quantize as they come; the plug-in computes floats in what it takes for fastest."""
    import openvino as ov

    from edgegen.export.openvino import convert
    from edgegen.export.openvino_int8 import quantise
    from edgegen.spec import Precision

    graph = convert(generator)

    def save(model: Any, folder: Path, *, half: bool, settings: dict) -> tuple[str, dict]:
        ov.save_model(model, str(folder / "model.xml"), compress_to_fp16=half)
        return "model.xml", settings

    return [
        (Precision.F32, "convert_model", lambda f: save(graph, f, half=False, settings={"inference_precision": "f32"})),
        (Precision.F16, "save_model", lambda f: save(graph, f, half=True, settings={})),
        (
            Precision.INT8,
            "nncf.quantize",
            lambda f: save(quantise(graph, samples, preset="performance"), f, half=False, settings={}),
        ),
    ]


def _litert(generator: Any, samples: Samples) -> list[tuple[Any, str, Any]]:
    """litert_torch.convert, and ai-edge-quantizer's recipes as they come."""
    from edgegen.export.litert_convert import muted
    from edgegen.graph import example_inputs
    from edgegen.spec import Precision

    def floats() -> bytes:
        import litert_torch

        with muted():
            return bytes(litert_torch.convert(generator.module.eval(), example_inputs(generator.spec)).model_content())

    def quantised(recipe_name: str, *, calibrate: bool) -> bytes:
        from ai_edge_quantizer import quantizer, recipe

        with muted():
            made = quantizer.Quantizer(floats())
            made.load_quantization_recipe(getattr(recipe, recipe_name)())
            given = {"serving_default": [{f"args_{i}": a for i, a in enumerate(item)} for item in samples]}
            ranges = made.calibrate(given) if calibrate else None
            return bytes(made.quantize(ranges).quantized_model)

    def save(content: bytes, folder: Path) -> tuple[str, dict]:
        (folder / "model.tflite").write_bytes(content)
        names = {"signature": "serving_default", "input_names": [f"args_{i}" for i in range(len(generator.spec.inputs))]}
        return "model.tflite", {**names, "output_names": ["output_0"]}

    return [
        (Precision.F32, "litert_torch.convert", lambda f: save(floats(), f)),
        (Precision.INT8_DYNAMIC, "dynamic_wi8_afp32", lambda f: save(quantised("dynamic_wi8_afp32", calibrate=False), f)),
        (Precision.INT8, "static_wi8_ai8", lambda f: save(quantised("static_wi8_ai8", calibrate=True), f)),
    ]


def _onnxruntime(generator: Any, samples: Samples) -> list[tuple[Any, str, Any]]:
    """torch.onnx.export and onnxruntime.quantization.quantize_static as they come."""
    import torch

    from edgegen.graph import example_inputs
    from edgegen.spec import Precision

    names = {"input_names": [t.name for t in generator.spec.inputs], "output_names": ["made"]}

    def export(folder: Path) -> Path:
        path = folder / "float.onnx"
        torch.onnx.export(generator.module, example_inputs(generator.spec), str(path), dynamo=True, verbose=False,
                          external_data=False, **names)  # fmt: skip
        return path

    def quantised(folder: Path) -> tuple[str, dict]:
        from onnxruntime.quantization import CalibrationDataReader, quantize_static

        class Reader(CalibrationDataReader):
            def __init__(self) -> None:
                self._items = iter([dict(zip(names["input_names"], item, strict=True)) for item in samples])

            def get_next(self) -> Any:
                return next(self._items, None)

        source = export(folder)
        quantize_static(str(source), str(folder / "model.onnx"), Reader())
        source.unlink()
        return "model.onnx", names

    return [
        (Precision.F32, "torch.onnx.export", lambda f: (export(f).name, names)),
        (Precision.INT8, "quantize_static", quantised),
    ]
