"""A checkpoint in every back end and precision that runs here: pictures against torch, times in turn in one process."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegen.candidates import torch_call
from edgegen.errors import ExportError
from edgegen.openvino_form import time_artifacts
from edgegen.pictures import adapt, unit_picture
from edgegen.spec import Precision
from edgegen.support import EXPORTS, Export, Status, missing_modules, status_on

if TYPE_CHECKING:
    from edgegen.artifact import Artifact
    from edgegen.generator import Generator
    from edgegen.progress import Progress

_JUDGED = 4  # held-out inputs


@dataclasses.dataclass(frozen=True)
class Compared:
    """One row of the table of exports with what was found here. Without `latency_s` the export was not run; `note` says why.

    `psnr_db` is of pictures in [0, 1] against torch, the mean over held-out inputs.
    """

    export: Export
    latency_s: float | None
    psnr_db: float | None
    size_bytes: int | None
    note: str

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain JSON."""
        return {
            "backend": self.export.backend.value,
            "precision": self.export.precision.value,
            "status": status_on(self.export, local=True).value,
            "latency_ms": None if self.latency_s is None else self.latency_s * 1e3,
            "psnr_db": self.psnr_db,
            "size_bytes": self.size_bytes,
            "note": self.note,
        }


def compare_exports(
    generator: Generator, data: Path | None, *, threads: int, progress: Progress, rows: Sequence[Export] = EXPORTS
) -> list[Compared]:
    """Export `generator` in every one of `rows` that runs here, and time all of them in turn.

    `data` is a folder of pictures for generators that take them. What cannot be exported stays in the table with the reason.
    """
    from edgegen.data import open_inputs

    inputs = open_inputs(generator.spec, data, calibration="auto", seed=0, held_out=_JUDGED)
    notes: dict[Export, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        made: dict[Export, Artifact] = {}
        progress.start("export", len(rows))
        for row in rows:
            note = _why_not(row)
            if not note:
                try:
                    made[row] = _export(generator, row, inputs.calibration(), Path(folder))
                except ExportError as refused:
                    note = refused.message
            notes[row] = note
            progress.advance()
        progress.finish()
        held_out = inputs.held_out(_JUDGED)
        fed = [adapt(held_out[0], generator.spec, artifact.entry.io) for artifact in made.values()]
        times = dict(zip(made, time_artifacts(list(made.values()), fed, threads), strict=True))
        quality = {row: _psnr_db(generator, artifact, held_out) for row, artifact in made.items()}
        sizes = {row: artifact.size_bytes for row, artifact in made.items()}
    return [Compared(row, times.get(row), quality.get(row), sizes.get(row), notes[row]) for row in rows]


def _why_not(row: Export) -> str:
    """Return why an export cannot run here; "" if it can."""
    missing = missing_modules(row.backend)
    if row.status is Status.REFUSED:
        return row.reason
    if row.status is not Status.RUNS:
        return row.status.value
    return f"{missing[0]} is not installed" if missing else ""


def _export(generator: Generator, row: Export, calibration: list[tuple[np.ndarray, ...]], folder: Path) -> Artifact:
    from edgegen.export import export
    from edgegen.rewrite import lower, lower_for_int8

    lowered = (lower_for_int8 if row.precision is Precision.INT8 else lower)(generator, row.backend)
    samples = [adapt(item, generator.spec, lowered.spec) for item in calibration]
    made, *_ = export(lowered, row.backend, (row.precision,), samples, folder / row.backend.value)  # of several forms the first
    return made


def _psnr_db(generator: Generator, artifact: Artifact, inputs: list[tuple[np.ndarray, ...]]) -> float:
    """Return the mean PSNR in dB of the artifact's pictures against torch's, at most 99."""
    from edgegen.runtime.runners import open_runner

    wanted = [unit_picture(torch_call(generator)(*item), generator.spec.outputs[0]) for item in inputs]
    runner = open_runner(artifact.folder, artifact.entry, 0)
    try:
        raw = [runner.run(list(adapt(item, generator.spec, artifact.entry.io)))[0] for item in inputs]
    finally:
        runner.close()
    pictures = [unit_picture(array, artifact.entry.io.outputs[0]) for array in raw]
    errors = [float(np.mean((p - w) ** 2)) for p, w in zip(pictures, wanted, strict=True)]
    return float(np.mean([min(99.0, -10 * np.log10(max(error, 1e-12))) for error in errors]))
