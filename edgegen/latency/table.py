"""Layers measured on this machine, one JSON file per table: what is in the file is never measured again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgegen.latency.clock import fastest_seconds
from edgegen.latency.snippets import BINARY, FEED, layer_model, linear_source_model, pass_model, source_model
from edgegen.latency.work import LayerWork, Pass
from edgegen.spec import Precision

_FORMAT = "edgegen.latency-table/2"
_SHARE = {"concat": 0.5}  # the model of it joins two tensors
_LEAST_S = 1e-7  # nothing is free: what is lost in the noise of its surroundings counts as this


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One line of the table: how to build the model, what of its time is not the layer's, and the share that is."""

    model: Any  # a function of nothing
    others: tuple[str, ...] = ()  # lines whose time comes off, each a whole call
    share: float = 1.0


class MeasuredTable:
    """Measures each distinct layer and pass once in OpenVINO on this machine, in the types it has in an artifact of `precision`.

    A layer is timed behind a cheap one that writes its input, less the time of that one alone. Latency is a staircase that also
    goes down: 3x3 int8 convolutions with 24 outputs take longer than those with 32 (64x64, AVX-512 VNNI: 131 against 122
    microseconds), so that narrower is not taken to be faster.

    Every measurement is written to `path` at once. `cache` is a folder that runs share: what an earlier run measured on the same
    processor, OpenVINO and threads is copied from there, and what is new is added. Estimates depend on `path` alone once it has
    what they need.
    """

    label = "measured"

    def __init__(self, path: Path, precision: Precision, *, threads: int = 0, cache: Path | None = None) -> None:
        self._path, self._threads, self._int8 = path, threads, precision is Precision.INT8
        self._fingerprint = fingerprint(threads)
        self._seconds = _read(path, self._fingerprint)
        self._shared_path = None if cache is None else cache / f"latency-{_digest(self._fingerprint)}.json"
        self._shared = {} if self._shared_path is None else _read(self._shared_path, self._fingerprint)
        self._measured = self._copied = 0

    def seconds(self, work: LayerWork) -> float:
        """Return the seconds of a layer and its passes, from the table or by measuring now."""
        return sum(self._net(key, entry) for key, entry in self._entries(work).items())

    def measure(self, works: Iterable[LayerWork]) -> None:
        """Measure what `works` need and the table lacks, now and a few at a time in turn."""
        wanted: dict[str, _Entry] = {}
        for work in works:
            wanted |= self._entries(work)
        wanted |= {key: self._surroundings(key) for entry in wanted.values() for key in entry.others}
        self._fill(wanted)

    def save(self) -> None:
        """Write the table atomically."""
        _write(self._path, self._fingerprint, self._seconds)

    def facts(self) -> dict[str, Any]:
        """Return how many lines the table has and where they come from, for the record of a stage."""
        return {"lines": len(self._seconds), "measured_now": self._measured, "from_earlier_runs": self._copied, **self._fingerprint}

    def _entries(self, work: LayerWork) -> dict[str, _Entry]:
        """Return the lines that make up a layer: its own and one for each pass; equal passes are counted once each."""
        layer = dataclasses.replace(work, passes=())
        found = {self._layer_key(layer): _Entry(lambda: layer_model(layer, int8=self._int8), self._layer_others(layer))}
        for number, item in enumerate(work.passes):
            channels = item.channels(work.outputs)
            found[self._pass_key(item, channels) + "'" * number] = self._pass_entry(item, channels)
        return found

    def _pass_entry(self, item: Pass, channels: int) -> _Entry:
        store = "int8" if self._int8 and item.from_int8 else "float"
        source = _source_key(channels, item.height, item.width, store)
        others = (source, *[source for op in item.ops if op in BINARY])
        return _Entry(lambda: pass_model(item, channels, int8=self._int8), others, _SHARE.get(item.ops[0], 1.0))

    def _layer_others(self, work: LayerWork) -> tuple[str, ...]:
        store = ("signed" if work.signed else "int8") if self._int8 else "float"
        second = _source_key(work.outputs, work.height, work.width, "signed" if self._int8 else "float")
        beside = [second for op in work.fused if op in BINARY]
        match work.kind:
            case "input":
                return ()
            case "linear":
                return (f"linear source {work.inputs} {'int8' if self._int8 else 'float'}",)
            case "norm" | "output":
                return (_source_key(work.inputs, work.height, work.width, "float"),)
            case "transposed":
                size = [max(1, n // by) for n, by in zip((work.height, work.width), work.stride, strict=True)]
            case _:
                size = [n * by for n, by in zip((work.height, work.width), work.stride, strict=True)]
        return (_source_key(work.inputs, size[0], size[1], store), *beside)

    def _net(self, key: str, entry: _Entry) -> float:
        """Return the time of an entry less that of what surrounds it."""
        key = key.rstrip("'")
        if not {key, *entry.others} <= set(self._seconds):
            self._fill({key: entry, **{other: self._surroundings(other) for other in entry.others}})
        taken = self._seconds[key]
        if entry.others:  # each line is a whole call: one call remains too many where a second operand is taken off
            taken -= sum(self._seconds[other] for other in entry.others) - (len(entry.others) - 1) * self._call_s()
        return max(_LEAST_S, taken * entry.share)

    def _call_s(self) -> float:
        key = _source_key(FEED, 1, 1, "float")
        if key not in self._seconds:
            self._fill({key: self._surroundings(key)})
        return self._seconds[key]

    def _surroundings(self, key: str) -> _Entry:
        """Return the line of a key that `others` names."""
        kind, *parts = key.split()
        if kind == "linear":
            return _Entry(lambda: linear_source_model(int(parts[1]), int8=parts[2] == "int8"))
        height, width = map(int, parts[1].split("x"))
        return _Entry(lambda: source_model(int(parts[0]), height, width, parts[2]))

    def _fill(self, wanted: Mapping[str, _Entry]) -> None:
        """Copy or measure the lines that are missing, a few in turn, and save after each few."""
        missing = {key.rstrip("'"): entry for key, entry in wanted.items() if key.rstrip("'") not in self._seconds}
        known = {key: self._shared[key] for key in missing if key in self._shared}
        self._copied += len(known)
        self._seconds |= known
        todo = [key for key in missing if key not in known]
        for start in range(0, len(todo), _IN_TURN):
            keys = todo[start : start + _IN_TURN]
            taken = fastest_seconds([missing[key].model() for key in keys], self._threads)
            self._seconds |= dict(zip(keys, taken, strict=True))
            self._measured += len(keys)
            self._share()
        if missing:
            self.save()
