"""ConvTranspose2d -> Conv2d + depth-to-space, weight-exact (the sub-pixel form of Shi et al., arXiv 1609.07009).

Output row o of a transposed convolution (stride s, kernel k, padding p) reads x[i] * w[o + p - s*i]. Write o + c = s*u + a:
phase a of phase row u reads the rows i = u + d with d = (a + p - c - kr) / s for every kernel row kr that makes d whole. So
the s phases (s*s in two axes) are output channels of an ordinary convolution over x, which depth-to-space interleaves; c rows
are cropped in front. c = 0 needs no crop; c = p mod s needs the fewest taps, ceil(k/s). We take the fewest taps, then the
smallest crop. A Crop2d behind the layer is absorbed: it only moves p and shortens the output. A ReLU behind it goes right
behind the convolution: back ends run it with the convolution, and the interleaving moves int8 values that are cut off already.
"""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import fx, nn

from edgegen.graph import clean, layer_of, replace_layer
from edgegen.layers import Crop2d, DepthToSpace, Reshape

_WITH_THE_CONVOLUTION = (nn.ReLU, nn.ReLU6, nn.LeakyReLU)  # per value, so they commute with moving values


def replace_conv_transpose(module: fx.GraphModule, shapes: dict[str, tuple[int, ...]]) -> int:
    """Replace every ConvTranspose2d of `module` in place; return how many were replaced.

    `shapes` are the node shapes of `edgegen.graph.node_shapes`: one on a 1x1 input becomes Linear + reshape.
    """
    replaced = 0
    sources = {node: shapes[node.all_input_nodes[0].name] for node in module.graph.nodes if node.all_input_nodes}
    for node in list(module.graph.nodes):
        layer = layer_of(module, node)
        if not isinstance(layer, nn.ConvTranspose2d) or layer.dilation != (1, 1):
            continue
        source = sources[node]
        if source[2:] == (1, 1) and layer.groups == 1:
            chain = as_linear(layer, shapes[node.name][2:])
        else:
            chain = as_subpixel(layer, (source[2], source[3]), absorb_crop(module, node))
        replace_layer(module, node, _with_activation(chain, module, node))
        replaced += 1
    clean(module)
    return replaced


def _with_activation(chain: list[nn.Module], module: fx.GraphModule, node: fx.Node) -> list[nn.Module]:
    """Return `chain` with the ReLU that alone reads `node` behind its weighted layer; it is gone from `module` then."""
    user = next(iter(node.users)) if len(node.users) == 1 else None
    activation = None if user is None else layer_of(module, user)
    if user is None or not isinstance(activation, _WITH_THE_CONVOLUTION):
        return chain
    user.replace_all_uses_with(node)
    module.graph.erase_node(user)
    weighted = next(i for i, layer in enumerate(chain) if isinstance(layer, (nn.Conv2d, nn.Linear)))
    return [*chain[: weighted + 1], copy.deepcopy(activation), *chain[weighted + 1 :]]


def absorb_crop(module: fx.GraphModule, node: fx.Node) -> tuple[int, int, int, int]:
    """Remove a Crop2d that alone reads `node` and return what it cut: (top, bottom, left, right); zeros without one."""
    if len(node.users) != 1:
        return (0, 0, 0, 0)
    user = next(iter(node.users))
    crop = layer_of(module, user)
    if not isinstance(crop, Crop2d):
        return (0, 0, 0, 0)
    user.replace_all_uses_with(node)
    module.graph.erase_node(user)
    return (crop.top, crop.bottom, crop.left, crop.right)


@torch.no_grad()
def as_subpixel(
    layer: nn.ConvTranspose2d, size: tuple[int, int], crop: tuple[int, int, int, int] = (0, 0, 0, 0), *, aligned: bool = False
) -> list[nn.Module]:
    """Return the chain [Crop2d?, ZeroPad2d?, Conv2d, depth-to-space?, Crop2d?] that equals `layer` on (N, C, *size) inputs.

    Any kernel, stride, padding, output_padding and groups; dilation 1. `crop` (top, bottom, left, right) is cut off the
    result. `aligned` forbids a crop at the end, at the price of more taps.
    """
    down, across = layer.stride
    rows = _axis(layer, 0, size[0], crop[:2], aligned)
    cols = _axis(layer, 1, size[1], crop[2:], aligned)
    groups, out_per_group = layer.groups, layer.weight.shape[1]
    weight = torch.zeros(
        layer.out_channels * down * across, layer.in_channels // groups, rows.taps, cols.taps, dtype=layer.weight.dtype
    )
    # (groups, in, out, kh, kw) -> the weight of phase (r, c) of output channel o sits at channel (o*down + r)*across + c.
    source = layer.weight.reshape(groups, -1, out_per_group, *layer.kernel_size)
    phases = weight.reshape(groups, out_per_group, down, across, -1, rows.taps, cols.taps)
    for phase_r, kernel_r, tap_r in rows.placements:
        for phase_c, kernel_c, tap_c in cols.placements:
            phases[:, :, phase_r, phase_c, :, tap_r, tap_c] = source[:, :, :, kernel_r, kernel_c].transpose(1, 2)
    conv = nn.Conv2d(layer.in_channels, weight.shape[0], (rows.taps, cols.taps), groups=groups, bias=layer.bias is not None,
                     dtype=weight.dtype)  # fmt: skip
    conv.weight = nn.Parameter(weight)
    if layer.bias is not None:
        conv.bias = nn.Parameter(layer.bias.detach().repeat_interleave(down * across))
    chain = pad_for((cols.pad_before, cols.pad_after, rows.pad_before, rows.pad_after), conv)
    if down == across > 1:
        chain.append(nn.PixelShuffle(down))
    elif down * across > 1:
        chain.append(DepthToSpace(down, across))
    cut = (rows.crop_before, rows.crop_after, cols.crop_before, cols.crop_after)
    return [*chain, Crop2d(*cut)] if any(cut) else chain


