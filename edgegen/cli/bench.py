"""`edgegen bench`: measure a bundle on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgegen.cli import console
from edgegen.cli.every_export import bench_every_export

if TYPE_CHECKING:
    from edgegen.bench.record import Latency, Record


def bench(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder or its .zip; with --all a checkpoint.")],
    backend: Annotated[
        str | None, typer.Option(help="Another artifact than the preferred one: openvino, or openvino/f32.")
    ] = None,
    threads: Annotated[int, typer.Option(help="0: the back end decides.", min=0)] = 0,
    min_runs: Annotated[int, typer.Option(help="Run at least so often ...", min=1)] = 1024,
    min_seconds: Annotated[float, typer.Option(help="... and at least so long.", min=0)] = 60.0,
    processes: Annotated[int, typer.Option(help="Repeat in so many fresh processes.", min=1)] = 1,
    out: Annotated[Path | None, typer.Option(help="Write the record (JSON) here and the raw samples beside it.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Of a checkpoint: every back end and precision that runs here, timed in turn.")
    ] = False,
    resolution: Annotated[str | None, typer.Option(help="With --all: input size, WIDTHxHEIGHT in pixels.")] = None,
    data: Annotated[Path | None, typer.Option(help="With --all: folder of photos or label maps.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Check a bundle and measure its latency, cold start and memory on this machine."""
    from edgegen.bench import BenchPlan, measure_bundle
    from edgegen.errors import BundleError

    if every:
        bench_every_export(bundle, resolution=resolution, data=data, threads=threads, json=json)
        return
    plan = BenchPlan(backend=backend, threads=threads, min_runs=min_runs, min_seconds=min_seconds, processes=processes)
    console.note(f"at least {min_runs} runs and {min_seconds:g} s in each of {processes} process(es)")
    with console.progress() as progress:
        record = measure_bundle(bundle, plan, out=out, progress=progress)
    if json:
        console.json(record.to_json())
    else:
        _show(record)
    if out is not None:
        console.note(f"record: {out}")
    if not record.quality.passed:
        raise BundleError(
            f"{record.artifact.model_name} fails its stored cases on this machine: timings are withheld",
            hint=f"python -m edgegen.runtime check {bundle} shows each case",
        )


def _show(record: Record) -> None:
    artifact, runtime = record.artifact, record.target.runtime
    title = f"{artifact.model_name}: {artifact.backend}/{artifact.precision} with {runtime.name} {runtime.version}"
    rows: list[tuple[str, object]] = [("cases", _cases(record))]
    if record.latency_ms is not None:
        rows += _latency_rows(record.latency_ms)
    if record.cold is not None:
        for name, values in (("load", record.cold.load_ms), ("first inference", record.cold.first_inference_ms)):
            rows.append((f"{name}, fresh process", " ".join(f"{value:.1f}" for value in values) + " ms"))
    if record.deadline is not None:
        late = f"{record.deadline.misses} of {record.method.runs} runs late"
        rows.append((f"budget {record.deadline.budget_ms:g} ms", late))
    rows.append(("peak memory of the process", _mib(record.memory.vm_hwm_bytes)))
    rows.append(("before loading", _mib(record.memory.vm_hwm_at_start_bytes)))
    rows.append(("artifact", _mib(artifact.size_bytes)))
    rows.append(("threads", record.state.threads))
    if record.engine is not None:
        rows.append(("layers in int8", f"{record.engine.layers_int8} of {record.engine.layers_total}"))
    console.table(title, ("measure", "value"), rows)
    for text in record.validity.warnings:
        console.warning(text)
    for text in record.validity.reasons:
        console.warning(f"not valid for comparisons: {text}")


def _latency_rows(latency: Latency) -> list[tuple[str, object]]:
    burst, sustained = latency.burst, latency.sustained
    rows: list[tuple[str, object]] = [("burst p50", f"{burst.p50:.3f} ms ({burst.n} runs)")]
    rows.append(("sustained p50", f"{sustained.p50:.3f} ms ({sustained.n} runs, variation {sustained.cov:.1%})"))
    early = "" if sustained.p90_early_stop is None else f" (at most {sustained.p90_early_stop:.3f} ms with 99 % confidence)"
    for name, value in (("p90", sustained.p90), ("p95", sustained.p95), ("p99", sustained.p99), ("p99.9", sustained.p99_9)):
        shown = "too few runs" if value is None else f"{value:.3f} ms" + (early if name == "p90" else "")
        rows.append((f"sustained {name}", shown))
    rows.append(("before and after it", f"{latency.parts.pre} ms in, {latency.parts.post} ms out (picture to tensors and back)"))
    return rows


def _cases(record: Record) -> str:
    quality = record.quality
    found = "" if quality.psnr_db_min is None else f", worst {quality.psnr_db_min:.1f} dB"
    return f"{'pass' if quality.passed else 'FAIL'} ({quality.n} stored{found})"


def _mib(count: int | None) -> str | None:
    return None if count is None else f"{count / 2**20:.2f} MiB"
