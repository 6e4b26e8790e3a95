"""Fold BatchNorm into the convolution, transposed convolution or linear layer before it. Exact in eval mode.

before:  y = gamma * (conv(x) - mean) / sqrt(var + eps) + beta
after:   y = conv'(x)         with w' = w * gamma / sqrt(var + eps), b' = (b - mean) * gamma / sqrt(var + eps) + beta
"""

from __future__ import annotations

import copy
from collections import Counter

import torch
from torch import fx, nn

from edgegen.graph import clean, layer_of

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_LINEAR = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def fold_batch_norm(module: fx.GraphModule) -> int:
    """Fold every foldable BatchNorm of `module` in place; return how many were folded.

    A norm folds when it alone reads the layer before it and that layer is called once. One behind anything else
    becomes a depthwise 1x1 convolution.
    """
    folded = 0
    calls = Counter(node.target for node in module.graph.nodes if node.op == "call_module")
    for node in list(module.graph.nodes):
        norm = layer_of(module, node)
        if not isinstance(norm, _NORMS):
            continue
        source = node.all_input_nodes[0]
        layer = layer_of(module, source)
        scale, shift = _affine(norm)
        if isinstance(layer, _LINEAR) and len(source.users) == 1 and calls[source.target] == 1:
            module.set_submodule(str(source.target), _scaled(layer, scale, shift))
        elif isinstance(norm, nn.BatchNorm2d):
            with module.graph.inserting_after(node):
                name = f"{str(node.target).replace('.', '_')}_affine"
                module.add_submodule(name, _depthwise(scale, shift))
                new = module.graph.call_module(name, (source,))
            node.replace_all_uses_with(new)
            module.graph.erase_node(node)
            folded += 1
            continue
        else:
            continue
        node.replace_all_uses_with(source)
        module.graph.erase_node(node)
        folded += 1
    clean(module)
    return folded


def _affine(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    assert norm.running_mean is not None and norm.running_var is not None
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.affine:
        scale = scale * norm.weight.detach()
    shift = -norm.running_mean * scale
    return scale, shift + norm.bias.detach() if norm.affine else shift


def _scaled(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear, scale: torch.Tensor, shift: torch.Tensor) -> nn.Module:
    """Return a copy of `layer` whose output channels are multiplied by `scale` and moved by `shift`."""
    new = copy.deepcopy(layer)
    weight = new.weight.detach()
    if isinstance(new, nn.ConvTranspose2d):
        per_group = weight.reshape(new.groups, -1, *weight.shape[1:])
        weight = (per_group * scale.reshape(new.groups, 1, -1, 1, 1)).reshape(weight.shape)
    else:
        weight = weight * scale.reshape(-1, *([1] * (weight.dim() - 1)))
    bias = shift if new.bias is None else new.bias.detach() * scale + shift
    new.weight, new.bias = nn.Parameter(weight), nn.Parameter(bias.clone())
    return new


def _depthwise(scale: torch.Tensor, shift: torch.Tensor) -> nn.Conv2d:
    conv = nn.Conv2d(len(scale), len(scale), 1, groups=len(scale), dtype=scale.dtype)
    conv.weight, conv.bias = nn.Parameter(scale.reshape(-1, 1, 1, 1).clone()), nn.Parameter(shift.clone())
    return conv
