"""How fast this machine trains, and what that takes in memory: the real training of the real generators, for about a second."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from edgegen.generator import Generator
from edgegen.graph import count_macs
from edgegen.progress import Silent
from edgegen.recipe import AdversaryConfig, DistillConfig
from edgegen.runtime.process_facts import peak_memory_bytes

if TYPE_CHECKING:
    from edgegen.data import Inputs

_SECONDS = 1.0
_FIRST_STEPS, _MOST_STEPS = 2, 40
_HEAVY_MACS = 2e11  # of one step; more is probed with a smaller batch: a probe must not take minutes
_REFERENCE_S = 0.2
_LOAD_PER_CORE = 0.5  # and one more: what a machine at rest may show
_NEVER = 10**9


def busy_sentence(facts: Mapping[str, Any]) -> str | None:
    """Return a warning when other work on the machine of `facts` makes what is measured there too long; None at rest."""
    load, cores = facts["load_1min"], len(facts["cpu_affinity"] or ()) or 1
    if load is None or load <= _LOAD_PER_CORE * cores + 1:
        return None
    return f"other work is running here (load {load:.1f} on {cores} cores): measured latencies and times are too long"


@dataclasses.dataclass(frozen=True)
class Probe:
    """Seconds to start a training and of one step, and the peak memory of this process in bytes: None where it is not known.

    `step_count` steps were timed. Memory is not known where the system does not tell it, or after a smaller batch.
    """

    start_s: float
    step_s: float
    memory_bytes: int | None
    step_count: int


def probe_training(teacher: Generator, student: Generator, config: DistillConfig, inputs: Inputs) -> Probe:
    """Train `student` towards `teacher` for about a second, and leave both alone.

    Two short trainings of different lengths: what one takes longer than the other is its steps alone. Losses that need a
    network of the user's (discriminator, perceptual) are left out.
    """
    per_sample = count_macs(teacher.module, teacher.spec) + 3 * count_macs(student.module, student.spec)
    batch = max(1, min(config.batch, int(_HEAVY_MACS / per_sample)))
    asked = _short(config, batch)
    first_s = _train_s(student, teacher, asked, inputs, _FIRST_STEPS)
    more = max(1, min(_MOST_STEPS, int(_SECONDS / first_s * _FIRST_STEPS)))
    second_s = _train_s(student, teacher, asked, inputs, _FIRST_STEPS + more)
    step_s = max(second_s - first_s, 0.1 * second_s) / more  # the first also warms up: it may even be longer
    start_s = max(0.0, first_s - _FIRST_STEPS * step_s)
    return Probe(start_s, step_s * config.batch / batch, peak_memory_bytes() if batch == config.batch else None, more)


def _short(config: DistillConfig, batch: int) -> DistillConfig:
    """Return `config` for a training that stores and evaluates nothing on its way."""
    losses = dataclasses.replace(config.losses, adversarial=0.0, perceptual=0.0, gram=0.0)
    if not any(dataclasses.astuple(losses)):
        losses = dataclasses.replace(losses, l1=1.0)
    return dataclasses.replace(
        config, batch=batch, losses=losses, adversary=AdversaryConfig(), warmup_steps=0, held_out=1, checkpoint_every=_NEVER,
        evaluate_every=_NEVER,
    )  # fmt: skip


def _train_s(student: Generator, teacher: Generator, config: DistillConfig, inputs: Inputs, steps: int) -> float:
    from edgegen.distill import distill

    with tempfile.TemporaryDirectory(prefix="edgegen-probe-") as name:
        trained = distill(
            student, config, teacher=teacher, inputs=inputs, steps=steps, seed=0, work_dir=Path(name), progress=Silent()
        )
    return trained.lineage[-1].seconds


def reference_macs_per_s() -> float:
    """Return what a typical convolution reaches here in torch, float32, forward: how past runs on other machines are scaled."""
    layer, image = nn.Conv2d(64, 64, 3, padding=1), torch.zeros(1, 64, 64, 64)
    macs, best = 64 * 64 * 9 * 64 * 64, float("inf")
    with torch.inference_mode():
        layer(image)
        started = time.perf_counter()
        while time.perf_counter() - started < _REFERENCE_S:
            begin = time.perf_counter()
            layer(image)
            best = min(best, time.perf_counter() - begin)  # on a shared machine noise only adds
    return macs / best
