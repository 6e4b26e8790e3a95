"""Give a layer the weights that come nearest to wanted activations: linear least squares, solved in closed form.

Source: He et al. 2017 (channel pruning by reconstruction) and Luo et al. 2017 (ThiNet); the ridge pulls towards the weights that the
layer has, so directions that the samples do not show keep what the teacher learned.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn


@torch.no_grad()
def fit_layer(
    layer: nn.Conv2d | nn.Linear,
    samples: Iterable[tuple[torch.Tensor, torch.Tensor]],
    *,
    ridge: float = 1e-3,
    rows: int = 20_000,
    seed: int = 0,
) -> float:
    """Set the weights and bias of `layer` in place so that it maps sources to targets best; return the share of energy missed.

    `samples` are (source, target) batches: what enters the layer, and what it should give, (N, C, H, W) or (N, F) for Linear.
    `rows` output positions are drawn from all of them. `ridge` is relative to the mean energy of an input value. The result is
    0 for a perfect fit, 1 for one no better than the mean.
    """
    drawn = torch.Generator().manual_seed(seed)
    pairs = list(samples)
    share = max(1, rows // max(1, len(pairs)))
    patches, wanted = zip(*(_rows(layer, source.float(), target.float(), share, drawn) for source, target in pairs), strict=True)
    groups = getattr(layer, "groups", 1)
    columns, goals = torch.cat(patches).chunk(groups, dim=1), torch.cat(wanted).chunk(groups, dim=1)
    weights = layer.weight.reshape(groups, layer.weight.shape[0] // groups, -1)
    missed = total = 0.0
    biases = []
    for index, (x, y) in enumerate(zip(columns, goals, strict=True)):
        x, y = x.double(), y.double()
        x_mean, y_mean = x.mean(0), y.mean(0)
        centred, aim = x - x_mean, y - y_mean
        if layer.bias is None:
            centred, aim, x_mean, y_mean = x, y, torch.zeros_like(x_mean), torch.zeros_like(y_mean)
        start = weights[index].double().t()
        gram = centred.t() @ centred
        gram.diagonal().add_(ridge * float(gram.diagonal().mean()) + 1e-12)
        found = start + torch.linalg.solve(gram, centred.t() @ (aim - centred @ start))
        weights[index] = found.t().to(weights.dtype)
        biases.append(y_mean - x_mean @ found)
        missed += float((aim - centred @ found).square().sum())
        total += float((y - y.mean(0)).square().sum())
    layer.weight.copy_(weights.reshape(layer.weight.shape))
    if layer.bias is not None:
        layer.bias.copy_(torch.cat(biases))
    return missed / max(total, 1e-30)


def _rows(
    layer: nn.Conv2d | nn.Linear, source: torch.Tensor, target: torch.Tensor, count: int, drawn: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `count` of the layer's output positions as (patch values, grouped by input channel; wanted values)."""
    if isinstance(layer, nn.Linear):
        kept = torch.randperm(len(source), generator=drawn)[:count]
        return source[kept], target[kept]
    assert not isinstance(layer.padding, str)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    if any(layer.padding):
        source = F.pad(source, (layer.padding[1], layer.padding[1], layer.padding[0], layer.padding[0]), mode=mode)
    height, width = target.shape[2:]
    positions = torch.randperm(len(target) * height * width, generator=drawn)[:count]
    image, row, column = positions // (height * width), positions // width % height, positions % width
    down = row[:, None] * layer.stride[0] + torch.arange(layer.kernel_size[0]) * layer.dilation[0]
    across = column[:, None] * layer.stride[1] + torch.arange(layer.kernel_size[1]) * layer.dilation[1]
    channels_last = source.permute(0, 2, 3, 1)
    taken = channels_last[image[:, None, None], down[:, :, None], across[:, None, :]]  # (rows, kh, kw, C)
    return taken.permute(0, 3, 1, 2).flatten(1), target.permute(0, 2, 3, 1)[image, row, column]
