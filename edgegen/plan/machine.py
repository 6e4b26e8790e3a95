"""How fast this machine trains, and what that takes in memory: some real steps of the real generators, for about a second."""

from __future__ import annotations

import copy
import dataclasses
import time
from typing import TYPE_CHECKING

import torch
from torch import nn

from edgegen.generator import Generator
from edgegen.graph import count_macs
from edgegen.recipe import DistillConfig
from edgegen.runtime.process_facts import peak_memory_bytes

if TYPE_CHECKING:
    from edgegen.data import Inputs

_SECONDS = 1.0
_MOST_STEPS = 200
_HEAVY_MACS = 2e11  # of one step; more is probed with a smaller batch: a probe must not take minutes
_REFERENCE_S = 0.2


@dataclasses.dataclass(frozen=True)
class Probe:
    """Seconds of one training step, and the peak memory of this process in bytes: None where it is not known.

    `step_count` steps were timed. Memory is not known where the system does not tell it, or after a smaller batch.
    """

    step_s: float
    memory_bytes: int | None
    step_count: int


def probe_training(teacher: Generator, student: Generator, config: DistillConfig, inputs: Inputs) -> Probe:
    """Train a copy of `student` towards `teacher` for about a second, on the device and in the arithmetic that training uses.

    A step is a teacher pass, a forward and a backward pass of the student, and Adam; the first one is not counted.
    """
    from edgegen.distill.hardware import open_hardware

    per_sample = count_macs(teacher.module, teacher.spec) + 3 * count_macs(student.module, student.spec)
    batch = max(1, min(config.batch, int(_HEAVY_MACS / per_sample)))
    hardware = open_hardware(batch=batch)
    teaching = copy.deepcopy(teacher.module).to(hardware.device)
    learning = copy.deepcopy(student.module).to(hardware.device)
    optimizer = torch.optim.Adam(learning.parameters(), lr=1e-6)

    def step(number: int) -> None:
        given = hardware.shard(inputs.train(number, batch, config.augment))
        with torch.no_grad(), hardware.autocast():
            wanted = teaching(*given)
        with hardware.autocast():
            loss = (learning(*given) - wanted).float().abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # a GPU is done when its value is here

    step(0)
    started, done = time.perf_counter(), 0
    while done < _MOST_STEPS and (done == 0 or time.perf_counter() - started < _SECONDS):
        done += 1
        step(done)
    step_s = (time.perf_counter() - started) / done * config.batch / batch
    return Probe(step_s, peak_memory_bytes() if batch == config.batch else None, done)


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
