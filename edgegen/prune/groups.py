"""Channels that must be removed together, found on torch-pruning's dependency graph (Fang et al., DepGraph, CVPR 2023).

torch-pruning follows convolutions, norms, additions and concatenations. PixelShuffle, PixelUnshuffle and reshapes between
features and images change the channel numbering; we register them and tell the graph how indices map across them. Written
as functions they become layers first, whose sizes can follow a cut. Of an InstanceNorm it leaves the running statistics behind:
we cut that ourselves.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from edgegen.graph import clean, node_shapes
from edgegen.layers import DepthToSpace, Reshape

_RENUMBERING = (nn.PixelShuffle, nn.PixelUnshuffle, DepthToSpace, Reshape)
_RESHAPES = ("view", "reshape", "flatten", torch.reshape, torch.flatten)


@dataclasses.dataclass(frozen=True)
class Member:
    """One layer of a group: which of its output or input channels belong to each unit, and what cuts them."""

    layer: str
    side: str  # "out" or "in"
    channels: tuple[tuple[int, ...], ...]  # per unit
    cut: Callable[[nn.Module, list[int]], Any]


@dataclasses.dataclass(frozen=True)
class ChannelGroup:
    """Its units are the smallest sets of channels that can go: one of a plain convolution, r*r in front of a PixelShuffle."""

    root: str
    unit_count: int
    members: tuple[Member, ...]


class _Renumbering:
    """Stands for a layer without weights whose output channels are numbered otherwise than its input channels."""

    def __init__(self, channels: dict[nn.Module, tuple[int, int]]) -> None:
        self._channels = channels

    def __call__(self, layer: nn.Module, *_: Any) -> nn.Module:
        return layer

    def prune_out_channels(self, layer: nn.Module, idxs: list[int]) -> nn.Module:
        return layer

    prune_in_channels = prune_out_channels  # one function: torch-pruning then knows that cutting one side cuts the other

    def get_out_channels(self, layer: nn.Module) -> int:
        return self._channels[layer][1]

    def get_in_channels(self, layer: nn.Module) -> int:
        return self._channels[layer][0]

    def get_in_channel_groups(self, layer: nn.Module) -> int:
        return 1

    def get_out_channel_groups(self, layer: nn.Module) -> int:
        return 1


def channel_groups(module: fx.GraphModule, inputs: tuple[torch.Tensor, ...]) -> list[ChannelGroup]:
    """Return every group of `module` whose channels may be removed; those that reach the output image are left out."""
    import torch_pruning as tp

    module = copy.deepcopy(module)
    name_reshapes(module, inputs)
    names: dict[nn.Module, str] = {layer: name for name, layer in module.named_modules()}
    protected = _fixed_layers(module)
    with torch.enable_grad():
        graph = tp.DependencyGraph()
        pruner: Any = _Renumbering(_renumbered(module, node_shapes(module, inputs)))
        for kind in _RENUMBERING:
            graph.register_customized_layer(kind, pruner)
        graph.build_dependency(module, example_inputs=inputs, verbose=False)
        _map_indices(graph, pruner)
        found = [_channel_group(graph, group, names) for group in graph.get_all_groups(ignored_layers=protected)]
    return [group for group in found if group is not None and group.unit_count > 1]


def name_reshapes(module: fx.GraphModule, inputs: tuple[torch.Tensor, ...]) -> None:
    """Make layers, in place, of the functions that renumber channels: F.pixel_shuffle, and views between features and images."""
    shapes, changed = node_shapes(module, inputs), False
    for node in list(module.graph.nodes):
        layer = _as_layer(node, shapes)
        if layer is None:
            continue
        name = f"{node.name}_layer"
        while hasattr(module, name):
            name += "_"
        module.add_submodule(name, layer)
        with module.graph.inserting_before(node):
            made = module.graph.call_module(name, (node.all_input_nodes[0],))
        node.replace_all_uses_with(made)
        module.graph.erase_node(node)
        changed = True
    if changed:
        clean(module)


def _as_layer(node: fx.Node, shapes: dict[str, tuple[int, ...]]) -> nn.Module | None:
    """Return the layer that does what `node` does to a batch of one; None for nodes that keep the numbering."""
    if node.op not in ("call_function", "call_method"):
        return None
    if node.target is F.pixel_shuffle:
        before, after = shapes[node.all_input_nodes[0].name], shapes[node.name]
        return nn.PixelShuffle(after[2] // before[2])
    if node.target not in _RESHAPES:
        return None
    before, after = shapes[node.all_input_nodes[0].name], shapes[node.name]
    if before[0] != after[0] or before == after or (before[1] == after[1] and 2 not in (len(before), len(after))):
        return None
    if len(after) == 2:
        return nn.Flatten(1)
    return Reshape(after[1:]) if len(before) == 2 else None


def _renumbered(module: fx.GraphModule, shapes: dict[str, tuple[int, ...]]) -> dict[nn.Module, tuple[int, int]]:
    channels = {}
    for node in module.graph.nodes:
        if node.op == "call_module":
            layer = module.get_submodule(str(node.target))
            if isinstance(layer, _RENUMBERING):
                channels[layer] = (shapes[node.all_input_nodes[0].name][1], shapes[node.name][1])
    return channels


def _fixed_layers(module: fx.GraphModule) -> list[nn.Module]:
    """Layers whose output channels reach the output through channel-preserving nodes: their count is the picture's."""
    fixed, pending, seen = [], list(next(n for n in module.graph.nodes if n.op == "output").all_input_nodes), set()
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        layer = module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            fixed.append(layer)
        else:
            pending += node.all_input_nodes
    return fixed


