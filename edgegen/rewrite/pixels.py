"""Pixels in, pixels out: fold value ranges and the tanh head so that the artifact takes and gives uint8 NHWC pictures.

before:  image float NCHW in [low, high] -> conv ... conv -> tanh -> image float NCHW in [-1, 1]
after:   picture uint8 NHWC -> conv' ... conv'' -> 255 * sigmoid -> picture uint8 NHWC

The scale of the input range moves into the first convolution's weights (its offset stays one addition, because zero padding
comes before it). tanh(x) = 2 sigmoid(2x) - 1 turns a tanh head on [-1, 1] into 255 * sigmoid(2x), with the 2 in the last weights.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import fx, nn

from edgegen.generator import Generator
from edgegen.graph import clean, insert_layer, layer_of, replace_layer
from edgegen.layers import PixelsIn, PixelsOut, Scale
from edgegen.spec import Kind, Layout, TensorSpec


def takes_and_gives_pixels(generator: Generator) -> Generator:
    """Return a copy whose image inputs and outputs are uint8 (N, H, W, C) pictures; other inputs stay as they are."""
    made = generator.copy()
    inputs = tuple(_open_input(made.module, index, spec) for index, spec in enumerate(made.spec.inputs))
    outputs = tuple(_close_output(made.module, spec) for spec in made.spec.outputs)
    clean(made.module)
    return dataclasses.replace(made, spec=dataclasses.replace(made.spec, inputs=inputs, outputs=outputs))


def _is_picture(spec: TensorSpec) -> bool:
    return spec.kind is Kind.IMAGE and spec.layout is Layout.CHW and spec.low is not None and spec.high is not None


def _range(spec: TensorSpec) -> tuple[float, float]:
    assert spec.low is not None and spec.high is not None
    return spec.low, spec.high


def _as_pixels(spec: TensorSpec) -> TensorSpec:
    channels, height, width = spec.shape
    return dataclasses.replace(spec, shape=(height, width, channels), layout=Layout.HWC, dtype="uint8", low=0.0, high=255.0)


def _open_input(module: fx.GraphModule, index: int, spec: TensorSpec) -> TensorSpec:
    if not _is_picture(spec):
        return spec
    node = [n for n in module.graph.nodes if n.op == "placeholder"][index]
    low, high = _range(spec)
    factor, offset = (high - low) / 255, low
    readers = list(node.users)
    converted = insert_layer(module, f"{node.name}_pixels_in", PixelsIn(), node)
    for reader in readers:
        reader.replace_input_with(node, converted)
    conv_node = readers[0] if len(readers) == 1 else None
    conv = layer_of(module, conv_node) if conv_node is not None else None
    if isinstance(conv, nn.Conv2d) and offset == 0 and factor != 1:
        with torch.no_grad():
            conv.weight.mul_(factor)
    elif factor != 1 or offset != 0:
        scaled = insert_layer(module, f"{node.name}_range", Scale(factor, offset), converted)
        for reader in readers:
            reader.replace_input_with(converted, scaled)
    return _as_pixels(spec)


def _close_output(module: fx.GraphModule, spec: TensorSpec) -> TensorSpec:
    if not _is_picture(spec):
        return spec
    output = next(n for n in module.graph.nodes if n.op == "output")
    (last,) = output.all_input_nodes
    if (spec.low, spec.high) == (-1.0, 1.0) and _fold_tanh(module, last):
        (last,) = output.all_input_nodes
        low, high = 0.0, 1.0
    else:
        low, high = _range(spec)
    done = insert_layer(module, "pixels_out", PixelsOut(255 / (high - low), -low * 255 / (high - low)), last)
    output.replace_input_with(last, done)
    return _as_pixels(spec)


def _fold_tanh(module: fx.GraphModule, node: fx.Node) -> bool:
    """Turn conv -> tanh into conv' -> sigmoid, conv' = 2 conv. Only where the convolution feeds nothing else."""
    if not isinstance(layer_of(module, node), nn.Tanh):
        return False
    source = node.all_input_nodes[0]
    while isinstance(layer_of(module, source), (nn.PixelShuffle,)) and len(source.users) == 1:
        source = source.all_input_nodes[0]
    conv = layer_of(module, source)
    if not isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d)) or len(source.users) != 1:
        return False
    with torch.no_grad():
        conv.weight.mul_(2)
        if conv.bias is not None:
            conv.bias.mul_(2)
    replace_layer(module, node, [nn.Sigmoid()])
    return True
