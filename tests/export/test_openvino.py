"""OpenVINO artifacts, run for real: every precision shows what torch shows, and norms stay in float."""

from pathlib import Path

import numpy as np
import pytest
from small_generators import Style, SuperResolver, generator_of, psnr_db, samples, torch_outputs
from torch import nn

from edgegen.artifact import Artifact
from edgegen.errors import ExportError
from edgegen.export.openvino import export_openvino, save_default_int8
from edgegen.generator import Generator
from edgegen.runtime.runners import open_runner
from edgegen.spec import Precision

# Least PSNR against torch: rounding alone for f32 and f16; int8 of a random 16-channel net is the roughest case there is.
FLOORS_DB = {Precision.F32: 90.0, Precision.F16: 45.0, Precision.INT8: 20.0}


@pytest.fixture(scope="module")
def style() -> Generator:
    """A small InstanceNorm generator of 32x32 pictures."""
    return generator_of(Style())


@pytest.fixture(scope="module")
def artifacts(style: Generator, tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, Artifact]:
    precisions = tuple(FLOORS_DB)
    made = export_openvino(style, precisions, samples(style, 16, seed=1), tmp_path_factory.mktemp("openvino"))
    return dict(zip(precisions, made, strict=True))


def outputs(artifact: Artifact, inputs: list[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    runner = open_runner(artifact.folder, artifact.entry, 1)
    try:
        return [runner.run(list(item))[0] for item in inputs]
    finally:
        runner.close()


@pytest.mark.slow
@pytest.mark.parametrize("precision", list(FLOORS_DB), ids=lambda p: p.value)
def test_an_artifact_shows_what_torch_shows(style: Generator, artifacts: dict[Precision, Artifact], precision: Precision) -> None:
    inputs = samples(style, 6, seed=2)
    assert psnr_db(outputs(artifacts[precision], inputs), torch_outputs(style, inputs)) > FLOORS_DB[precision]


@pytest.mark.slow
def test_norms_stay_in_float_in_int8_and_convolutions_do_not(artifacts: dict[Precision, Artifact]) -> None:
    import openvino as ov

    artifact = artifacts[Precision.INT8]
    model = ov.Core().read_model(artifact.folder / artifact.entry.entry)
    fed_by = {"MVN": set(), "Convolution": set()}
    for operation in model.get_ops():
        if operation.get_type_name() in fed_by:
            source = operation.input_value(0).get_node()
            fed_by[operation.get_type_name()].add((operation.get_friendly_name(), source.get_type_name()))
    assert "FakeQuantize" not in {kind for _, kind in fed_by["MVN"]}
    assert "FakeQuantize" in {kind for _, kind in fed_by["Convolution"]}


@pytest.mark.slow
def test_keeping_norms_float_looks_better_than_the_default_quantisation(
    style: Generator, artifacts: dict[Precision, Artifact], tmp_path: Path
) -> None:
    save_default_int8(style, samples(style, 16, seed=1), tmp_path)
    import openvino as ov

    compiled = ov.Core().compile_model(tmp_path / "generator.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    inputs = samples(style, 6, seed=2)
    expected = torch_outputs(style, inputs)
    default = [compiled(list(item))[0] for item in inputs]
    assert psnr_db(outputs(artifacts[Precision.INT8], inputs), expected) >= psnr_db(default, expected)


@pytest.mark.slow
def test_the_entry_describes_its_files_and_what_it_takes_and_gives(
    style: Generator, artifacts: dict[Precision, Artifact]
) -> None:
    artifact = artifacts[Precision.F16]
    assert set(artifact.entry.files) == {"generator.xml", "generator.bin"}
    assert artifact.entry.io == style.spec
    assert artifact.name == "openvino/f16"
    assert artifact.entry.settings == {"inference_precision": "f16"}


@pytest.mark.slow
def test_lower_precisions_are_smaller_files(artifacts: dict[Precision, Artifact]) -> None:
    sizes = {p: (a.folder / "generator.bin").stat().st_size for p, a in artifacts.items()}
    assert sizes[Precision.INT8] < sizes[Precision.F16] < sizes[Precision.F32]


@pytest.mark.slow
def test_the_same_calibration_gives_the_same_bytes(
    style: Generator, artifacts: dict[Precision, Artifact], tmp_path: Path
) -> None:
    (again,) = export_openvino(style, (Precision.INT8,), samples(style, 16, seed=1), tmp_path)
    assert again.entry.files["generator.bin"] == artifacts[Precision.INT8].entry.files["generator.bin"]


@pytest.mark.slow
def test_quantising_prints_nothing_because_json_goes_to_standard_output(
    style: Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_openvino(style, (Precision.INT8,), samples(style, 4, seed=1), tmp_path)
    assert capsys.readouterr().out == ""


def test_int8_without_calibration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="needs calibration inputs"):
        export_openvino(generator_of(SuperResolver(4)), (Precision.INT8,), [], tmp_path)


def test_dynamic_int8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        export_openvino(generator_of(SuperResolver(4)), (Precision.INT8_DYNAMIC,), [], tmp_path)
    assert caught.value.hint == "use int8"


def test_the_generator_is_left_alone(tmp_path: Path) -> None:
    generator = generator_of(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1)))
    inputs = samples(generator, 2, seed=0)
    before = torch_outputs(generator, inputs)
    export_openvino(generator, (Precision.F32,), [], tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(before, torch_outputs(generator, inputs), strict=True))
