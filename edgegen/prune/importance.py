"""How much each unit of channels matters, by whichever measure the recipe names.

"picture" is edgegen.prune.sensitivity. "norm": score = scale * consumers, where `scale` is |gamma| of the norm behind a channel
(its size after normalisation) or, with no norm, the L2 norm of the filter that makes it; `consumers` is that of the weights
that read it. The product bounds the energy that the channel adds to the sums of the layer that reads it. Shares are kept per
reader: a residual stream that twelve layers read is twelve times as dear as a channel inside one block. "magnitude"
adds up the squares of all weights that go with the unit (Fang et al., DepGraph, CVPR 2023).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from edgegen.generator import Generator
from edgegen.prune.allocate import LossCurve
from edgegen.prune.groups import ChannelGroup, Member
from edgegen.prune.sensitivity import Samples, picture_curves
from edgegen.recipe import Importance


def loss_curves(
    generator: Generator,
    groups: Sequence[ChannelGroup],
    importance: Importance,
    samples: Samples,
    *,
    teacher: Generator | None = None,
    seed: int = 0,
) -> dict[str, LossCurve]:
    """Return what removing units of every group costs, by `importance`; picture loss for "picture", unitless otherwise.

    Raises RecipeError when pictures are asked for and there are no `samples` (inputs with batch axis 1) to make them from.
    """
    match importance:
        case Importance.PICTURE:
            return picture_curves(generator, groups, samples, teacher=teacher, seed=seed)
        case Importance.NORM:
            return {group.root: _share_curve(unit_scores(generator.module, group)) for group in groups}
        case Importance.MAGNITUDE:
            return {group.root: _share_curve(unit_magnitudes(generator.module, group)[None]) for group in groups}


def _share_curve(scores: torch.Tensor) -> LossCurve:
    """Turn shares of energy (readers, units) into -log(share kept), summed over the readers.

    The logarithm keeps a layer from being starved while others are untouched.
    """
    order = torch.argsort(scores.sum(0), stable=True).tolist()
    gone = scores[:, order].cumsum(1).clamp(max=1 - 1e-9)
    return LossCurve(tuple(order), (0.0, *(-torch.log1p(-gone).sum(0)).tolist()))


@torch.no_grad()
def unit_magnitudes(module: nn.Module, group: ChannelGroup) -> torch.Tensor:
    """Return the share of every unit (units,) in the squared weights that make, scale and read the group; they sum to 1."""
    total = torch.zeros(group.unit_count, dtype=torch.float64)
    for member in group.members:
        layer = module.get_submodule(member.layer)
        if _weighted(module, member) and getattr(layer, "weight", None) is not None:
            total += _per_unit(_out_energy(layer) if member.side == "out" else _in_energy(layer), member).double()
    return total / total.sum().clamp_min(1e-30)


@torch.no_grad()
def unit_scores(module: nn.Module, group: ChannelGroup) -> torch.Tensor:
    """Return the share of energy that every unit brings to every layer that reads it, shape (readers, units); rows sum to 1."""
    made = [m for m in group.members if m.side == "out"]
    norms = [m for m in made if isinstance(module.get_submodule(m.layer), nn.InstanceNorm2d)]
    affine = [m for m in norms if module.get_submodule(m.layer).weight is not None]
    scale = torch.ones(group.unit_count)
    if affine or not norms:
        parts = [_per_unit(_out_energy(module.get_submodule(m.layer)), m) for m in (affine or made) if _weighted(module, m)]
        scale = torch.stack(parts).sum(0)
    read = [m for m in group.members if m.side == "in" and _weighted(module, m)]
    rows: list[torch.Tensor] = [scale * _per_unit(_in_energy(module.get_submodule(m.layer)), m) for m in read] or [scale]
    energy = torch.stack(rows).double()
    return energy / energy.sum(1, keepdim=True).clamp_min(1e-30)


def _weighted(module: nn.Module, member: Member) -> bool:
    return isinstance(module.get_submodule(member.layer), (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.InstanceNorm2d))


def _out_energy(layer: nn.Module) -> torch.Tensor:
    """Squared norm of what makes each output channel."""
    weight, groups = _weight(layer), getattr(layer, "groups", 1)
    if isinstance(layer, nn.ConvTranspose2d):
        per_group = weight.reshape(groups, -1, *weight.shape[1:])
        return per_group.pow(2).sum((1, 3, 4)).reshape(-1)
    return weight.pow(2).flatten(1).sum(1) if weight.dim() > 1 else weight.pow(2)


def _in_energy(layer: nn.Module) -> torch.Tensor:
    """Squared norm of what reads each input channel."""
    weight, groups = _weight(layer), getattr(layer, "groups", 1)
    if isinstance(layer, nn.ConvTranspose2d):
        return weight.pow(2).flatten(1).sum(1)
    if isinstance(layer, nn.Conv2d) and groups > 1:
        per_group = weight.reshape(groups, -1, *weight.shape[1:])
        return per_group.pow(2).sum((1, 3, 4)).reshape(-1)
    return weight.pow(2).transpose(0, 1).flatten(1).sum(1) if weight.dim() > 1 else weight.pow(2)


def _weight(layer: nn.Module) -> torch.Tensor:
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    return weight


def _per_unit(energy: torch.Tensor, member: Member) -> torch.Tensor:
    return torch.stack([energy[list(c)].sum() if c else energy.new_zeros(()) for c in member.channels])
