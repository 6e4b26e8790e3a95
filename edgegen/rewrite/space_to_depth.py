"""Move the full-resolution ends of an image generator to half resolution with four times the channels.

A stem (large kernel, stride 1, few channels, then a stride-2 convolution) and a head (upsampling, then a large kernel to few
channels) work at full resolution on tensors that no vector unit likes: 3 channels, 9x9 kernels. In the space-to-depth domain
(PixelUnshuffle order: channel c*4 + i*2 + j holds pixel (2u + i, 2v + j)) every convolution has an equal convolution at half
resolution, so the ends become ordinary ones, and pruning may then remove single phases.

Per axis, with offset e = a + kr - p for output phase a, kernel row kr and padding p (stride 1; a = 0 for stride 2):
    reads phase i = e mod 2 of half-resolution row u + floor(e / 2).
Exact for convolutions, activations and folded BatchNorm. Approximate in two places, recovered by distillation: InstanceNorm
takes its statistics per phase instead of over all four, and reflection padding in the head becomes zero padding.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools

import torch
from torch import fx, nn

from edgegen.graph import clean, layer_of
from edgegen.layers import Crop2d
from edgegen.rewrite.conv_transpose import as_subpixel, pad_for

_POINTWISE = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.InstanceNorm2d, nn.Tanh, nn.SiLU, nn.ELU)
_MIN_KERNEL = 5  # below it the half-resolution kernel is no smaller and nothing is gained


def move_to_half_resolution(module: fx.GraphModule, shapes: dict[str, tuple[int, ...]], *, approximate: bool) -> list[str]:
    """Rewrite the stem and the head of `module` in place where they match; return what was rewritten ("stem", "head").

    Without `approximate`, an end with an InstanceNorm in it or with a reflection-padded head stays as it is.
    """
    done = []
    for name, match in (("stem", _match_stem), ("head", _match_head)):
        end = match(module, shapes)
        if end is not None and (approximate or (not end.approximate and _exact(end.pointwise))):
            _replace_chain(module, end.first, end.last, end.layers)
            done.append(name)
    clean(module)
    return done


@torch.no_grad()
def half_resolution_conv(conv: nn.Conv2d, padding: tuple[int, int], *, stride: int, grows: int = 0) -> list[nn.Module]:
    """Return [Crop2d?, ZeroPad2d?, Conv2d] that equals `conv` in the space-to-depth domain, keeping the half-resolution size.

    `padding` (rows, columns) is the zero padding before the first full-resolution row and column; behind the last one zeros
    follow as far as the output needs them. `grows` is by how many half-resolution rows and columns the input is larger than
    the output, as behind a reflection pad. stride 1 gives 4 * out_channels at half resolution, stride 2 out_channels.
    """
    phases = 2 if stride == 1 else 1
    rows = _taps(conv.kernel_size[0], padding[0], phases)
    cols = _taps(conv.kernel_size[1], padding[1], phases)
    (top, bottom), (left, right) = _span(rows), _span(cols)
    out, channels = conv.weight.shape[:2]
    weight = torch.zeros(out, phases, phases, channels, 2, 2, bottom - top + 1, right - left + 1, dtype=conv.weight.dtype)
    for a, kr, i, du in rows:
        for b, kc, j, dv in cols:
            weight[:, a, b, :, i, j, du - top, dv - left] = conv.weight[:, :, kr, kc]
    taps = (bottom - top + 1, right - left + 1)
    new = nn.Conv2d(channels * 4, out * phases**2, taps, bias=conv.bias is not None, dtype=weight.dtype)
    new.weight = nn.Parameter(weight.reshape(new.weight.shape))
    if conv.bias is not None:
        new.bias = nn.Parameter(conv.bias.detach().repeat_interleave(phases**2))
    return pad_for((-left, right - grows, -top, bottom - grows), new)


def _taps(kernel: int, padding: int, phases: int) -> list[tuple[int, int, int, int]]:
    """(output phase, kernel index, input phase, half-resolution offset) for every pair that meets."""
    return [(a, k, (a + k - padding) % 2, (a + k - padding) // 2) for a in range(phases) for k in range(kernel)]


def _span(taps: list[tuple[int, int, int, int]]) -> tuple[int, int]:
    return min(t[3] for t in taps), max(t[3] for t in taps)


# --- the stem: image -> [pad] -> conv k>=5 s1 -> pointwise... -> [pad] -> conv s2 ----------------------------------------


@dataclasses.dataclass(frozen=True)
class _End:
    """A stem or head that was recognised: the nodes it spans and the layers that take their place."""

    first: fx.Node
    last: fx.Node
    pointwise: list[nn.Module]
    layers: list[nn.Module]
    approximate: bool


def _match_stem(module: fx.GraphModule, shapes: dict[str, tuple[int, ...]]) -> _End | None:
    image = next(n for n in module.graph.nodes if n.op == "placeholder")
    size = shapes[image.name][2:]
    if len(size) != 2 or len(image.users) != 1 or any(n % 2 for n in size):
        return None
    chain = _chain_from(module, image)
    reflect = _pads(module, chain[0], (nn.ReflectionPad2d, nn.ReplicationPad2d)) if chain else None
    chain = chain[1:] if reflect else chain
    first = _large_conv(module, chain[0]) if chain else None
    if first is None or (reflect and len(set(reflect)) > 1) or shapes[chain[0].name][2:] != size:
        return None
    pointwise = list(itertools.takewhile(lambda layer: isinstance(layer, _POINTWISE), _layers(module, chain[1:])))
    rest = chain[1 + len(pointwise) :]
    zeros = _pads(module, rest[0], (nn.ZeroPad2d,)) if rest else None
    rest = rest[1:] if zeros else rest
    second = layer_of(module, rest[0]) if rest else None
    if not isinstance(second, nn.Conv2d) or second.stride != (2, 2) or second.groups != 1 or isinstance(second.padding, str):
        return None
    if shapes[rest[0].name][2:] != tuple(n // 2 for n in size):
        return None
    before = (zeros[2], zeros[0]) if zeros else (second.padding[0], second.padding[1])
    opening = half_resolution_conv(first, (0, 0), stride=1, grows=reflect[0]) if reflect else _keeping_size(first)
    half = [nn.PixelUnshuffle(2), *opening, *map(_per_phase, pointwise), *half_resolution_conv(second, before, stride=2)]
    return _End(chain[0], rest[0], pointwise, half, approximate=False)


# --- the head: conv + PixelShuffle(2) or ConvTranspose s2 -> pointwise... -> [pad] -> conv k>=5 s1 ------------------------


def _match_head(module: fx.GraphModule, shapes: dict[str, tuple[int, ...]]) -> _End | None:
    last = _last_conv(module)
    conv = _large_conv(module, last) if last is not None else None
    if last is None or conv is None or any(n % 2 for n in shapes[last.name][2:]):
        return None
    node = last.all_input_nodes[0]
    pads = _pads(module, node, (nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d))
    approximate = pads is not None and not isinstance(layer_of(module, node), nn.ZeroPad2d)
    padding = (pads[2], pads[0]) if pads else tuple(conv.padding)
    node = node.all_input_nodes[0] if pads else node
    pointwise: list[nn.Module] = []
    while isinstance(layer := layer_of(module, node), _POINTWISE) and len(node.users) == 1:
        pointwise.insert(0, layer)
        node = node.all_input_nodes[0]
    start = _upsampling(module, node, shapes)
    if start is None or padding != tuple(k // 2 for k in conv.kernel_size):
        return None
    node, opening = start
    closing = half_resolution_conv(conv, (conv.kernel_size[0] // 2, conv.kernel_size[1] // 2), stride=1)
    half = [*opening, *map(_per_phase, pointwise), *closing, nn.PixelShuffle(2)]
    return _End(node, last, pointwise, half, approximate)


def _upsampling(
    module: fx.GraphModule, node: fx.Node, shapes: dict[str, tuple[int, ...]]
) -> tuple[fx.Node, list[nn.Module]] | None:
    """The node that doubles the resolution, `node` itself or the one that it crops, and the layers before depth-to-space."""
    crop = layer_of(module, node)
    cut = (0, 0, 0, 0)
    if isinstance(crop, Crop2d) and len(node.users) == 1:
        cut = (crop.top, crop.bottom, crop.left, crop.right)
        node = node.all_input_nodes[0]
    layer = layer_of(module, node)
    if len(node.users) != 1:
        return None
    if isinstance(layer, nn.PixelShuffle) and layer.upscale_factor == 2 and not any(cut):
        return node, []
    if isinstance(layer, nn.ConvTranspose2d) and layer.stride == (2, 2) and layer.dilation == (1, 1):
        rows, cols = shapes[node.all_input_nodes[0].name][2:]
        *opening, shuffle = as_subpixel(layer, (rows, cols), cut, aligned=True)
        return (node, opening) if isinstance(shuffle, nn.PixelShuffle) else None
    return None


def _last_conv(module: fx.GraphModule) -> fx.Node | None:
    """The convolution behind which only pointwise nodes lead to the output."""
    (node,) = next(n for n in module.graph.nodes if n.op == "output").all_input_nodes
    while not isinstance(layer_of(module, node), nn.Conv2d):
        if len(node.all_input_nodes) != 1:
            return None
        node = node.all_input_nodes[0]
        if isinstance(layer_of(module, node), (nn.PixelShuffle, nn.ConvTranspose2d, nn.Upsample)) or len(node.users) != 1:
            return None
    return node


def _large_conv(module: fx.GraphModule, node: fx.Node) -> nn.Conv2d | None:
    """The convolution that `node` calls, if it is one worth moving."""
    layer = layer_of(module, node)
    if not isinstance(layer, nn.Conv2d) or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return None
    plain = layer.groups == 1 and layer.dilation == (1, 1) and layer.stride == (1, 1)
    return layer if plain and min(layer.kernel_size) >= _MIN_KERNEL else None


def _keeping_size(conv: nn.Conv2d) -> list[nn.Module]:
    return half_resolution_conv(conv, (int(conv.padding[0]), int(conv.padding[1])), stride=1)


def _chain_from(module: fx.GraphModule, node: fx.Node) -> list[fx.Node]:
    """The nodes behind `node` as long as each has one reader that is a layer."""
    chain = []
    while len(node.users) == 1 and layer_of(module, next(iter(node.users))) is not None:
        node = next(iter(node.users))
        chain.append(node)
    return chain


def _layers(module: fx.GraphModule, nodes: list[fx.Node]) -> list[nn.Module]:
    return [layer for node in nodes if (layer := layer_of(module, node)) is not None]


def _pads(module: fx.GraphModule, node: fx.Node, kinds: tuple[type[nn.Module], ...]) -> tuple[int, int, int, int] | None:
    """The (left, right, top, bottom) of the padding layer that `node` calls; None if it is none of `kinds`."""
    layer = layer_of(module, node)
    if not isinstance(layer, kinds) or not isinstance(layer, (nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d)):
        return None
    left, right, top, bottom = layer.padding
    return (left, right, top, bottom)


def _exact(pointwise: list[nn.Module]) -> bool:
    return not any(isinstance(layer, nn.InstanceNorm2d) for layer in pointwise)


def _per_phase(layer: nn.Module) -> nn.Module:
    """Return `layer` for four phases per channel."""
    if isinstance(layer, nn.InstanceNorm2d):
        new = nn.InstanceNorm2d(layer.num_features * 4, eps=layer.eps, affine=layer.affine)
        if layer.affine:
            new.weight = nn.Parameter(layer.weight.detach().repeat_interleave(4))
            new.bias = nn.Parameter(layer.bias.detach().repeat_interleave(4))
        return new
    if isinstance(layer, nn.PReLU) and layer.num_parameters > 1:
        new = nn.PReLU(layer.num_parameters * 4)
        new.weight = nn.Parameter(layer.weight.detach().repeat_interleave(4))
        return new
    return copy.deepcopy(layer)


def _replace_chain(module: fx.GraphModule, first: fx.Node, last: fx.Node, layers: list[nn.Module]) -> None:
    """Put `layers` in place of the nodes from `first` to `last`."""
    node = first.all_input_nodes[0]
    anchor = last
    for layer in layers:
        name = f"half_{str(last.target).replace('.', '_')}"
        while hasattr(module, name):
            name += "_"
        module.add_submodule(name, layer)
        with module.graph.inserting_after(anchor):
            anchor = node = module.graph.call_module(name, (node,))
    last.replace_all_uses_with(node)
    while last is not first and not last.users:
        before = last.all_input_nodes[0]
        module.graph.erase_node(last)
        last = before
    if not first.users:
        module.graph.erase_node(first)
