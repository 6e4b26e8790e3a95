"""Convolutional encoder-decoder: two flat Sequentials, `encoder` (strided convolutions) and `decoder` (transposed ones).

Strides leave no trace in tensors, so only layouts are read whose strides are settled by custom; see `_strides`.
"""

from __future__ import annotations

import torch
from torch import nn

from edgegen.load.family import Evidence, Match, Mismatch, State, choose_size, compare, component, fill, make_norm, picture
from edgegen.spec import ComponentSpec

_PLAIN = (
    "without normalisation: ReLU inside, sigmoid at the end, values 0..1 in and out",
    "strides and padding by kernel: 4 halves (padding 1), 3 halves (padding 1); 4 then 3 alone are patches of 4 and of 3",
)
_NORMED = (
    "with normalisation: LeakyReLU(0.2) on the way down, ReLU on the way up, tanh at the end, values -1..1 in and out",
    "strides and padding by kernel: 4 and 3 halve the size (padding 1)",
)


class Autoencoder:
    """encoder.0, [norm and activation in either order], encoder.N ..., decoder.0 ...; any depth, widths and bottleneck."""

    name = "autoencoder"
    title = "convolutional encoder-decoder"

    def detect(self, state: State) -> Match | Mismatch:
        """See GeneratorFamily."""
        return compare(state, _deduce)

    def build(self, state: State, match: Match) -> nn.Module:
        """See GeneratorFamily."""
        return fill(EncoderDecoder(**match.hyperparameters), state)

    def spec(self, match: Match, resolution: tuple[int, int] | None) -> ComponentSpec:
        """See GeneratorFamily."""
        h = match.hyperparameters
        kernels = [layer["kernel"] for layer in h["encoder"]]
        default = 32 if _are_patches(kernels) else 256  # patches: the published one is for pictures of 32x32
        size = choose_size(resolution, (default, default), lambda n: _restored(n, kernels), self.title)
        values = (0.0, 1.0) if h["head"] == "sigmoid" else (-1.0, 1.0)
        given = h["decoder"][-1]["width"]
        return component(picture("image", h["in_channels"], size, values), picture("restored", given, size, values))


class EncoderDecoder(nn.Module):
    """Map images (N, in_channels, H, W) to (N, C, H, W) through a bottleneck; values as the head says.

    A layer is {"width", "kernel", "norm", "norm_first", "bias"}: convolution, then norm and activation, or the other way
    round; the decoder's last layer has the head instead.
    """

    def __init__(self, *, in_channels: int, encoder: list[dict], decoder: list[dict], head: str) -> None:
        super().__init__()
        strides = _strides([layer["kernel"] for layer in encoder])
        slope = 0.2 if head == "tanh" else 0.0
        channels = in_channels
        down: list[nn.Module] = []
        for layer, (stride, padding) in zip(encoder, strides, strict=True):
            conv = nn.Conv2d(channels, layer["width"], layer["kernel"], stride, padding, bias=layer["bias"])
            down += _unit(conv, layer, slope)
            channels = layer["width"]
        up: list[nn.Module] = []
        for layer, (stride, padding) in zip(decoder, reversed(strides), strict=True):
            rest = _rest(layer["kernel"], stride, padding)
            conv = nn.ConvTranspose2d(channels, layer["width"], layer["kernel"], stride, padding, rest, bias=layer["bias"])
            up += _unit(conv, layer, 0.0)
            channels = layer["width"]
        self.encoder = nn.Sequential(*down)
        self.decoder = nn.Sequential(*up[:-1], nn.Tanh() if head == "tanh" else nn.Sigmoid())  # the head is the last activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Restore the images from their bottleneck."""
        return self.decoder(self.encoder(x))


def _unit(conv: nn.Module, layer: dict, slope: float) -> list[nn.Module]:
    activation = nn.LeakyReLU(slope) if slope else nn.ReLU()
    if layer["norm"] == "none":
        return [conv, activation]
    norm = make_norm(layer["norm"], layer["width"])
    return [conv, norm, activation] if layer["norm_first"] else [conv, activation, norm]


def _are_patches(kernels: list[int]) -> bool:
    return kernels == [4, 3]


def _strides(kernels: list[int]) -> list[tuple[int, int]]:
    """Return (stride, padding) of the way down. [4, 3] is a published layout (CIFAR-10) with strides 4 and 3, padding 0 and 2."""
    return [(4, 0), (3, 2)] if _are_patches(kernels) else [(2, 1) for _ in kernels]


def _rest(kernel: int, stride: int, padding: int) -> int:
    """Return the output_padding that undoes the halving of a kernel of 3; the published patches need none."""
    return 1 if (kernel, stride, padding) == (3, 2, 1) else 0


def _restored(side: int, kernels: list[int]) -> bool:
    """Return whether a picture of `side` pixels comes out as large as it went in."""
    small = side
    for kernel, (stride, padding) in zip(kernels, _strides(kernels), strict=True):
        small = (small + 2 * padding - kernel) // stride + 1
        if small < 1:
            return False
    for kernel, (stride, padding) in zip(reversed(kernels), reversed(_strides(kernels)), strict=True):
        small = (small - 1) * stride - 2 * padding + kernel + _rest(kernel, stride, padding)
    return small == side


def _deduce(e: Evidence) -> Match:
    in_channels, _, _ = e.conv("encoder.0.")
    encoder = _layers(e, "encoder.", in_channels, transposed=False)
    decoder = _layers(e, "decoder.", encoder[-1]["width"], transposed=True)
    kernels = [layer["kernel"] for layer in encoder]
    mirrored = [layer["kernel"] for layer in decoder[::-1]]
    e.require(kernels == mirrored, "decoder.0.weight", f"kernels {mirrored[::-1]} do not mirror the encoder's {kernels}")
    known = _are_patches(kernels) or set(kernels) in ({4}, {3})
    e.require(known, "encoder.0.weight", f"kernels {kernels}: their strides cannot be told from tensors")
    normed = any(layer["norm"] != "none" for layer in encoder + decoder)
    head = "tanh" if normed else "sigmoid"
    return Match(
        {"in_channels": in_channels, "encoder": encoder, "decoder": decoder, "head": head}, _NORMED if normed else _PLAIN
    )


def _layers(e: Evidence, root: str, channels: int, *, transposed: bool) -> list[dict]:
    """Account for all layers under `root`, whose numbers must leave no room for layers that we cannot see."""
    numbers = e.numbers(root)
    convolutions = [n for n in numbers if e.rank(f"{root}{n}.weight") == 4]
    e.require(convolutions[:1] == [0], f"{root}0.weight", "missing" if 0 not in numbers else "is not a convolution")
    layers = []
    for index, following in zip(convolutions, [*convolutions[1:], None], strict=True):
        _, width, kernel = e.conv(f"{root}{index}.", channels, transposed=transposed)
        bias = e.bias(f"{root}{index}.", width)
        norm_first = f"{root}{index + 1}.weight" in e and index + 1 not in convolutions
        place = index + (1 if norm_first else 2)
        norm = e.norm(f"{root}{place}.", width) if place not in convolutions else "none"
        step = 2 if norm == "none" else 3
        e.require(
            following in (None, index + step), f"{root}{following}.weight",
            f"is {(following or 0) - index} places after the convolution before it, where {step} were expected",
        )  # fmt: skip
        layers.append({"width": width, "kernel": kernel, "norm": norm, "norm_first": norm_first, "bias": bias})
        channels = width
    is_plain_end = not transposed or layers[-1]["norm"] == "none"
    e.require(is_plain_end, f"{root}{convolutions[-1] + 1}.weight", "is a norm behind the last layer")
    return layers
