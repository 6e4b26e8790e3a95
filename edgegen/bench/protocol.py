"""The procedure of `edgegen bench`: check, cold numbers in fresh processes, warm-up, burst, sustained runs, validity.

Every number comes from a child process that runs the code that runs on devices, so this process with all its libraries
disturbs neither time nor memory.
"""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgegen import __version__
from edgegen.bench.children import call_runtime
from edgegen.bench.record import (
    BuiltFor,
    CasesQuality,
    Cold,
    Device,
    Engine,
    Latency,
    MeasuredArtifact,
    Memory,
    Method,
    Parts,
    Record,
    RingInputs,
    Runtime,
    State,
    Throughput,
    Tool,
    Validity,
    Warmup,
    canonical_digest,
)  # fmt: skip
from edgegen.bench.record_file import write_record
from edgegen.bench.statistics import percentile, summarise
from edgegen.bench.validity import deadline, judge, judge_gate
from edgegen.bundle import artifact_size, bundle_digest, bundle_manifest, host_errors
from edgegen.device import Board, LocalTransport, Transport, leased, make_ready, place_bundle
from edgegen.errors import LinkLostError
from edgegen.progress import Progress, Silent
from edgegen.runtime.manifest import ArtifactEntry, Manifest
from edgegen.runtime.time_bundle import DISTINCT_INPUTS

QUICK_RUNS, QUICK_SECONDS, FULL_SECONDS = 1024, 60.0, 600.0
_BURST_SECONDS, _BURST_SHARE = 10.0, 1 / 6  # the burst takes at most a sixth of the sustained phase


@dataclasses.dataclass(frozen=True)
class BenchPlan:
    """What to run. `cold_processes` only load and infer once; each of `processes` does that and then runs warm.

    The device ends a process that takes longer than `child_limit_s`.
    """

    backend: str | None = None
    threads: int = 0
    min_runs: int = QUICK_RUNS
    min_seconds: float = QUICK_SECONDS
    processes: int = 1
    cold_processes: int = 2
    seed: int = 0
    child_limit_s: float = 4 * 3600.0

    @property
    def profile(self) -> str:
        """What the record may call itself."""
        if self.min_seconds >= FULL_SECONDS:
            return "full"
        return "quick" if self.min_seconds >= QUICK_SECONDS and self.min_runs >= QUICK_RUNS else "short"


def bench(
    bundle: Path, *, backend: str | None = None, threads: int = 0, min_runs: int = QUICK_RUNS, min_seconds: float = QUICK_SECONDS
) -> dict[str, Any]:
    """Measure the bundle and return the record as plain JSON (edgegen.bench/1); `measure_bundle` has all the settings."""
    plan = BenchPlan(backend=backend, threads=threads, min_runs=min_runs, min_seconds=min_seconds)
    return measure_bundle(bundle, plan).to_json()


def measure_bundle(
    bundle: Path,
    plan: BenchPlan,
    *,
    transport: Transport | None = None,
    target_id: str = "host",
    out: Path | None = None,
    progress: Progress | None = None,
) -> Record:
    """Measure the bundle folder or .zip on a device and return the record; write it and the raw samples if `out` is given.

    `transport` leads to the device, None is this machine; `target_id` says what it is. A failing case withholds the timings:
    `latency_ms` is None and the record invalid. So is one that a lost link ended; it holds what was there by then. Raises
    BundleError for a bundle that cannot be opened, MissingExtraError without its back end, DeviceError for a device that
    cannot run it.
    """
    started, begin = datetime.datetime.now(datetime.timezone.utc), time.perf_counter()
    manifest = bundle_manifest(bundle)
    with host_errors():
        entry = manifest.artifact(plan.backend)
    artifact = _artifact(bundle, manifest, entry)
    device = transport or LocalTransport()
    with leased(device):
        board = make_ready(device)
        found = _measure(board, place_bundle(board, bundle, artifact.bundle_sha256), entry, plan, progress or Silent())
    record = dataclasses.replace(
        _record(manifest, artifact, plan, found, target_id),
        started_utc=started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        duration_s=round(time.perf_counter() - begin, 3),
    )
    return record if out is None else write_record(record, out, found.samples() if found.warm else None)


