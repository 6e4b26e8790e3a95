"""How `edgegen bench` shows what it measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgegen.cli import console

if TYPE_CHECKING:
    from edgegen.bench.record import Latency, Prediction, Record


def show_record(record: Record) -> None:
    """Print a record as a table, with its warnings and what makes it invalid."""
    artifact, runtime = record.artifact, record.target.runtime
    title = f"{artifact.model_name}: {artifact.backend}/{artifact.precision} with {runtime.name} {runtime.version}"
    rows: list[tuple[str, object]] = [("cases", _cases(record))]
    if record.latency_ms is not None:
        rows += _latency_rows(record.latency_ms)
    if record.cold is not None:
        for name, values in (("load", record.cold.load_ms), ("first inference", record.cold.first_inference_ms)):
            rows.append((f"{name}, fresh process", " ".join(f"{value:.1f}" for value in values) + " ms"))
    if record.prediction is not None:
        rows.append(("foretold", foretold(record.prediction)))
    rows += _device_rows(record)
    if record.pacing is not None:
        missed, paced = record.pacing.misses + record.pacing.dropped, record.pacing.begun_late_ms
        rows.append((f"period {record.pacing.period_ms:g} ms", f"{missed} missed, begun up to {paced.max:.3f} ms late"))
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


def foretold(prediction: Prediction) -> str:
    """Return what was foretold of the median and how far off it was: "4.000 ms predicted, 20 % too little"."""
    how = "predicted" if prediction.label == "predicted" else "from layers measured here"
    off = f"{abs(prediction.error):.0%} too {'much' if prediction.error > 0 else 'little'}".replace("%", " %")
    return f"{prediction.predicted_ms:.3f} ms {how}, {off}"


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


def _device_rows(record: Record) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    power, heat, clocks = record.power, record.thermal, record.clocks
    if power is not None:
        rows.append((f"power of {power.rail}", f"{power.mean_w:.2f} W, {power.energy_per_inference_mj} mJ per run"))
    if heat is not None and heat.zones_c:
        name, zone = max(heat.zones_c.items(), key=lambda item: item[1].max)
        rows.append((f"hottest zone ({name})", f"{zone.start:.1f} C at first, {zone.max:.1f} C at most"))
    if clocks is not None and clocks.cpu_hz_p50 is not None:
        rows.append(("clock of the cores", f"{clocks.cpu_hz_p50 / 1e9:.2f} GHz"))
    return rows


def _cases(record: Record) -> str:
    quality = record.quality
    found = "" if quality.psnr_db_min is None else f", worst {quality.psnr_db_min:.1f} dB"
    return f"{'pass' if quality.passed else 'FAIL'} ({quality.n} stored{found})"


def _mib(count: int | None) -> str | None:
    return None if count is None else f"{count / 2**20:.2f} MiB"