@dataclasses.dataclass(frozen=True)
class _Axis:
    """One axis of the sub-pixel form; `placements` are (phase, kernel index, tap) triples. See the module docstring."""

    taps: int
    pad_before: int
    pad_after: int
    crop_before: int
    crop_after: int
    placements: tuple[tuple[int, int, int], ...]


def _axis(layer: nn.ConvTranspose2d, axis: int, size: int, crop: tuple[int, ...], aligned: bool) -> _Axis:
    kernel, stride, extra = layer.kernel_size[axis], layer.stride[axis], layer.output_padding[axis]
    before = int(layer.padding[axis])
    padding = before + crop[0]
    wanted = (size - 1) * stride - 2 * before + kernel + extra - sum(crop)
    leads = (0,) if aligned else sorted({0, padding % stride})
    return min((_axis_with_lead(kernel, stride, padding, (size, wanted), lead) for lead in leads), key=lambda a: a.taps)


def _axis_with_lead(kernel: int, stride: int, padding: int, sizes: tuple[int, int], lead: int) -> _Axis:
    size, wanted = sizes
    offsets = [
        (phase, index, (phase + padding - lead - index) // stride)
        for phase in range(stride)
        for index in range(kernel)
        if (phase + padding - lead - index) % stride == 0
    ]
    first, last = min(d for *_, d in offsets), max(d for *_, d in offsets)
    rows = -(-(lead + wanted) // stride)
    return _Axis(
        taps=last - first + 1,
        pad_before=-first,
        pad_after=rows + last - size,
        crop_before=lead,
        crop_after=rows * stride - lead - wanted,
        placements=tuple((phase, index, d - first) for phase, index, d in offsets),
    )


def pad_for(pads: tuple[int, int, int, int], conv: nn.Conv2d) -> list[nn.Module]:
    """Return [Crop2d?, ZeroPad2d?, conv] that pads (left, right, top, bottom); symmetric padding moves into `conv` itself."""
    left, right, top, bottom = pads
    if left == right >= 0 and top == bottom >= 0:
        conv.padding = (top, left)
        conv._reversed_padding_repeated_twice = [left, left, top, top]
        return [conv]
    chain: list[nn.Module] = []
    if min(pads) < 0:
        chain.append(Crop2d(max(0, -top), max(0, -bottom), max(0, -left), max(0, -right)))
    if max(pads) > 0:
        chain.append(nn.ZeroPad2d((max(0, left), max(0, right), max(0, top), max(0, bottom))))
    return [*chain, conv]


@torch.no_grad()
def as_linear(layer: nn.ConvTranspose2d, output_size: tuple[int, ...]) -> list[nn.Module]:
    """Return [Reshape, Linear, Reshape] that equals `layer` on (N, C, 1, 1) inputs: the stem of a DCGAN."""
    height, width = output_size
    weight = layer.weight  # (in, out, kh, kw); output pixel (y, x) reads tap (y + p, x + p), zero beyond the kernel
    taps = torch.zeros(layer.in_channels, layer.out_channels, height, width, dtype=weight.dtype)
    (ph, pw), (kh, kw) = (int(p) for p in layer.padding), layer.kernel_size
    rows, cols = max(0, min(height, kh - ph)), max(0, min(width, kw - pw))
    taps[:, :, :rows, :cols] = weight[:, :, ph : ph + rows, pw : pw + cols]
    linear = nn.Linear(layer.in_channels, layer.out_channels * height * width, bias=layer.bias is not None, dtype=weight.dtype)
    linear.weight = nn.Parameter(taps.flatten(1).t().contiguous())
    if layer.bias is not None:
        linear.bias = nn.Parameter(layer.bias.detach().repeat_interleave(height * width))
    return [Reshape((layer.in_channels,)), linear, Reshape((layer.out_channels, height, width))]
