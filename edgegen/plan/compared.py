"""What was foretold of a run beside what it came to: from the plan's option that was run, or from what pruning estimated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgegen.candidates import fastest
from edgegen.generator import Generator, StageRecord
from edgegen.plan.memory import device_memory_bytes
from edgegen.plan.model import Option, read_plan
from edgegen.plan.size import artifact_bytes
from edgegen.report import numbers
from edgegen.report.model import PredictionRow
from edgegen.spec import Backend, Precision

if TYPE_CHECKING:
    from edgegen.request import Request

Json = Mapping[str, Any]


def prediction_rows(
    request: Request, student: Generator, judged: Sequence[Json], record: Json | None
) -> tuple[PredictionRow, ...]:
    """Return a row per figure that was foretold. `judged` are all candidates, `record` is the bench's, if it ran."""
    option = _option(request)
    chosen = next(j for j in judged if j["chosen"])
    rows = [
        _latency(request, student, judged, option),
        _size(student, chosen, option),
        _memory(student, chosen, option, record),
        _quality(chosen, option),
        _time(student, option),
    ]
    return tuple(row for row in rows if row is not None)


def _option(request: Request) -> Option | None:
    """Return the option that this run was asked to be; None for a run without --option."""
    plan = read_plan(request.out) if request.goal_s is not None else None
    return next((option for option in plan.options if option.latency_s == request.goal_s), None) if plan else None


def _stage(student: Generator, name: str) -> StageRecord | None:
    """Return the last record of a stage; a generator may be cut and trained more than once."""
    return next((record for record in reversed(student.lineage) if record.stage == name), None)


def foretold_latency(request: Request, student: Generator, judged: Sequence[Json]) -> Json | None:
    """Return {"artifact", "latency_ms", "label"} of the candidate that ships, as bundles keep it; None where nothing foretold it.

    On a target that is not this machine the candidate itself was predicted. Here its layers were measured and added up, which
    holds for the precision that pruning aimed at.
    """
    chosen, pruned = next(j for j in judged if j["chosen"]), _stage(student, "prune")
    if chosen["latency_label"] == "predicted":
        latency_ms, label = chosen["latency_ms"], "predicted"
    elif chosen["precision"] == fastest(request.target.precisions).value and pruned is not None:
        latency_ms, label = pruned.facts.get("estimate_ms"), pruned.facts.get("label")
    else:
        return None
    return None if latency_ms is None else {"artifact": chosen["name"], "latency_ms": latency_ms, "label": label}


def _latency(request: Request, student: Generator, judged: Sequence[Json], option: Option | None) -> PredictionRow | None:
    """The estimate is of one precision, so it is held against the artifact of that one, whichever ships."""
    pruned = _stage(student, "prune")
    if option is None and (pruned is None or "estimate_ms" not in pruned.facts):
        return None
    foretold, label = (option.latency_s * 1e3, option.latency_label) if option else _estimate(pruned)
    precision = option.precision if option else fastest(request.target.precisions).value
    found = next((j for j in judged if j["precision"] == precision), None)
    measured = found["latency_ms"] if found is not None and found["latency_label"] == "measured" else None
    how = "layers measured one by one and added up" if label == "measured" else "predicted from the target's profile"
    what = f"the whole {precision} artifact" if measured is not None else "no artifact was timed there"
    return PredictionRow(
        "latency", numbers.milliseconds(foretold), numbers.milliseconds(measured), f"{how}; {what}", _error(foretold, measured)
    )


def _error(foretold: float, measured: float | None) -> float | None:
    return foretold / measured - 1.0 if measured else None


def _estimate(pruned: StageRecord | None) -> tuple[float, str]:
    assert pruned is not None
    return pruned.facts["estimate_ms"], pruned.facts["label"]


def _size(student: Generator, chosen: Json, option: Option | None) -> PredictionRow | None:
    size = option.size_bytes if option else artifact_bytes(student, Backend(chosen["backend"]), Precision(chosen["precision"]))
    if size is None:
        return None
    precision = option.precision if option else chosen["precision"]
    note = f"{precision} foretold, {chosen['precision']} ships" if precision != chosen["precision"] else "all files"
    error = _error(size, chosen["size_bytes"]) if precision == chosen["precision"] else None
    return PredictionRow("artifact", numbers.size(size), numbers.size(chosen["size_bytes"]), note, error)


def _memory(student: Generator, chosen: Json, option: Option | None, record: Json | None) -> PredictionRow:
    memory = option.memory_bytes if option else device_memory_bytes(student, Precision(chosen["precision"]))
    found = (record or {}).get("memory") or {}
    peak, start = found.get("vm_hwm_bytes"), found.get("vm_hwm_at_start_bytes")
    grown = None if peak is None or start is None else peak - start
    note = "weights and live activations; what a process grew by here, with code and scratch memory of the back end"
    return PredictionRow("memory", numbers.size(memory), numbers.size(grown), note)


def _quality(chosen: Json, option: Option | None) -> PredictionRow | None:
    if option is None or option.expected is None:
        return None
    found = option.expected
    spread = "" if found.low is None or found.high is None else f", {found.low:.2f} to {found.high:.2f}"
    note = f"expected from {found.run_count} past run{'s' * (found.run_count > 1)}{spread}; the artifact on held-out inputs"
    error = _error(found.ssim, chosen["ssim"])
    return PredictionRow("SSIM to the teacher", f"{found.ssim:.2f}", numbers.score(chosen["ssim"]), note, error)


def _time(student: Generator, option: Option | None) -> PredictionRow | None:
    trained = _stage(student, "distill")
    if option is None or trained is None:
        return None
    note = f"{option.steps} steps at the speed of a second's probe"
    error = _error(option.train_s, trained.seconds)
    return PredictionRow("training", numbers.seconds(option.train_s), numbers.seconds(trained.seconds), note, error)
