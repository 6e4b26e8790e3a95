"""Decoder of a convolutional VAE: Linear layers, then 4x4 transposed convolutions to a picture, sigmoid, 0..1."""

from __future__ import annotations

import math
import re

import torch
from torch import nn

from edgegen.layers import Reshape
from edgegen.load.families.dcgan import doubling
from edgegen.load.family import Evidence, Match, Mismatch, State, compare, component, fill, fixed_size, latent, picture
from edgegen.spec import ComponentSpec

_ASSUMED = (
    "latents are unit normal",
    "ReLU inside, sigmoid at the end, values 0..1",
    "every transposed convolution doubles the size",
)


class VaeDecoder:
    """decoder.lin1..linN, decoder.convT_64 (in some), decoder.convT1..convTN; the encoder is not needed."""

    name = "vae-decoder"
    title = "VAE decoder"

    def detect(self, state: State) -> Match | Mismatch:
        """See GeneratorFamily."""
        return compare(state, _deduce)

    def build(self, state: State, match: Match) -> nn.Module:
        """See GeneratorFamily."""
        root = _root(state)
        own = {key.removeprefix(root): value for key, value in state.items() if key.startswith(root)}
        shift = 1 if "convT_64.weight" in own else 0  # the layer for 64x64 pictures comes first
        renamed = {}
        for key, value in own.items():
            moved = re.sub(r"^convT(\d+)\.", lambda m: f"convT{int(m.group(1)) + shift}.", key)
            renamed[moved.replace("convT_64.", "convT1.")] = value
        return fill(Decoder(**match.hyperparameters), renamed)

    def spec(self, match: Match, resolution: tuple[int, int] | None) -> ComponentSpec:
        """See GeneratorFamily."""
        h = match.hyperparameters
        side = h["base"] * 2 ** len(h["kernels"])
        size = fixed_size(resolution, (side, side), self.title)
        return component(latent(h["dense"][0]), picture("image", h["widths"][-1], size, (0.0, 1.0)))


class Decoder(nn.Module):
    """Map latents (N, dense[0]), unit normal, to images (N, C, S, S) in [0, 1], S = base * 2**layers.

    `dense` are the lengths from the latent to the last vector, `widths` the channels of the first feature map and on.
    """

    def __init__(self, *, dense: list[int], base: int, widths: list[int], kernels: list[int]) -> None:
        super().__init__()
        self.lines, self.layers = len(dense) - 1, len(kernels)
        for i in range(self.lines):
            self.add_module(f"lin{i + 1}", nn.Linear(dense[i], dense[i + 1]))
        self.to_map = Reshape((widths[0], base, base))
        for i in range(self.layers):
            self.add_module(f"convT{i + 1}", doubling(widths[i], widths[i + 1], kernels[i], True))
        self.relu, self.sigmoid = nn.ReLU(), nn.Sigmoid()

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Draw the images."""
        for i in range(1, self.lines + 1):
            z = self.relu(getattr(self, f"lin{i}")(z))
        x = self.to_map(z)
        for i in range(1, self.layers):
            x = self.relu(getattr(self, f"convT{i}")(x))
        return self.sigmoid(getattr(self, f"convT{self.layers}")(x))


def _root(state: State) -> str:
    return "decoder." if any(key.startswith("decoder.") for key in state) else ""


def _deduce(e: Evidence) -> Match:
    root = "decoder." if "decoder.lin1.weight" in e else ""
    dense = [e.shape(f"{root}lin1.weight", 2)[1]]
    while f"{root}lin{len(dense)}.weight" in e:
        prefix = f"{root}lin{len(dense)}."
        given, taken = e.shape(f"{prefix}weight", 2)
        e.require(taken == dense[-1], f"{prefix}weight", f"takes {taken} values, the layer before gives {dense[-1]}")
        e.vector(f"{prefix}bias", given)
        dense.append(given)
    names = [f"{root}convT_64."] if f"{root}convT_64.weight" in e else []
    while f"{root}convT{len(names) + 1 - (f'{root}convT_64.' in names)}.weight" in e:
        names.append(f"{root}convT{len(names) + 1 - (f'{root}convT_64.' in names)}.")
    e.require(bool(names), f"{root}convT1.weight", "missing")
    widths: list[int] = []
    kernels: list[int] = []
    for name in names:
        taken, given, kernel = e.conv(name, widths[-1] if widths else None, transposed=True)
        e.require(kernel % 2 == 0, f"{name}weight", f"has an odd kernel ({kernel}): its stride cannot be told")
        e.vector(f"{name}bias", given)
        widths = [*(widths or [taken]), given]
        kernels.append(kernel)
    base = math.isqrt(dense[-1] // widths[0])
    e.require(dense[-1] == widths[0] * base * base, f"{names[0]}weight", f"does not make a square map of {dense[-1]} values")
    e.require(widths[-1] in (1, 3), f"{names[-1]}weight", f"gives {widths[-1]} channels, not a picture's 1 or 3")
    e.ignore(*(("encoder.",) if root else ()))
    return Match({"dense": dense, "base": base, "widths": widths, "kernels": kernels}, _ASSUMED)
