"""Give a layer the weights that come nearest to wanted activations: linear least squares, solved in closed form.

Source: He et al. 2017 (channel pruning by reconstruction) and Luo et al. 2017 (ThiNet); the ridge pulls towards the weights that
the layer has, so directions that the samples do not show keep what the teacher learned.
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
    read = (rows_at(layer, source.float(), target.float(), share, drawn) for source, target in pairs)
    patches, wanted = zip(*read, strict=True)
    groups = getattr(layer, "groups", 1)
    columns, goals = torch.cat(patches).chunk(groups, dim=1), torch.cat(wanted).chunk(groups, dim=1)
    weights = layer.weight.reshape(groups, layer.weight.shape[0] // groups, -1)
    missed = total = 0.0
    biases = []
    for index, (x, y) in enumerate(zip(columns, goals, strict=True)):
        found, bias, lost, energy = _solve(x, y, weights[index].t(), ridge, centre=layer.bias is not None)
        weights[index] = found.t().to(weights.dtype)
        biases.append(bias)
        missed, total = missed + lost, total + energy
    layer.weight.copy_(weights.reshape(layer.weight.shape))
    if layer.bias is not None:
        layer.bias.copy_(torch.cat(biases))
    return missed / max(total, 1e-30)


@torch.no_grad()
def fit_transposed(
    layer: nn.ConvTranspose2d,
    samples: Iterable[tuple[torch.Tensor, torch.Tensor]],
    *,
    ridge: float = 1e-3,
    rows: int = 20_000,
    seed: int = 0,
) -> float:
    """Do as `fit_layer` for a transposed convolution: output positions of equal phase (row and column modulo the stride) read the
    same taps and no other phase does, so each phase is a fit of its own. The bias is the mean over what the phases ask for.
    """
    if layer.groups > 1:
        raise ValueError("a grouped transposed convolution cannot be fitted")
    drawn, pairs = torch.Generator().manual_seed(seed), [(source.float(), target.float()) for source, target in samples]
    phases = [(row, column) for row in range(layer.stride[0]) for column in range(layer.stride[1])]
    share = max(1, rows // max(1, len(pairs)))
    read = {phase: [_phase_rows(layer, x, y, phase, share, drawn) for x, y in pairs] for phase in phases}
    data = {phase: (torch.cat([x for x, _ in found]), torch.cat([y for _, y in found])) for phase, found in read.items()}
    missed = total = 0.0
    if layer.bias is not None:
        asked = [_solve(x, y, _phase_taps(layer, phase), ridge, centre=True)[1] for phase, (x, y) in data.items()]
        layer.bias.copy_(torch.stack(asked).mean(0))
    for phase, (x, y) in data.items():
        aim = y if layer.bias is None else y - layer.bias
        found, _, lost, energy = _solve(x, aim, _phase_taps(layer, phase), ridge, centre=False)
        rows_of, columns_of = (_taps_of(layer, axis, phase[axis]) for axis in (0, 1))
        kernel = found.reshape(layer.in_channels, len(rows_of), len(columns_of), layer.out_channels).permute(0, 3, 1, 2)
        for i, row in enumerate(rows_of):
            layer.weight[:, :, row, columns_of] = kernel[:, :, i].to(layer.weight.dtype)
        missed, total = missed + lost, total + energy
    return missed / max(total, 1e-30)


def _solve(
    x: torch.Tensor, y: torch.Tensor, start: torch.Tensor, ridge: float, *, centre: bool
) -> tuple[torch.Tensor, torch.Tensor, float, float]:
    """Return the weights (columns, outputs) and bias that map rows `x` to rows `y`, the energy they miss, and that of `y`."""
    x_mean, y_mean = (x.mean(0), y.mean(0)) if centre else (x.new_zeros(x.shape[1]), y.new_zeros(y.shape[1]))
    centred, aim = x - x_mean, y - y_mean
    gram = (centred.t() @ centred).double()  # products in f32, half the time: their rounding is far below any ridge in use
    gram.diagonal().add_(ridge * float(gram.diagonal().mean()) + 1e-12)
    short = (centred.t() @ (aim - centred @ start)).double()
    found = start + torch.linalg.solve(gram, short).to(start.dtype)
    missed, energy = (aim - centred @ found).square().sum(), (y - y.mean(0)).square().sum()
    return found, y_mean - x_mean @ found, float(missed), float(energy)


def _taps_of(layer: nn.ConvTranspose2d, axis: int, phase: int) -> list[int]:
    """Return the kernel rows (axis 0) or columns (1) that output positions of `phase` read."""
    stride, padding, dilation = layer.stride[axis], int(layer.padding[axis]), layer.dilation[axis]
    return [tap for tap in range(layer.kernel_size[axis]) if (phase + padding - tap * dilation) % stride == 0]


def _phase_taps(layer: nn.ConvTranspose2d, phase: tuple[int, int]) -> torch.Tensor:
    """Return the weights of one phase as (input channels x rows x columns, output channels)."""
    rows, columns = (_taps_of(layer, axis, phase[axis]) for axis in (0, 1))
    return layer.weight[:, :, rows][:, :, :, columns].permute(0, 2, 3, 1).flatten(0, 2)


def _phase_rows(
    layer: nn.ConvTranspose2d,
    source: torch.Tensor,
    target: torch.Tensor,
    phase: tuple[int, int],
    count: int,
    drawn: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `count` output positions of one phase as (input values that its taps read; wanted values)."""
    height, width = (len(range(phase[axis], target.shape[2 + axis], layer.stride[axis])) for axis in (0, 1))
    positions = torch.randperm(len(target) * height * width, generator=drawn)[:count]
    image, *place = positions // (height * width), positions // width % height, positions % width
    index, out = [], []
    for axis in (0, 1):
        taps = torch.tensor(_taps_of(layer, axis, phase[axis]), dtype=torch.long)
        out.append(place[axis] * layer.stride[axis] + phase[axis])
        reach = out[axis][:, None] + int(layer.padding[axis]) - taps[None] * layer.dilation[axis]
        index.append(reach.div(layer.stride[axis], rounding_mode="floor"))
    border = max(layer.kernel_size)  # nothing lies outside: zeros, as the transposed convolution reads there
    padded = F.pad(source, (border,) * 4).permute(0, 2, 3, 1)
    down, across = (i.clamp(-border, s + border - 1) + border for i, s in zip(index, source.shape[2:], strict=True))
    taken = padded[image[:, None, None], down[:, :, None], across[:, None, :]]
    return taken.permute(0, 3, 1, 2).flatten(1), target.permute(0, 2, 3, 1)[image, out[0], out[1]]


def rows_at(
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
