"""Candidates built and tried in child processes: a converter or run-time that dies takes its own candidate with it and no other.

All candidates of a run share a child, one after the other and, for times, in turn; when it dies, the one it was at is lost and a
new child goes on with the rest.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import edgegen
from edgegen.artifact import Artifact, load_artifacts
from edgegen.errors import ExportError, MissingExtraError
from edgegen.generator import Generator, save_generator
from edgegen.pictures import Arrays
from edgegen.ranges import LearnedRange
from edgegen.runtime.manifest import ArtifactEntry
from edgegen.spec import Precision

_TAIL = 300


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


@dataclasses.dataclass(frozen=True)
class Building:
    """What LiteRT candidates are built of: the student as it is stored, inputs in its layout, and what is asked for.

    `settings` are the keywords of `edgegen.export.tflite.LitertSettings`, forms by value.
    """

    student: Generator
    precisions: tuple[Precision, ...]
    calibration: tuple[Arrays, ...]
    learned: tuple[LearnedRange, ...]
    settings: dict[str, Any]


def build_litert(what: Building, out_dir: Path) -> list[Artifact]:
    """Return the LiteRT artifacts in `out_dir`. A candidate whose converter kills its process is `lost`, and no other.

    Raises ExportError if the converter dies before it gets to a candidate, and what it refuses.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder, lost = Path(name), dict[str, str]()
        _write_building(folder, what, out_dir)
        while True:
            events, death = _child(folder, [0], {"task": "build", "lost": lost}, lambda: None)
            refused = next((e for e in events if e["event"] == "failed"), None)
            if refused is not None:
                kind = {c.__name__: c for c in (ExportError, MissingExtraError)}[refused["kind"]]
                raise kind(refused["why"], hint=refused["hint"])
            if death is None:
                made = load_artifacts(out_dir)
                (out_dir / "artifacts.json").unlink()  # the child's answer; whoever keeps artifacts writes their own list
                return made
            at = next((e["name"] for e in reversed(events) if e["event"] == "at"), None)
            if at is None:
                raise ExportError(
                    f"LiteRT's converter {death} before any candidate was built", hint="another back end may take it: --backend"
                )
            lost[at] = f"its converter {death}"


def _write_building(folder: Path, what: Building, out_dir: Path) -> None:
    (folder / "student").mkdir()
    save_generator(what.student, folder / "student")
    np.savez(folder / "inputs-0.npz", *[array for given in what.calibration for array in given])
    told = {
        "out": str(out_dir.resolve()),
        "precisions": [p.value for p in what.precisions],
        "inputs": len(what.calibration),
        "learned": [dataclasses.asdict(one) for one in what.learned],
        "settings": what.settings,
    }
    (folder / "jobs.json").write_text(json.dumps([told]))


def run_all(jobs: Sequence[Job], done: Callable[[], None] = lambda: None) -> list[Given | Crash]:
    """Run every job on all of its inputs; `done` is called after each. What fails or kills its process gives a Crash."""
    with tempfile.TemporaryDirectory() as name:
        folder, lost = Path(name), dict[int, Crash]()
        _write(folder, jobs)
        waiting = list(range(len(jobs)))
        while waiting:
            events, death = _child(folder, waiting, {"task": "run"}, done)
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
            events, death = _child(folder, waiting, {"task": "time", "threads": threads}, lambda: None)
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


def _child(
    folder: Path, waiting: Sequence[int], task: dict[str, Any], done: Callable[[], None]
) -> tuple[list[dict[str, Any]], str | None]:
    """Let a child go through the jobs of `waiting`; return what it told and, if it died, how."""
    root = Path(edgegen.__file__).resolve().parents[1]  # -m finds the package in the working directory, installed or not
    line = [sys.executable, "-m", "edgegen.trial_child", str(folder), json.dumps({**task, "indexes": list(waiting)})]
    events: list[dict[str, Any]] = []
    with (
        (folder / "stderr").open("w+") as errors,
        subprocess.Popen(line, cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True) as child,
    ):
        assert child.stdout is not None
        for text in child.stdout:
            if text.startswith('{"event"'):  # run-times print what they like
                events.append(json.loads(text))
                if events[-1]["event"] in ("done", "failed"):
                    done()
        code = child.wait()
        errors.seek(0)
        told = [row.strip() for row in errors.read().splitlines() if row.strip()]
    if code == 0:
        return events, None
    if code < 0:
        return events, f"crashed ({_signal_name(-code)})"
    return events, f"stopped with exit code {code} ({told[-1][:_TAIL] if told else 'no message'})"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _at(events: Sequence[dict[str, Any]], waiting: Sequence[int]) -> int:
    """Return the job that the child was at when it died; the first one if it did not get that far."""
    return next((e["index"] for e in reversed(events) if e["event"] == "at"), waiting[0])


def _given(folder: Path, index: int) -> Given:
    with np.load(folder / f"outputs-{index}.npz", allow_pickle=False) as stored:
        outputs = tuple(stored[name] for name in stored.files)
    return Given(outputs, json.loads((folder / f"ran-{index}.json").read_text()))
