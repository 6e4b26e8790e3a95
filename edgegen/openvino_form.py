"""The form in which OpenVINO gets a student: what no rule can decide, the transposed convolutions, is timed in both forms."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegen.artifact import UNWATCHED, Artifact, Watch
from edgegen.pictures import Arrays, adapt
from edgegen.spec import Backend, Precision

if TYPE_CHECKING:
    from edgegen.generator import Generator

KEPT, SUB_PIXEL = "kept", "sub-pixel"
_ROUNDS = (30, 300)
_TIMING_S = 0.3  # small generators get more rounds
_PAYS = 0.92  # a rewrite that gains less may be noise, and the plain graph quantises a little better
_SAMPLES = 4


@dataclasses.dataclass(frozen=True)
class OpenForm:
    """What is left to choose: the `transposed` convolutions' form if there is more than one, by timing both in `precision` on
    `threads` threads. `pixels`: it takes and gives them."""

    transposed: tuple[str, ...]
    pixels: bool
    precision: Precision
    threads: int


def choose_form(
    student: Generator, left: OpenForm, calibration: Sequence[Arrays], trial: Path, watch: Watch = UNWATCHED
) -> tuple[Generator, dict[str, Any]]:
    """Return `student` in its best form, and facts worth reporting. The trial is made in the folder `trial`, and leaves nothing.

    `calibration` is in the student's layout. `watch` hears of "trial (sub-pixel)"; a form that is lost there is not taken.
    """
    from edgegen.rewrite import lower_conv_transpose, takes_and_gives_pixels

    lost = {name: watch.lost[_told(name)] for name in left.transposed if _told(name) in watch.lost}
    names = [name for name in left.transposed if name not in lost] or [KEPT]
    forms = {name: lower_conv_transpose(student) if name == SUB_PIXEL else student for name in names}
    if left.pixels:
        forms = {name: takes_and_gives_pixels(form) for name, form in forms.items()}
    facts: dict[str, Any] = {"pixels": left.pixels}
    if lost:
        facts["conv_transpose_lost"] = lost
    best = names[0]
    if len(names) > 1:
        seconds = _timed(student, forms, left, calibration, trial, watch)
        best = SUB_PIXEL if seconds[SUB_PIXEL] < seconds[KEPT] * _PAYS else KEPT
        facts["conv_transpose_trial_ms"] = {name: round(s * 1e3, 3) for name, s in seconds.items()}
    return forms[best], {"conv_transpose": best, **facts}


def _told(form: str) -> str:
    return f"trial ({form})"


def _timed(
    student: Generator,
    forms: Mapping[str, Generator],
    left: OpenForm,
    calibration: Sequence[Arrays],
    trial: Path,
    watch: Watch,
) -> dict[str, float]:
    """Return the seconds of each form, in the arithmetic that artifacts of that precision may compute in here."""
    from edgegen.export import export
    from edgegen.export.openvino import native_arithmetic

    artifacts = {}
    for name, form in forms.items():
        watch.begin(_told(name))
        samples = [adapt(item, student.spec, form.spec) for item in calibration[:_SAMPLES]]
        made = export(form, Backend.OPENVINO, (left.precision,), samples, trial / name)[0]
        arithmetic = "f32" if left.precision is Precision.F32 else native_arithmetic()
        settings = {**made.entry.settings, "inference_precision": arithmetic}
        artifacts[name] = dataclasses.replace(made, entry=dataclasses.replace(made.entry, settings=settings))
    sample = adapt(calibration[0], student.spec, next(iter(forms.values())).spec)
    times = time_artifacts(list(artifacts.values()), [sample], left.threads)
    shutil.rmtree(trial)
    return dict(zip(artifacts, times, strict=True))


def time_artifacts(artifacts: Sequence[Artifact], samples: Sequence[tuple[np.ndarray, ...]], threads: int = 0) -> list[float]:
    """Return the median seconds of each artifact on this machine, timed in turn, one after the other, round by round.

    `samples` holds one input tuple for all artifacts, or one per artifact, in each artifact's own layout.
    """
    from edgegen.bench import clock_of, time_interleaved
    from edgegen.runtime.runners import open_runner

    runners = [open_runner(a.folder, a.entry, threads) for a in artifacts]
    try:
        fed = [list(samples[min(i, len(samples) - 1)]) for i in range(len(runners))]
        calls = {str(i): (lambda r=runner, x=x: r.run(x)) for i, (runner, x) in enumerate(zip(runners, fed, strict=True))}
        first = time_interleaved(calls, rounds=1, clock=clock_of(threads))
        spent = 2e-9 * sum(float(ns[0]) for ns in first.values())
        rounds = int(np.clip(_TIMING_S / max(spent, 1e-9), *_ROUNDS))
        taken = time_interleaved(calls, rounds=rounds, clock=clock_of(threads))
        return [float(np.median(taken[str(i)])) * 1e-9 for i in range(len(runners))]
    finally:
        for runner in runners:
            runner.close()
