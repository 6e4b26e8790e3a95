"""What the nodes of a generator's graph do to a tensor, in the tokens of latency models."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from edgegen import layers
from edgegen.graph import layer_of

WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
FREE = ""  # the token of what costs nothing by itself
UNKNOWN = "?"  # the token of what is not counted

_PLAIN: dict[type[nn.Module], str] = {
    nn.ReLU: "relu", nn.ReLU6: "relu6", nn.LeakyReLU: "prelu", nn.PReLU: "prelu", nn.ELU: "elu", nn.SiLU: "silu", nn.GELU: "gelu",
    nn.Tanh: "tanh", nn.Sigmoid: "sigmoid", nn.Softplus: "softplus", nn.Hardtanh: "clamp", layers.Clamp: "clamp",
    layers.Scale: "scale", nn.BatchNorm1d: "batch", nn.BatchNorm2d: "batch", nn.InstanceNorm2d: "norm", nn.Identity: FREE,
    nn.Flatten: "reshape", layers.Reshape: "reshape",
}  # fmt: skip
_FUNCTIONS: dict[Any, str] = {
    operator.add: "add", torch.add: "add", operator.sub: "sub", operator.mul: "mul", torch.mul: "mul", operator.truediv: "mul",
    operator.neg: "scale", torch.cat: "concat", torch.tanh: "tanh", F.tanh: "tanh", torch.sigmoid: "sigmoid",
    F.sigmoid: "sigmoid", torch.relu: "relu", F.relu: "relu", F.leaky_relu: "prelu", torch.clamp: "clamp",
    torch.flatten: "reshape", torch.reshape: "reshape", F.interpolate: "upsample", F.pad: "pad", F.pixel_shuffle: "shuffle",
}  # fmt: skip
_METHODS = {
    "view": "reshape", "reshape": "reshape", "flatten": "reshape", "contiguous": FREE, "float": FREE, "clamp": "clamp",
    "tanh": "tanh", "sigmoid": "sigmoid", "relu": "relu", "add": "add", "mul": "mul",
}  # fmt: skip
_MOVES_ONLY = ("shuffle", "unshuffle", "pad", "crop", "max_pool", "reshape", "concat")
_NONNEGATIVE = ("relu", "relu6", "sigmoid")


def token(module: fx.GraphModule, node: fx.Node, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return the token of a node that gives a tensor and has no weights; FREE and UNKNOWN where there is none."""
    layer = layer_of(module, node)
    source = next((shapes[n.name] for n in node.all_input_nodes if n.name in shapes), ())
    if layer is not None:
        return _PLAIN.get(type(layer)) or _layer_token(layer, source, shapes[node.name])
    name = _METHODS.get(str(node.target), UNKNOWN) if node.op == "call_method" else _FUNCTIONS.get(node.target, UNKNOWN)
    if name in ("add", "sub", "mul") and len(tensors(node, shapes)) < 2:
        return "scale"
    match name:
        case "upsample":
            mode = node.kwargs.get("mode", node.args[3] if len(node.args) > 3 else "nearest")
            return _upsample(str(mode), source, shapes[node.name])
        case "pad":
            mode = str(node.kwargs.get("mode", node.args[2] if len(node.args) > 2 else "constant"))
            padding: Any = node.kwargs.get("pad", node.args[1] if len(node.args) > 1 else ())
            return _pad(mode, tuple(padding))
        case "shuffle":
            return "shuffle {0} {0}".format(node.kwargs.get("upscale_factor", node.args[-1]))
        case _:
            return name


