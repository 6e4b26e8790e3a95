"""MSRResNet of BasicSR / ESRGAN's code: residual blocks without norm, PixelShuffle, a bilinear copy of the input added, 0..1."""

from __future__ import annotations

import math

import torch
from torch import nn

from edgegen.load.families.srresnet import super_resolver_spec
from edgegen.load.family import Evidence, Match, Mismatch, State, compare, fill
from edgegen.spec import ComponentSpec

_ASSUMED = (
    "LeakyReLU(0.1) outside and ReLU inside the residual blocks, residuals not scaled",
    "the input, enlarged bilinearly, is added to the output; values 0..1 in and out",
)


class Msrresnet:
    """conv_first, body.N.conv1/conv2, upconv1, upconv2, conv_hr, conv_last."""

    name = "msrresnet"
    title = "MSRResNet super-resolver"

    def detect(self, state: State) -> Match | Mismatch:
        """See GeneratorFamily."""
        return compare(state, _deduce)

    def build(self, state: State, match: Match) -> nn.Module:
        """See GeneratorFamily."""
        return fill(MsrGenerator(**match.hyperparameters), state)

    def spec(self, match: Match, resolution: tuple[int, int] | None) -> ComponentSpec:
        """See GeneratorFamily."""
        return super_resolver_spec(match.hyperparameters, resolution, self.title)


class MsrGenerator(nn.Module):
    """Map RGB (N, in_channels, H, W) in [0, 1] to (N, out_channels, H * scale, W * scale), about [0, 1], not clipped."""

    def __init__(self, *, in_channels: int, out_channels: int, width: int, blocks: int, factors: list[int]) -> None:
        super().__init__()
        self.steps = len(factors)
        self.conv_first = nn.Conv2d(in_channels, width, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        for i, factor in enumerate(factors):
            self.add_module(f"upconv{i + 1}", nn.Conv2d(width, width * factor**2, 3, padding=1))
            self.add_module(f"shuffle{i + 1}", nn.PixelShuffle(factor))
        self.conv_hr, self.conv_last = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, out_channels, 3, padding=1)
        self.lrelu = nn.LeakyReLU(0.1)
        self.enlarge = nn.Upsample(scale_factor=math.prod(factors), mode="bilinear", align_corners=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge the pictures."""
        features = self.body(self.lrelu(self.conv_first(x)))
        for i in range(1, self.steps + 1):
            features = self.lrelu(getattr(self, f"shuffle{i}")(getattr(self, f"upconv{i}")(features)))
        return self.conv_last(self.lrelu(self.conv_hr(features))) + self.enlarge(x)


class ResidualBlock(nn.Module):
    """x + two 3x3 convolutions of x, ReLU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keep the shape."""
        return x + self.conv2(self.relu(self.conv1(x)))


def _deduce(e: Evidence) -> Match:
    in_channels, width = _conv(e, "conv_first.", None)
    blocks = 0
    while f"body.{blocks}.conv1.weight" in e:
        for part in ("conv1", "conv2"):
            _same(e, f"body.{blocks}.{part}.", width)
        blocks += 1
    factors: list[int] = []
    while f"upconv{len(factors) + 1}.weight" in e:
        prefix = f"upconv{len(factors) + 1}."
        factors.append(e.steps(prefix, width))
        e.vector(f"{prefix}bias", width * factors[-1] ** 2)
    e.require(bool(factors), "upconv1.weight", "missing")
    _same(e, "conv_hr.", width)
    _, out_channels = _conv(e, "conv_last.", width)
    e.require(out_channels == in_channels, "conv_last.weight", f"gives {out_channels} channels, but the input has {in_channels}")
    return Match(
        {"in_channels": in_channels, "out_channels": out_channels, "width": width, "blocks": blocks, "factors": factors}, _ASSUMED
    )


def _same(e: Evidence, prefix: str, width: int) -> None:
    e.keeping(prefix, width)
    e.vector(f"{prefix}bias", width)


def _conv(e: Evidence, prefix: str, channels: int | None) -> tuple[int, int]:
    taken, given, kernel = e.conv(prefix, channels)
    e.require(kernel == 3, f"{prefix}weight", f"has kernel {kernel}, not 3")
    e.vector(f"{prefix}bias", given)
    return taken, given
