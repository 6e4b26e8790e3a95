"""DCGAN with a convolutional stem: one flat Sequential of transposed convolutions from a latent to tanh, -1..1."""

from __future__ import annotations

import torch
from torch import nn

from edgegen.layers import Reshape
from edgegen.load.family import Evidence, Match, Mismatch, State, compare, component, fill, fixed_size, latent, make_norm, picture
from edgegen.spec import ComponentSpec

_ROOT = r"((?:[A-Za-z_]\w*\.)?)0\.weight"
_ASSUMED = (
    "latents are unit normal, reshaped to 1x1 pixels",
    "the stem has stride 1 without padding, every layer after it doubles the size",
    "ReLU inside, tanh at the end, values -1..1",
)


class Dcgan:
    """main.0 (stem), main.1 (BatchNorm), main.3, ...; the name `main` is free, depth, widths and even kernels too."""

    name = "dcgan"
    title = "DCGAN with a convolutional stem"

    def detect(self, state: State) -> Match | Mismatch:
        """See GeneratorFamily."""
        return compare(state, _deduce)

    def build(self, state: State, match: Match) -> nn.Module:
        """See GeneratorFamily."""
        root = next(key for key in state if key.endswith("0.weight")).removesuffix("0.weight")
        renamed = {"main." + key.removeprefix(root): value for key, value in state.items()}
        return fill(DcganGenerator(**match.hyperparameters), renamed)

    def spec(self, match: Match, resolution: tuple[int, int] | None) -> ComponentSpec:
        """See GeneratorFamily."""
        h = match.hyperparameters
        side = h["kernels"][0] * 2 ** (len(h["kernels"]) - 1)
        size = fixed_size(resolution, (side, side), self.title)
        return component(latent(h["latent"]), picture("image", h["widths"][-1], size, (-1.0, 1.0)))


class DcganGenerator(nn.Module):
    """Map latents (N, latent), unit normal, to images (N, C, S, S) in [-1, 1], S = kernels[0] * 2**(layers - 1).

    `widths` are the channels after each layer, the image's last.
    """

    def __init__(self, *, latent: int, widths: list[int], kernels: list[int], norm: str, bias: bool) -> None:
        super().__init__()
        self.to_pixel = Reshape((latent, 1, 1))
        layers: list[nn.Module] = []
        for i, (taken, given) in enumerate(zip([latent, *widths[:-1]], widths, strict=True)):
            stem = nn.ConvTranspose2d(taken, given, kernels[0], bias=bias) if i == 0 else None
            layers.append(stem or doubling(taken, given, kernels[i], bias))
            if i < len(widths) - 1:
                layers += [make_norm(norm, given), nn.ReLU()] if norm != "none" else [nn.ReLU()]
        self.main = nn.Sequential(*layers, nn.Tanh())

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Draw the images."""
        return self.main(self.to_pixel(z))


def doubling(taken: int, given: int, kernel: int, bias: bool) -> nn.ConvTranspose2d:
    """Return the transposed convolution of an even kernel that doubles height and width exactly."""
    return nn.ConvTranspose2d(taken, given, kernel, 2, (kernel - 2) // 2, bias=bias)


def _deduce(e: Evidence) -> Match:
    root = e.search(_ROOT, what="main.0.weight").group(1)
    length, width, kernel = e.conv(f"{root}0.", transposed=True)
    bias = e.bias(f"{root}0.", width)
    norm = e.norm(f"{root}1.", width)
    widths, kernels = [width], [kernel]
    step = 2 if norm == "none" else 3
    index = step
    while f"{root}{index}.weight" in e:
        _, given, kernel = e.conv(f"{root}{index}.", widths[-1], transposed=True)
        # an even kernel doubles the size in one way only; odd ones are used with strides 1 and 2 alike
        e.require(kernel % 2 == 0, f"{root}{index}.weight", f"has an odd kernel ({kernel}): its stride cannot be told")
        is_last = f"{root}{index + step}.weight" not in e
        e.require(e.bias(f"{root}{index}.", given) == bias, f"{root}{index}.bias", "is there for some layers only")
        same = is_last or e.norm(f"{root}{index + 1}.", given) == norm
        e.require(same, f"{root}{index + 1}.weight", f"is not the {norm} norm of the stem")
        widths.append(given)
        kernels.append(kernel)
        index += step
    e.require(len(widths) > 1, f"{root}{index}.weight", "missing")
    e.require(widths[-1] in (1, 3), f"{root}{index - step}.weight", f"gives {widths[-1]} channels, not a picture's 1 or 3")
    return Match({"latent": length, "widths": widths, "kernels": kernels, "norm": norm, "bias": bias}, _ASSUMED)
