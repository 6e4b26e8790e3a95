"""A stem at half resolution: PixelUnshuffle(2) and a 5x5 convolution for [large convolution, norm, activation, stride-2 one].

Forms: "5x5" is a single convolution, started from the teacher's two with the best affine map for what lies between; "5x5, hidden"
keeps norm and activation over as many channels as the teacher's stem has, where the teacher has four times as many values.
Applies as well to a stem that the exact rewrite has already moved to half resolution with four times the channels.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import fx, nn

from edgegen.generator import Generator
from edgegen.graph import layer_of
from edgegen.layers import Crop2d
from edgegen.prune.least_squares import fit_layer
from edgegen.prune.moves.activations import RIDGE, ROWS, activations, nearest_affine, through
from edgegen.prune.moves.equal_conv import equal_conv
from edgegen.prune.moves.hidden import per_phase, two_layers
from edgegen.prune.moves.site import (
    NORMS,
    PADS,
    POINTWISE,
    Samples,
    Site,
    before,
    calls,
    finished,
    normalised,
    plain_conv,
    shapes_of,
)

NAME = "half_stem"
_FORMS = ("5x5", "5x5, hidden")
_MIN_KERNEL = 5  # below it the half-resolution kernel is no smaller and nothing is gained
_TAPS = 5


@dataclasses.dataclass(frozen=True)
class _Stem:
    """The nodes of a stem: what enters it, [pad?, convolution], norms and activations, [pad?, convolution that halves]."""

    entry: fx.Node
    opening: list[fx.Node]
    inner: list[fx.Node]
    closing: list[fx.Node]
    coarse: bool  # half resolution already


def find(module: fx.GraphModule, inputs: tuple[torch.Tensor, ...]) -> list[Site]:
    """Return the stems of all image inputs in both forms."""
    shapes = shapes_of(module, inputs)
    found = []
    for stem in _stems(module):
        full, half = shapes[stem.entry.name], shapes[stem.closing[-1].name]
        scale = 1 if stem.coarse else 2
        whole = len(full) == 4 and all(n % scale == 0 for n in full[2:])
        if whole and half[2:] == tuple(n // scale for n in full[2:]) and shapes[stem.opening[-1].name][2:] == full[2:]:
            layers = (str(stem.opening[-1].target), str(stem.closing[-1].target))
            found += [Site(NAME, layers, form) for form in _FORMS]
    return found


@torch.no_grad()
def apply(student: Generator, site: Site, *, samples: Samples) -> Generator:
    """Return a copy with the stem at `site` replaced; the node of its last convolution stays, with the new last one."""
    made = student.copy()
    module = made.module
    stem = next(s for s in _stems(module) if str(s.closing[-1].target) == site.layers[-1])
    first, last = stem.opening[-1], stem.closing[-1]
    values = activations(module, [stem.entry, first, stem.closing[0].all_input_nodes[0], last], samples)
    pairs = [(x if stem.coarse else F.pixel_unshuffle(x, 2), y) for x, _, _, y in values]
    opening, inner, closing = ([_layer(module, n) for n in nodes] for nodes in (stem.opening, stem.inner, stem.closing))
    if site.form == "5x5":
        scale, shift = nearest_affine([(a, b) for _, a, b, _ in values])
        layers = [_merged(opening, closing, (scale, shift), pairs, coarse=stem.coarse)]
    else:
        layers = _hidden(opening, inner, closing, pairs, coarse=stem.coarse, alike=normalised(module, last))
    entry = stem.entry
    module.set_submodule(str(last.target), layers[-1])
    last.replace_input_with(last.all_input_nodes[0], entry)
    before(module, last, f"{first.target}_half", [*([] if stem.coarse else [nn.PixelUnshuffle(2)]), *layers[:-1]])
    return finished(made)


def _merged(opening, closing, affine, pairs, *, coarse: bool) -> nn.Conv2d:
    """One convolution for both, as if the part between were `affine` (scale, shift), then fitted."""
    scale, shift = (value.reshape(1, -1, 1, 1) for value in affine)

    def chain(x: torch.Tensor) -> torch.Tensor:
        x = through(opening, x if coarse else F.pixel_shuffle(x, 2))
        return through(closing, x * scale + shift)

    conv, _ = equal_conv(chain, pairs[0][0].shape[1], _TAPS)
    fit_layer(conv, pairs, ridge=RIDGE, rows=ROWS)
    return conv


def _hidden(opening, inner, closing, pairs, *, coarse: bool, alike: bool) -> list[nn.Module]:
    """Opening, norm and activation, closing at half resolution over a quarter of the values."""
    channels = opening[-1].out_channels
    if coarse:
        first, _ = equal_conv(lambda x: through(opening, x), pairs[0][0].shape[1], _reach(opening[-1].kernel_size[0], 1))
        last, _ = equal_conv(lambda z: through(closing, z), channels, 3)
        return two_layers(first, inner, last, pairs, width=channels // 4, alike=alike)
    taps = _reach(opening[-1].kernel_size[0], 2)
    first, _ = equal_conv(lambda x: F.pixel_unshuffle(through(opening, F.pixel_shuffle(x, 2)), 2), pairs[0][0].shape[1], taps)
    last, _ = equal_conv(lambda z: through(closing, F.pixel_shuffle(z, 2)), channels * 4, 3)
    return two_layers(first, [per_phase(layer, 4) for layer in inner], last, pairs, width=channels, alike=alike)


def _reach(kernel: int, scale: int) -> int:
    """Taps that an odd kernel of `kernel` taps needs on a grid `scale` times coarser."""
    return 2 * -(-(kernel // 2) // scale) + 1


def _stems(module: fx.GraphModule) -> list[_Stem]:
    once = calls(module)
    found = []
    for entry in module.graph.nodes:
        if entry.op != "placeholder":
            continue
        chain, node = [], entry
        while len(node.users) == 1 and (user := next(iter(node.users))) in once.values():
            chain.append(node := user)
        coarse = (
            bool(chain) and isinstance(layer := layer_of(module, chain[0]), nn.PixelUnshuffle) and layer.downscale_factor == 2
        )
        stem = _read(module, chain[0] if coarse else entry, chain[coarse:], coarse=coarse)
        found += [stem] if stem else []
    return found


def _read(module: fx.GraphModule, entry: fx.Node, chain: list[fx.Node], *, coarse: bool) -> _Stem | None:
    """Split `chain` into the parts of a stem; None if it is none."""
    opening, rest = _to_convolution(module, chain)
    inner = []
    while rest and isinstance(layer_of(module, rest[0]), (*NORMS, *POINTWISE)):
        inner.append(rest.pop(0))
    closing, _ = _to_convolution(module, rest)
    if not opening or not closing:
        return None
    first, last = (plain_conv(layer_of(module, nodes[-1])) for nodes in (opening, closing))
    if first is None or last is None or first.stride != (1, 1) or min(first.kernel_size) < (3 if coarse else _MIN_KERNEL):
        return None
    return _Stem(entry, opening, inner, closing, coarse) if last.stride == ((1, 1) if coarse else (2, 2)) else None


def _to_convolution(module: fx.GraphModule, chain: list[fx.Node]) -> tuple[list[fx.Node], list[fx.Node]]:
    """Split `chain` behind a convolution that only pads and crops precede; ([], chain) if it does not begin so."""
    for index, node in enumerate(chain):
        if isinstance(layer_of(module, node), nn.Conv2d):
            return chain[: index + 1], chain[index + 1 :]
        if not isinstance(layer_of(module, node), (*PADS, Crop2d)):
            break
    return [], chain


def _layer(module: fx.GraphModule, node: fx.Node) -> nn.Module:
    layer = layer_of(module, node)
    assert layer is not None
    return layer
