"""What an op table asks of a node: its operation, and its settings as values that conditions compare.

Nothing is computed: shapes are propagated with fake tensors, so a generator of any size takes milliseconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from edgegen.graph import FUNCTIONS, example_inputs, layer_of, node_shapes
from edgegen.op_table import SAME_AS, SHAPE_ONLY, Setting
from edgegen.spec import ComponentSpec

Settings = Mapping[str, tuple[Setting, ...]]
_PAD_OPS = {"reflect": "ReflectionPad2d", "replicate": "ReplicationPad2d", "constant": "ConstantPad2d"}
_NAMES: dict[Any, str] = {function: name for name, function in FUNCTIONS.items()}
_ATTRIBUTES = {
    "kernel_size": "kernel", "stride": "stride", "padding": "padding", "output_padding": "output_padding", "dilation": "dilation",
    "groups": "groups", "padding_mode": "padding_mode", "upscale_factor": "factor", "downscale_factor": "factor",
    "mode": "mode", "align_corners": "align_corners", "value": "value", "min_val": "low", "max_val": "high", "low": "low",
    "high": "high", "num_parameters": "slopes",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class NodeFacts:
    """A node that computes: its name, the operation an op table knows it by, and its settings."""

    node: str
    op: str
    settings: Settings


def node_facts(module: fx.GraphModule, spec: ComponentSpec) -> list[NodeFacts]:
    """Return every computing node of `module` in graph order; shape arithmetic and constants are left out."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        shapes = node_shapes(module, tuple(fake.from_tensor(x) for x in example_inputs(spec)))
    found: list[NodeFacts] = []
    ops: dict[str, str] = {node.name: "input" for node in module.graph.nodes if node.op == "placeholder"}
    for node in module.graph.nodes:
        op = operation(module, node) if node.name in shapes else None
        if op is not None:
            ops[node.name] = op
            found.append(NodeFacts(node.name, op, _settings(module, node, op, shapes, ops)))
    return found


def operation(module: fx.GraphModule, node: fx.Node) -> str | None:
    """Return the name by which op tables know what `node` computes; None for inputs, outputs and shape arithmetic."""
    layer = layer_of(module, node)
    if layer is not None:
        return type(layer).__name__
    if node.op not in ("call_function", "call_method"):
        return None
    name = _NAMES[node.target] if node.op == "call_function" else str(node.target)
    if name in SHAPE_ONLY:
        return None
    if node.target is F.pad:
        return _PAD_OPS.get(str(_argument(node, 2, "mode", "constant")), "ConstantPad2d")
    return SAME_AS.get(name, name)


def _settings(
    module: fx.GraphModule, node: fx.Node, op: str, shapes: Mapping[str, tuple[int, ...]], ops: Mapping[str, str]
) -> Settings:
    """Return the settings of one node; what is not known is absent."""
    layer = layer_of(module, node)
    source = shapes.get(node.all_input_nodes[0].name, ()) if node.all_input_nodes else ()
    result = shapes[node.name]
    found: dict[str, tuple[Setting, ...]] = {
        "rank": (len(result),),
        "after": tuple(ops.get(n.name, "") for n in node.all_input_nodes[:1]),
    }
    if len(source) == 4:
        found |= {"height": (source[2],), "width": (source[3],)}
    found |= _written(layer) if layer is not None else _called(node, op)
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        found["group_channels"] = (layer.in_channels // layer.groups, layer.out_channels // layer.groups)
        found["depthwise"] = (_yes(1 < layer.groups == layer.in_channels),)
    if isinstance(layer, nn.ConvTranspose2d):
        found["transposed_size"] = (transposed_size(layer),)
    if isinstance(layer, nn.InstanceNorm2d):
        found["statistics"] = ("running" if layer.track_running_stats else "own",)
    if op == "Upsample" and len(source) == len(result) == 4:
        factors = tuple(after / before for after, before in zip(result[2:], source[2:], strict=True))
        found |= {"factor": factors, "repeats": (_yes(all(_is_repeat(f) for f in factors)),)}
    if op == "AdaptiveAvgPool2d" and len(source) == len(result) == 4:
        found |= {"output": result[2:], "divides": (_yes(all(s % r == 0 for s, r in zip(source[2:], result[2:], strict=True))),)}
    if op == "cat":
        found |= {"parts": (len(node.all_input_nodes),), "axis": (_axis(node, len(result)),)}
    if op in ("add", "sub", "mul", "truediv"):
        found["constant"] = (_yes(len(node.all_input_nodes) < 2),)
    return found


def _written(layer: nn.Module) -> dict[str, tuple[Setting, ...]]:
    """Return the constructor arguments of a layer that conditions ask for."""
    found: dict[str, tuple[Setting, ...]] = {}
    for attribute, name in _ATTRIBUTES.items():
        value = getattr(layer, attribute, None)
        if isinstance(value, nn.Module | torch.Tensor) or value is None:
            continue
        values = value if isinstance(value, tuple) else (value,)
        found[name] = tuple(_yes(v) if isinstance(v, bool) else v for v in values)
    return found


def _called(node: fx.Node, op: str) -> dict[str, tuple[Setting, ...]]:
    """Return the settings that a function or method is called with."""
    match op:
        case "Upsample":
            corners = _argument(node, 4, "align_corners", None)
            return {"mode": (str(_argument(node, 3, "mode", "nearest")),), "align_corners": (_yes(bool(corners)),)}
        case "ConstantPad2d":
            value = _argument(node, 3, "value", 0)
            return {"value": (0 if value is None else value,)}
        case "Clamp":
            low, high = _argument(node, 1, "min", None), _argument(node, 2, "max", None)
            return {name: (value,) for name, value in (("low", low), ("high", high)) if isinstance(value, int | float)}
        case _:
            return {}


def transposed_size(layer: nn.ConvTranspose2d) -> str:
    """Return "same" or "valid" where TFLite's paddings of that name give the size of the output, "other" elsewhere."""
    axes = [(k, s, int(p)) for k, s, p in zip(layer.kernel_size, layer.stride, layer.padding, strict=True)]
    if layer.dilation != (1, 1) or layer.output_padding != (0, 0):
        return "other"
    if all(p == 0 and k >= s for k, s, p in axes):
        return "valid"
    return "same" if all(k - 2 * p == s for k, s, p in axes) else "other"


def _is_repeat(factor: float) -> bool:
    """Whether pixels can be repeated `factor` times in steps of at most 5, which is what a concatenation takes."""
    whole = int(factor)
    for step in (5, 4, 3, 2):
        while whole % step == 0 and whole > 1:
            whole //= step
    return factor == int(factor) >= 1 and whole == 1


def _argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    return node.kwargs.get(name, node.args[position] if len(node.args) > position else default)


def _axis(node: fx.Node, rank: int) -> int:
    axis = _argument(node, 1, "dim", 0)
    return int(axis) % rank if isinstance(axis, int) else 0


def _yes(value: bool) -> str:
    return "yes" if value else "no"
