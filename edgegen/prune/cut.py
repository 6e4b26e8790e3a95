"""Take the channels of removed units out of a module."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from edgegen.graph import clean
from edgegen.layers import Reshape
from edgegen.prune.allocate import Allocation
from edgegen.prune.groups import ChannelGroup, name_reshapes


def remove_units(
    module: fx.GraphModule, groups: Sequence[ChannelGroup], allocation: Allocation, inputs: tuple[torch.Tensor, ...]
) -> None:
    """Cut the channels of all removed units from `module` in place, each layer side once, with torch-pruning's own functions."""
    name_reshapes(module, inputs)
    cuts = {(member.layer, member.side): member.cut for group in groups for member in group.members}
    for (layer, side), lost in removed_channels(groups, allocation).items():
        if lost:
            cuts[layer, side](module.get_submodule(layer), sorted(lost))
    with torch.no_grad():
        _Refit(module).run(*inputs)
    clean(module)


def removed_channels(groups: Sequence[ChannelGroup], allocation: Allocation) -> dict[tuple[str, str], set[int]]:
    """Return the channels that `allocation` removes by (layer, "in" or "out")."""
    channels: dict[tuple[str, str], set[int]] = defaultdict(set)
    for group in groups:
        for member in group.members:
            for unit in allocation.removed[group.root]:
                channels[member.layer, member.side].update(member.channels[unit])
    return channels


def kept_channels(module: fx.GraphModule, groups: Sequence[ChannelGroup], allocation: Allocation) -> dict[str, list[int]]:
    """Return, for every layer that loses outputs, the numbers of those that stay; `module` is the one before the cut."""
    kept = {}
    for (name, side), lost in removed_channels(groups, allocation).items():
        if side == "out" and lost:
            kept[name] = [c for c in range(_outputs(module.get_submodule(name))) if c not in lost]
    return kept


def _outputs(layer: nn.Module) -> int:
    counts = (getattr(layer, name, None) for name in ("out_channels", "out_features", "num_features", "num_parameters"))
    return next(count for count in counts if isinstance(count, int))


class _Refit(fx.Interpreter):
    """Runs a graph whose channels were cut and gives every Reshape the number of channels that now arrive."""

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        layer = self.fetch_attr(target)
        if isinstance(layer, Reshape):
            layer.shape = (args[0][0].numel() // math.prod(layer.shape[1:]), *layer.shape[1:])
        return super().call_module(target, args, kwargs)