def _map_indices(graph: Any, pruner: _Renumbering) -> None:
    """Set the index mapping on both sides of every renumbering layer: the node itself counts like its output."""
    from torch_pruning.dependency.index_mapping import _FlattenIndexMapping

    for node in graph.module2node.values():
        if not isinstance(node.module, _RENUMBERING):
            continue
        before, after = pruner.get_in_channels(node.module), pruner.get_out_channels(node.module)
        many, few = max(before, after), min(before, after)
        stride, shrinks = many // few, after < before
        for source in node.inputs:
            for dep in node.dependencies:
                if dep.target is source:
                    dep.index_mapping[0] = _FlattenIndexMapping(stride=stride, reverse=not shrinks)
            for dep in source.dependencies:
                if dep.target is node:
                    dep.index_mapping[0] = _FlattenIndexMapping(stride=stride, reverse=shrinks)


def _channel_group(graph: Any, group: Any, names: dict[nn.Module, str]) -> ChannelGroup | None:
    """Split torch-pruning's group of whole layers into units.

    Its items carry, per cut channel, the root channel that asked for it; but where a renumbering layer folds several root
    channels into one, it keeps only the first of them. There we ask again for every unit alone.
    """
    root, cut = group[0].dep.target.module, group[0].dep.handler
    if not any(isinstance(item.dep.target.module, _RENUMBERING) for item in group):
        count = len(group[0].idxs)
        members = [(item.dep, _channels_per_root(item, count)) for item in group]
    else:
        left, subgroups = set(group[0].idxs), []
        while left:
            subgroups.append(graph.get_pruning_group(root, cut, [min(left)]))
            left -= set(subgroups[-1][0].idxs)
        count = len(subgroups)
        members = [(item.dep, [_channels_of(sub, item.dep) for sub in subgroups]) for item in group]
    kept = []
    for dep, channels in members:
        layer = dep.target.module
        if layer not in names or isinstance(layer, _RENUMBERING) or not _has_channels(layer):
            continue
        side = "out" if graph.is_out_channel_pruning_fn(dep.handler) else "in"
        cut = _cut_instance_norm if isinstance(layer, nn.InstanceNorm2d) else dep.handler
        kept.append(Member(names[layer], side, tuple(tuple(sorted(c)) for c in channels), cut))
    return ChannelGroup(names[root], count, tuple(kept))


def _cut_instance_norm(layer: nn.Module, channels: list[int]) -> nn.Module:
    """Remove `channels` with their scale, shift and running statistics."""
    assert isinstance(layer, nn.InstanceNorm2d)
    kept = torch.tensor([c for c in range(layer.num_features) if c not in set(channels)], dtype=torch.long)
    for name in ("weight", "bias"):
        if getattr(layer, name) is not None:
            setattr(layer, name, nn.Parameter(getattr(layer, name).detach()[kept]))
    for name in ("running_mean", "running_var"):
        if getattr(layer, name) is not None:
            setattr(layer, name, getattr(layer, name)[kept])
    layer.num_features = len(kept)
    return layer


def _has_channels(layer: nn.Module) -> bool:
    return isinstance(layer, nn.InstanceNorm2d) or any(True for _ in layer.parameters(recurse=False))


def _channels_per_root(item: Any, count: int) -> list[list[int]]:
    """The channels of `item` that each of `count` root channels cuts."""
    channels: list[list[int]] = [[] for _ in range(count)]
    for index, source in zip(item.idxs, item.root_idxs, strict=True):
        channels[source].append(index)
    return channels


def _channels_of(group: Any, dep: Any) -> list[int]:
    """The channels that `group` cuts from the layer and side of `dep`."""
    return [i for item in group if item.dep.target is dep.target and item.dep.handler == dep.handler for i in item.idxs]
