"""What TensorRT 10.3 to 11.4 refuse, or take and compute wrongly: checked on the ONNX file, long before the board."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from edgegen.export.onnx_graph import OPSET, attribute, constants, element_types, makers, readers
from edgegen.export.onnx_half import HALF_LIMIT
from edgegen.export.qdq import WEIGHTED, fused_branch, weight_axis

if TYPE_CHECKING:
    import onnx

REFUSED = (
    "ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul", "AffineGrid", "BitShift",
    "CenterCropPad", "Col2Im", "Compress", "Det", "MaxRoiPool", "MaxUnpool", "Unique",
)  # fmt: skip
"""Operations that the parser has no importer for (onnx-tensorrt, docs/operators.md)."""
_QDQ = ("QuantizeLinear", "DequantizeLinear")
_ONNX = ("", "ai.onnx")
_GROUP_MULTIPLE = 4
TENSOR_CORE_CHANNELS = 32


@dataclasses.dataclass(frozen=True)
class Violation:
    """One broken rule: its short name, the node and the tensor that break it, and the fact as a sentence."""

    rule: str
    node: str
    tensor: str
    message: str


@dataclasses.dataclass(frozen=True)
class _Graph:
    """An ONNX graph with what the rules look up in it."""

    model: onnx.ModelProto
    values: dict[str, np.ndarray]
    made_by: dict[str, onnx.NodeProto]
    read_by: dict[str, list[onnx.NodeProto]]
    types: dict[str, int]
    peaks: Mapping[str, float]

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        return list(self.model.graph.node)

    def dequantized(self, name: str) -> onnx.NodeProto | None:
        """Return the DequantizeLinear that makes tensor `name`; None if something else does."""
        node = self.made_by.get(name)
        return node if node is not None and node.op_type == "DequantizeLinear" else None

    def is_constant(self, name: str) -> bool:
        """Tell whether `name` is an initializer, bare or behind Q and DQ."""
        while name in self.made_by and self.made_by[name].op_type in _QDQ:
            name = self.made_by[name].input[0]
        return name in self.values


def check_tensorrt_rules(model: onnx.ModelProto, peaks: Mapping[str, float] | None = None) -> list[Violation]:
    """Return every broken rule; an empty list means: TensorRT should take the file.

    `peaks` holds max |x| of tensors, seen in float32 on calibration inputs: without it overflow of float16 is not looked for.
    Nodes that TensorRT does not know come alone: the other rules need a graph whose types can be inferred.
    """
    refused = list(_refused_nodes(model))
    if refused:
        return refused
    graph = _Graph(model, constants(model), makers(model), readers(model), element_types(model), peaks or {})
    return [violation for rule in RULES for violation in rule(graph)]


def _refused_nodes(model: onnx.ModelProto) -> Iterator[Violation]:
    import onnx

    opset = max((o.version for o in model.opset_import if o.domain in _ONNX), default=0)
    if opset > OPSET:
        yield Violation("opset", "", "", f"the file uses opset {opset}; TensorRT 10.3 reads up to {OPSET}")
    for node in model.graph.node:
        if node.domain not in _ONNX:
            yield Violation("custom-domain", node.name, node.output[0], f"{node.op_type} is of domain '{node.domain}'")
        elif node.op_type in REFUSED or not onnx.defs.has(node.op_type):
            yield Violation("refused-node", node.name, node.output[0], f"TensorRT has no importer for {node.op_type}")


def _static_shapes(graph: _Graph) -> Iterator[Violation]:
    for value in (*graph.model.graph.input, *graph.model.graph.output):
        if any(not dim.HasField("dim_value") or dim.dim_value < 1 for dim in value.type.tensor_type.shape.dim):
            yield Violation("dynamic-shape", "", value.name, f"'{value.name}' has an axis without a size")


def _zero_points(graph: _Graph) -> Iterator[Violation]:
    import onnx

    for node in graph.nodes:
        if node.op_type not in _QDQ:
            continue
        name = node.input[2] if len(node.input) > 2 else ""
        kind = graph.types.get(node.output[0] if node.op_type == "QuantizeLinear" else node.input[0])
        if kind is not None and kind != onnx.TensorProto.INT8:
            yield Violation("not-int8", node.name, name or node.output[0], f"{_type_name(kind)} is not int8")
        if name and name not in graph.values:
            yield Violation("zero-point", node.name, name, "the zero point is not a constant")
        elif name and np.any(graph.values[name] != 0):
            yield Violation("zero-point", node.name, name, "the zero point is not 0")


def _scales(graph: _Graph) -> Iterator[Violation]:
    for node in graph.nodes:
        if node.op_type not in _QDQ:
            continue
        name = node.input[1]
        if name not in graph.values:
            yield Violation("scale", node.name, name, "the scale is not a constant")
            continue
        scale = graph.values[name].astype(np.float64)
        if not np.all(np.isfinite(scale)) or not np.all(scale > 0):
            yield Violation("scale", node.name, name, f"a scale of {_worst(scale):g} is not positive and finite")
        if scale.size > 1 and not graph.is_constant(node.input[0]):
            yield Violation(
                "activation-per-channel", node.name, name, f"{scale.size} scales for an activation; TensorRT takes one"
            )


def _worst(scale: np.ndarray) -> float:
    return float(scale[~np.isfinite(scale)][0]) if not np.all(np.isfinite(scale)) else float(scale.min())


def _weights(graph: _Graph) -> Iterator[Violation]:
    for node in graph.nodes:
        if node.op_type not in WEIGHTED or not graph.is_constant(node.input[1]):
            continue
        weight, data = graph.dequantized(node.input[1]), graph.dequantized(node.input[0])
        if (weight is None) != (data is None):
            side = "weight" if weight is None else "input"
            yield Violation("half-quantized", node.name, node.input[0], f"the {side} of an int8 {node.op_type} is not quantised")
        if weight is None:
            continue
        if len(node.input) > 2 and graph.dequantized(node.input[2]) is not None:
            yield Violation("bias", node.name, node.input[2], "the bias is quantised; TensorRT wants it in float")
        yield from _weight_scales(graph, node, weight)
        yield from _groups(graph, node)


def _weight_scales(graph: _Graph, node: onnx.NodeProto, dequantize: onnx.NodeProto) -> Iterator[Violation]:
    quantize = graph.made_by.get(dequantize.input[0])
    shape = _constant_shape(graph, node.input[1])
    wanted = weight_axis(node)
    for step in (dequantize, quantize):
        scale = graph.values.get(step.input[1]) if step is not None else None
        if step is None or scale is None or scale.size == 1:
            continue
        axis = int(attribute(step, "axis", 1)) % len(shape)  # type: ignore[arg-type]
        if wanted is None:
            yield Violation(
                "conv-transpose-per-channel", step.name, node.input[1], "ConvTranspose takes one scale for its weight"
            )
        elif axis != wanted % len(shape):
            yield Violation(
                "weight-axis",
                step.name,
                node.input[1],
                f"scales of a {node.op_type} lie on axis {axis}, not {wanted % len(shape)}",
            )


def _groups(graph: _Graph, node: onnx.NodeProto) -> Iterator[Violation]:
    groups = int(attribute(node, "group", 1))  # type: ignore[arg-type]
    shape = _constant_shape(graph, node.input[1])
    if groups == 1:
        return
    sides = (shape[1], shape[0] // groups)
    if any(side % _GROUP_MULTIPLE for side in sides):
        yield Violation(
            "group-channels",
            node.name,
            node.input[1],
            f"{sides[0]} to {sides[1]} channels per group are no multiples of {_GROUP_MULTIPLE}",
        )


def _constant_shape(graph: _Graph, name: str) -> tuple[int, ...]:
    while name not in graph.values:
        name = graph.made_by[name].input[0]
    return graph.values[name].shape


def _fusion(graph: _Graph) -> Iterator[Violation]:
    for node in graph.nodes:
        if node.op_type == "QuantizeLinear":
            source = graph.made_by.get(node.input[0])
            before = graph.made_by.get(source.input[0]) if source is not None and source.op_type == "Identity" else None
            if source is not None and before is not None and before.op_type in WEIGHTED:
                yield Violation(
                    "identity-before-quantize", source.name, node.input[0], f"Identity keeps {before.name} from fusing with its Q"
                )
        fused = fused_branch(node, graph.made_by, graph.read_by)
        if fused is None or len(node.input) != 2:
            continue
        conv, other = graph.made_by[node.input[fused]], node.input[1 - fused]
        if graph.dequantized(conv.input[0]) is not None and graph.dequantized(other) is None and not graph.is_constant(other):
            yield Violation("residual", node.name, other, f"the residual branch beside int8 {conv.name} is not quantised")


def _types(graph: _Graph) -> Iterator[Violation]:
    """Strong typing: operands that the ONNX schema gives one type must have one element type."""
    import onnx

    opsets = {o.domain: o.version for o in graph.model.opset_import}
    for node in graph.nodes:
        schema = onnx.defs.get_schema(node.op_type, opsets.get("", OPSET))
        bound = {constraint.type_param_str for constraint in schema.type_constraints}
        seen: dict[str, tuple[str, int]] = {}
        for index, name in enumerate(node.input):
            kind = graph.types.get(name)
            if not name or kind is None or not schema.inputs:
                continue
            slot = schema.inputs[min(index, len(schema.inputs) - 1)].type_str
            first, expected = seen.setdefault(slot, (name, kind))
            if slot in bound and kind != expected:
                message = f"{node.op_type} mixes {_type_name(expected)} ('{first}') with {_type_name(kind)} ('{name}')"
                yield Violation("mixed-types", node.name, name, message)


def _type_name(kind: int | None) -> str:
    import onnx

    return onnx.TensorProto.DataType.Name(kind).lower() if kind is not None else "unknown"


def _overflow(graph: _Graph) -> Iterator[Violation]:
    """Values in front of an InstanceNorm pass 65,504 in style networks; what other pictures reach is not known, so half of it."""
    import onnx

    for node in graph.nodes:
        for name in node.output:
            reached = graph.peaks.get(name.removesuffix("/f16"), 0.0)
            if graph.types.get(name) == onnx.TensorProto.FLOAT16 and reached > HALF_LIMIT:
                said = f"{node.op_type} reaches {reached:.3g} on calibration inputs; float16 ends at 65504"
                yield Violation("half-overflow", node.name, name, said)


def uneven_channels(model: onnx.ModelProto, multiple: int = TENSOR_CORE_CHANNELS) -> list[Violation]:
    """Return the int8 convolutions whose output channels are no multiple of what tensor cores compute anyway; heads may be.

    Not a rule: such a layer runs, but channels that were pruned from it bought no time. Unpruned generators have them too.
    """
    made_by, values = makers(model), constants(model)
    graph = _Graph(model, values, made_by, readers(model), {}, {})
    found = []
    for node in model.graph.node:
        if node.op_type not in ("Conv", "ConvTranspose") or graph.dequantized(node.input[1]) is None:
            continue
        shape = _constant_shape(graph, node.input[1])
        channels = shape[0] if node.op_type == "Conv" else shape[1] * int(attribute(node, "group", 1))  # type: ignore[arg-type]
        if channels % multiple and not _is_head(graph, node):
            said = f"{channels} output channels are computed as {-(-channels // multiple) * multiple}"
            found.append(Violation("channel-multiple", node.name, node.input[1], said))
    return found


def _is_head(graph: _Graph, node: onnx.NodeProto) -> bool:
    """Tell whether no other convolution or matrix product reads what `node` gives."""
    waiting = list(node.output)
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        for reader in graph.read_by.get(name, []):
            if reader.op_type in WEIGHTED:
                return False
            waiting += [o for o in reader.output if o not in seen]
            seen.update(reader.output)
    return True


RULES: tuple[Callable[[_Graph], Iterator[Violation]], ...] = (
    _static_shapes, _zero_points, _scales, _weights, _fusion, _types, _overflow,
)  # fmt: skip
