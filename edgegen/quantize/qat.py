"""Quantisation-aware training, its two ends: a student with fake quantisers for the training loop, and what it hands on.

What is trained is an ordinary generator, so the one loop with all its losses (edgegen.distill) trains it. Afterwards the fake
quantisers are gone: the weights, and the learned ranges, go through the back end's own quantiser (docs/design.md, decision 2).
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import fx, nn
from torch.nn.utils import parametrize

from edgegen.graph import clean, layer_of
from edgegen.quantize.fake import FakeActivation, FakeWeight, Scheme
from edgegen.ranges import LearnedRange, weight_digest
from edgegen.spec import Backend

if TYPE_CHECKING:
    import numpy as np

    from edgegen.generator import Generator

_WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
_SUMS = (operator.add, torch.add)
_RELUS = (torch.relu, nn.functional.relu)
_PREFIX = "fake_quantiser_"


def scheme_of(backend: Backend) -> Scheme:
    """Return how `backend` computes in int8.

    OpenVINO: NNCF's mixed preset, which finds ranges itself. LiteRT: static int8 of convolutions, ranges handed over. TensorRT:
    zero point 0, explicit Q/DQ with our ranges. onnxruntime: what weighted layers give is int8 too, after a ReLU if one follows.
    """
    match backend:
        case Backend.OPENVINO:
            return Scheme("openvino", symmetric=False, learned=False, sums=True, results=False)
        case Backend.LITERT:
            return Scheme("litert", symmetric=False, learned=True, sums=False, results=False)
        case Backend.TENSORRT:
            return Scheme("tensorrt", symmetric=True, learned=True, sums=False, results=False)
        case Backend.ONNXRUNTIME:
            return Scheme("onnxruntime", symmetric=False, learned=True, sums=False, results=True)


def prepare(student: Generator, scheme: Scheme, samples: Sequence[tuple[np.ndarray, ...]]) -> Generator:
    """Return a copy of `student` that computes as int8 of `scheme` would, ready to be trained.

    BatchNorm must be folded. `samples` (batch axis 1) give the ranges to start from: their extremes.
    """
    made = student.copy()
    module = made.module
    spans = _spans(module, samples, [node for node, _ in _quantised(module, scheme)])
    for index, (node, readers) in enumerate(_quantised(module, scheme)):
        name = f"{_PREFIX}{index}"
        module.add_submodule(name, FakeActivation(*spans[node.name], scheme))
        with module.graph.inserting_after(node):
            rounded = module.graph.call_module(name, (node,))
        for reader in readers:
            reader.replace_input_with(node, rounded)
    for layer in {layer for _, layer in _weighted(module)}:
        parametrize.register_parametrization(layer, "weight", FakeWeight(1 if isinstance(layer, nn.ConvTranspose2d) else 0))
    module.graph.lint()
    module.recompile()
    return made


def finish(trained: Generator, student: Generator) -> tuple[Generator, tuple[LearnedRange, ...]]:
    """Return `student` with the weights of `trained` (made by `prepare` from it), and the ranges that were learned.

    The ranges are empty where the scheme leaves them to the back end.
    """
    made = student.copy()
    state = {name.replace("parametrizations.weight.original", "weight"): v for name, v in trained.module.state_dict().items()}
    made.module.load_state_dict({name: value for name, value in state.items() if not name.startswith(_PREFIX)})
    made = dataclasses.replace(made, lineage=trained.lineage)
    ranges = []
    for node, _ in _weighted(trained.module):
        fake = layer_of(trained.module, node.all_input_nodes[0])
        if isinstance(fake, FakeActivation) and fake.moves is not None:
            low, high = (float(end.detach()) for end in fake.span())
            plain = made.module.get_submodule(str(node.target))
            ranges.append(LearnedRange(weight_digest(plain.get_parameter("weight").detach().numpy()), low, high))
    clean(made.module)
    return made, tuple(ranges)


@torch.no_grad()
def reestimate_statistics(generator: Generator, samples: Sequence[tuple[np.ndarray, ...]]) -> Generator:
    """Return a copy whose BatchNorms hold the statistics of `samples`, averaged over them; the same generator without any.

    An average of weights over a training does not have the average of their statistics; folded, they stay for good.
    """
    made = generator.copy()
    norms = [layer for layer in made.module.modules() if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))]
    if not norms:
        return generator
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average over all batches
        norm.train()
    batch = [torch.cat([torch.from_numpy(item[i]) for item in samples]) for i in range(len(samples[0]))]
    made.module(*batch)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
        norm.eval()
    return made


def _weighted(module: fx.GraphModule) -> Iterator[tuple[fx.Node, nn.Module]]:
    for node in module.graph.nodes:
        layer = layer_of(module, node)
        if isinstance(layer, _WEIGHTED):
            yield node, layer


def _quantised(module: fx.GraphModule, scheme: Scheme) -> list[tuple[fx.Node, list[fx.Node]]]:
    """Return the nodes whose values become int8, each with the readers that take it so, in graph order."""
    readers: dict[fx.Node, list[fx.Node]] = {}
    for node in module.graph.nodes:
        is_sum = node.op == "call_function" and node.target in _SUMS and len(node.all_input_nodes) == 2
        weighted = isinstance(layer_of(module, node), _WEIGHTED)
        if weighted or (scheme.sums and is_sum):
            for source in node.all_input_nodes:
                readers.setdefault(source, []).append(node)
        if weighted and scheme.results:
            users = list(node.users)
            result = users[0] if len(users) == 1 and _is_relu(module, users[0]) else node
            readers[result] = list(result.users)
    return [(node, readers[node]) for node in module.graph.nodes if node in readers]


def _is_relu(module: fx.GraphModule, node: fx.Node) -> bool:
    return isinstance(layer_of(module, node), nn.ReLU) or (node.op == "call_function" and node.target in _RELUS)


@torch.no_grad()
def _spans(
    module: fx.GraphModule, samples: Sequence[tuple[np.ndarray, ...]], nodes: Sequence[fx.Node]
) -> dict[str, tuple[float, float]]:
    """Return the extremes of what `nodes` give over all samples, by node name."""
    found = {node.name: (0.0, 0.0) for node in nodes}

    class Watch(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            value = super().run_node(n)
            if n.name in found and isinstance(value, torch.Tensor):
                low, high = found[n.name]
                found[n.name] = min(low, float(value.min())), max(high, float(value.max()))
            return value

    for item in samples:
        Watch(module).run(*(torch.from_numpy(array) for array in item))
    return found
