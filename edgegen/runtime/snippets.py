"""Time many tiny models in turn: the layers that tables of latency are made of. The host makes them and reads the JSON.

Python >= 3.8, numpy and one back end.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Sequence

import numpy as np

from edgegen.runtime.errors import RuntimeBundleError
from edgegen.runtime.files import Opened
from edgegen.runtime.manifest import ArtifactEntry
from edgegen.runtime.process_facts import machine_facts
from edgegen.runtime.runners import read_artifact, start_runner
from edgegen.runtime.strict_json import Reader, parse

LIST_NAME = "snippets.json"
_MAX_LIST_BYTES = 16 << 20
_LEAST_ROUNDS, _MOST_ROUNDS = 6, 40
_ENOUGH_NS = 25_000_000  # of one model
_SMALL_NS = 2_000_000  # what runs longer works on more than the caches of a core hold: warming them up gains nothing
_EVICT_BYTES = 2 << 20
_QUANTILE = 5  # the fifth part of the samples that is fastest: its slowest counts


def snippet_times(path: str, threads: int) -> Dict[str, Any]:
    """Return the ns of every model of the .zip at `path`, in order, what ran them, and the facts of the machine.

    Its snippets.json is {"snippets": [{"artifact": ..., "caches": "warm"}, ...]}; the files of number 3 lie in the folder 3/.
    """
    calls: List[Callable[[], Any]] = []
    cold: List[bool] = []
    ran: Dict[str, Any] = {}
    with Opened(path) as files:
        listed = Reader(parse(files.read(LIST_NAME, _MAX_LIST_BYTES), LIST_NAME), LIST_NAME)
        for number, item in enumerate(listed.tables("snippets")):
            entry = ArtifactEntry.from_json(item.plain("artifact"))
            cold.append(item.word("caches", ("warm", "cold")) == "cold")
            item.done()
            runner = start_runner(read_artifact(files, entry, f"{number}/"), entry, threads, None)
            ran = runner.describe()
            calls.append(_call(runner, entry))
        listed.done()
    if not calls:
        raise RuntimeBundleError(f"{path}: {LIST_NAME} lists nothing")
    return {"ns": fastest_ns(calls, cold, threads), "ran": ran, "machine": machine_facts()}


def _call(runner: Any, entry: ArtifactEntry) -> Callable[[], Any]:
    rng = np.random.default_rng(0)
    tensors = [rng.standard_normal((1,) + tuple(spec.shape)).astype(spec.dtype) for spec in entry.io.inputs]
    return lambda: runner.run(tensors)


def fastest_ns(calls: Sequence[Callable[[], Any]], cold: Sequence[bool], threads: int) -> List[int]:
    """Return what one run of each call takes, in ns, run in turn, round by round.

    Before a run of what is `cold` the caches of a core are emptied. On one thread the processor time of that thread is counted:
    other processes do not appear in it. On several it is the time on the wall, of which they take part. Either way noise only
    adds, so a low quantile is returned.
    """
    evict = _eviction()
    samples: List[List[int]] = [[] for _ in calls]
    clock: Callable[[], int] = time.thread_time_ns if threads == 1 else time.perf_counter_ns
    for round_number in range(_MOST_ROUNDS):
        waiting = [i for i, s in enumerate(samples) if round_number < _LEAST_ROUNDS or sum(s) < _ENOUGH_NS]
        if not waiting:
            break
        for index in waiting:
            if not samples[index] or samples[index][-1] < _SMALL_NS:
                calls[index]()
            if cold[index]:
                evict()
            begin = clock()
            calls[index]()
            samples[index].append(clock() - begin)
    return [sorted(s)[len(s) // _QUANTILE] for s in samples]


def _eviction() -> Callable[[], Any]:
    """Return what pushes all else out of the caches of a core. Shared caches are larger: they keep it, as in a generator."""
    buffer = np.zeros(_EVICT_BYTES, np.uint8)
    return lambda: np.add(buffer, 1, out=buffer)