@dataclasses.dataclass(frozen=True)
class _Found:
    """What the child processes printed; `lost` says how the link broke before the last of them was done."""

    checked: dict[str, Any]
    cold: list[dict[str, Any]]
    warm: list[dict[str, Any]]
    lost: str | None = None

    def samples(self) -> dict[str, list[int]]:
        """Return the ns of every run of all processes, per phase."""
        return {phase: [ns for run in self.warm for ns in run[phase]["samples_ns"]] for phase in ("burst", "sustained")}


def _measure(board: Board, bundle: str, entry: ArtifactEntry, plan: BenchPlan, progress: Progress) -> _Found:
    common = ("--backend", entry.name, "--threads", str(plan.threads))
    timed = (*common, "--seed", str(plan.seed))
    burst = min(_BURST_SECONDS, plan.min_seconds * _BURST_SHARE)
    phases = ("--min-runs", str(plan.min_runs), "--min-seconds", str(plan.min_seconds), "--burst-seconds", str(burst))

    def call(command: str, *options: str) -> dict[str, Any]:
        return call_runtime(board, command, bundle, *options, seconds=plan.child_limit_s)

    found = _Found(call("check", "--json", *common), [], [])
    if not found.checked["passed"]:
        return found
    progress.start(f"bench {entry.name}", plan.cold_processes + plan.processes)
    try:
        for _ in range(plan.cold_processes):
            found.cold.append(call("time", "--cold", *timed))
            progress.advance()
        for _ in range(plan.processes):
            found.warm.append(call("time", *timed, *phases))
            progress.advance()
    except LinkLostError as failure:
        found = dataclasses.replace(found, lost=failure.message)
    progress.finish()
    return found


def _record(manifest: Manifest, artifact: MeasuredArtifact, plan: BenchPlan, found: _Found, target_id: str) -> Record:
    quality = _quality(found.checked["cases"])
    ran = found.checked["ran"]
    state, device = _state(ran, found.checked["machine"]), _device(ran, found.checked["machine"], target_id)
    method = Method(
        profile=plan.profile, mode="back-to-back", processes=plan.processes, inputs=RingInputs(plan.seed, DISTINCT_INPUTS)
    )
    key = {"target": [device.id, device.cpu, device.runtime.name, device.runtime.version], "method": dataclasses.asdict(method)}
    key["state"] = [state.power_mode, state.clocks, state.cpu_governor, state.cpu_affinity, state.threads]
    record = Record(
        started_utc="", duration_s=0.0, tool=Tool("edgegen", __version__), artifact=artifact, target=device,
        state=state, method=method, quality=quality, validity=judge_gate(quality), comparable_key=canonical_digest(key),
    )  # fmt: skip
    record = _with_times(record, manifest, plan, found) if found.warm else record
    if found.lost is None:
        return record
    kept = record.validity.reasons if found.warm else ()
    return dataclasses.replace(record, validity=Validity(False, (found.lost, *kept), record.validity.warnings))


