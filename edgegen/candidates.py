"""Artifacts as candidates: export every precision, verify and time each, and let the gate decide."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegen.artifact import Artifact
from edgegen.building import Building, build
from edgegen.errors import ExportError, MissingExtraError
from edgegen.latency import LatencyModel, LayerWork, MeasuredTable, estimate
from edgegen.openvino_form import KEPT, SUB_PIXEL, OpenForm, choose_form, time_artifacts
from edgegen.pictures import adapt
from edgegen.prediction import predictor
from edgegen.quantize.gate import Candidate, Decision, Floors, decide
from edgegen.recipe import Choice, Effort
from edgegen.spec import Backend, Precision
from edgegen.support import NEEDS, missing_modules, require_offered
from edgegen.trial import Crash, Job, run_all, time_all
from edgegen.verify import Case, Verification, assess, make_cases, runs_here

if TYPE_CHECKING:
    from edgegen.data import Inputs
    from edgegen.export.openvino_int8 import Int8Search
    from edgegen.generator import Generator
    from edgegen.progress import Progress
    from edgegen.ranges import LearnedRange
    from edgegen.request import Request
    from edgegen.target import TargetProfile

_SHOWN = 6  # picture rows of a report


@dataclasses.dataclass(frozen=True)
class Judged:
    """A candidate with everything that was found out about it; `verification` is None if it did not run to its end."""

    artifact: Artifact
    verification: Verification | None
    latency_s: float | None
    latency_label: str
    decision: Decision

    def to_json(self) -> dict[str, Any]:
        """Return what reports and --json show."""
        found = self.verification
        return {
            "name": self.artifact.name,
            "backend": self.artifact.entry.backend,
            "precision": self.artifact.entry.precision,
            "latency_ms": None if self.latency_s is None else self.latency_s * 1e3,
            "latency_label": self.latency_label,
            "size_bytes": self.artifact.size_bytes,
            "ssim": found and found.quality.ssim.mean,
            "parity_db": found and found.parity.psnr_db.mean,
            "quality": found and found.quality.to_json(),
            "parity": found and found.parity.to_json(),
            "nonfinite": found and found.nonfinite,
            "findings": list(found.findings) if found else [],
            "kept": self.decision.kept,
            "chosen": self.decision.chosen,
            "reason": self.decision.reason,
            "facts": dict(self.artifact.facts),
            "ran": found.ran if found else {},
        }


def require_exporter(target: TargetProfile) -> None:
    """Raise MissingExtraError if what exports for the target is not installed: now, and not after an hour of training."""
    missing = missing_modules(target.backend)
    if missing:
        extra = NEEDS[target.backend].extra
        raise MissingExtraError(
            f"{missing[0]} is not installed, {target.id} needs it ({target.backend.value})",
            hint=f"pip install 'edgegen[{extra}]'" if extra else "pip install edgegen",
        )


def export_candidates(
    request: Request,
    student: Generator,
    inputs: Inputs,
    folder: Path,
    *,
    learned: Sequence[LearnedRange] = (),
    begin: Callable[[str], None] = lambda name: None,
) -> list[Artifact]:
    """Export the student into `folder`, in every precision of the recipe or the target, in the form that runs best there.

    `learned` are ranges from quantisation-aware training of this student; `begin` is told each candidate's name before it is
    built. That happens in a child process: a candidate whose converter or quantiser kills it is `lost`, and no other.
    """
    from edgegen.export.flavours import require_taken
    from edgegen.export.preflight import tables_of

    backend, precisions = request.target.backend, _precisions(request)
    require_offered(backend, precisions)
    form = _open_form(request, student, fastest(precisions)) if backend is Backend.OPENVINO else None
    what = Building(student, backend, precisions, tuple(inputs.calibration()), tuple(learned), _settings(request), form)
    made = build(what, folder / backend.value, begin)
    require_taken(made, tables_of(request.target))
    return made


def _precisions(request: Request) -> tuple[Precision, ...]:
    """Return what is exported: the recipe's precisions, or the target's."""
    return tuple(Precision(p) for p in request.recipe.export.precisions) or request.target.precisions


def _settings(request: Request) -> dict[str, Any]:
    """Return the plain values of the back end's settings."""
    profile = request.target.backends[0]
    match request.target.backend:
        case Backend.OPENVINO:
            return {
                "device": profile.device or "CPU",
                "least_int8_share": profile.least_int8_share,
                "native": request.target.local,
                "search": dataclasses.asdict(int8_search(request.effort)),
            }
        case Backend.LITERT:
            return litert_settings(request.effort)
        case Backend.TENSORRT | Backend.ONNXRUNTIME:
            return {}


