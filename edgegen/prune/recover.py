"""Bring the pictures back after a cut without training: refit every layer onto what the teacher's layer gives.

Source: He et al. 2017 and Luo et al. 2017 (ThiNet). In graph order each convolution, transposed convolution and linear layer
gets the weights that map the student's own activations best onto the teacher's, so that it also makes good what the layers
before it got wrong. Where a layer ends a residual branch, its goal is the teacher's stream less the student's skip (He, 3.3).
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Mapping, Sequence

import torch
from torch import fx, nn

from edgegen.generator import Generator
from edgegen.graph import layer_of
from edgegen.prune.least_squares import fit_layer, fit_transposed
from edgegen.prune.sensitivity import joined, picture_loss

_ADDITIONS = (operator.add, torch.add, "add")
_TESTED_SHARE = 4  # every fourth sample is not fitted to: it tells whether the pictures came nearer


@dataclasses.dataclass(frozen=True)
class Recovery:
    """Picture loss to the teacher before and after, on inputs that were not fitted to, and which layers were refitted.

    `layers` maps each to the share of its goal's energy that it misses. It is empty when refitting made pictures worse.
    """

    before: float
    after: float
    layers: Mapping[str, float]


def reconstruct(
    student: Generator,
    teacher: Generator,
    samples: Sequence[tuple[torch.Tensor, ...]],
    *,
    kept: Mapping[str, Sequence[int]],
    rows: int = 20_000,
    ridge: float = 1e-3,
    seed: int = 0,
) -> tuple[Generator, Recovery]:
    """Return `student` with its layers refitted, or as it is when that does not bring its pictures nearer to the teacher's.

    `teacher` is the generator before the cut, whose nodes have the same names; `kept` lists, for every layer that lost
    outputs, the teacher's channels that are left. `samples` are inputs with batch axis 1; `rows` positions are drawn per layer.
    """
    tested = [s for i, s in enumerate(samples) if i % _TESTED_SHARE == _TESTED_SHARE - 1] or list(samples)
    fitted = [s for i, s in enumerate(samples) if i % _TESTED_SHARE != _TESTED_SHARE - 1]
    made = student.copy()
    missed: dict[str, float] = {}
    with torch.no_grad():
        ours, theirs = _Walk(made.module, joined(fitted)), _Walk(teacher.module, joined(fitted))
        for node in list(made.module.graph.nodes):
            layer = layer_of(made.module, node)
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)) and theirs.has(node.name):
                source = ours.value(node.all_input_nodes[0])
                goal = _goal(node, ours, theirs, kept.get(str(node.target)))
                if goal is not None:
                    missed[str(node.target)] = _fit(layer, source, goal, rows, ridge, seed)
            ours.step(node)
            theirs.forget(ours.forget())
    before, after = (picture_loss(generator, teacher, tested) for generator in (student, made))
    if not after < before:
        return student, Recovery(before, before, {})
    return made, Recovery(before, after, missed)


def _goal(node: fx.Node, ours: _Walk, theirs: _Walk, kept: Sequence[int] | None) -> torch.Tensor | None:
    """Return what the layer should give: the teacher's activation, or the stream behind it less the student's skip.

    None when the layer still gets what the teacher's gets: it needs no refit.
    """
    source = ours.value(node.all_input_nodes[0])
    wanted = theirs.named(node.name, kept)
    theirs_in = theirs.named(node.all_input_nodes[0].name, None)
    if theirs_in is not None and theirs_in.shape == source.shape and torch.equal(theirs_in, source):
        return None
    user = next(iter(node.users)) if len(node.users) == 1 else None
    if user is not None and user.target in _ADDITIONS and theirs.has(user.name):
        others = [n for n in user.all_input_nodes if n is not node]
        if len(others) == 1 and ours.knows(others[0]):
            skip, stream = ours.value(others[0]), theirs.named(user.name, kept)
            if stream is not None and stream.shape == skip.shape:
                return stream - skip
    return wanted


def _fit(
    layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear,
    source: torch.Tensor,
    goal: torch.Tensor,
    rows: int,
    ridge: float,
    seed: int,
) -> float:
    if isinstance(layer, nn.ConvTranspose2d):
        return fit_transposed(layer, [(source, goal)], rows=rows, ridge=ridge, seed=seed)
    return fit_layer(layer, [(source, goal)], rows=rows, ridge=ridge, seed=seed)


class _Walk:
    """A module being run node by node; values are forgotten when nothing ahead reads them."""

    def __init__(self, module: fx.GraphModule, inputs: tuple[torch.Tensor, ...]) -> None:
        self._run, self._inputs = fx.Interpreter(module), iter(inputs)
        self._nodes = {node.name: node for node in module.graph.nodes}
        self._ahead = iter(list(module.graph.nodes))
        self._done: set[fx.Node] = set()

    def has(self, name: str) -> bool:
        """Whether the module has a node of this name."""
        return name in self._nodes

    def knows(self, node: fx.Node) -> bool:
        """Whether the value of `node` has been computed."""
        return node in self._run.env

    def value(self, node: fx.Node) -> torch.Tensor:
        """Return the value of a node that has been computed."""
        return self._run.env[node]

    def named(self, name: str, kept: Sequence[int] | None) -> torch.Tensor | None:
        """Return the value of the node called `name`, run up to there if need be, with only the `kept` channels."""
        node = self._nodes.get(name)
        if node is None:
            return None
        while node not in self._run.env:
            self.step(next(self._ahead))
        value = self._run.env[node]
        return value if kept is None else value[:, list(kept)]

    def step(self, node: fx.Node) -> None:
        """Compute one node, whose inputs must be there."""
        self._run.env[node] = next(self._inputs) if node.op == "placeholder" else self._run.run_node(node)
        self._done.add(node)

    def forget(self, names: Sequence[str] | None = None) -> list[str]:
        """Drop the values (of `names`; None: of any node) that nothing ahead reads; return the names of those dropped."""
        held = list(self._run.env) if names is None else [self._nodes[n] for n in names if n in self._nodes]
        spent = [n for n in held if n in self._run.env and n.users and all(user in self._done for user in n.users)]
        for node in spent:
            del self._run.env[node]
        return [node.name for node in spent]
