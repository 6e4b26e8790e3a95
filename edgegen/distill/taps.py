"""Feature taps: layers of teacher and student that mean the same, and 1x1 convolutions between their channels.

The student is a pruned copy of the (rewritten) teacher, so the nodes of its graph kept their names. A pair is a node of equal
name, kind and height x width in both graphs; the channel counts may differ.
"""

from __future__ import annotations

import operator

import torch
import torch.nn.functional as F
from torch import fx, nn

from edgegen.graph import layer_of, node_shapes
from edgegen.layers import Clamp
from edgegen.spec import TensorSpec

_NORMS = (nn.BatchNorm2d, nn.InstanceNorm2d)
_ACTIVATIONS = (
    nn.PReLU,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.SiLU,
    nn.GELU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
    nn.Hardtanh,
)
_FUNCTIONS = (F.relu, F.leaky_relu, torch.relu, torch.tanh, F.tanh, operator.add, torch.add)
_WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def pair_taps(
    student: fx.GraphModule, teacher: fx.GraphModule, inputs: tuple[torch.Tensor, ...], *, count: int = 4
) -> tuple[str, ...]:
    """Return up to `count` node names to tap in both graphs, spread over depth and resolutions; empty if nothing pairs.

    `inputs` is one batch; it is run once through each to find the shapes. Candidates are outputs of normalisations,
    activations and residual additions that a layer with weights still follows.
    """
    ours, theirs = node_shapes(student, inputs), node_shapes(teacher, inputs)
    kinds = {node.name: _kind(teacher, node) for node in teacher.graph.nodes}
    ends = _behind_last_weights(student)
    runs: list[list[str]] = []  # neighbours of equal resolution
    for node in student.graph.nodes:
        kind, name = _kind(student, node), node.name
        if kind is None or kinds.get(name) != kind or name in ends or not _same_grid(ours.get(name), theirs.get(name)):
            continue
        if runs and ours[runs[-1][-1]][2:] == ours[name][2:]:
            runs[-1].append(name)
        else:
            runs.append([name])
    return _spread(runs, count)


def with_taps(module: fx.GraphModule, names: tuple[str, ...], output: TensorSpec | None = None) -> fx.GraphModule:
    """Return a graph over the very layers of `module` that returns (output, tap of names[0], ...).

    With `output` given, a final clamp to that value range is left out: `losses.visible` clamps too, and keeps the gradient.
    """
    graph, made = fx.Graph(), {}
    graph.graph_copy(module.graph, made)  # all nodes but the output
    final = next(node for node in module.graph.nodes if node.op == "output").args[0]
    by_name = {node.name: copy for node, copy in made.items()}
    result = made[_before_clamp(module, final, output) if output else final]
    graph.output((result, *(by_name[name] for name in names)))
    graph.lint()
    return fx.GraphModule(module, graph)


@torch.no_grad()
def fit_adapter(student_tap: torch.Tensor, teacher_tap: torch.Tensor) -> nn.Conv2d:
    """Return the 1x1 convolution that maps `student_tap` (N, C, H, W) best to `teacher_tap` (N, D, H, W): ridge least squares.

    So the feature loss starts with what the student's channels do know instead of with random mixtures.
    """
    x, y = (tap.double().cpu().movedim(1, -1).flatten(0, 2) for tap in (student_tap, teacher_tap))
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    gram = x.T @ x
    ridge = 1e-3 * gram.diagonal().mean() + 1e-12
    weight = torch.linalg.solve(gram + ridge * torch.eye(len(gram), dtype=gram.dtype), x.T @ y).T
    adapter = nn.Conv2d(student_tap.shape[1], teacher_tap.shape[1], 1)
    adapter.load_state_dict({"weight": weight[:, :, None, None], "bias": y_mean - weight @ x_mean})
    return adapter


def _kind(module: fx.GraphModule, node: fx.Node) -> object | None:
    """Return what `node` does if it can be tapped: its layer type or function; None otherwise."""
    layer = layer_of(module, node)
    if isinstance(layer, (*_NORMS, *_ACTIVATIONS)):
        return type(layer)
    if node.op == "call_function" and node.target in _FUNCTIONS:
        is_sum = node.target in (operator.add, torch.add)
        return node.target if not is_sum or len(node.all_input_nodes) == 2 else None
    return "relu" if node.op == "call_method" and node.target == "relu" else None


def _behind_last_weights(module: fx.GraphModule) -> set[str]:
    """Return the nodes between the last layers with weights and the output: their error is the output loss already."""
    pending, seen = [node for node in module.graph.nodes if node.op == "output"], set()
    while pending:
        node = pending.pop()
        if node.name not in seen and not isinstance(layer_of(module, node), _WEIGHTED):
            seen.add(node.name)
            pending.extend(node.all_input_nodes)
    return seen


def _same_grid(ours: tuple[int, ...] | None, theirs: tuple[int, ...] | None) -> bool:
    return ours is not None and theirs is not None and len(ours) == len(theirs) == 4 and ours[2:] == theirs[2:]


def _spread(runs: list[list[str]], count: int) -> tuple[str, ...]:
    """Return the last node of `count` runs, the deepest for sure; of the longest run several when there are too few runs."""
    if len(runs) > count:
        return tuple(runs[i * (len(runs) - 1) // count][-1] for i in range(1, count + 1))
    chosen = {run[-1] for run in runs}
    longest = max(runs, key=len, default=[])
    extra = min(count - len(chosen), len(longest) - 1)
    chosen |= {longest[(i + 1) * (len(longest) - 1) // (extra + 1)] for i in range(extra)}
    return tuple(name for run in runs for name in run if name in chosen)


def _before_clamp(module: fx.GraphModule, node: fx.Node, output: TensorSpec) -> fx.Node:
    layer = layer_of(module, node)
    if isinstance(layer, Clamp) and (layer.low, layer.high) == (output.low, output.high):
        return node.all_input_nodes[0]
    return node
