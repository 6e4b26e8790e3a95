"""Moves and channels in one ranking: a move is taken when it loses less of the picture per second saved than channels would.

The price of a second is what the last channels cost that have to go for the budget. Moves change what channels cost, and several
moves add up to more than their parts, so each is judged again on top of those already taken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from edgegen.generator import Generator
from edgegen.graph import example_inputs
from edgegen.latency import LatencyModel
from edgegen.prune.moves import MOVES
from edgegen.prune.moves.search import estimated_s, propose
from edgegen.prune.moves.site import Move, Samples
from edgegen.prune.sensitivity import picture_loss

_MARGIN = 0.5  # of the price: what a move gains before training, channels make up for more easily than moves do
_TESTED_SHARE = 4  # as in `propose`


@dataclasses.dataclass(frozen=True)
class Taken:
    """A move that was taken: what it is called, the estimated seconds it saved and the picture loss it added, on its turn.

    Where multiply-accumulates are the goal, they stand in place of seconds.
    """

    label: str
    saved_s: float
    loss_added: float

    def to_json(self, *, counts_macs: bool = False) -> dict[str, Any]:
        """Return what records show."""
        saved = {"saved_macs": round(self.saved_s)} if counts_macs else {"saved_ms": self.saved_s * 1e3}
        return {"move": self.label, **saved, "loss_added": self.loss_added}


def take_moves(
    generator: Generator,
    *,
    model: LatencyModel,
    samples: Samples,
    price: float,
    moves: Sequence[Move] = MOVES,
    limit: int = 24,
) -> tuple[Generator, list[Taken]]:
    """Return a copy of `generator` with every move that pays at `price`, and what was taken; nothing pays at price 0.

    `price` is the picture loss (mean square error in display range) per second saved that removing channels costs. `samples`
    are calibration inputs, batch axis 1; every fourth measures what a move loses and is not fitted to.
    """
    tested = list(samples[_TESTED_SHARE - 1 :: _TESTED_SHARE]) or list(samples)
    fitted = [s for i, s in enumerate(samples) if i % _TESTED_SHARE != _TESTED_SHARE - 1] or list(samples)
    current, seconds, lost, taken = generator, estimated_s(generator, model), 0.0, list[Taken]()
    for proposal in propose(generator, model=model, samples=samples, limit=limit, moves=moves):
        if proposal.loss_added > _MARGIN * price * proposal.saved_s:
            break
        move = next(m for m in moves if m.name == proposal.site.move)
        if proposal.site not in move.find(current.module, example_inputs(current.spec)):
            continue
        changed = move.apply(current, proposal.site, samples=fitted)
        saved = seconds - estimated_s(changed, model)
        added = picture_loss(changed, generator, tested) - lost
        if saved > 0 and added <= _MARGIN * price * saved:
            current, seconds, lost = changed, seconds - saved, lost + added
            taken.append(Taken(proposal.site.label, saved, added))
    return current, taken
