"""From what a run knows to what its report shows."""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegen.graph import count_macs, count_params
from edgegen.outcome import Decided
from edgegen.plan.compared import prediction_rows
from edgegen.quality.detectors import Finding, describe_bias, detect, heat_map
from edgegen.quality.metrics import Quality
from edgegen.report.model import (
    BenchRow,
    CandidateRow,
    Evidence,
    FaultRow,
    GeneratorSummary,
    LayerRow,
    Layers,
    PictureRow,
    Placement,
    ReportData,
    Roofline,
    StageRow,
)
from edgegen.spec import Kind, TensorSpec
from edgegen.versions import tool_versions

if TYPE_CHECKING:
    from edgegen.artifact import Artifact
    from edgegen.deliver import Delivery
    from edgegen.generator import Generator
    from edgegen.verify import Case

Json = Mapping[str, Any]
_LONGEST_LAYERS = 12
_SHOWN_FROM = 0.5  # of its limit: a heat map of less is noise


def report_data(
    run: Delivery, artifact: Artifact, cases: Sequence[Case], judged: Sequence[Json], decided: Decided, measured: Json
) -> ReportData:
    """Return everything that the page of this run shows."""
    request = run.request
    chosen = next(j for j in judged if j["chosen"])
    together = {row["name"]: row["p50_ms"] for row in measured["comparison"]}
    eager, ours = together.get("teacher, torch eager f32"), together.get(f"student, {chosen['name']}")
    if chosen["latency_label"] != "measured" or ours is None:
        ours = chosen["latency_ms"]
    rows = tuple(_pictures(run, cases))
    return ReportData(
        title=f"{request.checkpoint.stem} for {request.target.title}",
        verdict=decided.verdict,
        reasons=decided.reasons,
        target=request.target.id,
        budget=request.budget,
        teacher=_summary(run.teacher, run.teacher.family, eager, Evidence.MEASURED, "torch eager f32"),
        student=_summary(run.student, "student", ours, Evidence(chosen["latency_label"]), chosen["name"]),
        candidates=tuple(_candidate(j, measured) for j in judged),
        rows=rows,
        stages=_stages(run.student),
        predictions=prediction_rows(request, run.student, judged, measured["record"]),
        placement=_placement(chosen),
        bench=_bench_rows(measured),
        layers=layers_section(measured.get("layers")),
        faults=fault_rows(rows),
        warnings=decided.warnings,
        command=_command(run),
        facts=_facts(run, artifact),
    )


def _summary(
    generator: Generator, description: str, latency_ms: float | None, evidence: Evidence, runs_in: str
) -> GeneratorSummary:
    macs = count_macs(generator.module, generator.spec)
    return GeneratorSummary(description, count_params(generator.module), macs, latency_ms, evidence, runs_in)


def _candidate(judged: Json, measured: Json) -> CandidateRow:
    quality, parity = (Quality.from_json(judged[key]) if judged[key] else None for key in ("quality", "parity"))
    memory = ((measured["record"] or {}).get("memory") or {}).get("vm_hwm_bytes") if judged["chosen"] else None
    return CandidateRow(
        name=judged["name"], precision=judged["precision"], backend=judged["backend"], kept=judged["kept"],
        chosen=judged["chosen"], reason=judged["reason"], latency_p50_ms=judged["latency_ms"],
        evidence=Evidence(judged["latency_label"]), size_bytes=judged["size_bytes"], quality=quality,
        parity_psnr_db=parity and parity.psnr_db.mean, parity_max_abs=parity and parity.max_abs, memory_bytes=memory,
        runs_on=delegated_in_words(judged["facts"]),
    )  # fmt: skip


def delegated_in_words(facts: Json) -> str:
    """Return which share of a .tflite's operations XNNPACK runs, in how many delegates, and what it leaves; "" if not known."""
    share, delegates = facts.get("delegated_share"), facts.get("partitions")
    if share is None:
        return ""
    left = ", ".join(f"{count} {kind}" for kind, count in facts["left_out"].items())
    said = f"XNNPACK runs {math.floor(share * 100)} % in {delegates} delegate{'' if delegates == 1 else 's'}"
    return f"{said}; left to slow kernels: {left}" if left else said


def _pictures(run: Delivery, cases: Sequence[Case]) -> list[PictureRow]:
    folder = run.work.finished("qat" if run.work.has_finished("qat") else "verify")
    with np.load(folder / "pictures.npz") as stored:
        artifact = [stored[name] for name in stored.files]
    source = run.teacher.spec.inputs[0]
    return [
        PictureRow(f"held-out {i + 1}", _bytes(case.teacher), shown, _bytes(case.student), _input_picture(case.inputs[0], source))
        for i, (case, shown) in enumerate(zip(cases, artifact, strict=False))
    ]


def fault_rows(rows: Sequence[PictureRow]) -> tuple[FaultRow, ...]:
    """Return what each detector says of the artifact against the teacher, with a map of where it comes near its limit."""
    if not rows:
        return ()
    artifact, teacher = [_unit(row.artifact) for row in rows], [_unit(row.teacher) for row in rows]
    return tuple(_fault_row(finding, rows, artifact, teacher) for finding in detect(artifact, teacher))


