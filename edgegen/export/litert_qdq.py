"""A lowered generator with explicit Q/DQ in it, for the converter to make int8 of: LiteRT's second form of int8.

Against the static form (`litert_quantize`), what lies between static layers stays in int8: sums, concatenations, activations,
moves. Layers that should give floats (in front of norms, and the last) get no Q/DQ; ai-edge-quantizer makes them dynamic.
torchao's PT2E annotates neither transposed convolutions nor lone activations, and its QAT preparation breaks on this converter
(ValueError: Expected mod to be an instance of torch.nn.Module), so the nodes are placed here.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import fx, nn

from edgegen.graph import layer_of
from edgegen.layers import Crop2d, Reshape
from edgegen.litert_layers import (
    BlocksToSpace,
    EdgePad,
    FeaturesToMap,
    MeanVarianceNorm,
    RepeatPixels,
    SpaceToBlocks,
    ValidConvTranspose,
)
from edgegen.ranges import Estimator, Histogram, LearnedRange, Range, estimate_range, histogram, merged, weight_digest

if TYPE_CHECKING:
    import numpy as np

    from edgegen.generator import Generator

_WITH_QDQ = (nn.Conv2d, nn.Linear)  # a transposed convolution with Q/DQ on its weight stays in float: the converter rounds it
_LAYERS = (*_WITH_QDQ, nn.ConvTranspose2d, ValidConvTranspose)
_MOVES = (BlocksToSpace, Crop2d, EdgePad, FeaturesToMap, RepeatPixels, Reshape, SpaceToBlocks, nn.Flatten, nn.ZeroPad2d)
_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU)
_JOINS = (operator.add, torch.add, torch.cat)
_LOWEST, _HIGHEST = -128, 127
_SMALLEST = 1e-6


class RoundedTensor(nn.Module):
    """Q and DQ over one range that contains 0: 256 levels, as LiteRT has them."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        low, high = min(low, 0.0), max(high, _SMALLEST)
        self.scale = (high - low) / (_HIGHEST - _LOWEST)
        self.zero = min(_HIGHEST, max(_LOWEST, round(_LOWEST - low / self.scale)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x` of any shape on its grid."""
        from torch.ao.quantization.fx import _decomposed  # noqa: F401  registers what the converter knows as Q and DQ

        steps, to = torch.ops.quantized_decomposed, (self.scale, self.zero, _LOWEST, _HIGHEST, torch.int8)
        return steps.dequantize_per_tensor(steps.quantize_per_tensor(x, *to), *to)


class RoundedLayer(nn.Module):
    """A convolution or linear layer whose weight has Q and DQ, one scale per output channel."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        weight = layer.get_parameter("weight").detach()
        scale = (weight.abs().amax(dim=tuple(range(1, weight.dim()))) / _HIGHEST).clamp_min(1e-12)
        self.register_buffer("scale", scale)
        self.register_buffer("zero", torch.zeros_like(scale, dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map what the layer maps."""
        steps, layer = torch.ops.quantized_decomposed, self.layer
        to = (self.scale, self.zero, 0, -_HIGHEST, _HIGHEST, torch.int8)
        weight = steps.dequantize_per_channel(steps.quantize_per_channel(layer.weight, *to), *to)
        if isinstance(layer, nn.Linear):
            return F.linear(x, weight, layer.bias)
        assert isinstance(layer, nn.Conv2d)
        return F.conv2d(x, weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)  # type: ignore[arg-type]


def with_qdq(
    generator: Generator, samples: Sequence[tuple[np.ndarray, ...]], way: Estimator, learned: Sequence[LearnedRange] = ()
) -> Generator:
    """Return a copy of a generator lowered for LiteRT with Q/DQ around what should compute in int8.

    `samples` are inputs with batch axis 1: `way` finds the ranges in what they cause; `learned` ranges replace those at the
    inputs of their layers.
    """
    made = generator.copy()
    module = made.module
    static = _static_layers(module)
    rounded = list(_rounded(module, static))
    roots = {node: _root(module, node) for node in rounded}
    ranges = {
        name: estimate_range(one, way) for name, one in _histograms(module, samples, {r.name for r in roots.values()}).items()
    }
    ranges |= _learned(module, static, learned)
    for node in static:
        layer = layer_of(module, node)
        if isinstance(layer, _WITH_QDQ):
            module.set_submodule(str(node.target), RoundedLayer(layer))
    for index, node in enumerate(rounded):
        name = f"rounded_{index}"
        module.add_submodule(name, RoundedTensor(*ranges.get(roots[node].name, (0.0, 0.0))))
        with module.graph.inserting_after(node):
            new = module.graph.call_module(name, (node,))
        node.replace_all_uses_with(new, delete_user_cb=lambda user, new=new: user is not new)
    module.graph.lint()
    module.recompile()
    return made


def _static_layers(module: fx.GraphModule) -> list[fx.Node]:
    """Return the layers for static int8: not those in front of a norm nor those that no layer follows, but depthwise ones always.

    `litert_graph.plan_int8` tells the same of a file, and why.
    """
    leads_to_layer, leads_to_norm, static = set(), set(), []
    for node in reversed(module.graph.nodes):
        for user in node.users:
            layer = layer_of(module, user)
            if user in leads_to_layer or isinstance(layer, _LAYERS):
                leads_to_layer.add(node)
            if isinstance(layer, MeanVarianceNorm) or (user in leads_to_norm and isinstance(layer, _MOVES)):
                leads_to_norm.add(node)
        layer = layer_of(module, node)
        depthwise = isinstance(layer, nn.Conv2d) and 1 < layer.groups == layer.in_channels
        if isinstance(layer, _LAYERS) and (depthwise or (node in leads_to_layer and node not in leads_to_norm)):
            static.append(node)
    return static[::-1]


def _rounded(module: fx.GraphModule, static: Sequence[fx.Node]) -> Iterator[fx.Node]:
    """Yield the nodes whose values become int8, in graph order: all that static layers read, and what lies between two."""
    within, read = set(static), {source for node in static for source in node.all_input_nodes}
    for node in module.graph.nodes:
        passes = isinstance(layer_of(module, node), (*_MOVES, *_ACTIVATIONS)) or node.target in (*_JOINS, F.relu, torch.relu)
        if passes and node.all_input_nodes and all(source in within or source in read for source in node.all_input_nodes):
            within.add(node)
        fuses = node in static and len(node.users) == 1 and _is_relu(module, next(iter(node.users)))
        if (node in within or node in read) and not fuses:
            yield node


def _is_relu(module: fx.GraphModule, node: fx.Node) -> bool:
    return isinstance(layer_of(module, node), nn.ReLU) or node.target in (F.relu, torch.relu, "relu")


def _root(module: fx.GraphModule, node: fx.Node) -> fx.Node:
    """Return the node whose values `node` moves about: the two share a range."""
    while isinstance(layer_of(module, node), _MOVES):
        node = node.all_input_nodes[0]
    return node


@torch.no_grad()
def _histograms(module: fx.GraphModule, samples: Sequence[tuple[np.ndarray, ...]], names: set[str]) -> dict[str, Histogram]:
    """Return how the values of the nodes `names` spread over all samples."""
    ends: dict[str, Range] = {}
    found: dict[str, Histogram] = {}

    class Watch(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            value = super().run_node(n)
            if n.name in names and isinstance(value, torch.Tensor):
                self.see(n.name, value)
            return value

        def see(self, name: str, value: torch.Tensor) -> None:
            low, high = ends.get(name, (0.0, 0.0))
            ends[name] = min(low, float(value.min())), max(high, float(value.max()))

    class Count(Watch):
        def see(self, name: str, value: torch.Tensor) -> None:
            one = histogram(value.numpy(), *ends[name])
            found[name] = merged([found[name], one]) if name in found else one

    for kind in (Watch, Count):
        for item in samples:
            kind(module).run(*(torch.from_numpy(array) for array in item))
    return found


def _learned(module: fx.GraphModule, static: Sequence[fx.Node], learned: Sequence[LearnedRange]) -> Mapping[str, Range]:
    """Return the learned ranges by the node that they are of; where two layers read one tensor the wider range counts."""
    by_weight = {one.weight_digest: one for one in learned}
    found: dict[str, Range] = {}
    for node in static if learned else ():
        layer = layer_of(module, node)
        assert layer is not None
        one = by_weight.get(weight_digest(layer.get_parameter("weight").detach().numpy()))
        if one is not None:
            name = _root(module, node.all_input_nodes[0]).name
            low, high = found.get(name, (one.low, one.high))
            found[name] = min(low, one.low), max(high, one.high)
    return found
