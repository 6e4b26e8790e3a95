"""A report as a run on style_rain_princess would fill it, with real photos and made-up numbers."""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from edgegen.quality.metrics import compare
from edgegen.report.model import BenchRow, CandidateRow, Evidence, GeneratorSummary, PictureRow, Placement, ReportData, StageRow
from edgegen.report_data import fault_rows
from edgegen.spec import Budget, Verdict


def soften(picture, sigma):
    return np.round(gaussian_filter(picture.astype(float), (sigma, sigma, 0))).astype(np.uint8)


@pytest.fixture(scope="session")
def picture_rows(shared_images) -> tuple[PictureRow, ...]:
    paths = sorted((shared_images / "street_test").glob("*.png"))[:3]
    rows = []
    for path in paths:
        photo = np.asarray(Image.open(path).convert("RGB").resize((96, 96)))
        teacher = 255 - photo
        rows.append(
            PictureRow(path.stem, teacher, soften(teacher, 0.8), student=soften(teacher, 0.6), input=photo[::2, ::2].copy())
        )
    return tuple(rows)


@pytest.fixture(scope="session")
def data(picture_rows) -> ReportData:
    reference = [row.teacher.astype(np.float32) / 255 for row in picture_rows]
    produced = [row.artifact.astype(np.float32) / 255 for row in picture_rows]
    quality = compare(produced, reference, seed=0)
    better = compare([np.clip(p * 1.001, 0, 1) for p in reference], reference, seed=0)
    candidates = (
        CandidateRow(
            "openvino/f32", "f32", "openvino", True, False, "slower than int8 at equal quality", 14.8, 15.3,
            size_bytes=714_000, memory_bytes=61 << 20, quality=better, parity_psnr_db=98.2, parity_max_abs=0.0004,
        ),
        CandidateRow("openvino/f16", "f16", "openvino", True, False, "as fast as f32", 14.9, size_bytes=371_000, quality=better),
        CandidateRow(
            "openvino/int8", "int8", "openvino", True, True, "fastest that keeps the quality", 5.12, 5.4,
            size_bytes=262_144, memory_bytes=58 << 20, quality=quality, parity_psnr_db=36.1, parity_max_abs=0.081,
        ),
        CandidateRow("litert/int8", "int8", "litert", False, False, "export failed", 7.7, evidence=Evidence.PREDICTED),
    )  # fmt: skip
    return ReportData(
        title="rain_princess at 256×256",
        verdict=Verdict.MET_WITH_WARNINGS,
        reasons=("5.12 ms on host, 33.0 ms were allowed.",),
        target="host: this CPU, OpenVINO",
        budget=Budget(latency_s=0.033, size_bytes=4 << 20, min_ssim=0.5),
        teacher=GeneratorSummary("Johnson style network, 32-64-128", 1_679_235, 10_070_000_000, 87.8, runs_in="torch eager f32"),
        student=GeneratorSummary("Johnson style network, 16-24-48", 175_000, 1_570_000_000, 5.12, runs_in="OpenVINO int8"),
        candidates=candidates,
        rows=picture_rows,
        stages=(
            StageRow("load", 0.4, 1_679_235, 10_070_000_000, 92.1, Evidence.MEASURED, 6_720_000),
            StageRow("prune", 6.2, 175_000, 1_570_000_000, 9.1, Evidence.PREDICTED, 701_000, "32-64-128 to 16-24-48"),
            StageRow("distill", 1123.0, 175_000, 1_570_000_000, note="3,100 steps"),
        ),
        placement=Placement(
            "Convolutions in int8, normalisation in f32.", {"int8": 0.93, "f32": 0.07}, 2, {"openvino": "2026.4.1"}
        ),
        bench=(
            BenchRow("teacher, torch eager f32", 87.8, 91.0, 64, threads=2),
            BenchRow("teacher, OpenVINO f32", 51.9, 53.1, 80, 310.0, 60.2, 201 << 20, 2),
            BenchRow("student, OpenVINO int8", 5.12, 5.4, 400, 120.0, 6.3, 58 << 20, 2),
        ),
        faults=fault_rows(picture_rows),
        warnings=("clocks were not locked",),
        command="edgegen compress rain_princess.pt --target host",
        facts={"seed": "0"},
    )


@pytest.fixture(scope="session")
def bare_data(data) -> ReportData:
    """The least that a run can know: nothing was timed, nothing could be shown."""
    unknown = GeneratorSummary("unknown")
    nothing = CandidateRow("openvino/int8", "int8", "openvino", False, False, "export failed")
    return dataclasses.replace(
        data, verdict=Verdict.BUDGET_MISSED, budget=Budget(), teacher=unknown, student=unknown, candidates=(nothing,), rows=(),
        stages=(), placement=None, bench=(), faults=(), warnings=(), command="", facts={},
    )  # fmt: skip
