"""What a target profile consists of: frozen values with the evidence of every number, and what predictions need of them.

`targets/README.md` documents the keys. An unknown number is absent, never 0 and never a guess.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from typing import Any

from edgegen.spec import Backend, Precision
from edgegen.strict_toml import matching, required, within

_WORD = r"[a-z0-9]+(-[a-z0-9]+)*"
_PEAKS = {
    Precision.F32: "fp32_tflops_dense",
    Precision.F16: "fp16_tflops_dense",
    Precision.INT8: "int8_tops_dense",
    Precision.INT8_DYNAMIC: "int8_tops_dense",
    Precision.INT8_FULL: "int8_tops_dense",
}


class Evidence(str, enum.Enum):
    """How sure a number is: seen in a source, derived from seen numbers, general knowledge, or measured by this repository."""

    SEEN = "S"
    DERIVED = "D"
    UNVERIFIED = "K"
    MEASURED = "M"


class Rewrite(str, enum.Enum):
    """Rewrites for which a profile says whether they pay on the device."""

    CONV_TRANSPOSE = "conv_transpose"
    REFLECTION_PAD = "reflection_pad"
    PIXELS = "pixels"
    SPACE_TO_DEPTH = "space_to_depth"


@dataclasses.dataclass(frozen=True)
class Figure:
    """A number with its evidence; `source` is the id of one of the profile's sources, `note` says how it was derived."""

    value: float = within(low=1e-9, high=1e15)
    evidence: Evidence = Evidence.UNVERIFIED
    source: str = matching(f"({_WORD})?", "")
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Source:
    """A public document that figures come from."""

    id: str = matching(_WORD)
    title: str = matching(r".{1,200}")
    url: str = matching(r"(https://\S{1,200})?", "")


@dataclasses.dataclass(frozen=True)
class Soc:
    """What the chip and the module are called."""

    name: str = matching(r".{1,60}")
    module: str = ""
    compute_capability: str = matching(r"([0-9]+\.[0-9]+)?", "")


@dataclasses.dataclass(frozen=True)
class Detect:
    """A file of the device that must contain a text, or match a regular expression, for the profile to apply."""

    file: str
    contains: str = ""
    regex: str = ""


@dataclasses.dataclass(frozen=True)
class Cores:
    """A group of equal CPU cores; `n` of them."""

    n: int = within(low=1, high=1024)
    uarch: str = matching(r".{1,60}")
    max_mhz: Figure | None = None


@dataclasses.dataclass(frozen=True)
class Cpu:
    """CPU cores and the vector extensions that matter to generators."""

    cores: tuple[Cores, ...] = ()
    isa: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Unit:
    """Peaks of one engine in one power mode, in 1e12 operations per second; one multiply-accumulate is two operations."""

    unit: str = matching(_WORD)
    mode: str = matching(r"[A-Za-z0-9_.-]{1,40}")
    int8_tops_dense: Figure | None = None
    int8_tops_sparse: Figure | None = None
    fp16_tflops_dense: Figure | None = None
    fp32_tflops_dense: Figure | None = None


@dataclasses.dataclass(frozen=True)
class Memory:
    """Main memory: size, what an application can use of it, and bandwidth in 1e9 bytes per second."""

    bytes: Figure | None = None
    usable_bytes: Figure | None = None
    type: str = ""
    gb_s: Figure | None = None
    unified: bool = False


@dataclasses.dataclass(frozen=True)
class PowerMode:
    """A power mode by name. `nvpmodel_id` differs between modules, so modes are selected by name and confirmed."""

    name: str = matching(r"[A-Za-z0-9_.-]{1,40}")
    nvpmodel_id: int | None = within(None, low=0, high=255)
    watts: Figure | None = None


@dataclasses.dataclass(frozen=True)
class Thermal:
    """Temperatures in degrees Celsius; the device's own trip points are right where they differ."""

    read_trips_from: str = ""
    sw_throttle_c: Figure | None = None
    hard_throttle_c: Figure | None = None
    critical_c: Figure | None = None


@dataclasses.dataclass(frozen=True)
class Software:
    """One combination of versions that the maker ships together; `supported`: edgegen's engine builder is written for it."""

    jetpack: str = ""
    drive_os: str = ""
    l4t: str = ""
    cuda: str = ""
    tensorrt: str = ""
    python: str = ""
    os: str = ""
    supported: bool = True
    evidence: Evidence = Evidence.UNVERIFIED
    source: str = matching(f"({_WORD})?", "")
    note: str = ""


@dataclasses.dataclass(frozen=True)
class BackendSupport:
    """A back end of the device and the precisions worth trying there.

    `device` is what OpenVINO calls the engine. `op_tables` name files of `ops/`: a node must pass all of them, because one
    artifact serves every software row. `least_int8_share` is the part of the computing layers that must run in int8.
    """

    id: Backend
    precisions: tuple[Precision, ...]
    note: str = ""
    device: str = matching(r"(CPU|GPU|NPU)?", "")
    op_tables: tuple[str, ...] = ()
    least_int8_share: float | None = within(None, low=0.0, high=1.0)


class Granularity(str, enum.Enum):
    """How many scales a quantised tensor has."""

    PER_TENSOR = "per-tensor"
    PER_CHANNEL = "per-channel"


