"""The front of latency against picture loss: one nested sequence of students, from the full generator to the narrowest."""

from __future__ import annotations

import dataclasses
import math

from edgegen.generator import Generator
from edgegen.graph import count_macs, count_params, example_inputs
from edgegen.latency import LatencyModel
from edgegen.prune.allocate import Allocation, Goal, trajectory
from edgegen.prune.cut import remove_units
from edgegen.prune.groups import channel_groups
from edgegen.prune.importance import loss_curves
from edgegen.prune.sensitivity import Samples, picture_curves
from edgegen.prune.work import layer_works
from edgegen.recipe import Importance, PruneConfig


@dataclasses.dataclass(frozen=True)
class FrontPoint:
    """One student: estimated seconds and how they were estimated, its size, and the units it lacks.

    `picture_loss` is the predicted mean square error to the uncut generator in [0, 1] display range, layers refitted, untrained.
    """

    seconds: float
    label: str
    macs: int
    params: int
    picture_loss: float
    allocation: Allocation


def front(
    generator: Generator,
    config: PruneConfig,
    *,
    model: LatencyModel,
    inputs: Samples,
    channel_multiple: int,
    points: int = 12,
    seed: int = 0,
) -> list[FrontPoint]:
    """Return up to `points` allocations from nothing removed to the narrowest, evenly spaced in log latency.

    Each removes a superset of the units that the one before it removes, so all can share one set of weights. `inputs` are
    calibration inputs of the generator, batch axis 1.
    """
    shape_inputs = example_inputs(generator.spec)
    groups = channel_groups(generator.module, shape_inputs)
    curves = loss_curves(generator, groups, config.importance, inputs, seed=seed)
    seen = curves  # what the points are ranked by, and what they are told to lose
    if config.importance is not Importance.PICTURE:
        orders = {root: curve.order for root, curve in curves.items()}
        seen = picture_curves(generator, groups, inputs, orders=orders, seed=seed)
    goal = Goal(0.0, channel_multiple, config.min_channels)
    path = list(trajectory(groups, curves, layer_works(generator.module, shape_inputs), model, goal))
    made = []
    for allocation in _spaced(path, points):
        student = generator.copy()
        remove_units(student.module, groups, allocation, shape_inputs)
        loss = sum(seen[root].losses[len(units)] for root, units in allocation.removed.items())
        macs, params = count_macs(student.module, student.spec), count_params(student.module)
        made.append(FrontPoint(allocation.after_s, model.label, macs, params, loss, allocation))
    return made


def _spaced(path: list[Allocation], points: int) -> list[Allocation]:
    """Return at most `points` of `path`, both ends among them, those nearest to even steps of log latency."""
    first, last = path[0].after_s, path[-1].after_s
    if len(path) <= points or last <= 0:
        return path[:points]
    wanted = [first * (last / first) ** (i / (points - 1)) for i in range(points)]
    chosen = {min(range(len(path)), key=lambda i: abs(math.log(path[i].after_s / target))) for target in wanted}
    return [path[i] for i in sorted(chosen | {0, len(path) - 1})]
