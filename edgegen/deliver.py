"""The second half of the story: student -> artifacts -> verification -> bundle -> measurement -> report."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegen.artifact import load_artifacts, save_artifacts
from edgegen.bench.foretold import FORETOLD
from edgegen.calibrated import calibration_record, read_record, write_record
from edgegen.candidates import export_candidates, judge, keep_judged, torch_cases
from edgegen.comparison import compare_speed
from edgegen.outcome import Decided, Outcome, conclude
from edgegen.plan.compared import foretold_latency, prediction_rows
from edgegen.prediction import prediction_facts
from edgegen.retrain import FORM, retrain, wants_training
from edgegen.spec import Backend
from edgegen.verify import runs_here
from edgegen.versions import tool_versions

if TYPE_CHECKING:
    from edgegen.artifact import Artifact
    from edgegen.data import Inputs
    from edgegen.generator import Generator
    from edgegen.progress import Progress
    from edgegen.request import Request
    from edgegen.verify import Case
    from edgegen.workspace import Workspace

_FEWEST_STORED, _MOST_STORED = 4, 16  # cases of a bundle; 16 make a gate
_STORED_BYTES = 4 << 20  # more than the fewest are stored only if they are as small as that together


@dataclasses.dataclass(frozen=True)
class Delivery:
    """What the second half needs: the request, the workspace with its keys so far, and both generators."""

    request: Request
    work: Workspace
    inputs: Inputs
    progress: Progress
    teacher: Generator
    student: Generator


def deliver(run: Delivery) -> Outcome | None:
    """Export, verify, bundle, bench and report; return None where --until stopped it."""
    artifacts = _export(run)
    calibrated = read_record(run.work.finished("export"))
    for sentence in calibrated.facts.get("leaks", ()):
        run.progress.note(f"export: {sentence}")
    run = dataclasses.replace(run, student=run.student.with_record(calibrated))
    if run.request.until == "export":
        return None
    cases, judged = _verify(run, artifacts)
    if run.request.until == "verify":
        return None
    trained = None
    if wants_training(run, judged):
        trained = retrain(run, artifacts, cases)
        artifacts, judged = trained.artifacts, trained.judged
    if run.request.until == "qat":
        return None
    chosen = next(j for j in judged if j["chosen"])
    artifact = next(a for a in artifacts if a.name == chosen["name"])
    if trained and FORM in artifact.form:
        run = dataclasses.replace(run, student=trained.student)
    decided = _conclude(run, judged, record=None)
    settings = {"artifact": artifact.entry.to_json(), "verdict": decided.verdict.value, "budget": run.request.budget,
                "foretold": decided.foretold}  # fmt: skip
    folder = run.work.stage("bundle", settings, lambda f: _bundle(run, artifact, cases, decided, f))
    if run.request.until == "bundle":
        return None
    measured = _bench(run, folder / "bundle", artifact)
    if run.request.until == "bench":
        return None
    decided = _conclude(run, judged, record=measured["record"])
    return _report(run, artifact, cases, judged, decided, measured)


def _export(run: Delivery) -> list[Artifact]:
    request = run.request
    settings = {
        "config": dataclasses.asdict(request.recipe.export),
        "rewrite": dataclasses.asdict(request.recipe.rewrite),
        "target": request.target.id,
        "backend": request.target.backend.value,
        "precisions": [p.value for p in request.target.precisions],
        "effort": request.effort.value,
    }
    run.progress.note(f"export: {request.target.backend.value}")

    def store(folder: Path) -> None:
        for left_by_a_kill in folder.iterdir():  # an artifact is all files of its folder: none may be a half-written one
            shutil.rmtree(left_by_a_kill) if left_by_a_kill.is_dir() else left_by_a_kill.unlink()
        write_record(calibration_record(request, run.inputs, run.student), folder)
        made = export_candidates(request, run.student, run.inputs, folder, begin=lambda n: run.progress.note(f"export: {n}"))
        save_artifacts(made, folder)

    return load_artifacts(run.work.stage("export", settings, store))


def _verify(run: Delivery, artifacts: Sequence[Artifact]) -> tuple[list[Case], list[Mapping[str, Any]]]:
    """Return the held-out cases and every candidate as judged; the judgement is kept, with the pictures that the report shows."""
    request, config = run.request, run.request.recipe.verify
    cases = torch_cases(run.inputs, config.held_out, run.teacher, run.student)
    settings = {"config": dataclasses.asdict(config), "min_ssim": request.budget.min_ssim, **prediction_facts(request)}

    def store(folder: Path) -> None:
        keep_judged(judge(request, artifacts, run.student, cases, run.progress), folder)

    folder = run.work.stage("verify", settings, store)
    return cases, json.loads((folder / "judged.json").read_text())


def _conclude(run: Delivery, judged: list[Mapping[str, Any]], *, record: Mapping[str, Any] | None) -> Decided:
    decided = conclude(run.request, judged, record=record)
    return dataclasses.replace(decided, foretold=foretold_latency(run.request, run.student, judged))


def _bundle(run: Delivery, artifact: Artifact, cases: Sequence[Case], decided: Decided, folder: Path) -> None:
    write(run, artifact, cases, decided, folder / "bundle", report=None)


def write(run: Delivery, artifact: Artifact, cases: Sequence[Case], decided: Decided, out: Path, *, report: str | None) -> None:
    """Write the bundle to `out`, replacing one that is there in a single step."""
    from edgegen.bundle import BundleCase, write_bundle
    from edgegen.runtime.manifest import Manifest

    request, student = run.request, run.student
    stored = [
        BundleCase(f"{i:02d}", c.inputs, (as_output(c.student, student.spec.outputs[0]),), decided.min_case_psnr_db)
        for i, c in enumerate(_stored(cases))
    ]
    manifest = Manifest(
        name=request.checkpoint.stem,
        component=student.spec,
        preferred=artifact.entry.name,
        target=request.target.id,
        verdict=decided.verdict.value,
        teacher=dict(run.teacher.source),
        budget=dataclasses.asdict(request.budget),
        tools=tool_versions(),
        lineage=(*(record.to_json() for record in student.lineage), _verified(request, decided)),
        data_sha256=run.inputs.digest,
    )
    write_bundle(out, manifest=manifest, artifacts=[artifact], cases=stored, report=report)


def _stored(cases: Sequence[Case]) -> Sequence[Case]:
    """Return the cases that go into the bundle: enough for a gate where they are small. Pictures are stored in bytes."""
    each = sum(array.size for array in (*cases[0].inputs, cases[0].student)) if cases else 1
    return cases[: max(_FEWEST_STORED, min(_MOST_STORED, _STORED_BYTES // each))]


def _verified(request: Request, decided: Decided) -> dict[str, Any]:
    """Return the entry of the lineage that tells whoever measures the bundle what was foretold."""
    return {"stage": "verify", "config": dataclasses.asdict(request.recipe.verify), "facts": {FORETOLD: decided.foretold}}


def as_output(picture: np.ndarray, spec: Any) -> np.ndarray:
    """Return a picture (H, W, C) in [0, 1] as the generator's own output, batch axis 1."""
    low, high = spec.low or 0.0, 1.0 if spec.high is None else spec.high
    return (picture.transpose(2, 0, 1)[None] * (high - low) + low).astype(np.float32)


