"""The layers of a generator as latency models see them, with channel counts that can be lowered without touching the module."""

from __future__ import annotations

import dataclasses
from collections import Counter
from fractions import Fraction

import torch
from torch import fx, nn

from edgegen.graph import layer_of, node_shapes
from edgegen.latency import LayerWork, Pass
from edgegen.latency.snippets import BINARY, ELEMENTWISE
from edgegen.prune.operations import FREE, UNKNOWN, WEIGHTED, Storage, pair, tensors, token


def layer_works(module: fx.GraphModule, inputs: tuple[torch.Tensor, ...]) -> dict[str, LayerWork]:
    """Return the work of every convolution and linear layer by layer name (the target of its call), and of inputs and outputs.

    What has no weights goes with the layer before it, so that it loses channels with it: elementwise operations run in the layer,
    all others are passes over its result. A join of several tensors is a pass of each.
    """
    return _Works(module, inputs).found()


def uncounted(module: fx.GraphModule, inputs: tuple[torch.Tensor, ...]) -> dict[str, int]:
    """Return the operations that no work stands for, by kind, with how many there are: estimates leave them out."""
    return dict(sorted(_Works(module, inputs).uncounted.items()))


def with_fewer_channels(work: LayerWork, inputs: int, outputs: int) -> LayerWork:
    """Return `work` with `inputs` and `outputs` channels removed; its passes follow."""
    kept_in, kept_out = work.inputs - inputs, work.outputs - outputs
    if not work.weighted:
        return dataclasses.replace(work, inputs=kept_out, outputs=kept_out)
    groups = kept_out if work.groups == work.outputs > 1 else work.groups
    return dataclasses.replace(work, inputs=kept_out if groups == kept_out > 1 else kept_in, outputs=kept_out, groups=groups)


@dataclasses.dataclass(frozen=True)
class _Part:
    """Channels of a tensor that one layer gives: `share` times its outputs. `slot` is where an elementwise operation on them
    runs: -1 in the layer, otherwise in the pass of that number; None: in a pass of its own."""

    root: str
    share: Fraction
    slot: int | None


@dataclasses.dataclass
class _Draft:
    """A layer or a pass while its operations are collected; `last` gives what it stores."""

    ops: list[str]
    last: fx.Node
    source: fx.Node
    share: Fraction = Fraction(1)


