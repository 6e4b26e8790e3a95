"""SRResNet with InstanceNorm and LeakyReLU, as in the widely copied PyTorch version without a final activation, 0..1."""

from __future__ import annotations

import re

import torch
from torch import nn

from edgegen.load.families.srresnet import super_resolver_spec
from edgegen.load.family import Evidence, Match, Mismatch, State, compare, fill, make_norm
from edgegen.spec import ComponentSpec

_UPS = r"(upscale\w*)\.0\.weight"
_ASSUMED = ("LeakyReLU(0.2) inside, no activation at the end, values 0..1 in and out",)


class SrresnetLeaky:
    """conv_input, residual.N.conv1/in1/conv2/in2, conv_mid, bn_mid, upscale4x.0/.3, conv_output."""

    name = "srresnet-leaky"
    title = "SRResNet with LeakyReLU"

    def detect(self, state: State) -> Match | Mismatch:
        """See GeneratorFamily."""
        return compare(state, _deduce)

    def build(self, state: State, match: Match) -> nn.Module:
        """See GeneratorFamily."""
        renamed = {re.sub(r"\.bn([12])\.", r".in\1.", re.sub(r"^upscale\w*\.", "upscale.", key)): v for key, v in state.items()}
        return fill(LeakyGenerator(**match.hyperparameters), renamed)

    def spec(self, match: Match, resolution: tuple[int, int] | None) -> ComponentSpec:
        """See GeneratorFamily."""
        return super_resolver_spec(match.hyperparameters, resolution, self.title)


class LeakyGenerator(nn.Module):
    """Map RGB (N, in_channels, H, W) in [0, 1] to (N, out_channels, H * scale, W * scale), about [0, 1], not clipped."""

    def __init__(
        self, *, in_channels: int, out_channels: int, width: int, blocks: int, kernels: list[int], norm: str, bias: bool,
        factors: list[int],
    ) -> None:  # fmt: skip
        super().__init__()
        first, last = kernels
        self.conv_input = nn.Conv2d(in_channels, width, first, padding=first // 2, bias=bias)
        self.relu = nn.LeakyReLU(0.2)
        self.residual = nn.Sequential(*(LeakyBlock(width, norm, bias) for _ in range(blocks)))
        self.conv_mid = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        self.bn_mid = make_norm(norm, width)
        ups = [(nn.Conv2d(width, width * f**2, 3, padding=1, bias=bias), nn.PixelShuffle(f), nn.LeakyReLU(0.2)) for f in factors]
        self.upscale = nn.Sequential(*(layer for step in ups for layer in step))
        self.conv_output = nn.Conv2d(width, out_channels, last, padding=last // 2, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge the pictures."""
        stem = self.relu(self.conv_input(x))
        features = self.bn_mid(self.conv_mid(self.residual(stem))) + stem
        return self.conv_output(self.upscale(features))


class LeakyBlock(nn.Module):
    """x + two normalised 3x3 convolutions of x, LeakyReLU between them."""

    def __init__(self, width: int, norm: str, bias: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1, bias=bias) for _ in range(2))
        self.in1, self.in2 = make_norm(norm, width), make_norm(norm, width)
        self.relu = nn.LeakyReLU(0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keep the shape."""
        return self.in2(self.conv2(self.relu(self.in1(self.conv1(x))))) + x


def _deduce(e: Evidence) -> Match:
    in_channels, width, first = e.conv("conv_input.")
    bias = e.bias("conv_input.", width)
    ups = e.search(_UPS, what="upscale4x.0.weight").group(1)
    convolutions, norms, blocks = [], ["bn_mid."], 0
    while f"residual.{blocks}.conv1.weight" in e:
        kind = "in" if f"residual.{blocks}.in1.weight" in e else "bn"
        convolutions += [f"residual.{blocks}.conv1.", f"residual.{blocks}.conv2."]
        norms += [f"residual.{blocks}.{kind}1.", f"residual.{blocks}.{kind}2."]
        blocks += 1
    for prefix in (*convolutions, "conv_mid."):
        e.keeping(prefix, width)
        e.require(e.bias(prefix, width) == bias, f"{prefix}bias", "is there for some convolutions only")
    norm = e.norm("bn_mid.", width)
    for prefix in norms[1:]:
        e.require(e.norm(prefix, width) == norm, f"{prefix}weight", f"is not the {norm} norm of bn_mid")
    factors: list[int] = []
    while f"{ups}.{3 * len(factors)}.weight" in e:
        prefix = f"{ups}.{3 * len(factors)}."
        factors.append(e.steps(prefix, width))
        e.require(e.bias(prefix, width * factors[-1] ** 2) == bias, f"{prefix}bias", "is there for some convolutions only")
    _, out_channels, last = e.conv("conv_output.", width)
    e.require(first % 2 == 1 and last % 2 == 1, "conv_output.weight", "has an even kernel: its padding cannot be told")
    e.require(e.bias("conv_output.", out_channels) == bias, "conv_output.bias", "is there for some convolutions only")
    return Match(
        {"in_channels": in_channels, "out_channels": out_channels, "width": width, "blocks": blocks, "kernels": [first, last],
         "norm": norm, "bias": bias, "factors": factors},
        _ASSUMED,
    )  # fmt: skip
