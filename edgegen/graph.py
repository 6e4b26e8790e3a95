"""The graph every stage works on: trace a module, name its layers, count what they cost, store it without pickle.

A generator's module is a `torch.fx.GraphModule` whose leaves come from `LAYERS` and whose functions come from `FUNCTIONS`
or `METHODS`. That closed vocabulary is what lets rewrites, pruning, preflight and the stage cache treat all families alike.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import operator
import re
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from edgegen import layers
from edgegen.errors import CheckpointError
from edgegen.spec import ComponentSpec

# Leaf layer -> constructor arguments, each read back from the attribute of the same name.
LAYERS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Conv2d: ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias", "padding_mode"),
    nn.ConvTranspose2d: (
        "in_channels", "out_channels", "kernel_size", "stride", "padding", "output_padding", "groups", "bias", "dilation",
    ),
    nn.Linear: ("in_features", "out_features", "bias"),
    nn.BatchNorm1d: ("num_features", "eps", "momentum", "affine", "track_running_stats"),
    nn.BatchNorm2d: ("num_features", "eps", "momentum", "affine", "track_running_stats"),
    nn.InstanceNorm2d: ("num_features", "eps", "momentum", "affine", "track_running_stats"),
    nn.PReLU: ("num_parameters",),
    nn.ReLU: (),
    nn.ReLU6: (),
    nn.LeakyReLU: ("negative_slope",),
    nn.ELU: ("alpha",),
    nn.SiLU: (),
    nn.GELU: ("approximate",),
    nn.Tanh: (),
    nn.Sigmoid: (),
    nn.Softplus: ("beta", "threshold"),
    nn.Hardtanh: ("min_val", "max_val"),
    nn.PixelShuffle: ("upscale_factor",),
    nn.PixelUnshuffle: ("downscale_factor",),
    nn.ReflectionPad2d: ("padding",),
    nn.ReplicationPad2d: ("padding",),
    nn.ZeroPad2d: ("padding",),
    nn.ConstantPad2d: ("padding", "value"),
    nn.Upsample: ("size", "scale_factor", "mode", "align_corners"),
    nn.MaxPool2d: ("kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode"),
    nn.AvgPool2d: ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad"),
    nn.AdaptiveAvgPool2d: ("output_size",),
    nn.Flatten: ("start_dim", "end_dim"),
    nn.Identity: (),
    layers.DepthToSpace: ("rows", "cols"),
    layers.Crop2d: ("top", "bottom", "left", "right"),
    layers.Reshape: ("shape",),
    layers.Scale: ("factor", "offset"),
    layers.Clamp: ("low", "high"),
    layers.PixelsIn: (),
    layers.PixelsOut: ("factor", "offset"),
}  # fmt: skip

FUNCTIONS: dict[str, Any] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "truediv": operator.truediv, "neg": operator.neg,
    "floordiv": operator.floordiv, "getitem": operator.getitem, "getattr": getattr,
    "torch.add": torch.add, "torch.mul": torch.mul, "torch.cat": torch.cat, "torch.tanh": torch.tanh,
    "torch.sigmoid": torch.sigmoid, "torch.relu": torch.relu, "torch.clamp": torch.clamp, "torch.flatten": torch.flatten,
    "torch.reshape": torch.reshape,
    "relu": F.relu, "leaky_relu": F.leaky_relu, "tanh": F.tanh, "sigmoid": F.sigmoid, "interpolate": F.interpolate, "pad": F.pad,
    "pixel_shuffle": F.pixel_shuffle,
}  # fmt: skip
METHODS = (
    "view", "reshape", "flatten", "size", "contiguous", "clamp", "tanh", "sigmoid", "relu", "add", "mul", "permute", "unsqueeze",
    "float",
)  # fmt: skip
_WORD = r"[A-Za-z_]\w*"
_OPERATIONS = ("placeholder", "get_attr", "call_function", "call_method", "call_module", "output")
_DROPPED = (nn.Dropout, nn.Dropout2d)  # do nothing in eval mode


class _Tracer(fx.Tracer):
    """Stops at every layer of the vocabulary."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in LAYERS or isinstance(m, _DROPPED) or super().is_leaf_module(m, module_qualified_name)


def trace(module: nn.Module) -> fx.GraphModule:
    """Return `module` as a graph in eval mode over the closed vocabulary; dropout and identities vanish.

    Raises CheckpointError naming the node that is outside the vocabulary, or that tracing fails on data-dependent code.
    """
    module = module.eval()
    try:
        traced = fx.GraphModule(module, _Tracer().trace(module), class_name=type(module).__name__)
    except Exception as error:  # tracing runs the user's forward: whatever it raises is the answer
        raise CheckpointError(
            f"{type(module).__name__}.forward cannot be traced: {error}",
            hint="remove control flow that depends on tensor values",
        ) from error
    for node in list(traced.graph.nodes):
        if node.op == "call_module" and isinstance(traced.get_submodule(node.target), (*_DROPPED, nn.Identity)):
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
    clean(traced)
    check_vocabulary(traced)
    return traced.eval()


