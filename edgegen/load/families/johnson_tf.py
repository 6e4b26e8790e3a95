"""Johnson style network converted from TensorFlow: SAME zero padding, ConvTranspose, InstanceNorm with eps 1e-3, 0..255 in."""

from __future__ import annotations

import torch
from torch import nn

from edgegen.layers import Clamp, Crop2d, Scale
from edgegen.load.family import Evidence, Match, Mismatch, State, choose_size, compare, component, fill, picture
from edgegen.spec import ComponentSpec

_EPS = 1e-3  # the TensorFlow code adds 1e-3 to the variance
_ASSUMED = (
    "strides of 2 on the way down and up, with TensorFlow's SAME padding",
    "InstanceNorm with eps 1e-3, ReLU after each but the last of a block and the last of all",
    "values 0..255 in; clamp(tanh * 150 + 127.5, 0, 255) / 255 out",
)


class JohnsonTf:
    """l.N.conv.weight with l.N.norm.scale and .shift; residual blocks l.N.c1 and l.N.c2. No biases."""

    name = "johnson-tf"
    title = "Johnson style network (TensorFlow padding)"

    def detect(self, state: State) -> Match | Mismatch:
        """See GeneratorFamily."""
        return compare(state, _deduce)

    def build(self, state: State, match: Match) -> nn.Module:
        """See GeneratorFamily."""
        names = {"scale": "weight", "shift": "bias"}
        renamed = {".".join(names.get(part, part) for part in key.split(".")): value for key, value in state.items()}
        return fill(StyleNet(**match.hyperparameters), renamed)

    def spec(self, match: Match, resolution: tuple[int, int] | None) -> ComponentSpec:
        """See GeneratorFamily."""
        h = match.hyperparameters
        multiple = 2 ** (len(h["widths"]) - 1)  # for odd sizes SAME pads on both sides, so the graph would change
        size = choose_size(resolution, (256, 256), lambda n: n % multiple == 0, self.title)
        taken = picture("image", h["in_channels"], size, (0.0, 255.0))
        return component(taken, picture("styled", h["out_channels"], size, (0.0, 1.0)))


class StyleNet(nn.Module):
    """Map RGB (N, in_channels, H, W) in 0..255 to (N, out_channels, H, W) in [0, 1]; H, W multiples of 2**downs."""

    def __init__(self, *, in_channels: int, out_channels: int, widths: list[int], kernels: list[int], blocks: int) -> None:
        super().__init__()
        sizes, levels = [in_channels, *widths], len(widths)
        layers: list[nn.Module] = [ConvNorm(sizes[i], sizes[i + 1], kernels[i], 1 if i == 0 else 2) for i in range(levels)]
        layers += [Residual(widths[-1]) for _ in range(blocks)]
        back = list(reversed(widths))
        layers += [UpNorm(back[i], back[i + 1], kernels[levels + i]) for i in range(levels - 1)]
        layers.append(ConvNorm(widths[0], out_channels, kernels[-1], 1, relu=False))
        self.l = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Tanh(), Scale(150.0 / 255.0, 0.5), Clamp(0.0, 1.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Restyle the pictures."""
        return self.head(self.l(x))


class ConvNorm(nn.Module):
    """Convolution with SAME padding, InstanceNorm, ReLU. At stride 2 and even size SAME pads below and to the right only."""

    def __init__(self, taken: int, given: int, kernel: int, stride: int, *, relu: bool = True) -> None:
        super().__init__()
        before = (kernel - stride) // 2
        after = kernel - stride - before
        same = before == after
        self.pad = nn.Identity() if same else nn.ZeroPad2d((before, after, before, after))
        self.conv = nn.Conv2d(taken, given, kernel, stride, before if same else 0, bias=False)
        self.norm = nn.InstanceNorm2d(given, eps=_EPS, affine=True)
        self.relu = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, taken, H, W) to (N, given, H / stride, W / stride)."""
        return self.relu(self.norm(self.conv(self.pad(x))))


class UpNorm(nn.Module):
    """Transposed convolution by 2 as the gradient of a SAME convolution, InstanceNorm, ReLU."""

    def __init__(self, taken: int, given: int, kernel: int) -> None:
        super().__init__()
        before = (kernel - 2) // 2
        self.conv = nn.ConvTranspose2d(taken, given, kernel, 2, bias=False)
        self.crop = Crop2d(before, kernel - 2 - before, before, kernel - 2 - before)
        self.norm = nn.InstanceNorm2d(given, eps=_EPS, affine=True)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, taken, H, W) to (N, given, 2 H, 2 W)."""
        return self.relu(self.norm(self.crop(self.conv(x))))


class Residual(nn.Module):
    """x + two normalised 3x3 convolutions of x, ReLU between them only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c1, self.c2 = ConvNorm(width, width, 3, 1), ConvNorm(width, width, 3, 1, relu=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keep the shape."""
        return x + self.c2(self.c1(x))


def _deduce(e: Evidence) -> Match:
    widths: list[int] = []
    kernels: list[int] = []
    in_channels, _, _ = e.conv("l.0.conv.")
    channels, index = in_channels, 0
    while f"l.{index}.c1.conv.weight" not in e:
        channels = _layer(e, f"l.{index}.", channels, kernels)
        widths.append(channels)
        index += 1
    blocks = 0
    while f"l.{index}.c1.conv.weight" in e:
        for part in ("c1", "c2"):
            sizes: list[int] = []
            given = _layer(e, f"l.{index}.{part}.", channels, sizes)
            e.require((given, sizes) == (channels, [3]), f"l.{index}.{part}.conv.weight", "does not keep shape")
        blocks, index = blocks + 1, index + 1
    for expected in reversed(widths[:-1]):
        channels = _layer(e, f"l.{index}.", channels, kernels, transposed=True)
        e.require(channels == expected, f"l.{index}.conv.weight", f"gives {channels} channels, not {expected}")
        index += 1
    out_channels = _layer(e, f"l.{index}.", channels, kernels)
    return Match(
        {"in_channels": in_channels, "out_channels": out_channels, "widths": widths, "kernels": kernels, "blocks": blocks},
        _ASSUMED,
    )


def _layer(e: Evidence, prefix: str, channels: int, kernels: list[int], *, transposed: bool = False) -> int:
    """Account for a convolution and its norm; note the kernel and return the channels it gives."""
    _, given, kernel = e.conv(f"{prefix}conv.", channels, transposed=transposed)
    e.vector(f"{prefix}norm.scale", given)
    e.vector(f"{prefix}norm.shift", given)
    e.require(kernel % 2 == 1, f"{prefix}conv.weight", f"has an even kernel ({kernel})")
    kernels.append(kernel)
    return given
