"""A head at half resolution: a 5x5 convolution and PixelShuffle for [upsampling, norm, activation, large convolution].

Forms: "5x5" is a single convolution before the shuffle, started from the teacher's two with the best affine map for what lies
between; "5x5, hidden" keeps norm and activation, at half resolution, over as many channels as the teacher has at full. A head
that already ends in a PixelShuffle goes one step further down: a x4 super-resolver can end up computing at its input's size only.
"""

from __future__ import annotations

import dataclasses
import operator

import torch
import torch.nn.functional as F
from torch import fx, nn

from edgegen.generator import Generator
from edgegen.graph import insert_layer, layer_of
from edgegen.layers import Clamp, Crop2d, Scale
from edgegen.prune.least_squares import fit_layer
from edgegen.prune.moves.activations import RIDGE, ROWS, activations, nearest_affine, through
from edgegen.prune.moves.equal_conv import equal_conv
from edgegen.prune.moves.hidden import per_phase, two_layers
from edgegen.prune.moves.site import NORMS, PADS, POINTWISE, Samples, Site, calls, finished, plain_conv, shapes_of

NAME = "half_head"
_FORMS = ("5x5", "5x5, hidden")
_MIN_KERNEL = 5
_TAPS = 5
_ELEMENTWISE = (
    torch.tanh, torch.sigmoid, torch.relu, torch.clamp, F.tanh, F.sigmoid, F.relu, "tanh", "sigmoid", "relu", "clamp",
    operator.add, operator.sub, operator.mul, operator.truediv, torch.add, torch.mul, "add", "mul",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Head:
    """The nodes of a head in graph order; `scale` is by how much its opening enlarges, `tail` the shuffle behind it."""

    entry: fx.Node
    opening: list[fx.Node]  # [pad?, convolution, shuffle] | [transposed, crop?] | [upsampling, pad?, convolution] | [pad?, conv]
    inner: list[fx.Node]
    closing: list[fx.Node]  # [pad?, convolution, PixelShuffle?]
    scale: int
    factor: int  # of the whole head: `scale` times that of the shuffle behind


def find(module: fx.GraphModule, inputs: tuple[torch.Tensor, ...]) -> list[Site]:
    """Return the head of `module` in both forms; nothing if it has none."""
    head, shapes = _head(module), shapes_of(module, inputs)
    if head is None:
        return []
    coarse, fine, picture = (shapes[n.name] for n in (head.entry, head.opening[-1], head.closing[-1]))
    enlarged = tuple(n * head.scale for n in coarse[2:]) == fine[2:]
    if not enlarged or tuple(n * head.factor for n in coarse[2:]) != picture[2:]:
        return []
    layers = tuple(str(n.target) for n in (*head.opening, *head.closing) if _weighted(module, n))
    return [Site(NAME, (layers[0], layers[-1]), form) for form in _FORMS]


@torch.no_grad()
def apply(student: Generator, site: Site, *, samples: Samples) -> Generator:
    """Return a copy with the head at `site` replaced."""
    made = student.copy()
    module = made.module
    head = _head(module)
    assert head is not None
    last, factor = head.closing[-1], head.factor
    values = activations(module, [head.entry, head.opening[-1], head.closing[0].all_input_nodes[0], last], samples)
    pairs = [(x, F.pixel_unshuffle(y, factor)) for x, _, _, y in values]
    opening, inner, closing = ([_layer(module, n) for n in nodes] for nodes in (head.opening, head.inner, head.closing))
    if site.form == "5x5":
        scale, shift = (v.reshape(1, -1, 1, 1) for v in nearest_affine([(a, b) for _, a, b, _ in values]))
        conv, _ = equal_conv(
            lambda x: F.pixel_unshuffle(through(closing, through(opening, x) * scale + shift), factor),
            pairs[0][0].shape[1],
            _TAPS,
        )
        fit_layer(conv, pairs, ridge=RIDGE, rows=ROWS)
        layers: list[nn.Module] = [conv]
    else:
        layers = _hidden(head, opening, inner, closing, pairs)
    node, name = head.entry, site.layers[-1]
    for layer in [*layers, nn.PixelShuffle(factor)]:
        node = insert_layer(module, f"{name}_half", layer, node)
    last.replace_all_uses_with(node)
    return finished(made)


def _hidden(head: _Head, opening, inner, closing, pairs) -> list[nn.Module]:
    """Opening, norm and activation, closing on the entry's grid, over a quarter of the values."""
    scale, factor = head.scale, head.factor
    channels = pairs[0][0].shape[1]
    first, _ = equal_conv(lambda x: _gathered(through(opening, x), scale), channels, _TAPS)
    width = first.out_channels // 4
    middle = [per_phase(layer, scale * scale) for layer in inner]
    last, _ = equal_conv(lambda z: F.pixel_unshuffle(through(closing, _spread(z, scale)), factor), first.out_channels, _TAPS)
    return two_layers(_trimmed(first), middle, last, pairs, width=width, alike=False)


def _gathered(value: torch.Tensor, scale: int) -> torch.Tensor:
    return F.pixel_unshuffle(value, scale) if scale > 1 else value


def _spread(value: torch.Tensor, scale: int) -> torch.Tensor:
    return F.pixel_shuffle(value, scale) if scale > 1 else value


def _trimmed(conv: nn.Conv2d) -> nn.Conv2d:
    """Return `conv` without a rim of taps that are all zero."""
    weight = conv.weight
    while weight.shape[2] > 1 and not _rim(weight):
        weight = weight[:, :, 1:-1, 1:-1]
    new = nn.Conv2d(conv.in_channels, conv.out_channels, weight.shape[2], padding=weight.shape[2] // 2)
    new.weight, new.bias = nn.Parameter(weight.clone()), conv.bias
    return new


def _rim(weight: torch.Tensor) -> bool:
    """Whether the outermost taps hold any energy beyond float32 rounding."""
    rim = weight.clone()
    rim[:, :, 1:-1, 1:-1] = 0
    return bool(rim.square().sum() > 1e-10 * weight.square().sum())


# --- recognising a head, from the output back ---------------------------------------------------------------------------


def _head(module: fx.GraphModule) -> _Head | None:
    once = set(calls(module).values())
    outputs = next(n for n in module.graph.nodes if n.op == "output").all_input_nodes
    if len(outputs) != 1:
        return None
    chain, node = [], outputs[0]
    while node.op in ("call_function", "call_method") and node.target in _ELEMENTWISE and len(node.all_input_nodes) == 1:
        node = node.all_input_nodes[0]
    while node in once and len(node.users) == 1:
        chain.append(node)
        node = node.all_input_nodes[0]
    while chain and isinstance(layer_of(module, chain[0]), (*NORMS, *POINTWISE, Scale, Clamp)):
        chain.pop(0)
    return _read(module, chain)


def _read(module: fx.GraphModule, chain: list[fx.Node]) -> _Head | None:
    """Split `chain`, the last layer first, into the parts of a head; None if it is none."""
    layers = [_layer(module, node) for node in chain]
    shuffle = layers[0] if layers else None
    tail = shuffle.upscale_factor if isinstance(shuffle, nn.PixelShuffle) else 1
    at = int(tail > 1)
    conv = plain_conv(layers[at]) if len(layers) > at else None
    if conv is None or conv.stride != (1, 1) or min(conv.kernel_size) < _MIN_KERNEL:
        return None
    at += 1 + int(len(layers) > at + 1 and isinstance(layers[at + 1], PADS))
    start = at
    while at < len(layers) and isinstance(layers[at], (*NORMS, *POINTWISE)):
        at += 1
    length, scale = _opening(layers[at:])
    if not length or (scale == 1 and tail == 1):
        return None
    opening, inner, closing = (chain[a:b][::-1] for a, b in ((at, at + length), (start, at), (0, start)))
    return _Head(opening[0].all_input_nodes[0], opening, inner, closing, scale, scale * tail)


def _opening(layers: list[nn.Module]) -> tuple[int, int]:
    """How many of `layers`, the last first, enlarge or mix before the head's middle, and by how much; (0, 1) if none do."""
    kinds = [*layers, nn.Identity(), nn.Identity(), nn.Identity()]
    crop = int(isinstance(kinds[0], Crop2d))
    first = kinds[crop]
    if isinstance(first, nn.ConvTranspose2d) and first.stride == (2, 2) and first.groups == 1:
        return crop + 1, 2
    shuffled = int(isinstance(kinds[0], nn.PixelShuffle) and kinds[0].upscale_factor == 2)
    conv = plain_conv(kinds[shuffled])
    if conv is None or conv.stride != (1, 1):
        return 0, 1
    length = shuffled + 1 + int(isinstance(kinds[shuffled + 1], PADS))
    above = kinds[length]
    if not shuffled and isinstance(above, nn.Upsample) and above.scale_factor in (2, 2.0, (2, 2), (2.0, 2.0)):
        return length + 1, 2
    return length, 2 if shuffled else 1


def _weighted(module: fx.GraphModule, node: fx.Node) -> bool:
    return isinstance(layer_of(module, node), (nn.Conv2d, nn.ConvTranspose2d))


def _layer(module: fx.GraphModule, node: fx.Node) -> nn.Module:
    layer = layer_of(module, node)
    assert layer is not None
    return layer
