"""LiteRT candidates are built in a child: a converter that dies loses the candidate it was at, and what it refuses is told."""

import os
from pathlib import Path

import pipeline_runs
import pytest

from edgegen.candidates import judge, torch_cases
from edgegen.data import open_inputs
from edgegen.errors import ExportError, MissingExtraError
from edgegen.generator import Generator
from edgegen.load import load
from edgegen.progress import Silent
from edgegen.recipe import load_recipe
from edgegen.request import Request
from edgegen.spec import Budget, Precision
from edgegen.target import load_target
from edgegen.trial import Building, build_litert

DIE = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"
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
SETTINGS = {"forms": [""], "most_tries": 0}


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


def building(generator: Generator, *precisions: Precision) -> Building:
    inputs = open_inputs(generator.spec, None, calibration="auto", seed=0, held_out=4)
    return Building(generator, precisions, tuple(inputs.calibration(2)), (), SETTINGS)


@pytest.mark.slow
def test_a_quantiser_that_kills_its_process_loses_its_candidate_and_the_float_one_is_chosen(
    generator, tmp_path, monkeypatch
) -> None:
    in_front(tmp_path, monkeypatch, ".", sitecustomize=DIES_IN_USE)
    made = build_litert(building(generator, Precision.INT8_DYNAMIC, Precision.F32), tmp_path / "litert")
    assert [(a.name, a.lost) for a in made] == [
        ("litert/int8-dynamic", "its converter crashed (SIGSEGV)"), ("litert/f32", ""),
    ]  # fmt: skip
    assert [path.name for path in (tmp_path / "litert").iterdir()] == ["f32"]
    request = Request(tmp_path / "x.pt", load_target("raspberry-pi-5"), Budget(), load_recipe("export-only"), tmp_path / "out")
    inputs = open_inputs(generator.spec, None, calibration="auto", seed=0, held_out=4)
    judged = judge(request, made, generator, torch_cases(inputs, 2, generator, generator), Silent())
    assert [j.decision.chosen for j in judged] == [False, True]
    assert judged[0].decision.reason == "its converter crashed (SIGSEGV)"


def test_a_converter_that_dies_before_any_candidate_is_an_error_with_the_signal(generator, tmp_path, monkeypatch) -> None:
    in_front(tmp_path, monkeypatch, "litert_torch", __init__=DIE)
    with pytest.raises(ExportError, match=r"LiteRT's converter crashed \(SIGSEGV\) before any candidate was built") as told:
        build_litert(building(generator, Precision.F32), tmp_path / "litert")
    assert "--backend" in told.value.hint


def test_what_the_child_lacks_is_the_error_that_it_would_be_here(generator, tmp_path, monkeypatch) -> None:
    in_front(tmp_path, monkeypatch, "litert_torch", __init__="raise ImportError('no such package')\n")
    with pytest.raises(MissingExtraError) as told:
        build_litert(building(generator, Precision.F32), tmp_path / "litert")
    assert told.value.exit_code == 8 and "tflite" in told.value.hint
