"""Do the calibration inputs show what the layers of a generator will see? One half sets ranges, the other is held against them.

For every layer that int8 speeds up (convolutions, transposed convolutions, linear layers) the range of its input is taken over
one half of the calibration inputs; the share of the other half's values that lie outside is what int8 would clip. Ranges that
one input alone sets are told too: it is either rare and important, or an outlier.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    import numpy as np

    from edgegen.generator import Generator

_WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
# Too little: more than one value in a thousand outside, and by more than a tenth of the range. Street photos and latents of four
# real generators are below both from 32 inputs on (0.0001 at most), but for a layer of 10 latents: 0.019 outside by 0.09.
_OUTSIDE, _EXCESS = 1e-3, 0.1
_ALONE = 1.5  # how much wider than all others' together the range of one input must be to count as its doing
_MANY_LAYERS = 0.25


@dataclasses.dataclass(frozen=True)
class LayerCoverage:
    """The input of one layer: its range over the first half, the share of the second half outside of it, and how far outside.

    `excess` is in widths of the range: 0.5 means that the second half reaches half a range beyond it.
    """

    layer: str
    low: float
    high: float
    outside: float
    excess: float


@dataclasses.dataclass(frozen=True)
class Coverage:
    """Coverage of all layers in the order in which they run; `alone` names inputs that set many ranges by themselves."""

    count: int
    layers: tuple[LayerCoverage, ...]
    alone: tuple[str, ...]

    @property
    def worst(self) -> LayerCoverage:
        """The layer that is covered least: one that is too little, if there is any, with most outside."""
        return max(self.layers, key=lambda layer: (_is_little(layer), layer.outside, layer.excess))

    @property
    def is_enough(self) -> bool:
        """Whether no layer has more than a thousandth of the second half's values more than a tenth of its range outside."""
        return not _is_little(self.worst)

    @property
    def sentence(self) -> str:
        """The result in words."""
        found = self.worst
        told = (
            f"{found.outside:.3%} of what {found.layer} sees lies up to {found.excess:.0%} outside of the range that the other "
            f"half gives ({self.count} inputs)"
        )
        return told if self.is_enough else f"{told}: more inputs, or more varied ones, are needed"

    def to_json(self) -> dict[str, Any]:
        """Return the plain JSON object."""
        return dataclasses.asdict(self) | {"enough": self.is_enough, "sentence": self.sentence}


def _is_little(layer: LayerCoverage) -> bool:
    return layer.outside > _OUTSIDE and layer.excess > _EXCESS


@torch.no_grad()
def coverage(generator: Generator, inputs: Sequence[tuple[np.ndarray, ...]]) -> Coverage | None:
    """Return how well the even ones of `inputs` (batch axis 1) cover what the odd ones make of every layer's input.

    None for fewer than four inputs, which have no halves, and for a generator without such layers.
    """
    module = generator.module
    names: dict[nn.Module, str] = {layer: name for name, layer in module.named_modules() if isinstance(layer, _WEIGHTED)}
    if len(inputs) < 4 or not names:
        return None
    spans = [dict(_spans(module, names, item)) for item in inputs]
    order = [name for name, _ in _spans(module, names, inputs[0])]
    halves = spans[0::2], spans[1::2]
    ranges = {name: (min(s[name][0] for s in halves[0]), max(s[name][1] for s in halves[0])) for name in order}
    outside = dict.fromkeys(order, 0.0)
    for item in inputs[1::2]:
        for name, share in _outside(module, names, item, ranges):
            outside[name] += share / len(halves[1])
    layers = tuple(_layer(name, ranges[name], outside[name], halves[1]) for name in dict.fromkeys(order))
    return Coverage(len(inputs), layers, tuple(_alone(spans, order)))


def _layer(
    name: str, span: tuple[float, float], outside: float, others: Sequence[dict[str, tuple[float, float]]]
) -> LayerCoverage:
    low, high = span
    beyond = max(low - min(s[name][0] for s in others), max(s[name][1] for s in others) - high, 0.0)
    return LayerCoverage(name, low, high, outside, beyond / max(high - low, 1e-12))


def _spans(
    module: nn.Module, names: dict[nn.Module, str], item: tuple[np.ndarray, ...]
) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield (layer, (lowest, highest)) of every layer's input, as the layers run."""
    for name, value in _seen(module, names, item):
        yield name, (float(value.min()), float(value.max()))


def _outside(
    module: nn.Module, names: dict[nn.Module, str], item: tuple[np.ndarray, ...], ranges: dict[str, tuple[float, float]]
) -> Iterator[tuple[str, float]]:
    """Yield (layer, share of its input's values that lie outside of its range)."""
    for name, value in _seen(module, names, item):
        low, high = ranges[name]
        yield name, float(((value < low) | (value > high)).float().mean())


def _seen(module: nn.Module, names: dict[nn.Module, str], item: tuple[np.ndarray, ...]) -> list[tuple[str, torch.Tensor]]:
    """Return what every layer takes when `module` runs on one input."""
    seen: list[tuple[str, torch.Tensor]] = []
    hooks = [layer.register_forward_pre_hook(lambda m, given: seen.append((names[m], given[0].detach()))) for layer in names]
    try:
        module(*(torch.from_numpy(array) for array in item))
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _alone(spans: Sequence[dict[str, tuple[float, float]]], order: Sequence[str]) -> list[str]:
    """Return sentences on inputs without which a quarter of the ranges would be by a third narrower."""
    told = []
    for index, mine in enumerate(spans):
        others = [s for i, s in enumerate(spans) if i != index]
        wide = 0
        for name in order:
            width = max(s[name][1] for s in others) - min(s[name][0] for s in others)
            whole = max(mine[name][1], *(s[name][1] for s in others)) - min(mine[name][0], *(s[name][0] for s in others))
            wide += whole > _ALONE * max(width, 1e-12)
        if wide >= _MANY_LAYERS * len(order):
            told.append(f"input {index + 1} alone widens the ranges of {wide} of {len(order)} layers by more than half")
    return told
