"""Where to cut: the least picture loss within a latency, tile by tile, as a sequence of ever narrower students.

What a removal saves depends on what the neighbours have lost (a convolution costs inputs x outputs), so every step looks at the
estimate as it stands. Losses add up over groups. Removing whatever saves most time per loss is the greedy solution of
that knapsack; its steps reach over all tiles of a group, because latency is a staircase and one tile may save nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

from edgegen.latency import LatencyModel, LayerWork
from edgegen.prune.groups import ChannelGroup
from edgegen.prune.work import with_fewer_channels

_TRIALS, _CLOSE = 4, 0.96  # whole students measured for a budget; from this share of it, nothing is to be gained
_FREE = 1e-6  # of the whole loss: what removes less counts as this much, so that free removals rank by what they save


@dataclasses.dataclass(frozen=True)
class Allocation:
    """Which units each group loses (indices per group root), and the estimate before and after, in seconds."""

    removed: Mapping[str, tuple[int, ...]]
    before_s: float
    after_s: float
    met: bool


@dataclasses.dataclass(frozen=True)
class LossCurve:
    """What removing units of one group costs: they go in `order`, least important first; `losses[k]` is that of the first k."""

    order: tuple[int, ...]
    losses: tuple[float, ...]  # one more than units, from 0.0, never falling


@dataclasses.dataclass(frozen=True)
class Goal:
    """Cut until the estimate is at most `seconds`; channel counts stay multiples of `multiple`, at least `min_channels`."""

    seconds: float
    multiple: int
    min_channels: int


class Estimator:
    """Estimates a generator for any number of units removed from its groups; every layer's width is estimated once."""

    def __init__(
        self, groups: Sequence[ChannelGroup], curves: Mapping[str, LossCurve], works: Mapping[str, LayerWork], model: LatencyModel
    ) -> None:
        self._works, self._model, self._known = works, model, dict[tuple[str, int, int], float]()
        self._parts: dict[str, list[tuple[str, int, list[int]]]] = {name: [] for name in works}
        self._touched: dict[str, set[str]] = {group.root: set() for group in groups}
        for group in groups:
            for member in group.members:
                if member.layer in works:
                    gone = [0]
                    for unit in curves[group.root].order:
                        gone.append(gone[-1] + len(member.channels[unit]))
                    self._parts[member.layer].append((group.root, int(member.side == "out"), gone))
                    self._touched[group.root].add(member.layer)

    def seconds(self, counts: Mapping[str, int]) -> float:
        """Return the estimate with the first `counts[root]` units of every group gone."""
        return sum(self._layer_s(name, counts) for name in self._works)

    def saving_s(self, counts: Mapping[str, int], root: str, count: int) -> float:
        """Return what it saves to go from `counts[root]` units removed to `count`."""
        after = {**counts, root: count}
        return sum(self._layer_s(name, counts) - self._layer_s(name, after) for name in sorted(self._touched[root]))

    def _layer_s(self, name: str, counts: Mapping[str, int]) -> float:
        lost_in = sum(gone[counts[root]] for root, side, gone in self._parts[name] if side == 0)
        lost_out = sum(gone[counts[root]] for root, side, gone in self._parts[name] if side == 1)
        key = (name, lost_in, lost_out)
        if key not in self._known:
            self._known[key] = self._model.seconds(with_fewer_channels(self._works[name], lost_in, lost_out))
        return self._known[key]


