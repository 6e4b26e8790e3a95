"""The grid of layers measured on a device: tiny models are made here, and timed there by `edgegen.runtime`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgegen.bench.children import call_runtime
from edgegen.bench.snippet_artifacts import TIMED_IN, require_timed, snippet_artifact
from edgegen.device import Board, Transport, leased, make_ready, recognise
from edgegen.device.probe import shell
from edgegen.errors import DeviceError, LinkLostError, RecipeError, TargetError
from edgegen.latency import MeasuredTable
from edgegen.latency.grid import Grid, measure_grid
from edgegen.latency.snippets import Snippet
from edgegen.latency.table import CALL, fingerprint_digest
from edgegen.progress import Progress
from edgegen.runtime.snippets import LIST_NAME
from edgegen.spec import Backend, Precision
from edgegen.target import load_target

_IN_TURN = 24  # a fresh process there and a copy cost seconds, whatever they carry
_LAYERS_AT_A_TIME = 8
_LIMIT_S = 1800.0
_FACTS = ("cpu", "board", "machine", "os", "cpu_governor", "power_mode", "emulated")


@dataclasses.dataclass(frozen=True)
class _Packed:
    """A snippet as it travels: what the runtime must know of it, and its files."""

    listed: Mapping[str, Any]
    contents: Mapping[str, bytes]


class BoardClock:
    """Times layers on a device in one of its back ends, in a fresh process for every few of them. See LayerClock."""

    in_turn = _IN_TURN

    def __init__(self, board: Board, target_id: str, backend: Backend, threads: int) -> None:
        self._board, self._target, self._backend, self._threads = board, target_id, backend, threads
        self._folder = board.transport.folder()
        self._packed: dict[Snippet, _Packed] = {}

    def fingerprint(self) -> dict[str, Any]:
        """Return target, processor, board, system, governor, power mode, back end and threads; and whether it is emulated."""
        found = self._measured([CALL])
        try:
            facts = {name: found["machine"].get(name) for name in _FACTS}
            ran = found["ran"]
            package = {"package": ran["package"]} if "package" in ran else {}  # LiteRT has two, with kernels of their own
            return {"target": self._target, **facts, "backend": ran["backend"], **package, "version": ran["version"],
                    "threads": self._threads}  # fmt: skip
        except (KeyError, TypeError, AttributeError) as problem:
            raise self._no_times(problem) from problem

    def seconds(self, snippets: Sequence[Snippet]) -> list[float]:
        """See LayerClock."""
        found = self._measured(snippets)
        try:
            taken = [int(ns) for ns in found["ns"]]
            if len(taken) != len(snippets) or min(taken) < 0:
                raise ValueError(f"{len(taken)} times for {len(snippets)} models")
        except (KeyError, TypeError, ValueError) as problem:
            raise self._no_times(problem) from problem
        return [ns * 1e-9 for ns in taken]

    def _measured(self, snippets: Sequence[Snippet]) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as scratch:
            packed = Path(scratch, "snippets.zip")
            _pack([self._made(snippet) for snippet in snippets], packed)
            goal = f"{self._folder}/snippets-{hashlib.sha256(packed.read_bytes()).hexdigest()[:16]}.zip"
            self._board.transport.push(packed, goal)
        found = call_runtime(self._board, "snippets", goal, "--threads", str(self._threads), seconds=_LIMIT_S)
        shell(self._board.transport, 'rm -f "$(dirname "$1")"/snippets-*.zip', goal)  # and what a lost link left of earlier ones
        return found

    def _made(self, snippet: Snippet) -> _Packed:
        """Return the files of a snippet; the one of the fingerprint is in every table as well, so it is kept."""
        if snippet in self._packed:
            return self._packed[snippet]
        with tempfile.TemporaryDirectory() as scratch:
            made = snippet_artifact(snippet, self._backend, Path(scratch))
            contents = {name: (made.folder / name).read_bytes() for name in made.entry.files}
        packed = _Packed({"artifact": made.entry.to_json(), "caches": "cold" if snippet.cold else "warm"}, contents)
        if snippet == CALL:
            self._packed[snippet] = packed
        return packed

    def _no_times(self, problem: Exception) -> DeviceError:
        fact = f"what {self._board.name} printed is no measurement ({type(problem).__name__}: {problem})"
        return DeviceError(fact, hint="is another edgegen installed there?")


def measure_board_grid(
    transport: Transport, target_id: str | None, folder: Path, *, precision: Precision, threads: int, progress: Progress,
    backend: Backend | None = None, grid: Grid | None = None,
) -> MeasuredTable:  # fmt: skip
    """Measure on the device what `folder` lacks of `grid` (None: the whole one) in `backend` (None: the one that its target
    prefers), and return the table. `target_id` says what the device is, None: its own files tell.

    Lines are kept in `folder` under the fingerprint of the device, a few at a time: after an end of any kind the same call goes
    on. Raises LinkLostError for a link that breaks, MissingExtraError where the device or this machine lacks the back end,
    RecipeError for one that layers are not timed in or that the target never runs.
    """
    with leased(transport):
        board, target = make_ready(transport), recognise(transport, target_id).id
        clock = BoardClock(board, target, _chosen(target, backend), threads)
        made_on = fingerprint_digest(clock.fingerprint())
        path = folder / f"grid-{target}-{made_on}-{precision.value}.json"
        table = MeasuredTable(path, precision, threads=threads, cache=folder, clock=clock)
        try:
            measure_grid(table, grid or Grid(), progress, at_a_time=_LAYERS_AT_A_TIME)
        except LinkLostError as failure:
            raise LinkLostError(
                failure.message, hint=f"what was measured is kept in {folder}: the same command goes on from there"
            ) from failure
    return table


def _chosen(target_id: str, wanted: Backend | None) -> Backend:
    """Return the back end to time layers in: the one that is wanted, or the target's own; refuse what is of no use."""
    try:
        known = [support.id for support in load_target(target_id).backends]
    except TargetError:  # a board that nobody recognised
        known = list(TIMED_IN)
    chosen = wanted or known[0]
    require_timed(chosen)
    if chosen not in known:
        raise RecipeError(
            f"{target_id} does not run {chosen.value}, so nothing would take such a table",
            hint=f"it runs {', '.join(backend.value for backend in known)}",
        )
    return chosen


def _pack(snippets: Sequence[_Packed], packed: Path) -> None:
    """Write the models with what the runtime must know of them."""
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for number, snippet in enumerate(snippets):
            for name, content in snippet.contents.items():
                archive.writestr(f"{number}/{name}", content)
        archive.writestr(LIST_NAME, json.dumps({"snippets": [dict(snippet.listed) for snippet in snippets]}))
