"""Run a sweep and make a table of what its units found."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.sweep.schedule import Workers, run_units
from edgegen.sweep.store import Result, Store
from edgegen.sweep.units import Asked, Unit, make_units

if TYPE_CHECKING:
    from edgegen.progress import Progress

FORMAT = "edgegen.sweep/1"
_MISSED = 4


@dataclasses.dataclass(frozen=True)
class Row:
    """One target and budget of the table. None stands for what is not known; `latency_label` says how latency was found.

    What a seed decides on every machine is `deterministic`; latency, if measured, and seconds are of the machine.
    """

    target: str
    budget_ms: float
    status: str  # "done" or "failed"
    verdict: str | None
    artifact: str | None
    latency_ms: float | None
    latency_label: str | None
    ssim: float | None
    size_bytes: int | None
    macs: int | None
    params: int | None
    student_sha256: str | None
    seconds: float | None
    bundle: str | None
    note: str
    exit_code: int
    key: str

    @property
    def deterministic(self) -> tuple[Any, ...]:
        """The part that another run of the same unit repeats."""
        return (self.key, self.status, self.verdict, self.artifact, self.ssim, self.macs, self.params, self.student_sha256)


@dataclasses.dataclass(frozen=True)
class SweepOutcome:
    """The table of a sweep and where it lies."""

    checkpoint: str
    rows: tuple[Row, ...]
    out: Path

    @property
    def exit_code(self) -> int:
        """0 when every unit met its budget and floor, 4 when one did not, the code of the failure when one broke otherwise."""
        codes = [row.exit_code for row in self.rows if row.exit_code]
        return next((code for code in codes if code != _MISSED), codes[0] if codes else 0)

    def to_json(self) -> dict[str, Any]:
        """Return the plain JSON object."""
        rows = [dataclasses.asdict(row) for row in self.rows]
        return {"format": FORMAT, "checkpoint": self.checkpoint, "out": str(self.out), "units": rows}


def run_sweep(asked: Asked, progress: Progress, *, workers: int, cpus: int, ray: str | None = None) -> SweepOutcome:
    """Do all units of `asked` that are not done yet and write sweep.json, sweep.html and one front plot per target.

    `workers` units run at a time, each with its part of `cpus` processors. `ray` None: in processes on this machine; else the
    address of a Ray cluster. A unit that fails is a row like the others.
    """
    units = make_units(asked)
    store = Store(asked.out, resume=asked.resume)
    results = {unit.key: found for unit in units if (found := store.read(unit)) is not None}
    if len(results) < len(units):
        results |= run_units(units, results, store, _workers(store, workers, cpus, ray), progress)
    rows = tuple(_row(unit, results[unit.key], store) for unit in units if unit.kind == "finish")
    outcome = SweepOutcome(asked.checkpoint.name, rows, asked.out)
    _write(outcome, asked)
    return outcome


def _workers(store: Store, workers: int, cpus: int, ray: str | None) -> Workers:
    if ray is None:
        from edgegen.sweep.local import LocalWorkers

        return LocalWorkers(store, slots=workers, threads=max(1, cpus // workers))
    from edgegen.sweep.cluster import RayWorkers

    return RayWorkers(store, ray, slots=workers, cpus=cpus)


def _row(unit: Unit, result: Result, store: Store) -> Row:
    done = result["status"] == "done"
    figures = {name: result.get(name) for name in ("verdict", "artifact", "latency_ms", "latency_label", "ssim", "size_bytes",
                                                   "macs", "params", "student_sha256", "seconds")}  # fmt: skip
    missed = result["exit_code"] != 0
    note = "" if not missed else "; ".join(result["reasons"]) if done else result["error"]
    bundle = store.folder(unit).relative_to(store.root.parent) / "bundle"
    return Row(
        target=unit.target, budget_ms=(unit.budget_s or 0.0) * 1e3, status=result["status"], note=note, key=unit.key,
        exit_code=result["exit_code"], bundle=bundle.as_posix() if done else None, **figures,
    )  # fmt: skip


def _write(outcome: SweepOutcome, asked: Asked) -> None:
    from edgegen.sweep.page import render_page
    from edgegen.sweep.plot import write_fronts

    (outcome.out / "sweep.json").write_text(json.dumps(outcome.to_json(), indent=1))
    fronts = write_fronts(outcome, min_ssim=asked.min_ssim)
    (outcome.out / "sweep.html").write_text(render_page(outcome, fronts), encoding="utf-8")
