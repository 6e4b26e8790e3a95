"""Artifacts are built in a child: a converter that dies loses the candidate it was at, and what it refuses is told."""

import os
from pathlib import Path
from typing import Any

import pipeline_runs
import pytest

from edgegen.building import Building, build
from edgegen.candidates import judge, torch_cases
from edgegen.data import open_inputs
from edgegen.errors import ExportError, MissingExtraError
from edgegen.generator import Generator
from edgegen.load import load
from edgegen.progress import Silent
from edgegen.recipe import load_recipe
from edgegen.request import Request
from edgegen.spec import Backend, Budget, Precision
from edgegen.target import load_target

ABORT = "import os\nos.abort()\n"
# run by every child before anything else: the real quantiser, that dies when it is used and not when it is imported
DIES_IN_USE = """
import importlib.util, os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name != "ai_edge_quantizer.quantizer":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module
        def load(module):
            run(module)
            module.Quantizer = lambda *given: os.kill(os.getpid(), signal.SIGSEGV)
        spec.loader.exec_module = load
        return spec

sys.meta_path.insert(0, Finder())
"""
PLAIN: dict[Backend, dict[str, Any]] = {Backend.OPENVINO: {"search": {}}, Backend.LITERT: {"forms": [""], "most_tries": 0}}


@pytest.fixture
def generator(tmp_path: Path) -> Generator:
    return load(pipeline_runs.write_latent_checkpoint(tmp_path))


def in_front(folder: Path, monkeypatch: pytest.MonkeyPatch, package: str, **modules: str) -> None:
    """Put `package` with the text of its `modules` in front of the real one, in child processes."""
    root = folder / "in-front"
    (root / package).mkdir(parents=True)
    for name, text in modules.items():
        (root / package / f"{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")])))


def building(generator: Generator, backend: Backend, *precisions: Precision, inputs: int = 2) -> Building:
    given = open_inputs(generator.spec, None, calibration="auto", seed=0, held_out=4).calibration(2)[:inputs]
    return Building(generator, backend, precisions, tuple(given), settings=PLAIN.get(backend, {}))


@pytest.mark.slow
def test_a_quantiser_that_kills_its_process_loses_its_candidate_and_the_float_one_is_chosen(
    generator, tmp_path, monkeypatch
) -> None:
    in_front(tmp_path, monkeypatch, ".", sitecustomize=DIES_IN_USE)
    made = build(building(generator, Backend.LITERT, Precision.INT8_DYNAMIC, Precision.F32), tmp_path / "litert")
    assert [(a.name, a.lost) for a in made] == [
        ("litert/int8-dynamic", "crashed (SIGSEGV) while it was built"), ("litert/f32", ""),
    ]  # fmt: skip
    assert [path.name for path in (tmp_path / "litert").iterdir()] == ["f32"]
    request = Request(tmp_path / "x.pt", load_target("raspberry-pi-5"), Budget(), load_recipe("export-only"), tmp_path / "out")
    inputs = open_inputs(generator.spec, None, calibration="auto", seed=0, held_out=4)
    judged = judge(request, made, generator, torch_cases(inputs, 2, generator, generator), Silent())
    assert [j.decision.chosen for j in judged] == [False, True]
    assert judged[0].decision.reason == "crashed (SIGSEGV) while it was built"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "package", "lost"),
    [
        pytest.param(Backend.OPENVINO, "nncf", Precision.INT8, id="NNCF"),
        pytest.param(Backend.TENSORRT, "onnxruntime", Precision.F16, id="onnxruntime, for TensorRT"),
        pytest.param(Backend.ONNXRUNTIME, "onnxruntime", Precision.F16, id="onnxruntime"),
    ],
)
def test_what_a_precision_needs_aborts_and_the_others_are_built(
    generator, tmp_path, monkeypatch, backend: Backend, package: str, lost: Precision
) -> None:
    in_front(tmp_path, monkeypatch, package, __init__=ABORT)
    begun = list[str]()
    made = build(building(generator, backend, lost, Precision.F32), tmp_path / "made", begun.append)
    dead, alive = f"{backend.value}/{lost.value}", f"{backend.value}/f32"
    assert [(a.name, a.lost) for a in made] == [(dead, "crashed (SIGABRT) while it was built"), (alive, "")]
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["f32"] and made[1].size_bytes > 1000
    assert begun == [dead, alive]  # the second child begins with what is left


def test_a_converter_that_dies_before_any_candidate_is_an_error_with_the_signal(generator, tmp_path, monkeypatch) -> None:
    in_front(tmp_path, monkeypatch, "litert_torch", __init__=ABORT)
    with pytest.raises(ExportError, match=r"the export for litert crashed \(SIGABRT\) before any candidate was built") as told:
        build(building(generator, Backend.LITERT, Precision.F32), tmp_path / "litert")
    assert "--backend" in told.value.hint


def test_what_the_child_lacks_is_the_error_that_it_would_be_here(generator, tmp_path, monkeypatch) -> None:
    in_front(tmp_path, monkeypatch, "litert_torch", __init__="raise ImportError('no such package')\n")
    with pytest.raises(MissingExtraError) as told:
        build(building(generator, Backend.LITERT, Precision.F32), tmp_path / "litert")
    assert told.value.exit_code == 8 and "tflite" in told.value.hint


def test_what_the_export_refuses_is_the_error_that_it_would_be_here(generator, tmp_path) -> None:
    with pytest.raises(ExportError) as told:
        build(building(generator, Backend.OPENVINO, Precision.INT8, inputs=0), tmp_path / "openvino")
    assert (told.value.message, told.value.hint) == ("int8 needs calibration inputs and there are none", "give --data")