def _layer_token(layer: nn.Module, source: tuple[int, ...], result: tuple[int, ...]) -> str:
    match layer:
        case nn.Identity():
            return FREE
        case nn.PixelShuffle():
            return f"shuffle {layer.upscale_factor} {layer.upscale_factor}"
        case layers.DepthToSpace():
            return f"shuffle {layer.rows} {layer.cols}"
        case nn.PixelUnshuffle():
            return f"unshuffle {layer.downscale_factor}"
        case nn.ReflectionPad2d():
            return _pad("reflect", layer.padding)
        case nn.ReplicationPad2d():
            return _pad("replicate", layer.padding)
        case nn.ZeroPad2d() | nn.ConstantPad2d():
            return _pad("constant", tuple(layer.padding))
        case layers.Crop2d():
            return f"crop {layer.top} {layer.bottom} {layer.left} {layer.right}"
        case nn.Upsample():
            return _upsample(layer.mode, source, result)
        case nn.MaxPool2d() | nn.AvgPool2d():
            kernel, stride = pair(layer.kernel_size), pair(layer.stride)
            name = "max_pool" if isinstance(layer, nn.MaxPool2d) else "avg_pool"
            return f"{name} {kernel[0]} {kernel[1]} {stride[0]} {stride[1]}"
        case nn.AdaptiveAvgPool2d():
            rows, columns = (max(1, a // b) for a, b in zip(source[2:], result[2:], strict=True))
            return f"avg_pool {rows} {columns} {rows} {columns}"
        case _:
            return UNKNOWN


def _pad(mode: str, padding: tuple[Any, ...]) -> str:
    """Return the token of a border; torch's order is left, right, top, bottom."""
    if len(padding) != 4 or not all(isinstance(n, int) and n >= 0 for n in padding):
        return UNKNOWN
    left, right, top, bottom = padding
    return f"pad {'edge' if mode == 'replicate' else mode} {top} {bottom} {left} {right}"


def _upsample(mode: str, source: tuple[int, ...], result: tuple[int, ...]) -> str:
    rows, columns = (max(1, round(b / a)) for a, b in zip(source[2:], result[2:], strict=True))
    return f"upsample {'nearest' if mode.startswith('nearest') else 'linear'} {rows} {columns}"


def pair(values: Any) -> tuple[int, int]:
    """Return the vertical and the horizontal one of a setting that may be a single number."""
    return (values, values) if isinstance(values, int) else (values[0], values[1])


def tensors(node: fx.Node, shapes: Mapping[str, tuple[int, ...]]) -> list[fx.Node]:
    """Return the tensors that a node reads, each as often as it does."""
    flat = [a for arg in node.args for a in (arg if isinstance(arg, (tuple, list)) else [arg])]
    return [a for a in [*flat, *node.kwargs.values()] if isinstance(a, fx.Node) and a.name in shapes]


class Storage:
    """Where int8 stands in a quantised graph: NNCF quantises what layers and additions read, and moves that up through nodes
    that only move values. Normalisations and activations read float."""

    def __init__(self, tokens: Mapping[fx.Node, str]) -> None:
        self._tokens, self._known = tokens, dict[fx.Node, bool]()

    def wants_int8(self, reader: fx.Node) -> bool:
        """Whether `reader` takes its inputs in int8."""
        if reader.op == "output":
            return False
        name = self._tokens.get(reader, "conv").split(" ")[0]  # what has no token has weights
        if name in _MOVES_ONLY or self._tokens.get(reader, "conv") == FREE or "nearest" in self._tokens.get(reader, ""):
            return self.is_int8(reader)
        return name in ("conv", "add", "sub", "mul", "avg_pool")

    def is_int8(self, node: fx.Node) -> bool:
        """Whether the result of `node` is stored in int8: all that read it want that."""
        if node not in self._known:
            self._known[node] = bool(node.users) and all(self.wants_int8(user) for user in node.users)
        return self._known[node]

    def is_mixed(self, node: fx.Node) -> bool:
        """Whether `node` is stored in float and some of its readers need a quantised copy."""
        return not self.is_int8(node) and any(self.wants_int8(user) for user in node.users)

    def is_signed(self, node: fx.Node) -> bool:
        """Whether `node` may be below zero."""
        name = self._tokens.get(node, "conv").split(" ")[0]
        if name in _MOVES_ONLY or name == "upsample" or self._tokens.get(node) == FREE:
            return any(self.is_signed(source) for source in node.all_input_nodes)
        return name not in _NONNEGATIVE
