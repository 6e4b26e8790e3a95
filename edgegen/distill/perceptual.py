"""A network that judges pictures as people do, from weights that the user gives: VGG16, with the heads of LPIPS if given.

Simonyan and Zisserman 2015 (VGG16), Zhang et al. 2018 (LPIPS). Nothing is downloaded: without a file there is no such loss.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from edgegen.errors import CheckpointError

_BLOCKS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))  # torchvision's numbers of the convolutions of VGG16
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for values in [0, 1]
# vgg16().state_dict(); its features alone; lpips.LPIPS(net="vgg").state_dict()
_CONVOLUTION = re.compile(r"(?:features\.|net\.slice\d\.)?(\d+)\.(weight|bias)")
_HEAD = re.compile(r"lin(\d)\.model\.1\.weight")
_HINT = "give the state_dict of torchvision's vgg16 or of lpips.LPIPS(net='vgg')"


class PerceptualNetwork(nn.Module):
    """The convolutions of VGG16. `heads` are the channel weights (C,) of LPIPS, one per level; empty for plain VGG16."""

    def __init__(self, blocks: list[list[nn.Conv2d]], heads: list[torch.Tensor]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.ModuleList(block) for block in blocks])
        for level, head in enumerate(heads):
            self.register_buffer(f"head{level}", head)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(1, 3, 1, 1))
        self._head_count = len(heads)
        self.eval().requires_grad_(False)

    @property
    def heads(self) -> list[torch.Tensor]:
        """The weights (C,) of the channels of each level; none without LPIPS."""
        return [self.get_buffer(f"head{level}") for level in range(self._head_count)]

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Map pictures (N, 1 or 3, H, W) in [0, 1] to the last maps (N, C, H', W') of up to five levels, before each halving.

        Grey pictures are seen as three equal colours. Levels that a picture below 16 pixels has no positions for are left out.
        """
        mean, deviation = self.get_buffer("mean"), self.get_buffer("deviation")
        maps, x = [], (images.float().expand(-1, 3, -1, -1) - mean) / deviation
        for level, block in enumerate(self.blocks):
            if level and min(x.shape[-2:]) < 2:
                break
            x = F.max_pool2d(x, 2) if level else x
            for convolution in block:  # type: ignore[union-attr]
                x = F.relu(convolution(x))
            maps.append(x)
        return maps


def load_perceptual(state: Mapping[str, torch.Tensor]) -> PerceptualNetwork:
    """Return the network whose tensors are `state`, float32 and frozen. Widths are those of the tensors.

    Raises CheckpointError naming the tensor that is missing or does not fit. Tensors of VGG's classifier are not used.
    """
    tensors = {(int(m[1]), m[2]): t.float() for name, t in state.items() if (m := _CONVOLUTION.fullmatch(name))}
    channels, blocks = 3, []
    for numbers in _BLOCKS:
        block = []
        for number in numbers:
            block.append(_convolution(tensors, number, channels))
            channels = block[-1].out_channels
        blocks.append(block)
    heads = {int(m[1]): t.float().reshape(-1) for name, t in state.items() if (m := _HEAD.fullmatch(name))}
    return PerceptualNetwork(blocks, _checked_heads(heads, [block[-1].out_channels for block in blocks]))


def _convolution(tensors: Mapping[tuple[int, str], torch.Tensor], number: int, channels: int) -> nn.Conv2d:
    weight, bias = tensors.get((number, "weight")), tensors.get((number, "bias"))
    if weight is None or bias is None:
        missing = "weight" if weight is None else "bias"
        raise CheckpointError(f"the perceptual network lacks 'features.{number}.{missing}'", hint=_HINT)
    if weight.shape[1:] != (channels, 3, 3) or bias.shape != weight.shape[:1]:
        shape = tuple(weight.shape)
        raise CheckpointError(f"the perceptual network's 'features.{number}' of shape {shape} is not VGG16", hint=_HINT)
    convolution = nn.Conv2d(channels, len(weight), 3, padding=1)
    convolution.load_state_dict({"weight": weight, "bias": bias})
    return convolution


def _checked_heads(heads: Mapping[int, torch.Tensor], widths: list[int]) -> list[torch.Tensor]:
    if heads and [len(heads.get(level, ())) for level in range(len(widths))] != widths:
        raise CheckpointError("the heads of LPIPS do not fit the perceptual network", hint=_HINT)
    return [heads[level] for level in sorted(heads)]