def _bench(run: Delivery, bundle: Path, artifact: Artifact) -> Mapping[str, Any]:
    """Return {"record": edgegen.bench/1 or None, "comparison": rows}; empty when the recipe has no bench stage."""
    from edgegen.bench import BenchPlan, bench
    from edgegen.bench.layers import layer_facts, profile_layers

    request, config = run.request, run.request.recipe.bench
    if "bench" not in request.recipe.stages:
        return {"record": None, "comparison": []}
    if runs_here(artifact) is not artifact.entry:
        run.progress.note(f"bench: this machine has no {artifact.entry.settings['device']}; measure on the device")
        return {"record": None, "comparison": []}
    run.progress.note("bench: this machine")
    threads = config.threads or request.target.threads

    def store(folder: Path) -> None:
        record = bench(bundle, threads=threads, min_runs=config.min_runs, min_seconds=config.min_seconds)
        full = request.effort.value != "quick" and request.target.backend is Backend.OPENVINO
        rows = compare_speed(run.teacher, artifact, run.inputs, folder / "teacher", threads=threads, int8=full)
        quick = request.effort.value == "quick"
        layers = None if quick else layer_facts(profile_layers(bundle, BenchPlan(threads=threads)), threads)
        (folder / "measured.json").write_text(json.dumps({"record": record, "comparison": rows, "layers": layers}, indent=1))

    folder = run.work.stage("bench", {"config": dataclasses.asdict(config), "artifact": artifact.entry.to_json()}, store)
    return json.loads((folder / "measured.json").read_text())


def _report(
    run: Delivery,
    artifact: Artifact,
    cases: Sequence[Case],
    judged: list[Mapping[str, Any]],
    decided: Decided,
    measured: Mapping[str, Any],
) -> Outcome:
    from edgegen.report import render_report
    from edgegen.report_data import report_data

    html = None
    if "report" in run.request.recipe.stages:
        html = render_report(report_data(run, artifact, cases, judged, decided, measured))
    out = run.request.out / "bundle"
    write(run, artifact, cases, decided, out, report=html)
    summary = {
        "verdict": decided.verdict.value,
        "reasons": list(decided.reasons),
        "warnings": list(decided.warnings),
        "bundle": str(out),
        "candidates": [{k: v for k, v in j.items() if k not in ("quality", "parity", "facts", "ran")} for j in judged],
        "comparison": measured["comparison"],
        "record": measured["record"],
        "predictions": [dataclasses.asdict(r) for r in prediction_rows(run.request, run.student, judged, measured["record"])],
        "stages": [record.to_json() for record in run.student.lineage],
    }
    (run.request.out / "summary.json").write_text(json.dumps(summary, indent=1, default=str))
    return Outcome(out, summary)
