"""Whole runs of the real pipeline on a tiny generator: what lies in the bundle, what is done again, and what the verdict says."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pipeline_runs
import pytest
from pipeline_runs import ROOT, ask, run, stage

import edgegen.runtime
from edgegen.errors import BudgetError, MissingExtraError, RecipeError, StageError
from edgegen.generator import load_generator
from edgegen.invariants import check_invariants
from edgegen.outcome import Outcome, conclude
from edgegen.pipeline import compress
from edgegen.progress import Silent
from edgegen.reach import latency_model
from edgegen.spec import Verdict

pytestmark = pytest.mark.slow

STAGED = ("rewrite", "prune", "distill", "export", "verify", "bundle", "bench")


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A folder with the checkpoint and the recipes."""
    pipeline_runs.write_latent_checkpoint(tmp_path)
    pipeline_runs.write_recipe(tmp_path)
    pipeline_runs.write_recipe(tmp_path, trains=False)
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The same with a finished run in out/, for tests that only look."""
    folder = tmp_path_factory.mktemp("whole")
    pipeline_runs.write_latent_checkpoint(folder)
    pipeline_runs.write_recipe(folder)
    return folder, run(folder)


@pytest.fixture
def finished(whole: tuple[Path, Outcome], tmp_path: Path) -> Path:
    """A copy of the finished run, to go on with; times of files are kept."""
    return Path(shutil.copytree(whole[0], tmp_path / "copy"))


def times(folder: Path) -> dict[str, int]:
    """Modification times of all files of all stages."""
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in (folder / "out" / "stages").rglob("*") if p.is_file()}


def done(folder: Path) -> list[str]:
    """The stages that are finished."""
    return [path.name.split("-")[1] for path in sorted((folder / "out" / "stages").iterdir()) if path.suffix != ".part"]


def test_a_run_ends_with_a_verdict_and_everything_that_led_to_it(whole: tuple[Path, Outcome]) -> None:
    folder, outcome = whole
    summary = outcome.summary
    assert (outcome.exit_code, summary["verdict"], outcome.bundle) == (0, "met", folder / "out" / "bundle")
    assert [c["name"] for c in summary["candidates"]] == ["openvino/f32", "openvino/f16", "openvino/int8"]
    assert sum(c["chosen"] for c in summary["candidates"]) == 1
    assert all(c["latency_label"] == "predicted" and c["latency_ms"] > 0 for c in summary["candidates"])
    assert [row["stage"] for row in summary["stages"]] == ["rewrite", "prune", "distill", "calibrate"]
    assert summary["record"]["schema"] == "edgegen.bench/1"
    assert summary["comparison"][0]["name"] == "teacher, torch eager f32"
    stored = json.loads((folder / "out" / "summary.json").read_text(), parse_constant=pytest.fail)
    assert stored == json.loads(json.dumps(summary, default=str))
    assert done(folder) == list(STAGED)


def test_the_student_is_smaller_and_the_teacher_is_told_apart(whole: tuple[Path, Outcome]) -> None:
    folder, outcome = whole
    rewritten, pruned, distilled, _calibrated = outcome.summary["stages"]
    assert pruned["facts"]["macs"] < rewritten["facts"]["macs"]
    assert distilled["facts"]["steps"] == pipeline_runs.STEPS
    student = load_generator(stage(folder / "out", "distill"))
    assert [record.stage for record in student.lineage] == ["rewrite", "prune", "distill"]
    assert not np.array_equal(
        next(student.module.parameters()).detach().numpy(),
        next(load_generator(stage(folder / "out", "prune")).module.parameters()).detach().numpy(),
    )


def test_the_runtime_alone_checks_and_runs_the_bundle(whole: tuple[Path, Outcome]) -> None:
    bundle = whole[1].bundle
    assert bundle is not None
    checked = subprocess.run(
        [sys.executable, "-m", "edgegen.runtime", "check", str(bundle)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "4 of 4 cases pass" in checked.stdout
    with edgegen.runtime.open(bundle) as generator:
        picture = generator(seed=7)
    assert (picture.shape, picture.dtype) == ((32, 32, 3), np.uint8)


def test_the_report_stands_alone_and_shows_pictures(whole: tuple[Path, Outcome]) -> None:
    bundle = whole[1].bundle
    assert bundle is not None
    html = (bundle / "report.html").read_text()
    assert html.count("data:image/png;base64,") >= 4 * 4  # teacher, student, artifact and difference of four cases
    assert "http://" not in html.replace("http://www.w3.org/", "") and "https://" not in html
    assert "fastest that keeps the picture" in html


def test_a_second_run_in_the_same_folder_is_refused_and_changes_nothing(finished: Path) -> None:
    before = times(finished)
    with pytest.raises(RecipeError, match="already holds a run") as caught:
        run(finished)
    assert "--resume" in caught.value.hint
    assert times(finished) == before


def test_resuming_a_finished_run_does_nothing_again(finished: Path) -> None:
    before, summary = times(finished), (finished / "out" / "summary.json").read_text()
    outcome = run(finished, resume=True)
    assert times(finished) == before
    told = json.loads(summary) | {"bundle": str(outcome.bundle)}
    assert json.loads((finished / "out" / "summary.json").read_text()) == told


def test_from_a_stage_redoes_it_and_what_follows_with_the_same_result(finished: Path) -> None:
    before, student = times(finished), (stage(finished / "out", "distill") / "weights.safetensors").read_bytes()
    run(finished, start="distill")
    after = times(finished)
    redone = {name.split("/")[2].split("-")[1] for name in after if after[name] != before.get(name)}
    assert redone == set(STAGED[STAGED.index("distill") :])
    assert (stage(finished / "out", "distill") / "weights.safetensors").read_bytes() == student


def test_another_seed_trains_another_student(finished: Path) -> None:
    first = (stage(finished / "out", "distill") / "weights.safetensors").read_bytes()
    run(finished, resume=True, seed=1, until="distill")
    students = {p.read_bytes() for p in (finished / "out" / "stages").glob("*-distill-*/weights.safetensors")}
    assert first in students and len(students) == 2


@pytest.mark.parametrize("until", ("load", *STAGED, "report"))
def test_until_stops_after_that_stage_and_resume_goes_on(whole: tuple[Path, Outcome], finished: Path, until: str) -> None:
    order = ("load", *STAGED, "report")
    gone = [name for name in STAGED if order.index(name) >= order.index(until)]
    for name in gone:
        shutil.rmtree(stage(finished / "out", name))
    shutil.rmtree(finished / "out" / "bundle")
    outcome = run(finished, resume=True, until=until)
    assert done(finished) == [name for name in STAGED if order.index(name) <= order.index(until)]
    assert (outcome.bundle is not None) == (finished / "out" / "bundle").exists() == (until == "report")
    assert outcome.exit_code == 0
    if until != "report":
        assert outcome.summary["stopped_after"] == until


def test_until_a_stage_that_the_recipe_lacks_is_refused(empty: Path) -> None:
    with pytest.raises(RecipeError, match="'tiny-export' has no such stage") as caught:
        ask(empty, recipe=empty / "tiny-export.toml", until="distill")
    assert "export" in caught.value.hint


def test_a_recipe_without_training_gives_the_teacher_in_the_back_end(empty: Path) -> None:
    outcome = run(empty, recipe=empty / "tiny-export.toml")
    assert outcome.summary["verdict"] == "met"
    assert [row["stage"] for row in outcome.summary["stages"]] == ["rewrite", "calibrate"]
    assert (outcome.summary["record"], outcome.summary["comparison"]) == (None, [])
    exact = next(c for c in outcome.summary["candidates"] if c["name"] == "openvino/f32")
    assert exact["ssim"] > 0.9999  # only rounding lies between them
    assert outcome.bundle is not None and not (outcome.bundle / "report.html").exists()  # its recipe lists no report


@pytest.mark.parametrize(
    ("target", "backend"), [("raspberry-pi-5", "litert"), ("jetson-orin-nano", "tensorrt")], ids=["LiteRT", "TensorRT"]
)
def test_a_run_for_another_back_end_ends_in_a_bundle_whose_cases_pass(empty: Path, target: str, backend: str) -> None:
    outcome = run(empty, target=target)
    assert outcome.summary["verdict"] == "met" and outcome.bundle is not None
    assert {c["backend"] for c in outcome.summary["candidates"]} == {backend}
    assert outcome.summary["record"]["quality"]["passed"] is True
    if backend == "tensorrt":
        assert list(outcome.bundle.rglob("build_engine.py"))


def missed(folder: Path, **options: Any) -> Outcome:
    outcome = run(folder, recipe=folder / "tiny-export.toml", **options)
    assert outcome.exit_code == 4
    assert outcome.bundle is not None and (outcome.bundle / "manifest.json").is_file()
    assert json.loads((outcome.bundle / "manifest.json").read_text())["verdict"] == outcome.summary["verdict"]
    return outcome


def test_a_floor_above_reach_is_quality_missed_and_the_best_bundle_is_written(empty: Path) -> None:
    outcome = missed(empty, min_ssim=1.0)
    assert outcome.summary["verdict"] == "quality-missed"
    assert "below the floor of 1" in outcome.summary["reasons"][0]


def test_a_size_above_the_limit_is_budget_missed_and_the_bundle_is_written(empty: Path) -> None:
    outcome = missed(empty, max_size="1KiB")
    assert outcome.summary["verdict"] == "budget-missed"
    assert "over the budget of 1024 bytes" in outcome.summary["reasons"][0]


def test_a_bundle_that_fails_its_own_cases_is_not_met(whole: tuple[Path, Outcome]) -> None:
    folder, outcome = whole
    judged = json.loads((stage(folder / "out", "verify") / "judged.json").read_text())
    decided = conclude(ask(folder), judged, {"quality": {"passed": False}})
    assert decided.verdict is Verdict.QUALITY_MISSED
    assert decided.reasons == ("the bundle fails its stored cases in a fresh process",)


def test_the_floor_of_stored_cases_leaves_room_for_one_level_of_rounding(whole: tuple[Path, Outcome]) -> None:
    bundle = whole[1].bundle
    assert bundle is not None
    floors = {case["min_psnr_db"] for case in json.loads((bundle / "manifest.json").read_text())["cases"]}
    assert max(floors) < 48.1  # what a picture has that is off by one level everywhere


def test_a_raised_limit_turns_the_verdict_without_a_second_export(empty: Path) -> None:
    missed(empty, max_size="1KiB")
    before = times(empty)
    outcome = run(empty, recipe=empty / "tiny-export.toml", max_size="1MiB", resume=True)
    assert outcome.summary["verdict"] == "met"
    assert before.items() <= times(empty).items()


def test_a_latency_that_no_student_can_reach_stops_before_training(empty: Path) -> None:
    with pytest.raises(BudgetError, match="narrowest student needs") as caught:
        run(empty, latency="1us")
    assert "intel-n100" in caught.value.message and "0.001 ms" in caught.value.message
    assert done(empty) == ["rewrite"] and not (empty / "out" / "bundle").exists()


def test_a_latency_that_is_only_predicted_is_met_with_a_warning(empty: Path) -> None:
    outcome = run(empty, recipe=empty / "tiny-export.toml", latency="1s")
    assert (outcome.summary["verdict"], outcome.exit_code) == ("met-with-warnings", 0)
    assert "predicted from the profile" in outcome.summary["warnings"][0]


def test_a_changed_profile_predicts_again_but_does_not_export_again(empty: Path) -> None:
    profile = (ROOT / "targets" / "intel-n100.toml").read_text()
    (empty / "intel-n100.toml").write_text(profile)
    first = run(empty, recipe=empty / "tiny-export.toml", target=str(empty / "intel-n100.toml"))
    faster = profile.replace("fp32_tflops_dense = { value = 0.1", "fp32_tflops_dense = { value = 0.2")
    (empty / "intel-n100.toml").write_text(faster)
    exported = stage(empty / "out", "export").stat().st_mtime_ns
    second = run(empty, recipe=empty / "tiny-export.toml", target=str(empty / "intel-n100.toml"), resume=True)
    assert faster != profile
    assert second.summary["candidates"][0]["latency_ms"] < first.summary["candidates"][0]["latency_ms"]
    assert stage(empty / "out", "export").stat().st_mtime_ns == exported


def test_a_half_written_artifact_of_a_killed_export_does_not_reach_the_bundle(empty: Path) -> None:
    run(empty, recipe=empty / "tiny-export.toml")
    whole_export = stage(empty / "out", "export")
    part = whole_export.rename(whole_export.with_name(whole_export.name + ".part"))
    (part / "openvino" / "int8" / "left.tmp").write_text("half")
    (part / "openvino" / "int8" / "generator.bin").write_bytes(b"half")
    outcome = run(empty, recipe=empty / "tiny-export.toml", resume=True)
    assert outcome.exit_code == 0 and outcome.bundle is not None
    assert not list((empty / "out").rglob("left.tmp"))


class Watching(Silent):
    """Keeps the notes of a run."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_package_that_is_missing_is_told_before_any_stage_runs(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # what Python itself does to say: not importable
    with pytest.raises(MissingExtraError, match="onnxscript is not installed") as caught:
        run(empty, target="jetson-orin-nano")
    assert caught.value.hint == "pip install 'edgegen[onnx]'"
    assert not (empty / "out").exists()


