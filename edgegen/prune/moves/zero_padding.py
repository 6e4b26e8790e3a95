"""Zeros instead of mirrored pixels around a picture: inside nothing changes, and a pass over memory is saved.

Weights stay as they are: a fit would trade the inside, which is exact, for the border.
"""

from __future__ import annotations

import torch
from torch import fx, nn

from edgegen.generator import Generator
from edgegen.graph import layer_of
from edgegen.prune.moves.site import Samples, Site, calls, conv_like, finished

NAME = "zero_padding"
_MIRRORS = (nn.ReflectionPad2d, nn.ReplicationPad2d)


def find(module: fx.GraphModule, inputs: tuple[torch.Tensor, ...]) -> list[Site]:
    """Return every mirroring padding layer, and every convolution that mirrors by itself."""
    found = []
    for name, node in calls(module).items():
        layer = layer_of(module, node)
        if isinstance(layer, _MIRRORS) or (isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros"):
            found.append(Site(NAME, (name,), "zeros"))
    return found


@torch.no_grad()
def apply(student: Generator, site: Site, *, samples: Samples) -> Generator:
    """Return a copy that pads zeros at `site`, inside the convolution behind it where that one alone reads the padding."""
    made = student.copy()
    (name,) = site.layers
    by_name = calls(made.module)
    node = by_name[name]
    layer = layer_of(made.module, node)
    if isinstance(layer, nn.Conv2d):
        made.module.set_submodule(name, _with_padding(layer, layer.padding))
    else:
        assert isinstance(layer, _MIRRORS)
        left, right, top, bottom = layer.padding
        user = next(iter(node.users))
        conv = layer_of(made.module, user) if len(node.users) == 1 and str(user.target) in by_name else None
        if isinstance(conv, nn.Conv2d) and conv.padding == (0, 0) and left == right >= 0 and top == bottom >= 0:
            made.module.set_submodule(str(user.target), _with_padding(conv, (top, left)))
            node.replace_all_uses_with(node.all_input_nodes[0])
        else:
            made.module.set_submodule(name, nn.ZeroPad2d((left, right, top, bottom)))
    return finished(made)


def _with_padding(conv: nn.Conv2d, padding: tuple[int, ...] | str) -> nn.Conv2d:
    new = conv_like(conv, padding=padding, padding_mode="zeros")
    new.load_state_dict(conv.state_dict())
    return new
