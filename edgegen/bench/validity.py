"""Is a measurement worth comparing? Computed from what happened, never set by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgegen.bench.record import CasesQuality, Deadline, Validity
from edgegen.bench.statistics import Summary, least_count

_MAX_COV = 0.10  # on a CPU; above it something else was running or the clock moved
_MAX_LOAD_PER_CORE = 0.5
_INT8_SHARE = 0.5  # of the computing layers of an int8 file: below it, it runs in float


def judge_gate(quality: CasesQuality) -> Validity:
    """Return the validity of a record whose correctness gate failed."""
    reason = "no stored cases to check it with" if quality.n == 0 else "the stored cases fail: timings are withheld"
    return Validity(False, (reason,))


def judge(sustained: Summary, warm: Mapping[str, Any], precision: str) -> Validity:
    """Return the validity of sustained runs; `warm` is what the timing process said."""
    before, after, ran = warm["machine_before"], warm["machine_after"], warm["ran"]
    reasons, warnings = [], []
    if sustained.n < least_count(0.9):
        reasons.append(f"{sustained.n} runs are too few for a p90 ({least_count(0.9)})")
    if sustained.cov > _MAX_COV:
        reasons.append(f"run times vary by {sustained.cov:.0%}, more than {_MAX_COV:.0%}: the machine was not at rest")
    if _grew(before, after, "throttle_count"):
        reasons.append("the processor was throttled")
    if _grew(before, after, "swap_used_bytes"):
        reasons.append("memory was swapped out meanwhile")
    if ran.get("stands_in_for"):
        reasons.append(f"{ran['backend']} stands in for {ran['stands_in_for']}: good for verification, its times mean nothing")
    types = ran.get("execution_types")
    if types and precision.startswith("int8") and types.get("int8", 0) < _INT8_SHARE * sum(types.values()):
        warnings.append(f"only {types.get('int8', 0)} of {sum(types.values())} layers run in int8")
    if warm["burst"]["warmup_stable"] is False:
        warnings.append("the warm-up did not become stable")
    cores = len(before["cpu_affinity"] or ()) or 1
    if (before["load_1min"] or 0) > _MAX_LOAD_PER_CORE * cores + 1:
        warnings.append(f"other work was running: load {before['load_1min']:.1f} on {cores} cores")
    if before["cpu_governor"] not in (None, "performance"):
        warnings.append(f"the CPU governor is '{before['cpu_governor']}', not 'performance'")
    return Validity(not reasons, tuple(reasons), tuple(warnings))


def deadline(samples_ns: Sequence[int], budget_s: float) -> Deadline:
    """Return how the runs kept a frame budget."""
    late = [sample > budget_s * 1e9 for sample in samples_ns]
    longest = current = 0
    for missed in late:
        current = current + 1 if missed else 0
        longest = max(longest, current)
    return Deadline(round(budget_s * 1e3, 6), sum(late), round(sum(late) / len(late), 9), longest)


def _grew(before: Mapping[str, Any], after: Mapping[str, Any], key: str) -> bool:
    return before[key] is not None and after[key] is not None and after[key] > before[key]
