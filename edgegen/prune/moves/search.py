"""Which moves pay: each is tried on a copy, ranked by pictures lost per second saved, and must beat removing channels.

The loss of a closed-form start tells little after a large change, because training recovers some moves well and others not.
`choose` therefore takes a callable that trains a candidate briefly; without it the closed-form loss decides.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import fx

from edgegen.generator import Generator
from edgegen.graph import example_inputs, layer_costs
from edgegen.latency import LatencyModel, estimate
from edgegen.pictures import visible
from edgegen.prune.moves import MOVES
from edgegen.prune.moves.site import Move, Samples, Site
from edgegen.prune.work import layer_works

_TESTED_SHARE = 4  # every fourth sample is not fitted to: it tells what a move costs
_GAIN = 0.02  # by how much of the loss, or of the seconds missed, a move must be better: less is noise
_OVER_BUDGET = 1.03  # an estimate above this share of the budget misses it: channels go in tiles


@dataclasses.dataclass(frozen=True)
class Proposal:
    """A move at one site, tried: estimated seconds and multiply-accumulates saved, and the picture loss that it adds.

    The loss is the mean square error to the present pictures in [0, 1] display range. `student` is the result.
    """

    site: Site
    saved_s: float
    saved_macs: int
    loss_added: float
    student: Generator


@dataclasses.dataclass(frozen=True)
class Trial:
    """A candidate at the budget: the moves it has ahead of those taken so far, its estimate in seconds, its loss, its fate."""

    site: Site | None  # None: channels alone
    seconds: float
    loss: float
    taken: bool


@dataclasses.dataclass(frozen=True)
class Choice:
    """The best student within the budget, what it was before its channels went, and every comparison that led there."""

    student: Generator
    uncut: Generator
    sites: tuple[Site, ...]
    trials: tuple[Trial, ...]

    @property
    def loss(self) -> float:
        """Loss of the chosen student; that of channels alone is `trials[0].loss`."""
        return [t.loss for t in self.trials if t.taken or t.site is None][-1]


def estimated_s(student: Generator, model: LatencyModel) -> float:
    """Return the estimate of a whole generator in seconds."""
    return estimate(model, layer_works(*_shapes_only(student)).values())


def _shapes_only(student: Generator) -> tuple[fx.GraphModule, tuple[torch.Tensor, ...]]:
    """Return module and example inputs without values: running them gives shapes at no cost."""
    return copy.deepcopy(student.module).to("meta"), tuple(tensor.to("meta") for tensor in example_inputs(student.spec))


def propose(
    student: Generator, *, model: LatencyModel, samples: Samples, limit: int, moves: Sequence[Move] = MOVES
) -> list[Proposal]:
    """Return up to `limit` proposals that save time, those that lose least per second saved first.

    `samples` are calibration inputs with batch axis 1; crops of 128 pixels are enough for networks of convolutions. Every fourth
    is kept from the fits and measures the loss.
    """
    tested = list(samples[_TESTED_SHARE - 1 :: _TESTED_SHARE]) or list(samples)
    fitted = [s for i, s in enumerate(samples) if i % _TESTED_SHARE != _TESTED_SHARE - 1]
    inputs, present = example_inputs(student.spec), _pictures(student, tested)
    seconds, macs = estimated_s(student, model), _macs(student)
    found = []
    for move in moves:
        for site in move.find(student.module, inputs):
            changed = move.apply(student, site, samples=fitted)
            saved = seconds - estimated_s(changed, model)
            if saved > 0:
                loss = _difference(_pictures(changed, tested), present)
                found.append(Proposal(site, saved, macs - _macs(changed), loss, changed))
    return sorted(found, key=lambda p: p.loss_added / p.saved_s)[:limit]


def choose(
    student: Generator,
    *,
    model: LatencyModel,
    samples: Samples,
    budget_s: float,
    narrow: Callable[[Generator, float], Generator],
    polish: Callable[[Generator], float] | None = None,
    limit: int = 24,
    rounds: int = 2,
    moves: Sequence[Move] = MOVES,
) -> Choice:
    """Return the best student of at most `budget_s` seconds that moves and removed channels give, by greedy forward selection.

    `narrow` removes channels from a generator until its estimate meets the seconds given, and refits what is left. A move stays
    when "move, then `narrow`" has a lower loss than the best so far at the same budget, to begin with `narrow` alone. The loss is
    what `polish` returns, which trains a candidate briefly and measures it on held-out inputs; without it, the mean square error
    to the pictures of `student`. Proposals are tried once, in their order; further rounds try the sites that moves have opened.
    """
    tested = list(samples[_TESTED_SHARE - 1 :: _TESTED_SHARE]) or list(samples)
    pictures = _pictures(student, tested)

    def judged(site: Site | None, uncut: Generator) -> tuple[Trial, Generator]:
        cut = narrow(uncut, budget_s)
        loss = polish(cut) if polish else _difference(_pictures(cut, tested), pictures)
        return Trial(site, estimated_s(cut, model), loss, False), cut

    best, winner = judged(None, student)
    current, sites, trials, tried = student, list[Site](), [best], set[Site]()
    for _ in range(rounds):
        base = current
        for proposal in propose(base, model=model, samples=samples, limit=limit, moves=moves):
            if proposal.site in tried:
                continue
            tried.add(proposal.site)
            uncut = proposal.student if current is base else _again(current, proposal.site, samples, moves)
            if uncut is None:
                continue
            trial, cut = judged(proposal.site, uncut)
            taken = _better(trial, best, budget_s)
            trials.append(dataclasses.replace(trial, taken=taken))
            if taken:
                best, winner, current = trial, cut, uncut
                sites.append(proposal.site)
        if current is base:
            break
    return Choice(winner, current, tuple(sites), tuple(trials))


def _again(student: Generator, site: Site, samples: Samples, moves: Sequence[Move]) -> Generator | None:
    """Apply `site` to a student that has changed since; None if it does not apply any more."""
    move = next(m for m in moves if m.name == site.move)
    if site not in move.find(student.module, example_inputs(student.spec)):
        return None
    return move.apply(student, site, samples=samples)


def _better(trial: Trial, best: Trial, budget_s: float) -> bool:
    """Whether `trial` replaces `best`: within the budget the loss decides, outside it what comes nearer to the budget."""
    meets, met = (t.seconds <= budget_s * _OVER_BUDGET for t in (trial, best))
    if meets and met:
        return trial.loss < best.loss * (1 - _GAIN)
    return not met and trial.seconds < best.seconds * (1 - _GAIN)


@torch.no_grad()
def _pictures(student: Generator, samples: Samples) -> list[torch.Tensor]:
    return [visible(student.module(*inputs), student.spec.outputs[0]) for inputs in samples]


def _difference(pictures: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> float:
    return sum(float((a - b).square().mean()) for a, b in zip(pictures, wanted, strict=True)) / len(wanted)


def _macs(student: Generator) -> int:
    return sum(cost.macs for cost in layer_costs(*_shapes_only(student)))
