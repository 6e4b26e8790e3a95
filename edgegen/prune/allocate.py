"""Where to cut: remove tile by tile whatever saves the most time for the least energy, until the estimate meets the budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import torch

from edgegen.latency import LatencyModel, LayerWork
from edgegen.prune.groups import ChannelGroup
from edgegen.prune.work import with_fewer_channels


@dataclasses.dataclass(frozen=True)
class Allocation:
    """Which units each group loses (indices per group root), and the estimate before and after, in seconds."""

    removed: Mapping[str, tuple[int, ...]]
    before_s: float
    after_s: float
    met: bool


class _State:
    """Channel counts and estimates of all layers while units are being removed."""

    def __init__(self, works: Mapping[str, LayerWork], model: LatencyModel) -> None:
        self.works, self._model = works, model
        self.lost = {name: [0, 0] for name in works}
        self.seconds = {name: model.seconds(work) for name, work in works.items()}

    @property
    def total_s(self) -> float:
        return sum(self.seconds.values())

    def saving_s(self, group: ChannelGroup, units: list[int]) -> tuple[float, dict[str, float], dict[str, list[int]]]:
        """Return what removing `units` saves, and the new seconds and lost channels of the layers it touches."""
        lost: dict[str, list[int]] = {}
        for member in group.members:
            if member.layer in self.works:
                counts = lost.setdefault(member.layer, list(self.lost[member.layer]))
                counts[member.side == "out"] += sum(len(member.channels[u]) for u in units)
        seconds = {name: self._model.seconds(with_fewer_channels(self.works[name], *counts)) for name, counts in lost.items()}
        return sum(self.seconds[name] - s for name, s in seconds.items()), seconds, lost


def allocate(
    groups: list[ChannelGroup],
    scores: Mapping[str, torch.Tensor],
    works: Mapping[str, LayerWork],
    model: LatencyModel,
    goal: Goal,
) -> Allocation:
    """Remove the units with the best ratio of saved time to lost energy until `goal.seconds` is met or nothing is left to cut.

    `scores` are those of `unit_scores`. The energy lost counts as -log(share kept), summed over the layers that read it, so
    that no layer is starved while others are untouched.
    """
    state = _State(works, model)
    before = state.total_s
    order = {g.root: torch.argsort(scores[g.root].sum(0), stable=True).tolist() for g in groups}
    removed: dict[str, list[int]] = {g.root: [] for g in groups}
    while state.total_s > goal.seconds:
        best = max(
            (move for group in groups for move in _moves(state, group, scores[group.root], order[group.root], goal)),
            key=lambda move: move.gain,
            default=None,
        )
        if best is None:
            break
        order[best.root] = order[best.root][len(best.units) :]
        removed[best.root] += best.units
        state.seconds.update(best.seconds)
        state.lost.update(best.lost)
    return Allocation({k: tuple(sorted(v)) for k, v in removed.items()}, before, state.total_s, state.total_s <= goal.seconds)


def narrowest_s(groups: list[ChannelGroup], works: Mapping[str, LayerWork], model: LatencyModel, goal: Goal) -> float:
    """Return the estimate in seconds with every group cut as far as `goal` allows: what no removal of channels can go below."""
    lost = {name: [0, 0] for name in works}
    for group in groups:
        left = group.unit_count
        while steps := _tile_steps(group, left, goal):
            left -= steps[-1]
        for member in group.members:
            if member.layer in works:
                lost[member.layer][member.side == "out"] += sum(len(c) for c in member.channels[left:])
    return sum(model.seconds(with_fewer_channels(work, *lost[name])) for name, work in works.items())


@dataclasses.dataclass(frozen=True)
class Goal:
    """Cut until the estimate is at most `seconds`; channel counts stay multiples of `multiple`, at least `min_channels`."""

    seconds: float
    multiple: int
    min_channels: int


@dataclasses.dataclass(frozen=True)
class _Move:
    """One possible removal: saved seconds per relative energy lost, and what it makes of the layers it touches."""

    gain: float
    root: str
    units: list[int]
    seconds: Mapping[str, float]
    lost: Mapping[str, list[int]]


def _moves(state: _State, group: ChannelGroup, score: torch.Tensor, order: list[int], goal: Goal) -> Iterator[_Move]:
    """Yield the removal of the least important one, two or three tiles: latency is a staircase, one tile may save nothing."""
    energy = score[:, order]
    total = energy.sum(1).clamp_min(1e-30)
    for count in _tile_steps(group, len(order), goal):
        units = order[:count]
        saved, seconds, lost = state.saving_s(group, units)
        share = (energy[:, :count].sum(1) / total).clamp(max=1 - 1e-9)
        if saved > 0:
            yield _Move(saved / (float(-torch.log1p(-share).sum()) + 1e-6), group.root, units, seconds, lost)


def _tile_steps(group: ChannelGroup, left: int, goal: Goal) -> list[int]:
    """How many of the `left` units go so that the group's narrowest side reaches the next one, two or three multiples."""
    per_unit = min(len(m.channels[0]) for m in group.members if m.channels[0])
    steps, channels = [], left * per_unit
    for _ in range(3):
        tile = goal.multiple if channels > goal.multiple else max(1, goal.multiple // 2)
        channels = (channels - 1) // tile * tile
        kept = -(-channels // per_unit)
        if channels < max(goal.min_channels, 1) or kept < 1:
            break
        steps.append(left - kept)
    return [count for count in steps if count > 0]
