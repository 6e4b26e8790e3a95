"""What flows in a network on calibration samples: the goals that closed-form fits aim at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx, nn

from edgegen.prune.least_squares import rows_at
from edgegen.prune.moves.site import Samples

ROWS = 8_000
"""Output positions that a fit draws: enough for the widest usual layer (128 channels x 9 taps = 1,152 unknowns)."""

RIDGE = 1e-4
"""Pull towards what the layer starts from, relative to the mean energy of an input value."""


@torch.no_grad()
def activations(module: fx.GraphModule, nodes: Sequence[fx.Node], samples: Samples) -> list[tuple[torch.Tensor, ...]]:
    """Return the values of `nodes` for every sample; nodes that they do not depend on are not computed."""
    graph, made = fx.Graph(), dict[fx.Node, fx.Node]()
    graph.graph_copy(module.graph, made)
    graph.output(tuple(made[node] for node in nodes))
    shortened = fx.GraphModule(module, graph)
    shortened.graph.eliminate_dead_code()
    shortened.recompile()
    return [shortened(*inputs) for inputs in samples]


@torch.no_grad()
def moments(
    conv: nn.Conv2d, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], *, rows: int = ROWS, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (X'X, X'Y, mean of X, mean of Y), centred, float64, of patches X that `conv` reads and wanted values Y.

    `pairs` are (source, target) batches (N, C, H, W); a column of X is (input channel, kernel row, kernel column) flattened.
    """
    drawn = torch.Generator().manual_seed(seed)
    share = max(1, rows // len(pairs))
    read = [rows_at(conv, source, target, share, drawn) for source, target in pairs]
    x, y = torch.cat([r[0] for r in read]), torch.cat([r[1] for r in read])
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    return (x.t() @ x).double(), (x.t() @ y).double(), x_mean.double(), y_mean.double()


def nearest_affine(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (scale, shift) per channel, float32, that map sources (N, C, H, W) to targets with the least square error."""
    x = torch.stack([x.double().mean((0, 2, 3)) for x, _ in pairs]).mean(0)
    y = torch.stack([y.double().mean((0, 2, 3)) for _, y in pairs]).mean(0)
    a, b = x[:, None, None], y[:, None, None]
    both = torch.stack([((s - a) * (t - b)).mean((0, 2, 3)) for s, t in pairs]).mean(0)
    spread = torch.stack([(s - a).square().mean((0, 2, 3)) for s, _ in pairs]).mean(0).clamp_min(1e-12)
    scale = both / spread
    return scale.float(), (y - scale * x).float()


def through(layers: Sequence[nn.Module], value: torch.Tensor) -> torch.Tensor:
    """Run `value` through `layers` in turn."""
    for layer in layers:
        value = layer(value)
    return value


def ridged(gram: torch.Tensor, ridge: float = RIDGE) -> torch.Tensor:
    """Return `gram` with `ridge` times its mean diagonal added to the diagonal: it can be inverted."""
    return gram + torch.eye(len(gram), dtype=gram.dtype) * (ridge * float(gram.diagonal().mean()) + 1e-12)
