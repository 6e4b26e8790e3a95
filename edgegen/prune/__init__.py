"""Structured pruning: remove channels until the latency estimate meets the budget."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import defaultdict
from typing import Any

import torch
from torch import fx

from edgegen.generator import Generator, StageRecord
from edgegen.graph import clean, count_macs, count_params, example_inputs
from edgegen.latency import LatencyModel
from edgegen.layers import Reshape
from edgegen.prune.allocate import Allocation, Goal, allocate, narrowest_s
from edgegen.prune.groups import ChannelGroup, channel_groups
from edgegen.prune.importance import unit_scores
from edgegen.prune.work import layer_works
from edgegen.recipe import PruneConfig


def prune(
    generator: Generator, config: PruneConfig, *, model: LatencyModel, budget_s: float | None, channel_multiple: int
) -> Generator:
    """Return a copy of `generator` with channels removed until its estimate meets `budget_s` seconds.

    Without a budget, what channels cost (the estimate before, less that of the narrowest student) shrinks by `config.speedup`.
    When even the narrowest student misses the budget, it is returned and the record says so. The record holds `narrowest_ms`.
    """
    started = time.perf_counter()
    student = generator.copy()
    inputs = example_inputs(student.spec)
    works = layer_works(student.module, inputs)
    before = sum(model.seconds(work) for work in works.values())
    groups = channel_groups(student.module, inputs)
    goal = Goal(0.0, channel_multiple, config.min_channels)
    narrowest = narrowest_s(groups, works, model, goal)
    wanted = budget_s if budget_s is not None else narrowest + max(0.0, before - narrowest) / config.speedup
    goal = dataclasses.replace(goal, seconds=wanted)
    scores = {group.root: unit_scores(student.module, group) for group in groups}
    allocation = allocate(groups, scores, works, model, goal)
    remove_units(student.module, groups, allocation, inputs)
    facts = {
        "estimate_before_ms": before * 1e3,
        "estimate_ms": allocation.after_s * 1e3,
        "goal_ms": goal.seconds * 1e3,
        "goal_met": allocation.met,
        "narrowest_ms": narrowest * 1e3,
        "label": model.label,
        "macs": count_macs(student.module, student.spec),
        "params": count_params(student.module),
        "kept": {g.root: g.unit_count - len(allocation.removed[g.root]) for g in groups},
    }
    settings = {
        "speedup": config.speedup,
        "min_channels": config.min_channels,
        "budget_s": budget_s,
        "multiple": channel_multiple,
    }
    return student.with_record(StageRecord("prune", settings, time.perf_counter() - started, facts))


def remove_units(
    module: fx.GraphModule, groups: list[ChannelGroup], allocation: Allocation, inputs: tuple[torch.Tensor, ...]
) -> None:
    """Cut the channels of all removed units from `module` in place, each layer side once, with torch-pruning's own functions."""
    channels, cuts = defaultdict(set), {}
    for group in groups:
        for member in group.members:
            key = (member.layer, member.side)
            cuts[key] = member.cut
            for unit in allocation.removed[group.root]:
                channels[key].update(member.channels[unit])
    for (layer, side), lost in channels.items():
        if lost:
            cuts[layer, side](module.get_submodule(layer), sorted(lost))
    with torch.no_grad():
        _Refit(module).run(*inputs)
    clean(module)


class _Refit(fx.Interpreter):
    """Runs a graph whose channels were cut and gives every Reshape the number of channels that now arrive."""

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        layer = self.fetch_attr(target)
        if isinstance(layer, Reshape):
            layer.shape = (args[0][0].numel() // math.prod(layer.shape[1:]), *layer.shape[1:])
        return super().call_module(target, args, kwargs)
