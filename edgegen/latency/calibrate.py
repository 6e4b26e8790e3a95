"""Correct an additive model by whole generators that were measured, and say how far off it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from edgegen.latency.model import LatencyModel, estimate
from edgegen.latency.work import LayerWork

_PULL = 0.1  # how much a relative error of one weighs against scales that leave one, or a constant that takes a whole generator


@dataclasses.dataclass(frozen=True)
class Anchor:
    """A whole generator that was measured: its layers, as `edgegen.prune.work.layer_works` lists them, and its seconds."""

    works: tuple[LayerWork, ...]
    seconds: float


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """`base` with layers and passes scaled, and a constant for every call: it goes with the input of the generator."""

    base: LatencyModel
    layer_scale: float
    pass_scale: float
    call_s: float

    @property
    def label(self) -> str:
        """Where the estimates of `base` come from."""
        return self.base.label

    def seconds(self, work: LayerWork) -> float:
        """Return the estimated latency of one layer and its passes."""
        layers, passes, calls = _parts(self.base, [work])
        return self.layer_scale * layers + self.pass_scale * passes + self.call_s * calls

    def facts(self) -> dict[str, float]:
        """Return what was fitted, for the record of a stage."""
        return {"layer_scale": self.layer_scale, "pass_scale": self.pass_scale, "call_ms": self.call_s * 1e3}


def calibrated(model: LatencyModel, anchors: Sequence[Anchor]) -> Calibrated:
    """Return `model` with the scales and the constant that fit `anchors` best in relative error, none of them below zero.

    Non-negative least squares (Lawson and Hanson 1974), pulled towards scales of one and no constant: two or three anchors leave
    much open. Without anchors nothing is changed.
    """
    import numpy as np
    from scipy.optimize import nnls

    if not anchors:
        return Calibrated(model, 1.0, 1.0, 0.0)
    rows = np.array([_parts(model, anchor.works) for anchor in anchors])
    measured = np.array([anchor.seconds for anchor in anchors])
    largest = float(measured.max())
    rows[:, 2] *= largest  # the constant in units of the slowest anchor, so that the pull has no units
    rows /= measured[:, None]
    pull = _PULL * np.eye(3)
    found, _ = nnls(np.vstack([rows, pull]), np.concatenate([np.ones(len(anchors)), pull @ [1.0, 1.0, 0.0]]))
    return Calibrated(model, float(found[0]), float(found[1]), float(found[2]) * largest)


def _parts(model: LatencyModel, works: Sequence[LayerWork]) -> tuple[float, float, int]:
    """Return the seconds of layers, those of passes and hand-overs, and how many inputs a call has."""
    layers = estimate(model, [dataclasses.replace(work, passes=()) for work in works if work.weighted])
    inputs = sum(work.kind == "input" for work in works)
    return layers, estimate(model, works) - layers, inputs


@dataclasses.dataclass(frozen=True)
class PredictionError:
    """An estimate beside what was measured of the same generator, both in seconds."""

    predicted_s: float
    measured_s: float
    label: str

    @property
    def relative(self) -> float:
        """(predicted - measured) / measured."""
        return self.predicted_s / self.measured_s - 1

    def facts(self) -> dict[str, Any]:
        """Return what reports show."""
        return {
            "predicted_ms": self.predicted_s * 1e3,
            "measured_ms": self.measured_s * 1e3,
            "relative_error": self.relative,
            "label": self.label,
        }


def prediction_error(model: LatencyModel, works: Sequence[LayerWork], measured_s: float) -> PredictionError:
    """Return how far the estimate of a generator is from what was measured."""
    return PredictionError(estimate(model, works), measured_s, model.label)
