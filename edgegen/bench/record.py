"""The record of one measurement, "edgegen.bench/1": everything a reader needs to trust it or to repeat it.

These dataclasses are the schema; record.schema.json says the same to other tools and a test holds the two together. None is
written as null and means unknown or not applicable, never zero; of keys that were `added` since the first version it is left out.
`record_id` is the SHA-256 of the record's canonical JSON
(sorted keys, no spaces, UTF-8) without this field.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from edgegen.bench.record_sensors import Clocks, CoolStart, Pacing, Power, Thermal, added
from edgegen.bench.statistics import Summary
from edgegen.strict_toml import matching, within

SCHEMA = "edgegen.bench/1"
_HASH = r"[0-9a-f]{64}"


@dataclasses.dataclass(frozen=True)
class Tool:
    """What measured."""

    name: str
    version: str
    git: str | None = None


@dataclasses.dataclass(frozen=True)
class BuiltFor:
    """What the artifact was made for; `runtime` is the version of the back end that verified it."""

    target: str
    runtime: str | None = None
    sm: str | None = None


@dataclasses.dataclass(frozen=True)
class Signature:
    """Who vouches for the bundle, as far as that was verified. Bundles are not signed yet: digests alone hold their files."""

    verified: bool
    key_id: str | None = None


@dataclasses.dataclass(frozen=True)
class MeasuredArtifact:
    """What was measured. `bundle_sha256` is that of the bundle's manifest, which holds the digests of all its files."""

    bundle_sha256: str = matching(_HASH)
    model_name: str = matching(r".+")
    backend: str = matching(r".+")
    precision: str = matching(r".+")
    file_sha256: str = matching(_HASH)
    size_bytes: int = within(low=1)
    input_shapes: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    params: int | None = None
    macs: int | None = None
    built_for: BuiltFor | None = None
    signature: Signature | None = added()


@dataclasses.dataclass(frozen=True)
class Runtime:
    """The back end that ran the artifact."""

    name: str
    version: str


@dataclasses.dataclass(frozen=True)
class Device:
    """What it was measured on. `id` is a target id, "host" for the machine that edgegen runs on; `profile_sha256` is of its TOML.

    `l4t` is Jetson Linux, `driver` that of the GPU or NPU. `emulated`: a program stands in for the processor (qemu), and all
    times are worthless.
    """

    id: str
    runtime: Runtime
    os: str | None = None
    kernel: str | None = None
    python: str | None = None
    cpu: str | None = None
    board: str | None = None
    machine: str | None = None
    emulated: bool | None = None
    profile_sha256: str | None = None
    match: str | None = None
    l4t: str | None = added()
    jetpack: str | None = added()
    driver: str | None = added()


@dataclasses.dataclass(frozen=True)
class State:
    """How the device was set while it measured. `background_load_pct` is what others took of all cores in the sustained phase,
    `emc_hz` the median clock of the memory in it. `ambient_c` is what somebody said of the room."""

    clocks: str = matching(r"locked|unlocked|unknown")
    power_mode: str | None = None
    cpu_governor: str | None = None
    cpu_affinity: tuple[int, ...] | None = None
    cpu_hz_min: int | None = None
    cpu_hz_max: int | None = None
    gpu_hz_min: int | None = None
    gpu_hz_max: int | None = None
    threads: int | None = None
    load_1min: float | None = None
    swap_used_bytes: int | None = None
    free_at_start_bytes: int | None = None
    ambient_c: float | None = None
    power_source: str | None = None
    background_load_pct: float | None = added()
    uptime_s: float | None = added()
    fan_pct: float | None = added()
    emc_hz: float | None = added()


@dataclasses.dataclass(frozen=True)
class Warmup:
    """The warm-up: `stable` if the last 20 runs varied by less than 5 %; None if the number of runs was fixed."""

    runs: int = within(low=0)
    s: float = within(low=0)
    stable: bool | None = None


@dataclasses.dataclass(frozen=True)
class RingInputs:
    """The inputs: `distinct` different ones in turn, drawn from `seed`."""

    seed: int
    distinct: int = within(low=1)


@dataclasses.dataclass(frozen=True)
class Method:
    """How it was measured. `profile` is "full" from 600 s, "standard" from 60 s and 1,024 runs, "quick" from 10 s and 64 runs,
    else "short". `harness_us` is what timing a run costs by itself, found with a back end that does nothing; `sampler_cost_pct`
    by how much longer runs take while sensors are sampled, found by runs with and without in turn. `sync` says how the back end
    waits for an accelerator, `cuda_graph` whether its work is launched as one."""

    profile: str = matching(r"full|standard|quick|short")
    mode: str = matching(r"back-to-back|paced")
    warmup: Warmup = dataclasses.field(default_factory=lambda: Warmup(0, 0.0))
    runs: int = within(0, low=0)
    processes: int = within(1, low=1)
    batch: int = within(1, low=1)
    includes: tuple[str, ...] = ("compute",)
    clock: str = "CLOCK_MONOTONIC"
    resolution_ns: int = within(1, low=1)
    inputs: RingInputs | None = None
    period_ms: float | None = None
    pinned_cores: tuple[int, ...] | None = None
    sampler_hz: float | None = None
    sampler_cpu_share: float | None = None
    harness_us: float | None = None
    cool_start: CoolStart | None = added()
    sampler_cost_pct: float | None = added()
    sync: str | None = added()
    cuda_graph: bool | None = added()