def _with_times(record: Record, manifest: Manifest, plan: BenchPlan, found: _Found) -> Record:
    samples, last, processes = found.samples(), found.warm[-1], [*found.cold, *found.warm]
    burst, sustained = summarise(samples["burst"]), summarise(samples["sustained"])
    budget_s = manifest.budget.get("latency_s")
    parts = {name: _ms(ns) for name, ns in last["parts_ns"].items()}
    warmup = last["burst"]
    return dataclasses.replace(
        record,
        method=dataclasses.replace(
            record.method, runs=sustained.n,
            warmup=Warmup(warmup["warmup_runs"], round(warmup["warmup_ns"] / 1e9, 3), warmup["warmup_stable"]),
        ),
        cold=Cold(_each(processes, "load_ns"), _each(processes, "compile_ns"), _each(processes, "first_inference_ns")),
        latency_ms=Latency(
            burst=burst, sustained=sustained, parts=Parts(pre=parts["pre"], compute=sustained.p50, post=parts["post"]),
            per_process_p50=tuple(_median_ms(run["sustained"]["samples_ns"]) for run in found.warm),
            sustained_over_burst=round(sustained.p50 / burst.p50, 4),
        ),
        throughput=Throughput(round(1e3 / sustained.mean, 3)),
        deadline=None if budget_s is None else deadline(samples["sustained"], budget_s),
        memory=Memory(
            max((p["vm_hwm_bytes"] for p in processes if p["vm_hwm_bytes"]), default=None),
            max((p["vm_hwm_at_start_bytes"] for p in processes if p["vm_hwm_at_start_bytes"]), default=None),
        ),
        engine=_engine(last["ran"].get("execution_types")),
        validity=judge(sustained, last, record.artifact.precision),
    )  # fmt: skip


def _quality(cases: Sequence[dict[str, Any]]) -> CasesQuality:
    psnr = [case["psnr_db"] for case in cases if case["psnr_db"] is not None]
    cosine = [case["cosine"] for case in cases if case["cosine"] is not None]
    return CasesQuality(
        reference="float student", n=len(cases), nan=sum(c["nan"] for c in cases), inf=sum(c["inf"] for c in cases),
        passed=bool(cases) and all(case["passed"] for case in cases), cosine_min=round(min(cosine), 6) if cosine else None,
        psnr_db_mean=round(sum(psnr) / len(psnr), 3) if psnr else None, psnr_db_min=round(min(psnr), 3) if psnr else None,
    )  # fmt: skip


def _artifact(bundle: Path, manifest: Manifest, entry: ArtifactEntry) -> MeasuredArtifact:
    return MeasuredArtifact(
        bundle_sha256=bundle_digest(bundle), model_name=manifest.name, backend=entry.backend, precision=entry.precision,
        file_sha256=entry.files[entry.entry], size_bytes=artifact_size(bundle, entry),
        input_shapes={spec.name: (1, *spec.shape) for spec in entry.io.inputs},
        built_for=BuiltFor(manifest.target, manifest.tools.get(entry.backend)),
    )  # fmt: skip


def _device(ran: dict[str, Any], facts: dict[str, Any], target_id: str) -> Device:
    runtime = Runtime(ran["backend"], ran["version"])
    return Device(target_id, runtime, facts["os"], facts["kernel"], facts["python"], facts["cpu"], facts["board"])


def _state(ran: dict[str, Any], facts: dict[str, Any]) -> State:
    low, high = facts["cpu_hz_min"], facts["cpu_hz_max"]
    clocks = "unknown" if low is None or high is None else "locked" if low == high else "unlocked"
    affinity = facts["cpu_affinity"]
    return State(
        clocks=clocks, cpu_governor=facts["cpu_governor"], cpu_affinity=None if affinity is None else tuple(affinity),
        cpu_hz_min=low, cpu_hz_max=high, threads=ran.get("threads"), load_1min=facts["load_1min"],
        swap_used_bytes=facts["swap_used_bytes"],
    )  # fmt: skip


def _engine(types: dict[str, int] | None) -> Engine | None:
    if not types:
        return None
    return Engine(sum(types.values()), types.get("int8", 0), types.get("f16", 0) + types.get("bf16", 0), types.get("f32", 0))


def _each(processes: Sequence[dict[str, Any]], key: str) -> tuple[float, ...]:
    return tuple(_ms(process[key]) for process in processes)


def _median_ms(samples: Sequence[int]) -> float:
    median = percentile(samples, 0.5)
    assert median is not None
    return _ms(median)


def _ms(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 6)
