"""The child of `edgegen.trial`: `python -m edgegen.trial_child FOLDER TASK`. It says what it is at before it touches anything."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edgegen.bench.interleaved import clock_of, time_interleaved
from edgegen.runtime.errors import RuntimeBundleError
from edgegen.runtime.manifest import ArtifactEntry
from edgegen.runtime.runners import Runner, open_runner

_ROUNDS = (8, 30)
_SECONDS = 30.0  # of timing, about: slow candidates get fewer rounds


def main(folder: Path, task: dict[str, Any]) -> None:
    """Go through the jobs of the task; every event is a line of JSON."""
    jobs = json.loads((folder / "jobs.json").read_text())
    if task["task"] == "build":
        _build(folder, jobs[0], task["lost"])
    elif task["task"] == "run":
        for index in task["indexes"]:
            _run(folder, jobs[index], index)
    else:
        _time(folder, {index: jobs[index] for index in task["indexes"]}, task["threads"])


def _build(folder: Path, job: dict[str, Any], lost: dict[str, str]) -> None:
    """Build the LiteRT candidates that are not in `lost`, into the folder that the job names."""
    from edgegen.artifact import save_artifacts
    from edgegen.errors import ExportError, MissingExtraError
    from edgegen.export.tflite import Int8Form, LitertSettings, export_litert
    from edgegen.generator import load_generator
    from edgegen.pictures import adapt
    from edgegen.ranges import LearnedRange
    from edgegen.rewrite import lower
    from edgegen.spec import Backend, Precision

    try:
        student = load_generator(folder / "student")
        lowered = lower(student, Backend.LITERT)
        given = [tuple(arrays) for arrays in _inputs(folder, job, 0)] if job["inputs"] else []
        settings = {**job["settings"], "forms": tuple(Int8Form(form) for form in job["settings"]["forms"])}
        made = export_litert(
            lowered,
            tuple(Precision(p) for p in job["precisions"]),
            [adapt(item, student.spec, lowered.spec) for item in given],
            Path(job["out"]),
            [LearnedRange(**one) for one in job["learned"]],
            LitertSettings(**settings),
            begin=lambda name: _tell("at", 0, name=name),
            lost=lost,
        )
    except (ExportError, MissingExtraError) as problem:
        _tell("failed", 0, kind=type(problem).__name__, why=problem.message, hint=problem.hint)
        return
    save_artifacts(made, Path(job["out"]))
    _tell("done", 0)


def _run(folder: Path, job: dict[str, Any], index: int) -> None:
    _tell("at", index)
    try:
        runner = _open(job, 0)
        outputs = [runner.run(given)[0] for given in _inputs(folder, job, index)]
        np.savez(folder / f"outputs-{index}.npz", *outputs)
        (folder / f"ran-{index}.json").write_text(json.dumps(runner.describe()))
        runner.close()
    except RuntimeBundleError as problem:
        _tell("failed", index, why=problem.message)
        return
    _tell("done", index)


def _time(folder: Path, jobs: dict[int, dict[str, Any]], threads: int) -> None:
    clock, runners, spent = clock_of(threads), dict[int, Runner](), 0.0
    given = {index: _inputs(folder, job, index)[0] for index, job in jobs.items()}
    for index, job in jobs.items():
        _tell("at", index)
        try:
            runners[index] = _open(job, threads)
            runners[index].run(given[index])
            begin = clock()
            runners[index].run(given[index])
            spent += (clock() - begin) * 1e-9
        except RuntimeBundleError as problem:
            _tell("failed", index, why=problem.message)
            runners.pop(index, None)
    rounds = int(max(_ROUNDS[0], min(_ROUNDS[1], _SECONDS / (2 * spent)))) if spent else _ROUNDS[1]
    last = list[int]()

    def call(index: int) -> None:
        if last != [index]:  # before each timed run comes an untimed one, so this line is in no measurement
            _tell("at", index)
            last[:] = [index]
        runners[index].run(given[index])

    calls = {str(index): (lambda i=index: call(i)) for index in runners}
    for name, taken in time_interleaved(calls, rounds=rounds, clock=clock).items():
        _tell("timed", int(name), seconds=float(np.median(taken)) * 1e-9)


def _open(job: dict[str, Any], threads: int) -> Runner:
    return open_runner(job["folder"], ArtifactEntry.from_json(job["entry"]), threads)


def _inputs(folder: Path, job: dict[str, Any], index: int) -> list[list[np.ndarray]]:
    with np.load(folder / f"inputs-{index}.npz", allow_pickle=False) as stored:
        count = len(stored.files) // job["inputs"]
        arrays = [stored[name] for name in stored.files]
    return [arrays[case * count : (case + 1) * count] for case in range(job["inputs"])]


def _tell(event: str, index: int, **more: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, "index": index, **more}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
