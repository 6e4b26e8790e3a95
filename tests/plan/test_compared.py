"""What was foretold is held against what it came to, figure by figure, with the error."""

import dataclasses
from pathlib import Path

import pipeline_runs
import pytest
from pipeline_runs import ask
from torch import nn

from edgegen.generator import Generator, StageRecord
from edgegen.graph import trace
from edgegen.plan.compared import foretold_latency, prediction_rows
from edgegen.plan.machine import busy_sentence
from edgegen.report.model import PredictionRow
from edgegen.spec import ComponentSpec, Kind, Layout, TensorSpec
from edgegen.target import load_target

IMAGE = TensorSpec("x", Kind.IMAGE, (3, 8, 8), Layout.CHW, low=0.0, high=1.0)
INT8 = {
    "precision": "int8",
    "backend": "openvino",
    "latency_ms": 4.0,
    "latency_label": "measured",
    "size_bytes": 9_000,
    "ssim": 0.9,
}
F32 = {**INT8, "precision": "f32", "latency_ms": 8.0, "size_bytes": 20_000}


def student(*estimates_ms: float) -> Generator:
    """A student that was cut once per estimate."""
    spec = ComponentSpec("generator", (IMAGE,), (IMAGE,))
    records = [StageRecord("prune", {}, 1.0, {"estimate_ms": ms, "label": "measured"}) for ms in estimates_ms]
    return Generator(trace(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1))), spec, "none", {}, {}, tuple(records))


def rows(folder: Path, cut: Generator, *judged: dict, target: str = "host") -> dict[str, PredictionRow]:
    pipeline_runs.write_recipe(folder)
    (folder / "faces.pt").write_bytes(b"weights")
    request = dataclasses.replace(ask(folder), target=load_target(target))
    return {row.name: row for row in prediction_rows(request, cut, judged, None)}


def test_the_error_of_the_latency_estimate_is_that_of_the_precision_it_was_made_for_whichever_ships(tmp_path: Path) -> None:
    found = rows(tmp_path, student(3.8), {**F32, "chosen": True}, {**INT8, "chosen": False})["latency"]
    assert found.error == pytest.approx(-0.05) and "int8 artifact" in found.note
    assert (found.predicted, found.measured) == ("3.80\u202fms", "4.00\u202fms")


def test_of_several_cuts_the_estimate_of_the_last_is_compared(tmp_path: Path) -> None:
    assert rows(tmp_path, student(9.0, 4.4), {**INT8, "chosen": True})["latency"].error == pytest.approx(0.1)


def test_a_predicted_latency_is_no_measurement_and_has_no_error(tmp_path: Path) -> None:
    predicted = {**INT8, "latency_label": "predicted", "chosen": True}
    found = rows(tmp_path, student(3.8), predicted, target="intel-n100")["latency"]
    assert (found.error, found.measured) == (None, "–")


def foretold(folder: Path, cut: Generator, judged: dict, target: str = "host") -> object:
    pipeline_runs.write_recipe(folder)
    (folder / "faces.pt").write_bytes(b"weights")
    return foretold_latency(dataclasses.replace(ask(folder), target=load_target(target)), cut, [judged])


def test_a_bundle_tells_whoever_measures_it_what_was_foretold_of_what_ships(tmp_path: Path) -> None:
    shipped = {**INT8, "name": "openvino/int8", "chosen": True}
    predicted = {**shipped, "latency_label": "predicted"}
    told = {"artifact": "openvino/int8", "latency_ms": 4.0, "label": "predicted"}
    assert foretold(tmp_path, student(3.8), predicted, "intel-n100") == told
    told = {"artifact": "openvino/int8", "latency_ms": 3.8, "label": "measured"}  # layers measured here and added up
    assert foretold(tmp_path, student(3.8), shipped) == told
    assert foretold(tmp_path, student(3.8), {**shipped, **F32}) is None  # pruning estimated int8
    assert foretold(tmp_path, student(), shipped) is None
    assert foretold(tmp_path, student(), {**predicted, "latency_ms": None}, "intel-n100") is None


def test_an_uncut_student_was_foretold_nothing_of_its_latency_but_its_size(tmp_path: Path) -> None:
    found = rows(tmp_path, student(), {**INT8, "chosen": True})
    assert "latency" not in found and found["artifact"].error is not None


def test_a_machine_that_others_use_is_told_and_one_at_rest_is_not() -> None:
    busy, rest = ({"load_1min": load, "cpu_affinity": [0, 1]} for load in (8.04, 1.2))
    assert (busy_sentence(busy) or "").startswith("other work is running here (load 8.0 on 2 cores)")
    assert busy_sentence(rest) is None and busy_sentence({"load_1min": None, "cpu_affinity": None}) is None
