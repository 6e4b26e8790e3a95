"""The verdict: what is missed, in words with numbers, and which exit code it gives."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from edgegen.outcome import Outcome, conclude
from edgegen.recipe import load_recipe
from edgegen.request import Request
from edgegen.spec import Budget, Verdict
from edgegen.target import load_target

CHOSEN = {
    "name": "openvino/int8", "chosen": True, "kept": True, "reason": "fastest that passes", "ssim": 0.91, "latency_ms": 4.0,
    "latency_label": "measured", "size_bytes": 1000, "parity": {"per_picture": [{"psnr_db": 41.0}, {"psnr_db": 38.0}]},
}  # fmt: skip
OTHER = {**CHOSEN, "name": "openvino/f32", "chosen": False, "ssim": 0.1}
RECORD = {"memory": {"vm_hwm_bytes": 100 << 20}}


def request(**budget: Any) -> Request:
    return Request(Path("a.pt"), load_target("host"), Budget(**budget), load_recipe("balanced"), Path("out"))


def decide(asked: Request, record: Any = RECORD, **chosen: Any):
    return conclude(asked, [OTHER, {**CHOSEN, **chosen}], record)


def test_without_a_budget_a_good_artifact_is_met_and_the_reason_names_it() -> None:
    decided = decide(request())
    assert decided.verdict is Verdict.MET
    assert decided.reasons == ("openvino/int8: fastest that passes",)


@pytest.mark.parametrize(
    ("budget", "facts", "verdict", "words"),
    [
        pytest.param({"latency_s": 0.003}, {}, Verdict.BUDGET_MISSED, ("4.00 ms", "measured", "3.00 ms"), id="latency"),
        pytest.param({"size_bytes": 999}, {}, Verdict.BUDGET_MISSED, ("1000 bytes", "999 bytes"), id="size"),
        pytest.param({"memory_bytes": 64 << 20}, {}, Verdict.BUDGET_MISSED, ("100.0 MiB", "64.0 MiB"), id="memory"),
        pytest.param({"min_ssim": 0.92}, {}, Verdict.QUALITY_MISSED, ("0.910", "0.92"), id="quality"),
        pytest.param({}, {"kept": False, "reason": "NaN"}, Verdict.QUALITY_MISSED, ("no candidate", "NaN"), id="gate"),
    ],
)
def test_what_is_missed_is_told_with_both_numbers(
    budget: dict[str, Any], facts: dict[str, Any], verdict: Verdict, words: tuple[str, ...]
) -> None:
    decided = decide(request(**budget), **facts)
    assert decided.verdict is verdict
    assert all(word in decided.reasons[0] for word in words)


def test_quality_outranks_the_budget_and_both_reasons_are_told() -> None:
    decided = decide(request(min_ssim=0.95, latency_s=0.001))
    assert decided.verdict is Verdict.QUALITY_MISSED
    assert len(decided.reasons) == 2


def test_a_budget_that_is_met_exactly_is_met() -> None:
    asked = request(latency_s=0.004, size_bytes=1000, memory_bytes=100 << 20, min_ssim=0.91)
    assert decide(asked).verdict is Verdict.MET


@pytest.mark.parametrize(
    ("budget", "facts", "record", "word"),
    [
        pytest.param({"latency_s": 1.0}, {"latency_label": "predicted"}, RECORD, "predicted", id="latency is a prediction"),
        pytest.param({"latency_s": 1.0}, {"latency_ms": None}, RECORD, "not checked", id="latency unknown"),
        pytest.param({"memory_bytes": 1 << 30}, {}, None, "not measured", id="memory not measured"),
    ],
)
def test_what_could_not_be_checked_is_a_warning(budget: dict[str, Any], facts: dict[str, Any], record: Any, word: str) -> None:
    decided = decide(request(**budget), record, **facts)
    assert decided.verdict is Verdict.MET_WITH_WARNINGS
    assert word in decided.warnings[0]


def test_a_device_must_come_within_six_decibels_of_the_worst_case_here() -> None:
    assert decide(request()).min_case_psnr_db == pytest.approx(32.0)


def test_a_bad_artifact_still_asks_the_device_for_something() -> None:
    assert decide(request(), parity={"per_picture": [{"psnr_db": 3.0}]}).min_case_psnr_db == 12.0


@pytest.mark.parametrize("verdict", list(Verdict))
def test_only_a_missed_budget_or_floor_gives_exit_code_4(verdict: Verdict) -> None:
    expected = 4 if verdict in (Verdict.QUALITY_MISSED, Verdict.BUDGET_MISSED) else 0
    assert Outcome(Path("bundle"), {"verdict": verdict.value}).exit_code == expected


def test_a_run_that_was_told_to_stop_early_exits_with_0() -> None:
    assert Outcome(None, {"stopped_after": "prune"}).exit_code == 0


def test_a_verdict_cannot_be_changed_afterwards() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        decide(request()).verdict = Verdict.MET  # type: ignore[misc]
