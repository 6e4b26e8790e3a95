"""Does the artifact do in its real run-time what the student does in torch, and how near is it to the teacher?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgegen.artifact import Artifact
from edgegen.pictures import Arrays, adapt, unit_picture
from edgegen.quality.detectors import detect
from edgegen.quality.metrics import Quality, compare
from edgegen.runtime.manifest import ArtifactEntry
from edgegen.spec import Backend, ComponentSpec


@dataclasses.dataclass(frozen=True)
class Case:
    """A held-out input in the student's layout (batch axis 1) and the pictures (H, W, C), float in [0, 1], that it must give."""

    inputs: Arrays
    teacher: NDArray[np.float32]
    student: NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Verification:
    """`parity` is the artifact against the float student, `quality` against the teacher; `findings` tell artefacts in words.

    `pictures` are what the artifact gave, (H, W, C) float in [0, 1], one per case.
    """

    parity: Quality
    quality: Quality
    nonfinite: int
    findings: tuple[str, ...]
    pictures: tuple[NDArray[np.float32], ...]
    ran: dict[str, Any]


def verify(artifact: Artifact, spec: ComponentSpec, cases: Sequence[Case], *, seed: int) -> Verification:
    """Run every case through the artifact in its real run-time, in this process, and compare; `spec` is the student's."""
    from edgegen.runtime.runners import open_runner

    entry = runs_here(artifact)
    runner = open_runner(artifact.folder, entry, 0)
    try:
        raw = [runner.run(list(adapt(case.inputs, spec, entry.io)))[0] for case in cases]
        ran = runner.describe()
    finally:
        runner.close()
    return assess(artifact, raw, ran, cases, seed=seed)


def assess(
    artifact: Artifact, raw: Sequence[NDArray[Any]], ran: Mapping[str, Any], cases: Sequence[Case], *, seed: int
) -> Verification:
    """Compare what the artifact gave for the cases, batch axis 1; `ran` says what ran it.

    Detectors look at the artifact against the float student: what distillation changed is the student's business.
    """
    nonfinite = sum(int(np.count_nonzero(~np.isfinite(y))) for y in raw if y.dtype.kind == "f")
    pictures = tuple(unit_picture(y, artifact.entry.io.outputs[0]) for y in raw)
    student = [case.student for case in cases]
    return Verification(
        parity=compare(pictures, student, seed),
        quality=compare(pictures, [case.teacher for case in cases], seed),
        nonfinite=nonfinite,
        findings=tuple(f.sentence for f in detect(pictures, student) if f.failed),
        pictures=pictures,
        ran=dict(ran),
    )


def runs_here(artifact: Artifact) -> ArtifactEntry:
    """Return the entry with the CPU as its device if this machine lacks the one it is for: good for pictures, not for times."""
    device = artifact.entry.settings.get("device", "CPU")
    if artifact.entry.backend != Backend.OPENVINO.value or device == "CPU":
        return artifact.entry
    import openvino as ov

    if any(found.split(".")[0] == device for found in ov.Core().available_devices):
        return artifact.entry
    return dataclasses.replace(artifact.entry, settings={**artifact.entry.settings, "device": "CPU"})


def make_cases(
    inputs: Sequence[Arrays], spec: ComponentSpec, teacher: Callable[..., Any], student: Callable[..., Any]
) -> list[Case]:
    """Return one case per input; `teacher` and `student` map input arrays to one output array in the layout of `spec`."""
    output = spec.outputs[0]
    return [Case(item, unit_picture(teacher(*item), output), unit_picture(student(*item), output)) for item in inputs]
