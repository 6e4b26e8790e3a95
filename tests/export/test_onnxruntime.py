"""Plain ONNX artifacts for onnxruntime."""

from collections import Counter
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from small_generators import DenseSkips, UNet, generator_of, psnr_db, samples, torch_outputs
from torch import nn

from edgegen.artifact import Artifact
from edgegen.errors import ExportError
from edgegen.export.onnx_graph import feeds, to_onnx
from edgegen.export.onnxruntime import export_onnxruntime
from edgegen.export.onnxruntime_int8 import int8_models
from edgegen.generator import Generator
from edgegen.ranges import LearnedRange, weight_digest
from edgegen.rewrite import lower_conv_transpose
from edgegen.spec import Precision


def test_pictures_are_those_of_torch(tmp_path: Path) -> None:
    generator = generator_of(DenseSkips())
    inputs = samples(generator, 3, seed=2)
    made = export_onnxruntime(generator, (Precision.F32, Precision.F16, Precision.INT8), samples(generator, 4, seed=1), tmp_path)
    floors = {"f32": 110.0, "f16": 62.0, "int8": 29.0}  # argued in test_tensorrt.py
    assert [a.name.removeprefix("onnxruntime/") for a in made][:3] == list(floors)
    for artifact in made:
        floor = floors[artifact.entry.precision]
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


def test_convolutions_in_int8_run_in_int8_kernels_and_transposed_ones_stay_float(tmp_path: Path) -> None:
    generator = generator_of(UNet())
    made = int8_of(generator, tmp_path, lower_conv_transpose(generator))
    kernels = {artifact.form: kernels_of(artifact, tmp_path) for artifact in made}
    some = next(form for form in kernels if not form.startswith("sub-pixel"))
    assert kernels[some]["QLinearConv"] > 0 and some == f"{kernels[some]['ConvTranspose']} float"
    assert kernels["sub-pixel"]["QLinearConv"] > kernels[some]["QLinearConv"] and not kernels["sub-pixel"]["ConvTranspose"]
    assert not kernels["sub-pixel"]["Conv"] and {"sub-pixel, all operations", "sub-pixel, signed"} < kernels.keys()


def test_layers_left_in_float_are_named_and_serve_the_picture(tmp_path: Path) -> None:
    torch.manual_seed(0)
    head = nn.Conv2d(16, 3, 3, padding=1)
    generator = generator_of(nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), head, nn.Tanh()))
    with torch.no_grad():
        generator.module.get_submodule("2").weight[:, 0] *= 60.0  # a channel that the others' steps are too coarse beside
    plain, *others = int8_of(generator, tmp_path)
    fewer = next(a for a in others if a.form.endswith("float"))
    assert fewer.facts["kept_float"] and not plain.facts["kept_float"]
    assert fewer.facts["calibration_psnr_db"] > plain.facts["calibration_psnr_db"] + 1.0
    assert kernels_of(fewer, tmp_path)["Conv"] == len(fewer.facts["kept_float"])


def test_ranges_that_training_learned_are_taken_where_they_serve_best(tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = generator_of(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Sigmoid(), nn.Conv2d(8, 3, 3, padding=1), nn.Tanh()))
    model = to_onnx(generator)
    given = feeds(model, samples(generator, 4, seed=1))
    digest = weight_digest(generator.module.get_submodule("2").weight.detach().numpy())
    narrow = [LearnedRange(digest, 0.0, 0.01)]
    assert int8_models({"": model}, given, narrow)[0].psnr_db == int8_models({"": model}, given)[0].psnr_db
    assert "learned" not in {form.ranges for form in int8_models({"": model}, given, narrow)}


def test_a_generator_without_weights_has_nothing_for_int8(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no convolution"):
        int8_of(generator_of(nn.Sequential(nn.Upsample(scale_factor=2))), tmp_path)


def test_int8_files_of_the_same_generator_are_the_same(tmp_path: Path) -> None:
    generator = generator_of(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Tanh()))
    first, second = (int8_of(generator, tmp_path / name)[0] for name in "ab")
    assert first.entry.files == second.entry.files


def int8_of(generator: Generator, folder: Path, sub_pixel: Generator | None = None) -> list[Artifact]:
    """Return the int8 candidates of a generator, calibrated on four smooth pictures."""
    calibration = samples(generator, 4, seed=1)
    return export_onnxruntime(generator, (Precision.INT8,), calibration, folder, sub_pixel=sub_pixel)


def kernels_of(artifact: Artifact, folder: Path) -> Counter[str]:
    """Return how often each operation is in what onnxruntime makes of the file."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    path = artifact.folder / artifact.entry.entry
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = {"FusedConv": "Conv", "NhwcFusedConv": "Conv"}
    return Counter(names.get(n.op_type, n.op_type) for n in onnx.load(options.optimized_model_filepath).graph.node)
