"""`edgegen plan`: what could be done with a checkpoint, told before anything long runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgegen.cli import console, options
from edgegen.recipe import Effort

if TYPE_CHECKING:
    from edgegen.plan import Option, Plan


def plan(
    checkpoint: options.Checkpoint,
    target: options.Target = "host",
    backend: options.Backend = None,
    resolution: options.Resolution = None,
    latency: options.Latency = None,
    fps: options.Fps = None,
    max_size: options.MaxSize = None,
    max_memory: options.MaxMemory = None,
    min_ssim: options.MinSsim = None,
    data: options.Data = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default edgegen-out/CHECKPOINT-TARGET.")] = None,
    effort: options.EffortOption = Effort.BALANCED,
    recipe: options.RecipeOption = "balanced",
    seed: options.Seed = 0,
    arch: options.Arch = None,
    trust: options.Trust = False,
    discriminator: options.Discriminator = None,
    perceptual: options.Perceptual = None,
    tables: options.Tables = None,
    json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Print three ways to compress a generator: latency, size, memory, expected quality, and what compressing would take.

    `edgegen compress` with the same options and --option N runs one of them.
    """
    from edgegen.request import make_request

    request = make_request(
        checkpoint, target=target, backend=backend, resolution=resolution, latency=latency, fps=fps, max_size=max_size,
        max_memory=max_memory, min_ssim=min_ssim, data=data, out=out, effort=effort, recipe=recipe, seed=seed, resume=False,
        start=None, until=None, arch=arch, trust=trust, discriminator=discriminator, perceptual=perceptual, log_dir=None, rank=0,
        tables=tables,
    )  # fmt: skip
    from edgegen.plan import make_plan, save_plan
    from edgegen.reach import latency_model

    with console.progress() as progress:
        made = make_plan(request, model_for=latency_model, progress=progress)
    path = save_plan(made, request.out)
    if json:
        console.json(made.to_json())
        return
    _show(made)
    console.note(f"plan:    {path}")


def _show(made: Plan) -> None:
    from edgegen.report import numbers

    rows = {
        "latency": [f"{numbers.milliseconds(o.latency_s * 1e3)} ({o.latency_label})" for o in made.options],
        "artifact": [f"{numbers.size(o.size_bytes)}, {o.precision}" for o in made.options],
        "memory on the device": [numbers.size(o.memory_bytes) for o in made.options],
        "work per picture": [numbers.amount(o.macs, "MAC") for o in made.options],
        "SSIM to the teacher": [_quality(o) for o in made.options],
        "before training": [numbers.decibel(o.picture_psnr_db) for o in made.options],
        "compressing takes": [_time(o) for o in made.options],
        "compressing needs": [f"{numbers.size(o.ram_bytes)} RAM" for o in made.options],
        "note": [o.note for o in made.options],
    }
    columns = [f"{o.number} {o.name}" for o in made.options]
    console.table(f"{made.checkpoint} on {made.target}", ("", *columns), [(name, *cells) for name, cells in rows.items()])
    for text in made.warnings:
        console.warning(text)
    console.result("`edgegen compress` with the same options and --option N runs one")


def _quality(option: Option) -> str:
    found = option.expected
    if found is None:
        return "unknown (no comparable past run)"
    if found.low is None or found.high is None:
        return f"{found.ssim:.2f} expected (one past run)"
    return f"{found.ssim:.2f} expected ({found.low:.2f} to {found.high:.2f})"


def _time(option: Option) -> str:
    from edgegen.report import numbers

    if option.compress_s is None:
        return f"{numbers.seconds(option.train_s)} of training, the rest is unknown"
    return numbers.seconds(option.compress_s)
