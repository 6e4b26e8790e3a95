"""Snippets as generators, so that exports make of them what they make of layers inside a student.

What lies behind the layer under test reads one pixel of its result: cut out of a float one; of an int8 one by a strided 1x1
convolution, so that a layer which should store int8 does. Another tiny one follows, for exports that leave the last in float.
"""

from __future__ import annotations

import contextlib
import operator
from typing import Any

import torch
from torch import fx, nn

from edgegen.generator import Generator
from edgegen.latency.snippets import BINARY, FEED, Layer, LinearSource, Part, PassOver, Source
from edgegen.latency.work import LayerWork, Pass
from edgegen.layers import Clamp, Crop2d, DepthToSpace, Scale
from edgegen.spec import ComponentSpec, Kind, Layout, TensorSpec

_PADS = {"reflect": nn.ReflectionPad2d, "edge": nn.ReplicationPad2d, "constant": nn.ZeroPad2d}
_JOINS = {"add": operator.add, "mul": operator.mul, "sub": operator.sub}


def snippet_generator(part: Part) -> Generator:
    """Return the generator of a snippet, weights drawn from a fixed seed."""
    drawing = _Drawing()
    match part:
        case Source(channels, height, width, store):
            drawing.end(drawing.source(channels, height, width, store), int8=part.int8)
        case LinearSource(inputs):
            drawing.end(drawing.layer(nn.Linear(inputs, FEED), drawing.fed(inputs)), int8=part.int8)
        case Layer():
            _draw_layer(drawing, part)
        case PassOver(item, channels):
            _draw_pass(drawing, item, channels, part)
    return drawing.generator()


