"""What earlier runs came to (past_runs.toml), and what a plan may expect from them: a number with its spread, or nothing.

Two rules carry a past run over to a student that was cut otherwise. Both say that an uncut student equals the teacher:

- by MACs: 1 - SSIM grows with the logarithm of how many times fewer multiply-accumulates there are;
- by pictures: 1 - SSIM grows with the mean square error of the pruned student before training. For small errors at kept
  brightness SSIM is 1 - MSE / (2 variance) (Brunet, Vrscay, Wang: On the Mathematical Properties of SSIM, 2012).

They are rules of thumb. Where the runs and rules disagree, the disagreement is the spread.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from edgegen.errors import RecipeError
from edgegen.recipe import Effort
from edgegen.spec import Backend
from edgegen.strict_toml import matching, read_toml, required, within

_SCHEMA = "edgegen.past-runs/1"
_FILE = "past_runs.toml"
_COMPARABLE = 10.0  # the rest of a run is known for teachers up to this many times smaller or larger than those of past runs
_FARTHEST = 2.0  # a student cut this many times more than the one of a past run is nothing that the run speaks for


@dataclasses.dataclass(frozen=True)
class PastRun:
    """One measured run; past_runs.toml explains the keys."""

    families: tuple[str, ...] = matching(r"[a-z0-9-]+")
    checkpoint: str = matching(r".{1,80}")
    macs_ratio: float = within(low=1.0, high=1e4)
    ssim: float = within(low=0.0, high=1.0)
    effort: Effort | None = None
    picture_loss: float | None = within(None, low=1e-9, high=1.0)
    steps: int = within(0, low=0)
    note: str = ""


@dataclasses.dataclass(frozen=True)
class PastFinish:
    """What everything but training and pruning took on a machine that trains at `macs_per_s`, for a teacher of `teacher_macs`."""

    checkpoint: str = matching(r".{1,80}")
    backend: Backend = required()
    teacher_macs: float = within(low=1.0)
    seconds: float = within(low=0.0)
    macs_per_s: float = within(low=1.0)


@dataclasses.dataclass(frozen=True)
class PastRuns:
    """The whole file."""

    runs: tuple[PastRun, ...] = ()
    finishes: tuple[PastFinish, ...] = ()


@dataclasses.dataclass(frozen=True)
class Expected:
    """An expected SSIM to the teacher; `low` and `high` are None when a single run and rule speak and nothing tells a spread."""

    ssim: float
    low: float | None
    high: float | None
    run_count: int

    def to_json(self) -> dict[str, float | int | str | None]:
        """Return the plain JSON object, labelled."""
        return {**dataclasses.asdict(self), "label": "expected"}


def load_past_runs(path: Path | None = None) -> PastRuns:
    """Return the measured runs that come with edgegen, or those in `path`."""
    return read_toml(path or Path(__file__).with_name(_FILE), PastRuns, schema=_SCHEMA, error=RecipeError)


def expected_ssim(
    runs: Sequence[PastRun], *, family: str, effort: Effort, macs_ratio: float, picture_loss: float | None, steps: int = 0
) -> Expected | None:
    """Return what to expect of a student with `macs_ratio` times fewer MACs than its teacher; None without comparable runs.

    Comparable are runs of the same family and effort; one that was cut half as much or less does not count.
    `picture_loss` is that of the pruned student before training, None if unknown. `steps` is the length of the training if the
    recipe and not the effort says it: then only runs of a like length are comparable.
    """
    comparable = [
        run
        for run in runs
        if family in run.families and macs_ratio <= _FARTHEST * run.macs_ratio and _trained_alike(run, effort, steps)
    ]
    found = [ssim for run in comparable for ssim in _carried_over(run, macs_ratio, picture_loss)]
    if not found:
        return None
    spread = (min(found), max(found)) if len(found) > 1 else (None, None)
    return Expected(statistics.median(found), *spread, run_count=len(comparable))


def _trained_alike(run: PastRun, effort: Effort, steps: int) -> bool:
    if not steps:
        return run.effort is effort
    return bool(run.steps) and steps / _FARTHEST <= run.steps <= steps * _FARTHEST


def _carried_over(run: PastRun, macs_ratio: float, picture_loss: float | None) -> list[float]:
    scales = []
    if run.macs_ratio > 1.0:
        scales.append(math.log(max(1.0, macs_ratio)) / math.log(run.macs_ratio))
    if run.picture_loss is not None and picture_loss is not None:
        scales.append(picture_loss / run.picture_loss)
    return [max(0.0, 1.0 - (1.0 - run.ssim) * scale) for scale in scales]


def expected_finish_s(
    finishes: Sequence[PastFinish], *, backend: Backend, teacher_macs: float, macs_per_s: float
) -> float | None:
    """Return the seconds that export, verification, bundle and bench should take here; None without runs for this back end.

    Between past runs it goes linearly in the teacher's MACs, and somewhat beyond them it stays at the nearest run's; a machine
    that is half as fast takes twice as long.
    """
    rows = sorted((f.teacher_macs, f.seconds * f.macs_per_s / macs_per_s) for f in finishes if f.backend is backend)
    if not rows or not rows[0][0] / _COMPARABLE <= teacher_macs <= rows[-1][0] * _COMPARABLE:
        return None
    below = [row for row in rows if row[0] <= teacher_macs] or rows[:1]
    above = [row for row in rows if row[0] >= teacher_macs] or rows[-1:]
    (x0, y0), (x1, y1) = below[-1], above[0]
    return y0 if x1 <= x0 else y0 + (y1 - y0) * (teacher_macs - x0) / (x1 - x0)