class Zero(str, enum.Enum):
    """Where the zero of a quantised tensor lies."""

    SYMMETRIC = "symmetric"
    ASYMMETRIC = "asymmetric"


@dataclasses.dataclass(frozen=True)
class PrecisionRule:
    """How one engine wants its int8: `transposed` are the weights of transposed convolutions. Absent: not known."""

    unit: str = matching(_WORD)
    weights: Granularity | None = None
    transposed: Granularity | None = None
    activations: Zero | None = None
    evidence: Evidence = Evidence.UNVERIFIED
    source: str = matching(f"({_WORD})?", "")
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """An engine of the device for which edgegen has no back end: what its maker's tools are, and its op table if there is one."""

    unit: str = matching(_WORD)
    name: str = matching(r".{1,80}")
    toolchain: str = matching(r".{0,120}", "")
    op_table: str = ""
    note: str = ""


@dataclasses.dataclass(frozen=True)
class FrameBudget:
    """A use of the device: one frame per period, of which the generator may take `share`. `aliases` ask for this budget."""

    use: str = matching(_WORD)
    period_ms: Figure = required()
    share: Figure | None = None
    tail: float | None = within(None, low=0.5, high=0.9999)
    aliases: tuple[str, ...] = matching(_WORD, ())

    @property
    def seconds(self) -> float:
        """What the generator may take per frame."""
        return self.period_ms.value * 1e-3 * (self.share.value if self.share else 1.0)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Which engine and power mode latency is predicted for, and which part of a peak generators reach ("f32", ..., "memory")."""

    unit: str = matching(_WORD)
    mode: str = matching(r"[A-Za-z0-9_.-]{1,40}")
    utilisation: Mapping[str, Figure] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class TargetProfile:
    """One device. `backends` are ordered, best first; `local` is true only for the machine edgegen itself runs on."""

    id: str = matching(_WORD)
    title: str = matching(r".{1,120}")
    scene: str = matching(_WORD)
    family: str = matching(_WORD)
    channel_multiple: int = within(low=1, high=128)
    backends: tuple[BackendSupport, ...] = required()
    rewrites: Mapping[str, bool] = required()
    local: bool = False
    threads: int = within(0, low=0, high=1024)
    aliases: tuple[str, ...] = matching(_WORD, ())
    notes: tuple[str, ...] = ()
    soc: Soc | None = None
    detect: tuple[Detect, ...] = ()
    cpu: Cpu = Cpu()
    units: tuple[Unit, ...] = ()
    memory: Memory = Memory()
    power_modes: tuple[PowerMode, ...] = ()
    thermal: Thermal = Thermal()
    software: tuple[Software, ...] = ()
    budgets: tuple[FrameBudget, ...] = ()
    predict: Prediction | None = None
    precision_rules: tuple[PrecisionRule, ...] = ()
    accelerators: tuple[Accelerator, ...] = ()
    sources: tuple[Source, ...] = ()

    @property
    def backend(self) -> Backend:
        """The best back end."""
        return self.backends[0].id

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions worth trying on the best back end."""
        return self.backends[0].precisions

    @property
    def frame_budget_s(self) -> float | None:
        """What the device's usual use leaves for one frame, in seconds; None if it has no usual one."""
        return self.budgets[0].seconds if self.budgets else None

    @property
    def memory_bytes(self) -> int | None:
        """Bytes an application can use, or all there are where only that is known; None if unknown."""
        known = self.memory.usable_bytes or self.memory.bytes
        return int(known.value) if known else None

    @property
    def memory_bytes_per_s(self) -> float | None:
        """Reachable bandwidth for predictions: the maker's number times the utilisation; None if unknown."""
        if self.memory.gb_s is None or self.predict is None:
            return None
        reached = self.predict.utilisation.get("memory")
        return self.memory.gb_s.value * 1e9 * (reached.value if reached else 1.0)

    def macs_per_s(self, precision: Precision) -> float | None:
        """Reachable dense multiply-accumulates per second for predictions: peak / 2 x utilisation; None if unknown."""
        if self.predict is None:
            return None
        reached = self.predict.utilisation.get(precision.value)
        if reached is None and precision in (Precision.INT8_DYNAMIC, Precision.INT8_FULL):
            reached = self.predict.utilisation.get(Precision.INT8.value)
        for unit in self.units:
            peak = getattr(unit, _PEAKS[precision])
            if (unit.unit, unit.mode) == (self.predict.unit, self.predict.mode) and peak and reached:
                return peak.value * 1e12 / 2 * reached.value
        return None

    def figures(self) -> dict[str, Figure]:
        """Return every number that has evidence, under its dotted key."""
        return dict(_walk(self, ""))

    def to_json(self) -> dict[str, Any]:
        """Return the profile as a plain JSON object; unknown numbers are left out."""
        return _plain(self)


def _walk(value: Any, key: str) -> Iterator[tuple[str, Figure]]:
    if isinstance(value, Figure):
        yield key, value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _walk(getattr(value, field.name), f"{key}.{field.name}" if key else field.name)
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from _walk(item, f"{key}[{i}]")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _walk(item, f"{key}.{name}")


def _plain(value: Any) -> Any:
    """Return `value` as dictionaries, lists, text and numbers; what is absent or empty is left out."""
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        items = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {name: item for name, item in items.items() if item not in (None, "", [], {})}
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
