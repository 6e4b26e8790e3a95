"""Three points of a front: the cheapest that looks right, a balanced one, and the best picture within the latency budget."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Point:
    """One student of a front. `expected_ssim` is None where no past run speaks for it; `picture_loss` is before training."""

    seconds: float
    picture_loss: float
    expected_ssim: float | None = None


@dataclasses.dataclass(frozen=True)
class Choice:
    """A chosen point by its index, what it is called, and what has to be said about the choice ("" if nothing)."""

    name: str
    index: int
    note: str = ""


NAMES = ("cheapest", "balanced", "best picture")
"""What the options are called, in the order of their numbers 1, 2, 3."""


def choose(points: Sequence[Point], *, budget_s: float | None, min_ssim: float | None) -> tuple[Choice, Choice, Choice]:
    """Return the three options of a non-empty front: cheapest that meets `min_ssim`, balanced, best picture within `budget_s`."""
    efficient = [i for i, p in enumerate(points) if not any(_better(q, p) for q in points)]
    efficient.sort(key=lambda i: points[i].seconds)
    cheapest = _cheapest(points, efficient, min_ssim)
    best = _best(points, efficient, budget_s)
    return cheapest, _balanced(points, efficient, cheapest.index, best.index), best


def _better(one: Point, other: Point) -> bool:
    """Whether `one` is at least as good in both and better in one: `other` is then no option."""
    ours, theirs = (one.seconds, one.picture_loss), (other.seconds, other.picture_loss)
    return ours != theirs and ours[0] <= theirs[0] and ours[1] <= theirs[1]


def _cheapest(points: Sequence[Point], efficient: list[int], min_ssim: float | None) -> Choice:
    if min_ssim is None:
        return Choice(NAMES[0], efficient[0], "no quality floor was given: the narrowest student")
    if all(points[i].expected_ssim is None for i in efficient):
        return Choice(NAMES[0], efficient[0], "the quality floor cannot be checked: no past run is comparable")
    meeting = [i for i in efficient if (points[i].expected_ssim or 0.0) >= min_ssim]
    if not meeting:
        return Choice(NAMES[0], efficient[-1], f"nothing is expected to reach SSIM {min_ssim:g}: the least cut")
    return Choice(NAMES[0], meeting[0])


def _best(points: Sequence[Point], efficient: list[int], budget_s: float | None) -> Choice:
    if budget_s is None:
        return Choice(NAMES[2], efficient[-1], "no latency budget was given: nothing is cut")
    within = [i for i in efficient if points[i].seconds <= budget_s]
    if not within:
        return Choice(NAMES[2], efficient[0], "no student is within the latency budget: the fastest")
    return Choice(NAMES[2], within[-1])


def _balanced(points: Sequence[Point], efficient: list[int], cheapest: int, best: int) -> Choice:
    """Halfway between the other two in log latency: as many times slower than the fast one as it is faster than the slow one.

    Not the knee of the loss: before training it is flat where students are narrow, and training changes that.
    """
    low, high = sorted((points[cheapest].seconds, points[best].seconds))
    between = [i for i in efficient if low < points[i].seconds < high]
    if not between:
        return Choice(NAMES[1], best, "the same as option 3: nothing lies between")
    middle = math.sqrt(low * high)
    return Choice(NAMES[1], min(between, key=lambda i: abs(math.log(points[i].seconds / middle))))
