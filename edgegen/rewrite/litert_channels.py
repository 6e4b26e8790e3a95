"""Depth-to-space and its kin with one transpose each: the channels of the layer next to them are reordered instead.

torch's PixelShuffle reads channels as (C, rows, cols). Where a convolution gives them as (rows, cols, C), the shuffle is a
reshape of channels-last data and one transpose; the reordered weights cost nothing. The converter's own lowering has four.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import fx, nn

from edgegen.graph import layer_of, replace_layer
from edgegen.layers import Clamp, Crop2d, DepthToSpace, Reshape, Scale
from edgegen.litert_layers import (
    BlocksToSpace,
    ChannelAffine,
    EdgePad,
    ExponentialUnit,
    FeaturesToMap,
    MeanVarianceNorm,
    SpaceToBlocks,
    UnitClamp,
)

_ELEMENTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Hardtanh,
    Scale, Clamp, UnitClamp, ExponentialUnit,
)  # fmt: skip
_ELEMENTWISE_CALLS = (F.relu, F.leaky_relu, F.tanh, F.sigmoid, torch.relu, torch.tanh, torch.sigmoid, "relu", "tanh", "sigmoid")
_PER_CHANNEL = (nn.PReLU, MeanVarianceNorm, ChannelAffine)  # need their parameters reordered when channels are
_SPATIAL = (EdgePad, Crop2d, nn.ZeroPad2d, nn.ConstantPad2d)
_Step = Callable[[fx.Node], fx.Node | None]
_Test = Callable[[fx.Node], bool]


def lower_channel_moves(module: fx.GraphModule) -> None:
    """Lower every shuffle, unshuffle and features-to-image reshape of `module` in place. The caller ends with `clean`."""
    for node in list(module.graph.nodes):
        _lower(module, node)


def _lower(module: fx.GraphModule, node: fx.Node) -> None:
    layer = layer_of(module, node)
    match layer:
        case nn.PixelShuffle():
            _lower_shuffle(module, node, layer.upscale_factor, layer.upscale_factor)
        case DepthToSpace():
            _lower_shuffle(module, node, layer.rows, layer.cols)
        case nn.PixelUnshuffle():
            factor = layer.downscale_factor
            path = _path(node, _after, lambda n: _is_convolution(module, n), lambda n: _keeps_channels(module, n))
            if path:
                conv = module.get_submodule(str(path[-1].target))
                assert isinstance(conv, nn.Conv2d)
                order = torch.arange(conv.in_channels).reshape(-1, factor, factor).permute(1, 2, 0).flatten()
                conv.weight = nn.Parameter(conv.weight.detach()[:, order])
                _reorder(module, path[:-1], order)
            replace_layer(module, node, [SpaceToBlocks(factor, ordered=bool(path))])
        case Reshape(shape=(channels, height, width)):
            path = _path(
                node, _before, lambda n: isinstance(layer_of(module, n), nn.Linear), lambda n: _is_elementwise(module, n)
            )
            if path:
                order = torch.arange(channels * height * width).reshape(channels, height, width).permute(1, 2, 0).flatten()
                _reorder(module, path, order)
                replace_layer(module, node, [FeaturesToMap((channels, height, width))])


def _lower_shuffle(module: fx.GraphModule, node: fx.Node, rows: int, cols: int) -> None:
    path = _path(node, _before, lambda n: _is_convolution(module, n), lambda n: _keeps_channels(module, n))
    if path:
        conv = module.get_submodule(str(path[-1].target))
        assert isinstance(conv, nn.Conv2d)
        _reorder(module, path, torch.arange(conv.out_channels).reshape(-1, rows, cols).permute(1, 2, 0).flatten())
    replace_layer(module, node, [BlocksToSpace(rows, cols, ordered=bool(path))])


def _reorder(module: fx.GraphModule, path: list[fx.Node], order: torch.Tensor) -> None:
    """Make every layer on `path` give (and take) its channels in `order`; the first axis of weights is the output."""
    for node in path:
        layer = layer_of(module, node)
        if isinstance(layer, (nn.Conv2d, nn.Linear, nn.PReLU)):
            axis = 0
        elif isinstance(layer, (MeanVarianceNorm, ChannelAffine)):
            axis = 1
        else:
            continue
        for name, value in list(layer.named_parameters()):
            setattr(layer, name, nn.Parameter(value.detach().index_select(axis, order)))


def _path(node: fx.Node, step: _Step, is_end: _Test, is_transparent: _Test) -> list[fx.Node]:
    """Return the nodes next to `node` in one direction up to an end, nothing else reading them; empty if none is reached."""
    path, last = [], step(node)
    while last is not None:
        path.append(last)
        if is_end(last):
            return path
        last = step(last) if is_transparent(last) else None
    return []


def _before(node: fx.Node) -> fx.Node | None:
    sources = node.all_input_nodes
    return sources[0] if len(sources) == 1 and len(sources[0].users) == 1 else None


def _after(node: fx.Node) -> fx.Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 and len(users[0].all_input_nodes) == 1 else None


def _is_convolution(module: fx.GraphModule, node: fx.Node) -> bool:
    layer = layer_of(module, node)
    return isinstance(layer, nn.Conv2d) and layer.groups == 1


def _is_elementwise(module: fx.GraphModule, node: fx.Node) -> bool:
    call = node.op in ("call_function", "call_method") and node.target in _ELEMENTWISE_CALLS
    return call or isinstance(layer_of(module, node), _ELEMENTWISE)


def _keeps_channels(module: fx.GraphModule, node: fx.Node) -> bool:
    return _is_elementwise(module, node) or isinstance(layer_of(module, node), (*_SPATIAL, *_PER_CHANNEL))
