"""Low-light enhancement of SCI (self-calibrated illumination): estimate the light, divide the picture by it."""

from __future__ import annotations

import torch
from torch import nn

from edgegen.layers import Clamp
from edgegen.load.family import Evidence, Match, Mismatch, State, choose_size, compare, component, fill, picture
from edgegen.spec import ComponentSpec

_ASSUMED = ("values 0..1 in and out; the light is clamped to 0.0001..1 and the picture to 0..1, as in the published code",)


class LowlightSci:
    """enhance.in_conv, enhance.blocks.N, enhance.out_conv; calibrate.* is used in training only."""

    name = "lowlight-sci"
    title = "SCI low-light enhancement"

    def detect(self, state: State) -> Match | Mismatch:
        """See GeneratorFamily."""
        return compare(state, _deduce)

    def build(self, state: State, match: Match) -> nn.Module:
        """See GeneratorFamily."""
        renamed = {key.removeprefix("enhance."): value for key, value in state.items()}
        return fill(EnhanceNetwork(**match.hyperparameters), renamed)

    def spec(self, match: Match, resolution: tuple[int, int] | None) -> ComponentSpec:
        """See GeneratorFamily."""
        channels = match.hyperparameters["image_channels"]
        size = choose_size(resolution, (256, 256), lambda n: n > 0, self.title)
        return component(picture("image", channels, size, (0.0, 1.0)), picture("enhanced", channels, size, (0.0, 1.0)))


class EnhanceNetwork(nn.Module):
    """Map RGB (N, image_channels, H, W) in [0, 1] to the same picture in brighter light, [0, 1]."""

    def __init__(self, *, image_channels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.in_conv = nn.Sequential(nn.Conv2d(image_channels, width, 3, padding=1), nn.ReLU())
        # The published code repeats one shared block; separate copies give the same pictures and can be pruned apart.
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()) for _ in range(blocks)
        )
        self.out_conv = nn.Sequential(nn.Conv2d(width, image_channels, 3, padding=1), nn.Sigmoid())
        self.clamp_light, self.clamp_picture = Clamp(0.0001, 1.0), Clamp(0.0, 1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Divide the pictures by the light estimated in them."""
        features = self.in_conv(x)
        for block in self.blocks:
            features = features + block(features)
        light = self.clamp_light(self.out_conv(features) + x)
        return self.clamp_picture(x / light)


def _deduce(e: Evidence) -> Match:
    root = "enhance." if "enhance.in_conv.0.weight" in e else ""
    image_channels, width = _conv(e, f"{root}in_conv.0.", None)
    blocks = 0
    while f"{root}blocks.{blocks}.0.weight" in e:
        _, given = _conv(e, f"{root}blocks.{blocks}.0.", width)
        e.require(given == width, f"{root}blocks.{blocks}.0.weight", "does not keep its channels")
        e.require(e.norm(f"{root}blocks.{blocks}.1.", width) == "batch", f"{root}blocks.{blocks}.1.weight", "is not a BatchNorm")
        blocks += 1
    _, given = _conv(e, f"{root}out_conv.0.", width)
    e.require(given == image_channels, f"{root}out_conv.0.weight", f"gives {given} channels, not {image_channels}")
    e.ignore("calibrate.", f"{root}conv.")  # the same tensors as blocks.0, registered twice
    return Match({"image_channels": image_channels, "width": width, "blocks": blocks}, _ASSUMED)


def _conv(e: Evidence, prefix: str, channels: int | None) -> tuple[int, int]:
    taken, given, kernel = e.conv(prefix, channels)
    e.require(kernel == 3, f"{prefix}weight", f"has kernel {kernel}, not 3")
    e.vector(f"{prefix}bias", given)
    return taken, given