def int8_search(effort: Effort) -> Int8Search:
    """Return how long int8 for OpenVINO is searched: on a style network of 37 int8 operations 6, 30 and 60 s of one core."""
    from edgegen.export.openvino_int8 import Int8Search

    match effort:
        case Effort.QUICK:
            return Int8Search(("mixed",), ("mean", "min-max"), evaluations=8, judges=1, forms=2)
        case Effort.BALANCED:
            return Int8Search(("mixed", "performance"), ("mean", "min-max"), evaluations=40, judges=2, forms=9)
        case Effort.THOROUGH:
            return Int8Search(("mixed", "performance"), ("mean", "min-max", "median"), evaluations=120, judges=4, forms=14)


def litert_settings(effort: Effort) -> dict[str, Any]:
    """Return the settings of the LiteRT export: which forms of int8 are candidates, and how many single ranges are tried."""
    from edgegen.export.tflite import Int8Form

    tries = {Effort.QUICK: 0, Effort.BALANCED: 8, Effort.THOROUGH: 32}[effort]
    forms = [Int8Form.STATIC] if effort is Effort.QUICK else list(Int8Form)
    return {"forms": [form.value for form in forms], "most_tries": tries}


def _open_form(request: Request, student: Generator, precision: Precision) -> OpenForm:
    """Return what is left to choose of the form of `student`: pixels by recipe or profile, transposed convolutions by timing both
    forms in `precision` where the target is this machine and the recipe does not say."""
    config, pays = request.recipe.rewrite, request.target.rewrites
    pixels = config.pixels is Choice.YES or (config.pixels is Choice.AUTO and pays.get("pixels", False))
    if not any(type(m).__name__ == "ConvTranspose2d" for m in student.module.modules()):
        forms = (KEPT,)
    elif config.conv_transpose is not Choice.AUTO:
        forms = (SUB_PIXEL,) if config.conv_transpose is Choice.YES else (KEPT,)
    elif not request.target.local:
        forms = (SUB_PIXEL,) if pays.get("conv_transpose", False) else (KEPT,)
    else:
        forms = (KEPT, SUB_PIXEL)
    return OpenForm(forms, pixels, precision, request.target.threads)


def whole_timer(request: Request, inputs: Inputs, model: LatencyModel) -> Callable[[Generator], float] | None:
    """Return what times a student as a whole, in seconds, where there is a budget to meet on this machine; None elsewhere.

    The student is exported as it will be, in the fastest precision; `model` keeps what was measured.
    """
    if request.prune_to_s is None or not isinstance(model, MeasuredTable):
        return None
    calibration = inputs.calibration(2)  # what the values are does not change the time

    def seconds(student: Generator) -> float:
        from edgegen.graph import example_inputs
        from edgegen.prune.work import layer_works

        works = layer_works(student.module, example_inputs(student.spec)).values()
        return model.whole(works, lambda: _whole_s(request, student, calibration))

    return seconds


def _whole_s(request: Request, student: Generator, calibration: Sequence[Any]) -> float:
    import tempfile

    from edgegen.export import export
    from edgegen.rewrite import lower

    precision = fastest(request.target.precisions)
    with tempfile.TemporaryDirectory() as folder:
        left = _open_form(request, student, precision)
        form, _ = choose_form(lower(student, Backend.OPENVINO), left, calibration, Path(folder) / "trial")
        samples = [adapt(item, student.spec, form.spec) for item in calibration]
        (artifact,) = export(form, Backend.OPENVINO, (precision,), samples, Path(folder) / "whole")
        return time_artifacts([artifact], samples[:1], request.target.threads)[0]


def judge(
    request: Request, artifacts: Sequence[Artifact], student: Generator, cases: list[Case], progress: Progress
) -> list[Judged]:
    """Verify every artifact on `cases`, time or predict it, and let the gate decide against the float student.

    Artifacts run in child processes: one that kills its process is dropped with the signal. Raises ExportError if none runs.
    """
    from edgegen.quality.metrics import compare

    progress.start("verify", len(artifacts))
    built = iter(run_all([_job(a, student, cases) for a in artifacts if not a.lost], progress.advance))
    given = [Crash(a.lost) if a.lost else next(built) for a in artifacts]
    progress.finish()
    failures = [g.reason if isinstance(g, Crash) else "" for g in given]
    if all(failures):
        told = "; ".join(f"{a.name}: {why}" for a, why in zip(artifacts, failures, strict=True))
        raise ExportError(f"no artifact runs: {told}", hint="is the back end installed as `pip install edgegen` brings it?")
    latencies, label = candidate_latencies(request, artifacts, student, cases, failures)
    found = [
        None if isinstance(g, Crash) or failure else assess(a, g.outputs, g.ran, cases, seed=request.seed)
        for a, g, failure in zip(artifacts, given, failures, strict=True)
    ]
    reference = compare([c.student for c in cases], [c.teacher for c in cases], request.seed).ssim.mean
    config = request.recipe.verify
    candidates = [_candidate(*row) for row in zip(artifacts, found, latencies, failures, strict=True)]
    decisions = decide(candidates, Floors(reference, config.max_ssim_loss, config.min_parity_db))
    return [Judged(*row[:3], label, row[3]) for row in zip(artifacts, found, latencies, decisions, strict=True)]


