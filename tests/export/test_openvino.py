"""OpenVINO artifacts, run for real: every precision shows what torch shows, and int8 forms are found by search."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_generators import Style, SuperResolver, UNet, generator_of, psnr_db, samples, torch_outputs
from torch import nn

from edgegen.artifact import Artifact
from edgegen.errors import ExportError
from edgegen.export.openvino import OpenVinoSettings, convert, export_openvino
from edgegen.export.openvino_graph import int8_operations, with_float
from edgegen.export.openvino_int8 import Int8Search, int8_forms, quantise
from edgegen.export.openvino_judge import Judge, compiled, decibels
from edgegen.generator import Generator
from edgegen.latency.openvino_norms import with_planar_norms
from edgegen.runtime.runners import open_runner
from edgegen.spec import Precision

# Least PSNR against torch: rounding alone for f32 and f16; int8 of a random 16-channel net is the roughest case there is.
FLOORS_DB = {Precision.F32: 90.0, Precision.F16: 45.0, Precision.INT8: 20.0}
SEARCH = Int8Search(("mixed", "performance"), evaluations=20, judges=2, forms=3)


@pytest.fixture(scope="module")
def style() -> Generator:
    """A small InstanceNorm generator of 32x32 pictures, the kind that int8 hurts most."""
    return generator_of(Style())


@pytest.fixture(scope="module")
def artifacts(style: Generator, tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, Artifact]:
    precisions = tuple(FLOORS_DB)
    made = export_openvino(style, precisions, samples(style, 8, seed=1), tmp_path_factory.mktemp("openvino"))
    return dict(zip(precisions, made, strict=True))


@pytest.fixture(scope="module")
def forms(style: Generator, tmp_path_factory: pytest.TempPathFactory) -> list[Artifact]:
    """What the search makes of it, in the order of export: full int8 first, then more and more in float."""
    settings = OpenVinoSettings(search=SEARCH)
    folder = tmp_path_factory.mktemp("forms")
    return export_openvino(style, (Precision.INT8,), samples(style, 8, seed=1), folder, settings)


@pytest.fixture(scope="module")
def graphs(style: Generator) -> tuple[Any, Any]:
    """The float graph and NNCF's default int8 of it."""
    graph = convert(style)
    return graph, quantise(graph, samples(style, 8, seed=1), preset="mixed")


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
def test_the_search_finds_a_front_from_fast_to_faithful(style: Generator, forms: list[Artifact]) -> None:
    cuts = [form for form in forms if form.facts["kept_float"]]
    kept = [set(form.facts["kept_float"]) for form in cuts]
    assert len(cuts) >= 2 and all(a < b for a, b in zip(kept, kept[1:], strict=False))
    inputs = samples(style, 6, seed=2)
    truth = torch_outputs(style, inputs)
    full, most = psnr_db(outputs(forms[0], inputs), truth), psnr_db(outputs(cuts[-1], inputs), truth)
    assert most > full + 3.0  # half the error gone; measured here: 10 dB
    assert len({form.name for form in forms}) == len(forms)


@pytest.mark.slow
def test_what_float_costs_nothing_is_left_in_float_first(forms: list[Artifact]) -> None:
    first = next(form for form in forms if form.facts["kept_float"])
    assert any("MVN" in name for name in first.facts["kept_float"])  # norms run in float anyway: int8 there is all loss


@pytest.mark.slow
def test_a_form_that_leaves_too_little_in_int8_is_not_made(style: Generator, forms: list[Artifact], tmp_path: Path) -> None:
    shares = [form.facts["int8_share"] for form in forms]
    floor = (min(shares) + shares[0]) / 2
    settings = OpenVinoSettings(search=SEARCH, least_int8_share=floor)
    made = export_openvino(style, (Precision.INT8,), samples(style, 8, seed=1), tmp_path, settings)
    assert made and all(form.facts["int8_share"] >= floor for form in made)


@pytest.mark.slow
def test_int8_that_runs_in_float_fails_the_build_and_names_the_layers(style: Generator, tmp_path: Path) -> None:
    settings = OpenVinoSettings(least_int8_share=0.99)
    with pytest.raises(ExportError) as caught:
        export_openvino(style, (Precision.INT8,), samples(style, 4, seed=1), tmp_path, settings)
    assert "the target asks for 99%; in float: " in caught.value.message
    assert "instance_norm/MVN" in caught.value.message


