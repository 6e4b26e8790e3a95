"""Where TensorRT wants its Q/DQ nodes, and putting them there: symmetric int8, zero point 0.

Activations get one scale per tensor, weights one per output channel (ConvTranspose: one per tensor, TensorRT has nothing
finer). Quantised are the inputs of convolutions and matrix products with constant weights, the residual branch of an Add behind
a convolution (so that the two fuse), and the inputs of a Concat whose readers all want int8 (one scale for all of them). Biases,
norms, activations and heads stay in float. A weight stays a float constant, on the int8 grid, with its own Q and DQ: the form
that every TensorRT from 8 to 11 reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegen.export.onnx_graph import add_constant, attribute, constants, drop_unused_constants, makers, readers, replace_nodes

if TYPE_CHECKING:
    import onnx

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_GROUP_MULTIPLE = 4  # grouped int8 kernels need channels per group in fours, on both sides
LEVELS = 127

Edge = tuple[str, int]
"""A node's name and the index of one of its inputs."""


def quantizable(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes that TensorRT runs in int8, in graph order."""
    values = constants(model)
    return [
        n.name for n in model.graph.node if n.op_type in WEIGHTED and n.input[1] in values and _groups_fit(n, values[n.input[1]])
    ]


def _groups_fit(node: onnx.NodeProto, weight: np.ndarray) -> bool:
    groups = int(attribute(node, "group", 1))  # type: ignore[arg-type]
    if groups == 1:
        return True
    return node.op_type == "Conv" and weight.shape[1] % _GROUP_MULTIPLE == 0 and weight.shape[0] // groups % _GROUP_MULTIPLE == 0


def weight_axis(node: onnx.NodeProto) -> int | None:
    """Return the axis of a weighted node's constant that counts output features; None where TensorRT takes one scale only."""
    match node.op_type:
        case "Conv":
            return 0
        case "Gemm":
            return 0 if attribute(node, "transB", 0) else 1
        case "MatMul":
            return -1
        case _:
            return None


def fused_branch(
    node: onnx.NodeProto, made_by: Mapping[str, onnx.NodeProto], read_by: Mapping[str, list[onnx.NodeProto]]
) -> int | None:
    """Return which input of an Add a convolution hands over directly, so that TensorRT fuses the two; None without one.

    Where both inputs do, the one computed last fuses: convolutions are named in the order of `made_by`.
    """
    if node.op_type != "Add":
        return None
    order = {id(maker): position for position, maker in enumerate(made_by.values())}
    found = [
        (order[id(made_by[name])], index)
        for index, name in enumerate(node.input)
        if name in made_by and made_by[name].op_type in ("Conv", "ConvTranspose") and len(read_by[name]) == 1
    ]
    return max(found)[1] if found else None


def quantized_edges(model: onnx.ModelProto, nodes: list[str]) -> tuple[list[Edge], dict[str, str]]:
    """Return the inputs that become int8 when `nodes` do, in graph order, and each quantised tensor's scale owner.

    Tensors with the same owner share a scale: what meets in a Concat.
    """
    chosen, values, made_by, read_by = set(nodes), constants(model), makers(model), readers(model)
    edges = {(node.name, 0) for node in model.graph.node if node.name in chosen}
    for node in model.graph.node:
        fused = fused_branch(node, made_by, read_by)
        if fused is not None and made_by[node.input[fused]].name in chosen and node.input[1 - fused] not in values:
            edges.add((node.name, 1 - fused))
    owner: dict[str, str] = {}
    for node in reversed(model.graph.node):  # outer Concats before the inner ones that feed them
        if node.op_type != "Concat" or any(name in values for name in node.input):
            continue
        result = node.output[0]
        uses = [(reader.name, i) for reader in read_by.get(result, []) for i, name in enumerate(reader.input) if name == result]
        if uses and all(use in edges for use in uses):
            edges |= {(node.name, i) for i in range(len(node.input))}
            for name in node.input:
                owner[_root(owner, name)] = _root(owner, result)
    tensors = {name for node in model.graph.node for i, name in enumerate(node.input) if (node.name, i) in edges}
    ordered = [(node.name, i) for node in model.graph.node for i in range(len(node.input)) if (node.name, i) in edges]
    return ordered, {name: _root(owner, name) for name in tensors}


def _root(owner: dict[str, str], name: str) -> str:
    while owner.get(name, name) != name:
        name = owner[name]
    return name


def insert_qdq(model: onnx.ModelProto, nodes: list[str], bounds: Mapping[str, float]) -> onnx.ModelProto:
    """Return a copy of the float32 `model` in which `nodes` compute in int8, given the largest |x| of each activation.

    One Q per tensor, one DQ per reader. Scales are float32 numbers that float16 holds exactly.
    """
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    edges, owners = quantized_edges(made, nodes)
    shared: dict[str, float] = {}
    for name, owner in owners.items():
        shared[owner] = max(shared.get(owner, 0.0), bounds[name])
    for name, owner in owners.items():
        add_constant(made, f"{name}/scale", scales(np.float32(shared[owner])))
    zero = add_constant(made, "int8/zero", np.zeros((), dtype=np.int8))
    new = [_quantize(value.name, zero) for value in made.graph.input if value.name in owners]
    chosen, wanted = set(nodes), set(edges)
    for node in made.graph.node:
        for index, name in enumerate(node.input):
            if (node.name, index) in wanted:
                new.append(_dequantize(name, zero, reader=f"{node.name}:{index}"))
                node.input[index] = new[-1].output[0]
        if node.name in chosen:
            new.extend(_quantize_weight(made, node))
        new.append(node)
        new.extend(_quantize(name, zero) for name in node.output if name in owners)
    replace_nodes(made, new)
    drop_unused_constants(made)
    return made


def scales(bounds: np.ndarray | np.float32) -> np.ndarray:
    """Return bound / 127 rounded up to a float16, as float32; where nothing was seen, the scale of the range [-1, 1]."""
    exact = np.where(np.asarray(bounds) > 0, bounds, 1.0).astype(np.float64) / LEVELS
    near = exact.astype(np.float16)
    raised = np.where(near.astype(np.float64) < exact, np.nextafter(near, np.float16(np.inf)), near)
    return np.maximum(raised, np.finfo(np.float16).smallest_subnormal).astype(np.float32)


def _quantize(name: str, zero: str) -> onnx.NodeProto:
    from onnx import helper

    return helper.make_node("QuantizeLinear", [name, f"{name}/scale", zero], [f"{name}/int8"], name=f"{name}/QuantizeLinear")


def _dequantize(name: str, zero: str, *, reader: str) -> onnx.NodeProto:
    from onnx import helper

    label = f"{name}->{reader}/DequantizeLinear"
    return helper.make_node("DequantizeLinear", [f"{name}/int8", f"{name}/scale", zero], [f"{name}->{reader}"], name=label)


def _quantize_weight(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Put `node`'s weight on the int8 grid and a Q and a DQ before it; return the two."""
    from onnx import helper

    weight, axis = constants(model)[node.input[1]].astype(np.float32), weight_axis(node)
    axis = None if axis is None else axis % weight.ndim
    others = tuple(i for i in range(weight.ndim) if i != axis)
    steps = scales(np.abs(weight).max(axis=others))
    wide = steps if axis is None else np.expand_dims(steps, others)
    grid = np.clip(np.round(weight / wide), -LEVELS, LEVELS) * wide
    name = f"{node.name}/weight"
    add_constant(model, name, grid.astype(np.float32))
    scale = add_constant(model, f"{name}/scale", steps)
    zero = add_constant(model, f"{name}/zero", np.zeros(steps.shape, dtype=np.int8))
    settings: dict[str, Any] = {} if axis is None else {"axis": axis}
    node.input[1] = f"{name}/float"
    return [
        helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}/int8"], name=f"{name}/QuantizeLinear", **settings),
        helper.make_node(
            "DequantizeLinear", [f"{name}/int8", scale, zero], [f"{name}/float"], name=f"{name}/DequantizeLinear", **settings
        ),
    ]
