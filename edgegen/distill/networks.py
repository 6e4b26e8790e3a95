"""The networks of a training run: the student that learns, its running average, the teacher, and what pairs their layers."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from typing import Any

import torch
from torch import fx, nn

from edgegen.distill.adversary import Adversary
from edgegen.distill.hardware import Arithmetic, Hardware
from edgegen.distill.losses import psnr_db, visible
from edgegen.distill.schedule import average_decay_at, update_average
from edgegen.distill.taps import fit_adapter, pair_taps, with_taps
from edgegen.distill.trainee import Learner, Trainee
from edgegen.errors import RecipeError
from edgegen.generator import Generator
from edgegen.recipe import DistillConfig, MemoryFormat
from edgegen.spec import TensorSpec

_COPYING = (nn.InstanceNorm2d, nn.ReflectionPad2d, nn.ReplicationPad2d)  # they leave channels_last by a copy
_TIMED_PASSES = 5
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

    def learners(self, step: int) -> list[Learner]:
        """Return the student: every step trains it."""
        return [Learner(self.student, self.adapters, self.tap_scales)]

    def averages(self) -> list[nn.Module]:
        """Return the average, the finished student."""
        return [self.average]

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
    adapters, scales = fit_adapters(tapped, watched, batch)
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


def faster_format(
    teacher: fx.GraphModule, batch: tuple[torch.Tensor, ...], hardware: Hardware, config: DistillConfig
) -> MemoryFormat:
    """Return the memory format of the recipe; "auto" is the one that the networks run faster in.

    On the CPU, where equal seeds give equal bits, a rule decides that was measured, and no clock: channels_last, unless the
    teacher has layers without a kernel for it. Whole steps, bf16 with AVX512_BF16, one thread, milliseconds of CPU time as
    contiguous / channels_last: style net with InstanceNorm and reflection padding 164 / 212, DCGAN 44 / 39, VAE decoder
    40 / 36, SRResNet 278 / 247. On other devices the teacher's pass is timed in both.
    """
    if config.memory_format is not MemoryFormat.AUTO:
        return config.memory_format
    if hardware.device.type == "cpu":
        copies = any(isinstance(layer, _COPYING) for layer in teacher.modules())
        return MemoryFormat.CONTIGUOUS if copies else MemoryFormat.CHANNELS_LAST
    return hardware.agree(timed_format(teacher, batch, hardware))


def timed_format(teacher: fx.GraphModule, batch: tuple[torch.Tensor, ...], hardware: Hardware) -> MemoryFormat:
    """Return the format in which `teacher` maps `batch` faster: the best of five passes each, in turns; its layout changes."""
    best = dict.fromkeys((MemoryFormat.CONTIGUOUS, MemoryFormat.CHANNELS_LAST), math.inf)
    for turn in range(1 + _TIMED_PASSES):
        for layout in best:
            arranged = dataclasses.replace(hardware, memory_format=layout)
            arranged.arrange(teacher.parameters())
            seconds = _timed_pass(teacher, arranged.shard(batch), arranged)
            best[layout] = min(best[layout], seconds) if turn else math.inf  # the first turn warms up
    return min(best, key=lambda layout: best[layout])


@torch.no_grad()
def _timed_pass(teacher: fx.GraphModule, tensors: tuple[torch.Tensor, ...], hardware: Hardware) -> float:
    """Return how many seconds one pass takes."""
    _finish(hardware.device)
    started = time.perf_counter()
    with hardware.autocast():
        teacher(*tensors)
    _finish(hardware.device)
    return time.perf_counter() - started


def _finish(device: torch.device) -> None:
    """Return when the device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def compile_networks(networks: Trainee) -> None:
    """Let `torch.compile` translate the teacher, and the student unless several share its weights.

    Raises RecipeError when that does not work on this machine.
    """
    try:
        torch.compile(_probe)(torch.ones(8, device=networks.parameters()[0].device))
    except Exception as error:  # no compiler, no header, a toolchain that crashes: each raises its own kind
        fact = f"distill.compile is set, but torch.compile fails here: {str(error).strip().splitlines()[0]}"
        raise RecipeError(fact, hint="install a C++ compiler, or set distill.compile to false") from error
    networks.teacher = torch.compile(networks.teacher)  # type: ignore[assignment]  called in the same way
    if isinstance(networks, Networks):
        networks.student = torch.compile(networks.student)  # type: ignore[assignment]


def _probe(x: torch.Tensor) -> torch.Tensor:
    return (x * 2.0).relu().sum()


@torch.no_grad()
def fit_adapters(
    student: fx.GraphModule, teacher: fx.GraphModule, batch: tuple[torch.Tensor, ...]
) -> tuple[nn.ModuleList, torch.Tensor]:
    """Return the adapters of `student`'s taps to `teacher`'s on one batch, and the mean magnitudes (taps,) of the latter."""
    adapters, scales = nn.ModuleList(), []
    _, *ours = student(*batch)
    _, *theirs = teacher(*batch)
    for mine, guide in zip(ours, theirs, strict=True):
        adapters.append(fit_adapter(mine, guide))
        scales.append(guide.abs().mean().clamp_min(1e-6))
    return adapters, torch.stack(scales) if scales else torch.ones(0, device=batch[0].device)
