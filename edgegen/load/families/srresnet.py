"""SRResNet, the generator of SRGAN: residual blocks at low resolution, PixelShuffle to x2, x4, x8, values 0..1."""

from __future__ import annotations

import math
import re

import torch
from torch import nn

from edgegen.layers import Scale
from edgegen.load.family import Evidence, Match, Mismatch, State, choose_size, compare, component, fill, make_norm, picture
from edgegen.spec import ComponentSpec

_NORM_NAMES = ("bn", "in", "norm")
_ASSUMED = ("(tanh + 1) / 2 at the end, values 0..1 in and out",)
_NO_NORM = "no normalisation (InstanceNorm without affine leaves no trace in these names)"


class Srresnet:
    """block1 (stem), block2..N (residual), blockN+1 (middle), blockN+2 (upsampling and head)."""

    name = "srresnet"
    title = "SRResNet (SRGAN) super-resolver"

    def detect(self, state: State) -> Match | Mismatch:
        """See GeneratorFamily."""
        return compare(state, _deduce)

    def build(self, state: State, match: Match) -> nn.Module:
        """See GeneratorFamily."""
        pattern = re.compile(rf"\.(?:{'|'.join(_NORM_NAMES)})([12])\.")
        return fill(SrganGenerator(**match.hyperparameters), {pattern.sub(r".bn\1.", key): value for key, value in state.items()})

    def spec(self, match: Match, resolution: tuple[int, int] | None) -> ComponentSpec:
        """See GeneratorFamily."""
        return super_resolver_spec(match.hyperparameters, resolution, self.title)


def super_resolver_spec(hyperparameters, resolution: tuple[int, int] | None, title: str) -> ComponentSpec:
    """Return the spec of a super-resolver with `factors`; `resolution` is that of the small picture, 64x64 by default."""
    size = choose_size(resolution, (64, 64), lambda n: n > 0, title)
    scale = math.prod(hyperparameters["factors"])
    values = (0.0, 1.0)
    taken = picture("image", hyperparameters["in_channels"], size, values)
    return component(taken, picture("enlarged", hyperparameters["out_channels"], (size[0] * scale, size[1] * scale), values))


