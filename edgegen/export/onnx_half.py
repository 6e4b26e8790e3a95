"""float32 ONNX to strongly typed float16: every node computes in one type, with explicit casts where two types meet.

Inputs and outputs stay float32. A node that sees or makes values too large for float16 is left in float32. Generators with
InstanceNorm reach such values in front of the norm; there the convolution's weights are scaled down instead, which changes
nothing: norm(s*x, eps*s*s) = norm(x, eps), and exactly nothing for s a power of two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from edgegen.export.onnx_graph import (
    add_constant,
    attribute,
    constants,
    drop_unused_constants,
    element_types,
    makers,
    readers,
    replace_nodes,
)

if TYPE_CHECKING:
    import onnx

HALF_LIMIT = 30_000.0
"""Largest |x| on calibration inputs that may be float16: its maximum is 65,504, and other inputs reach further."""
_HALF_MAX = 65_504.0
_LEAST_EPSILON = 1e-12
_STAYS_FLOAT = {"Resize": (1, 2)}  # operands whose type the operation fixes: roi and scales


def scale_before_norms(model: onnx.ModelProto, peaks: Mapping[str, float]) -> tuple[onnx.ModelProto, dict[str, float]]:
    """Return a copy in which convolutions that only feed InstanceNormalization stay under `HALF_LIMIT`, and the new peaks."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    read_by, values, outputs, reached = readers(made), constants(made), {v.name for v in made.graph.output}, dict(peaks)
    for node in made.graph.node:
        result = node.output[0]
        norms = read_by.get(result, [])
        fed = node.op_type in ("Conv", "ConvTranspose") and norms and all(n.op_type == "InstanceNormalization" for n in norms)
        if not fed or result in outputs or reached.get(result, 0.0) <= HALF_LIMIT or not all(n in values for n in node.input[1:]):
            continue
        halvings = math.ceil(math.log2(reached[result] / HALF_LIMIT))
        epsilons = [float(attribute(norm, "epsilon", 1e-5)) * 4.0**-halvings for norm in norms]  # type: ignore[arg-type]
        if min(epsilons) < _LEAST_EPSILON:
            continue
        for index in range(1, len(node.input)):
            scaled = values[node.input[index]] * np.float32(2.0**-halvings)
            node.input[index] = add_constant(made, f"{node.name}/{index}/scaled", scaled)
        for norm, epsilon in zip(norms, epsilons, strict=True):
            kept = [a for a in norm.attribute if a.name != "epsilon"]
            norm.ClearField("attribute")
            norm.attribute.extend([*kept, onnx.helper.make_attribute("epsilon", epsilon)])
        reached[result] *= 2.0**-halvings
    drop_unused_constants(made)
    return made, reached


def to_half(model: onnx.ModelProto, peaks: Mapping[str, float]) -> tuple[onnx.ModelProto, list[str]]:
    """Return a float16 copy of the float32 `model` (Q/DQ nodes allowed) and the names of the nodes that stay float32.

    `peaks` holds max |x| of the float tensors, from calibration.
    """
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    types = element_types(made)
    floats = {name for name, kind in types.items() if kind == onnx.TensorProto.FLOAT}
    wide = _wide_nodes(made, peaks, floats)
    typing = _Typing(made, floats)
    for node in list(made.graph.node):
        typing.place(node, onnx.TensorProto.FLOAT if node.name in wide else onnx.TensorProto.FLOAT16)
    typing.finish()
    return made, [n.name for n in model.graph.node if n.name in wide and n.op_type not in ("QuantizeLinear", "DequantizeLinear")]


