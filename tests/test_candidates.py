"""Candidates: the form that each target gets, what is known of each artifact, and which one is chosen."""

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

import pipeline_runs
import pytest

from edgegen.artifact import Artifact, load_artifacts, save_artifacts
from edgegen.candidates import (
    candidate_latencies,
    export_candidates,
    fastest,
    judge,
    require_exporter,
    torch_cases,
)
from edgegen.data import Inputs, open_inputs
from edgegen.errors import ExportError, MissingExtraError
from edgegen.generator import Generator
from edgegen.graph import example_inputs
from edgegen.load import load
from edgegen.prediction import prediction_facts, predictor
from edgegen.progress import Silent
from edgegen.prune.work import layer_works
from edgegen.recipe import Choice, load_recipe
from edgegen.request import Request
from edgegen.spec import Budget, Kind, Precision
from edgegen.target import load_target


@dataclasses.dataclass(frozen=True)
class Bench:
    """A tiny generator, its inputs, and a place to write."""

    folder: Path
    generator: Generator
    inputs: Inputs

    def request(self, target: str = "intel-n100", *, precisions: tuple[str, ...] = ("f32", "f16"), **rewrite: Choice) -> Request:
        """Asks for `precisions`, with the choices of the rewrite section in `rewrite`."""
        recipe = load_recipe("export-only")
        recipe = dataclasses.replace(
            recipe,
            export=dataclasses.replace(recipe.export, precisions=precisions),
            rewrite=dataclasses.replace(recipe.rewrite, **rewrite),
        )
        return Request(self.folder / "faces.pt", load_target(target), Budget(), recipe, self.folder / "out")

    def export(self, request: Request) -> list[Any]:
        """The artifacts of the teacher itself."""
        return export_candidates(request, self.generator, self.inputs, self.folder / "export")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("candidates")
    generator = load(pipeline_runs.write_latent_checkpoint(folder))
    return Bench(folder, generator, open_inputs(generator.spec, None, calibration="auto", seed=0, held_out=4))