def clean(module: fx.GraphModule) -> None:
    """Drop dead nodes and unused submodules, check and recompile: what every edit of a graph ends with."""
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.graph.lint()
    module.recompile()


def check_vocabulary(module: fx.GraphModule) -> None:
    """Raise CheckpointError naming the first node whose operation is outside the vocabulary."""
    known = set(FUNCTIONS.values())
    for node in module.graph.nodes:
        if node.op == "call_module" and type(module.get_submodule(node.target)) not in LAYERS:
            kind = type(module.get_submodule(node.target)).__name__
        elif node.op == "call_function" and node.target not in known:
            kind = getattr(node.target, "__name__", str(node.target))
        elif node.op == "call_method" and node.target not in METHODS:
            kind = str(node.target)
        else:
            continue
        raise CheckpointError(
            f"node '{node.name}' uses {kind}, which edgegen does not know", hint="express it with layers of edgegen.graph.LAYERS"
        )


def layer_of(module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """Return the leaf layer that `node` calls; None when the node is not a layer call."""
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None


def separate_calls(module: fx.GraphModule) -> None:
    """Give every call its own copy of a layer that is called more than once: rewriting a layer then changes one caller only."""
    seen = set()
    for node in module.graph.nodes:
        layer = layer_of(module, node)
        if layer is None:
            continue
        if node.target in seen:
            name = f"{str(node.target).replace('.', '_')}_again_{len(seen)}"
            module.add_submodule(name, copy.deepcopy(layer))
            node.target = name
        seen.add(node.target)


def insert_layer(module: fx.GraphModule, name: str, layer: nn.Module, after: fx.Node) -> fx.Node:
    """Insert a call of `layer` on `after`'s value, right behind it, and return the new node (users are not redirected)."""
    unique = name.replace(".", "_")
    while hasattr(module, unique):
        unique += "_"
    module.add_submodule(unique, layer)
    with module.graph.inserting_after(after):
        return module.graph.call_module(unique, (after,))


def replace_layer(module: fx.GraphModule, node: fx.Node, new_layers: list[nn.Module]) -> list[fx.Node]:
    """Replace the call at `node` by a chain of layers; return the new nodes. The caller ends with `clean`."""
    (source,) = node.all_input_nodes
    last, made = source, []
    for index, layer in enumerate(new_layers):
        name = f"{str(node.target).replace('.', '_')}_{index}"
        if made:
            last = insert_layer(module, name, layer, last)
        else:
            unique = name
            while hasattr(module, unique):
                unique += "_"
            module.add_submodule(unique, layer)
            with module.graph.inserting_after(node):
                last = module.graph.call_module(unique, (source,))
        made.append(last)
    node.replace_all_uses_with(last)
    module.graph.erase_node(node)
    return made


# --- what the layers cost -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """One node with its static shapes (batch included, N = 1), parameters and multiply-accumulates."""

    name: str
    kind: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    params: int
    macs: int


def example_inputs(spec: ComponentSpec, *, batch: int = 1, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Return seeded inputs of `spec`, float32, with a batch axis in front, drawn from each input's value range."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for tensor in spec.inputs:
        shape = (batch, *tensor.shape)
        if tensor.dtype == "uint8":
            made.append(torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8))
        elif tensor.low is None or tensor.high is None:
            made.append(torch.randn(shape, generator=generator))
        else:
            made.append(torch.rand(shape, generator=generator) * (tensor.high - tensor.low) + tensor.low)
    return tuple(made)


class _Recorder(fx.Interpreter):
    """Runs the graph once and notes the shape that every node gives."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[str, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            self.shapes[n.name] = tuple(value.shape)
        return value


@torch.no_grad()
def node_shapes(module: fx.GraphModule, inputs: tuple[torch.Tensor, ...]) -> dict[str, tuple[int, ...]]:
    """Return the output shape of every tensor node, batch axis included, found by running `inputs` once."""
    recorder = _Recorder(module)
    recorder.run(*inputs)
    return recorder.shapes


def layer_costs(module: fx.GraphModule, inputs: tuple[torch.Tensor, ...]) -> list[LayerCost]:
    """Return the cost of every layer call in graph order; elementwise work is not counted as MACs."""
    shapes = node_shapes(module, inputs)
    costs = []
    for node in module.graph.nodes:
        layer = layer_of(module, node)
        if layer is None:
            continue
        source, result = shapes[node.all_input_nodes[0].name], shapes[node.name]
        params = sum(p.numel() for p in layer.parameters())
        costs.append(LayerCost(node.name, type(layer).__name__, source, result, params, layer_macs(layer, source, result)))
    return costs


def layer_macs(layer: nn.Module, source: tuple[int, ...], result: tuple[int, ...]) -> int:
    """Return multiply-accumulates of one call, for the shapes given (batch included)."""
    match layer:
        case nn.ConvTranspose2d():
            return math.prod(source) * layer.out_channels // layer.groups * math.prod(layer.kernel_size)
        case nn.Conv2d():
            return math.prod(result) * layer.in_channels // layer.groups * math.prod(layer.kernel_size)
        case nn.Linear():
            return math.prod(result) * layer.in_features
        case _:
            return 0


def count_macs(module: fx.GraphModule, spec: ComponentSpec) -> int:
    """Return multiply-accumulates of one inference at batch 1."""
    return sum(cost.macs for cost in layer_costs(module, example_inputs(spec)))


def count_params(module: nn.Module) -> int:
    """Return the number of trained values."""
    return sum(p.numel() for p in module.parameters())


# --- stored without pickle ----------------------------------------------------------------------------------------


def graph_to_json(module: fx.GraphModule) -> dict[str, Any]:
    """Return the graph as plain JSON: layers with constructor arguments, nodes in order. Tensors are stored apart."""
    names = {function: name for name, function in FUNCTIONS.items()}
    nodes, used = [], {}
    for node in module.graph.nodes:
        layer = layer_of(module, node)
        if layer is not None:
            used[str(node.target)] = {"kind": type(layer).__name__, "settings": _settings(layer)}
        target = names[node.target] if node.op == "call_function" else str(node.target)
        nodes.append(
            {"name": node.name, "op": node.op, "target": target, "args": _encode(node.args), "kwargs": _encode(dict(node.kwargs))}
        )
    buffers = {n: list(b.shape) for n, b in module.named_buffers(recurse=False)}
    parameters = {n: list(p.shape) for n, p in module.named_parameters(recurse=False)}
    return {"layers": used, "nodes": nodes, "buffers": buffers, "parameters": parameters}


def graph_from_json(document: dict[str, Any]) -> fx.GraphModule:
    """Rebuild the graph with fresh weights. Raises CheckpointError for a layer or function outside the vocabulary, and for names
    that are none: fx compiles them into the source of the module."""
    kinds = {kind.__name__: kind for kind in LAYERS}
    root = nn.Module()
    for target, entry in document["layers"].items():
        if entry["kind"] not in kinds:
            raise CheckpointError(f"layer '{target}' is of unknown kind {entry['kind']}")
        _attach(root, target, kinds[entry["kind"]](**_decode(entry["settings"], {})))
    for name, shape in document.get("buffers", {}).items():
        root.register_buffer(name, torch.zeros(shape))
    for name, shape in document.get("parameters", {}).items():
        root.register_parameter(name, nn.Parameter(torch.zeros(shape)))
    graph, made = fx.Graph(), {}
    for entry in document["nodes"]:
        words = _decode(entry["kwargs"], made)
        _check_names(entry, words)
        if entry["op"] == "call_function" and entry["target"] not in FUNCTIONS:
            raise CheckpointError(f"node '{entry['name']}' calls unknown function {entry['target']}")
        if entry["op"] == "call_method" and entry["target"] not in METHODS:
            raise CheckpointError(f"node '{entry['name']}' calls unknown method {entry['target']}")
        target = FUNCTIONS[entry["target"]] if entry["op"] == "call_function" else entry["target"]
        made[entry["name"]] = graph.create_node(entry["op"], target, _decode(entry["args"], made), words, name=entry["name"])
    return fx.GraphModule(root, graph).eval()


def _check_names(entry: dict[str, Any], words: dict[str, Any]) -> None:
    if entry["op"] not in _OPERATIONS:
        raise CheckpointError(f"node '{entry['name']}' has the unknown operation {entry['op']!r}")
    path = _WORD if entry["op"] == "placeholder" else r"\w+(?:\.\w+)*"
    for pattern, text in ((path, entry["target"]), *((_WORD, word) for word in words)):
        if not re.fullmatch(pattern, text, re.ASCII):
            raise CheckpointError(f"node '{entry['name']}' has {text!r} where a name should stand")


def _settings(layer: nn.Module) -> dict[str, Any]:
    values = {name: getattr(layer, name) for name in LAYERS[type(layer)]}
    if "bias" in values:
        values["bias"] = values["bias"] is not None
    return {name: _encode(value) for name, value in values.items()}


def _attach(root: nn.Module, target: str, layer: nn.Module) -> None:
    *parents, name = target.split(".")
    for parent in parents:
        if not hasattr(root, parent):
            root.add_module(parent, nn.Module())
        root = getattr(root, parent)
    root.add_module(name, layer)


def _encode(value: Any) -> Any:
    match value:
        case fx.Node():
            return {"node": value.name}
        case tuple() | list():
            return {"tuple": [_encode(v) for v in value]}
        case dict():
            return {"dict": {k: _encode(v) for k, v in value.items()}}
        case slice():
            return {"slice": [_encode(value.start), _encode(value.stop), _encode(value.step)]}
        case None | bool() | int() | float() | str():
            return value
    raise CheckpointError(f"a graph argument of type {type(value).__name__} cannot be stored")


def _decode(value: Any, made: dict[str, fx.Node]) -> Any:
    if not isinstance(value, dict):
        return value
    if "node" in value:
        return made[value["node"]]
    if "tuple" in value:
        return tuple(_decode(v, made) for v in value["tuple"])
    if "slice" in value:
        return slice(*(_decode(v, made) for v in value["slice"]))
    content = value.get("dict", value)
    return {k: _decode(v, made) for k, v in content.items()}
