"""What a layer costs on a target: measured here for local targets, predicted for all others from a table that was measured on
such a device, or from the profile.

An estimate is additive: the sum of its layers. It drives pruning before the first artifact exists, and every report sets
it against the measured whole.
"""

from __future__ import annotations

from edgegen.latency.calibrate import Anchor, Calibrated, PredictionError, calibrated, prediction_error
from edgegen.latency.device_table import DeviceTable, find_device_table
from edgegen.latency.model import LatencyModel, MacCount, Roofline, estimate
from edgegen.latency.table import MeasuredTable
from edgegen.latency.work import LayerWork, Pass

__all__ = [
    "Anchor",
    "Calibrated",
    "DeviceTable",
    "LatencyModel",
    "LayerWork",
    "MacCount",
    "MeasuredTable",
    "Pass",
    "PredictionError",
    "Roofline",
    "calibrated",
    "estimate",
    "find_device_table",
    "prediction_error",
]
