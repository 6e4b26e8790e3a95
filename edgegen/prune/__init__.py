"""Structured pruning: remove channels until the latency estimate meets the budget, and refit what is left."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence

import torch

from edgegen.generator import Generator, StageRecord
from edgegen.graph import count_macs, count_params, example_inputs
from edgegen.latency import LatencyModel, MacCount
from edgegen.prune.allocate import Allocation, Goal, allocate, corrected, narrowest_s
from edgegen.prune.cut import kept_channels, remove_units
from edgegen.prune.demands import Demand, meet_demands, widest_of
from edgegen.prune.front import FrontPoint, front
from edgegen.prune.groups import channel_groups
from edgegen.prune.importance import loss_curves
from edgegen.prune.moves.search import estimated_s
from edgegen.prune.moves.take import Taken, take_moves
from edgegen.prune.nested import build_nested
from edgegen.prune.recover import Recovery, reconstruct
from edgegen.prune.sensitivity import Samples
from edgegen.prune.work import layer_works
from edgegen.recipe import PruneConfig, PruneGoal
from edgegen.spec import Layout

__all__ = [
    "Demand", "FrontPoint", "Recovery", "build_nested", "front", "meet_demands", "prune", "reconstruct", "remove_units",
    "widest_of",
]  # fmt: skip

_NEAR = 1.3  # times the goal: where the price of a second is measured from
_BEYOND = 8.0  # times what channels cost on average: the price where they alone cannot meet the goal
_MOVE_SAMPLES, _MOVE_SIDE = 8, 128  # pictures, and pixels of them, that moves are fitted to: each is tried at every site


def prune(
    generator: Generator,
    config: PruneConfig,
    *,
    model: LatencyModel,
    budget_s: float | None,
    channel_multiple: int,
    samples: Samples = (),
    teacher: Generator | None = None,
    seed: int = 0,
    way: float = 1.0,
    measure: Callable[[Generator], float] | None = None,
) -> Generator:
    """Return a copy of `generator` with channels removed until its estimate meets `budget_s` seconds.

    Without a budget, what channels cost (the estimate before, less that of the narrowest student) shrinks by `config.speedup`;
    with `config.goal` MACS, all multiply-accumulates do, `model` steers nothing and `budget_s` must be None.
    When even the narrowest student misses the budget, it is returned and the record says so. The record holds `narrowest_ms`.
    `samples` are calibration inputs, batch axis 1; with them, the layers that are left are refitted onto `generator`'s. The cut
    is made in `config.rounds`, each scoring anew against the pictures of `teacher` (None: `generator`'s own). With `way` below 1
    the cut stops there on the way to the goal, in log latency; the record's `goal_ms` is the goal. `measure` times a
    student as a whole: with it, the last cut goes on until the student itself meets the budget, not only its estimate.
    """
    started = time.perf_counter()
    inputs = example_inputs(generator.spec)
    goal = Goal(0.0, channel_multiple, config.min_channels)
    counts_macs = config.goal is PruneGoal.MACS
    steer: LatencyModel = MacCount() if counts_macs else model
    before, narrowest = _extent(generator, steer, goal)
    if counts_macs:
        wanted, estimates = before / config.speedup, {"estimate_before_ms": estimated_s(generator, model) * 1e3}
    else:
        wanted = budget_s if budget_s is not None else narrowest + max(0.0, before - narrowest) / config.speedup
        estimates = {"estimate_before_ms": before * 1e3, "goal_ms": wanted * 1e3}
    taken: list[Taken] = []
    if config.moves and samples:
        price = _price(generator, config, steer, dataclasses.replace(goal, seconds=wanted), samples, teacher, seed)
        generator, taken = take_moves(generator, model=steer, samples=_cropped(generator, samples[:_MOVE_SAMPLES]), price=price)
        narrowest = _extent(generator, steer, goal)[1]
    made = _Cut(generator, {}, None, None)
    for number in range(1, config.rounds + 1):
        share = way * number / config.rounds  # rounds are even steps of log latency
        step = before * (wanted / before) ** share if wanted < before else wanted
        timed = measure if number == config.rounds else None
        made = _cut(made, generator, config, steer, dataclasses.replace(goal, seconds=step), samples, teacher, seed, timed)
    allocation = made.allocation
    assert allocation is not None
    if counts_macs:
        estimates |= {"estimate_ms": estimated_s(made.student, model) * 1e3, "goal_macs": wanted, "narrowest_macs": narrowest}
    else:
        estimates |= {"estimate_ms": allocation.after_s * 1e3, "narrowest_ms": narrowest * 1e3}
    facts = {
        **estimates,
        "goal_met": (made.measured_s or allocation.after_s) <= wanted,
        "measured_ms": None if made.measured_s is None else made.measured_s * 1e3,
        "label": model.label,
        "moves": [move.to_json(counts_macs=counts_macs) for move in taken],
        "macs": count_macs(made.student.module, made.student.spec),
        "params": count_params(made.student.module),
        "kept": {g.root: g.unit_count for g in channel_groups(made.student.module, inputs)},
        "picture_loss": None if made.recovery is None else made.recovery.after,
        "picture_loss_before_refit": None if made.recovery is None else made.recovery.before,
    }
    settings = {
        "speedup": config.speedup,
        "goal": config.goal.value,
        "min_channels": config.min_channels,
        "importance": config.importance.value,
        "rounds": config.rounds,
        "moves": config.moves,
        "budget_s": budget_s,
        "multiple": channel_multiple,
    }
    return made.student.with_record(StageRecord("prune", settings, time.perf_counter() - started, facts))


def _cropped(generator: Generator, samples: Samples) -> Samples:
    """Return the middle `_MOVE_SIDE` pixels of every picture where `generator` maps crops as it maps whole pictures."""
    image = generator.spec.inputs[0]
    if len(generator.spec.inputs) > 1 or image.layout is not Layout.CHW or min(image.height, image.width) <= _MOVE_SIDE:
        return samples
    top, left = (image.height - _MOVE_SIDE) // 2, (image.width - _MOVE_SIDE) // 2
    crops = [(picture[:, :, top : top + _MOVE_SIDE, left : left + _MOVE_SIDE].contiguous(),) for (picture,) in samples]
    try:
        with torch.no_grad():
            side = generator.module(*crops[0]).shape[2]
    except RuntimeError:  # torch names shapes here; what matters is that this size does not go through
        return samples
    return crops if side * image.height == _MOVE_SIDE * generator.spec.outputs[0].height else samples


def _extent(generator: Generator, model: LatencyModel, goal: Goal) -> tuple[float, float]:
    """Return the estimates of the generator and of its narrowest student, in seconds."""
    inputs = example_inputs(generator.spec)
    works = layer_works(generator.module, inputs)
    narrowest = narrowest_s(channel_groups(generator.module, inputs), works, model, goal)
    return sum(model.seconds(work) for work in works.values()), narrowest


def _price(
    generator: Generator,
    config: PruneConfig,
    model: LatencyModel,
    goal: Goal,
    samples: Samples,
    teacher: Generator | None,
    seed: int,
) -> float:
    """Return the picture loss per second that the last channels cost on the way from `_NEAR` times the goal to the goal."""
    inputs = example_inputs(generator.spec)
    groups = channel_groups(generator.module, inputs)
    curves = loss_curves(generator, groups, config.importance, samples, teacher=teacher, seed=seed)
    works = layer_works(generator.module, inputs)
    near, there = (
        allocate(groups, curves, works, model, dataclasses.replace(goal, seconds=goal.seconds * share)) for share in (_NEAR, 1.0)
    )
    lost = [sum(curves[root].losses[len(units)] for root, units in a.removed.items()) for a in (near, there)]
    saved = near.after_s - there.after_s
    if not there.met:  # channels alone miss the goal, whatever they cost
        return _BEYOND * lost[1] / max(there.before_s - there.after_s, 1e-12)
    return (lost[1] - lost[0]) / saved if saved > 0 else 0.0


@dataclasses.dataclass(frozen=True)
class _Cut:
    """A student between two rounds: which channels of the uncut generator its layers still give, and how it got there."""

    student: Generator
    kept: Mapping[str, Sequence[int]]
    allocation: Allocation | None
    recovery: Recovery | None
    measured_s: float | None = None


def _cut(
    before: _Cut,
    whole: Generator,
    config: PruneConfig,
    model: LatencyModel,
    goal: Goal,
    samples: Samples,
    teacher: Generator | None,
    seed: int,
    measure: Callable[[Generator], float] | None,
) -> _Cut:
    """Score, cut to `goal` and refit onto `whole`, the generator before the first cut."""
    student = before.student.copy()
    inputs = example_inputs(student.spec)
    groups = channel_groups(student.module, inputs)
    judge = teacher if teacher is not None or before.allocation is None else whole
    curves = loss_curves(student, groups, config.importance, samples, teacher=judge, seed=seed)
    works = layer_works(student.module, inputs)
    allocation, seconds = allocate(groups, curves, works, model, goal), None
    if measure is not None and allocation.met:

        def cut_to(goal_s: float) -> tuple[Allocation, float]:
            found = allocate(groups, curves, works, model, dataclasses.replace(goal, seconds=goal_s))
            trial = student.copy()
            remove_units(trial.module, groups, found, inputs)
            return found, measure(trial)

        allocation, seconds = corrected(cut_to, goal.seconds)
    left = kept_channels(student.module, groups, allocation)
    kept = {**before.kept, **{n: [before.kept[n][c] for c in k] if n in before.kept else k for n, k in left.items()}}
    remove_units(student.module, groups, allocation, inputs)
    if not samples:
        return _Cut(student, kept, allocation, None, seconds)
    student, recovery = reconstruct(student, whole, samples, kept=kept, seed=seed)
    return _Cut(student, kept, allocation, recovery, seconds)
