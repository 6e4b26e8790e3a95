"""A large kernel becomes a smaller one, fitted to what the large one gave; the padding shrinks with it."""

from __future__ import annotations

import torch
from torch import fx, nn

from edgegen.generator import Generator
from edgegen.graph import layer_of
from edgegen.prune.least_squares import fit_layer
from edgegen.prune.moves.activations import RIDGE, ROWS, activations
from edgegen.prune.moves.site import PADS, Samples, Site, calls, conv_like, finished

NAME = "smaller_kernel"
_SIZES = (7, 5, 3)
_MIN_KERNEL = 5


def find(module: fx.GraphModule, inputs: tuple[torch.Tensor, ...]) -> list[Site]:
    """Return every square convolution of 5x5 taps or more, once per smaller odd size that its padding allows."""
    found = []
    for name, node in calls(module).items():
        conv = layer_of(module, node)
        if not isinstance(conv, nn.Conv2d) or isinstance(conv.padding, str) or conv.dilation != (1, 1):
            continue
        size = conv.kernel_size[0]
        if conv.kernel_size != (size, size) or size < _MIN_KERNEL or size % 2 == 0:
            continue
        spare = min(conv.padding) if any(conv.padding) else _padding_before(module, node)
        found += [Site(NAME, (name,), f"{n}x{n}") for n in _SIZES if n < size and (size - n) // 2 <= spare]
    return found


@torch.no_grad()
def apply(student: Generator, site: Site, *, samples: Samples) -> Generator:
    """Return a copy with the smaller kernel at `site`, started from the middle of the large one."""
    made = student.copy()
    (name,) = site.layers
    node = calls(made.module)[name]
    large = layer_of(made.module, node)
    assert isinstance(large, nn.Conv2d) and not isinstance(large.padding, str)
    size = int(site.form.split("x")[0])
    cut = (large.kernel_size[0] - size) // 2
    (source,) = node.all_input_nodes
    targets = [y for (y,) in activations(made.module, [node], samples)]
    if any(large.padding):
        small = conv_like(large, kernel_size=(size, size), padding=(large.padding[0] - cut, large.padding[1] - cut))
    else:
        small = conv_like(large, kernel_size=(size, size))
        pad = layer_of(made.module, source)
        assert isinstance(pad, PADS)
        left, right, top, bottom = pad.padding
        made.module.set_submodule(str(source.target), type(pad)((left - cut, right - cut, top - cut, bottom - cut)))
    small.weight.copy_(large.weight[:, :, cut : cut + size, cut : cut + size])
    if small.bias is not None and large.bias is not None:
        small.bias.copy_(large.bias)
    made.module.set_submodule(name, small)
    sources = [x for (x,) in activations(made.module, [source], samples)]
    fit_layer(small, list(zip(sources, targets, strict=True)), ridge=RIDGE, rows=ROWS)
    return finished(made)


def _padding_before(module: fx.GraphModule, node: fx.Node) -> int:
    """Return how much the padding layer in front can shrink on all sides; 0 if there is none that only `node` reads."""
    source = node.all_input_nodes[0]
    pad = layer_of(module, source)
    alone = len(source.users) == 1 and str(source.target) in calls(module)
    return min(pad.padding) if isinstance(pad, PADS) and alone else 0
