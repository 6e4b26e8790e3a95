"""What the training loop trains: one student, or several that share their weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import fx, nn

from edgegen.distill.adversary import Adversary


@dataclasses.dataclass(frozen=True)
class Learner:
    """One student of a training step. `module` maps a batch to (image, tap, ...); its loss counts `share` in the step's.

    `adapters` map its taps to the teacher's channels, `tap_scales` (taps,) are the teacher's usual magnitudes there.
    """

    module: Callable[..., Sequence[torch.Tensor]]
    adapters: nn.ModuleList
    tap_scales: torch.Tensor
    share: float = 1.0


class Trainee(Protocol):
    """Everything that has weights in a training run. `teacher` returns (image, tap, ...)."""

    teacher: fx.GraphModule
    tap_names: tuple[str, ...]
    adversary: Adversary | None

    def learners(self, step: int) -> Sequence[Learner]:
        """Return the students that step `step` trains, the same ones for the same step."""
        ...

    def averages(self) -> Sequence[nn.Module]:
        """Return all students with the moving averages of their weights, each giving the image alone."""
        ...

    def parameters(self) -> list[nn.Parameter]:
        """Return what the optimizer trains."""
        ...

    def batch_statistics(self) -> list[torch.Tensor]:
        """Return the float buffers that training changes."""
        ...

    def follow(self, step: int, decay: float) -> None:
        """Move the averages towards the weights after step `step`."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything a resumed run needs."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        ...
