"""What a run concludes: the verdict, why, and what deserves a warning."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.spec import Verdict

if TYPE_CHECKING:
    from edgegen.request import Request

_CASE_MARGIN_DB = 6.0  # another machine rounds otherwise; a wrong picture is tens of dB away
_FEWEST_DB = 12.0
_ONE_LEVEL_DB = 48.1  # of 255 everywhere: cases are compared in 8 bits, where nothing closer can be told from rounding


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How the run ended. `bundle` is None when --until stopped it earlier; `summary` is what --json prints."""

    bundle: Path | None
    summary: Mapping[str, Any]

    @property
    def exit_code(self) -> int:
        """0 when the budget and the quality floor are met (or nothing was to be decided yet), 4 otherwise."""
        missed = (Verdict.QUALITY_MISSED.value, Verdict.BUDGET_MISSED.value)
        return 4 if self.summary.get("verdict") in missed else 0


@dataclasses.dataclass(frozen=True)
class Decided:
    """The verdict on the chosen artifact. `min_case_psnr_db` is what a device must reach on the stored cases; `foretold` is what
    was predicted of its latency, for whoever measures it."""

    verdict: Verdict
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    min_case_psnr_db: float
    foretold: Mapping[str, Any] | None = None


def conclude(request: Request, judged: Sequence[Mapping[str, Any]], record: Mapping[str, Any] | None) -> Decided:
    """Return the verdict on the chosen candidate against budget and floor; `record` brings the peak memory once measured."""
    chosen = next(j for j in judged if j["chosen"])
    quality, missed, warnings = (
        _quality(request, chosen, record),
        _missed(request, chosen, record),
        _warnings(request, chosen, record),
    )
    if quality:
        verdict = Verdict.QUALITY_MISSED
    elif missed:
        verdict = Verdict.BUDGET_MISSED
    else:
        verdict = Verdict.MET_WITH_WARNINGS if warnings else Verdict.MET
    reasons = (*quality, *missed) or (f"{chosen['name']}: {chosen['reason']}",)
    worst = min(p["psnr_db"] for p in chosen["parity"]["per_picture"])
    return Decided(verdict, reasons, tuple(warnings), max(_FEWEST_DB, min(worst, _ONE_LEVEL_DB) - _CASE_MARGIN_DB))


def _quality(request: Request, chosen: Mapping[str, Any], record: Mapping[str, Any] | None) -> list[str]:
    reasons = [] if chosen["kept"] else [f"no candidate passed the gate; {chosen['name']}: {chosen['reason']}"]
    if (record or {}).get("quality", {}).get("passed") is False:
        reasons.append("the bundle fails its stored cases in a fresh process")
    floor = request.budget.min_ssim
    if floor is not None and chosen["ssim"] < floor:
        reasons.append(f"SSIM {chosen['ssim']:.3f} against the teacher is below the floor of {floor:g}")
    return reasons


def _missed(request: Request, chosen: Mapping[str, Any], record: Mapping[str, Any] | None) -> list[str]:
    budget, reasons = request.budget, []
    latency = chosen["latency_ms"]
    if budget.latency_s is not None and latency is not None and latency > budget.latency_s * 1e3:
        reasons.append(
            f"latency {latency:.2f} ms ({chosen['latency_label']}) is over the budget of {budget.latency_s * 1e3:.2f} ms"
        )
    if budget.size_bytes is not None and chosen["size_bytes"] > budget.size_bytes:
        reasons.append(f"size {chosen['size_bytes']} bytes is over the budget of {budget.size_bytes} bytes")
    peak = (record or {}).get("memory", {}).get("vm_hwm_bytes")
    if budget.memory_bytes is not None and peak is not None and peak > budget.memory_bytes:
        reasons.append(f"peak memory {peak / 2**20:.1f} MiB is over the budget of {budget.memory_bytes / 2**20:.1f} MiB")
    return reasons


def _warnings(request: Request, chosen: Mapping[str, Any], record: Mapping[str, Any] | None) -> list[str]:
    warnings = []
    if request.budget.latency_s is not None and chosen["latency_ms"] is None:
        warnings.append("the latency budget was not checked: nothing can time or predict this target")
    elif request.budget.latency_s is not None and chosen["latency_label"] == "predicted":
        warnings.append(f"latency is predicted from the profile of {request.target.id}; measure it on the board")
    if request.budget.memory_bytes is not None and record is None:
        warnings.append("peak memory was not measured")
    return warnings