def _draw_layer(drawing: _Drawing, part: Layer) -> None:
    work, store = part.work, part.store
    match work.kind:
        case "input":
            if work.height * work.width == 1:
                drawing.results.append(drawing.layer(nn.Linear(work.inputs, FEED), drawing.fed(work.inputs)))
            else:  # all of it has to be in the layout and type of layers, whatever they read of it
                drawing.end(drawing.fed(work.inputs, work.height, work.width), int8=True)
            return
        case "output":
            drawing.results.append(drawing.source(work.outputs, work.height, work.width, "float"))
            return
        case "linear":
            value = drawing.layer(nn.Linear(work.inputs, work.outputs), drawing.fed(work.inputs))
        case "norm":
            value = drawing.ops(("norm", "relu"), drawing.source(work.inputs, work.height, work.width, "float"), "float")
        case "transposed":
            height, width = (max(1, n // by) for n, by in zip((work.height, work.width), work.stride, strict=True))
            value = drawing.layer(_transposed(work), drawing.source(work.inputs, height, width, store))
        case _:
            size = (work.height * work.stride[0], work.width * work.stride[1])
            value = drawing.source(work.inputs, *size, store)
            for layer in _convolution(work):
                value = drawing.layer(layer, value)
    drawing.end(drawing.ops(work.fused, value, store), int8=part.int8 and work.to_int8)


def _draw_pass(drawing: _Drawing, item: Pass, channels: int, part: PassOver) -> None:
    source = drawing.source(channels, item.height, item.width, part.store)
    drawing.end(drawing.ops(item.ops, source, part.store), int8=part.quantised and item.to_int8)
    drawing.end(source, int8=part.store != "float")  # something else reads it: nothing can run in the layer that writes it


def _convolution(work: LayerWork) -> list[nn.Module]:
    odd = all(k % 2 for k in work.kernel)
    rows, cols = ((k - 1) // 2 for k in work.kernel)
    conv = nn.Conv2d(
        work.inputs, work.outputs, work.kernel, work.stride, (rows, cols) if odd else 0, groups=work.groups
    )  # fmt: skip
    after = [k - 1 - b for k, b in zip(work.kernel, (rows, cols), strict=True)]
    return [conv] if odd else [nn.ZeroPad2d((cols, after[1], rows, after[0])), conv]


def _transposed(work: LayerWork) -> nn.Module:
    """Return the layer that gives `stride` times as many rows and columns."""
    (rows, more_rows), (cols, more_cols) = map(_transposed_padding, work.kernel, work.stride)
    return nn.ConvTranspose2d(
        work.inputs, work.outputs, work.kernel, work.stride, (rows, cols), (more_rows, more_cols), groups=work.groups
    )


def _transposed_padding(kernel: int, stride: int) -> tuple[int, int]:
    """Return the padding and the output padding along one axis."""
    padding = max(0, (kernel - stride + 1) // 2)
    return padding, min(stride - 1, max(0, stride - kernel + 2 * padding))


class _Drawing:
    """Collects inputs, layers and results of a graph; every node knows the shape of its value, batch included."""

    def __init__(self) -> None:
        self.results: list[fx.Node] = []
        self._root, self._graph, self._inputs = nn.Module(), fx.Graph(), list[fx.Node]()

    def fed(self, *shape: int) -> fx.Node:
        """Return an input of `shape`."""
        first = next((node for node in self._graph.nodes if node.op != "placeholder"), None)
        with self._graph.inserting_before(first) if first is not None else contextlib.nullcontext():
            node = self._graph.placeholder(f"value_{len(self._inputs)}")
        self._inputs.append(node)
        node.meta["example"] = torch.zeros(1, *shape)
        return node

    def layer(self, layer: nn.Module, *values: fx.Node) -> fx.Node:
        """Return what `layer` makes of `values`."""
        name = f"layer_{len(self._graph.nodes)}"
        self._root.add_module(name, layer.eval())
        node = self._graph.call_module(name, values)
        with torch.no_grad():
            node.meta["example"] = layer(*(value.meta["example"] for value in values))
        return node

    def source(self, channels: int, height: int, width: int, store: str) -> fx.Node:
        """Return a tensor that a 1x1 convolution writes."""
        value = self.layer(nn.Conv2d(FEED, channels, 1), self.fed(FEED, height, width))
        return value if store == "signed" else self.layer(nn.ReLU(), value)

    def ops(self, ops: tuple[str, ...], value: fx.Node, store: str) -> fx.Node:
        """Apply `ops` in order; a second operand is stored as `store`."""
        for op in ops:
            value = self._op(op, value, store)
        return value

    def _op(self, op: str, value: fx.Node, store: str) -> fx.Node:
        shape = value.meta["example"].shape
        if op == "quantise":
            return value
        if op == "concat":
            return self._call(torch.cat, (value, value), 1)
        if op in BINARY:
            other = self.source(shape[1], shape[2], shape[3], store) if len(shape) == 4 else self.fed(shape[1])
            return self._call(_JOINS[op], value, other)
        return self.layer(_layer_of(op, shape[1]), value)

    def _call(self, function: Any, *args: Any) -> fx.Node:
        node = self._graph.call_function(function, args)
        examples: Any = fx.map_arg(args, lambda given: given.meta["example"])  # nodes by what they give
        node.meta["example"] = function(*examples)
        return node

    def end(self, value: fx.Node, *, int8: bool) -> None:
        """Make one pixel, or a few features, of `value` a result."""
        shape = value.meta["example"].shape
        if len(shape) == 2:
            few = self._call(operator.getitem, value, (slice(None), slice(0, FEED)))
            value = self.layer(nn.Linear(few.meta["example"].shape[1], FEED), few)
        elif int8:
            value = self.layer(nn.Conv2d(shape[1], FEED, 1, (shape[2], shape[3])), value)
            value = self.layer(nn.Conv2d(FEED, FEED, 1), value)
        elif shape[2] * shape[3] > 1:
            value = self.layer(Crop2d(0, shape[2] - 1, 0, shape[3] - 1), value)
        self.results.append(value)

    def generator(self) -> Generator:
        """Return what was drawn."""
        self._graph.output(self.results[0] if len(self.results) == 1 else tuple(self.results))
        spec = ComponentSpec("snippet", tuple(map(_spec, self._inputs)), tuple(map(_spec, self.results)))
        module = fx.GraphModule(self._root, self._graph)
        seeded = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=seeded) * 0.2)
        return Generator(module.eval(), spec, "snippet", {}, {})


def _spec(node: fx.Node) -> TensorSpec:
    shape = tuple(node.meta["example"].shape[1:])
    return TensorSpec(node.name, Kind.NOISE, shape, Layout.CHW if len(shape) == 3 else Layout.D)


def _layer_of(op: str, channels: int) -> nn.Module:
    """Return the layer that does what a token says to a tensor of `channels`."""
    name, *numbers = op.split()
    match name:
        case "relu" | "relu6" | "tanh" | "sigmoid" | "elu" | "silu" | "gelu" | "softplus":
            found = {"relu": nn.ReLU, "relu6": nn.ReLU6, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "elu": nn.ELU, "silu": nn.SiLU,
                     "gelu": nn.GELU, "softplus": nn.Softplus}  # fmt: skip
            return found[name]()
        case "prelu":
            return nn.PReLU(channels)
        case "clamp":
            return Clamp(-1.0, 1.0)
        case "scale":
            return Scale(0.5, 0.5)
        case "norm":
            return nn.InstanceNorm2d(channels, affine=True)
        case "batch":  # a norm with fixed statistics would fold into the layer before it
            return nn.Conv2d(channels, channels, 1, groups=channels)
        case "pad":
            top, bottom, left, right = map(int, numbers[1:])
            return _PADS[numbers[0]]((left, right, top, bottom))
        case "upsample":
            across = (float(numbers[1]), float(numbers[2]))
            return nn.Upsample(scale_factor=across, mode="nearest" if numbers[0] == "nearest" else "bilinear")
    match name, *map(int, numbers):
        case "shuffle", rows, cols:
            return nn.PixelShuffle(rows) if rows == cols else DepthToSpace(rows, cols)
        case "unshuffle", factor:
            return nn.PixelUnshuffle(factor)
        case "crop", top, bottom, left, right:
            return Crop2d(top, bottom, left, right)
        case "max_pool", rows, cols, down, along:
            return nn.MaxPool2d((rows, cols), (down, along))
        case "avg_pool", rows, cols, down, along:
            return nn.AvgPool2d((rows, cols), (down, along))
        case _:
            raise ValueError(f"'{op}' is no token of a pass")
