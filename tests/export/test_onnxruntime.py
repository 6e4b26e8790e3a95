"""Plain ONNX artifacts for onnxruntime."""

from pathlib import Path

import onnxruntime
import pytest
from small_generators import DenseSkips, generator_of, psnr_db, samples, torch_outputs

from edgegen.errors import ExportError
from edgegen.export.onnxruntime import export_onnxruntime
from edgegen.spec import Precision


def test_pictures_are_those_of_torch(tmp_path: Path) -> None:
    generator = generator_of(DenseSkips())
    inputs = samples(generator, 3, seed=2)
    made = export_onnxruntime(generator, (Precision.F32, Precision.F16, Precision.INT8), samples(generator, 4, seed=1), tmp_path)
    for artifact, floor in zip(made, (110.0, 62.0, 29.0), strict=True):  # argued in test_tensorrt.py
        session = onnxruntime.InferenceSession(str(artifact.folder / artifact.entry.entry), providers=["CPUExecutionProvider"])
        results = [session.run(artifact.entry.settings["output_names"], {"image": image})[0] for (image,) in inputs]
        assert psnr_db(results, torch_outputs(generator, inputs)) > floor, artifact.name


def test_float16_halves_the_file(tmp_path: Path) -> None:
    generator = generator_of(DenseSkips())
    full, half = export_onnxruntime(generator, (Precision.F32, Precision.F16), samples(generator, 4, seed=1), tmp_path)
    assert half.size_bytes < 0.65 * full.size_bytes  # names and nodes stay
    assert half.facts["kept_f32"] == []


@pytest.mark.parametrize("precision", [Precision.INT8_FULL, Precision.INT8_DYNAMIC])
def test_precisions_that_onnxruntime_lacks_are_refused(tmp_path: Path, precision: Precision) -> None:
    with pytest.raises(ExportError, match=precision.value):
        export_onnxruntime(generator_of(DenseSkips()), (precision,), [], tmp_path)


def test_int8_without_calibration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="needs calibration"):
        export_onnxruntime(generator_of(DenseSkips()), (Precision.INT8,), [], tmp_path)
