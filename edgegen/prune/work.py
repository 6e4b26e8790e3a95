"""The layers of a generator as latency models see them, with channel counts that can be lowered without touching the module."""

from __future__ import annotations

import dataclasses

import torch
from torch import fx, nn

from edgegen.graph import layer_of, node_shapes
from edgegen.latency import LayerWork


def layer_works(module: fx.GraphModule, inputs: tuple[torch.Tensor, ...]) -> dict[str, LayerWork]:
    """Return the work of every convolution, linear layer and instance norm by layer name (the target of its call)."""
    shapes = node_shapes(module, inputs)
    works = {}
    for node in module.graph.nodes:
        layer = layer_of(module, node)
        result = shapes.get(node.name, ())
        height, width = result[2:] if len(result) == 4 else (1, 1)
        match layer:
            case nn.ConvTranspose2d() | nn.Conv2d():
                kind = "transposed" if isinstance(layer, nn.ConvTranspose2d) else "conv"
                work = LayerWork(
                    kind,
                    layer.in_channels,
                    layer.out_channels,
                    _pair(layer.kernel_size),
                    _pair(layer.stride),
                    layer.groups,
                    height,
                    width,
                )
            case nn.Linear():
                work = LayerWork("linear", layer.in_features, layer.out_features, (1, 1), (1, 1), 1, 1, 1)
            case nn.InstanceNorm2d():
                work = LayerWork("norm", result[1], result[1], (1, 1), (1, 1), 1, height, width)
            case _:
                continue
        works[str(node.target)] = work
    return works


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    return (values[0], values[1])


def with_fewer_channels(work: LayerWork, inputs: int, outputs: int) -> LayerWork:
    """Return `work` with `inputs` and `outputs` channels removed."""
    kept_in, kept_out = work.inputs - inputs, work.outputs - outputs
    if work.kind == "norm":
        return dataclasses.replace(work, inputs=kept_out, outputs=kept_out)
    groups = kept_out if work.groups == work.outputs > 1 else work.groups
    return dataclasses.replace(work, inputs=kept_out if groups == kept_out > 1 else kept_in, outputs=kept_out, groups=groups)
