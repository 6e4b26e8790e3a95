"""Layers: their times on a device, trtexec's own file, shares by type, and the roofline."""

import json
from pathlib import Path

import pytest

from edgegen.bench import BenchPlan
from edgegen.bench.layers import LayerProfile, measured_peaks, profile_layers, read_trtexec_profile, roofline_points
from edgegen.errors import BundleError
from edgegen.runtime.layer_times import LayerTime

LAYERS = (
    LayerTime("a", "Conv", "int8", 3000, 6000, 100),
    LayerTime("b", "Conv", "f32", 1000, 10, 0),
    LayerTime("c", "Pad", "f32", 0),
)


def test_the_layers_of_a_bundle_come_from_where_it_runs(bundle: Path) -> None:
    found = profile_layers(bundle, BenchPlan(threads=1))
    assert found.backend == "openvino" and found.reason == "" and len(found.layers) >= 2
    assert found.shares()["f32"][1] == pytest.approx(1.0) and len(roofline_points(found.layers)) == 2


def test_shares_are_told_by_layers_and_by_time() -> None:
    found = LayerProfile("x", "openvino", LAYERS)
    assert found.shares()["int8"] == (1, 0.75) and found.shares()["f32"] == (2, 0.25) and found.shares()["f16"] == (0, 0.0)
    assert [layer.name for layer in found.longest(2)] == ["a", "b"]
    assert found.to_json()["shares"]["int8"] == {"layers": 1, "time": 0.75}


def test_a_point_of_the_roofline_needs_work_and_time() -> None:
    assert roofline_points(LAYERS) == [("a", "int8", 60.0, 2e9)]


TRTEXEC = [
    {"count": 317},
    {"name": "conv1 + relu1", "timeMs": 63.4, "averageMs": 0.2, "medianMs": 0.1985, "percentage": 80.0},
    {"name": "Reformatting CopyNode", "timeMs": 15.85, "averageMs": 0.05, "percentage": 20.0},
]


def test_a_profile_of_trtexec_gives_medians_or_means_where_it_has_none(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps(TRTEXEC))
    found = read_trtexec_profile(tmp_path / "p.json")
    assert [(layer.name, layer.ns) for layer in found.layers] == [("conv1 + relu1", 198_500), ("Reformatting CopyNode", 50_000)]


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '[{"name": "a"}]', '[{"name": "a", "medianMs": -1}]', '[{"name": 1, "medianMs": 1}]', "[1}", "[" * 9999],
)
def test_what_is_no_profile_of_trtexec_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(BundleError, match=r"p\.json"):
        read_trtexec_profile(tmp_path / "p.json")


@pytest.mark.slow
def test_peaks_of_this_machine_are_those_of_a_processor() -> None:
    peaks = measured_peaks(1)
    assert peaks.source == "measured" and 1e8 < peaks.macs_per_s["f32"] < 1e13 and 1e8 < peaks.bytes_per_s < 1e13
