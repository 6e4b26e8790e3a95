"""`edgegen bench CKPT --all`: the table of exports with what this machine measured."""

from __future__ import annotations

from pathlib import Path

from edgegen.cli import console


def bench_every_export(checkpoint: Path, *, resolution: str | None, data: Path | None, threads: int, json: bool) -> None:
    """Print latency, picture loss and size of a checkpoint in every back end and precision that runs here."""
    from edgegen.cli.preflight import is_bundle
    from edgegen.errors import RecipeError
    from edgegen.every_export import compare_exports
    from edgegen.load import load
    from edgegen.spec import parse_resolution
    from edgegen.support import Status

    if is_bundle(checkpoint):
        raise RecipeError(f"--all is for checkpoints, {checkpoint} is a bundle", hint="--backend measures another artifact of it")
    generator = load(checkpoint, resolution=parse_resolution(resolution) if resolution else None)
    with console.progress() as progress:
        rows = compare_exports(generator, data, threads=threads, progress=progress)
    if json:
        console.json([row.to_json() for row in rows])
        return
    columns = ("back end", "precision", "latency", "PSNR to torch", "size", "note")
    shown = [
        (
            row.export.backend.value,
            row.export.precision.value,
            None if row.latency_s is None else f"{row.latency_s * 1e3:.3f} ms",
            None if row.psnr_db is None else f"{row.psnr_db:.1f} dB",
            None if row.size_bytes is None else f"{row.size_bytes / 2**20:.2f} MiB",
            row.note,
        )
        for row in rows
        if row.export.status is not Status.REFUSED
    ]
    console.table(f"{checkpoint.name}: every back end and precision, nothing pruned", columns, shown)
