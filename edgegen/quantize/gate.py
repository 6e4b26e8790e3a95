"""The gate (docs/design.md, decision 3): of all candidates, keep the fastest that looks no worse."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

_HIGHEST_FIRST = ("f32", "f16", "int8-dynamic", "int8", "int8-full")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """What is known of one artifact when the gate looks at it.

    `latency_s` is None when nothing can time or predict it. `parity_db` is against the float student, `ssim` against the
    teacher, `findings` are sentences of the artefact detectors, `size_bytes` is of all files. `failure` says why it did not run
    to its end; then the other values mean nothing.
    """

    name: str
    precision: str
    latency_s: float | None
    parity_db: float
    ssim: float
    nonfinite: int
    findings: tuple[str, ...]
    size_bytes: int
    failure: str = ""


@dataclasses.dataclass(frozen=True)
class Decision:
    """Whether a candidate may be shipped, and why. Exactly one kept candidate of a gate is `chosen`."""

    name: str
    kept: bool
    chosen: bool
    reason: str


@dataclasses.dataclass(frozen=True)
class Floors:
    """`ssim` is that of the float student against the teacher; int8 may lose `max_ssim_loss`, floats need `min_parity_db`."""

    ssim: float
    max_ssim_loss: float
    min_parity_db: float


def decide(candidates: Sequence[Candidate], floors: Floors) -> list[Decision]:
    """Return one decision per candidate, in their order. If all are dropped, the best picture is chosen all the same."""
    reasons = {c.name: _fault(c, floors) or _slower(c, candidates, floors) for c in candidates}
    kept = [c for c in candidates if not reasons[c.name]]
    best = min(kept, key=_speed_then_quality) if kept else max(candidates, key=_picture)
    return [_decision(c, best, reasons[c.name], bool(kept)) for c in candidates]


def _decision(candidate: Candidate, best: Candidate, reason: str, any_kept: bool) -> Decision:
    if candidate is not best:
        return Decision(candidate.name, not reason, False, reason or f"kept, but {best.name} is faster")
    text = "fastest that keeps the picture" if any_kept else f"nothing passed; best picture of all ({reason})"
    return Decision(candidate.name, any_kept, True, text)


def _fault(candidate: Candidate, floors: Floors) -> str:
    """Why the candidate's pictures are not good enough; empty when they are."""
    if candidate.failure:
        return candidate.failure
    if candidate.nonfinite:
        return f"{candidate.nonfinite} values are NaN or infinite"
    if not candidate.precision.startswith("int8") and candidate.parity_db < floors.min_parity_db:
        return f"parity {candidate.parity_db:.1f} dB with the student is below {floors.min_parity_db:.1f} dB"
    if candidate.ssim < floors.ssim - floors.max_ssim_loss:
        return f"visibly worse: SSIM {candidate.ssim:.4f} against {floors.ssim:.4f} of the float student"
    if candidate.findings:
        return "visibly worse: " + "; ".join(candidate.findings)
    return ""


def _slower(candidate: Candidate, candidates: Sequence[Candidate], floors: Floors) -> str:
    """Why a higher precision makes this one pointless; empty when none does."""
    if candidate.latency_s is None:
        return ""
    rank = _HIGHEST_FIRST.index(candidate.precision)
    for other in candidates:
        higher = _HIGHEST_FIRST.index(other.precision) < rank and not _fault(other, floors)
        if higher and other.latency_s is not None and other.latency_s < candidate.latency_s:
            return f"slower than {other.name}: {candidate.latency_s * 1e3:.2f} against {other.latency_s * 1e3:.2f} ms"
    return ""


def _picture(candidate: Candidate) -> tuple[bool, bool, float]:
    return (not candidate.failure, candidate.nonfinite == 0, candidate.ssim)


def _speed_then_quality(candidate: Candidate) -> tuple[float, float, int]:
    return (candidate.latency_s if candidate.latency_s is not None else float("inf"), -candidate.ssim, candidate.size_bytes)
