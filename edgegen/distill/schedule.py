"""How the learning rate and the average of the weights move over the steps: functions of the step number, nothing to store."""

from __future__ import annotations

import math

import torch
from torch import nn

from edgegen.recipe import USUAL_LEARNING_RATE

_USUAL_START_DB, _LEAST_RATE = 34.0, 5e-4


def peak_rate(start_db: float | None) -> float:
    """Return the peak learning rate for a student whose pictures are `start_db` (PSNR) from the teacher's before it is trained.

    It is proportional to the root mean square error there, as one step of Adam moves every weight by about the rate: 1e-3 at
    40 dB, at least 5e-4, and 2e-3 from 34 dB down: more is better for some (0.2 to 0.4 dB), and spoils others, such as style
    networks whose norms are frozen (docs/results/learning_rate.md). None: unknown, 2e-3.
    """
    if start_db is None:
        return USUAL_LEARNING_RATE
    return max(_LEAST_RATE, USUAL_LEARNING_RATE * min(1.0, 10.0 ** ((_USUAL_START_DB - start_db) / 20.0)))


def learning_rate_at(step: int, *, steps: int, peak: float, warmup_steps: int) -> float:
    """Return the learning rate of step `step` (0 is the first): a linear rise to `peak`, then half a cosine down to 0.

    The rise takes at most half of the steps, so that a short run gets its fall too.
    """
    rise = min(warmup_steps, steps // 2)
    if step < rise:
        return peak * (step + 1) / rise
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - rise) / (steps - rise)))


def average_decay_at(step: int, *, decay: float) -> float:
    """Return the decay of the moving average after step `step`: a warm start, (1 + step) / (10 + step), up to `decay`.

    Without it the untrained weights would weigh `decay`^steps in the end: 8 % after 500 steps at 0.995.
    """
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(average: nn.Module, current: nn.Module, decay: float) -> None:
    """Move the weights and float buffers of `average` (in place) a part 1 - `decay` of the way to those of `current`."""
    for mean, value in zip(average.state_dict().values(), current.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1.0 - decay)
        else:
            mean.copy_(value)
