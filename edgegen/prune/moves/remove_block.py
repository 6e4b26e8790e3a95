"""Leave a residual block out (layer removal, as in BK-SDM: Kim et al. 2023).

What the block added is made good where that is linear: the layers that read its sum are fitted to what they gave before, or a
1x1 convolution in the block's place gives the best linear map of the stream.
"""

from __future__ import annotations

import dataclasses
import operator

import torch
from torch import fx, nn

from edgegen.generator import Generator
from edgegen.graph import insert_layer, layer_of
from edgegen.prune.least_squares import fit_layer, fit_transposed
from edgegen.prune.moves.activations import RIDGE, ROWS, activations, through
from edgegen.prune.moves.site import NORMS, PADS, POINTWISE, Samples, Site, calls, finished, shapes_of
from edgegen.prune.sensitivity import picture_loss

NAME = "remove_block"
_ADDITIONS = (operator.add, torch.add, "add")
_FORMS = ("nothing", "1x1")


@dataclasses.dataclass(frozen=True)
class _Block:
    """A sum of a stream and a branch that reads that stream alone."""

    stream: fx.Node
    total: fx.Node
    layers: tuple[str, ...]  # of the branch that have weights, in graph order


def find(module: fx.GraphModule, inputs: tuple[torch.Tensor, ...]) -> list[Site]:
    """Return every innermost residual block twice: with nothing in its place, and with a 1x1 convolution."""
    shapes = shapes_of(module, inputs)
    blocks = [b for b in _blocks(module) if shapes[b.stream.name] == shapes[b.total.name] and len(shapes[b.total.name]) == 4]
    return [Site(NAME, block.layers, form) for block in blocks for form in _FORMS]


@torch.no_grad()
def apply(student: Generator, site: Site, *, samples: Samples) -> Generator:
    """Return a copy without the block at `site`.

    With nothing in its place, the layers behind it are fitted or left as they are, whichever keeps the pictures nearer: a fit
    makes good what they read, not what the stream carries on past them.
    """
    if site.form == "nothing":
        plain, fitted = (_removed(student, site, samples, refit=refit) for refit in (False, True))
        losses = [picture_loss(made, student, samples) for made in (plain, fitted)]
        return fitted if losses[1] < losses[0] else plain
    made = student.copy()
    block = _block_at(made.module, site)
    pairs = [(x, y) for x, y in activations(made.module, [block.stream, block.total], samples)]
    channels = pairs[0][0].shape[1]
    conv = nn.Conv2d(channels, channels, 1)
    nn.init.dirac_(conv.weight)
    fit_layer(conv, pairs, ridge=RIDGE, rows=ROWS)
    node = insert_layer(made.module, f"{block.layers[0]}_instead", conv, block.stream)
    block.total.replace_all_uses_with(node)
    return finished(made)


def _removed(student: Generator, site: Site, samples: Samples, *, refit: bool) -> Generator:
    made = student.copy()
    block = _block_at(made.module, site)
    if refit:
        _refit_readers(made.module, block, samples)
    block.total.replace_all_uses_with(block.stream)
    return finished(made)


def _block_at(module: fx.GraphModule, site: Site) -> _Block:
    return next(block for block in _blocks(module) if block.layers == site.layers)


def _blocks(module: fx.GraphModule) -> list[_Block]:
    found = []
    for node in module.graph.nodes:
        if _adds(node):
            for stream, end in (node.args, node.args[::-1]):
                branch = _branch(node, stream, end)
                names = [n for n in module.graph.nodes if n in branch]
                weighted = tuple(str(n.target) for n in names if isinstance(layer_of(module, n), nn.Conv2d))
                if weighted and not any(_adds(n) for n in branch):
                    found.append(_Block(stream, node, weighted))
    return found


def _adds(node: fx.Node) -> bool:
    return node.target in _ADDITIONS and len(node.args) == 2 and all(isinstance(a, fx.Node) for a in node.args)


def _branch(total: fx.Node, stream: fx.Node, end: fx.Node) -> set[fx.Node]:
    """Return the nodes between `stream` and `end`; empty if they read or are read by anything else."""
    branch, pending = set[fx.Node](), [end]
    while pending:
        node = pending.pop()
        if node is stream or node in branch:
            continue
        if node.op == "placeholder":
            return set()
        branch.add(node)
        pending += node.all_input_nodes
    closed = all(user in branch or user is total for node in branch for user in node.users)
    return branch if closed else set()


def _refit_readers(module: fx.GraphModule, block: _Block, samples: Samples) -> None:
    """Fit each convolution that reads the sum, or pads, norms and activations of it, to give from the stream what it gave."""
    by_name = calls(module)
    for user in block.total.users:
        between, node = list[nn.Module](), user
        while isinstance(layer := layer_of(module, node), (*PADS, *NORMS, *POINTWISE)) and len(node.users) == 1:
            between.append(layer)
            node = next(iter(node.users))
        transposed = isinstance(layer, nn.ConvTranspose2d) and layer.groups == 1
        if str(node.target) not in by_name or not (isinstance(layer, nn.Conv2d) or transposed):
            continue
        pairs = [(through(between, x), y) for x, y in activations(module, [block.stream, node], samples)]
        if isinstance(layer, nn.Conv2d):
            fit_layer(layer, pairs, ridge=RIDGE, rows=ROWS)
        elif isinstance(layer, nn.ConvTranspose2d):
            fit_transposed(layer, pairs, ridge=RIDGE, rows=ROWS)
