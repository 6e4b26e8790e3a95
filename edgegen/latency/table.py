"""Layers measured here or on a device, one JSON file per table: what is in the file is never measured again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from edgegen.latency.clock import HereClock, LayerClock
from edgegen.latency.snippets import BINARY, FEED, Layer, LinearSource, Part, PassOver, Snippet, Source
from edgegen.latency.work import LayerWork, Pass, sub_pixel
from edgegen.spec import Backend, Precision

_FORMAT = "edgegen.latency-table/3"
_SHARES = {"concat": 0.5}  # its model joins two tensors
_LEAST_S = 1e-7  # nothing is free: what is lost in the noise of its surroundings counts as this
_COLD_BYTES = 64 << 10  # a layer with more weights is not the only one: together they do not fit the caches of a core


@dataclasses.dataclass(frozen=True)
class _Line:
    """What a key of the file stands for: a snippet whose whole call is timed. What is not of `others` counts, `share` of it."""

    key: str
    part: Part
    others: tuple[_Line, ...] = ()
    share: float = 1.0
    cold: bool = False


class MeasuredTable:
    """Measures each distinct layer and pass once, in the types it has in an artifact of `precision`: in OpenVINO on this machine,
    or wherever and in whatever `clock` times.

    A layer is timed behind a cheap one that writes its input, less the time of that one alone. Latency is a staircase that also
    goes down: 3x3 int8 convolutions with 24 outputs take longer than those with 32 (64x64, AVX-512 VNNI: 131 against 122
    microseconds), so narrower is not taken to be faster.

    Every measurement is written to `path` at once. `cache` is a folder that runs share: what an earlier run measured on the same
    processor, OpenVINO and number of threads is copied from there, and what is new is added. Estimates depend on nothing but
    `path` once it has what they need.
    """

    label = "measured"

    def __init__(
        self, path: Path, precision: Precision, *, threads: int = 0, cache: Path | None = None, clock: LayerClock | None = None
    ) -> None:
        self._path, self._int8 = path, precision in (Precision.INT8, Precision.INT8_FULL)
        self._clock = clock or HereClock(threads)
        self._fingerprint = self._clock.fingerprint()
        self._seconds = _read(path, self._fingerprint)
        self._shared_path = None if cache is None else cache / f"latency-{fingerprint_digest(self._fingerprint)}.json"
        self._shared = {} if self._shared_path is None else _read(self._shared_path, self._fingerprint)
        self._measured = self._copied = 0
        backend = Backend(self._fingerprint.get("backend", Backend.OPENVINO.value))
        self._tries_forms = backend is Backend.OPENVINO or (backend is Backend.ONNXRUNTIME and self._int8)

    def seconds(self, work: LayerWork) -> float:
        """Return the seconds of a layer and its passes, from the table or by measuring now.

        A transposed convolution costs what the faster of its two forms costs where exports choose by timing both: in OpenVINO,
        and in int8 in onnxruntime.
        """
        forms = self._forms(work)
        self._fill([line for form in forms for line in form])
        return min(sum(self._net_s(line) for line in form) for form in forms)

    def known(self, work: LayerWork) -> float | None:
        """Return what `seconds` does if the table has all it takes; None otherwise, and nothing is measured."""
        lines = [line for form in self._forms(work) for line in form]
        needed = {_CALL.key, *(each.key for line in lines for each in (*line.others, line))}
        return self.seconds(work) if needed <= self._seconds.keys() else None

    def whole(self, works: Iterable[LayerWork], measure: Callable[[], float]) -> float:
        """Return the seconds of the generator that consists of `works`, from the table or by `measure` now.

        Kept like a layer, so that a run that is resumed decides as the one that was interrupted.
        """
        key = f"whole {hashlib.sha256(repr(tuple(works)).encode()).hexdigest()[:16]}"
        if key not in self._seconds:
            self._seconds[key] = self._shared[key] if key in self._shared else measure()
            self.save()
            self._add_to_cache({key: self._seconds[key]})
        return self._seconds[key]

    def measure(self, works: Iterable[LayerWork]) -> None:
        """Measure what `works` need and the table lacks, a few in turn: less prone to a busy moment than one after the other."""
        self._fill([line for work in works for form in self._forms(work) for line in form])

    def save(self) -> None:
        """Write the table atomically."""
        _write(self._path, self._fingerprint, self._seconds)

    def facts(self) -> dict[str, Any]:
        """Return how many lines the table has and where they come from, for the record of a stage."""
        return {
            "lines": len(self._seconds),
            "measured_now": self._measured,
            "from_earlier_runs": self._copied,
            **self._fingerprint,
        }

    def _net_s(self, line: _Line) -> float:
        """Return the time of a line less that of what surrounds it. Each is a whole call, and a call is taken off once."""
        taken = self._seconds[line.key]
        if line.others:
            call = self._seconds[_CALL.key]
            taken -= sum(self._seconds[other.key] for other in line.others) - (len(line.others) - 1) * call
        return max(_LEAST_S, taken * line.share)

    def _forms(self, work: LayerWork) -> list[list[_Line]]:
        other = sub_pixel(work) if self._tries_forms else None
        return [self._lines(form) for form in (work, other) if form is not None]

    def _lines(self, work: LayerWork) -> list[_Line]:
        layer = dataclasses.replace(work, passes=())
        return [_layer_line(layer, self._int8), *(_pass_line(p, p.channels(work.outputs), self._int8) for p in work.passes)]

    def _fill(self, lines: list[_Line]) -> None:
        """Copy or measure the lines that are missing, with their surroundings, and save after each few."""
        needed = {each.key: each for line in lines for each in (*line.others, line)} | {_CALL.key: _CALL}
        missing = [line for key, line in needed.items() if key not in self._seconds]
        known = {line.key: self._shared[line.key] for line in missing if line.key in self._shared}
        self._seconds |= known
        self._copied += len(known)
        todo = [line for line in missing if line.key not in known]
        for start in range(0, len(todo), self._clock.in_turn):
            few = todo[start : start + self._clock.in_turn]
            taken = self._clock.seconds([Snippet(line.part, line.cold) for line in few])
            new = {line.key: seconds for line, seconds in zip(few, taken, strict=True)}
            self._seconds |= new
            self._measured += len(new)
            self.save()
            self._add_to_cache(new)
        if known and not todo:
            self.save()

    def _add_to_cache(self, new: Mapping[str, float]) -> None:
        if self._shared_path is not None:
            self._shared_path.parent.mkdir(parents=True, exist_ok=True)
            self._shared = {**_read(self._shared_path, self._fingerprint), **self._shared, **new}  # other runs add to it as well
            _write(self._shared_path, self._fingerprint, self._shared)


def _layer_line(work: LayerWork, int8: bool) -> _Line:
    int8 = int8 and work.kind not in ("norm", "output")
    types = (" >int8" if int8 and work.to_int8 else "") + (" signed" if int8 and work.signed else "")
    key = (
        f"{'int8' if int8 else 'float'} {work.kind} {work.inputs}>{work.outputs} k{work.kernel[0]}x{work.kernel[1]} "
        f"s{work.stride[0]}x{work.stride[1]} g{work.groups} {work.height}x{work.width}"
        f"{''.join(f' +{op}' for op in work.fused)}{types}"
    )
    weights = math.prod(work.kernel) * work.inputs * work.outputs // work.groups if work.weighted else 0
    cold = weights * (1 if int8 else 4) > _COLD_BYTES
    return _Line(key, Layer(work, int8), _around_layer(work, int8, cold), cold=cold)


def _around_layer(work: LayerWork, int8: bool, cold: bool) -> tuple[_Line, ...]:
    store = Layer(work, int8).store
    height, width = work.height, work.width
    match work.kind:
        case "input":
            return ()
        case "linear":
            key = f"{'int8' if int8 else 'float'} linear source {work.inputs}{' cold' if cold else ''}"
            return (_Line(key, LinearSource(work.inputs, int8), cold=cold),)
        case "transposed":
            height, width = max(1, height // work.stride[0]), max(1, width // work.stride[1])
        case "conv":
            height, width = height * work.stride[0], width * work.stride[1]
    second = _source_line(work.outputs, work.height, work.width, "signed" if int8 else "float")
    return (_source_line(work.inputs, height, width, store, cold), *(second for op in work.fused if op in BINARY))


def _pass_line(item: Pass, channels: int, int8: bool) -> _Line:
    stores = ["int8" if int8 and flag else "float" for flag in (item.from_int8, item.to_int8)]
    source = _source_line(channels, item.height, item.width, stores[0])
    others = (source, *(source for op in item.ops if op in BINARY))
    key = f"{stores[0]}>{stores[1]} {' +'.join(item.ops)} {channels} {item.height}x{item.width}"
    return _Line(key, PassOver(item, channels, int8), others, _SHARES.get(item.ops[0], 1.0))


def _source_line(channels: int, height: int, width: int, store: str, cold: bool = False) -> _Line:
    key = f"{store} source {channels} {height}x{width}{' cold' if cold else ''}"
    return _Line(key, Source(channels, height, width, store), cold=cold)


_CALL = _source_line(FEED, 1, 1, "float")  # so little work that the call is what it costs
CALL = Snippet(_CALL.part)
"""What every table has: a call with next to no work in it."""


def fingerprint_digest(values: Mapping[str, Any]) -> str:
    """Return 16 digits that stand for a fingerprint in the names of files."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _read(path: Path, made_on: Mapping[str, Any]) -> dict[str, float]:
    """Return the lines of a table; nothing if there is none, or if it is of another format or machine."""
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError):  # not there, or not whole: a cache that cannot be read is measured anew
        return {}
    if not isinstance(document, dict) or document.get("format") != _FORMAT or document.get("made_on") != made_on:
        return {}
    seconds = document.get("seconds")
    if not isinstance(seconds, dict) or not all(type(s) in (int, float) and 0 <= s < math.inf for s in seconds.values()):
        return {}
    return seconds


def _write(path: Path, made_on: Mapping[str, Any], seconds: Mapping[str, float]) -> None:
    import os

    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    text = json.dumps({"format": _FORMAT, "made_on": made_on, "seconds": seconds}, indent=0, sort_keys=True)
    temporary.write_text(text)
    temporary.replace(path)
