"""Time an open bundle in this process. The host starts a fresh process for this, here or on a device, and reads its JSON.

Python >= 3.8, numpy and one back end.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Optional

import numpy as np

from edgegen.runtime.bundle import OpenBundle, open_bundle
from edgegen.runtime.latents import draw, splitmix64
from edgegen.runtime.pictures import to_given, to_tensor
from edgegen.runtime.process_facts import machine_facts, peak_memory_bytes
from edgegen.runtime.tensors import Kind, TensorSpec
from edgegen.runtime.timing import measure

DISTINCT_INPUTS = 16
_SETTLED_RUNS = 3
_PART_RUNS = 20


def time_cold(path: str, backend: Optional[str], threads: int, seed: int) -> Dict[str, Any]:
    """Return load, compile and first inference in ns, and peak memory: right only in a process that did nothing before."""
    before = peak_memory_bytes()
    with open_bundle(path, backend, threads) as bundle:
        return _cold(bundle, seed, before)


def time_warm(
    path: str, backend: Optional[str], threads: int, seed: int, *, min_runs: int, min_seconds: float, burst_seconds: float
) -> Dict[str, Any]:
    """Return what `time_cold` does, then a burst of `burst_seconds` after the warm-up, then the sustained phase.

    Timed is `run`: tensors in, tensors out, the copy of the outputs included. Inputs are a ring of 16 distinct ones.
    `parts_ns` are medians of the conversions around it.
    """
    before = peak_memory_bytes()
    with open_bundle(path, backend, threads) as bundle:
        found = _cold(bundle, seed, before)
        ring = [ring_input(bundle.artifact.io.inputs, seed, index) for index in range(DISTINCT_INPUTS)]
        tensors = [bundle.tensors(*given) for given in ring]
        found["machine_before"] = machine_facts()

        def call(index: int) -> None:
            bundle.run(tensors[index % DISTINCT_INPUTS])

        found["burst"] = measure(call, min_runs=1, min_seconds=burst_seconds).to_json()
        found["sustained"] = measure(call, min_runs=min_runs, min_seconds=min_seconds, warmup_runs=0).to_json()
        found["machine_after"] = machine_facts()
        found["parts_ns"] = _parts(bundle, ring)
        found["ran"] = bundle.describe()
        return found


def ring_input(specs: Any, seed: int, index: int) -> List[np.ndarray]:
    """Return input number `index` of the ring, as an application gives it: random pixels, ids or latents drawn from `seed`."""
    return [_random(spec, seed * DISTINCT_INPUTS + index, position) for position, spec in enumerate(specs)]


def _random(spec: TensorSpec, seed: int, position: int) -> np.ndarray:
    if spec.kind not in (Kind.IMAGE, Kind.LABEL_MAP):
        return draw(spec, seed, position)[0]
    if spec.kind is Kind.LABEL_MAP:
        ids = splitmix64(seed, spec.height * spec.width) % np.uint64(spec.channels)
        return ids.astype(np.int64).reshape(spec.height, spec.width)
    count = spec.height * spec.width * spec.channels
    return splitmix64(seed, (count + 7) // 8).view(np.uint8)[:count].reshape(spec.height, spec.width, spec.channels)


def _cold(bundle: OpenBundle, seed: int, memory_before: Optional[int]) -> Dict[str, Any]:
    tensors = bundle.tensors(*ring_input(bundle.artifact.io.inputs, seed, 0))
    begin = time.perf_counter_ns()
    bundle.run(tensors)
    first_ns = time.perf_counter_ns() - begin
    for _ in range(_SETTLED_RUNS):
        bundle.run(tensors)
    return {
        "artifact": bundle.artifact.name, "load_ns": bundle.load_ns, "compile_ns": bundle.describe()["compile_ns"],
        "first_inference_ns": first_ns, "vm_hwm_bytes": peak_memory_bytes(), "vm_hwm_at_start_bytes": memory_before,
    }  # fmt: skip


def _parts(bundle: OpenBundle, ring: List[List[np.ndarray]]) -> Dict[str, int]:
    """Return the median ns of turning a given input into tensors ("pre") and the first output into a picture ("post")."""
    spec = bundle.artifact.io.outputs[0]
    output = bundle.run(bundle.tensors(*ring[0]))[0]
    inputs = bundle.artifact.io.inputs
    return {
        "pre": _median(lambda i: [to_tensor(v, s) for v, s in zip(ring[i % DISTINCT_INPUTS], inputs)]),
        "post": _median(lambda i: to_given(output, spec)),
    }


def _median(call: Callable[[int], Any]) -> int:
    samples = sorted(measure(call, min_runs=_PART_RUNS, min_seconds=0, warmup_runs=3).samples_ns)
    return samples[(len(samples) - 1) // 2]