def keep_judged(judged: Sequence[Judged], folder: Path) -> None:
    """Write the judgement to judged.json in `folder`, and the pictures of the chosen one that a report shows to pictures.npz."""
    (folder / "judged.json").write_text(json.dumps([j.to_json() for j in judged], indent=1))
    chosen = next(j for j in judged if j.decision.chosen)
    assert chosen.verification is not None  # the gate does not choose what did not run
    shown = [np.rint(p * 255).astype(np.uint8) for p in chosen.verification.pictures[:_SHOWN]]
    np.savez_compressed(folder / "pictures.npz", *shown)


def _job(artifact: Artifact, student: Generator, cases: Sequence[Case]) -> Job:
    entry = runs_here(artifact)
    return Job(artifact.folder, entry, tuple(adapt(case.inputs, student.spec, entry.io) for case in cases))


def _candidate(artifact: Artifact, found: Verification | None, latency_s: float | None, failure: str) -> Candidate:
    if found is None:
        return Candidate(artifact.name, artifact.entry.precision, None, 0.0, 0.0, 0, (), artifact.size_bytes, failure)
    return Candidate(
        artifact.name,
        artifact.entry.precision,
        latency_s,
        found.parity.psnr_db.mean,
        found.quality.ssim.mean,
        found.nonfinite,
        found.findings,
        artifact.size_bytes,
    )


def candidate_latencies(
    request: Request,
    artifacts: Sequence[Artifact],
    student: Generator,
    cases: Sequence[Case],
    failures: list[str] | None = None,
) -> tuple[list[float | None], str]:
    """Return seconds per artifact and how they were found: "measured" on a local target, "predicted" otherwise.

    Artifacts with a sentence in `failures` are left out; those that fail while they are timed get one.
    """
    failures = failures if failures is not None else [""] * len(artifacts)
    if request.target.local:
        running = [i for i, failure in enumerate(failures) if not failure]
        found: list[float | None] = [None] * len(artifacts)
        timed = time_all([_job(artifacts[i], student, cases[:1]) for i in running], request.target.threads)
        for index, seconds in zip(running, timed, strict=True):
            if isinstance(seconds, Crash):
                failures[index] = seconds.reason
            else:
                found[index] = seconds
        return found, "measured"
    from edgegen.graph import example_inputs
    from edgegen.prune.work import layer_works

    works = layer_works(student.module, example_inputs(student.spec))
    return [_predicted(request, artifact, works) for artifact in artifacts], "predicted"


def _predicted(request: Request, artifact: Artifact, works: Mapping[str, LayerWork]) -> float | None:
    """Return what the target's predictor says; layers that the artifact keeps in float cost what the best float costs."""
    model = predictor(request, Precision(artifact.entry.precision))
    floats = [m for m in (predictor(request, p) for p in (Precision.F16, Precision.F32)) if m is not None]
    kept = {_layer_of(operation) for operation in artifact.facts.get("kept_float", ())}
    if model is None or (kept & works.keys() and not floats):
        return None
    in_int8 = [work for name, work in works.items() if name not in kept]
    in_float = [work for name, work in works.items() if name in kept]
    return estimate(model, in_int8) + (min(estimate(m, in_float) for m in floats) if in_float else 0.0)


def _layer_of(operation: str) -> str:
    """Return the layer that an OpenVINO operation is of: "head.conv" of "__module.head.conv/aten::_convolution/Convolution"."""
    return operation.removeprefix("__module.").partition("/")[0]


def torch_cases(inputs: Inputs, count: int, teacher: Generator, student: Generator) -> list[Case]:
    """Return `count` held-out cases with what teacher and student make of them in torch, float32."""
    return make_cases(inputs.held_out(count), student.spec, torch_call(teacher), torch_call(student))


def torch_call(generator: Generator) -> Any:
    """Return a function from input arrays to the output array of `generator` in torch."""
    import torch

    def call(*arrays: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return generator.module(*(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays)).numpy()

    return call


def fastest(precisions: tuple[Precision, ...]) -> Precision:
    """The precision that a target is expected to run fastest in."""
    order = (Precision.INT8, Precision.INT8_FULL, Precision.INT8_DYNAMIC, Precision.F16, Precision.F32)
    return next(p for p in order if p in precisions)
