"""Who works when, with workers that do nothing but tell."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edgegen.errors import RecipeError
from edgegen.progress import Silent
from edgegen.sweep.schedule import run_units
from edgegen.sweep.store import Store
from edgegen.sweep.units import Unit

SHARED = Unit("s" * 64, "shared", "a", None, None, alone=False, job={})
DONE = {"status": "done", "exit_code": 0}


def unit(letter: str, *, alone: bool = False, after: str | None = SHARED.key) -> Unit:
    return Unit(letter * 64, "finish", letter, 0.01, after, alone=alone, job={})


class TellingWorkers:
    """Ends units in the order of their start. `ends` holds, by first letter, what each try of a unit comes to: a result, or
    the word that its worker died of; the last one stands for all later tries."""

    def __init__(self, store: Store, ends: dict[str, list[Any]], slots: int = 2) -> None:
        self.slots, self._store, self._ends = slots, store, ends
        self._running: list[Unit] = []
        self.started: list[tuple[str, str | None]] = []
        self.beside: list[set[str]] = []
        self.closed = False

    def start(self, unit: Unit, after: Unit | None) -> None:
        self._running.append(unit)
        self.started.append((unit.key[0], after and after.key[0]))
        self.beside.append({u.key[0] for u in self._running})

    def wait(self) -> tuple[Unit, str | None]:
        unit = self._running.pop(0)
        ends = self._ends.get(unit.key[0], [DONE])
        end = ends.pop(0) if len(ends) > 1 else ends[0]
        if isinstance(end, BaseException):
            raise end
        if isinstance(end, str):
            return unit, end
        (self._store.part(unit) / "result.json").write_text(json.dumps(end))
        return unit, None

    def close(self) -> None:
        self.closed = True


def run(tmp_path: Path, units: Sequence[Unit], finished: dict | None = None, **options: Any) -> tuple[dict, TellingWorkers]:
    store = Store(tmp_path / "out", resume=True)
    workers = TellingWorkers(store, options.pop("ends", {}), **options)
    results = run_units(units, finished or {}, store, workers, Silent())
    return {key[0]: result for key, result in results.items()}, workers


def test_shared_work_comes_first_and_is_handed_on(tmp_path: Path) -> None:
    results, workers = run(tmp_path, [SHARED, unit("x"), unit("y")])
    assert workers.started == [("s", None), ("x", "s"), ("y", "s")] and workers.closed
    assert {result["status"] for result in results.values()} == {"done"}


def test_no_more_run_at_a_time_than_there_are_workers(tmp_path: Path) -> None:
    _, workers = run(tmp_path, [SHARED, *(unit(letter) for letter in "uvwxyz")], slots=2)
    assert max(map(len, workers.beside)) == 2


def test_what_is_measured_here_has_the_machine_to_itself(tmp_path: Path) -> None:
    _, workers = run(tmp_path, [SHARED, unit("x"), unit("y"), unit("a", alone=True), unit("b", alone=True)], slots=4)
    assert {"a"} in workers.beside and {"b"} in workers.beside
    assert all(len(beside) == 1 for beside in workers.beside if beside & {"a", "b"})


def test_a_dead_worker_costs_its_unit_one_try_and_nobody_else_anything(tmp_path: Path) -> None:
    results, workers = run(tmp_path, [SHARED, unit("x"), unit("y")], ends={"x": ["SIGKILL", DONE]})
    assert results["x"] == results["y"] == DONE
    assert [key for key, _ in workers.started].count("x") == 2 and len(workers.started) == 4


def test_a_unit_that_always_dies_is_given_up_and_the_others_are_done(tmp_path: Path) -> None:
    results, workers = run(tmp_path, [SHARED, unit("x"), unit("y")], ends={"x": ["SIGKILL"]})
    assert results["y"] == DONE and "died 3 times (SIGKILL)" in results["x"]["error"]
    assert [key for key, _ in workers.started].count("x") == 3


def test_a_failure_stops_nobody_and_one_that_is_no_finding_is_tried_again_by_resume(tmp_path: Path) -> None:
    budget = {"status": "failed", "error": "too slow", "exit_code": 4}
    disk = {"status": "failed", "error": "full", "exit_code": 12}
    units = [SHARED, unit("x"), unit("y"), unit("z")]
    results, _ = run(tmp_path, units, ends={"x": [budget], "y": [disk]})
    assert [results[letter]["status"] for letter in "xyz"] == ["failed", "failed", "done"]
    store = Store(tmp_path / "out", resume=True)
    assert [store.read(u) is not None for u in units] == [True, True, False, True]


def test_when_the_shared_work_fails_the_others_do_it_themselves(tmp_path: Path) -> None:
    failed = {"status": "failed", "error": "?", "exit_code": 9}
    _, workers = run(tmp_path, [SHARED, unit("x")], ends={"s": [failed]})
    assert workers.started == [("s", None), ("x", None)]


def test_finished_work_is_not_done_again(tmp_path: Path) -> None:
    _, workers = run(tmp_path, [SHARED, unit("x"), unit("y")], {SHARED.key: DONE, "x" * 64: DONE})
    assert workers.started == [("y", "s")]


def test_an_interruption_stops_the_workers(tmp_path: Path) -> None:
    store = Store(tmp_path / "out", resume=True)
    workers = TellingWorkers(store, {"x": [KeyboardInterrupt()]})
    with pytest.raises(KeyboardInterrupt):
        run_units([SHARED, unit("x")], {}, store, workers, Silent())
    assert workers.closed


def test_a_folder_that_holds_a_sweep_is_not_written_to_without_resume(tmp_path: Path) -> None:
    store = Store(tmp_path / "out", resume=False)
    Store(tmp_path / "out", resume=False)  # nothing was begun yet
    store.part(SHARED)
    with pytest.raises(RecipeError, match="already holds a sweep"):
        Store(tmp_path / "out", resume=False)


def test_when_the_training_of_a_nest_fails_its_students_fail_with_it_and_others_go_on(tmp_path: Path) -> None:
    nest = Unit("n" * 64, "nest", "a", None, None, alone=False, job={})
    failed = {"status": "failed", "error": "the loss is NaN", "exit_code": 11}
    results, workers = run(
        tmp_path, [nest, unit("b", after=nest.key), unit("c", after=nest.key), unit("d", after=None)], ends={"n": [failed]}
    )
    assert {letter for letter, _ in workers.started} == {"n", "d"}
    assert results["b"] == results["c"] == failed and results["d"] == DONE