class _Works:
    """Walks a graph once and hands every node to a layer."""

    def __init__(self, module: fx.GraphModule, inputs: tuple[torch.Tensor, ...]) -> None:
        self._module, self._shapes = module, node_shapes(module, inputs)
        self._nodes = [node for node in module.graph.nodes if node.name in self._shapes]
        calls = [n for n in self._nodes if n.op.startswith("call") and not isinstance(layer_of(module, n), WEIGHTED)]
        self._tokens = {node: token(module, node, self._shapes) for node in calls}
        self._storage = Storage(self._tokens | {n: "input" for n in self._nodes if n.op == "placeholder"})
        self._bases, self._layers = dict[str, LayerWork](), dict[str, _Draft]()
        self._passes = dict[str, list[_Draft]]()
        self._parts = dict[fx.Node, tuple[_Part, ...]]()
        self.uncounted = Counter[str]()
        for node in self._nodes:
            self._parts[node] = self._visit(node)
            if self._parts[node] and self._storage.is_mixed(node):
                self._pass("quantise", node, node)
        self._hand_over()

    def found(self) -> dict[str, LayerWork]:
        """Return every work by name."""
        made = {}
        for name, base in self._bases.items():
            layer = self._layers[name]
            passes = tuple(self._finished(draft) for draft in self._passes[name])
            to_int8 = base.weighted and self._storage.is_int8(layer.last)
            made[name] = dataclasses.replace(base, fused=tuple(layer.ops), passes=passes, to_int8=to_int8)
        return made

    def _finished(self, draft: _Draft) -> Pass:
        shape = self._shapes[draft.source.name]
        height, width = shape[2:] if len(shape) == 4 else (1, 1)
        quantise = draft.ops == ["quantise"]
        return Pass(
            tuple(draft.ops), height, width, (draft.share.numerator, draft.share.denominator),
            not quantise and self._storage.is_int8(draft.source), quantise or self._storage.is_int8(draft.last),
        )  # fmt: skip

    def _visit(self, node: fx.Node) -> tuple[_Part, ...]:
        """Count `node` and return who gives its channels."""
        layer, name = layer_of(self._module, node), self._tokens.get(node, "")
        if node.op == "placeholder" or isinstance(layer, WEIGHTED):
            return self._root(node, layer)
        sources = [source for source in tensors(node, self._shapes) if self._parts.get(source)]
        if not sources or node.op == "get_attr":
            return ()
        if name == UNKNOWN or name == "reshape":
            self.uncounted[type(layer).__name__ if layer is not None else getattr(node.target, "__name__", str(node.target))] += 1
        if name in (UNKNOWN, "reshape", FREE) or self._is_folded(node, name):
            factor = Fraction(self._shapes[node.name][1], self._shapes[sources[0].name][1])
            slot = name == FREE and len(sources[0].users) == 1
            return tuple(_Part(p.root, p.share * factor, p.slot if slot else None) for p in self._parts[sources[0]])
        if name == "concat":
            return tuple(part for source in sources for part in self._pass(name, source, node))
        main = self._main(sources) if name in BINARY else sources[0]
        if name in (*ELEMENTWISE, *BINARY) and (runs_in := self._open(main, name)) is not None:
            runs_in.ops.append(name)
            runs_in.last = node
            return self._parts[main]
        return self._pass(name, main, node)

    def _root(self, node: fx.Node, layer: nn.Module | None) -> tuple[_Part, ...]:
        """Add the work of an input or a layer with weights."""
        name = str(node.target)
        while name in self._bases:  # a layer that is called again
            name += "'"
        self._bases[name], self._passes[name] = self._base(node, layer), []
        self._layers[name] = _Draft([], node, node)
        return (_Part(name, Fraction(1), None if layer is None else -1),)

    def _base(self, node: fx.Node, layer: nn.Module | None) -> LayerWork:
        shape = self._shapes[node.name]
        height, width = shape[2:] if len(shape) == 4 else (1, 1)
        match layer:
            case nn.ConvTranspose2d() | nn.Conv2d():
                transposed = isinstance(layer, nn.ConvTranspose2d)
                signed = transposed and self._storage.is_signed(node.all_input_nodes[0])
                return LayerWork(
                    "transposed" if transposed else "conv", layer.in_channels, layer.out_channels, pair(layer.kernel_size),
                    pair(layer.stride), layer.groups, height, width, signed=signed,
                )  # fmt: skip
            case nn.Linear():
                return LayerWork("linear", layer.in_features, layer.out_features, (1, 1), (1, 1), 1, 1, 1)
            case _:
                return LayerWork("input", shape[1], shape[1], (1, 1), (1, 1), 1, height, width)

    def _pass(self, name: str, source: fx.Node, node: fx.Node) -> tuple[_Part, ...]:
        """Add a pass over `source` for every part of it; return the parts of `node`."""
        factor = Fraction(1)
        if name.startswith(("shuffle", "unshuffle")):
            factor = Fraction(self._shapes[node.name][1], self._shapes[source.name][1])
        made = []
        for part in self._parts[source]:
            self._passes[part.root].append(_Draft([name], node, source, part.share))
            made.append(_Part(part.root, part.share * factor, len(self._passes[part.root]) - 1))
        return tuple(made)

    def _open(self, source: fx.Node, name: str) -> _Draft | None:
        """Return what gives `source` if `name` can run in it; nothing else reads `source` then."""
        parts = self._parts[source]
        if len(source.users) > 1 or len(parts) != 1:
            return None
        (part,) = parts
        if part.slot == -1:
            return self._layers[part.root]
        return None if name in BINARY or part.slot is None else self._passes[part.root][part.slot]

    def _main(self, sources: list[fx.Node]) -> fx.Node:
        """Return the operand that an addition runs with: the last one computed, if possible in its layer."""
        order = {node: index for index, node in enumerate(self._nodes)}
        return max(sources, key=lambda s: (self._open(s, "add") is not None, order[s]))

    def _is_folded(self, node: fx.Node, name: str) -> bool:
        """Whether a border of zeros becomes the padding of the only convolution that reads it."""
        (reader, *others) = node.users or [None]
        folds = reader is not None and not others and isinstance(layer_of(self._module, reader), nn.Conv2d)
        return name.startswith("pad constant") and folds

    def _hand_over(self) -> None:
        """Add the work of giving back each picture."""
        result = next(node for node in self._module.graph.nodes if node.op == "output")
        for number, node in enumerate(result.all_input_nodes):
            shape = self._shapes[node.name]
            if len(shape) == 4:
                name = f"output {number}"
                self._bases[name] = LayerWork("output", shape[1], shape[1], (1, 1), (1, 1), 1, shape[2], shape[3])
                self._layers[name], self._passes[name] = _Draft([], node, node), []