@pytest.mark.slow
def test_a_generator_that_int8_does_not_hurt_is_not_searched(tmp_path: Path) -> None:
    generator = generator_of(nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 3, 1), nn.Sigmoid()))
    settings = OpenVinoSettings(search=dataclasses.replace(SEARCH, presets=("mixed",)))
    (only,) = export_openvino(generator, (Precision.INT8,), samples(generator, 4, seed=1), tmp_path, settings)
    assert only.name == "openvino/int8" and only.facts["calibration_psnr_db"] >= 45.0


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["mixed", "performance"])
def test_of_the_ranges_those_with_the_better_picture_are_kept(style: Generator, graphs: tuple[Any, Any], preset: str) -> None:
    given = samples(style, 8, seed=1)
    search = Int8Search((preset,), ("mean", "min-max"), evaluations=1, judges=8)
    kept = int8_forms(graphs[0], style.spec, given, search)[0]
    judge = Judge(graphs[0], style.spec, given)
    db = {r: decibels(judge.error(quantise(graphs[0], given, preset=preset, ranges=r))) for r in search.ranges}
    assert kept.ranges == max(db, key=db.__getitem__)
    assert abs(db["mean"] - db["min-max"]) > 0.1  # or there was nothing to choose


def test_operations_put_back_in_float_are_exactly_the_float_ones(style: Generator, graphs: tuple[Any, Any]) -> None:
    graph, quantised = graphs
    operations = int8_operations(quantised)
    assert {"Convolution", "MVN"} <= set(operations.values())
    judge = Judge(graph, style.spec, samples(style, 2, seed=2))
    assert decibels(judge.error(with_float(quantised, graph, operations))) == 100.0
    assert decibels(judge.error(quantised)) < 45.0
    assert int8_operations(quantised) == operations  # the graph itself did not move


@pytest.mark.slow
def test_operations_behind_moved_and_joined_values_are_put_back_in_float_too() -> None:
    generator = generator_of(UNet())  # ReLU, Concat and Pad stand between its quantisers and convolutions
    graph = convert(generator)
    quantised = quantise(graph, samples(generator, 4, seed=1), preset="mixed")
    operations = int8_operations(quantised)
    assert sorted(operations.values()) == ["Convolution"] * 3 + ["ConvolutionBackpropData"] * 3
    back = with_float(quantised, graph, operations)
    assert decibels(Judge(graph, generator.spec, samples(generator, 2, seed=2)).error(back)) == 100.0
    assert not [op for op in back.get_ops() if op.get_type_name() == "FakeQuantize"]


@pytest.mark.slow
def test_errors_of_single_operations_add_up_to_the_error_of_all(style: Generator, graphs: tuple[Any, Any]) -> None:
    graph, quantised = graphs
    operations = set(int8_operations(quantised))
    judge = Judge(graph, style.spec, samples(style, 2, seed=2))
    alone = sum(judge.error(with_float(quantised, graph, operations - {name})) for name in operations)
    assert abs(decibels(alone) - decibels(judge.error(quantised))) < 2.0


def test_a_norm_of_few_channels_is_laid_out_by_rows_and_gives_the_same() -> None:
    generator = generator_of(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.InstanceNorm2d(3, affine=True)))
    graph = convert(generator)
    planar = with_planar_norms(graph)
    shapes = [list(op.get_output_shape(0)) for g in (graph, planar) for op in g.get_ops() if op.get_type_name() == "MVN"]
    assert shapes == [[1, 3, 32, 32], [1, 3, 1024]]
    (item,) = samples(generator, 1, seed=2)
    as_is, rows = (compiled(g, "f32")(list(item))[0] for g in (graph, planar))
    assert np.abs(as_is - rows).max() < 1e-5


@pytest.mark.slow
def test_the_entry_describes_its_files_and_what_it_takes_and_gives(
    style: Generator, artifacts: dict[Precision, Artifact]
) -> None:
    artifact = artifacts[Precision.F16]
    assert set(artifact.entry.files) == {"generator.xml", "generator.bin"}
    assert artifact.entry.io == style.spec
    assert artifact.name == "openvino/f16"
    assert artifact.entry.settings == {"inference_precision": "f16", "device": "CPU"}


@pytest.mark.slow
def test_lower_precisions_are_smaller_files(artifacts: dict[Precision, Artifact]) -> None:
    sizes = {p: (a.folder / "generator.bin").stat().st_size for p, a in artifacts.items()}
    assert sizes[Precision.INT8] < sizes[Precision.F16] < sizes[Precision.F32]


@pytest.mark.slow
def test_the_same_calibration_gives_the_same_bytes(
    style: Generator, artifacts: dict[Precision, Artifact], tmp_path: Path
) -> None:
    (again,) = export_openvino(style, (Precision.INT8,), samples(style, 8, seed=1), tmp_path)
    assert again.entry.files["generator.bin"] == artifacts[Precision.INT8].entry.files["generator.bin"]


@pytest.mark.slow
def test_quantising_prints_nothing_because_json_goes_to_standard_output(
    style: Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_openvino(style, (Precision.INT8,), samples(style, 4, seed=1), tmp_path)
    assert capsys.readouterr().out == ""


def test_the_artifact_records_the_device_of_its_target(tmp_path: Path) -> None:
    generator = generator_of(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1)))
    (artifact,) = export_openvino(generator, (Precision.F16,), [], tmp_path, OpenVinoSettings(device="GPU"))
    assert artifact.entry.settings["device"] == "GPU"


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