def trajectory(
    groups: Sequence[ChannelGroup],
    curves: Mapping[str, LossCurve],
    works: Mapping[str, LayerWork],
    model: LatencyModel,
    goal: Goal,
) -> Iterator[Allocation]:
    """Yield ever narrower allocations, from nothing removed to `goal`'s narrowest; each removes all that the one before removed.

    `met` says whether the estimate is within `goal.seconds`; the sequence does not stop there.
    """
    estimator = Estimator(groups, curves, works, model)
    ladders = {group.root: tile_counts(group, goal) for group in groups}
    counts = dict.fromkeys(ladders, 0)
    before = estimator.seconds(counts)
    free = _FREE * sum(curve.losses[-1] for curve in curves.values()) + 1e-30
    while True:
        after = estimator.seconds(counts)
        removed = {root: tuple(sorted(curves[root].order[:count])) for root, count in counts.items()}
        yield Allocation(removed, before, after, after <= goal.seconds)
        best, move = 0.0, None
        for root, ladder in ladders.items():
            for count in ladder:
                if count > counts[root] and (saved := estimator.saving_s(counts, root, count)) > 0:
                    losses = curves[root].losses
                    gain = saved / (losses[count] - losses[counts[root]] + free)
                    if gain > best:
                        best, move = gain, (root, count)
        if move is None:
            return
        counts[move[0]] = move[1]


def allocate(
    groups: Sequence[ChannelGroup],
    curves: Mapping[str, LossCurve],
    works: Mapping[str, LayerWork],
    model: LatencyModel,
    goal: Goal,
) -> Allocation:
    """Return the first allocation of the trajectory that is within `goal.seconds`, or its narrowest when none is."""
    allocation = None
    for allocation in trajectory(groups, curves, works, model, goal):
        if allocation.met:
            break
    assert allocation is not None
    return allocation


def corrected(cut_to: Callable[[float], tuple[Allocation, float]], goal_s: float) -> tuple[Allocation, float]:
    """Return the allocation whose student, measured as a whole, is the slowest that takes at most `goal_s`, and its seconds.

    `cut_to` returns the allocation for an estimate, and what its student takes. What is measured is taken to be proportional to
    the estimate; between a student that is within the goal and one that is not, to lie on a line or above the middle. When none
    meets the goal, the fastest is returned.
    """
    asked, tried = goal_s, list[tuple[Allocation, float]]()
    for _ in range(_TRIALS):
        allocation, seconds = cut_to(asked)
        if any(allocation.removed == before.removed for before, _ in tried):
            break
        tried.append((allocation, seconds))
        if _CLOSE * goal_s <= seconds <= goal_s:
            break
        within, beyond = ([t for t in tried if (t[1] <= goal_s) == side] for side in (True, False))
        if within and beyond:
            (low, low_s), (high, high_s) = max(within, key=_seconds), min(beyond, key=_seconds)
            share = max(0.5, (goal_s - low_s) / (high_s - low_s))  # latency is a staircase: a step between them is no line
            asked = low.after_s + (high.after_s - low.after_s) * share
        else:
            asked = min(allocation.after_s, asked) * goal_s / seconds
    within = [trial for trial in tried if trial[1] <= goal_s]
    return max(within, key=_seconds) if within else min(tried, key=_seconds)


def _seconds(trial: tuple[Allocation, float]) -> float:
    return trial[1]


def narrowest_s(groups: Sequence[ChannelGroup], works: Mapping[str, LayerWork], model: LatencyModel, goal: Goal) -> float:
    """Return the estimate in seconds with every group cut as far as `goal` allows: what no removal of channels can go below."""
    flat = {g.root: LossCurve(tuple(range(g.unit_count)), (0.0,) * (g.unit_count + 1)) for g in groups}
    return Estimator(groups, flat, works, model).seconds({group.root: tile_counts(group, goal)[-1] for group in groups})


def tile_counts(group: ChannelGroup, goal: Goal) -> list[int]:
    """How many units may go, ascending from 0: each count leaves the group's narrowest side at a multiple of the tile.

    Below one tile the next stop is half a tile: a network that narrow pays for the whole tile, but a smaller one is asked for.
    """
    per_unit = min(len(m.channels[0]) for m in group.members if m.channels[0])
    counts, channels = [0], group.unit_count * per_unit
    while True:
        tile = goal.multiple if channels > goal.multiple else max(1, goal.multiple // 2)
        channels = (channels - 1) // tile * tile
        kept = -(-channels // per_unit)
        if channels < max(goal.min_channels, 1) or kept < 1:
            return counts
        if group.unit_count - kept > counts[-1]:
            counts.append(group.unit_count - kept)
