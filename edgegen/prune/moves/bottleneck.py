"""A dense convolution becomes a narrower one and a 1x1 that widens again.

Source: Zhang et al. 2016, "Accelerating very deep convolutional networks": the outputs of a layer lie near a low-dimensional
subspace; projecting them on their leading principal components is the best linear bottleneck (reduced-rank regression).
"""

from __future__ import annotations

import torch
from torch import fx, nn

from edgegen.generator import Generator
from edgegen.graph import layer_of
from edgegen.prune.moves.activations import activations
from edgegen.prune.moves.separable import energy_of
from edgegen.prune.moves.site import Samples, Site, before, calls, conv_like, finished, normalised, plain_conv

NAME = "bottleneck"
_SHARES = (2, 4)
_MIN_WIDTH = 8


def find(module: fx.GraphModule, inputs: tuple[torch.Tensor, ...]) -> list[Site]:
    """Return every dense convolution of at least 3x3 taps that a bottleneck of 1/2 or 1/4 of its channels makes cheaper."""
    found = []
    for name, node in calls(module).items():
        conv = plain_conv(layer_of(module, node))
        if conv is None or min(conv.kernel_size) < 3:
            continue
        reads = conv.in_channels * conv.kernel_size[0] * conv.kernel_size[1]
        for share in _SHARES:
            width = conv.out_channels // share // 8 * 8
            if width >= _MIN_WIDTH and width * (reads + conv.out_channels) < reads * conv.out_channels:
                found.append(Site(NAME, (name,), f"{width} channels"))
    return found


def apply(student: Generator, site: Site, *, samples: Samples) -> Generator:
    """Return a copy with the convolution at `site` split in two; its node now calls the 1x1 half."""
    made = student.copy()
    (name,) = site.layers
    node = calls(made.module)[name]
    conv = plain_conv(layer_of(made.module, node))
    assert conv is not None
    targets = [y for (y,) in activations(made.module, [node], samples)]
    narrow, wide = split(conv, targets, int(site.form.split()[0]), alike=normalised(made.module, node))
    made.module.set_submodule(name, wide)
    before(made.module, node, f"{name}_narrow", [narrow])
    return finished(made)


@torch.no_grad()
def split(conv: nn.Conv2d, targets: list[torch.Tensor], width: int, *, alike: bool) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Return `conv` as (k x k to `width` channels, 1x1 to all); `targets` are its outputs, `alike` evens out their energies."""
    rows = torch.cat([y.movedim(1, -1).flatten(0, 2) for y in targets]).double()
    scale = energy_of([(y, y) for y in targets]).rsqrt() if alike else torch.ones(conv.out_channels, dtype=torch.float64)
    mean = rows.mean(0)
    centred = (rows - mean) * scale
    basis = torch.linalg.eigh(centred.t() @ centred)[1][:, -width:]
    down, up = basis.t() * scale, basis / scale[:, None]  # (width, outputs), (outputs, width)
    narrow, wide = conv_like(conv, out_channels=width, bias=False), nn.Conv2d(width, conv.out_channels, 1)
    narrow.weight.copy_(torch.einsum("wo,oikl->wikl", down, conv.weight.double()))
    wide.weight.copy_(up.reshape(wide.weight.shape))
    assert wide.bias is not None
    bias = conv.bias.double() if conv.bias is not None else torch.zeros_like(mean)
    wide.bias.copy_(mean - up @ (down @ (mean - bias)))
    return narrow, wide
