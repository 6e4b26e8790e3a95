"""Timing compiled OpenVINO models on a machine that others use too, and what else can time layers."""

from __future__ import annotations

import dataclasses
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from edgegen.latency.snippets import Snippet
from edgegen.runtime.snippets import fastest_ns


@dataclasses.dataclass(frozen=True)
class Timed:
    """An OpenVINO model to time; `cold` is as in `Snippet`. `arithmetic` is what its float layers may compute in: "f32", "f16" or
    "bf16"."""

    model: Any
    cold: bool
    arithmetic: str = "f32"


class LayerClock(Protocol):
    """What times the layers of a table, here or on a device. `in_turn` snippets are built at a time, and timed round by round."""

    @property
    def in_turn(self) -> int:
        """How many snippets it takes at a time."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """Return what the times depend on beside the layer, as plain JSON."""
        ...

    def seconds(self, snippets: Sequence[Snippet]) -> list[float]:
        """Return what one run of each takes."""
        ...


@dataclasses.dataclass(frozen=True)
class HereClock:
    """Times layers in this process, in OpenVINO, on `threads` threads (0: all cores)."""

    threads: int
    in_turn: int = 6

    def fingerprint(self) -> dict[str, Any]:
        """Return processor, OpenVINO and number of threads."""
        from importlib.metadata import version

        info = Path("/proc/cpuinfo")
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
        cpu = found.group(1) if found else platform.processor()
        return {"cpu": cpu, "openvino": version("openvino"), "threads": self.threads}

    def seconds(self, snippets: Sequence[Snippet]) -> list[float]:
        """See LayerClock."""
        from edgegen.latency.openvino_snippets import openvino_model

        return fastest_seconds([Timed(openvino_model(one.part), one.cold) for one in snippets], self.threads)


@dataclasses.dataclass(frozen=True)
class StoppedClock:
    """Stands for a device that was measured earlier: it has its fingerprint and times nothing."""

    made_on: Mapping[str, Any]
    in_turn: int = 1

    def fingerprint(self) -> dict[str, Any]:
        """See LayerClock."""
        return dict(self.made_on)

    def seconds(self, snippets: Sequence[Snippet]) -> list[float]:
        """Refuse: who reads a table asks what it knows first."""
        raise RuntimeError(f"{len(snippets)} layers are not in the table, and its device is not at hand")


def fastest_seconds(models: Sequence[Timed], threads: int) -> list[float]:
    """Return what one run of each model takes on the CPU, in seconds, run in turn, round by round (`fastest_ns` says how)."""
    import openvino as ov

    core = ov.Core()
    calls = [_compiled(core, timed, threads) for timed in models]
    return [ns * 1e-9 for ns in fastest_ns(calls, [timed.cold for timed in models], threads)]


def _compiled(core: Any, timed: Timed, threads: int) -> Callable[[], Any]:
    import numpy as np

    config: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": timed.arithmetic}
    if threads:
        config["INFERENCE_NUM_THREADS"] = threads
    if threads == 1:  # by default every process would run on the same core, idle or not
        config["ENABLE_CPU_PINNING"] = False
    compiled = core.compile_model(timed.model, "CPU", config)
    request, rng = compiled.create_infer_request(), np.random.default_rng(0)
    data = [rng.standard_normal(tuple(port.shape)).astype(np.float32) for port in compiled.inputs]
    return lambda: request.infer(data, share_inputs=True)
