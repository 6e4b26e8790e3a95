"""pix2pix U-Net: levels nested in each other's Sequential, 4x4 convolutions of stride 2, skip connections by concatenation."""

from __future__ import annotations

import torch
from torch import nn

from edgegen.load.family import Evidence, Match, Mismatch, State, choose_size, compare, component, fill, make_norm, picture
from edgegen.spec import ComponentSpec

_OUTER = r"(.*?)model\.0\.weight"
_ASSUMED = (
    "LeakyReLU(0.2) on the way down, ReLU on the way up, tanh at the end, values -1..1",
    "stride 2 and padding 1 for every 4x4 kernel",
)


class UnetGan:
    """model.model.0, model.model.1.model.1, model.model.1.model.3.model.1, ...; any depth and widths."""

    name = "unet"
    title = "pix2pix U-Net"

    def detect(self, state: State) -> Match | Mismatch:
        """See GeneratorFamily."""
        return compare(state, _deduce)

    def build(self, state: State, match: Match) -> nn.Module:
        """See GeneratorFamily."""
        root = next(key for key in state if key.endswith("model.0.weight")).removesuffix("model.0.weight")
        renamed = {"model." + key.removeprefix(root): value for key, value in state.items()}
        return fill(UnetGenerator(**match.hyperparameters), renamed)

    def spec(self, match: Match, resolution: tuple[int, int] | None) -> ComponentSpec:
        """See GeneratorFamily."""
        h = match.hyperparameters
        multiple = 2 ** len(h["widths"])
        default = max(128, multiple)  # the names unet_128 and unet_256 stand for 7 and 8 levels, trained down to 1x1
        # InstanceNorm needs more than one pixel; the deepest norm is one level above the bottom, so `multiple` is enough.
        size = choose_size(resolution, (default, default), lambda n: n % multiple == 0, self.title)
        values = (-1.0, 1.0)
        taken = picture("image", h["in_channels"], size, values)
        return component(taken, picture("translated", h["out_channels"], size, values))


class UnetGenerator(nn.Module):
    """Map (N, in_channels, H, W) to images (N, out_channels, H, W) in [-1, 1]; H, W multiples of 2**levels.

    `widths` are the channels after each level's convolution, outermost first.
    """

    def __init__(
        self, *, in_channels: int, out_channels: int, widths: list[int], norm: str, bias: bool, first_bias: bool, last_bias: bool
    ) -> None:
        super().__init__()
        block: nn.Module | None = None
        for outer, inner in zip(widths[-2::-1], widths[:0:-1], strict=True):
            block = UnetLevel(outer, inner, block, norm, bias)
        self.model = Outermost((in_channels, widths[0], out_channels), block, first_bias, last_bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Translate the images or label maps."""
        return self.model(x)


class Outermost(nn.Module):
    """From the input to half its size, through the inner levels and back; no skip connection around it."""

    def __init__(self, channels: tuple[int, int, int], block: nn.Module | None, first_bias: bool, last_bias: bool) -> None:
        super().__init__()
        taken, width, given = channels
        down = nn.Conv2d(taken, width, 4, 2, 1, bias=first_bias)
        up = nn.ConvTranspose2d(width * 2, given, 4, 2, 1, bias=last_bias)
        self.model = nn.Sequential(down, block or nn.Identity(), nn.ReLU(), up, nn.Tanh())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run down, inside and up."""
        return self.model(x)


class UnetLevel(nn.Module):
    """One level of the U: its input is joined to what comes back up. Without an inner level it is the bottom."""

    def __init__(self, outer: int, inner: int, block: nn.Module | None, norm: str, bias: bool) -> None:
        super().__init__()
        down: list[nn.Module] = [nn.LeakyReLU(0.2), nn.Conv2d(outer, inner, 4, 2, 1, bias=bias)]
        if block is not None:
            down += [make_norm(norm, inner), block]
        widened = inner if block is None else inner * 2
        self.model = nn.Sequential(
            *down, nn.ReLU(), nn.ConvTranspose2d(widened, outer, 4, 2, 1, bias=bias), make_norm(norm, outer)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x and what the deeper levels made of it, side by side."""
        # The original LeakyReLU works in place, so it joins leaky(x); the ReLU that follows makes both the same.
        return torch.cat([x, self.model(x)], 1)


def _deduce(e: Evidence) -> Match:
    root = e.search(_OUTER, what="model.model.0.weight").group(1)
    prefix = f"{root}model."
    in_channels, width, kernel = e.conv(f"{prefix}0.")
    e.require(kernel == 4, f"{prefix}0.weight", f"has kernel {kernel}, not 4")
    first_bias = e.bias(f"{prefix}0.", width)
    widths = [width]
    bias, norm = _level(e, f"{prefix}1.model.", widths)
    taken, out_channels, kernel = e.conv(f"{prefix}3.", width * 2, transposed=True)
    e.require(kernel == 4, f"{prefix}3.weight", f"has kernel {kernel}, not 4")
    last_bias = e.bias(f"{prefix}3.", out_channels)
    assumed = _ASSUMED
    if norm == "none" and bias:
        # pix2pix gives convolutions a bias exactly when their norm is InstanceNorm, which has no tensors of its own
        norm = "instance"
        assumed = (*_ASSUMED, "InstanceNorm without affine, because its convolutions have biases and no BatchNorm")
    return Match(
        {"in_channels": in_channels, "out_channels": out_channels, "widths": widths, "norm": norm, "bias": bias,
         "first_bias": first_bias, "last_bias": last_bias},
        assumed,
    )  # fmt: skip


def _level(e: Evidence, prefix: str, widths: list[int]) -> tuple[bool, str]:
    """Account for the level at `prefix` and all inside it, noting widths; return (convolutions have biases, kind of norm)."""
    outer = widths[-1]
    _, inner, kernel = e.conv(f"{prefix}1.", outer)
    widths.append(inner)
    bias = e.bias(f"{prefix}1.", inner)
    is_bottom = f"{prefix}3.weight" in e
    up = 3 if is_bottom else 5
    inside = (bias, e.norm(f"{prefix}2.", inner)) if not is_bottom else None
    deeper = None if is_bottom else _level(e, f"{prefix}3.model.", widths)
    _, given, up_kernel = e.conv(f"{prefix}{up}.", inner if is_bottom else inner * 2, transposed=True)
    e.require((kernel, up_kernel) == (4, 4), f"{prefix}1.weight", f"has kernel {kernel}, not 4")
    e.require(given == outer, f"{prefix}{up}.weight", f"gives {given} channels, not {outer}")
    own = (e.bias(f"{prefix}{up}.", outer), e.norm(f"{prefix}{up + 1}.", outer))
    e.require(own[0] == bias, f"{prefix}{up}.bias", "is there for some convolutions only")
    for other in (inside, deeper):
        e.require(other in (None, own), f"{prefix}{up + 1}.weight", "differs in norm or bias from the other levels")
    return own