def test_what_stops_before_export_needs_no_package_of_the_back_end(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    watching = Watching()
    compress(ask(empty, target="jetson-orin-nano", until="rewrite"), watching)
    assert "rewrite: jetson-orin-nano" in watching.notes


def test_a_target_without_peaks_cannot_steer_the_pruning(empty: Path) -> None:
    text = (ROOT / "targets" / "intel-n100.toml").read_text()
    (empty / "intel-n100.toml").write_text(text.replace("int8_tops_dense", "# int8_tops_dense"))
    with pytest.raises(BudgetError, match="no known peak for int8") as caught:
        latency_model(ask(empty, target=str(empty / "intel-n100.toml")))
    assert "edgegen cp targets/" in caught.value.hint


def test_invariants_refuse_a_generator_in_training_mode_and_one_that_gives_nan(whole: tuple[Path, Outcome]) -> None:
    student = load_generator(stage(whole[0] / "out", "distill"))
    training, broken = student.copy(), student.copy()
    training.module.train()
    next(broken.module.parameters()).data.fill_(float("nan"))
    with pytest.raises(StageError, match="distill left the generator in training mode"):
        check_invariants(student, training, "distill")
    with pytest.raises(StageError, match="prune gives NaN"):
        check_invariants(student, broken, "prune")


def test_in_turns_the_student_is_cut_and_trained_twice_on_the_way_to_the_same_goal(empty: Path) -> None:
    recipe = (empty / "tiny.toml").read_text().replace("speedup = 1.5", "speedup = 4.0\nturns = 2")
    (empty / "tiny.toml").write_text(recipe)
    outcome = run(empty, until="distill")
    assert outcome.bundle is None
    folders = [path for path in (empty / "out" / "stages").iterdir() if path.name.split("-")[1] == "distill"]
    student = max((load_generator(path) for path in folders), key=lambda g: len(g.lineage))
    cuts = [record.facts for record in student.lineage if record.stage == "prune"]
    steps = [record.facts["steps"] for record in student.lineage if record.stage == "distill"]
    assert [record.stage for record in student.lineage] == ["rewrite", "prune", "distill", "prune", "distill"]
    assert sum(steps) == pipeline_runs.STEPS and steps[0] < steps[1]
    assert cuts[0]["estimate_ms"] > cuts[1]["estimate_ms"] and cuts[1]["goal_met"]
    assert cuts[0]["goal_ms"] == pytest.approx(cuts[1]["goal_ms"])
