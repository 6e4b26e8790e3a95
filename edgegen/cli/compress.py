"""`edgegen compress`: a checkpoint and a target in, a verified and measured bundle out."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Annotated

import typer

from edgegen.cli import console, options
from edgegen.progress import Silent
from edgegen.recipe import Effort


def compress(
    checkpoint: Annotated[Path, typer.Argument(help="The trained generator: .safetensors, .pt, .pth, .ckpt or .pkl.")],
    target: Annotated[
        str, typer.Option(help="A device (`edgegen targets`), an alias such as jetson or ar, or a .toml file.")
    ] = "host",
    backend: options.Backend = None,
    resolution: Annotated[str | None, typer.Option(help="Input size, WIDTHxHEIGHT in pixels.")] = None,
    latency: Annotated[str | None, typer.Option(help="What one frame may take: 33ms.")] = None,
    fps: Annotated[float | None, typer.Option(help="The same as frames per second.")] = None,
    max_size: Annotated[str | None, typer.Option(help="Limit of the artifact's size: 4MiB.")] = None,
    max_memory: Annotated[str | None, typer.Option(help="Limit of the peak memory: 64MiB.")] = None,
    min_ssim: Annotated[
        float | None, typer.Option(help="Quality floor: SSIM against the teacher on held-out inputs.", min=0, max=1)
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of photos or label maps, for distillation and calibration.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write; default edgegen-out/CHECKPOINT-TARGET.")] = None,
    effort: Annotated[Effort, typer.Option(help="How long distillation trains.")] = Effort.BALANCED,
    recipe: Annotated[str, typer.Option(help="A built-in recipe or a .toml file.")] = "balanced",
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an earlier run in the same folder.")] = False,
    start: Annotated[str | None, typer.Option("--from", help="Redo from this stage on.")] = None,
    until: Annotated[str | None, typer.Option(help="Stop after this stage.")] = None,
    arch: Annotated[str | None, typer.Option(help="Your own class for an unknown family: file.py:Net. Needs --trust.")] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Allow the code named by --arch to run.")] = False,
    discriminator: Annotated[Path | None, typer.Option(help="Checkpoint of the discriminator, for the adversarial loss.")] = None,
    perceptual: Annotated[Path | None, typer.Option(help="Weights of VGG16 or LPIPS, for the perceptual loss.")] = None,
    tables: options.Tables = None,
    log_dir: Annotated[Path | None, typer.Option(help="Write TensorBoard scalars and image grids here.")] = None,
    option: Annotated[int | None, typer.Option(help="Run this option of `edgegen plan`.", min=1, max=3)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Rewrite, prune, distill, quantise, export, verify, bundle and benchmark a generator for a device."""
    from edgegen.request import make_request

    request = make_request(
        checkpoint, target=target, backend=backend, resolution=resolution, latency=latency, fps=fps, max_size=max_size,
        max_memory=max_memory, min_ssim=min_ssim, data=data, out=out, effort=effort, recipe=recipe, seed=seed, resume=resume,
        start=start, until=until, arch=arch, trust=trust, discriminator=discriminator, perceptual=perceptual, log_dir=log_dir,
        tables=tables, rank=int(os.environ.get("RANK", "0")),
    )  # fmt: skip
    from edgegen.pipeline import compress as run_pipeline
    from edgegen.reach import latency_model

    with console.progress() as progress:
        told = Silent() if request.rank else progress
        if option is not None:
            from edgegen.plan import find_option

            found = find_option(request, option, model_for=latency_model, progress=told)
            told.note(f"option {found.number}, {found.name}: {found.latency_s * 1e3:.3g} ms ({found.latency_label})")
            request = dataclasses.replace(request, goal_s=found.latency_s)
        outcome = run_pipeline(request, told)
    if request.rank:
        return
    if json:
        console.json(outcome.summary)
    else:
        _show(outcome)
    raise typer.Exit(outcome.exit_code)


def _show(outcome) -> None:
    if outcome.bundle is None:
        console.result(f"stopped after {outcome.summary['stopped_after']}; --resume goes on")
        return
    from edgegen.report.numbers import deviation

    summary = outcome.summary
    rows = [
        (
            c["name"],
            _ms(c["latency_ms"], c["latency_label"]),
            f"{c['size_bytes'] / 2**20:.2f} MiB",
            "–" if c["ssim"] is None else f"{c['ssim']:.4f}",
            c["reason"],
        )
        for c in summary["candidates"]
    ]
    console.table("Candidates", ("artifact", "latency", "size", "SSIM to teacher", "decision"), rows)
    rows = [(row["name"], _ms(row["p50_ms"], "measured"), _ms(row["p90_ms"], "measured")) for row in summary["comparison"]]
    if rows:
        console.table("Measured on this machine, interleaved", ("what", "p50", "p90"), rows)
    for row in summary["predictions"]:
        if row["error"] is not None:
            console.result(f"{row['name']}: {row['predicted']} predicted, {row['measured']} measured ({deviation(row['error'])})")
    for text in summary["warnings"]:
        console.warning(text)
    console.result(f"verdict: {summary['verdict']}")
    for text in summary["reasons"] if outcome.exit_code else ():
        console.result(f"         {text}")
    console.result(f"bundle:  {outcome.bundle}")
    if (outcome.bundle / "report.html").exists():
        console.result(f"report:  {outcome.bundle / 'report.html'}")


def _ms(value: float | None, label: str) -> str | None:
    return None if value is None else f"{value:.2f} ms" + ("" if label == "measured" else f" ({label})")
