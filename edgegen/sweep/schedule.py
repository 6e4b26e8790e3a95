"""Who works when: units that are ready go to workers, a unit whose worker died goes again, and no failure stops the others."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from edgegen.sweep.store import Result, Store
from edgegen.sweep.units import Unit

if TYPE_CHECKING:
    from edgegen.progress import Progress

_TRIES = 3  # of a unit whose worker dies: memory pressure passes, a unit that always dies must not go on for ever


class Workers(Protocol):
    """Does units somewhere. At most `slots` may run at a time."""

    slots: int

    def start(self, unit: Unit, after: Unit | None) -> None:
        """Start a unit that goes on from the finished unit `after`."""
        ...

    def wait(self) -> tuple[Unit, str | None]:
        """Return the next unit that ended and, if it left no result, how its worker died."""
        ...

    def close(self) -> None:
        """Stop what still runs."""
        ...


def run_units(
    units: Sequence[Unit], finished: Mapping[str, Result], store: Store, workers: Workers, progress: Progress
) -> dict[str, Result]:
    """Return the results of all `units` by key: those in `finished`, and those that `workers` now bring about.

    A unit may start when the one it goes on from has ended; if that failed, it does that part itself and tells its own story,
    but a student of a nest has none: it fails with the nest.
    A unit whose worker dies goes again; whatever happens to it, the others go on.
    """
    by_key = {unit.key: unit for unit in units}
    results, tries = dict(finished), collections.Counter[str]()
    waiting, running = [unit for unit in units if unit.key not in results], list[Unit]()
    progress.start("sweep", len(units))
    progress.advance(len(results))
    try:
        while waiting or running:
            for unit in _ready(waiting, running, results, workers.slots):
                waiting.remove(unit)
                running.append(unit)
                tries[unit.key] += 1
                gone_on = unit.after is not None and results[unit.after]["status"] == "done"
                workers.start(unit, by_key[unit.after] if gone_on and unit.after else None)
            unit, died = workers.wait()
            running.remove(unit)
            if died is not None and tries[unit.key] < _TRIES:
                progress.note(f"the worker of {unit.name} died ({died}); its unit starts again")
                waiting.insert(0, unit)
                continue
            results[unit.key] = store.finish(unit) if died is None else _dead(died)
            progress.advance()
            progress.note(f"{unit.name}: {results[unit.key].get('verdict') or results[unit.key]['status']}")
            for lost in _lost_with(unit, results, waiting):
                waiting.remove(lost)
                results[lost.key] = results[unit.key]
                progress.advance()
    finally:
        workers.close()
    progress.finish()
    return results


def _ready(waiting: Sequence[Unit], running: Sequence[Unit], results: Mapping[str, Result], slots: int) -> Iterator[Unit]:
    """Yield what may start now. A unit that measures latency here waits until nothing else runs, and then runs alone."""
    going = list(running)
    for unit in list(waiting):
        free = len(going) < slots and not any(other.alone for other in going) and not (unit.alone and going)
        if free and (unit.after is None or unit.after in results):
            going.append(unit)
            yield unit


def _lost_with(unit: Unit, results: Mapping[str, Result], waiting: Sequence[Unit]) -> list[Unit]:
    """Return the units that cannot be done because `unit`, the training of their students, failed."""
    if unit.kind != "nest" or results[unit.key]["status"] == "done":
        return []
    return [other for other in waiting if other.after == unit.key]


def _dead(how: str) -> Result:
    return {"status": "failed", "error": f"the worker died {_TRIES} times ({how})", "hint": "fewer --workers need less memory",
            "exit_code": 1, "seconds": None}  # fmt: skip
