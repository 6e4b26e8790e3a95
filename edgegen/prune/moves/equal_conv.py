"""Find the convolution that a chain of layers amounts to, by watching what it answers to impulses.

A chain of linear layers that treats all places alike (convolutions, zero padding, upsampling, PixelShuffle and PixelUnshuffle
around them) is a convolution on its coarse grid. One impulse per input channel on an empty grid answers with its kernel:
whatever the layers inside are, no algebra of phases and paddings has to be written down for each.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


@torch.no_grad()
def equal_conv(chain: Callable[[torch.Tensor], torch.Tensor], channels: int, taps: int) -> tuple[nn.Conv2d, float]:
    """Return the `taps` x `taps` convolution with zero padding that equals `chain`, and the share of its energy left outside.

    `chain` maps (N, `channels`, H, W) to (N, M, H, W); `taps` is odd. The share is 0 if the kernel is large enough.
    """
    side = 4 * taps + 1  # the edges of the grid, where padding shows, stay out of every answer that matters
    middle, reach = side // 2, taps // 2
    silence = torch.zeros(1, channels, side, side)
    rest = chain(silence)
    impulses = silence.repeat(channels, 1, 1, 1)
    impulses[torch.arange(channels), torch.arange(channels), middle, middle] = 1.0
    answers = chain(impulses) - rest  # (inputs, outputs, H, W): place u reads the impulse with tap middle - u
    near = slice(middle - reach, middle + reach + 1)
    kernel = answers[:, :, near, near]
    conv = nn.Conv2d(channels, answers.shape[1], taps, padding=reach)
    conv.weight.copy_(kernel.flip(2, 3).transpose(0, 1))
    assert conv.bias is not None
    conv.bias.copy_(rest[0, :, middle, middle])
    total = answers[:, :, taps : side - taps, taps : side - taps].square().sum()
    return conv, max(0.0, float(1 - kernel.square().sum() / total.clamp_min(1e-30)))
