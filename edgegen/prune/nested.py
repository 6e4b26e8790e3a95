"""Cut several students from one generator so that they share its weights."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx

from edgegen.errors import RecipeError
from edgegen.generator import Generator, StageRecord
from edgegen.graph import count_macs, count_params, example_inputs
from edgegen.nested import Nested, Width, select
from edgegen.prune.allocate import Allocation
from edgegen.prune.cut import kept_channels, remove_units
from edgegen.prune.front import FrontPoint
from edgegen.prune.groups import ChannelGroup, channel_groups
from edgegen.prune.recover import reconstruct
from edgegen.prune.sensitivity import Samples


def build_nested(
    generator: Generator,
    front: Sequence[FrontPoint | Allocation],
    *,
    private: bool = True,
    samples: Samples = (),
    seed: int = 0,
) -> Nested:
    """Return the students that `front` cuts from `generator`, widest first; channels that the widest lacks are gone for all.

    Each point removes all that the first one removes. `private`: each width has biases and norm scales of its own (the
    one-dimensional parameters), which start at the widest one's. Buffers, such as the statistics of norms, are never shared.
    With `samples` (calibration inputs, batch axis 1) the widest one's layers are refitted onto `generator`'s. Raises RecipeError
    for points that do not lie within the first.
    """
    allocations = [point.allocation if isinstance(point, FrontPoint) else point for point in front]
    inputs = example_inputs(generator.spec)
    groups = channel_groups(generator.module, inputs)
    _check_nested(allocations, groups)
    full = generator.copy()
    remove_units(full.module, groups, allocations[0], inputs)
    if samples:
        kept = kept_channels(generator.module, groups, allocations[0])
        full, _ = reconstruct(full, generator, samples, kept=kept, seed=seed)
    widest = _survivors(_numbered(generator.module, None), groups, allocations[0], inputs)
    widths = []
    for point, allocation in zip(front, allocations, strict=True):
        started = time.perf_counter()
        student = generator.copy()
        remove_units(student.module, groups, allocation, inputs)
        places = _survivors(_numbered(generator.module, widest), groups, allocation, inputs)
        _fill(student.module, full.module, places)
        shared = {name for name, weight in student.module.named_parameters() if not private or weight.dim() > 1}
        macs = count_macs(student.module, student.spec)
        facts = _facts(point, allocation, groups) | {"macs": macs, "params": count_params(student.module)}
        settings = {"nested": len(allocations), "private": private, "refitted": bool(samples)}
        record = StageRecord("prune", settings, time.perf_counter() - started, facts)
        widths.append(Width(student.module, {n: p for n, p in places.items() if n in shared}, macs, record))
    return Nested(full, tuple(widths))


@torch.no_grad()
def _fill(module: fx.GraphModule, full: fx.GraphModule, places: Mapping[str, torch.Tensor]) -> None:
    values = full.state_dict()
    for name, tensor in module.state_dict().items():
        tensor.copy_(select(values[name], places[name]))


def _check_nested(allocations: Sequence[Allocation], groups: Sequence[ChannelGroup]) -> None:
    if not allocations:
        raise RecipeError("a nest of no students", hint="give at least one point of the front")
    widest = allocations[0]
    for number, narrow in enumerate(allocations[1:], start=2):
        for group in groups:
            if not set(widest.removed[group.root]) <= set(narrow.removed[group.root]):
                raise RecipeError(
                    f"student {number} of the nest has channels of '{group.root}' that the first lacks",
                    hint="the first point must be the widest, and all of one order of channels",
                )


@torch.no_grad()
def _numbered(module: fx.GraphModule, kept: Mapping[str, torch.Tensor] | None) -> fx.GraphModule:
    """Return a copy whose weights are their own flat indices; with `kept` (flat indices), indices among those that are kept.

    float64 holds every index exactly.
    """
    numbered = copy.deepcopy(module).double()
    for name, tensor in numbered.state_dict().items():
        numbers = torch.arange(tensor.numel()).view(tensor.shape) if kept is None else _rank(kept[name], tensor)
        tensor.copy_(numbers)
    return numbered


def _rank(kept: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    numbers = torch.zeros(tensor.numel(), dtype=torch.long)
    numbers[kept.reshape(-1).long()] = torch.arange(kept.numel())
    return numbers.view(tensor.shape)


def _survivors(
    numbered: fx.GraphModule, groups: Sequence[ChannelGroup], allocation: Allocation, inputs: tuple[torch.Tensor, ...]
) -> dict[str, torch.Tensor]:
    """Cut `numbered` (in place) as any other generator and return the numbers that are left, int32, by tensor name."""
    exact = tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs)
    remove_units(numbered, groups, allocation, exact)
    return {name: tensor.int() for name, tensor in numbered.state_dict().items()}


def _facts(point: FrontPoint | Allocation, allocation: Allocation, groups: Sequence[ChannelGroup]) -> dict[str, Any]:
    label = {"label": point.label} if isinstance(point, FrontPoint) else {}
    return label | {
        "estimate_before_ms": allocation.before_s * 1e3,
        "estimate_ms": allocation.after_s * 1e3,
        "kept": {group.root: group.unit_count - len(allocation.removed[group.root]) for group in groups},
    }
