"""Workers of a Ray cluster. Everything travels as bytes: the files of a job there, its result back; only --data is a path."""

from __future__ import annotations

import platform
import re
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgegen.errors import DataError, RecipeError, require
from edgegen.sweep.store import Store
from edgegen.sweep.units import FILE_OPTIONS, Unit
from edgegen.sweep.work import RESULT, do_unit

Files = Mapping[str, bytes]
_KNOCK_S = 10.0


class RayWorkers:
    """Runs up to `slots` units at a time on the cluster at `address`: "auto", HOST:PORT, or "local" for one of its own here."""

    def __init__(self, store: Store, address: str, *, slots: int, cpus: int) -> None:
        self._ray, self._store = require("ray", extra="ray"), store
        own = {"num_cpus": cpus} if address == "local" else {}
        try:
            _knock(address)
            self._ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="error", **own)
        except RecipeError:
            raise
        except Exception as error:  # Ray raises bare ones, as when a cluster does not start in time
            raise RecipeError(
                f"--ray {address}: no cluster answers ({error})", hint="start one with `ray start --head`, or give --ray local"
            ) from error
        per_node = [int(n["Resources"].get("CPU", 0)) for n in self._ray.nodes() if n["Alive"]]
        self.slots = slots
        self._threads = max(1, min(max(per_node), sum(per_node) // slots))
        self._task = self._ray.remote(num_cpus=self._threads, max_retries=0)(work_on_bytes)
        self._running: dict[Any, Unit] = {}
        self._sent: dict[str, Any] = {}

    def start(self, unit: Unit, after: Unit | None) -> None:
        """Start a unit that goes on from the finished unit `after`."""
        shared = None if after is None else self._put(after.key, lambda: read_files(self._store.folder(after)))
        names = {name: str(unit.job[name]) for name in FILE_OPTIONS if _file_part(unit.job, name) is not None}
        given = self._put(str([sorted(names.items()), unit.job["points"]]), lambda: given_files(unit.job))
        self._running[self._task.remote(dict(unit.job), given, shared, self._threads)] = unit

    def wait(self) -> tuple[Unit, str | None]:
        """Return the next unit that ended and, if it left no result, how its worker died."""
        (ended,), _ = self._ray.wait(list(self._running), num_returns=1)
        unit = self._running.pop(ended)
        try:
            files = self._ray.get(ended)
        except self._ray.exceptions.RayError as error:
            return unit, str(error).strip().splitlines()[0][:300]
        write_files(files, self._store.part(unit))
        return unit, None

    def close(self) -> None:
        """Stop what still runs and leave the cluster; one of our own ends with it."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running.clear()
        self._ray.shutdown()

    def _put(self, key: str, make: Any) -> Any:
        """Return the reference of what `make` gives, sent to the cluster once."""
        if key not in self._sent:
            self._sent[key] = self._ray.put(make())
        return self._sent[key]


def _knock(address: str) -> None:
    """Raise OSError unless something listens at HOST:PORT: Ray itself would try for minutes. Words need no knock."""
    if address in ("auto", "local"):
        return
    match = re.fullmatch(r"(?:ray://)?(.+):(\d{1,5})", address)
    if match is None:
        raise RecipeError(
            f"'{address}' is not the address of a cluster", hint="write auto, local or HOST:PORT, as in 10.0.0.5:6379"
        )
    socket.create_connection((match.group(1), int(match.group(2))), timeout=_KNOCK_S).close()


def work_on_bytes(job: dict[str, Any], given: Files, shared: Files | None, threads: int) -> Files:
    """Do a unit in a temporary folder and return the files of its result. Runs on a worker, maybe on another machine."""
    with tempfile.TemporaryDirectory(prefix="edgegen-unit-") as name:
        root = Path(name)
        folder, before = root / "unit", root / "shared"
        folder.mkdir()
        write_files(given, root / "given")
        if shared is not None:
            write_files(shared, before)
        _check_data(job)
        do_unit(_with_local_files(job, root / "given"), folder, shared=before if shared is not None else None, threads=threads)
        return {path: content for path, content in read_files(folder).items() if not path.startswith("run/")}


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files below `folder` by relative path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def write_files(files: Files, folder: Path) -> None:
    """Write what `read_files` read below `folder`; the result comes last, because it says that all is there."""
    for path, content in sorted(files.items(), key=lambda item: item[0] == RESULT):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def _file_part(job: Mapping[str, Any], name: str) -> Path | None:
    """Return the file that option `name` of a job names; None for built-in names and options that are not set."""
    text = job[name] and (job[name].rpartition(":")[0] if name == "arch" else job[name])
    return Path(text) if text and Path(text).is_absolute() else None


def given_files(job: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the contents of all files that a job names, by option and name."""
    found = {name: path for name in FILE_OPTIONS if (path := _file_part(job, name)) is not None}
    found |= {f"point-{i}": Path(target) for i, (target, _) in enumerate(job["points"]) if Path(target).is_absolute()}
    return {f"{name}/{path.name}": path.read_bytes() for name, path in found.items()}


def _with_local_files(job: Mapping[str, Any], given: Path) -> dict[str, Any]:
    """Return `job` with its files as they lie here, below `given`."""
    changed = dict(job)
    for name in FILE_OPTIONS:
        path = _file_part(job, name)
        if path is not None:
            changed[name] = job[name].replace(str(path), str(given / name / path.name), 1)
    changed["points"] = [
        [str(given / f"point-{i}" / Path(target).name) if Path(target).is_absolute() else target, latency]
        for i, (target, latency) in enumerate(job["points"])
    ]
    return changed


def _check_data(job: Mapping[str, Any]) -> None:
    if job["data"] and not Path(job["data"]).is_dir():
        raise DataError(
            f"{job['data']} does not exist on the worker {platform.node()}",
            hint="put the folder at the same path on every machine of the cluster",
        )
