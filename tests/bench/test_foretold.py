"""What a bundle says was foretold, beside what was measured of it."""

from pathlib import Path
from typing import Any

import pytest
import small_bundles

from edgegen.bench import BenchPlan, measure_bundle, read_record
from edgegen.bench.foretold import FORETOLD, prediction
from edgegen.bench.record import MeasuredArtifact

SHORT = BenchPlan(threads=1, min_runs=8, min_seconds=0.0, processes=1, cold_processes=0, sensor_hz=0.0)


def lineage(foretold: Any) -> tuple[dict[str, Any], ...]:
    return ({"stage": "verify", "config": {}, "facts": {FORETOLD: foretold}},)


def test_the_error_of_what_was_foretold_is_in_the_record(tmp_path: Path) -> None:
    told = {"artifact": "openvino/f32", "latency_ms": 4.0, "label": "predicted"}
    bundle = small_bundles.style(tmp_path / "a").write(tmp_path / "b", target="raspberry-pi-5", lineage=lineage(told))
    record = measure_bundle(bundle, SHORT, target_id="raspberry-pi-5", out=tmp_path / "r.json")
    found = record.prediction
    assert found is not None and record.latency_ms is not None and found.label == "predicted"
    assert (found.predicted_ms, found.measured_ms) == (4.0, record.latency_ms.sustained.p50)
    assert found.error == pytest.approx(4.0 / found.measured_ms - 1, abs=1e-3)
    assert read_record(tmp_path / "r.json").prediction == found
    assert measure_bundle(bundle, SHORT, target_id="host").prediction is None  # it was foretold for another target


@pytest.mark.parametrize(
    "told",
    [
        None, "soon", {}, {"artifact": "openvino/int8", "latency_ms": 4.0, "label": "predicted"},
        {"artifact": "openvino/f32", "latency_ms": "4", "label": "predicted"},
        {"artifact": "openvino/f32", "latency_ms": True, "label": "predicted"},
        {"artifact": "openvino/f32", "latency_ms": 0, "label": "predicted"},
        {"artifact": "openvino/f32", "latency_ms": 4.0, "label": "guessed"},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_figure_of_this_artifact_foretells_nothing(told: Any, small: small_bundles.Small) -> None:
    artifact = MeasuredArtifact("0" * 64, "small", "openvino", "f32", "0" * 64, 1)
    assert prediction(small.manifest(lineage=lineage(told)), artifact, "host", 5.0) is None
