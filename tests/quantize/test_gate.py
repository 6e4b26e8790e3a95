"""The gate keeps the fastest candidate that looks right, and says why it dropped each of the others."""

import dataclasses

from edgegen.quantize.gate import Candidate, Floors, decide

FLOORS = Floors(ssim=0.90, max_ssim_loss=0.01, min_parity_db=35.0)
F32 = Candidate("openvino/f32", "f32", 0.010, 80.0, 0.90, 0, (), 4000)
INT8 = Candidate("openvino/int8", "int8", 0.004, 38.0, 0.899, 0, (), 1000)


def outcome(*candidates):
    return {d.name: d for d in decide(candidates, FLOORS)}


def test_the_faster_precision_is_chosen_when_its_pictures_hold():
    decisions = outcome(F32, INT8)
    assert decisions["openvino/int8"].chosen and decisions["openvino/f32"].kept and not decisions["openvino/f32"].chosen


def test_int8_that_is_slower_than_float_is_dropped_with_both_times():
    decisions = outcome(F32, dataclasses.replace(INT8, latency_s=0.012))
    assert decisions["openvino/f32"].chosen
    assert "12.00 against 10.00 ms" in decisions["openvino/int8"].reason


def test_int8_that_looks_worse_is_dropped_with_both_scores():
    decisions = outcome(F32, dataclasses.replace(INT8, ssim=0.85))
    assert decisions["openvino/f32"].chosen and "0.8500" in decisions["openvino/int8"].reason


def test_a_detector_finding_drops_a_candidate_whose_ssim_is_fine():
    decisions = outcome(F32, dataclasses.replace(INT8, findings=("colour shift of 6 dE",)))
    assert not decisions["openvino/int8"].kept and "colour shift" in decisions["openvino/int8"].reason


def test_nan_is_never_shipped_while_anything_else_exists():
    decisions = outcome(dataclasses.replace(F32, ssim=0.5), dataclasses.replace(INT8, nonfinite=3))
    assert decisions["openvino/f32"].chosen and not decisions["openvino/f32"].kept


def test_a_float_artifact_without_parity_is_dropped():
    decisions = outcome(dataclasses.replace(F32, parity_db=20.0), INT8)
    assert "parity 20.0 dB" in decisions["openvino/f32"].reason and decisions["openvino/int8"].chosen


def test_what_did_not_run_is_never_chosen_even_if_nothing_else_passes():
    decisions = outcome(dataclasses.replace(F32, failure="crashed (SIGSEGV) while it ran"), dataclasses.replace(INT8, ssim=0.5))
    assert decisions["openvino/f32"].reason == "crashed (SIGSEGV) while it ran"
    assert decisions["openvino/int8"].chosen and not decisions["openvino/int8"].kept
