"""Snippets as OpenVINO models, in the types and the layout that layers have inside a generator.

A pooling of one pixel keeps the result from being handed over. int8 stands where NNCF's mixed preset puts it on an OpenVINO
graph: unsigned after a ReLU, with a zero point otherwise, weights per channel; what the plug-in fuses and which kernels it takes
is then its own affair.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgegen.latency.openvino_norms import with_planar_norms
from edgegen.latency.snippets import ACTIVATIONS, FEED, Layer, LinearSource, Part, PassOver, Source, gives_signed
from edgegen.latency.work import LayerWork, Pass


def openvino_model(part: Part) -> Any:
    """Return the model of a snippet."""
    match part:
        case Source(channels, height, width, store):
            return _Snippet().model(lambda s: s.source(channels, height, width, store), pooled=True)
        case LinearSource(inputs, int8):
            return _Snippet().model(lambda s: s.linear(s.fed([inputs], int8), inputs, FEED, int8), pooled=False)
        case Layer(work, int8):
            return layer_model(work, int8=int8)
        case PassOver(item, channels, quantised):
            return _pass_model(item, channels, part.store, quantised=quantised)


def layer_model(work: LayerWork, *, int8: bool) -> Any:
    """Return the model of a layer with what is fused into it: weighted kinds, "norm", "input" and "output"."""
    store = Layer(work, int8).store

    def build(s: _Snippet) -> Any:
        match work.kind:
            case "input":
                flat = work.height * work.width == 1
                return s.one_pixel(s.fed([work.inputs] if flat else [work.inputs, work.height, work.width], int8), int8)
            case "output":
                return s.source(work.outputs, work.height, work.width, "float")
            case "linear":
                value = s.linear(s.fed([work.inputs], int8), work.inputs, work.outputs, int8)
            case "norm":
                return s.ops(("norm", "relu"), s.source(work.inputs, work.height, work.width, "float"), "float")
            case "transposed":
                height, width = (max(1, n // by) for n, by in zip((work.height, work.width), work.stride, strict=True))
                value = s.transposed(work, s.source(work.inputs, height, width, store), int8)
            case _:
                source = s.source(work.inputs, work.height * work.stride[0], work.width * work.stride[1], store)
                value = s.convolution(work, source, int8)
        value = s.ops(work.fused, value, "signed" if int8 else "float")
        return s.quantised(value, signed=gives_signed(work.fused)) if int8 and work.to_int8 else value

    return _Snippet().model(build, pooled=work.kind in ("conv", "transposed", "norm"))


def _pass_model(item: Pass, channels: int, store: str, *, quantised: bool) -> Any:
    def build(s: _Snippet) -> Any:
        source = s.read_twice(s.source(channels, item.height, item.width, store))
        value = s.ops(item.ops, source, store)
        return s.quantised(value, signed=gives_signed(item.ops)) if quantised and item.to_int8 and not item.from_int8 else value

    return _Snippet().model(build, pooled=True)


class _Snippet:
    """Collects the inputs of a model while it is built."""

    def __init__(self) -> None:
        self._rng, self._inputs, self._results = np.random.default_rng(0), list[Any](), list[Any]()

    def model(self, build: Any, *, pooled: bool) -> Any:
        from openvino import Model

        value = build(self)
        make: Any = Model  # its stub and its implementation disagree about themselves
        return with_planar_norms(make([self._pooled(value) if pooled else value, *self._results], self._inputs))

    def read_twice(self, value: Any) -> Any:
        """Let something else read `value` too, so that nothing can run in the layer that writes it."""
        self._results.append(self._pooled(value))
        return value

    def fed(self, shape: list[int], int8: bool) -> Any:
        """Return a float input of `shape` (batch 1 in front), quantised if wanted."""
        from openvino import opset13

        self._inputs.append(opset13.parameter([1, *shape], np.float32))
        return self.quantised(self._inputs[-1], signed=True) if int8 else self._inputs[-1]

    def source(self, channels: int, height: int, width: int, store: str) -> Any:
        """Return a tensor that a 1x1 convolution writes."""
        from openvino import opset13

        int8 = store != "float"
        weight = self._weight((channels, FEED, 1, 1), int8, axis=0)
        value = opset13.convolution(self.fed([FEED, height, width], int8), weight, [1, 1], [0, 0], [0, 0], [1, 1])
        value = opset13.add(value, self._constant((1, channels, 1, 1)))
        if store == "signed":
            return self.quantised(value, signed=True)
        value = opset13.relu(value)
        return self.quantised(value, signed=False) if int8 else value

    def convolution(self, work: LayerWork, value: Any, int8: bool) -> Any:
        from openvino import opset13

        before = [(k - 1) // 2 for k in work.kernel]
        after = [k - 1 - b for k, b in zip(work.kernel, before, strict=True)]
        weight = self._weight((work.outputs, work.inputs // work.groups, *work.kernel), int8, axis=0)
        if work.groups > 1:
            shape = [work.groups, work.outputs // work.groups, work.inputs // work.groups, *work.kernel]
            weight = opset13.reshape(weight, opset13.constant(np.array(shape)), False)
            value = opset13.group_convolution(value, weight, list(work.stride), before, after, [1, 1])
        else:
            value = opset13.convolution(value, weight, list(work.stride), before, after, [1, 1])
        return opset13.add(value, self._constant((1, work.outputs, 1, 1)))

    def transposed(self, work: LayerWork, value: Any, int8: bool) -> Any:
        from openvino import opset13

        pads = [max(0, (k - s + 1) // 2) for k, s in zip(work.kernel, work.stride, strict=True)]
        per_group = (work.inputs // work.groups, work.outputs // work.groups)
        if work.groups > 1:
            weight = self._weight((work.groups, *per_group, *work.kernel), int8, axis=0)
            value = opset13.group_convolution_backprop_data(value, weight, list(work.stride), None, pads, pads, [1, 1])
        else:
            weight = self._weight((*per_group, *work.kernel), int8, axis=1)
            value = opset13.convolution_backprop_data(value, weight, list(work.stride), None, pads, pads, [1, 1])
        return opset13.add(value, self._constant((1, work.outputs, 1, 1)))

    def linear(self, value: Any, inputs: int, outputs: int, int8: bool) -> Any:
        from openvino import opset13

        value = opset13.matmul(value, self._weight((outputs, inputs), int8, axis=0), False, True)
        return opset13.add(value, self._constant((1, outputs)))

    def one_pixel(self, value: Any, int8: bool) -> Any:
        """Return a layer that reads one pixel of an input: all of it has to be in the layout and type of layers then."""
        from openvino import opset13

        shape = list(value.get_output_shape(0))
        if len(shape) == 2:
            return self.linear(value, shape[1], FEED, int8)
        weight = self._weight((FEED, shape[1], 1, 1), int8, axis=0)
        return opset13.convolution(value, weight, shape[2:], [0, 0], [0, 0], [1, 1])

    def quantised(self, value: Any, *, signed: bool) -> Any:
        from openvino import opset13

        low, high = (opset13.constant(np.float32(bound)) for bound in ((-4.0 if signed else 0.0), 4.0))
        return opset13.fake_quantize(value, low, high, low, high, 256)

    def ops(self, ops: tuple[str, ...], value: Any, store: str) -> Any:
        """Apply `ops` in order; a second operand is stored as `store`."""
        for op in ops:
            value = self._op(op, value, store)
        return value

    def _op(self, op: str, value: Any, store: str) -> Any:
        from openvino import opset13

        name, *numbers = op.split()
        shape = list(value.get_output_shape(0))
        per_channel = (1, shape[1], *([1] * (len(shape) - 2)))
        if name in ACTIVATIONS:
            renamed = {"silu": "swish"}.get(name, name)
            settings = {"elu": (1.0,), "gelu": ("erf",)}.get(name, ())
            return getattr(opset13, renamed)(value, *settings)
        match name:
            case "relu6" | "clamp":
                return opset13.clamp(value, 0.0 if name == "relu6" else -1.0, 6.0 if name == "relu6" else 1.0)
            case "prelu":
                return opset13.prelu(value, opset13.constant(np.full(shape[1], 0.2, np.float32)))
            case "scale":
                return opset13.add(opset13.multiply(value, opset13.constant(np.float32(0.5))), opset13.constant(np.float32(0.5)))
            case "norm":
                normed = opset13.mvn(value, opset13.constant([2, 3]), True, 1e-5, "inside_sqrt")
                return opset13.add(opset13.multiply(normed, self._constant(per_channel)), self._constant(per_channel))
            case "batch":
                return opset13.add(opset13.multiply(value, self._constant(per_channel)), self._constant(per_channel))
            case "add" | "mul" | "sub":
                other = self.source(shape[1], shape[2], shape[3], store) if len(shape) == 4 else self.fed(shape[1:], False)
                return {"add": opset13.add, "mul": opset13.multiply, "sub": opset13.subtract}[name](value, other)
            case "concat":
                return opset13.concat([value, value], 1)
            case "quantise":
                return value
            case _:
                return _moved(name, numbers, value, shape)

    def _weight(self, shape: tuple[int, ...], int8: bool, *, axis: int) -> Any:
        from openvino import opset13

        values = self._rng.standard_normal(shape).astype(np.float32) * 0.05
        constant = opset13.constant(values)
        if not int8:
            return constant
        bound = np.abs(values).max(tuple(a for a in range(len(shape)) if a != axis), keepdims=True)
        low, high = opset13.constant(-bound), opset13.constant(bound)
        return opset13.fake_quantize(constant, low, high, low, high, 255)

    def _constant(self, shape: tuple[int, ...]) -> Any:
        from openvino import opset13

        return opset13.constant(self._rng.standard_normal(shape).astype(np.float32))

    def _pooled(self, value: Any) -> Any:
        """Return one pixel of `value`: small, and cheap in any type."""
        from openvino import opset1

        return opset1.max_pool(value, list(value.get_output_shape(0))[2:], [0, 0], [0, 0], [1, 1])


def _moved(name: str, numbers: list[str], value: Any, shape: list[int]) -> Any:
    """Return `value` after a pass that moves values or combines neighbours."""
    from openvino import opset1, opset13

    match name:
        case "shuffle" if numbers[0] == numbers[1]:
            return opset13.depth_to_space(value, "depth_first", int(numbers[0]))
        case "shuffle":
            rows, columns = map(int, numbers)
            depth = shape[1] // (rows * columns)
            apart = opset13.reshape(value, [1, depth, rows, columns, *shape[2:]], False)
            turned = opset13.transpose(apart, [0, 1, 4, 2, 5, 3])
            return opset13.reshape(turned, [1, depth, shape[2] * rows, shape[3] * columns], False)
        case "unshuffle":
            return opset13.space_to_depth(value, "depth_first", int(numbers[0]))
        case "pad":
            top, bottom, left, right = map(int, numbers[1:])
            return opset13.pad(value, [0, 0, top, left], [0, 0, bottom, right], numbers[0])
        case "crop":
            top, bottom, left, right = map(int, numbers)
            until = [shape[2] - bottom, shape[3] - right]
            return opset13.slice(value, [top, left], until, [1, 1], [2, 3])
        case "upsample":
            size = opset13.constant([shape[2] * int(numbers[1]), shape[3] * int(numbers[2])])
            mode = "nearest" if numbers[0] == "nearest" else "linear_onnx"
            return opset13.interpolate(value, size, mode, "sizes", axes=opset13.constant([2, 3]))
        case "max_pool":
            kernel, stride = [int(n) for n in numbers[:2]], [int(n) for n in numbers[2:]]
            return opset1.max_pool(value, stride, [0, 0], [0, 0], kernel)
        case "avg_pool":
            kernel, stride = [int(n) for n in numbers[:2]], [int(n) for n in numbers[2:]]
            return opset13.avg_pool(value, stride, [0, 0], [0, 0], kernel, False)
        case _:
            raise ValueError(f"'{name}' is no token of a pass")
