"""The middle of a two-layer end at half resolution: which of the teacher's features, phase by phase, it keeps.

At half resolution a full-resolution channel is four, one per phase (2 x 2 pixels). A cheap end keeps a quarter of them: those
without which the layer behind fits its goal worst. Removing unit g from a linear fit with weights W and inverse Gram matrix V
costs tr(W_g' (V_gg)^-1 W_g) (optimal brain surgeon: Hassibi and Stork 1993); units go in rounds, refitting in between.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from edgegen.prune.least_squares import fit_layer
from edgegen.prune.moves.activations import RIDGE, ROWS, moments, ridged, through
from edgegen.prune.moves.separable import energy_of
from edgegen.prune.moves.site import conv_like

_ROUNDS = 4
_MOST_COLUMNS = 1500  # a 3x3 patch of more channels than a sixth of it takes seconds to invert; one pixel then stands for it


def per_phase(layer: nn.Module, phases: int) -> nn.Module:
    """Return `layer`, a norm or an activation, for `phases` channels in place of each."""
    return _with_channels(layer, lambda values: values.repeat_interleave(phases))


@torch.no_grad()
def two_layers(
    opening: nn.Conv2d,
    inner: Sequence[nn.Module],
    closing: nn.Conv2d,
    pairs: Sequence[tuple[torch.Tensor, torch.Tensor]],
    *,
    width: int,
    alike: bool,
) -> list[nn.Module]:
    """Return [opening, *inner, closing] with only `width` channels between, the closing one fitted to the targets.

    `pairs` are (what enters the opening convolution, what the closing one should give); `alike` evens out target channels.
    """
    features = [(through([opening, *inner], x), y) for x, y in pairs]
    kept = _needed(features, width, alike=alike)
    new = conv_like(opening, out_channels=width)
    new.weight.copy_(opening.weight[kept])
    if new.bias is not None and opening.bias is not None:
        new.bias.copy_(opening.bias[kept])
    between = [_with_channels(layer, lambda values: values[kept]) for layer in inner]
    last = conv_like(closing, in_channels=width, bias=True)
    last.weight.copy_(closing.weight[:, kept])
    fit_layer(last, [(f[:, kept], y) for f, y in features], ridge=RIDGE, rows=ROWS)
    return [new, *between, last]


def _needed(features: Sequence[tuple[torch.Tensor, torch.Tensor]], width: int, *, alike: bool) -> list[int]:
    """Return the `width` channels that predict the targets best, ascending."""
    channels, goals = features[0][0].shape[1], features[0][1].shape[1]
    taps = 3 if channels * 9 <= _MOST_COLUMNS else 1
    gram, cross, *_ = moments(nn.Conv2d(channels, goals, taps, padding=taps // 2), features)
    if alike:
        cross = cross * energy_of(list(features)).rsqrt()
    size, kept = taps * taps, list(range(channels))
    for turn in range(_ROUNDS, 0, -1):
        columns = (torch.tensor(kept)[:, None] * size + torch.arange(size)).flatten()
        inverse = torch.linalg.inv(ridged(gram[columns][:, columns]))
        weights = (inverse @ cross[columns]).reshape(len(kept), size, -1)
        index = torch.arange(len(kept))
        own = inverse.reshape(len(kept), size, len(kept), size)[index, :, index]  # (units, size, size)
        loss = (weights * torch.linalg.solve(own, weights)).sum((1, 2))
        keep = width + (len(kept) - width) * (turn - 1) // turn
        order = torch.argsort(loss, descending=True, stable=True)[:keep].tolist()
        kept = sorted(kept[i] for i in order)
    return kept


def _with_channels(layer: nn.Module, chosen) -> nn.Module:
    """Return a copy of `layer` whose per-channel values are mapped by `chosen`."""
    new = copy.deepcopy(layer)
    tensors = {**dict(new.named_parameters(recurse=False)), **dict(new.named_buffers(recurse=False))}
    for name, tensor in tensors.items():
        if tensor.dim() == 1 and (len(tensor) > 1 or not isinstance(layer, nn.PReLU)):
            value = chosen(tensor.detach()).clone()
            setattr(new, name, nn.Parameter(value) if isinstance(tensor, nn.Parameter) else value)
    if isinstance(new, nn.InstanceNorm2d | nn.BatchNorm2d):
        new.num_features = len(chosen(torch.zeros(new.num_features)))
    elif isinstance(new, nn.PReLU):
        new.num_parameters = new.weight.numel()
    return new
