"""From what the processes on the device printed to a record."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgegen import __version__
from edgegen.bench import sensed
from edgegen.bench.foretold import prediction
from edgegen.bench.plan import BenchPlan
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
    Signature,
    State,
    Throughput,
    Tool,
    Validity,
    Warmup,
    canonical_digest,
)
from edgegen.bench.statistics import percentile, summarise
from edgegen.bench.validity import Circumstances, deadline, judge, judge_gate, pacing
from edgegen.bundle import artifact_size, bundle_digest
from edgegen.device import Recognised
from edgegen.runtime.manifest import ArtifactEntry, Manifest
from edgegen.runtime.time_bundle import DISTINCT_INPUTS
from edgegen.target import jetpack_of, profile_digest
from edgegen.versions import commit


@dataclasses.dataclass(frozen=True)
class Subject:
    """A bundle with the artifact of it that is measured."""

    path: Path
    manifest: Manifest
    entry: ArtifactEntry

    @property
    def artifact(self) -> MeasuredArtifact:
        """What the record says of it."""
        entry, manifest = self.entry, self.manifest
        return MeasuredArtifact(
            bundle_sha256=bundle_digest(self.path), model_name=manifest.name, backend=entry.backend, precision=entry.precision,
            file_sha256=entry.files[entry.entry], size_bytes=artifact_size(self.path, entry),
            input_shapes={spec.name: (1, *spec.shape) for spec in entry.io.inputs},
            built_for=BuiltFor(manifest.target, manifest.tools.get(entry.backend)), params=_last_fact(manifest, "params"),
            macs=_last_fact(manifest, "macs"), signature=Signature(verified=False),
        )  # fmt: skip


@dataclasses.dataclass
class Found:
    """What the processes of one subject printed: check, cold ones, warm ones, in order, and the `waits` for a cool device;
    `lost` says how the link broke before the last of them was done."""

    checked: dict[str, Any]
    cold: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    warm: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    waits: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    lost: str | None = None

    def samples(self) -> dict[str, list[int]]:
        """Return the ns of every run of all processes, per phase, and how many sustained runs each process made."""
        made = {phase: [ns for run in self.warm for ns in run[phase]["samples_ns"]] for phase in ("burst", "sustained")}
        return {**made, "sustained_counts": [len(run["sustained"]["samples_ns"]) for run in self.warm]}


def assemble(subject: Subject, plan: BenchPlan, found: Found, target: Recognised) -> Record:
    """Return the record without its times of day. `target` says what the device is."""
    quality = _quality(found.checked["cases"])
    ran, facts = found.checked["ran"], found.checked["machine"]
    record = Record(
        started_utc="", duration_s=0.0, tool=Tool("edgegen", __version__, commit()), artifact=subject.artifact,
        target=_device(target, ran, facts), state=_state(ran, facts, found, plan), method=_method(plan, ran),
        quality=quality, validity=judge_gate(quality), comparable_key="",
    )  # fmt: skip
    if found.warm:
        record = _with_times(record, subject.manifest, plan, found, target.note)
    if found.lost is not None:
        kept = record.validity.reasons if found.warm else ()
        record = dataclasses.replace(record, validity=Validity(False, (found.lost, *kept), record.validity.warnings))
    return dataclasses.replace(record, comparable_key=canonical_digest(comparable_parts(record)))


def comparable_parts(record: Record) -> dict[str, Any]:
    """Return what must be equal in two records before their times may be compared, each part by its name in the record."""
    target, state, method = record.target, record.state, record.method
    parts: dict[str, Any] = {f"target.{name}": getattr(target, name) for name in ("id", "cpu", "board", "machine", "emulated")}
    parts |= {"target.runtime.name": target.runtime.name, "target.runtime.version": target.runtime.version}
    names = ("power_mode", "clocks", "cpu_governor", "cpu_affinity", "threads")
    parts |= {f"state.{name}": getattr(state, name) for name in names}
    names = ("profile", "mode", "period_ms", "batch", "includes", "pinned_cores")
    parts |= {f"method.{name}": getattr(method, name) for name in names}
    return parts


def _with_times(record: Record, manifest: Manifest, plan: BenchPlan, found: Found, note: str) -> Record:
    samples, warm, processes = found.samples(), found.warm, [*found.cold, *found.warm]
    burst, sustained = summarise(samples["burst"]), summarise(samples["sustained"])
    seconds = sum(run["sustained"]["duration_ns"] for run in warm) / 1e9
    budget_s = manifest.budget.get("latency_s")
    parts = {name: _ms(ns) for name, ns in warm[-1]["parts_ns"].items()}
    heat = sensed.thermal(warm)
    return dataclasses.replace(
        record,
        method=dataclasses.replace(_measured_method(record.method, sustained.n, warm), cool_start=sensed.cool_start(found.waits)),
        state=dataclasses.replace(
            record.state, background_load_pct=sensed.background_load_pct(warm), emc_hz=sensed.memory_clock_hz(warm)
        ),
        cold=Cold(_each(processes, "load_ns"), _each(processes, "compile_ns"), _each(processes, "first_inference_ns"), "warm"),
        latency_ms=Latency(
            burst=burst, sustained=sustained, parts=Parts(pre=parts["pre"], compute=sustained.p50, post=parts["post"]),
            per_process_p50=tuple(_median_ms(run["sustained"]["samples_ns"]) for run in warm),
            sustained_over_burst=round(sustained.p50 / burst.p50, 4),
        ),
        throughput=Throughput(round(sustained.n / seconds, 3)),
        deadline=None if budget_s is None else deadline(samples["sustained"], budget_s),
        pacing=None if plan.period_s is None else pacing([run["sustained"] for run in warm]),
        memory=Memory(
            max((p["vm_hwm_bytes"] for p in processes if p["vm_hwm_bytes"]), default=None),
            max((p["vm_hwm_at_start_bytes"] for p in processes if p["vm_hwm_at_start_bytes"]), default=None),
        ),
        power=sensed.power(warm, sustained.n, seconds), thermal=heat, clocks=sensed.clocks(warm),
        engine=_engine(warm[-1]["ran"].get("execution_types")),
        prediction=prediction(manifest, record.artifact, record.target.id, sustained.p50),
        validity=judge(sustained, warm, record.artifact.precision, heat, Circumstances(record.quality.n, found.waits, note)),
    )  # fmt: skip


def _method(plan: BenchPlan, ran: Mapping[str, Any]) -> Method:
    return Method(
        profile=plan.profile, mode="back-to-back" if plan.period_s is None else "paced", processes=plan.processes,
        inputs=RingInputs(plan.seed or 0, DISTINCT_INPUTS), pinned_cores=plan.cores,
        includes=tuple(ran.get("includes") or ("compute",)), sync=ran.get("sync"), cuda_graph=ran.get("cuda_graph"),
        period_ms=None if plan.period_s is None else round(plan.period_s * 1e3, 6),
    )  # fmt: skip


def _measured_method(method: Method, runs: int, warm: Sequence[Mapping[str, Any]]) -> Method:
    """All processes warm up; what the record says of it is the sum, and stable only if each was."""
    bursts = [run["burst"] for run in warm]
    stable = [burst["warmup_stable"] for burst in bursts]
    sampled = next((run["sensed"] for run in reversed(warm) if run.get("sensed")), None)
    clock = warm[-1].get("clock") or {"name": method.clock, "resolution_ns": method.resolution_ns}
    return dataclasses.replace(
        method, runs=runs, harness_us=round(max(run["harness_ns"] for run in warm) / 1e3, 3),
        warmup=Warmup(
            sum(burst["warmup_runs"] for burst in bursts), round(sum(burst["warmup_ns"] for burst in bursts) / 1e9, 3),
            None if None in stable else all(stable),
        ),
        sampler_hz=sampled["hz"] if sampled else None, sampler_cpu_share=sampled["cpu_share"] if sampled else None,
        sampler_cost_pct=sensed.sampler_cost_pct(warm), clock=clock["name"], resolution_ns=clock["resolution_ns"],
    )  # fmt: skip


def _quality(cases: Sequence[Mapping[str, Any]]) -> CasesQuality:
    psnr = [case["psnr_db"] for case in cases if case["psnr_db"] is not None]
    cosine = [case["cosine"] for case in cases if case["cosine"] is not None]
    return CasesQuality(
        reference="float student", n=len(cases), nan=sum(c["nan"] for c in cases), inf=sum(c["inf"] for c in cases),
        passed=bool(cases) and all(case["passed"] for case in cases), cosine_min=round(min(cosine), 6) if cosine else None,
        psnr_db_mean=round(sum(psnr) / len(psnr), 3) if psnr else None, psnr_db_min=round(min(psnr), 3) if psnr else None,
    )  # fmt: skip


def _device(target: Recognised, ran: Mapping[str, Any], facts: Mapping[str, Any]) -> Device:
    return Device(
        target.id, Runtime(ran["backend"], ran["version"]), facts["os"], facts["kernel"],
        facts["python"], facts["cpu"], facts["board"], machine=facts.get("machine"), emulated=facts.get("emulated"),
        match=target.match, profile_sha256=profile_digest(target.id), l4t=facts.get("l4t"),
        jetpack=jetpack_of(target.id, facts.get("l4t")), driver=facts.get("driver"),
    )  # fmt: skip


def _state(ran: Mapping[str, Any], facts: Mapping[str, Any], found: Found, plan: BenchPlan) -> State:
    facts = found.warm[0]["machine_before"] if found.warm else facts
    low, high = facts["cpu_hz_min"], facts["cpu_hz_max"]
    clocks = "unknown" if low is None or high is None else "locked" if low == high else "unlocked"
    affinity = plan.cores or facts["cpu_affinity"]
    gpu = facts["clock_limits"].get("gpu") or (None, None)
    return State(
        clocks=clocks, power_mode=facts.get("power_mode"), cpu_governor=facts["cpu_governor"],
        cpu_affinity=None if affinity is None else tuple(affinity), cpu_hz_min=low, cpu_hz_max=high, gpu_hz_min=gpu[0],
        gpu_hz_max=gpu[1], threads=ran.get("threads"), load_1min=found.checked["machine"]["load_1min"],
        swap_used_bytes=facts["swap_used_bytes"], free_at_start_bytes=facts.get("free_bytes"), ambient_c=plan.ambient_c,
        power_source=facts.get("power_source"), uptime_s=facts.get("uptime_s"), fan_pct=facts.get("fan_pct"),
    )  # fmt: skip


def _last_fact(manifest: Manifest, name: str) -> int | None:
    """Return what the last stage of the lineage that tells it says of the generator."""
    told = [stage.get("facts") for stage in manifest.lineage]
    found = [facts.get(name) for facts in told if isinstance(facts, Mapping)]
    return next((value for value in reversed(found) if type(value) is int), None)


def _engine(types: Mapping[str, int] | None) -> Engine | None:
    if not types:
        return None
    return Engine(sum(types.values()), types.get("int8", 0), types.get("f16", 0) + types.get("bf16", 0), types.get("f32", 0))


def _each(processes: Sequence[Mapping[str, Any]], key: str) -> tuple[float, ...]:
    return tuple(_ms(process[key]) for process in processes)


def _median_ms(samples: Sequence[int]) -> float:
    median = percentile(samples, 0.5)
    assert median is not None
    return _ms(median)


def _ms(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 6)
