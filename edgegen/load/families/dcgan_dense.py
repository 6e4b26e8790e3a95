"""DCGAN with a dense stem: a Linear layer to a small feature map, transposed convolutions that double it, tanh, -1..1."""

from __future__ import annotations

import math
import re

import torch
from torch import nn

from edgegen.layers import Reshape
from edgegen.load.families.dcgan import doubling
from edgegen.load.family import Evidence, Match, Mismatch, State, compare, component, fill, fixed_size, latent, make_norm, picture
from edgegen.spec import ComponentSpec

_STEM = r"(fc\d?|linear\d?|dense\d?)\.weight"
_LAYER = r"([a-z_]*?)1\.0\.weight"
_ASSUMED = (
    "latents are uniform in -1..1 (the course that this code comes from draws them so)",
    "no activation behind the dense stem, ReLU inside, tanh at the end, values -1..1",
    "every transposed convolution doubles the size",
)


class DcganDense:
    """fc1, then conv1.0 (transposed convolution) and conv1.1 (norm), ..., convN.0; the names are free, the numbers count."""

    name = "dcgan-dense"
    title = "DCGAN with a dense stem"

    def detect(self, state: State) -> Match | Mismatch:
        """See GeneratorFamily."""
        return compare(state, _deduce)

    def build(self, state: State, match: Match) -> nn.Module:
        """See GeneratorFamily."""
        stem = next(m for m in (re.fullmatch(_STEM, key) for key in state) if m).group(1)
        layer = next(m for m in (re.fullmatch(_LAYER, key) for key in state) if m).group(1)
        renamed = {re.sub(rf"^{layer}(\d+)\.", r"conv\1.", re.sub(rf"^{stem}\.", "stem.", k)): v for k, v in state.items()}
        return fill(DenseGenerator(**match.hyperparameters), renamed)

    def spec(self, match: Match, resolution: tuple[int, int] | None) -> ComponentSpec:
        """See GeneratorFamily."""
        h = match.hyperparameters
        side = h["base"] * 2 ** len(h["kernels"])
        size = fixed_size(resolution, (side, side), self.title)
        return component(latent(h["latent"], (-1.0, 1.0)), picture("image", h["widths"][-1], size, (-1.0, 1.0)))


class DenseGenerator(nn.Module):
    """Map latents (N, latent), uniform in [-1, 1], to images (N, C, S, S) in [-1, 1], S = base * 2**layers.

    `widths` are the channels of the first feature map (base x base pixels) and after each layer, the image's last.
    """

    def __init__(
        self, *, latent: int, base: int, widths: list[int], kernels: list[int], norms: list[str], biases: list[bool],
        stem_bias: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stem = nn.Linear(latent, widths[0] * base * base, bias=stem_bias)
        self.to_map = Reshape((widths[0], base, base))
        self.count = len(kernels)
        for i, (taken, given) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            layer = doubling(taken, given, kernels[i], biases[i])
            self.add_module(f"conv{i + 1}", nn.Sequential(layer, make_norm(norms[i], given)))
        self.relu, self.tanh = nn.ReLU(), nn.Tanh()

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Draw the images."""
        x = self.to_map(self.stem(z))
        for i in range(1, self.count):
            x = self.relu(getattr(self, f"conv{i}")(x))
        return self.tanh(getattr(self, f"conv{self.count}")(x))


def _deduce(e: Evidence) -> Match:
    stem = e.search(_STEM, what="fc1.weight").group(1)
    layer = e.search(_LAYER, what="conv1.0.weight").group(1)
    values, length = e.shape(f"{stem}.weight", 2)
    stem_bias = e.bias(f"{stem}.", values)
    width, _, _ = e.conv(f"{layer}1.0.", transposed=True)
    base = math.isqrt(values // width)
    square = base > 0 and values == width * base * base
    e.require(square, f"{stem}.weight", f"gives {values} values, not a square of {width} channels")
    widths, kernels, norms, biases = [width], [], [], []
    while f"{layer}{len(kernels) + 1}.0.weight" in e:
        prefix = f"{layer}{len(kernels) + 1}."
        _, given, kernel = e.conv(f"{prefix}0.", widths[-1], transposed=True)
        e.require(kernel % 2 == 0, f"{prefix}0.weight", f"has an odd kernel ({kernel}): its stride cannot be told")
        biases.append(e.bias(f"{prefix}0.", given))
        norms.append(e.norm(f"{prefix}1.", given))
        widths.append(given)
        kernels.append(kernel)
    e.require(widths[-1] in (1, 3), f"{layer}{len(kernels)}.0.weight", f"gives {widths[-1]} channels, not a picture's 1 or 3")
    return Match(
        {"latent": length, "base": base, "widths": widths, "kernels": kernels, "norms": norms, "biases": biases,
         "stem_bias": stem_bias},
        _ASSUMED,
    )  # fmt: skip
