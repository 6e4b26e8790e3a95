"""Fake quantisation: layers that round as a target's int8 does and let gradients through. They live in training only.

Weights are symmetric, one scale per output channel, max |w| / 127: what NNCF, ai-edge-quantizer and TensorRT's rules make of
them. Activations have one range per tensor, symmetric or not. Gradients pass rounding as if it were not there and stop at the
ends of a range; the ends themselves learn from what they cut off and from the rounding inside (Esser et al., LSQ, ICLR 2020;
Bhalgat et al., LSQ+, CVPRW 2020).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import nn

_PACE = 10.0  # ends move by 0.2 % in a step of Adam at 2e-4: a learned range finds its place in a few hundred steps
_WEIGHT_LEVELS = 127
_SMALLEST = 1e-6


@dataclasses.dataclass(frozen=True)
class Scheme:
    """How a back end computes in int8.

    `symmetric`: activations have zero point 0. `learned`: the back end takes ranges from us, so they are trained; else they
    follow the extremes of what passes, as its own calibration will. `sums`: the inputs of additions are int8 too. `results`: so
    is what weighted layers give.
    """

    name: str
    symmetric: bool
    learned: bool
    sums: bool
    results: bool


class FakeActivation(nn.Module):
    """Round a tensor of any shape to 8 bits over one range. `low` and `high` are the range at the start."""

    start: torch.Tensor
    moves: nn.Parameter | None

    def __init__(self, low: float, high: float, scheme: Scheme) -> None:
        super().__init__()
        bound = max(abs(low), abs(high), _SMALLEST)
        self._symmetric = scheme.symmetric
        ends = (-bound, bound) if scheme.symmetric else (min(low, 0.0), max(high, _SMALLEST))
        self.register_buffer("start", torch.tensor(ends))
        self.moves = nn.Parameter(torch.zeros(2)) if scheme.learned else None

    def span(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the ends of the range as it is now; they contain 0."""
        if self.moves is None:
            return self.start[0], self.start[1]
        moves = self.moves[1].expand(2) if self._symmetric else self.moves
        low, high = self.start * torch.exp(_PACE * moves)
        return low, high

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x` as int8 would hold it."""
        if self.moves is None and torch.is_grad_enabled():  # a step of training, not an evaluation
            self._follow(x.detach())
        return _Round.apply(x, *self.span(), self._symmetric)

    @torch.no_grad()
    def _follow(self, x: torch.Tensor) -> None:
        """Widen the range to the extremes of a batch at once, as min-max calibration would; narrow it by a hundredth."""
        low, high = torch.aminmax(x)
        seen = torch.stack([low.clamp(max=0.0), high.clamp(min=_SMALLEST)])
        if self._symmetric:
            seen = torch.stack([-seen.abs().max(), seen.abs().max()])
        wider = seen.abs() > self.start.abs()
        self.start.copy_(torch.where(wider, seen, self.start + 0.01 * (seen - self.start)))


class FakeWeight(nn.Module):
    """Parametrisation of a layer's weight: rounded to 8 bits per output channel, which `axis` of it counts."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self._axis = axis

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return `weight` on its int8 grid."""
        others = [i for i in range(weight.dim()) if i != self._axis]
        scale = (weight.detach().abs().amax(dim=others) / _WEIGHT_LEVELS).clamp_min(1e-12)
        zero = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, self._axis, -_WEIGHT_LEVELS, _WEIGHT_LEVELS)


class _Round(torch.autograd.Function):
    """Quantise and dequantise over [low, high]; the gradient of the ends is that of LSQ+."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, low: torch.Tensor, high: torch.Tensor, symmetric: bool) -> torch.Tensor:
        levels = 2 * _WEIGHT_LEVELS if symmetric else 255
        scale = max(float(high - low) / levels, 1e-12)
        least = -_WEIGHT_LEVELS if symmetric else 0
        zero = 0 if symmetric else min(255, max(0, round(-float(low) / scale)))
        made = torch.fake_quantize_per_tensor_affine(x, scale, zero, least, least + levels)
        ctx.save_for_backward(x, made)
        ctx.bounds = ((least - zero) * scale, (least + levels - zero) * scale)
        ctx.scale, ctx.levels, ctx.learned = scale, levels, low.requires_grad
        return made

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        x, made = ctx.saved_tensors
        below, above = x < ctx.bounds[0], x > ctx.bounds[1]
        inside = grad.masked_fill(below | above, 0.0)
        if not ctx.learned:
            return inside, None, None, None
        rounding = (inside * (made - x)).sum() / (ctx.scale * ctx.levels)
        calm = 1.0 / math.sqrt(x.numel() * ctx.levels)  # LSQ's gradient scale: ends and weights move alike
        low = (grad.masked_fill(~below, 0.0).sum() - rounding) * calm
        high = (grad.masked_fill(~above, 0.0).sum() + rounding) * calm
        return inside, low, high, None
