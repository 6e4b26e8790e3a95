"""Expectations come from measured runs, with their spread, or not at all."""

import dataclasses

import pytest

from edgegen.load.families import FAMILIES
from edgegen.plan.past_runs import PastFinish, PastRun, expected_finish_s, expected_ssim, load_past_runs
from edgegen.recipe import Effort
from edgegen.spec import Backend

RUN = PastRun(("dcgan",), "faces", effort=Effort.BALANCED, macs_ratio=4.0, ssim=0.9)


def expect(
    *runs: PastRun, family: str = "dcgan", effort: Effort = Effort.BALANCED, ratio: float = 4.0, loss: float | None = None
):
    return expected_ssim(runs, family=family, effort=effort, macs_ratio=ratio, picture_loss=loss)


def test_a_student_cut_like_a_past_run_is_expected_to_look_like_it_and_one_run_tells_no_spread() -> None:
    found = expect(RUN)
    assert found is not None
    assert (found.ssim, found.low, found.high, found.run_count) == (pytest.approx(0.9), None, None, 1)
    assert found.to_json()["label"] == "expected"


@pytest.mark.parametrize(
    ("unlike", "options"),
    [
        ("another family", {"family": "unet"}),
        ("another effort", {"effort": Effort.QUICK}),
        ("cut more than twice as much", {"ratio": 8.1}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_without_a_comparable_run_nothing_is_expected(unlike: str, options: dict) -> None:
    assert expect(RUN, **options) is None, unlike


def test_less_cut_is_expected_to_look_better_and_an_uncut_student_like_the_teacher() -> None:
    scores = [expect(RUN, ratio=ratio) for ratio in (1.0, 2.0, 4.0, 8.0)]
    assert [pytest.approx(s.ssim) for s in scores if s] == [1.0, 0.95, 0.9, 0.85]


def test_runs_that_disagree_are_the_spread() -> None:
    found = expect(RUN, dataclasses.replace(RUN, ssim=0.8))
    assert found is not None
    assert (found.low, found.ssim, found.high, found.run_count) == (
        pytest.approx(0.8), pytest.approx(0.85), pytest.approx(0.9), 2
    )  # fmt: skip


def test_the_loss_before_training_has_a_say_where_the_past_run_wrote_its_own_down() -> None:
    known = dataclasses.replace(RUN, picture_loss=0.01)
    found = expect(known, loss=0.02)
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(0.8), pytest.approx(0.9))  # twice the loss, the same MACs
    assert expect(known, loss=None) == expect(RUN)


def test_a_recipe_that_says_how_long_to_train_is_compared_with_runs_of_a_like_length_only() -> None:
    written_down = dataclasses.replace(RUN, steps=1000, effort=Effort.QUICK)
    expected = [
        expected_ssim([run], family="dcgan", effort=Effort.BALANCED, macs_ratio=4.0, picture_loss=None, steps=steps)
        for run, steps in ((RUN, 900), (written_down, 900), (written_down, 400))
    ]
    assert [found is not None for found in expected] == [False, True, False]


def test_a_run_of_a_recipe_of_its_own_speaks_for_no_effort_but_for_trainings_of_a_like_length() -> None:
    own = dataclasses.replace(RUN, effort=None, steps=1800)
    assert all(expect(own, effort=effort) is None for effort in Effort)
    found = expected_ssim([own], family="dcgan", effort=Effort.QUICK, macs_ratio=4.0, picture_loss=None, steps=2000)
    assert found is not None and found.ssim == pytest.approx(0.9)


def test_the_rest_of_a_run_takes_what_it_took_elsewhere_scaled_by_the_speed_of_the_machine() -> None:
    small = PastFinish("a", Backend.OPENVINO, teacher_macs=1e6, seconds=10.0, macs_per_s=1e9)
    large = PastFinish("b", Backend.OPENVINO, teacher_macs=3e6, seconds=30.0, macs_per_s=1e9)

    def expect_s(macs: float, speed: float = 1e9, backend: Backend = Backend.OPENVINO) -> float | None:
        return expected_finish_s([large, small], backend=backend, teacher_macs=macs, macs_per_s=speed)

    assert [expect_s(macs) for macs in (1e6, 2e6, 3e6, 29e6, 2e5)] == [pytest.approx(s) for s in (10, 20, 30, 30, 10)]
    assert expect_s(31e6) is None and expect_s(0.9e5) is None
    assert expect_s(1e6, speed=0.5e9) == pytest.approx(20.0)
    assert expect_s(1e6, backend=Backend.LITERT) is None


def test_the_runs_that_come_with_edgegen_name_families_it_has() -> None:
    names = {family.name for family in FAMILIES}
    runs = load_past_runs().runs
    assert runs and all(set(run.families) <= names and run.ssim < 1.0 < run.macs_ratio for run in runs)
