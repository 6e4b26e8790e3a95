"""Quantisation-aware training inside a run: when it happens, and that its candidates stand beside the others."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pipeline_runs
import pytest
from pipeline_runs import ask, run, stage

from edgegen.errors import RecipeError
from edgegen.recipe import Choice, DistillConfig, Effort, LossConfig, QatConfig, load_recipe
from edgegen.retrain import training_config, wants_training

KEPT = {"precision": "int8", "kept": True, "reason": "fastest that keeps the picture"}
UGLY = {"precision": "int8", "kept": False, "reason": "visibly worse: SSIM 0.90 against 0.95 of the float student"}
SLOW = {"precision": "int8", "kept": False, "reason": "slower than openvino/f32: 2.00 against 1.00 ms"}
FLOAT = {"precision": "f32", "kept": True, "reason": ""}


def recipe_with(folder: Path, section: str) -> Path:
    """The recipe of small runs with a qat stage."""
    text = pipeline_runs.write_recipe(folder).read_text().replace('"verify", ', '"verify", "qat", ')
    path = folder / "with-qat.toml"
    path.write_text(text.replace("[bench]", f"[qat]\n{section}\n\n[bench]"))
    return path


@dataclasses.dataclass
class Asked:
    """As much of a delivery as the decision looks at."""

    request: Any


def decides(folder: Path, judged: list[dict[str, object]], *, when: str, effort: Effort) -> bool:
    pipeline_runs.write_latent_checkpoint(folder)
    request = ask(folder, recipe=recipe_with(folder, f'when = "{when}"'), effort=effort)
    return wants_training(Asked(request), judged)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("judged", "when", "effort", "wanted"),
    [
        ([FLOAT, UGLY], "auto", Effort.BALANCED, True),
        ([FLOAT, KEPT], "auto", Effort.BALANCED, False),
        ([FLOAT, KEPT, UGLY], "auto", Effort.BALANCED, False),
        ([FLOAT, SLOW], "auto", Effort.BALANCED, False),
        ([FLOAT, UGLY], "auto", Effort.QUICK, False),
        ([FLOAT, KEPT], "auto", Effort.THOROUGH, True),
        ([FLOAT, KEPT], "yes", Effort.QUICK, True),
        ([FLOAT, UGLY], "no", Effort.THOROUGH, False),
        ([FLOAT], "yes", Effort.THOROUGH, False),
    ],
)
def test_it_trains_where_int8_misses_the_floor_at_thorough_effort_or_where_it_is_asked_to(
    tmp_path: Path, judged: list[dict[str, object]], when: str, effort: Effort, wanted: bool
) -> None:
    assert decides(tmp_path, judged, when=when, effort=effort) is wanted


def test_a_recipe_that_lists_qat_without_verify_is_refused(tmp_path: Path) -> None:
    path = recipe_with(tmp_path, 'when = "yes"')
    path.write_text(path.read_text().replace('"verify", ', "").replace("[verify]\nheld_out = 4\n", ""))
    with pytest.raises(RecipeError, match="has qat but not verify"):
        load_recipe(str(path))


def test_settings_of_a_stage_that_is_not_listed_and_unknown_keys_are_refused(tmp_path: Path) -> None:
    path = recipe_with(tmp_path, "stepz = 3")
    with pytest.raises(RecipeError, match="qat.stepz is not a key"):
        load_recipe(str(path))
    path.write_text(path.read_text().replace("stepz = 3", "steps = 3").replace('"qat", ', ""))
    with pytest.raises(RecipeError, match=r"\[qat\] is set but the stage qat is not listed"):
        load_recipe(str(path))


def test_its_settings_are_those_of_distillation_shorter_and_gentler(tmp_path: Path) -> None:
    from edgegen.load import load

    teacher = load(pipeline_runs.write_latent_checkpoint(tmp_path))
    distilled = DistillConfig(steps=2000, batch=8, losses=LossConfig(ssim=0.5, adversarial=0.1), patience=3)
    config = training_config(QatConfig(), distilled, Effort.BALANCED, teacher, teacher)
    assert (config.steps, config.learning_rate, config.batch, config.patience) == (200, 5e-4, 8, 0)
    assert (config.losses.ssim, config.losses.adversarial) == (0.5, 0.0)
    asked = training_config(QatConfig(Choice.YES, steps=17, learning_rate=1e-4), distilled, Effort.BALANCED, teacher, teacher)
    assert (asked.steps, asked.learning_rate) == (17, 1e-4)


@pytest.mark.slow
def test_the_trained_candidate_stands_beside_the_others_in_summary_report_and_lineage(tmp_path: Path) -> None:
    pipeline_runs.write_latent_checkpoint(tmp_path)
    recipe = recipe_with(tmp_path, 'when = "yes"\nsteps = 8')
    untrained = recipe.read_text().replace('"prune", "distill", ', "").replace('"bench", ', "").split("[prune]")
    recipe.write_text(untrained[0] + "[verify]" + untrained[1].split("[verify]")[1].split("[bench]")[0])
    outcome = run(tmp_path, recipe=recipe)
    names = [c["name"] for c in outcome.summary["candidates"]]
    assert [name for name in names if "QAT" in name] == ["openvino/int8 (QAT)"] and "openvino/int8" in names
    assert "openvino/int8 (QAT)" in (outcome.bundle / "report.html").read_text()
    folder = stage(tmp_path / "out", "qat")
    trained = json.loads((folder / "student" / "generator.json").read_text())["lineage"][-1]
    assert trained["stage"] == "qat" and trained["facts"]["steps"] == 8
    assert {"ptq_psnr_db", "qat_psnr_db"} <= set(trained["facts"])
    chosen = next(c["name"] for c in outcome.summary["candidates"] if c["chosen"])
    stages = [record["stage"] for record in outcome.summary["stages"]]
    assert ("qat" in stages) == ("QAT" in chosen)
    before = folder.stat().st_mtime_ns
    again = run(tmp_path, recipe=recipe, resume=True)
    assert folder.stat().st_mtime_ns == before
    assert [c["name"] for c in again.summary["candidates"]] == names
