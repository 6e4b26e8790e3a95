"""A dense convolution becomes depthwise + pointwise (MobileNet: Howard et al. 2017).

Start: the best rank-1 kernel of every input channel by singular values (Guo et al. 2018, "Network decoupling").
Then alternating least squares on activations: for fixed depthwise kernels the pointwise weights are a linear fit, for fixed
pointwise weights the depthwise kernels are one. Both need only the moments of patches and goals, gathered once.
"""

from __future__ import annotations

import torch
from torch import fx, nn

from edgegen.generator import Generator
from edgegen.graph import layer_of
from edgegen.prune.moves.activations import activations, moments, ridged
from edgegen.prune.moves.site import Samples, Site, before, calls, conv_like, finished, normalised, plain_conv

NAME = "separable"
_MIN_CHANNELS = 16  # below it the depthwise part costs about as much as the dense convolution
_ROUNDS = 4


def find(module: fx.GraphModule, inputs: tuple[torch.Tensor, ...]) -> list[Site]:
    """Return every dense convolution of at least 3x3 taps and 16 channels on both sides."""
    found = []
    for name, node in calls(module).items():
        conv = plain_conv(layer_of(module, node))
        if conv and min(conv.kernel_size) >= 3 and min(conv.in_channels, conv.out_channels) >= _MIN_CHANNELS:
            found.append(Site(NAME, (name,), "depthwise + 1x1"))
    return found


def apply(student: Generator, site: Site, *, samples: Samples) -> Generator:
    """Return a copy with the convolution at `site` split in two; its node now calls the pointwise half."""
    made = student.copy()
    (name,) = site.layers
    node = calls(made.module)[name]
    conv = plain_conv(layer_of(made.module, node))
    assert conv is not None
    pairs = [(x, y) for x, y in activations(made.module, [node.all_input_nodes[0], node], samples)]
    depthwise, pointwise = separated(conv, pairs, alike=normalised(made.module, node))
    made.module.set_submodule(name, pointwise)
    before(made.module, node, f"{name}_depthwise", [depthwise])
    return finished(made)


@torch.no_grad()
def separated(
    conv: nn.Conv2d, pairs: list[tuple[torch.Tensor, torch.Tensor]], *, alike: bool, rounds: int = _ROUNDS
) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Return the depthwise and the pointwise convolution that map the sources of `pairs` best to the targets.

    `alike` weighs output channels by the inverse of their energy, else by 1. 0 `rounds` give the start from the weights alone.
    """
    inputs, outputs = conv.in_channels, conv.out_channels
    start = conv.weight.double().transpose(0, 1).flatten(2)  # (inputs, outputs, taps)
    u, s, v = torch.linalg.svd(start, full_matrices=False)
    taps, mix = v[:, 0], (u[:, :, 0] * s[:, :1]).t()  # (inputs, taps), (outputs, inputs)
    bias = conv.bias.double() if conv.bias is not None else torch.zeros(outputs, dtype=torch.float64)
    if rounds:
        gram, cross, x_mean, y_mean = moments(conv, pairs)
        weights = 1 / energy_of(pairs) if alike else torch.ones(outputs, dtype=torch.float64)
        taps, mix = _alternate(gram, cross, (taps, mix), weights, rounds)
        bias = y_mean - mix @ (taps * x_mean.reshape(inputs, -1)).sum(1)
    depthwise = conv_like(conv, out_channels=inputs, groups=inputs, bias=False)
    depthwise.weight.copy_(taps.reshape(depthwise.weight.shape))
    pointwise = nn.Conv2d(inputs, outputs, 1)
    pointwise.weight.copy_(mix.reshape(pointwise.weight.shape))
    assert pointwise.bias is not None
    pointwise.bias.copy_(bias)
    return depthwise, pointwise


def energy_of(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Return the variance of every channel of the targets, float64, never 0."""
    return torch.stack([y.double().var((0, 2, 3)) for _, y in pairs]).mean(0).clamp_min(1e-12)


def _alternate(
    gram: torch.Tensor, cross: torch.Tensor, start: tuple[torch.Tensor, torch.Tensor], weights: torch.Tensor, rounds: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Improve (taps, mix) in turns; each turn moves from where it is by the solution of a ridged linear system."""
    taps, mix = start
    inputs, size = taps.shape
    blocks, goals = gram.reshape(inputs, size, inputs, size), cross.reshape(inputs, size, -1)
    for turn in range(2 * rounds + 1):
        if turn % 2 == 0:
            inner = torch.einsum("ik,ikjl,jl->ij", taps, blocks, taps)
            wanted = torch.einsum("ik,iko->io", taps, goals) - inner @ mix.t()
            mix = mix + torch.linalg.solve(ridged(inner), wanted).t()
        else:
            pairs = mix.t() @ (weights[:, None] * mix)
            inner = (pairs[:, None, :, None] * blocks).reshape(inputs * size, -1)
            wanted = torch.einsum("oi,o,iko->ik", mix, weights, goals).flatten() - inner @ taps.flatten()
            taps = taps + torch.linalg.solve(ridged(inner), wanted).reshape(inputs, size)
    return taps, mix
