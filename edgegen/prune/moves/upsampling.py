"""Cheaper ways to enlarge than a transposed convolution, or than a convolution behind nearest-neighbour upsampling.

"sub-pixel": the convolution at low resolution that equals upsampling and convolution, and a PixelShuffle. Exact where the
kernel's reach is kept and the border is padded with zeros; the tensor between is smaller. "sub-pixel 1x1": the same with one tap
per phase (Shi et al. 2016). "resize 3x3": a convolution at low resolution to the wanted channels, and upsampling behind it, the
teacher's own or bilinear (Odena et al. 2016).
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import fx, nn

from edgegen.generator import Generator
from edgegen.graph import insert_layer, layer_of
from edgegen.layers import Crop2d
from edgegen.prune.least_squares import fit_layer
from edgegen.prune.moves.activations import RIDGE, ROWS, activations, through
from edgegen.prune.moves.equal_conv import equal_conv
from edgegen.prune.moves.site import PADS, Samples, Site, calls, finished, plain_conv, shapes_of

NAME = "upsampling"
_SUB_PIXEL, _ONE_TAP, _RESIZE = "sub-pixel", "sub-pixel 1x1", "resize 3x3"
_MIN_SIDE = 2  # a grid of one pixel cannot be resized: there a transposed convolution is a linear layer
_EXACT = 1e-6
_MOST_VALUES = 1 << 26  # of upsampled patches held at a time: 256 MiB


@dataclasses.dataclass(frozen=True)
class _Enlarger:
    """[transposed convolution, crop?] or [Upsample, pad?, convolution]; `weighted` is the one with weights."""

    nodes: list[fx.Node]
    weighted: fx.Node
    scale: int
    outputs: int


def find(module: fx.GraphModule, inputs: tuple[torch.Tensor, ...]) -> list[Site]:
    """Return every enlarging convolution in the forms that do fewer multiplications, or as many on smaller tensors."""
    shapes = shapes_of(module, inputs)
    found = []
    for part in _enlargers(module):
        coarse, fine = shapes[part.nodes[0].all_input_nodes[0].name][2:], shapes[part.nodes[-1].name][2:]
        if min(coarse) < _MIN_SIDE or fine != tuple(n * part.scale for n in coarse):
            continue
        layer = layer_of(module, part.weighted)
        if isinstance(layer, nn.Conv2d):
            forms = (_SUB_PIXEL, _ONE_TAP, _RESIZE)
        else:
            assert isinstance(layer, nn.ConvTranspose2d)
            forms = (_ONE_TAP, _RESIZE) if min(layer.kernel_size) > 3 else (_ONE_TAP,)
        found += [Site(NAME, (str(part.weighted.target),), form) for form in forms]
    return found


@torch.no_grad()
def apply(student: Generator, site: Site, *, samples: Samples) -> Generator:
    """Return a copy whose enlarging convolution at `site` has the form asked for."""
    made = student.copy()
    module = made.module
    part = next(p for p in _enlargers(module) if str(p.weighted.target) == site.layers[0])
    source, last = part.nodes[0].all_input_nodes[0], part.nodes[-1]
    pairs = [(x, y) for x, y in activations(module, [source, last], samples)]
    layers = [layer for node in part.nodes if (layer := layer_of(module, node)) is not None]
    if site.form == _RESIZE:
        chain = _resized(layers, part, pairs)
    else:
        chain = _sub_pixel(layers, part, pairs, one_tap=site.form == _ONE_TAP)
    node = source
    for layer in chain:
        node = insert_layer(module, f"{site.layers[0]}_coarse", layer, node)
    last.replace_all_uses_with(node)
    return finished(made)


def _sub_pixel(layers: list[nn.Module], part: _Enlarger, pairs, *, one_tap: bool) -> list[nn.Module]:
    channels, scale = pairs[0][0].shape[1], part.scale
    conv, missing = _coarse_form(layers, channels, scale)
    if one_tap:
        conv, missing = equal_conv(lambda x: F.pixel_unshuffle(through(layers, x), scale), channels, 1)
    if missing > _EXACT:
        fit_layer(conv, [(x, F.pixel_unshuffle(y, scale)) for x, y in pairs], ridge=RIDGE, rows=ROWS)
    return [*_border(layers, conv), conv, nn.PixelShuffle(scale)]


def _border(layers: list[nn.Module], conv: nn.Conv2d) -> list[nn.Module]:
    """Take the padding out of `conv` into a layer of its own where the border was mirrored: one enlarged pixel next to the
    border is a copy of the border pixel, so what is mirrored at full resolution is repeated at low resolution."""
    reach = conv.padding[0]
    mirrored = any(isinstance(layer, (nn.ReflectionPad2d, nn.ReplicationPad2d)) for layer in layers)
    if not mirrored or reach == 0:
        return []
    conv.padding, conv._reversed_padding_repeated_twice = (0, 0), [0, 0, 0, 0]
    return [nn.ReplicationPad2d(int(reach))]


def _resized(layers: list[nn.Module], part: _Enlarger, pairs) -> list[nn.Module]:
    """A 3x3 convolution, then upsampling. Both are linear, so it is fitted as a 1x1 one on upsampled patches of 3x3 values."""
    channels, scale = pairs[0][0].shape[1], part.scale
    same = next((layer for layer in layers if isinstance(layer, nn.Upsample)), None)
    enlarge = same or nn.Upsample(scale_factor=scale, mode="bilinear", align_corners=False)
    all_phases, _ = equal_conv(lambda x: F.pixel_unshuffle(through(layers, x), scale), channels, 3)
    seen = nn.Conv2d(channels * 9, part.outputs, 1)
    seen.weight.copy_(all_phases.weight.reshape(part.outputs, scale**2, -1).mean(1).reshape(seen.weight.shape))
    few = pairs[: max(1, _MOST_VALUES // (9 * channels * pairs[0][1][0, 0].numel()))]
    fit_layer(seen, [(enlarge(_patches(x)), y) for x, y in few], ridge=RIDGE, rows=ROWS)
    conv = nn.Conv2d(channels, part.outputs, 3, padding=1)
    conv.weight.copy_(seen.weight.reshape(conv.weight.shape))
    conv.bias = seen.bias
    return [conv, enlarge]


def _patches(x: torch.Tensor) -> torch.Tensor:
    """Return the 3x3 neighbourhoods of `x` (N, C, H, W) as channels (N, 9 C, H, W)."""
    return F.unfold(x, 3, padding=1).reshape(len(x), -1, *x.shape[2:])


def _coarse_form(layers: list[nn.Module], channels: int, scale: int) -> tuple[nn.Conv2d, float]:
    """Return the smallest convolution on the coarse grid that equals `layers`, up to 5x5 taps, and the energy it misses."""
    found = nn.Conv2d(1, 1, 1), 1.0
    for taps in (1, 3, 5):
        found = equal_conv(lambda x: F.pixel_unshuffle(through(layers, x), scale), channels, taps)
        if found[1] <= _EXACT:
            break
    return found


def _enlargers(module: fx.GraphModule) -> list[_Enlarger]:
    found, once = [], calls(module)
    for node in once.values():
        layer, users = layer_of(module, node), list(node.users)
        if isinstance(layer, nn.ConvTranspose2d) and layer.groups == 1 and layer.dilation == (1, 1):
            cropped = len(users) == 1 and str(users[0].target) in once and isinstance(layer_of(module, users[0]), Crop2d)
            if layer.stride[0] == layer.stride[1] > 1:
                found.append(_Enlarger([node, *users] if cropped else [node], node, layer.stride[0], layer.out_channels))
        elif isinstance(layer, nn.Upsample) and layer.mode == "nearest" and len(users) == 1:
            part = _behind_upsample(module, node, once)
            found += [part] if part else []
    return found


def _behind_upsample(module: fx.GraphModule, node: fx.Node, once: dict[str, fx.Node]) -> _Enlarger | None:
    """The convolution that alone reads the upsampling at `node`, behind a pad or not."""
    factor = getattr(layer_of(module, node), "scale_factor", None)
    factors = factor if isinstance(factor, tuple) else (factor, factor)
    nodes = [node]
    while len(nodes[-1].users) == 1 and isinstance(layer_of(module, user := next(iter(nodes[-1].users))), (*PADS, nn.Conv2d)):
        if str(user.target) not in once:
            return None
        nodes.append(user)
        if isinstance(layer_of(module, user), nn.Conv2d):
            break
    conv = plain_conv(layer_of(module, nodes[-1]))
    if conv is None or conv.stride != (1, 1) or len(nodes) > 3 or factors[0] is None or factors[0] != factors[1]:
        return None
    scale = int(factors[0])
    return _Enlarger(nodes, nodes[-1], scale, conv.out_channels) if scale == factors[0] and scale > 1 else None
