"""What a generator needs in memory on a device: its weights, and the activations that are live at the same time at batch 1.

Liveness analysis over the graph in its own order: a value lives from the node that makes it to the last one that reads it. Views
share the memory of what they look at; elementwise nodes write into an input that nobody reads later, as back ends do. What a back
end adds (its code, packed copies of weights, scratch of single layers) is not in here.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import fx, nn

from edgegen import layers
from edgegen.generator import Generator
from edgegen.graph import count_params, example_inputs, layer_of, node_shapes
from edgegen.spec import Precision

WEIGHT_BYTES = {Precision.F32: 4, Precision.F16: 2, Precision.INT8: 1, Precision.INT8_DYNAMIC: 1, Precision.INT8_FULL: 1}
"""Bytes that one weight takes in an artifact of that precision."""
ACTIVATION_BYTES = {Precision.F32: 4, Precision.F16: 2, Precision.INT8: 1, Precision.INT8_DYNAMIC: 4, Precision.INT8_FULL: 1}
"""Bytes that one activation takes while an artifact of that precision runs."""

_VIEWS = (nn.Identity, nn.Flatten, layers.Reshape, "view", "reshape", "flatten", "unsqueeze", "contiguous", operator.getitem,
          torch.reshape, torch.flatten)  # fmt: skip
_ELEMENTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SiLU, nn.GELU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Hardtanh,
    nn.BatchNorm1d, nn.BatchNorm2d, layers.Scale, layers.Clamp, "clamp", "tanh", "sigmoid", "relu", "add", "mul",
    operator.add, operator.sub, operator.mul, operator.truediv, operator.neg, torch.add, torch.mul, torch.tanh, torch.sigmoid,
    torch.relu, torch.clamp, F.relu, F.leaky_relu, F.tanh, F.sigmoid,
)  # fmt: skip


def device_memory_bytes(generator: Generator, precision: Precision) -> int:
    """Return weights plus live activations of one inference at batch 1, in bytes; inputs and outputs count like activations."""
    live = peak_live_values(generator.module, example_inputs(generator.spec))
    return count_params(generator.module) * WEIGHT_BYTES[precision] + live * ACTIVATION_BYTES[precision]


def peak_live_values(module: fx.GraphModule, inputs: tuple[torch.Tensor, ...]) -> int:
    """Return how many activation values are live at the worst moment when `module` runs on `inputs`, its own values included."""
    return max(live_values(module, inputs).values())


def live_values(module: fx.GraphModule, inputs: tuple[torch.Tensor, ...]) -> dict[str, int]:
    """Return by node name how many activation values are live while that node runs."""
    shapes = node_shapes(module, inputs)
    nodes = [node for node in module.graph.nodes if node.name in shapes or node.op == "output"]
    last_use = _last_uses(nodes)
    buffer_of: dict[fx.Node, int] = {}
    sizes: dict[int, int] = {}
    free_after: dict[int, int] = {}
    live: dict[str, int] = {}
    for position, node in enumerate(nodes):
        if node.op != "output":
            shared = _shared_buffer(module, node, position, buffer_of, free_after, shapes)
            buffer_of[node] = len(sizes) if shared is None else shared
            if shared is None:
                sizes[buffer_of[node]] = math.prod(shapes[node.name])
            free_after[buffer_of[node]] = max(free_after.get(buffer_of[node], position), last_use[node])
        live[node.name] = sum(sizes[b] for b, last in free_after.items() if last >= position)
    return live


def _last_uses(nodes: list[fx.Node]) -> dict[fx.Node, int]:
    """Return the position of the last node that reads each value; values that nobody reads end where they are made."""
    last = {node: position for position, node in enumerate(nodes)}
    for position, node in enumerate(nodes):
        for source in node.all_input_nodes:
            if source in last:
                last[source] = max(last[source], position)
    return last


def _shared_buffer(
    module: fx.GraphModule,
    node: fx.Node,
    position: int,
    buffer_of: Mapping[fx.Node, int],
    free_after: Mapping[int, int],
    shapes: Mapping[str, tuple[int, ...]],
) -> int | None:
    """Return the buffer of an input that `node` looks at or writes into; None when it needs one of its own."""
    sources = [source for source in node.all_input_nodes if source in buffer_of]
    if sources and _is_one_of(module, node, _VIEWS):
        return buffer_of[sources[0]]
    if _is_one_of(module, node, _ELEMENTWISE):
        for source in sources:
            if free_after[buffer_of[source]] == position and math.prod(shapes[source.name]) == math.prod(shapes[node.name]):
                return buffer_of[source]
    return None


def _is_one_of(module: fx.GraphModule, node: fx.Node, kinds: Iterable[object]) -> bool:
    layer = layer_of(module, node)
    return (type(layer) if layer is not None else node.target) in tuple(kinds)
