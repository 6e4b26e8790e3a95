"""How much the picture changes when units are removed, once the layers that read them have been refitted.

Removing channel i from a layer takes away x_i. What the other channels (and the next bias) can say of x_i is not lost: a refit of
the layer puts it back. Only e_i = x_i - sum_k b_ik x_k - b_i, with b the regression of x_i on the channels that stay, changes the
picture, by J_i e_i with J the derivative of the picture. This is the optimal brain surgeon (Hassibi and Stork 1993) on the
Gauss-Newton form of the picture's error (LeCun et al. 1990 kept its diagonal). Against a teacher that the student no longer
equals, the first-order Taylor term joins (Molchanov et al. 2019): the loss with residual r grows by |J e|^2 - 2 <r, J e>. Over
random signs v, E <v, J e>^2 = |J e|^2 (Hutchinson 1990): a few backward passes score all units at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import fx, nn

from edgegen.errors import RecipeError
from edgegen.generator import Generator
from edgegen.pictures import visible
from edgegen.prune.allocate import LossCurve
from edgegen.prune.groups import ChannelGroup
from edgegen.spec import TensorSpec

Samples = Sequence[tuple[torch.Tensor, ...]]

_ROWS = 48  # (sample, probe) pairs at least
_MOST_CHANNELS = 512  # of a layer's inputs that regressions are made over: memory grows with their square
_VALUES = 2_000_000  # of pictures that are differentiated: large pictures average over their own pixels
_RIDGE = 1e-3  # of the mean variance of a channel
_CHUNK = 16  # of the units left, one in so many goes before the others are scored again


@dataclasses.dataclass(frozen=True)
class Reading:
    """What one layer reads: `effects[p, i, k]` = <v_p, J_i x_k> per probe p, and the inverse covariance of its inputs x.

    A layer that reads too many channels has only `effects[p, i]` = <v_p, J_i x_i>, and no `precision`. All x are less their mean.
    """

    effects: torch.Tensor
    precision: torch.Tensor | None


def joined(samples: Samples) -> tuple[torch.Tensor, ...]:
    """Return samples of batch 1 as one batch."""
    return tuple(torch.cat(tensors) for tensors in zip(*samples, strict=True))


@torch.no_grad()
def picture_loss(student: Generator, teacher: Generator, samples: Samples) -> float:
    """Return the mean square error between the pictures of two generators in [0, 1] display range, averaged over `samples`."""
    spec, total = teacher.spec.outputs[0], 0.0
    for inputs in samples:
        wanted, given = (visible(generator.module(*inputs), spec) for generator in (teacher, student))
        total += float((given - wanted).square().mean())
    return total / len(samples)


def picture_curves(
    student: Generator,
    groups: Sequence[ChannelGroup],
    samples: Samples,
    *,
    teacher: Generator | None = None,
    orders: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
) -> dict[str, LossCurve]:
    """Return what removing units of every group costs in picture loss (mean square error in display range), layers refitted.

    Units go one after another, the least costly first, and what stays takes over what it can from those that went. `teacher`
    is given when `student` is no longer what made the pictures to keep. `orders` gives the order of every group's units instead.
    Raises RecipeError without `samples` (inputs with batch axis 1).
    """
    if not samples:
        raise RecipeError(
            "there are no calibration inputs to see with what channels do to pictures",
            hint="give --data, or set [prune] importance to 'norm'",
        )
    reader = _Reader(student.module, _readers(student.module, groups), student.spec.outputs[0])
    readings, errors = reader.read(samples, teacher, seed)
    return {g.root: _eliminate(g, readings, errors, None if orders is None else orders[g.root]) for g in groups}


def picture_sensitivity(
    module: fx.GraphModule,
    groups: Sequence[ChannelGroup],
    samples: Samples,
    output: TensorSpec,
    *,
    probes: int = 4,
    seed: int = 0,
) -> dict[str, torch.Tensor]:
    """Return, per group, what removing each unit alone costs in picture loss, shape (units,); its mean may be absorbed by a bias.

    `probes` backward passes are made per sample. No regression: the varying part of a channel counts whole.
    """
    readings, errors = _Reader(module, _readers(module, groups), output).read(samples, None, seed, probes=probes)
    alone = {name: Reading(_own(reading), None) for name, reading in readings.items()}
    return {group.root: _growth(_costs(_parts(group, alone)), errors) for group in groups}


def _readers(module: fx.GraphModule, groups: Sequence[ChannelGroup]) -> list[str]:
    """Layers with weights that read a group's channels, in a fixed order."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    members = [m for group in groups for m in group.members if m.side == "in"]
    return sorted({m.layer for m in members if isinstance(module.get_submodule(m.layer), kinds)})


