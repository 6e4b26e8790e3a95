"""What a move is, where it applies, and the graph reading that all moves share."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import fx, nn

from edgegen.generator import Generator
from edgegen.graph import LAYERS, clean, layer_of, node_shapes

Samples = Sequence[tuple[torch.Tensor, ...]]
"""Calibration inputs of a generator: one tuple of tensors each, batch axis 1."""

PADS = (nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d)
POINTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SiLU, nn.GELU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Hardtanh,
)  # fmt: skip
NORMS = (nn.InstanceNorm2d, nn.BatchNorm2d)


@dataclasses.dataclass(frozen=True)
class Site:
    """A place where a move applies: the layers that it changes, in graph order, and which form it gives them."""

    move: str
    layers: tuple[str, ...]
    form: str

    @property
    def label(self) -> str:
        """The move, its form and the first and last layer, as tables and records call the site."""
        ends = self.layers[0] if len(self.layers) == 1 else f"{self.layers[0]}..{self.layers[-1]}"
        return f"{self.move} ({self.form}) {ends}"


@dataclasses.dataclass(frozen=True)
class Move:
    """A change of the graph that makes a generator cheaper.

    `find(module, inputs)` gives every place where it applies, in graph order; `inputs` are an example of the generator's.
    `apply(student, site, samples=...)` gives a copy changed at `site`, its new layers fitted to the activations that the samples
    have in `student` there.
    """

    name: str
    find: Callable[[fx.GraphModule, tuple[torch.Tensor, ...]], list[Site]]
    apply: Callable[..., Generator]


def shapes_of(module: fx.GraphModule, inputs: tuple[torch.Tensor, ...]) -> dict[str, tuple[int, ...]]:
    """Return the output shape of every node, batch axis included, without computing values."""
    return node_shapes(copy.deepcopy(module).to("meta"), tuple(tensor.to("meta") for tensor in inputs))


def calls(module: fx.GraphModule) -> dict[str, fx.Node]:
    """Return the call of every layer that is called exactly once: changing such a layer changes nothing else."""
    nodes = [node for node in module.graph.nodes if node.op == "call_module"]
    times = Counter(node.target for node in nodes)
    return {str(node.target): node for node in nodes if times[node.target] == 1}


def plain_conv(layer: nn.Module | None) -> nn.Conv2d | None:
    """Return `layer` if it is a dense convolution with numbers for padding and dilation 1."""
    if not isinstance(layer, nn.Conv2d) or layer.groups != 1 or isinstance(layer.padding, str):
        return None
    return layer if layer.dilation == (1, 1) else None


def conv_like(conv: nn.Conv2d, **changed: object) -> nn.Conv2d:
    """Return a new convolution with the settings of `conv` but for those in `changed`; its weights are zeros."""
    settings = {name: getattr(conv, name) for name in LAYERS[nn.Conv2d]}
    new = nn.Conv2d(**{**settings, "bias": conv.bias is not None, **changed})
    with torch.no_grad():
        for parameter in new.parameters():
            parameter.zero_()
    return new


def before(module: fx.GraphModule, node: fx.Node, name: str, layers: Sequence[nn.Module]) -> None:
    """Put a chain of `layers` between `node` and its one input."""
    (source,) = node.all_input_nodes
    last = source
    for layer in layers:
        unique = name.replace(".", "_")
        while hasattr(module, unique):
            unique += "_"
        module.add_submodule(unique, layer)
        with module.graph.inserting_before(node):
            last = module.graph.call_module(unique, (last,))
    node.replace_input_with(source, last)


def normalised(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a norm of its own takes each channel's scale away behind `node`: then channels count alike, else as they are."""
    return len(node.users) == 1 and isinstance(layer_of(module, next(iter(node.users))), NORMS)


def finished(made: Generator) -> Generator:
    """Return `made` with what nothing uses any more dropped, all of it in eval mode: what every move ends with."""
    clean(made.module)
    made.module.eval()
    return made
