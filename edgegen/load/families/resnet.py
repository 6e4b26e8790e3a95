"""CycleGAN / pix2pix ResNet generator: one flat Sequential of stem, downs, residual blocks, ups and a 7x7 head, tanh, -1..1.

Layers without tensors (padding, ReLU, dropout, resize) are read from the gaps they leave in the numbering.
"""

from __future__ import annotations

import re

import torch
from torch import nn

from edgegen.load.family import Evidence, Match, Mismatch, State, choose_size, compare, component, fill, make_norm, picture
from edgegen.spec import ComponentSpec

_BLOCK = r"(.*?)(\d+)\.([A-Za-z_]\w*)\.(\d+)\.weight"  # root, index, name of the block's Sequential, index in it


class ResnetGan:
    """model.1, model.4, model.7, model.10.conv_block.1, ...; the names `model` and `conv_block` are free, the numbers count."""

    name = "resnet"
    title = "CycleGAN / pix2pix ResNet generator"

    def detect(self, state: State) -> Match | Mismatch:
        """See GeneratorFamily."""
        return compare(state, _deduce)

    def build(self, state: State, match: Match) -> nn.Module:
        """See GeneratorFamily."""
        root, inner = _naming(state)
        renamed = {"model." + key.removeprefix(root).replace(f".{inner}.", ".conv_block."): value for key, value in state.items()}
        return fill(ResnetGenerator(**match.hyperparameters), renamed)

    def spec(self, match: Match, resolution: tuple[int, int] | None) -> ComponentSpec:
        """See GeneratorFamily."""
        h = match.hyperparameters
        multiple = 2 ** (len(h["widths"]) - 1)
        size = choose_size(resolution, (256, 256), lambda n: n % multiple == 0, self.title)
        values = (-1.0, 1.0)
        return component(picture("image", h["in_channels"], size, values), picture("translated", h["out_channels"], size, values))


