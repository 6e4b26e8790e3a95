"""Is one measurement faster than another? Only records made under the same conditions are compared, with an interval.

"No difference shown" is an outcome: it says that the runs do not tell, not that there is none.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgegen.bench.assemble import comparable_parts
from edgegen.bench.record import Record
from edgegen.bench.record_file import Measured
from edgegen.errors import MeasurementError, RegressionError

_BLOCKS = 100  # per process: runs one after the other are alike, whole blocks of them hardly
_RESAMPLES = 2000
_CONFIDENCE = 0.95


class Outcome(enum.Enum):
    """What a comparison shows of the second record."""

    FASTER = "faster"
    SLOWER = "slower"
    NO_DIFFERENCE = "no difference shown"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """`relative` is after / before - 1 of the sustained medians; 95 % of the resampled values lie from `low` to `high`."""

    before_ms: float
    after_ms: float
    relative: float
    low: float
    high: float
    outcome: Outcome
    caveats: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the plain JSON object."""
        return {**dataclasses.asdict(self), "outcome": self.outcome.value}


def differing(before: Record, after: Record) -> list[str]:
    """Return what keeps two records from being compared: "state.threads: 1 and 2"."""
    one, two = comparable_parts(before), comparable_parts(after)
    return [f"{name}: {_shown(one[name])} and {_shown(two[name])}" for name in one if one[name] != two[name]]


def compare(before: Measured, after: Measured, *, even_invalid: bool = False) -> Comparison:
    """Return the difference of the sustained medians with a bootstrap interval over processes and blocks of runs.

    With several processes on both sides a difference is shown only if their medians differ too (Welch's t-test on logarithms,
    5 %): a bootstrap over three processes alone would see one in every tenth pair of equal generators. Raises MeasurementError
    for records of other conditions, without timings, or (unless `even_invalid`) that are not valid.
    """
    found = differing(before.record, after.record)
    if found:
        raise MeasurementError(
            f"{before.name} and {after.name} cannot be compared: {'; '.join(found)}",
            hint="measure both under the same conditions",
        )
    caveats = [caveat for one in (before, after) for caveat in _check(one, even_invalid)]
    alone = min(len(before.processes), len(after.processes)) == 1
    if alone:
        caveats.append("one process on a side: how much processes differ from each other is not in the interval")
    rng = np.random.default_rng(0)
    ratios = _medians(after.processes, rng) / _medians(before.processes, rng) - 1
    edges = (1 - _CONFIDENCE) / 2
    low, high = (float(value) for value in np.quantile(ratios, [edges, 1 - edges]))
    one, two = (_overall(side.processes) for side in (before, after))
    outcome = Outcome.NO_DIFFERENCE
    if (low > 0 or high < 0) and (alone or _medians_differ(before.processes, after.processes)):
        outcome = Outcome.SLOWER if low > 0 else Outcome.FASTER
    return Comparison(one / 1e6, two / 1e6, two / one - 1, low, high, outcome, tuple(caveats))


def refuse_regression(found: Comparison, limit: float) -> None:
    """Raise RegressionError if the second measurement is shown to be slower, by more than `limit` (0.05: 5 %)."""
    if found.outcome is Outcome.SLOWER and found.relative > limit:
        raise RegressionError(
            f"{found.after_ms:.3f} ms is {found.relative:+.1%} against {found.before_ms:.3f} ms: more than {limit:.1%}",
            hint=f"95 % interval {found.low:+.1%} to {found.high:+.1%}; measure again, or store this record as the new one",
        )


def _check(one: Measured, even_invalid: bool) -> list[str]:
    if one.record.latency_ms is None or not one.processes:
        raise MeasurementError(f"{one.name} has no timings: its stored cases failed", hint="a wrong generator has no speed")
    if one.record.validity.valid:
        return []
    why = f"{one.name} is not valid: {'; '.join(one.record.validity.reasons)}"
    if not even_invalid:
        raise MeasurementError(why, hint="measure again, or compare with --even-invalid")
    return [why]


def _medians(processes: Sequence[NDArray[np.int64]], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return resampled medians (R,): processes drawn with replacement, blocks of their runs drawn with replacement."""
    blocks = [_block_medians(samples) for samples in processes]
    drawn = [np.median(block[rng.integers(0, len(block), (_RESAMPLES, len(block)))], axis=1) for block in blocks]
    chosen = rng.integers(0, len(blocks), (_RESAMPLES, len(blocks)))
    return np.median(np.take_along_axis(np.stack(drawn, axis=1), chosen, axis=1), axis=1)


def _block_medians(samples: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.array([np.median(block) for block in np.array_split(samples, min(_BLOCKS, len(samples)))])


def _overall(processes: Sequence[NDArray[np.int64]]) -> float:
    return float(np.median([np.median(samples) for samples in processes]))


def _medians_differ(before: Sequence[NDArray[np.int64]], after: Sequence[NDArray[np.int64]]) -> bool:
    from scipy.stats import ttest_ind

    one, two = (np.log([np.median(samples) for samples in side]) for side in (before, after))
    if one.std() == two.std() == 0:  # nothing to scale a difference by
        return bool(one[0] != two[0])
    return bool(ttest_ind(one, two, equal_var=False).pvalue < 1 - _CONFIDENCE)


def _shown(value: object) -> str:
    return "unknown" if value is None else ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