def _fault_row(
    finding: Finding, rows: Sequence[PictureRow], artifact: Sequence[np.ndarray], teacher: Sequence[np.ndarray]
) -> FaultRow:
    if finding.name == "channel_bias" and finding.value >= 0.05:
        finding = dataclasses.replace(finding, sentence=f"{finding.sentence}: {describe_bias(artifact, teacher)}")
    if finding.value <= _SHOWN_FROM * finding.threshold:
        return FaultRow(finding)
    maps = [heat_map(finding.name, *pair) for pair in zip(artifact, teacher, strict=True)]
    worst = max(range(len(maps)), key=lambda index: float(maps[index].mean()))
    return FaultRow(finding, rows[worst].name, maps[worst], rows[worst].artifact)


def _unit(picture: np.ndarray) -> np.ndarray:
    return picture.astype(np.float32) / 255


def _bytes(picture: np.ndarray) -> np.ndarray:
    return np.rint(picture * 255).astype(np.uint8)


def _input_picture(array: np.ndarray, spec: TensorSpec) -> np.ndarray | None:
    """The input as a picture; label maps get one colour per class; latents have none."""
    if spec.kind is Kind.LABEL_MAP:
        hues = np.linspace(0, 2 * np.pi, array.shape[1], endpoint=False)
        palette = np.stack([np.cos(hues + shift) * 0.4 + 0.55 for shift in (0.0, 2.1, 4.2)], 1)
        return _bytes(palette[array[0].argmax(0)])
    if spec.kind is Kind.IMAGE and spec.low is not None and spec.high is not None:
        return _bytes(np.clip((array[0].transpose(1, 2, 0) - spec.low) / (spec.high - spec.low), 0, 1))
    return None


def _stages(student: Generator) -> tuple[StageRow, ...]:
    rows = []
    for record in student.lineage:
        facts = record.facts
        note = "; ".join(_training_notes(facts)) if record.stage in ("distill", "qat") else facts.get("coverage", "")
        label = Evidence(facts["label"]) if "label" in facts else Evidence.PREDICTED
        rows.append(
            StageRow(
                record.stage, record.seconds, facts.get("params"), facts.get("macs"), facts.get("estimate_ms"), label, note=note
            )
        )
    return tuple(rows)


def _training_notes(facts: Json) -> list[str]:
    """How long a training was, and what more of it would give."""
    outlook = facts.get("more_time") or {}
    told = [outlook["text"]] if "gain_db" in outlook else []
    if "qat_psnr_db" in facts and "ptq_psnr_db" in facts:
        told = [f"int8 {facts['ptq_psnr_db']:.1f} dB to the teacher without, {facts['qat_psnr_db']:.1f} dB with it"]
    return [f"{facts.get('steps')} steps", *told]


def _placement(chosen: Json) -> Placement:
    ran = chosen["ran"]
    shares = {k: float(v) for k, v in ran.get("shares", {}).items()}
    versions = {str(ran.get("name", chosen["backend"])): str(ran.get("version", ""))}
    return Placement(f"{chosen['name']} on this machine", shares, ran.get("threads"), versions)


def layers_section(found: Json | None) -> Layers | None:
    """Return the section on layers from what `edgegen.bench.layers.LayerProfile` and `Peaks` are as JSON; None without them."""
    if found is None:
        return None
    profile, peaks, total = found["profile"], found["peaks"], found["profile"]["total_ns"] or 1
    longest = sorted(profile["layers"], key=lambda layer: -layer["ns"])[:_LONGEST_LAYERS]
    rows = tuple(LayerRow(x["name"], x["kind"], x["type"], x["ns"] / 1e6, x["ns"] / total) for x in longest)
    points = tuple((kind, intensity, speed) for _, kind, intensity, speed in found["points"])
    roofline = Roofline(points, peaks["macs_per_s"], peaks["bytes_per_s"], peaks["source"]) if peaks and points else None
    shares = {name: (share["layers"], share["time"]) for name, share in profile["shares"].items()}
    return Layers(rows, len(profile["layers"]), shares, roofline, profile["reason"])


def _bench_rows(measured: Json) -> tuple[BenchRow, ...]:
    rows = [BenchRow(r["name"], r["p50_ms"], r["p90_ms"], r["runs"]) for r in measured["comparison"]]
    record = measured["record"]
    if record and rows:
        cold, memory = record.get("cold") or {}, record.get("memory") or {}
        burst = (record.get("latency_ms") or {}).get("burst") or {}
        rows.append(
            BenchRow(
                "student, fresh process through the runtime",
                burst.get("p50"),
                burst.get("p90"),
                burst.get("n"),
                _first(cold.get("load_ms")),
                _first(cold.get("first_inference_ms")),
                memory.get("vm_hwm_bytes"),
                record.get("state", {}).get("threads"),
                interleaved=False,
            )  # fmt: skip
        )
    return tuple(rows)


def _first(values: Any) -> float | None:
    return values[0] if values else None


def _command(run: Delivery) -> str:
    request = run.request
    words = [
        "edgegen",
        "compress",
        request.checkpoint.name,
        "--target",
        request.target.id,
        "--backend",
        request.target.backend.value,
    ]
    words += ["--effort", request.effort.value]
    if request.data:
        words += ["--data", request.data.name]
    return shlex.join([*words, "--seed", str(request.seed)])


def _facts(run: Delivery, artifact: Artifact) -> dict[str, str]:
    source = run.teacher.source
    return {
        "checkpoint": str(source.get("file", run.request.checkpoint.name)),
        "checkpoint SHA-256": str(source.get("sha256", "")),
        "family": run.teacher.family,
        "data": run.inputs.description,
        "seed": str(run.request.seed),
        **{f"{k} version": v for k, v in tool_versions().items()},
        **{k: str(v) for k, v in artifact.facts.items() if not isinstance(v, dict)},
    }
