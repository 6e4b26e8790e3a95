"""One training for all budgets of a sweep: students of several targets and latencies, on weights that they share.

All are cut from one rewritten teacher along one order of its channels, so that the widest holds every other. The order comes
from the pictures and is the same for all targets; how far each layer goes is what its target's latency estimate makes of it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.effort import steps_for
from edgegen.generator import Generator
from edgegen.nested import NestEntry, save_nest
from edgegen.pipeline import Run
from edgegen.progress import Progress
from edgegen.reach import is_within_reach, latency_model
from edgegen.request import Request

if TYPE_CHECKING:
    from edgegen.distill import Sandwich
    from edgegen.latency import LatencyModel
    from edgegen.prune.allocate import Allocation


@dataclasses.dataclass(frozen=True)
class _Cut:
    """How far the student of one target and budget is cut; None where not even the narrowest is near the budget."""

    entry: NestEntry
    allocation: Allocation | None


def train_together(requests: Sequence[Request], progress: Progress) -> Path:
    """Train one student per request at once, in the folder of the first, and return the nest's folder (edgegen.nested).

    The requests differ in target and latency alone, and their targets want the same rewrites. What a single training of the
    effort costs in arithmetic is what all of them get together.
    """
    run = Run(requests[0], progress)
    teacher = run.open()
    rewritten = run.rewrite(teacher)
    asked = [{"target": r.target.to_json(), "budget_s": r.prune_to_s} for r in requests]
    settings = {"together": asked, "config": dataclasses.asdict(run.prune_config())}
    progress.note(f"prune: {len(requests)} students along one order of channels")
    folder = run.work.stage("prune", settings, lambda f: _write(_cut(run, requests, rewritten, teacher), f / "cuts.json"))
    cuts, config = _read(folder / "cuts.json"), run.distill_config(teacher)
    settings = run.distill_settings(config, 0) | {"effort": run.request.effort.value}
    progress.note("distill: all students at once")
    return run.work.stage("distill", settings, lambda f: _train(run, rewritten, teacher, cuts, f))


def _cut(run: Run, requests: Sequence[Request], rewritten: Generator, teacher: Generator) -> list[_Cut]:
    from edgegen.prune import Demand, meet_demands

    demands: list[Demand] = []
    models: dict[str, LatencyModel] = {}
    for request in requests:
        assert request.prune_to_s is not None
        if request.target.id not in models:  # one table of measured layers for all budgets of a target
            models[request.target.id] = latency_model(dataclasses.replace(request, out=run.request.out))
        demands.append(Demand(models[request.target.id], request.prune_to_s, request.target.channel_multiple))
    seed, samples = run.request.seed, run.samples(teacher)
    answers = meet_demands(rewritten, run.prune_config(), demands, samples=samples, teacher=teacher, seed=seed)
    cuts = []
    for request, demand, answer in zip(requests, demands, answers, strict=True):
        entry = NestEntry(request.target.id, demand.budget_s, answer.narrowest_s * 1e3, demand.model.label, None)
        is_near = is_within_reach(request, entry.narrowest_ms)
        cuts.append(_Cut(entry, answer.allocation if is_near else None))
    return cuts


def _train(run: Run, rewritten: Generator, teacher: Generator, cuts: Sequence[_Cut], folder: Path) -> None:
    """Train the students of `cuts` together and store them in `folder`."""
    from edgegen.distill import Sandwich, distill_nested
    from edgegen.prune import build_nested, widest_of

    key, request = folder.name.removesuffix(".part"), run.request
    entries, wanted = [cut.entry for cut in cuts], [cut.allocation for cut in cuts if cut.allocation is not None]
    if not wanted:
        save_nest(folder, key, entries, {})
        return
    widths = _widths(widest_of(wanted), wanted)
    nested = build_nested(rewritten, widths, samples=run.samples(teacher), seed=request.seed)
    config, sandwich = run.distill_config(teacher), Sandwich()
    discriminator, perceptual = run.networks(teacher)
    steps = steps_for(request.effort, config, teacher, _macs_per_step(sandwich, [w.macs for w in nested.widths]))
    found = distill_nested(
        nested, config, teacher=teacher, inputs=run.inputs, steps=steps, seed=request.seed, work_dir=folder,
        progress=run.progress, sandwich=sandwich, discriminator=discriminator, perceptual=perceptual,
    )  # fmt: skip
    students = {}
    for number, cut in enumerate(cuts):
        if cut.allocation is not None:
            index = next(i for i, width in enumerate(widths) if width.removed == cut.allocation.removed)
            students[number] = _with_estimate(found.student(index), cut)
    save_nest(folder, key, entries, students)


def _widths(widest: Allocation, wanted: Sequence[Allocation]) -> list[Allocation]:
    """Return every cut once, `widest` first and the others from wide to narrow, by how many channels they leave."""
    different = {str(sorted(a.removed.items())): a for a in wanted if a.removed != widest.removed}
    return [widest, *sorted(different.values(), key=lambda a: sum(map(len, a.removed.values())))]


def _macs_per_step(sandwich: Sandwich, macs: Sequence[int]) -> float:
    """Return the multiply-accumulates of all student passes of a step, in the mean over which widths are drawn."""
    fixed = {index % len(macs) for index in sandwich.always}
    others = [count for index, count in enumerate(macs) if index not in fixed]
    drawn = min(sandwich.randoms, len(others)) * sum(others) / max(1, len(others))
    return sum(macs[index] for index in fixed) + drawn


def _with_estimate(student: Generator, cut: _Cut) -> Generator:
    """Return `student` with what its own target's estimate says in the record of its cut."""
    assert cut.allocation is not None
    estimate = {
        "estimate_before_ms": cut.allocation.before_s * 1e3,
        "estimate_ms": cut.allocation.after_s * 1e3,
        "goal_ms": cut.entry.budget_s * 1e3,
        "goal_met": cut.allocation.met,
        "narrowest_ms": cut.entry.narrowest_ms,
        "label": cut.entry.label,
    }
    lineage = [
        dataclasses.replace(record, facts={**record.facts, **estimate}) if record.stage == "prune" else record
        for record in student.lineage
    ]
    return dataclasses.replace(student, lineage=tuple(lineage))


def _write(cuts: Sequence[_Cut], path: Path) -> None:
    path.write_text(json.dumps([dataclasses.asdict(cut) for cut in cuts], indent=1))


def _read(path: Path) -> list[_Cut]:
    return [_Cut(NestEntry(**row["entry"]), _allocation(row["allocation"])) for row in json.loads(path.read_text())]


def _allocation(row: dict[str, Any] | None) -> Allocation | None:
    from edgegen.prune.allocate import Allocation

    if row is None:
        return None
    return Allocation({root: tuple(units) for root, units in row["removed"].items()}, row["before_s"], row["after_s"], row["met"])
