"""Cuts for several targets and latencies along one order of channels, so that one set of weights holds all the students."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from edgegen.generator import Generator
from edgegen.graph import example_inputs
from edgegen.latency import LatencyModel
from edgegen.prune.allocate import Allocation, Goal, allocate, narrowest_s
from edgegen.prune.groups import channel_groups
from edgegen.prune.importance import loss_curves
from edgegen.prune.sensitivity import Samples
from edgegen.prune.work import layer_works
from edgegen.recipe import PruneConfig


@dataclasses.dataclass(frozen=True)
class Demand:
    """A latency in seconds on a target, by what estimates layers there, with the tile of its channels."""

    model: LatencyModel
    budget_s: float
    channel_multiple: int


@dataclasses.dataclass(frozen=True)
class Answer:
    """The cut that meets a demand, or the narrowest there is, and the estimate of that one in seconds."""

    allocation: Allocation
    narrowest_s: float


def meet_demands(
    generator: Generator,
    config: PruneConfig,
    demands: Sequence[Demand],
    *,
    samples: Samples,
    teacher: Generator | None = None,
    seed: int = 0,
) -> list[Answer]:
    """Return the cut of `generator` for each demand; of every group, one answer removes the first of the channels that another
    removes. `samples` are calibration inputs, batch axis 1."""
    inputs = example_inputs(generator.spec)
    groups, works = channel_groups(generator.module, inputs), layer_works(generator.module, inputs)
    curves = loss_curves(generator, groups, config.importance, samples, teacher=teacher, seed=seed)
    answers = []
    for demand in demands:
        goal = Goal(demand.budget_s, demand.channel_multiple, config.min_channels)
        allocation = allocate(groups, curves, works, demand.model, goal)
        answers.append(Answer(allocation, narrowest_s(groups, works, demand.model, goal)))
    return answers


def widest_of(allocations: Sequence[Allocation]) -> Allocation:
    """Return the cut that leaves every channel which any of `allocations` leaves; its estimate is the longest of theirs."""
    shared = {
        root: tuple(sorted(set.intersection(*(set(a.removed[root]) for a in allocations)))) for root in allocations[0].removed
    }
    longest = max(allocations, key=lambda a: a.after_s)
    return dataclasses.replace(longest, removed=shared)
