"""Ranges of activations for int8: where to cut off what a tensor was seen to hold. Pure functions of histograms; numpy only.

A range is (low, high) and contains 0, which int8 must hold exactly. Nothing here guesses: without values seen there is no range.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

BINS = 4096
ENOUGH_DB = 45.0  # 8-bit pictures: one level of error everywhere is about 48 dB; more buys nothing that can be seen
WORTH_A_RANGE_DB = 0.02  # what pictures must gain by another range of one tensor
_PERCENT = 99.99
_CUTS = np.linspace(0.1, 1.0, 91)
_ENTROPY_CUTS = np.linspace(0.3, 1.0, 57)

Range = tuple[float, float]


class Estimator(str, enum.Enum):
    """How a range is found from what was seen."""

    MIN_MAX = "min-max"
    PERCENTILE = "percentile"
    LEAST_ERROR = "least-error"
    ENTROPY = "entropy"


@dataclasses.dataclass(frozen=True)
class Histogram:
    """How the values of a tensor spread over 4,096 equal bins between `low` and `high`, which contain 0."""

    low: float
    high: float
    counts: NDArray[np.int64]

    @property
    def centres(self) -> NDArray:
        """The middle of each bin."""
        return self.low + (np.arange(len(self.counts)) + 0.5) * ((self.high - self.low) / len(self.counts))


@dataclasses.dataclass(frozen=True)
class LearnedRange:
    """The range that quantisation-aware training found for the input of the layer whose weight has `weight_digest`."""

    weight_digest: str
    low: float
    high: float


def histogram(values: NDArray, low: float, high: float) -> Histogram:
    """Return how `values` spread between `low` and `high`, widened to contain 0; what is outside counts in the last bins."""
    low, high = min(low, 0.0), max(high, 0.0)
    width = (high - low) or 1.0
    bins = ((values.ravel().astype(np.float64) - low) * (BINS / width)).astype(np.int64)
    return Histogram(low, low + width, np.bincount(np.clip(bins, 0, BINS - 1), minlength=BINS))


def merged(parts: Sequence[Histogram]) -> Histogram:
    """Return one histogram of equal ends for several."""
    return Histogram(parts[0].low, parts[0].high, np.sum([part.counts for part in parts], axis=0))


def estimate_range(seen: Histogram, estimator: Estimator, *, levels: int = 255) -> Range:
    """Return the range that `estimator` finds for int8 of `levels` steps."""
    match estimator:
        case Estimator.MIN_MAX:
            return seen.low, seen.high
        case Estimator.PERCENTILE:
            return percentile_range(seen, _PERCENT)
        case Estimator.LEAST_ERROR:
            return least_error_range(seen, levels)
        case Estimator.ENTROPY:
            return entropy_range(seen, levels)


def percentile_range(seen: Histogram, percent: float) -> Range:
    """Return the range that `percent` of the values lie in, with equal shares cut off at both ends; 0 stays inside."""
    below = np.cumsum(seen.counts) / max(1, int(seen.counts.sum()))
    cut = (100.0 - percent) / 100.0 / (2 if seen.low < 0 < seen.high else 1)
    step = (seen.high - seen.low) / len(seen.counts)
    first = int(np.searchsorted(below, cut)) if seen.low < 0 else 0
    last = int(np.searchsorted(below, 1.0 - cut)) if seen.high > 0 else len(seen.counts) - 1
    return min(0.0, seen.low + first * step), max(0.0, seen.low + min(last + 1, len(seen.counts)) * step)


def least_error_range(seen: Histogram, levels: int) -> Range:
    """Return the range at which rounding to `levels` steps and clipping have the least mean squared error together.

    Each end is moved inwards on its own, the lower one first: 2 x 91 ranges are tried.
    """
    low, high = seen.low, seen.high
    if low < 0:
        low = min((seen.low * share for share in _CUTS), key=lambda end: _error(seen, end, high, levels))
    if high > 0:
        high = min((seen.high * share for share in _CUTS), key=lambda end: _error(seen, low, end, levels))
    return float(low), float(high)


def entropy_range(seen: Histogram, levels: int) -> Range:
    """Return the range whose `levels` steps keep most of the distribution: least Kullback-Leibler divergence.

    After Migacz, "8-bit inference with TensorRT" (GTC 2017): what is clipped counts in the outermost bins of the distribution
    that is kept, and every step spreads its values evenly over the bins that held any. Both ends move inwards together.
    """
    best, least = (seen.low, seen.high), np.inf
    for share in _ENTROPY_CUTS:
        low, high = seen.low * share, seen.high * share
        divergence = _divergence(seen, low, high, levels)
        if divergence < least - 1e-12:
            best, least = (float(low), float(high)), divergence
    return best


def picture_driven(
    options: Sequence[Mapping[str, Range]],
    judge: Callable[[Mapping[str, Range]], float],
    *,
    most_tries: int,
    worth: float,
    known: Sequence[float] = (),
) -> tuple[dict[str, Range], float, int]:
    """Return the range per tensor that harms the picture least, what `judge` says of them, and how many were tried.

    `options` are whole assignments by tensor, one per estimator; `judge` returns the picture's PSNR in dB. The best whole one is
    the start; then, tensor by tensor, those first on whose width the options differ most, the others' ranges are tried and
    kept if the picture gains `worth` dB. After `most_tries` judgements it stops. `known` is what `judge` has said of the options
    already; they count as tried.
    """
    scores = known or [judge(option) for option in options]
    best = max(scores)
    chosen = dict(options[scores.index(best)])
    tries = len(options)
    for name in sorted(chosen, key=lambda tensor: -_disagreement([option[tensor] for option in options])):
        for other in sorted({option[name] for option in options} - {chosen[name]}):
            if tries >= most_tries:
                return chosen, best, tries
            tried = {**chosen, name: other}
            score, tries = judge(tried), tries + 1
            if score > best + worth:
                chosen, best = tried, score
    return chosen, best, tries


def weight_digest(weight: NDArray) -> str:
    """Return a name for a layer by its weights that survives what exporters do to them: moved axes, added zeros, other names.

    The SHA-256 of the sorted magnitudes that are not 0, as float32.
    """
    values = np.sort(np.abs(weight[weight != 0].astype(np.float32)).ravel())
    return hashlib.sha256(values.tobytes()).hexdigest()


def _error(seen: Histogram, low: float, high: float, levels: int) -> float:
    """Return the squared error per value: clipping outside of the range, a uniform rounding error inside."""
    centres = seen.centres
    clipped = np.square(np.maximum(low - centres, 0.0) + np.maximum(centres - high, 0.0))
    rounded = np.where((centres >= low) & (centres <= high), ((high - low) / levels) ** 2 / 12, 0.0)
    return float(((clipped + rounded) * seen.counts).sum())


def _divergence(seen: Histogram, low: float, high: float, levels: int) -> float:
    """Return the Kullback-Leibler divergence of what int8 keeps within [low, high] from what was there."""
    step = (seen.high - seen.low) / len(seen.counts)
    first, last = round((low - seen.low) / step), round((high - seen.low) / step)
    inside = seen.counts[first:last].astype(np.float64)
    if len(inside) < 2 or not inside.sum():
        return np.inf
    groups = np.arange(len(inside)) * levels // len(inside)
    held = inside > 0
    sums, bins = np.bincount(groups, inside, levels), np.bincount(groups, held, levels)
    kept = np.where(held, (sums / np.maximum(bins, 1))[groups], 0.0)
    inside[0] += seen.counts[:first].sum()
    inside[-1] += seen.counts[last:].sum()
    wanted, given = inside / inside.sum(), kept / max(kept.sum(), 1.0)
    there = wanted > 0
    return float((wanted[there] * np.log(wanted[there] / np.maximum(given[there], 1e-12))).sum())


def _disagreement(ranges: Sequence[Range]) -> float:
    widths = [high - low for low, high in ranges]
    return max(widths) / max(min(widths), 1e-12)
