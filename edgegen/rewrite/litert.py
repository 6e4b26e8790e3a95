"""Lower a generator for the LiteRT converter: every construct it refuses, or that XNNPACK leaves to a slow kernel, is rewritten.

All rewrites are exact up to float rounding. The lowered graph leaves the vocabulary of `edgegen.graph`: it goes straight to
export and is not stored. What each one gains was measured on XNNPACK and is told at the layer in `litert_layers`.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from edgegen.generator import Generator
from edgegen.graph import clean, example_inputs, insert_layer, layer_of, node_shapes, replace_layer, separate_calls
from edgegen.layers import Clamp, PixelsIn, PixelsOut
from edgegen.litert_layers import (
    ChannelAffine,
    EdgePad,
    ExponentialUnit,
    MeanVarianceNorm,
    PixelsInLast,
    PixelsOutLast,
    RepeatPixels,
    UnitClamp,
    ValidConvTranspose,
)
from edgegen.rewrite.batch_norm import fold_batch_norm
from edgegen.rewrite.conv_transpose import as_subpixel
from edgegen.rewrite.litert_channels import lower_channel_moves

_EDGE_MODES = {nn.ReflectionPad2d: "reflect", nn.ReplicationPad2d: "replicate"}
_CALLS = {
    F.pixel_shuffle: ("upscale_factor",),
    F.pad: ("pad", "mode", "value"),
    F.interpolate: ("size", "scale_factor", "mode"),
    torch.clamp: ("min", "max"),
    "clamp": ("min", "max"),
}
_MOST_REPEATS = 5  # inputs of one CONCATENATION that XNNPACK takes


def lower_for_litert(generator: Generator) -> Generator:
    """Return a copy whose module computes the same in operations that convert to TFLite and are delegated to XNNPACK."""
    lowered = generator.copy()
    module = lowered.module
    separate_calls(module)
    _calls_to_layers(module)
    _fold_norms(module)
    sources = _source_shapes(module, generator)
    for node in list(module.graph.nodes):
        layer = layer_of(module, node)
        new = None if layer is None else _lowered(layer, sources.get(node.name, ()))
        if new is not None:
            replace_layer(module, node, new)
    lower_channel_moves(module)
    clean(module)
    module.eval()
    return lowered


def _calls_to_layers(module: fx.GraphModule) -> None:
    """Turn the functional forms of padding, pixel shuffle, resizing and clamping into the layers that are lowered."""
    for node in list(module.graph.nodes):
        layer = _called_layer(node)
        if layer is not None:
            new = insert_layer(module, node.name, layer, node.all_input_nodes[0])
            node.replace_all_uses_with(new)
            module.graph.erase_node(node)


def _called_layer(node: fx.Node) -> nn.Module | None:
    """Return the layer that does what the call at `node` does; None for other calls, and where a setting is computed."""
    names = _CALLS.get(node.target) if node.op in ("call_function", "call_method") else None
    if names is None or len(node.all_input_nodes) != 1:
        return None
    settings: dict[str, Any] = {**dict(zip(names, node.args[1:], strict=False)), **node.kwargs}
    if node.target is F.pixel_shuffle:
        return nn.PixelShuffle(settings["upscale_factor"])
    if node.target is F.pad and settings.get("mode") in ("reflect", "replicate", "circular"):
        return EdgePad(tuple(settings["pad"]), settings["mode"])
    if node.target is F.interpolate and str(settings.get("mode", "nearest")).startswith("nearest"):
        return nn.Upsample(settings.get("size"), settings.get("scale_factor"), settings.get("mode", "nearest"))
    if node.target in (torch.clamp, "clamp") and (settings.get("min"), settings.get("max")) == (0, 1):
        return UnitClamp()
    return None


def _fold_norms(module: fx.GraphModule) -> None:
    """Fold BatchNorm, and InstanceNorm that uses running statistics, which is the same thing in eval mode.

    A norm left behind a transposed convolution makes its bias rank 4, which XNNPACK refuses: 3 times slower on a DCGAN.
    """
    for node in module.graph.nodes:
        layer = layer_of(module, node)
        if isinstance(layer, nn.InstanceNorm2d) and layer.track_running_stats:
            assert layer.running_mean is not None
            norm = nn.BatchNorm2d(layer.num_features, layer.eps, affine=layer.affine, dtype=layer.running_mean.dtype)
            norm.load_state_dict(layer.state_dict())
            module.set_submodule(str(node.target), norm.eval())
    fold_batch_norm(module)


def _source_shapes(module: fx.GraphModule, generator: Generator) -> dict[str, tuple[int, ...]]:
    """Return the shape of the first input of every node, batch included."""
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    shapes = node_shapes(module, tuple(x.to(dtype) for x in example_inputs(generator.spec)))
    return {n.name: shapes.get(n.all_input_nodes[0].name, ()) for n in module.graph.nodes if n.all_input_nodes}


def _lowered(layer: nn.Module, source: tuple[int, ...]) -> list[nn.Module] | None:
    """Return the layers that replace `layer` on inputs of shape `source`; None if it stays as it is."""
    match layer:
        case nn.ReflectionPad2d() | nn.ReplicationPad2d():
            left, right, top, bottom = layer.padding
            return [EdgePad((left, right, top, bottom), _EDGE_MODES[type(layer)])]
        case nn.Conv2d(padding_mode="reflect" | "replicate" | "circular"):
            return _explicit_padding(layer)
        case nn.Conv2d() if _is_channel_affine(layer):
            return [ChannelAffine(layer)]
        case nn.ConvTranspose2d():
            return _lowered_transpose(layer, source)
        case nn.InstanceNorm2d():
            return [MeanVarianceNorm(layer)]
        case nn.PReLU(num_parameters=1):
            return [nn.LeakyReLU(float(layer.weight.detach()))]  # one operation instead of four
        case nn.ELU():
            return [ExponentialUnit(layer.alpha)]
        case Clamp(low=0.0, high=1.0) | nn.Hardtanh(min_val=0.0, max_val=1.0):
            return [UnitClamp()]
        case PixelsIn():
            return [PixelsInLast()]
        case PixelsOut():
            return [PixelsOutLast(layer.factor, layer.offset)]
        case nn.Upsample():
            return _repeats(layer, source)
        case _:
            return None


def _explicit_padding(layer: nn.Conv2d) -> list[nn.Module]:
    left, right, top, bottom = (int(n) for n in layer._reversed_padding_repeated_twice)
    conv = copy.deepcopy(layer)
    conv.padding, conv.padding_mode = (0, 0), "zeros"
    conv._reversed_padding_repeated_twice = [0, 0, 0, 0]
    return [EdgePad((left, right, top, bottom), layer.padding_mode), conv]


def _is_channel_affine(layer: nn.Conv2d) -> bool:
    single = layer.kernel_size == (1, 1) and layer.stride == (1, 1) and layer.padding in ((0, 0), "same", "valid")
    return single and layer.groups == layer.in_channels == layer.out_channels


def _lowered_transpose(layer: nn.ConvTranspose2d, source: tuple[int, ...]) -> list[nn.Module] | None:
    """Keep what TFLite's SAME and VALID express; a grouped one would explode into one operation per channel."""
    if layer.groups > 1 and layer.dilation == (1, 1):
        return as_subpixel(layer, (source[2], source[3]))
    axes = [(k, s, int(p)) for k, s, p in zip(layer.kernel_size, layer.stride, layer.padding, strict=True)]
    plain = layer.dilation == (1, 1) and layer.output_padding == (0, 0)
    valid = all(p == 0 and k >= s for k, s, p in axes)
    same = all(k - 2 * p == s for k, s, p in axes)
    return None if plain and (valid or same) else [ValidConvTranspose(layer)]


def _repeats(layer: nn.Upsample, source: tuple[int, ...]) -> list[nn.Module] | None:
    """Return nearest upsampling by whole factors as repeated pixels; None for other modes and factors."""
    if not str(layer.mode).startswith("nearest") or len(source) != 4:
        return None
    if layer.size is not None:
        height, width = layer.size if isinstance(layer.size, tuple) else (layer.size, layer.size)
        factors = (height / source[2], width / source[3])
    else:
        across = layer.scale_factor
        factors = across if isinstance(across, tuple) else (float(across or 1), float(across or 1))
    if any(f != int(f) or f < 1 for f in factors):
        return None
    rows, cols = (_small_factors(int(f)) for f in factors)
    if rows is None or cols is None:
        return None
    return [RepeatPixels(r, c) for r, c in itertools.zip_longest(rows, cols, fillvalue=1)]


def _small_factors(number: int) -> list[int] | None:
    """Return factors of `number` of at most 5 each; None if there are none."""
    found = []
    while number > 1:
        factor = next((f for f in range(_MOST_REPEATS, 1, -1) if number % f == 0), None)
        if factor is None:
            return None
        found.append(factor)
        number //= factor
    return found
