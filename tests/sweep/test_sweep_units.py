"""The units of a sweep: what makes two the same, and what they share."""

import dataclasses
from pathlib import Path

import pipeline_runs
import pytest

from edgegen.errors import RecipeError, TargetError
from edgegen.recipe import Effort
from edgegen.request import Training
from edgegen.sweep.units import Asked, Unit, make_units, request_of, requests_of


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    (tmp_path / "faces.pt").write_bytes(b"weights")
    recipe = pipeline_runs.write_recipe(tmp_path)
    return Asked(
        tmp_path / "faces.pt", ("intel-n100", "host"), ("10us", "20us"), tmp_path / "out", recipe=str(recipe), effort=Effort.QUICK
    )


def keys(asked: Asked) -> set[str]:
    return {unit.key for unit in make_units(asked)}


def of_kind(asked: Asked, kind: str) -> list[Unit]:
    return [unit for unit in make_units(asked) if unit.kind == kind]


def test_targets_that_want_the_same_rewrites_share_one_unit_and_every_pair_has_its_own(asked: Asked) -> None:
    (shared,) = of_kind(asked, "shared")
    finish = of_kind(asked, "finish")
    pairs = [(target, budget) for target in ("host", "intel-n100") for budget in (0.01, 0.02)]
    assert sorted((unit.target, round((unit.budget_s or 0) * 1e3, 6)) for unit in finish) == pairs
    assert {unit.after for unit in finish} == {shared.key} and shared.job["until"] == "rewrite"


def test_targets_that_want_other_rewrites_have_a_shared_unit_of_their_own(asked: Asked) -> None:
    assert len(of_kind(dataclasses.replace(asked, targets=("host", "raspberry-pi-5")), "shared")) == 2


def test_an_alias_of_the_same_target_is_not_done_twice(asked: Asked) -> None:
    assert len(of_kind(dataclasses.replace(asked, targets=("jetson", "jetson-orin-nano")), "finish")) == 2


def test_equal_work_has_equal_keys_wherever_its_files_lie(asked: Asked, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "faces.pt").write_bytes(b"weights")
    moved = dataclasses.replace(
        asked, checkpoint=elsewhere / "faces.pt", recipe=str(pipeline_runs.write_recipe(elsewhere)), out=elsewhere
    )
    assert keys(moved) == keys(asked)


@pytest.mark.parametrize("change", [{"seed": 1}, {"effort": Effort.BALANCED}, {"min_ssim": 0.5}, {"latencies": ("11us", "21us")}],
                         ids=str)  # fmt: skip
def test_other_work_has_other_keys(asked: Asked, change: dict) -> None:
    finish = {unit.key for unit in of_kind(asked, "finish")}
    assert not finish & keys(dataclasses.replace(asked, **change))


def test_another_checkpoint_has_other_keys(asked: Asked) -> None:
    before = keys(asked)
    asked.checkpoint.write_bytes(b"other weights")
    assert not before & keys(asked)


def test_pictures_are_told_apart_by_content(asked: Asked, tmp_path: Path) -> None:
    pipeline_runs.write_photos(tmp_path / "photos", 2)
    with_photos = dataclasses.replace(asked, data=tmp_path / "photos")
    before = keys(with_photos)
    assert not before & keys(asked)
    (tmp_path / "photos" / "00.png").write_bytes(b"another picture")
    assert not before & keys(with_photos)


def test_what_is_measured_here_runs_alone_and_last(asked: Asked) -> None:
    assert [unit.alone for unit in of_kind(asked, "finish")] == [False, False, True, True]


def test_a_job_stands_for_the_request_that_compress_would_have_made(asked: Asked, tmp_path: Path) -> None:
    unit = of_kind(asked, "finish")[0]
    request = request_of(unit.job, tmp_path / "run")
    assert (request.target.id, request.budget.latency_s, request.effort) == (unit.target, unit.budget_s, Effort.QUICK)
    assert request.resume and request.out == tmp_path / "run"


def test_a_wrong_target_or_latency_is_told_before_anything_runs(asked: Asked) -> None:
    with pytest.raises(TargetError, match="intel-n10"):
        make_units(dataclasses.replace(asked, targets=("host", "intel-n10")))
    with pytest.raises(RecipeError, match="'soon' is not a duration"):
        make_units(dataclasses.replace(asked, latencies=("10us", "soon")))
    with pytest.raises(RecipeError, match="needs targets and latencies"):
        make_units(dataclasses.replace(asked, targets=()))


def test_with_shared_training_one_unit_trains_the_students_of_all_targets_that_want_the_same_rewrites(
    asked: Asked, tmp_path: Path
) -> None:
    together = dataclasses.replace(asked, training=Training.SHARED, targets=("intel-n100", "host", "raspberry-pi-5"))
    here, there = sorted(of_kind(together, "nest"), key=lambda unit: len(unit.job["points"]), reverse=True)
    assert not of_kind(together, "shared") and (here.alone, there.alone) == (True, False)  # the host's layers are timed
    assert {unit.after for unit in of_kind(together, "finish")} == {here.key, there.key}
    requests = requests_of(here.job, tmp_path / "run")
    asked_for = [(r.target.id, round((r.budget.latency_s or 0) * 1e6)) for r in requests]
    assert asked_for == [("intel-n100", 10), ("intel-n100", 20), ("host", 10), ("host", 20)]
    assert all(r.training is Training.SHARED for r in requests)


def test_another_budget_is_another_training_of_all_and_a_recipe_that_does_not_train_has_none(asked: Asked) -> None:
    together = dataclasses.replace(asked, training=Training.SHARED, targets=("intel-n100",))
    more = dataclasses.replace(together, latencies=("10us", "20us", "40us"))
    assert not keys(together) & keys(more)
    assert not of_kind(dataclasses.replace(together, recipe="export-only"), "nest")
