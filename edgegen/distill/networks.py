"""The networks of a training run: the student that learns, its running average, the teacher, and what pairs their layers."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch
from torch import fx, nn

from edgegen.distill.adversary import Adversary
from edgegen.distill.hardware import Arithmetic, Hardware
from edgegen.distill.losses import psnr_db, visible
from edgegen.distill.schedule import average_decay_at, update_average
from edgegen.distill.taps import fit_adapter, pair_taps, with_taps
from edgegen.generator import Generator
from edgegen.spec import TensorSpec

_MIN_TEACHER_DB = 45.0  # below it, the teacher's own rounding would be part of what the student learns


@dataclasses.dataclass
class Networks:
    """Everything that has weights. `teacher` and `student` return (image, tap, ...); the rest returns the image alone.

    `current` holds the weights that `student` computes with, in the order of the finished generator; `average` trails it.
    """

    teacher: fx.GraphModule
    student: fx.GraphModule
    current: fx.GraphModule
    average: fx.GraphModule
    adapters: nn.ModuleList
    tap_scales: torch.Tensor
    tap_names: tuple[str, ...]
    adversary: Adversary | None

    def parameters(self) -> list[nn.Parameter]:
        """Return what the student's optimizer trains: its weights and the adapters'."""
        return [*self.current.parameters(), *self.adapters.parameters()]

    def batch_statistics(self) -> list[torch.Tensor]:
        """Return the float buffers of the student that training changes: the running statistics of BatchNorm."""
        return [buffer for buffer in self.current.buffers() if buffer.is_floating_point()]

    def follow(self, step: int, decay: float) -> None:
        """Move the average towards the student after step `step`."""
        update_average(self.average, self.current, average_decay_at(step, decay=decay))

    def state_dict(self) -> dict[str, Any]:
        """Return everything a resumed run needs."""
        return {
            "student": self.current.state_dict(),
            "average": self.average.state_dict(),
            "adapters": self.adapters.state_dict(),
            "tap_scales": self.tap_scales,
            "adversary": self.adversary.state_dict() if self.adversary else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.current.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
        self.adapters.load_state_dict(state["adapters"])
        self.tap_scales = state["tap_scales"].to(self.tap_scales.device)
        if self.adversary:
            self.adversary.load_state_dict(state["adversary"])


def build_networks(
    student: Generator, teacher: Generator, first_batch: tuple[torch.Tensor, ...], hardware: Hardware, *, features: bool
) -> Networks:
    """Copy `student` and `teacher` to the device and pair their layers on `first_batch`; the arguments stay untouched.

    BatchNorm that was not folded away trains on the statistics of the batch; everything else is as in eval mode.
    """
    device, output = hardware.device, student.spec.outputs[0]
    current = copy.deepcopy(student.module).to(device).eval().requires_grad_(True)
    guide = copy.deepcopy(teacher.module).to(device).eval().requires_grad_(False)
    average = copy.deepcopy(current).requires_grad_(False)
    batch = tuple(tensor.to(device) for tensor in first_batch)
    names = pair_taps(current, guide, batch) if features else ()
    tapped, watched = with_taps(current, names, output), with_taps(guide, names)
    adapters, scales = _fit_adapters(tapped, watched, batch)
    for layer in current.modules():
        layer.train(isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)))
    return Networks(watched, tapped, current, average, adapters.to(device), scales, names, None)


@torch.no_grad()
def trusted_arithmetic(
    teacher: fx.GraphModule, batch: tuple[torch.Tensor, ...], hardware: Hardware, output: TensorSpec
) -> Hardware:
    """Return `hardware`, set to float32 if its faster arithmetic shows in the teacher's images of `batch` (PSNR below 45 dB)."""
    if hardware.arithmetic is Arithmetic.F32:
        return hardware
    tensors = tuple(tensor.to(hardware.device) for tensor in batch)
    exact = visible(teacher(*tensors)[0], output)
    with hardware.autocast():
        rounded = visible(teacher(*tensors)[0], output)
    if float(psnr_db(rounded, exact).min()) >= _MIN_TEACHER_DB:
        return hardware
    return dataclasses.replace(hardware, arithmetic=Arithmetic.F32)


@torch.no_grad()
def _fit_adapters(
    student: fx.GraphModule, teacher: fx.GraphModule, batch: tuple[torch.Tensor, ...]
) -> tuple[nn.ModuleList, torch.Tensor]:
    adapters, scales = nn.ModuleList(), []
    _, *ours = student(*batch)
    _, *theirs = teacher(*batch)
    for mine, guide in zip(ours, theirs, strict=True):
        adapters.append(fit_adapter(mine, guide))
        scales.append(guide.abs().mean().clamp_min(1e-6))
    return adapters, torch.stack(scales) if scales else torch.ones(0, device=batch[0].device)