class ResnetGenerator(nn.Module):
    """Map images (N, in_channels, H, W) in [-1, 1] to (N, out_channels, H, W) in [-1, 1]; H, W multiples of 2**downs.

    `widths` are the channels after the stem and after each down. `padding` is "reflect" or "zero"; `up` is "transposed",
    "nearest" (resize, convolution with zero padding) or "bilinear" (resize, reflection padding, convolution).
    """

    def __init__(
        self, *, in_channels: int, out_channels: int, widths: list[int], blocks: int, norm: str, padding: str, block_padding: str,
        kernels: list[int], up: str, up_kernel: int, bias: bool, up_bias: bool, head_bias: bool, dropout: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        stem, down, head = kernels
        layers: list[nn.Module] = [*_padded(in_channels, widths[0], stem, bias, padding), *_tail(norm, widths[0])]
        for taken, given in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Conv2d(taken, given, down, 2, 1, bias=bias), *_tail(norm, given)]
        layers += [ResnetBlock(widths[-1], norm, block_padding, bias, dropout) for _ in range(blocks)]
        for taken, given in zip(widths[:0:-1], widths[-2::-1], strict=True):
            layers += [*_raised(taken, given, up, up_kernel, up_bias), *_tail(norm, given)]
        layers += [*_padded(widths[0], out_channels, head, head_bias, padding), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Translate the images."""
        return self.model(x)


class ResnetBlock(nn.Module):
    """x + two normalised 3x3 convolutions of x."""

    def __init__(self, width: int, norm: str, padding: str, bias: bool, dropout: bool) -> None:
        super().__init__()
        between = [nn.Dropout(0.5)] if dropout else []
        first = [*_padded(width, width, 3, bias, padding), *_tail(norm, width), *between]
        second = [*_padded(width, width, 3, bias, padding), *_tail(norm, width)[:-1]]
        self.conv_block = nn.Sequential(*first, *second)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keep the shape."""
        return x + self.conv_block(x)


def _padded(taken: int, given: int, kernel: int, bias: bool, padding: str) -> list[nn.Module]:
    if padding == "reflect":
        return [nn.ReflectionPad2d(kernel // 2), nn.Conv2d(taken, given, kernel, bias=bias)]
    return [nn.Conv2d(taken, given, kernel, padding=kernel // 2, bias=bias)]


def _tail(norm: str, width: int) -> list[nn.Module]:
    return [nn.ReLU()] if norm == "none" else [make_norm(norm, width), nn.ReLU()]


def _raised(taken: int, given: int, up: str, kernel: int, bias: bool) -> list[nn.Module]:
    match up:
        case "transposed":  # kernel 3 needs output_padding 1 to double the size, kernel 4 does not
            return [nn.ConvTranspose2d(taken, given, kernel, 2, 1, output_padding=kernel % 2, bias=bias)]
        case "nearest":
            return [nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(taken, given, kernel, padding=kernel // 2, bias=bias)]
        case _:
            resize = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
            return [resize, nn.ReflectionPad2d(kernel // 2), nn.Conv2d(taken, given, kernel, bias=bias)]


def _naming(state: State) -> tuple[str, str]:
    """Return what stands before the numbers ("model.") and the name of the Sequential in a block ("conv_block")."""
    found = next(m for m in (re.fullmatch(_BLOCK, key) for key in state) if m)
    return found.group(1), found.group(3)


def _deduce(e: Evidence) -> Match:
    found = e.search(_BLOCK, what="a residual block, such as model.10.conv_block.1.weight")
    root, inner = found.group(1), found.group(3)
    index = 1 if e.rank(f"{root}1.weight") == 4 and f"{root}0.weight" not in e else 0
    padding = "reflect" if index == 1 else "zero"
    in_channels, width, stem = e.conv(f"{root}{index}.")
    bias = e.bias(f"{root}{index}.", width)
    norm = _norm_kind(e, root, index, width)
    step = 2 if norm == "none" else 3
    widths, downs, index = [width], [], index + step
    while f"{root}{index}.weight" in e:
        _, given, kernel = e.conv(f"{root}{index}.", widths[-1])
        e.require(kernel in (3, 4), f"{root}{index}.weight", f"has kernel {kernel}; 3 and 4 are known to halve the size")
        _same_bias_and_norm(e, f"{root}{index}.", f"{root}{index + 1}.", given, (bias, norm))
        widths.append(given)
        downs.append(kernel)
        index += step
    e.require(len(set(downs)) <= 1, f"{root}{index - step}.weight", "has another kernel than the layer before")
    blocks: list[tuple[str, bool]] = []
    while e.numbers(f"{root}{index}.{inner}."):
        blocks.append(_block(e, f"{root}{index}.{inner}.", widths[-1], (bias, norm)))
        index += 1
    e.require(len(set(blocks)) == 1, f"{root}{index - 1}.{inner}", "differs in padding or dropout from the other blocks")
    block_padding, dropout = blocks[0]
    up, up_kernel, up_bias, index = _ups(e, root, index, (widths, norm))
    index += padding == "reflect"
    _, out_channels, head = e.conv(f"{root}{index}.", widths[0])
    e.require(stem % 2 == 1 and head % 2 == 1, f"{root}{index}.weight", "has an even kernel: its padding cannot be told")
    head_bias = e.bias(f"{root}{index}.", out_channels)
    return Match(
        {"in_channels": in_channels, "out_channels": out_channels, "widths": widths, "blocks": len(blocks), "norm": norm,
         "padding": padding, "block_padding": block_padding, "kernels": [stem, (downs or [3])[0], head], "up": up,
         "up_kernel": up_kernel, "bias": bias, "up_bias": up_bias, "head_bias": head_bias, "dropout": dropout},
        _assumed(norm, up, padding),
    )  # fmt: skip


def _assumed(norm: str, up: str, padding: str) -> tuple[str, ...]:
    said = ["ReLU inside, tanh at the end, values -1..1 in and out"]
    if padding == "reflect":
        said.append("padding layers reflect (replication leaves the same trace)")
    if up != "transposed":
        said.append(f"the resize is {up} (the mode leaves no trace)")
    if norm == "instance":
        said.append("InstanceNorm without affine, with the statistics of each picture")
    return tuple(said)


def _norm_kind(e: Evidence, root: str, index: int, width: int) -> str:
    """Return the norm after the stem; InstanceNorm without affine has no tensors, only a slot in the numbering."""
    kind = e.norm(f"{root}{index + 1}.", width)
    if kind != "none":
        return kind
    following = min((n for n in e.numbers(root) if n > index), default=index)
    places = following - index
    e.require(places in (2, 3), f"{root}{following}.weight", f"comes {places} places after the stem, not 2 or 3")
    return "instance" if places == 3 else "none"


def _same_bias_and_norm(e: Evidence, conv: str, norm: str, width: int, expected: tuple[bool, str]) -> None:
    e.require(e.bias(conv, width) == expected[0], f"{conv}bias", "is there for some convolutions only")
    _same_norm(e, norm, width, expected[1])


def _same_norm(e: Evidence, prefix: str, width: int, expected: str) -> None:
    found = e.norm(prefix, width)
    fits = found == expected or (found, expected) == ("none", "instance")  # InstanceNorm without affine has no tensors
    e.require(fits, f"{prefix}weight", f"is not the {expected} norm of the stem")


def _block(e: Evidence, prefix: str, width: int, expected: tuple[bool, str]) -> tuple[str, bool]:
    """Account for one residual block; return its padding and whether it has a dropout layer."""
    step = 2 if expected[1] == "none" else 3
    pad = 1 if f"{prefix}1.weight" in e and f"{prefix}0.weight" not in e else 0
    second = pad + step + pad
    dropout = e.rank(f"{prefix}{second}.weight") != 4
    for conv in (pad, second + dropout):
        e.keeping(f"{prefix}{conv}.", width)
        _same_bias_and_norm(e, f"{prefix}{conv}.", f"{prefix}{conv + 1}.", width, expected)
    return ("reflect" if pad else "zero"), dropout


def _ups(e: Evidence, root: str, index: int, expected: tuple[list[int], str]) -> tuple[str, int, bool, int]:
    """Account for the way up; return its kind, kernel, bias and the number of the next layer."""
    widths, norm = expected
    kinds = ("transposed", "nearest", "bilinear")
    found: set[tuple[str, int, bool]] = set()
    for taken, expected_width in zip(widths[:0:-1], widths[-2::-1], strict=True):
        skipped = next((n for n in range(3) if f"{root}{index + n}.weight" in e), 0)
        index += skipped
        _, given, kernel = e.conv(f"{root}{index}.", taken, transposed=skipped == 0)
        e.require(given == expected_width, f"{root}{index}.weight", f"gives {given} channels, not {expected_width}")
        e.require(kernel in ((3, 4) if skipped == 0 else (3, 5, 7)), f"{root}{index}.weight", f"has kernel {kernel}")
        bias = e.bias(f"{root}{index}.", given)
        _same_norm(e, f"{root}{index + 1}.", given, norm)
        found.add((kinds[skipped], kernel, bias))
        index += 2 if norm == "none" else 3
    e.require(len(found) <= 1, f"{root}{index}.weight", "differs from the other layers on the way up")
    up, kernel, bias = found.pop() if found else ("transposed", 3, True)
    return up, kernel, bias, index
