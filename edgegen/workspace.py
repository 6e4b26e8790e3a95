"""The folder of one run: every stage's result, content-addressed and written atomically, so that a killed run continues.

    OUT/stages/<nn>-<stage>-<key>/    a finished result; its name is the proof that it is whole
    OUT/stages/<nn>-<stage>-<key>.part/   what an unfinished stage has so far (training checkpoints survive here)
    OUT/bundle/                       the deliverable

The key of a stage hashes its own settings, the key of the stage before it and the code version: equal keys mean equal work.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgegen import __version__
from edgegen.errors import EdgegenError, RecipeError, StorageError
from edgegen.recipe import STAGES

_POLL_S = 0.05
_FULL_BYTES = 1 << 20  # no stage gets far in less, and file systems keep some blocks to themselves
_FULL_WORDS = ("No space left on device", "iostream error")  # safetensors (Rust), OpenVINO (C++ streams)
_FREE_SPACE = "free some space, then run again with --resume"


class Workspace:
    """Runs stages once. `resume` reuses finished results in `out`; without it `out` must not hold a run.

    Of several processes that train together (`accelerate launch`) only the one of `rank` 0 writes; the others wait for its
    results, and take part in the stages that are run `together`.
    """

    def __init__(self, out: Path, *, resume: bool, redo_from: str | None = None, rank: int = 0) -> None:
        self.out, self._rank = out, rank
        self._stages = out / "stages"
        self._redo = STAGES.index(redo_from) if redo_from else len(STAGES)
        self._key = ""
        self._finished: dict[str, Path] = {}
        if rank == 0 and not (resume or redo_from):
            require_free(out)
        try:
            with storage_errors(out):
                self._stages.mkdir(parents=True, exist_ok=True)
        except OSError as error:  # whatever a file system says to a new folder, as /proc does
            raise StorageError(f"{out} cannot be written: {error.strerror}", hint="choose another folder with --out") from error

    def begin(self, inputs: Mapping[str, Any]) -> None:
        """Start the chain of keys from what the run depends on: checkpoint, data, target, seed."""
        self._key = _digest({"inputs": inputs, "version": __version__})

    def stage(self, name: str, settings: Mapping[str, Any], make: Callable[[Path], None], *, together: bool = False) -> Path:
        """Return the folder of the finished stage, running `make(folder)` if there is none yet.

        `make` writes into a folder that is renamed when it returns; after a kill it is called again with what is there.
        `together`: every process calls `make`, with the same folder; what the others write there is theirs to agree on.
        """
        self._key = _digest({"before": self._key, "stage": name, "settings": settings})
        folder = self._stages / f"{STAGES.index(name):02d}-{name}-{self._key[:16]}"
        part = folder.with_name(folder.name + ".part")
        if self._rank:
            self._follow(folder, part, make if together else None)
            self._finished[name] = folder
            return folder
        with storage_errors(self.out):
            if folder.exists() and STAGES.index(name) >= self._redo:
                shutil.rmtree(folder)
                shutil.rmtree(part, ignore_errors=True)
            if not folder.exists():
                part.mkdir(exist_ok=True)
                make(part)
                for path in part.rglob("*"):
                    sync(path)
                sync(part)
                part.rename(folder)
                sync(self._stages)
        self._finished[name] = folder
        return folder

    def _follow(self, folder: Path, part: Path, make: Callable[[Path], None] | None) -> None:
        """Wait for the first process to finish the stage, taking part in it if `make` is given."""
        while make is not None and not (folder.exists() or part.exists()):
            time.sleep(_POLL_S)
        if make is not None and not folder.exists():
            make(part)
        while not folder.exists():
            time.sleep(_POLL_S)

    def has_finished(self, name: str) -> bool:
        """Whether this run has been through the stage `name`."""
        return name in self._finished

    def finished(self, name: str) -> Path:
        """Return the folder of a stage that this run has been through."""
        return self._finished[name]


def require_free(out: Path) -> None:
    """Raise RecipeError when `out` holds a run already."""
    if (out / "stages").exists():
        raise RecipeError(
            f"{out} already holds a run", hint="--resume continues it; --from STAGE redoes a part; --out DIR starts elsewhere"
        )


class storage_errors:  # noqa: N801  a context manager that reads like a statement
    """Turn "no space left", "read-only file system" and quota errors into a StorageError that names the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, OSError):
            if isinstance(error, Exception) and not isinstance(error, EdgegenError) and self._tells_of_a_full_disk(error):
                raise StorageError(f"the disk of {self._folder} is full", hint=_FREE_SPACE) from error
            return
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"the disk of {self._folder} is full", hint=_FREE_SPACE) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR):
            raise StorageError(
                f"{self._folder} cannot be written: {error.strerror}", hint="choose another folder with --out"
            ) from error

    def _tells_of_a_full_disk(self, error: Exception) -> bool:
        """Libraries that write files have errors of their own for it, or write less than they should and fail later."""
        if any(words in str(error) for words in _FULL_WORDS):
            return True
        try:
            return shutil.disk_usage(self._folder).free < _FULL_BYTES
        except OSError:
            return False


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def sync(path: Path) -> None:
    """Return when a file, or the entries of a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
