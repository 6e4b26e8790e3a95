"""Measure bundles: statistics that say only what the runs allow, a record of everything that matters, and the procedure."""

from __future__ import annotations

from edgegen.bench.interleaved import clock_of, time_interleaved
from edgegen.bench.protocol import BenchPlan, bench, measure_bundle
from edgegen.bench.record import Record
from edgegen.bench.record_file import read_record, write_record
from edgegen.bench.statistics import early_stopping_estimate, percentile, summarise

__all__ = [
    "BenchPlan", "Record", "bench", "clock_of", "early_stopping_estimate", "measure_bundle", "percentile", "read_record",
    "summarise", "time_interleaved", "write_record",
]  # fmt: skip
