"""Candidates tried in child processes: a run-time that dies takes its own candidate with it and no other.

All candidates of a run share a child, one after the other and, for times, in turn; when it dies, the one it was at is lost and a
new child goes on with the rest.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgegen.child_process import run_child
from edgegen.pictures import Arrays
from edgegen.runtime.manifest import ArtifactEntry

_CHILD = "edgegen.trial_child"


@dataclasses.dataclass(frozen=True)
class Given:
    """What an artifact gave in its run-time: the first output for every input, batch axis 1, and what ran it."""

    outputs: tuple[np.ndarray, ...]
    ran: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Crash:
    """Why a candidate is lost: "crashed (SIGSEGV) while it ran"."""

    reason: str


@dataclasses.dataclass(frozen=True)
class Job:
    """An artifact's folder, its entry as it can run here, and the inputs it is run on, in its own layout."""

    folder: Path
    entry: ArtifactEntry
    inputs: tuple[Arrays, ...]


def run_all(jobs: Sequence[Job], done: Callable[[], None] = lambda: None) -> list[Given | Crash]:
    """Run every job on all of its inputs; `done` is called after each. What fails or kills its process gives a Crash."""
    with tempfile.TemporaryDirectory() as name:
        folder, lost = Path(name), dict[int, Crash]()
        _write(folder, jobs)
        waiting = list(range(len(jobs)))
        while waiting:
            task = {"task": "run", "indexes": waiting}
            events, death = run_child(_CHILD, folder, task, lambda e: done() if e["event"] in ("done", "failed") else None)
            finished = {e["index"] for e in events if e["event"] in ("done", "failed")}
            lost |= {e["index"]: Crash(e["why"]) for e in events if e["event"] == "failed"}
            if death is not None:
                at = _at(events, waiting)
                lost[at] = Crash(f"{death} while it ran")
                finished.add(at)
                done()
            waiting = [i for i in waiting if i not in finished]
        return [lost.get(i) or _given(folder, i) for i in range(len(jobs))]


def time_all(jobs: Sequence[Job], threads: int) -> list[float | Crash]:
    """Return the median seconds of each job on its first input, timed in turn round by round; Crash for those that failed."""
    with tempfile.TemporaryDirectory() as name:
        folder, lost, seconds = Path(name), dict[int, Crash](), dict[int, float]()
        _write(folder, jobs)
        while waiting := [i for i in range(len(jobs)) if i not in lost and i not in seconds]:
            task = {"task": "time", "threads": threads, "indexes": waiting}
            events, death = run_child(_CHILD, folder, task, lambda event: None)
            lost |= {e["index"]: Crash(e["why"]) for e in events if e["event"] == "failed"}
            seconds |= {e["index"]: e["seconds"] for e in events if e["event"] == "timed"}
            if death is not None:
                lost[_at(events, waiting)] = Crash(f"{death} while it was timed")
        return [lost[i] if i in lost else seconds[i] for i in range(len(jobs))]


def _write(folder: Path, jobs: Sequence[Job]) -> None:
    rows = [{"folder": str(job.folder.resolve()), "entry": job.entry.to_json(), "inputs": len(job.inputs)} for job in jobs]
    (folder / "jobs.json").write_text(json.dumps(rows))
    for index, job in enumerate(jobs):
        np.savez(folder / f"inputs-{index}.npz", *[array for given in job.inputs for array in given])


def _at(events: Sequence[dict[str, Any]], waiting: Sequence[int]) -> int:
    """Return the job that the child was at when it died; the first one if it did not get that far."""
    return next((e["index"] for e in reversed(events) if e["event"] == "at"), waiting[0])


def _given(folder: Path, index: int) -> Given:
    with np.load(folder / f"outputs-{index}.npz", allow_pickle=False) as stored:
        outputs = tuple(stored[name] for name in stored.files)
    return Given(outputs, json.loads((folder / f"ran-{index}.json").read_text()))
