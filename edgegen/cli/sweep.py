"""`edgegen sweep`: one checkpoint, many targets and budgets, one table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgegen.cli import console, options
from edgegen.recipe import Effort
from edgegen.request import Training

if TYPE_CHECKING:
    from edgegen.sweep import SweepOutcome


def sweep(
    checkpoint: options.Checkpoint,
    targets: Annotated[str, typer.Option(help="Devices (`edgegen targets`), aliases or .toml files: host,jetson,ar.")],
    latencies: Annotated[str, typer.Option(help="What one frame may take: 10ms,20ms,33ms.")],
    resolution: options.Resolution = None,
    max_size: options.MaxSize = None,
    max_memory: options.MaxMemory = None,
    min_ssim: options.MinSsim = None,
    data: options.Data = None,
    out: Annotated[Path | None, typer.Option(help="Where to write; default edgegen-out/CHECKPOINT-sweep.")] = None,
    effort: options.EffortOption = Effort.BALANCED,
    recipe: options.RecipeOption = "balanced",
    seed: options.Seed = 0,
    arch: options.Arch = None,
    trust: options.Trust = False,
    discriminator: options.Discriminator = None,
    perceptual: options.Perceptual = None,
    training: Annotated[
        Training, typer.Option(help="Train each student alone, or all at once on shared weights and polish each.")
    ] = Training.SEPARATE,
    workers: Annotated[int, typer.Option(help="How many units run at a time.", min=1, max=256)] = 1,
    ray: Annotated[
        str | None, typer.Option(help="Run on the Ray cluster at this address: auto, HOST:PORT, or local for a new one here.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an earlier sweep in the same folder.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Compress a generator for every target with every latency budget: one table, and one front plot per target."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports to its makers unless told not to
    from edgegen.sweep import Asked, run_sweep

    asked = Asked(
        checkpoint=checkpoint, targets=_words(targets), latencies=_words(latencies), resume=resume, recipe=recipe, effort=effort,
        out=out or Path("edgegen-out") / f"{checkpoint.stem}-sweep", seed=seed, data=data,
        resolution=resolution, max_size=max_size, max_memory=max_memory, min_ssim=min_ssim, arch=arch, trust=trust,
        discriminator=discriminator, perceptual=perceptual, training=training,
    )  # fmt: skip
    with console.progress() as progress:
        outcome = run_sweep(asked, progress, workers=workers, cpus=_cpus(), ray=ray)
    if json:
        console.json(outcome.to_json())
    else:
        _show(outcome)
    raise typer.Exit(outcome.exit_code)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _show(outcome: SweepOutcome) -> None:
    from edgegen.report import numbers

    rows = [
        (
            row.target,
            numbers.milliseconds(row.budget_ms),
            row.verdict or row.status,
            numbers.milliseconds(row.latency_ms) + ("" if row.latency_label in (None, "measured") else f" {row.latency_label}"),
            numbers.score(row.ssim),
            numbers.size(row.size_bytes),
            numbers.amount(row.macs),
        )
        for row in outcome.rows
    ]
    console.table(outcome.checkpoint, ("target", "asked", "verdict", "latency", "SSIM", "size", "MACs"), rows)
    for row in outcome.rows:
        if row.note:
            console.result(f"{row.target} at {numbers.milliseconds(row.budget_ms)}: {row.note}")
    console.result(f"page:    {outcome.out / 'sweep.html'}")