class _Reader:
    """Runs a module and looks at what the named layers read and what it does to the picture."""

    def __init__(self, module: fx.GraphModule, layers: list[str], spec: TensorSpec) -> None:
        self._module, self._layers, self._spec = module, layers, spec
        self._seen: dict[str, list[torch.Tensor]] = {}

    def read(
        self, samples: Samples, teacher: Generator | None, seed: int, probes: int | None = None
    ) -> tuple[dict[str, Reading], torch.Tensor]:
        """Return a Reading per layer, and <v, r> with the residual r to the teacher's picture per probe (zero without)."""
        drawn = torch.Generator().manual_seed(seed)
        effects: dict[str, list[torch.Tensor]] = {name: [] for name in self._layers}
        errors: list[torch.Tensor] = []
        with self._watching():
            moments = {name: _Moments() for name in self._layers}
            for inputs in samples:
                with torch.no_grad():
                    self._module(*inputs)
                for name in self._layers:
                    for x in self._seen[name]:
                        moments[name].add(x)
            chosen = self._chosen(samples) if probes is None else list(samples)
            for inputs in chosen:
                passes = self._passes(inputs, teacher, probes or -(-_ROWS // len(chosen)), drawn, moments)
                for error, found in passes:
                    errors.append(error)
                    for name, effect in found.items():
                        effects[name].append(effect)
        made = {name: Reading(torch.cat(effects[name]), moments[name].precision()) for name in self._layers}
        return made, torch.stack(errors)

    def _chosen(self, samples: Samples) -> list[tuple[torch.Tensor, ...]]:
        """Return samples evenly taken from all: as many as there are probes, fewer when pictures are large."""
        values = self._module(*samples[0]).numel()
        count = min(len(samples), _ROWS, max(4, _VALUES // values))
        return [samples[i * len(samples) // count] for i in range(count)]

    def _passes(
        self,
        inputs: tuple[torch.Tensor, ...],
        teacher: Generator | None,
        probes: int,
        drawn: torch.Generator,
        moments: Mapping[str, _Moments],
    ) -> Iterator[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        """Yield <v, residual> and the effects by layer, one probe after the other, for one sample."""
        with torch.enable_grad():
            picture = _shown(self._module(*inputs), self._spec)
        residual = torch.zeros_like(picture)
        if teacher is not None:
            with torch.no_grad():
                residual = picture.detach() - _shown(teacher.module(*inputs), self._spec)
        calls = [(name, x) for name in self._layers for x in self._seen[name]]
        varying = [moments[name].centred(x) for name, x in calls]
        for _ in range(probes):
            signs = torch.randint(0, 2, picture.shape, generator=drawn).to(picture.dtype) * 2 - 1
            signs /= picture.numel() ** 0.5
            slopes = torch.autograd.grad(picture, [x for _, x in calls], signs, retain_graph=True)
            found: dict[str, torch.Tensor] = {}
            for (name, _), slope, x in zip(calls, slopes, varying, strict=True):
                by_channel = slope.transpose(0, 1).flatten(1)
                effect = by_channel @ x.t() if moments[name].whole else (by_channel * x).sum(1)
                found[name] = found.get(name, 0.0) + effect[None]
            yield (signs * residual).sum(), found

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        """Keep what the layers read in `_seen` while a module runs; the weights' own gradients are off meanwhile."""
        trained = [p for p in self._module.parameters() if p.requires_grad]
        hooks = [self._module.get_submodule(name).register_forward_pre_hook(self._watch(name)) for name in self._layers]
        hooks.append(self._module.register_forward_pre_hook(lambda *_: self._seen.clear()))
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            self._seen.clear()
            for hook in hooks:
                hook.remove()
            for parameter in trained:
                parameter.requires_grad_(True)

    def _watch(self, name: str):
        def hook(_: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            x = args[0] if args[0].requires_grad or not torch.is_grad_enabled() else args[0].detach().requires_grad_()
            own = x.view_as(x)  # a tensor of its own: layers that read the same value have gradients apart
            self._seen.setdefault(name, []).append(own)
            return (own, *args[1:])

        return hook


class _Moments:
    """Mean and covariance of a layer's input channels, over samples and positions."""

    def __init__(self) -> None:
        self._count, self._sum, self._products, self.whole = 0, torch.zeros(1), torch.zeros(1), True

    def add(self, x: torch.Tensor) -> None:
        """Add the values (N, C, ...) of one call."""
        rows = x.transpose(0, 1).flatten(1)
        self.whole = len(rows) <= _MOST_CHANNELS
        self._count += rows.shape[1]
        self._sum = self._sum + rows.double().sum(1)
        if self.whole:
            self._products = self._products + (rows @ rows.t()).double()

    def centred(self, x: torch.Tensor) -> torch.Tensor:
        """Return the values as (C, N x positions), less the mean of each channel."""
        return x.detach().transpose(0, 1).flatten(1) - (self._sum / self._count).to(x.dtype)[:, None]

    def precision(self) -> torch.Tensor | None:
        """Return the inverse covariance (C, C), shrunk the more the fewer values there were; None when there are too many."""
        if not self.whole:
            return None
        mean = self._sum / self._count
        covariance = self._products / self._count - torch.outer(mean, mean)
        shrinkage = _RIDGE + len(mean) / self._count  # 128 latents say little about 256 features
        covariance.diagonal().add_(shrinkage * float(covariance.diagonal().mean()) + 1e-12)
        return torch.linalg.inv(covariance).float()


def _shown(picture: torch.Tensor, spec: TensorSpec) -> torch.Tensor:
    """Return `picture` in display range with the gradient that a viewer sees: none where it is cut off."""
    if spec.low is None or spec.high is None:
        return picture.float()
    return ((picture.float() - spec.low) / (spec.high - spec.low)).clamp(0.0, 1.0)


class _Part:
    """One layer that reads a group, while units of the group are being removed."""

    def __init__(self, reading: Reading, channels: Sequence[Sequence[int]]) -> None:
        self._channels, self._precision = channels, reading.precision
        self._own = torch.tensor([c for unit in channels for c in unit], dtype=torch.long)
        self._width = len(channels[0])
        self._effects = reading.effects[:, self._own].clone()

    def costs(self) -> torch.Tensor:
        """Return <v_p, J e> for the removal of every unit by itself, shape (P, units)."""
        count, width = len(self._channels), self._width
        if self._precision is None:
            return self._effects.reshape(len(self._effects), count, width).sum(2)
        own = self._own.reshape(count, width)
        blocks = self._precision[own[:, :, None], own[:, None, :]]
        unexplained = torch.linalg.solve(blocks, self._precision[own])  # (units, width, C): e = unexplained @ x
        return torch.einsum("puwc,uwc->pu", self._effects.reshape(len(self._effects), count, width, -1), unexplained)

    def remove(self, units: Sequence[int]) -> None:
        """Take units away; the layer's other channels do what they can in their place."""
        rows = torch.tensor([u * self._width + i for u in units for i in range(self._width)], dtype=torch.long)
        if self._precision is None:
            self._effects[:, rows] = 0.0
            return
        gone = self._own[rows]
        block = torch.linalg.solve(self._precision[gone][:, gone], self._precision[gone])
        given = -block
        given[:, gone] = 0.0
        self._effects += torch.einsum("ik,pic->pkc", given[:, self._own], self._effects[:, rows])
        self._effects[:, rows] = 0.0
        precision = self._precision - self._precision[:, gone] @ block
        precision[gone, :], precision[:, gone] = 0.0, 0.0
        precision[gone, gone] = 1.0
        self._precision = precision


def _own(reading: Reading) -> torch.Tensor:
    return reading.effects if reading.precision is None else reading.effects.diagonal(dim1=1, dim2=2)


def _parts(group: ChannelGroup, readings: Mapping[str, Reading]) -> list[_Part]:
    """Return a part per layer that reads the group; a layer that reads it twice is one part."""
    channels: dict[str, list[tuple[int, ...]]] = {}
    for member in group.members:
        if member.side == "in" and member.layer in readings:
            known = channels.get(member.layer, [()] * group.unit_count)
            channels[member.layer] = [tuple(sorted({*a, *b})) for a, b in zip(known, member.channels, strict=True)]
    return [_Part(readings[layer], units) for layer, units in channels.items()]


def _costs(parts: Sequence[_Part]) -> torch.Tensor:
    return torch.stack([part.costs() for part in parts]).sum(0)


def _growth(costs: torch.Tensor, errors: torch.Tensor) -> torch.Tensor:
    """Return by how much the mean square error grows, given <v, J e> (P, units) and <v, r> (P,)."""
    return (costs.square() - 2 * errors[:, None] * costs).mean(0)


def _eliminate(
    group: ChannelGroup, readings: Mapping[str, Reading], errors: torch.Tensor, order: Sequence[int] | None
) -> LossCurve:
    """Remove the units of one group in `order`, or least costly first, scoring again what is left after every few."""
    parts, left = _parts(group, readings), list(order or range(group.unit_count))
    gone, losses = [], [0.0]
    while left:
        growth = _growth(_costs(parts), errors).tolist()
        if order is None:
            left.sort(key=lambda unit: growth[unit])
        count = max(1, len(left) // _CHUNK)
        going, left = left[:count], left[count:]
        for unit in going:
            losses.append(losses[-1] + max(0.0, growth[unit]))
        gone += going
        for part in parts:
            part.remove(going)
    return LossCurve(tuple(gone), tuple(losses))
