"""Johnson style network with the names of the PyTorch examples: reflection padding, InstanceNorm, nearest resize, 0..255."""

from __future__ import annotations

import torch
from torch import nn

from edgegen.load.family import Evidence, Match, Mismatch, State, choose_size, compare, component, fill, picture
from edgegen.spec import ComponentSpec

_ASSUMED = (
    "ReLU after each InstanceNorm but the last of a block",
    "reflection padding, as in the PyTorch examples",
    "strides of 2 on the way down and nearest resize by 2 on the way up",
    "values 0..255 in and out, without a final activation",
)


class Johnson:
    """conv1.conv2d, in1, ... res1.conv1.conv2d, ... deconv1.conv2d, ...; any widths, depth, kernels and count of blocks."""

    name = "johnson"
    title = "Johnson style network"

    def detect(self, state: State) -> Match | Mismatch:
        """See GeneratorFamily."""
        return compare(state, _deduce)

    def build(self, state: State, match: Match) -> nn.Module:
        """See GeneratorFamily."""
        return fill(TransformerNet(**match.hyperparameters), state)

    def spec(self, match: Match, resolution: tuple[int, int] | None) -> ComponentSpec:
        """See GeneratorFamily."""
        h = match.hyperparameters
        multiple = 2 ** (len(h["widths"]) - 1)
        size = choose_size(resolution, (256, 256), lambda n: n % multiple == 0, self.title)
        values = (0.0, 255.0)
        return component(picture("image", h["in_channels"], size, values), picture("styled", h["out_channels"], size, values))


class TransformerNet(nn.Module):
    """Map RGB (N, in_channels, H, W) in 0..255 to (N, out_channels, H, W) in 0..255, not clipped; H, W multiples of 2**downs."""

    def __init__(
        self, *, in_channels: int, out_channels: int, widths: list[int], kernels: list[int], blocks: int, affine: bool
    ) -> None:
        super().__init__()
        self.levels, self.blocks = len(widths), blocks
        sizes = [in_channels, *widths]
        for i in range(self.levels):
            self.add_module(f"conv{i + 1}", ConvLayer(sizes[i], sizes[i + 1], kernels[i], 1 if i == 0 else 2))
            self.add_module(f"in{i + 1}", nn.InstanceNorm2d(sizes[i + 1], affine=affine))
        for i in range(blocks):
            self.add_module(f"res{i + 1}", ResidualBlock(widths[-1], affine))
        back = [*reversed(widths), out_channels]
        for i in range(self.levels):
            last = i == self.levels - 1
            self.add_module(f"deconv{i + 1}", ConvLayer(back[i], back[i + 1], kernels[self.levels + i], 1, resize=not last))
            if not last:
                self.add_module(f"in{self.levels + i + 1}", nn.InstanceNorm2d(back[i + 1], affine=affine))
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Restyle the pictures."""
        for i in range(1, self.levels + 1):
            x = self.relu(getattr(self, f"in{i}")(getattr(self, f"conv{i}")(x)))
        for i in range(1, self.blocks + 1):
            x = getattr(self, f"res{i}")(x)
        for i in range(1, self.levels):
            x = self.relu(getattr(self, f"in{self.levels + i}")(getattr(self, f"deconv{i}")(x)))
        return getattr(self, f"deconv{self.levels}")(x)


class ConvLayer(nn.Module):
    """Optional resize by 2, reflection padding that keeps the size, convolution."""

    def __init__(self, taken: int, given: int, kernel: int, stride: int, *, resize: bool = False) -> None:
        super().__init__()
        self.resize = nn.Upsample(scale_factor=2, mode="nearest") if resize else nn.Identity()
        self.reflection_pad = nn.ReflectionPad2d(kernel // 2)
        self.conv2d = nn.Conv2d(taken, given, kernel, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, taken, H, W) to (N, given, H * 2 or H / stride, ...)."""
        return self.conv2d(self.reflection_pad(self.resize(x)))


class ResidualBlock(nn.Module):
    """x + two normalised 3x3 convolutions of x."""

    def __init__(self, width: int, affine: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = ConvLayer(width, width, 3, 1), ConvLayer(width, width, 3, 1)
        self.in1, self.in2 = nn.InstanceNorm2d(width, affine=affine), nn.InstanceNorm2d(width, affine=affine)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keep the shape."""
        return self.in2(self.conv2(self.relu(self.in1(self.conv1(x))))) + x


def _deduce(e: Evidence) -> Match:
    widths: list[int] = []
    kernels: list[int] = []
    in_channels, _, _ = e.conv("conv1.conv2d.")
    channels = in_channels
    while f"conv{len(widths) + 1}.conv2d.weight" in e:
        channels = _layer(e, f"conv{len(widths) + 1}.conv2d.", channels, kernels)
        widths.append(channels)
    levels = len(widths)
    affine = "in1.weight" in e
    for i, width in enumerate([*widths, *reversed(widths[:-1])]):
        _norm(e, f"in{i + 1}.", width, affine)
    blocks = 0
    while f"res{blocks + 1}.conv1.conv2d.weight" in e:
        blocks += 1
        for part in ("1", "2"):
            sizes: list[int] = []
            given = _layer(e, f"res{blocks}.conv{part}.conv2d.", channels, sizes)
            e.require((given, sizes) == (channels, [3]), f"res{blocks}.conv{part}.conv2d.weight", "does not keep shape")
            _norm(e, f"res{blocks}.in{part}.", channels, affine)
    for i in range(levels):
        channels = _layer(e, f"deconv{i + 1}.conv2d.", channels, kernels)
        expected = [*reversed(widths[:-1]), channels][i]
        e.require(channels == expected, f"deconv{i + 1}.conv2d.weight", f"gives {channels} channels, not {expected}")
    return Match(
        {"in_channels": in_channels, "out_channels": channels, "widths": widths, "kernels": kernels, "blocks": blocks,
         "affine": affine},
        _ASSUMED,
    )  # fmt: skip


def _layer(e: Evidence, prefix: str, channels: int, kernels: list[int]) -> int:
    """Account for one convolution with bias; note its kernel and return the channels it gives."""
    _, given, kernel = e.conv(prefix, channels)
    e.require(kernel % 2 == 1, f"{prefix}weight", f"has an even kernel ({kernel}): its padding cannot be told")
    e.vector(f"{prefix}bias", given)
    kernels.append(kernel)
    return given


def _norm(e: Evidence, prefix: str, channels: int, affine: bool) -> None:
    """Account for an InstanceNorm; files written by torch 0.3 carry running statistics that were never used."""
    found = e.norm(prefix, channels)
    has_affine = found in ("batch", "instance-affine")
    e.require(has_affine == affine, f"{prefix}weight", "is there for some norms only")
