"""Percentiles that are stated only when the runs allow it, and MLPerf's early-stopping estimate.

A percentile is nearest-rank. It is None with fewer runs than its least count, the smallest number for which the early-stopping
rule can state anything: 64 runs for p90, 130 for p95, 662 for p99, 6,636 for p99.9.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from edgegen.runtime.timing import variation

CONFIDENCE = 0.99
_LEAST_COUNTS = {0.9: 64, 0.95: 130, 0.99: 662, 0.999: 6636}


def percentile(samples: Sequence[int], p: float) -> int | None:
    """Return the nearest-rank percentile: the smallest sample that at least a share `p` (0 to 1) do not exceed.

    None when there are fewer samples than the least count of `p`.
    """
    if len(samples) < least_count(p):
        return None
    return sorted(samples)[max(1, _rank(len(samples), p)) - 1]


def least_count(p: float) -> int:
    """Return how many runs it takes before percentile `p` may be stated: the least q with P[Binom(q, 1 - p) <= 1] <= 1 %."""
    if p <= 0.5:
        return 1
    if p in _LEAST_COUNTS:
        return _LEAST_COUNTS[p]
    q = 2
    while p**q + q * (1 - p) * p ** (q - 1) > 1 - CONFIDENCE:
        q += 1
    return q


def allowed_overruns(q: int, p: float = 0.9, confidence: float = CONFIDENCE) -> int:
    """Return the largest t with P[Binom(q, 1 - p) <= t] <= 1 - confidence, 0 if there is none above 0 (MLPerf's rule, d = 0)."""
    overrun, bound = 1 - p, 1 - confidence
    log_term = q * math.log(p)  # P[Binom = 0]
    total, t = math.exp(log_term), -1
    while total <= bound and t < q:
        t += 1
        log_term += math.log((q - t) / (t + 1) * overrun / p) if t < q else 0.0
        total += math.exp(log_term)
    return max(t, 0)


def early_stopping_estimate(samples: Sequence[int], p: float = 0.9) -> int | None:
    """Return a latency that, with 99 % confidence, at least a share `p` of all runs stay under; None with too few samples.

    Never below the empirical percentile: short runs are punished, not flattered.
    """
    t = allowed_overruns(len(samples), p)
    return None if t < 1 else sorted(samples)[len(samples) - t]


@dataclasses.dataclass(frozen=True)
class Summary:
    """Samples in ms with 3 or more decimals, from integer ns. None: too few runs to say."""

    n: int
    mean: float
    std: float
    min: float
    p50: float
    max: float
    cov: float
    p90: float | None = None
    p90_early_stop: float | None = None
    p95: float | None = None
    p99: float | None = None
    p99_9: float | None = None
    jitter_p99_minus_p50: float | None = None


def summarise(samples: Sequence[int]) -> Summary:
    """Return the summary of at least one sample, integer ns."""
    mean, cov = sum(samples) / len(samples), variation(samples)
    p50, p99 = percentile(samples, 0.5), percentile(samples, 0.99)
    assert p50 is not None
    return Summary(
        n=len(samples), mean=_ms(mean), std=_ms(mean * cov), min=_ms(min(samples)), p50=_ms(p50),
        p90=_maybe_ms(percentile(samples, 0.9)), p90_early_stop=_maybe_ms(early_stopping_estimate(samples)),
        p95=_maybe_ms(percentile(samples, 0.95)), p99=_maybe_ms(p99), p99_9=_maybe_ms(percentile(samples, 0.999)),
        max=_ms(max(samples)), cov=round(cov, 6), jitter_p99_minus_p50=None if p99 is None else _ms(p99 - p50),
    )  # fmt: skip


def _rank(count: int, p: float) -> int:
    """ceil(p * count), with p taken as the decimal that it was written as: 0.9 * 10 is 9 and not 9.000000000000002."""
    return math.ceil(round(p * count, 9))


def _ms(nanoseconds: float) -> float:
    return round(nanoseconds / 1e6, 6)


def _maybe_ms(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else _ms(nanoseconds)
