"""Records on disk: written atomically with the raw samples beside them, read strictly."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgegen.bench.record import SCHEMA, Record, canonical_digest
from edgegen.bench.statistics import summarise
from edgegen.errors import BundleError, StorageError
from edgegen.runtime.errors import RuntimeBundleError
from edgegen.runtime.strict_json import parse
from edgegen.strict_toml import build
from edgegen.workspace import storage_errors

_MAX_BYTES = 4 << 20


@dataclasses.dataclass(frozen=True)
class Measured:
    """A record with the sustained run times of each process, int64 ns, and the name that it has for its readers."""

    name: str
    record: Record
    processes: tuple[NDArray[np.int64], ...]


def read_measured(path: Path) -> Measured:
    """Return the record in the file at `path` and the raw samples beside it. Raises BundleError for either if it is damaged."""
    record = read_record(path)
    return Measured(str(path), record, tuple(read_samples(path, record)))


def read_record(path: Path) -> Record:
    """Return the record in the file at `path`. Raises BundleError for another schema, a wrong key or an altered record."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise BundleError(f"{path} is larger than {_MAX_BYTES >> 20} MiB")
        body = parse(content, str(path))
    except OSError as problem:
        raise BundleError(f"{path} cannot be read: {problem.strerror}") from problem
    except RuntimeBundleError as problem:
        raise BundleError(problem.message, hint="records are written by `edgegen bench --out FILE`") from problem
    if body.get("schema") != SCHEMA:
        raise BundleError(f"{path} has schema {body.get('schema')!r}", hint=f"this edgegen reads {SCHEMA}")
    claimed = body.pop("record_id", None)
    try:
        is_whole = claimed == canonical_digest(body)
    except ValueError:  # half a character, which JSON can write and UTF-8 cannot
        is_whole = False
    if not is_whole:
        raise BundleError(f"{path} was altered: its record_id does not fit", hint="measure again")
    del body["schema"]
    record = build(Record, _without_nulls(body), where=str(path), error=BundleError)
    _check_order(record, path)
    return record


def read_samples(path: Path, record: Record) -> list[NDArray[np.int64]]:
    """Return the sustained run times of each process, int64 ns, from beside the record at `path`; nothing if it has no timings.

    Raises BundleError for a missing or damaged file, and for samples that are not those of the record.
    """
    latency = record.latency_ms
    if latency is None:
        return []
    if latency.raw is None or Path(latency.raw).name != latency.raw:
        raise BundleError(f"{path} names no file of raw samples", hint="records are written by `edgegen bench --out FILE`")
    raw = path.with_name(latency.raw)
    try:
        with np.load(raw, allow_pickle=False) as stored:
            sustained, counts = (np.asarray(stored[name]) for name in ("sustained", "sustained_counts"))
    except FileNotFoundError as problem:
        raise BundleError(f"{raw} is missing", hint="keep the raw samples beside the record") from problem
    except Exception as problem:  # zipfile, zlib and numpy raise what they like for damaged files
        raise BundleError(f"{raw} cannot be read: {problem}", hint="measure again") from problem
    whole = sustained.dtype == counts.dtype == np.int64 and sustained.ndim == counts.ndim == 1 and (counts > 0).all()
    if not whole or len(sustained) != counts.sum() or summarise(sustained.tolist()) != latency.sustained:
        raise BundleError(f"{raw} does not hold the samples of {path}", hint="keep the raw samples beside their record")
    return np.split(sustained, np.cumsum(counts)[:-1])


def write_record(record: Record, path: Path, samples_ns: Mapping[str, Sequence[int]] | None = None) -> Record:
    """Write `record` to `path` atomically, and raw samples beside it as <stem>.samples.npz: "burst", "sustained" and how many of
    the latter each process made ("sustained_counts").

    Return the record as written: it names the file of samples.
    """
    if path.parent.exists() and not path.parent.is_dir():
        raise StorageError(f"{path.parent} is a file, not a folder", hint="choose another --out")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if samples_ns and record.latency_ms is not None:
            raw = path.with_name(path.stem + ".samples.npz")
            arrays: dict[str, Any] = {name: np.asarray(values, dtype=np.int64) for name, values in samples_ns.items()}
            _write_atomically(raw, lambda file: np.savez_compressed(file, **arrays))
            record = dataclasses.replace(record, latency_ms=dataclasses.replace(record.latency_ms, raw=raw.name))
        text = json.dumps(record.to_json(), indent=1, allow_nan=False)
        _write_atomically(path, lambda file: file.write(text.encode()))
    return record


def _write_atomically(path: Path, write: Any) -> None:
    """Write beside, sync, rename, sync the folder: after a power cut there is the old file or the new one."""
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, 0o644)
        os.replace(part, path)
    finally:
        Path(part).unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _check_order(record: Record, path: Path) -> None:
    """Refuse percentiles that do not rise: such a record was not computed from samples."""
    if record.latency_ms is None:
        return
    for phase in (record.latency_ms.burst, record.latency_ms.sustained):
        rising = [phase.min, phase.p50, phase.p90, phase.p95, phase.p99, phase.p99_9, phase.max]
        stated = [value for value in rising if value is not None]
        if stated != sorted(stated) or stated[0] < 0:
            raise BundleError(f"{path}: percentiles do not rise: {stated}", hint="measure again")