@pytest.fixture(scope="module")
def artifacts(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> list[Artifact]:
    """The teacher itself in f32 and f16, as an Intel N100 gets it."""
    return export_candidates(bench.request(), bench.generator, bench.inputs, tmp_path_factory.mktemp("shared"))


@pytest.fixture
def deadly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a LiteRT in front of the real one, in child processes, that dies by a signal as soon as it is imported."""
    package = tmp_path / "deadly" / "ai_edge_litert"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "interpreter.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    there = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(package.parent), *([there] if there else [])]))


def crashing(artifact: Artifact) -> Artifact:
    """The artifact as one of the back end that dies."""
    return dataclasses.replace(artifact, entry=dataclasses.replace(artifact.entry, backend="litert"))


@pytest.mark.parametrize(
    ("target", "choice", "form"),
    [
        pytest.param("intel-n100", Choice.AUTO, "sub-pixel", id="the profile says that it pays"),
        pytest.param("intel-n100", Choice.NO, "kept", id="the recipe says no"),
        pytest.param("host", Choice.YES, "sub-pixel", id="the recipe says yes"),
    ],
)
def test_transposed_convolutions_take_the_form_that_recipe_or_profile_asks_for(
    bench: Bench, target: str, choice: Choice, form: str
) -> None:
    (artifact,) = bench.export(bench.request(target, precisions=("f32",), conv_transpose=choice, pixels=Choice.NO))
    assert artifact.facts["conv_transpose"] == form
    program = (artifact.folder / artifact.entry.entry).read_text()
    assert ('type="ConvolutionBackpropData"' in program) == (form == "kept")


def test_a_local_target_times_both_forms_and_takes_sub_pixel_where_it_is_faster_by_more_than_noise(bench: Bench) -> None:
    request = bench.request("host", precisions=("f32",))
    only = dataclasses.replace(request.target.backends[0], precisions=(Precision.F32,))
    target = dataclasses.replace(request.target, backends=(only,))
    (artifact,) = bench.export(dataclasses.replace(request, target=target))
    taken = artifact.facts["conv_transpose_trial_ms"]
    assert set(taken) == {"kept", "sub-pixel"}
    pays = taken["sub-pixel"] < taken["kept"] * 0.92
    assert artifact.facts["conv_transpose"] == ("sub-pixel" if pays else "kept")
    assert [path.name for path in (bench.folder / "export").iterdir()] == ["openvino"]  # the trial left nothing behind


@pytest.mark.parametrize(("choice", "dtype"), [(Choice.YES, "uint8"), (Choice.NO, "float32")])
def test_pixels_are_given_where_they_are_asked_for(bench: Bench, choice: Choice, dtype: str) -> None:
    (artifact,) = bench.export(bench.request(precisions=("f32",), pixels=choice))
    output = artifact.entry.io.outputs[0]
    assert (output.kind, output.dtype) == (Kind.IMAGE, dtype)
    assert artifact.facts["pixels"] is (choice is Choice.YES)


def test_artifacts_are_read_back_as_they_were_stored(artifacts: list[Artifact]) -> None:
    folder = artifacts[0].folder.parents[1]
    save_artifacts(artifacts, folder)
    assert load_artifacts(folder) == artifacts
    assert not any(Path(row["folder"]).is_absolute() for row in json.loads((folder / "artifacts.json").read_text()))


def test_exactly_one_candidate_is_chosen_and_its_numbers_are_plain_json(bench: Bench, artifacts: list[Artifact]) -> None:
    request = bench.request()
    cases = torch_cases(bench.inputs, 3, bench.generator, bench.generator)
    rows = [judged.to_json() for judged in judge(request, artifacts, bench.generator, cases, Silent())]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert [row["name"] for row in rows] == ["openvino/f32", "openvino/f16"]
    assert sum(row["chosen"] for row in rows) == 1
    assert all(row["kept"] and row["parity_db"] > 50 and row["latency_label"] == "predicted" for row in rows)


def test_a_candidate_that_kills_its_process_is_dropped_and_no_other(
    bench: Bench, artifacts: list[Artifact], deadly: None
) -> None:
    request = bench.request("host")
    cases = torch_cases(bench.inputs, 2, bench.generator, bench.generator)
    rows = [j.to_json() for j in judge(request, [crashing(artifacts[0]), *artifacts], bench.generator, cases, Silent())]
    assert rows[0]["reason"] == "crashed (SIGSEGV) while it ran" and not rows[0]["kept"] and rows[0]["ssim"] is None
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert sum(row["chosen"] for row in rows) == 1 and all(row["latency_ms"] > 0 for row in rows[1:])


def test_where_nothing_runs_the_reasons_are_told(bench: Bench, artifacts: list[Artifact], deadly: None) -> None:
    request = bench.request("host")
    cases = torch_cases(bench.inputs, 1, bench.generator, bench.generator)
    with pytest.raises(ExportError, match=r"no artifact runs: litert/f32: crashed \(SIGSEGV\) while it ran"):
        judge(request, [crashing(artifacts[0])], bench.generator, cases, Silent())


def test_a_local_target_is_measured(bench: Bench, artifacts: list[Artifact]) -> None:
    request = bench.request("host")
    cases = torch_cases(bench.inputs, 1, bench.generator, bench.generator)
    latencies, label = candidate_latencies(request, artifacts, bench.generator, cases)
    assert label == "measured" and len(latencies) == len(artifacts) >= 2
    assert all(seconds is not None and 0 < seconds < 1 for seconds in latencies)


def test_layers_left_in_float_cost_what_float_costs_in_a_prediction(bench: Bench, artifacts: list[Artifact]) -> None:
    request, plain = bench.request(), artifacts[0]
    full = dataclasses.replace(plain, entry=dataclasses.replace(plain.entry, precision="int8"))
    works = layer_works(bench.generator.module, example_inputs(bench.generator.spec))
    layer = next(name for name, work in works.items() if work.weighted)
    cut = dataclasses.replace(full, facts={"kept_float": [f"__module.{layer}/aten::_convolution/Convolution"]})
    (int8_s, cut_s, f32_s), _ = candidate_latencies(request, [full, cut, plain], bench.generator, [])
    assert int8_s is not None and cut_s is not None and f32_s is not None
    assert int8_s < cut_s < f32_s


def test_what_a_profile_cannot_predict_stays_unknown(bench: Bench, artifacts: list[Artifact]) -> None:
    request = bench.request()
    bare = dataclasses.replace(request, target=dataclasses.replace(request.target, predict=None))
    assert bare.target.memory_bytes_per_s is None
    assert predictor(bare, Precision.F32) is None
    latencies, label = candidate_latencies(bare, artifacts, bench.generator, [])
    assert (latencies, label) == ([None, None], "predicted")


def test_predictions_depend_on_the_profile_and_measurements_do_not(bench: Bench) -> None:
    assert prediction_facts(bench.request("host")) == {}
    told = prediction_facts(bench.request("intel-n100"))
    assert set(told["macs_per_s"]) == {"f32", "f16", "int8"} and told["bytes_per_s"] > 1e9


@pytest.mark.parametrize(
    ("target", "module", "extra"),
    [
        ("raspberry-pi-5", "litert_torch", "tflite"),
        ("jetson-orin-nano", "onnx", "onnx"),
        ("jetson-agx-orin", "onnxruntime", "onnx"),
    ],
)
def test_what_a_back_end_needs_is_named_with_the_pip_install_that_brings_it(
    target: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = load_target(target)
    require_exporter(profile)  # all is installed here
    monkeypatch.setitem(sys.modules, module, None)  # what Python itself does to say: not importable
    with pytest.raises(MissingExtraError) as caught:
        require_exporter(profile)
    assert module in caught.value.message and target in caught.value.message
    assert caught.value.hint == f"pip install 'edgegen[{extra}]'"


def test_the_fastest_precision_is_the_narrowest_that_the_target_has() -> None:
    assert fastest((Precision.F32, Precision.INT8, Precision.F16)) is Precision.INT8
    assert fastest((Precision.F32, Precision.F16)) is Precision.F16
