"""Run artifacts in a child process, time them in turn and judge their pictures as the gate does."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Judged:
    """An artifact, what the gate knows of it, its PSNR in dB and SSIM to the float generator, and its pictures in 0..1."""

    artifact: Any
    candidate: Any
    psnr_db: float
    ssim: float
    pictures: tuple[np.ndarray, ...]


def judge(
    artifacts: Sequence[Any], generator: Any, inputs: Sequence[tuple[np.ndarray, ...]], threads: int = 1, repeats: int = 1
) -> tuple[list[Judged], dict[str, str]]:
    """Return what became of each artifact of `generator` on `inputs`, and by name why others failed.

    Times are the median of `repeats` processes.
    """
    from edgegen.candidates import torch_call
    from edgegen.pictures import adapt
    from edgegen.quantize.gate import Candidate
    from edgegen.trial import Crash, Job, run_all, time_all
    from edgegen.verify import assess, make_cases

    call = torch_call(generator)
    cases = make_cases(inputs, generator.spec, call, call)
    jobs = [Job(a.folder, a.entry, tuple(adapt(x, generator.spec, a.entry.io) for x in inputs)) for a in artifacts]
    times = zip(*(time_all(jobs, threads) for _ in range(repeats)), strict=True)
    judged, failed = [], {}
    for artifact, made, times_taken in zip(artifacts, run_all(jobs), times, strict=True):
        crash = next((c for c in (made, *times_taken) if isinstance(c, Crash)), None)
        if crash or isinstance(made, Crash):
            failed[artifact.name] = crash.reason if crash else ""
            continue
        taken = statistics.median(times_taken)
        found = assess(artifact, made.outputs, made.ran, cases, seed=0)
        db, ssim = found.parity.psnr_db.mean, found.parity.ssim.mean
        candidate = Candidate(
            artifact.name, artifact.entry.precision, taken, db, found.quality.ssim.mean, found.nonfinite, found.findings,
            artifact.size_bytes,
        )  # fmt: skip
        judged.append(Judged(artifact, candidate, db, ssim, found.pictures))
    return judged, failed


def decisions(judged: Sequence[Judged]) -> list[Any]:
    """Return the gate's decision for each, with the limits of the default recipe; the float generator looks as it should."""
    from edgegen.quantize.gate import Floors, decide
    from edgegen.recipe import load_recipe

    config = load_recipe("balanced").verify
    return decide([j.candidate for j in judged], Floors(1.0, config.max_ssim_loss, config.min_parity_db))
