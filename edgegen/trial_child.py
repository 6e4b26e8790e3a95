"""The child of `edgegen.trial`: `python -m edgegen.trial_child FOLDER TASK`. It says what it is at before it touches anything."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edgegen.bench.interleaved import clock_of, time_interleaved
from edgegen.child_process import end_with_parent, tell
from edgegen.runtime.errors import RuntimeBundleError
from edgegen.runtime.manifest import ArtifactEntry
from edgegen.runtime.runners import Runner, open_runner

_ROUNDS = (8, 30)
_SECONDS = 30.0  # of timing, about: slow candidates get fewer rounds


def main(folder: Path, task: dict[str, Any]) -> None:
    """Go through the jobs of the task; every event is a line of JSON."""
    end_with_parent()
    jobs = json.loads((folder / "jobs.json").read_text())
    if task["task"] == "run":
        for index in task["indexes"]:
            _run(folder, jobs[index], index)
    else:
        _time(folder, {index: jobs[index] for index in task["indexes"]}, task["threads"])


def _run(folder: Path, job: dict[str, Any], index: int) -> None:
    tell("at", index=index)
    try:
        runner = _open(job, 0)
        outputs = [runner.run(given)[0] for given in _inputs(folder, job, index)]
        np.savez(folder / f"outputs-{index}.npz", *outputs)
        (folder / f"ran-{index}.json").write_text(json.dumps(runner.describe()))
        runner.close()
    except RuntimeBundleError as problem:
        tell("failed", index=index, why=problem.message)
        return
    tell("done", index=index)


def _time(folder: Path, jobs: dict[int, dict[str, Any]], threads: int) -> None:
    clock, runners, spent = clock_of(threads), dict[int, Runner](), 0.0
    given = {index: _inputs(folder, job, index)[0] for index, job in jobs.items()}
    for index, job in jobs.items():
        tell("at", index=index)
        try:
            runners[index] = _open(job, threads)
            runners[index].run(given[index])
            begin = clock()
            runners[index].run(given[index])
            spent += (clock() - begin) * 1e-9
        except RuntimeBundleError as problem:
            tell("failed", index=index, why=problem.message)
            runners.pop(index, None)
    rounds = int(max(_ROUNDS[0], min(_ROUNDS[1], _SECONDS / (2 * spent)))) if spent else _ROUNDS[1]
    last = list[int]()

    def call(index: int) -> None:
        if last != [index]:  # before each timed run comes an untimed one, so this line is in no measurement
            tell("at", index=index)
            last[:] = [index]
        runners[index].run(given[index])

    calls = {str(index): (lambda i=index: call(i)) for index in runners}
    for name, taken in time_interleaved(calls, rounds=rounds, clock=clock).items():
        tell("timed", index=int(name), seconds=float(np.median(taken)) * 1e-9)


def _open(job: dict[str, Any], threads: int) -> Runner:
    return open_runner(job["folder"], ArtifactEntry.from_json(job["entry"]), threads)


def _inputs(folder: Path, job: dict[str, Any], index: int) -> list[list[np.ndarray]]:
    with np.load(folder / f"inputs-{index}.npz", allow_pickle=False) as stored:
        count = len(stored.files) // job["inputs"]
        arrays = [stored[name] for name in stored.files]
    return [arrays[case * count : (case + 1) * count] for case in range(job["inputs"])]


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
