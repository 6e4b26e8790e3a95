"""What a run was worth: teacher eager, teacher in the back end, student; all timed in turn, in one process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegen.candidates import torch_call
from edgegen.pictures import adapt
from edgegen.spec import Backend, Precision

if TYPE_CHECKING:
    from edgegen.artifact import Artifact
    from edgegen.data import Inputs
    from edgegen.generator import Generator

_ROUNDS = 64  # what a p90 needs


def compare_speed(
    teacher: Generator, artifact: Artifact, inputs: Inputs, folder: Path, *, threads: int, int8: bool
) -> list[dict[str, Any]]:
    """Return one row per variant (name, p50_ms, p90_ms, runs), timed interleaved on this machine, all on `threads` threads.

    The teacher in the back end is the plain conversion, without any rewrite of ours: what a user would have without edgegen;
    with `int8` also NNCF's default quantisation of it. Only OpenVINO artifacts have such rows.
    """
    import torch

    from edgegen.bench import clock_of, percentile, time_interleaved
    from edgegen.runtime.runners import open_runner

    (item,) = inputs.held_out(1)
    plain = _teacher_artifacts(teacher, inputs, folder, int8=int8) if artifact.entry.backend == Backend.OPENVINO.value else {}
    runners = {
        name: open_runner(a.folder, a.entry, threads) for name, a in {**plain, f"student, {artifact.name}": artifact}.items()
    }
    eager = torch_call(teacher)
    calls = {"teacher, torch eager f32": lambda: eager(*item)}
    for name, runner in runners.items():
        fed = list(adapt(item, teacher.spec, artifact.entry.io if name.startswith("student") else teacher.spec))
        calls[name] = lambda r=runner, x=fed: r.run(x)
    eager_threads = torch.get_num_threads()
    torch.set_num_threads(threads or eager_threads)
    try:
        taken = time_interleaved(calls, rounds=_ROUNDS, clock=clock_of(threads))
    finally:
        torch.set_num_threads(eager_threads)
        for runner in runners.values():
            runner.close()
    return [
        {"name": name, "p50_ms": _ms(percentile(ns.tolist(), 0.5)), "p90_ms": _ms(percentile(ns.tolist(), 0.9)), "runs": len(ns)}
        for name, ns in taken.items()
    ]


def _teacher_artifacts(teacher: Generator, inputs: Inputs, folder: Path, *, int8: bool) -> dict[str, Artifact]:
    from edgegen.export.openvino import export_openvino, save_nncf_int8

    made = {"teacher, openvino/f32": export_openvino(teacher, (Precision.F32,), [], folder)[0]}
    if int8:
        default = save_nncf_int8(teacher, inputs.calibration(16), folder / "nncf-default")
        made["teacher, openvino/int8 (NNCF default)"] = default
    return made


def _ms(nanoseconds: float | None) -> float | None:
    return None if nanoseconds is None else float(np.round(nanoseconds * 1e-6, 4))