class SrganGenerator(nn.Module):
    """Map RGB (N, in_channels, H, W) in [0, 1] to (N, out_channels, H * scale, W * scale) in [0, 1].

    `factors` are the enlargements of the steps, [2, 2] for x4; `norm` is that of the residual blocks, `middle` what follows
    the convolution behind them ("prelu" or a norm); `prelu` is the count of slopes of each PReLU, 1 or the width.
    """

    def __init__(
        self, *, in_channels: int, out_channels: int, width: int, blocks: int, kernels: list[int], norm: str, middle: str,
        shared_slope: bool, factors: list[int],
    ) -> None:  # fmt: skip
        super().__init__()
        slopes = 1 if shared_slope else width
        first, last = kernels
        self.blocks = blocks
        self.block1 = nn.Sequential(nn.Conv2d(in_channels, width, first, padding=first // 2), nn.PReLU(slopes))
        for i in range(blocks):
            self.add_module(f"block{i + 2}", ResidualBlock(width, norm, slopes))
        ending = nn.PReLU(slopes) if middle == "prelu" else make_norm(middle, width)
        self.add_module(f"block{blocks + 2}", nn.Sequential(nn.Conv2d(width, width, 3, padding=1), ending))
        ups = [UpsampleBlock(width, factor, slopes) for factor in factors]
        self.add_module(f"block{blocks + 3}", nn.Sequential(*ups, nn.Conv2d(width, out_channels, last, padding=last // 2)))
        self.head = nn.Sequential(nn.Tanh(), Scale(0.5, 0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge the pictures."""
        stem = self.block1(x)
        features = stem
        for i in range(2, self.blocks + 3):
            features = getattr(self, f"block{i}")(features)
        return self.head(getattr(self, f"block{self.blocks + 3}")(stem + features))


class ResidualBlock(nn.Module):
    """x + two normalised 3x3 convolutions of x, PReLU between them."""

    def __init__(self, width: int, norm: str, slopes: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.bn1, self.bn2 = make_norm(norm, width), make_norm(norm, width)
        self.prelu = nn.PReLU(slopes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keep the shape."""
        return x + self.bn2(self.conv2(self.prelu(self.bn1(self.conv1(x)))))


class UpsampleBlock(nn.Module):
    """Convolution to factor**2 times the channels, PixelShuffle, PReLU."""

    def __init__(self, width: int, factor: int, slopes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width * factor**2, 3, padding=1)
        self.pixel_shuffle, self.prelu = nn.PixelShuffle(factor), nn.PReLU(slopes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, width, H, W) to (N, width, H * factor, W * factor)."""
        return self.prelu(self.pixel_shuffle(self.conv(x)))


def _deduce(e: Evidence) -> Match:
    in_channels, width, first = _conv(e, "block1.0.", None)
    slopes = e.shape("block1.1.weight", 1)[0]
    e.require(slopes in (1, width), "block1.1.weight", f"has {slopes} slopes, not 1 or {width}")
    blocks = 0
    kinds = set()
    while f"block{blocks + 2}.conv1.weight" in e:
        prefix = f"block{blocks + 2}."
        for part in (1, 2):
            e.keeping(f"{prefix}conv{part}.", width)
            e.vector(f"{prefix}conv{part}.bias", width)
            names = (f"{prefix}{name}{part}." for name in _NORM_NAMES)
            kinds.add(next((kind for kind in (e.norm(name, width) for name in names) if kind != "none"), "none"))
        e.vector(f"{prefix}prelu.weight", slopes)
        blocks += 1
    e.require(len(kinds) <= 1, f"block{blocks + 1}.bn1.weight", "differs in norm from the other blocks")
    norm = kinds.pop() if kinds else "none"
    middle = _middle(e, f"block{blocks + 2}.", width, slopes)
    factors, out_channels, last = _ups(e, f"block{blocks + 3}.", width, slopes)
    assumed = (*_ASSUMED, _NO_NORM) if norm == "none" else _ASSUMED
    return Match(
        {"in_channels": in_channels, "out_channels": out_channels, "width": width, "blocks": blocks, "kernels": [first, last],
         "norm": norm, "middle": middle, "shared_slope": slopes == 1, "factors": factors},
        assumed,
    )  # fmt: skip


def _middle(e: Evidence, prefix: str, width: int, slopes: int) -> str:
    e.keeping(f"{prefix}0.", width)
    e.vector(f"{prefix}0.bias", width)
    if f"{prefix}1.weight" in e and f"{prefix}1.bias" not in e:
        e.vector(f"{prefix}1.weight", slopes)
        return "prelu"
    return e.norm(f"{prefix}1.", width)


def _ups(e: Evidence, prefix: str, width: int, slopes: int) -> tuple[list[int], int, int]:
    """Account for the upsampling steps and the head; return the factors, the output channels and the head's kernel."""
    factors: list[int] = []
    while f"{prefix}{len(factors)}.conv.weight" in e:
        step = f"{prefix}{len(factors)}."
        factors.append(e.steps(f"{step}conv.", width))
        e.vector(f"{step}conv.bias", width * factors[-1] ** 2)
        e.vector(f"{step}prelu.weight", slopes)
    _, out_channels, last = _conv(e, f"{prefix}{len(factors)}.", width)
    return factors, out_channels, last


def _conv(e: Evidence, prefix: str, channels: int | None) -> tuple[int, int, int]:
    taken, given, kernel = e.conv(prefix, channels)
    e.require(kernel % 2 == 1, f"{prefix}weight", f"has an even kernel ({kernel}): its padding cannot be told")
    e.vector(f"{prefix}bias", given)
    return taken, given, kernel