@dataclasses.dataclass(frozen=True)
class Cold:
    """Fresh processes, one value each. `cache` is the page cache: "warm" after the check, which reads all files."""

    load_ms: tuple[float, ...]
    compile_ms: tuple[float, ...]
    first_inference_ms: tuple[float, ...]
    cache: str = matching(r"none|warm|unknown", "unknown")


@dataclasses.dataclass(frozen=True)
class Parts:
    """Medians of what lies around `run`: given input to tensors, and output to picture."""

    pre: float | None = None
    compute: float | None = None
    post: float | None = None


@dataclasses.dataclass(frozen=True)
class Latency:
    """Run times: right after the warm-up, and after that. `raw` names the file with every sample, int64 ns."""

    burst: Summary
    sustained: Summary
    per_process_p50: tuple[float, ...]
    sustained_over_burst: float
    parts: Parts
    raw: str | None = None


@dataclasses.dataclass(frozen=True)
class Throughput:
    """Runs per second of the sustained phase: back to back, or as often as they were asked for."""

    per_s: float


@dataclasses.dataclass(frozen=True)
class Deadline:
    """The budget of a frame, and how the sustained runs kept it."""

    budget_ms: float
    misses: int
    miss_ratio: float
    longest_miss_run: int


@dataclasses.dataclass(frozen=True)
class Memory:
    """Peak memory of the measuring process after loading and a few runs, and before anything was loaded; weights on disk."""

    vm_hwm_bytes: int | None = None
    vm_hwm_at_start_bytes: int | None = None
    weights_bytes: int | None = None
    device_used_peak_bytes: int | None = None


@dataclasses.dataclass(frozen=True)
class Engine:
    """In which types the computing layers ran, by what the back end says of itself."""

    layers_total: int
    layers_int8: int
    layers_fp16: int
    layers_fp32: int


@dataclasses.dataclass(frozen=True)
class CasesQuality:
    """The correctness gate: the stored cases against what the float student gave for them."""

    reference: str
    n: int
    nan: int
    inf: int
    passed: bool
    cosine_min: float | None = None
    psnr_db_mean: float | None = None
    psnr_db_min: float | None = None


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What was foretold of this artifact on this target beside the sustained median; `error` is predicted / measured - 1.

    `label` is "predicted" (from the target's profile or a table of its layers) or "measured" (layers measured here, added up).
    """

    predicted_ms: float
    measured_ms: float
    error: float
    label: str = matching(r"predicted|measured")


@dataclasses.dataclass(frozen=True)
class Validity:
    """Computed, never set by hand. One reason makes a record invalid; warnings do not."""

    valid: bool
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Record:
    """One measurement. Timings (`cold`, `latency_ms`, ...) are None when the correctness gate failed."""

    started_utc: str
    duration_s: float
    tool: Tool
    artifact: MeasuredArtifact
    target: Device
    state: State
    method: Method
    quality: CasesQuality
    validity: Validity
    comparable_key: str
    memory: Memory = Memory()
    cold: Cold | None = None
    latency_ms: Latency | None = None
    throughput: Throughput | None = None
    deadline: Deadline | None = None
    pacing: Pacing | None = None
    power: Power | None = None
    thermal: Thermal | None = None
    clocks: Clocks | None = None
    engine: Engine | None = None
    prediction: Prediction | None = added()

    @property
    def is_partial(self) -> bool:
        """Whether a lost link ended the measurement: there are timings, and not of every process that was planned."""
        return self.latency_ms is not None and len(self.latency_ms.per_process_p50) < self.method.processes

    def to_json(self) -> dict[str, Any]:
        """Return the plain JSON object with its `schema` and `record_id`."""
        body = json.loads(json.dumps({"schema": SCHEMA, **_plain(self)}))  # tuples become lists
        return {"record_id": canonical_digest(body), **body}


def _plain(value: Any) -> Any:
    """Return `value` with mappings in place of dataclasses."""
    if dataclasses.is_dataclass(value):
        items = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {f.name: _plain(item) for f, item in items if item is not None or not f.metadata.get("added")}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def canonical_digest(value: Any) -> str:
    """Return the SHA-256 of `value` as canonical JSON: sorted keys, no spaces, UTF-8, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
