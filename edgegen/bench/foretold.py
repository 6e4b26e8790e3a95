"""What a bundle says was foretold of its latency, beside what was measured."""

from __future__ import annotations

from typing import Any

from edgegen.bench.record import MeasuredArtifact, Prediction
from edgegen.runtime.manifest import Manifest

FORETOLD = "foretold"
"""The key among the facts of the lineage's stage "verify" that holds {"artifact": ..., "latency_ms": ..., "label": ...}."""


def prediction(manifest: Manifest, artifact: MeasuredArtifact, target_id: str, measured_ms: float) -> Prediction | None:
    """Return what was foretold of the artifact on that target and how far off it was; None where nothing was.

    A figure for another target says nothing about this one. The lineage is free-form: what is no such figure counts as none.
    """
    found = next((stage for stage in reversed(manifest.lineage) if stage.get("stage") == "verify"), {})
    facts = found.get("facts")
    told: Any = facts.get(FORETOLD) if isinstance(facts, dict) else None
    if target_id != manifest.target or not isinstance(told, dict):
        return None
    predicted_ms, label = told.get("latency_ms"), told.get("label")
    if told.get("artifact") != f"{artifact.backend}/{artifact.precision}" or label not in ("predicted", "measured"):
        return None
    if isinstance(predicted_ms, bool) or not isinstance(predicted_ms, (int, float)) or not 0 < predicted_ms < 1e9:
        return None
    return Prediction(round(float(predicted_ms), 6), measured_ms, round(predicted_ms / measured_ms - 1, 4), label)