def _wide_nodes(model: onnx.ModelProto, peaks: Mapping[str, float], floats: set[str]) -> set[str]:
    """Return the names of the nodes that compute in float32. Q takes the type of what it reads, DQ that of its reader."""
    made_by, read_by, values = makers(model), readers(model), constants(model)
    wide: set[str] = set()
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        for name in (*node.input, *node.output):
            large = (
                float(np.abs(values[name]).max(initial=0.0)) > _HALF_MAX
                if name in values
                else _peak(name, peaks, made_by) > HALF_LIMIT
            )
            if name in floats and large:
                wide.add(node.name)
    for node in reversed(model.graph.node):
        if node.op_type == "DequantizeLinear" and any(reader.name in wide for reader in read_by.get(node.output[0], [])):
            wide.add(node.name)
    given = {value.name for value in model.graph.input}
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear":
            continue
        name = node.input[0]
        follows = read_by.get(node.output[0], []) if name in values else [made_by[name]] if name in made_by else []
        if name in given or any(other.name in wide for other in follows):
            wide.add(node.name)
    return wide


def _peak(name: str, peaks: Mapping[str, float], made_by: Mapping[str, onnx.NodeProto]) -> float:
    """Return max |x| of a tensor; behind Q and DQ, that of the tensor in front of them."""
    while name not in peaks:
        node = made_by.get(name)
        if node is None or node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            return 0.0
        name = node.input[0]
    return peaks[name]


class _Typing:
    """The nodes placed so far, the type that each float tensor has now, and the casts made between them."""

    def __init__(self, model: onnx.ModelProto, floats: set[str]) -> None:
        import onnx

        self.model, self.floats = model, floats
        self.values = constants(model)
        self.outputs = {value.name for value in model.graph.output}
        self.types: dict[str, int] = {value.name: onnx.TensorProto.FLOAT for value in model.graph.input}
        self.nodes: list[onnx.NodeProto] = []
        self.cast: dict[tuple[str, int], str] = {}

    def place(self, node: onnx.NodeProto, kind: int) -> None:
        """Add `node` computing in `kind`, its float operands cast to it."""
        import onnx

        fixed = _STAYS_FLOAT.get(node.op_type, ())
        for index, name in enumerate(node.input):
            if name in self.floats and index not in fixed:
                node.input[index] = self._as(name, kind)
        for index, name in enumerate(node.output):
            if name in self.floats:
                self.types[name] = kind
            if name in self.outputs and kind == onnx.TensorProto.FLOAT16:
                node.output[index] = self.cast[name, kind] = f"{name}/f16"
        for item in node.attribute:
            if node.op_type == "Cast" and item.name == "to" and item.i == onnx.TensorProto.FLOAT:
                item.i = kind
        self.nodes.append(node)

    def finish(self) -> None:
        """Cast the outputs back to float32 and write the nodes."""
        import onnx

        for value in self.model.graph.output:
            half = self.cast.get((value.name, onnx.TensorProto.FLOAT16))
            if half is not None and self.types.get(value.name) == onnx.TensorProto.FLOAT16:
                self.nodes.append(_cast(half, value.name, onnx.TensorProto.FLOAT))
        replace_nodes(self.model, self.nodes)
        drop_unused_constants(self.model)

    def _as(self, name: str, kind: int) -> str:
        """Return the name of the tensor `name` in type `kind`, made now if it is not there yet."""
        import onnx

        if (name, kind) in self.cast:
            return self.cast[name, kind]
        label = f"{name}/{'f16' if kind == onnx.TensorProto.FLOAT16 else 'f32'}"
        if name in self.values:
            if kind == onnx.TensorProto.FLOAT:
                return name
            self.cast[name, kind] = add_constant(self.model, label, self.values[name].astype(np.float16))
        elif self.types[name] == kind:
            return name
        else:
            source = self.cast.get((name, self.types[name]), name)  # an output's half form has a name of its own
            self.nodes.append(_cast(source, label, kind))
            self.cast[name, kind] = label
        return self.cast[name, kind]


def _cast(source: str, result: str, kind: int) -> onnx.NodeProto:
    from onnx import helper

    return helper.make_node("Cast", [source], [result], name=f"{result}/Cast", to=kind)
