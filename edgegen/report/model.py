"""What a report shows, as plain values: whoever fills them need not know HTML, and the template computes nothing.

Absent numbers are None and shown as a dash; a number that was not measured says so by its `Evidence`.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

from numpy.typing import NDArray

from edgegen.quality.detectors import Finding
from edgegen.quality.metrics import Quality
from edgegen.spec import Budget, Verdict


class Evidence(str, enum.Enum):
    """Where a latency comes from."""

    MEASURED = "measured"
    PREDICTED = "predicted"


@dataclasses.dataclass(frozen=True)
class GeneratorSummary:
    """Teacher or student; `description` is for people: "Johnson style network, 16-24-48". MACs are of one inference."""

    description: str
    params: int | None = None
    macs: int | None = None
    latency_ms: float | None = None
    evidence: Evidence = Evidence.MEASURED
    runs_in: str = ""  # what timed it: "torch eager f32, 2 threads"


@dataclasses.dataclass(frozen=True)
class CandidateRow:
    """One artifact that the gate judged: `kept` it passed, `chosen` it is the one to run, `reason` says why.

    `quality` is against the teacher; parity is against the torch student.
    """

    name: str
    precision: str
    backend: str
    kept: bool
    chosen: bool
    reason: str
    latency_p50_ms: float | None = None
    latency_p90_ms: float | None = None
    evidence: Evidence = Evidence.MEASURED
    size_bytes: int | None = None
    memory_bytes: int | None = None
    quality: Quality | None = None
    parity_psnr_db: float | None = None
    parity_max_abs: float | None = None  # of outputs scaled to [0, 1]
    runs_on: str = ""  # what a delegate takes of it, and what it leaves to slow kernels; "" where there is none


@dataclasses.dataclass(frozen=True)
class StageRow:
    """What one stage left behind. `seconds` is its wall time, `size_bytes` that of the weights or files it wrote."""

    name: str
    seconds: float | None = None
    params: int | None = None
    macs: int | None = None
    latency_ms: float | None = None
    evidence: Evidence = Evidence.PREDICTED
    size_bytes: int | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class FaultRow:
    """What a detector found, and where: `heat` (H, W) in [0, 1] on `picture`, uint8 (H, W, C), of the row called `where`.

    Without anything to see, `heat` and `picture` are None.
    """

    finding: Finding
    where: str = ""
    heat: NDArray | None = None
    picture: NDArray | None = None


@dataclasses.dataclass(frozen=True)
class PictureRow:
    """One held-out input through teacher, float student and artifact: uint8 (H, W, C), C = 1 or 3.

    `input` is None for inputs that are no pictures, such as latents. Teacher, student and artifact share one size; the
    report adds the difference artifact - teacher, 8 times enlarged.
    """

    name: str
    teacher: NDArray
    artifact: NDArray
    student: NDArray | None = None
    input: NDArray | None = None


@dataclasses.dataclass(frozen=True)
class Placement:
    """What ran where: shares of the artifact's multiply-accumulates per number format (sum 1), and versions by tool name."""

    description: str
    shares: Mapping[str, float] = dataclasses.field(default_factory=dict)
    threads: int | None = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class BenchRow:
    """One line of the bench table: "teacher, torch eager f32", "teacher, OpenVINO f32", "student, OpenVINO int8"."""

    name: str
    latency_p50_ms: float | None = None
    latency_p90_ms: float | None = None  # None also when there were too few runs for it
    runs: int | None = None
    load_ms: float | None = None
    first_ms: float | None = None
    peak_memory_bytes: int | None = None
    threads: int | None = None
    interleaved: bool = True  # timed in turns with the others, not alone: only such rows are compared


@dataclasses.dataclass(frozen=True)
class PredictionRow:
    """What was foretold of one figure and what it came to, as text with units; "–" where nothing was measured.

    `error` is predicted / measured - 1; None where the two are not of the same thing.
    """

    name: str
    predicted: str
    measured: str
    note: str = ""
    error: float | None = None


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """One of the layers that take longest: `share` of the time of all, `type` as the back end says it ran."""

    name: str
    kind: str
    type: str
    ms: float
    share: float


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Layers as (type, MACs per byte, MACs per second) below what the machine can do: MACs a second by type, bytes a second.

    `source` is "measured" or "profile".
    """

    points: tuple[tuple[str, float, float], ...]
    macs_per_s: Mapping[str, float]
    bytes_per_s: float
    source: str


@dataclasses.dataclass(frozen=True)
class Layers:
    """Where the time goes. `shares` are (layers, part of the time) by type; no `rows` and a `reason` where nothing tells."""

    rows: tuple[LayerRow, ...] = ()
    count: int = 0
    shares: Mapping[str, tuple[int, float]] = dataclasses.field(default_factory=dict)
    roofline: Roofline | None = None
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class ReportData:
    """Everything on the page, in the order of the page. The first row of `bench` is what speed-ups are told against,
    the last interleaved one is the student.
    """

    title: str
    verdict: Verdict
    reasons: tuple[str, ...]  # sentences that explain the verdict
    target: str
    budget: Budget
    teacher: GeneratorSummary
    student: GeneratorSummary
    candidates: tuple[CandidateRow, ...]
    rows: tuple[PictureRow, ...] = ()
    stages: tuple[StageRow, ...] = ()
    predictions: tuple[PredictionRow, ...] = ()
    placement: Placement | None = None
    bench: tuple[BenchRow, ...] = ()
    layers: Layers | None = None
    faults: tuple[FaultRow, ...] = ()  # of the chosen artifact against the teacher, one row per detector
    warnings: tuple[str, ...] = ()
    command: str = ""  # what made the bundle
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)  # provenance: checkpoint hash, data, seed, edgegen version

    @property
    def chosen(self) -> CandidateRow | None:
        """The candidate that the gate chose; None when it kept none."""
        return next((candidate for candidate in self.candidates if candidate.chosen), None)
