"""Measure bundles: statistics that say only what the runs allow, a record of everything that matters, and the procedure."""

from __future__ import annotations

from edgegen.bench.interleaved import clock_of, time_interleaved
from edgegen.bench.plan import BenchPlan, Profile, profile_plan
from edgegen.bench.protocol import bench, measure_bundle, measure_in_turn
from edgegen.bench.record import Record
from edgegen.bench.record_file import Measured, read_measured, read_record, write_record
from edgegen.bench.statistics import early_stopping_estimate, percentile, summarise

__all__ = [
    "BenchPlan", "Measured", "Profile", "Record", "bench", "clock_of", "early_stopping_estimate", "measure_bundle",
    "measure_in_turn", "percentile", "profile_plan", "read_measured", "read_record", "summarise", "time_interleaved",
    "write_record",
]  # fmt: skip
