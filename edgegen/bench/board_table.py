"""The grid of layers measured on a device: tiny models are made here, and timed there by `edgegen.runtime`."""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgegen.bench.children import call_runtime
from edgegen.device import Board, Transport, leased, make_ready, recognise
from edgegen.device.probe import shell
from edgegen.errors import DeviceError, LinkLostError, RecipeError, TargetError
from edgegen.latency import MeasuredTable
from edgegen.latency.clock import Timed
from edgegen.latency.grid import Grid, measure_grid
from edgegen.latency.snippets import source_model
from edgegen.latency.table import fingerprint_digest
from edgegen.progress import Progress
from edgegen.runtime.manifest import ArtifactEntry
from edgegen.runtime.snippets import LIST_NAME
from edgegen.spec import Backend, ComponentSpec, Kind, Layout, Precision, TensorSpec
from edgegen.target import load_target

_IN_TURN = 24  # a fresh process there and a copy cost seconds, whatever they carry
_LAYERS_AT_A_TIME = 8
_LIMIT_S = 1800.0
_FACTS = ("cpu", "board", "machine", "os", "cpu_governor", "power_mode", "emulated")


class BoardClock:
    """Times OpenVINO models on a device, in a fresh process for every few of them. See LayerClock."""

    in_turn = _IN_TURN

    def __init__(self, board: Board, target_id: str, threads: int) -> None:
        self._board, self._target, self._threads = board, target_id, threads
        self._folder = board.transport.folder()

    def fingerprint(self) -> dict[str, Any]:
        """Return target, processor, board, system, governor, power mode, back end and threads; and whether it is emulated."""
        found = self._measured([Timed(source_model(4, 1, 1, "float"), cold=False)])
        try:
            facts = {name: found["machine"].get(name) for name in _FACTS}
            return {"target": self._target, **facts, "backend": found["ran"]["backend"], "version": found["ran"]["version"],
                    "threads": self._threads}  # fmt: skip
        except (KeyError, TypeError, AttributeError) as problem:
            raise self._no_times(problem) from problem

    def seconds(self, models: Sequence[Timed]) -> list[float]:
        """See LayerClock."""
        found = self._measured(models)
        try:
            taken = [int(ns) for ns in found["ns"]]
            if len(taken) != len(models) or min(taken) < 0:
                raise ValueError(f"{len(taken)} times for {len(models)} models")
        except (KeyError, TypeError, ValueError) as problem:
            raise self._no_times(problem) from problem
        return [ns * 1e-9 for ns in taken]

    def _measured(self, models: Sequence[Timed]) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as scratch:
            packed = Path(scratch, "snippets.zip")
            _pack(models, packed, Path(scratch))
            goal = f"{self._folder}/snippets-{hashlib.sha256(packed.read_bytes()).hexdigest()[:16]}.zip"
            self._board.transport.push(packed, goal)
        found = call_runtime(self._board, "snippets", goal, "--threads", str(self._threads), seconds=_LIMIT_S)
        shell(self._board.transport, 'rm -f "$(dirname "$1")"/snippets-*.zip', goal)  # and what a lost link left of earlier ones
        return found

    def _no_times(self, problem: Exception) -> DeviceError:
        fact = f"what {self._board.name} printed is no measurement ({type(problem).__name__}: {problem})"
        return DeviceError(fact, hint="is another edgegen installed there?")


def measure_board_grid(
    transport: Transport, target_id: str | None, folder: Path, *, precision: Precision, threads: int, progress: Progress,
    grid: Grid | None = None,
) -> MeasuredTable:  # fmt: skip
    """Measure on the device what `folder` lacks of `grid` (None: the whole one), and return the table. `target_id` says what the
    device is, None: its own files tell.

    Lines are kept in `folder` under the fingerprint of the device, a few at a time: after an end of any kind the same call goes
    on. Raises LinkLostError for a link that breaks, MissingExtraError where the device has no OpenVINO, RecipeError where its
    target never runs it.
    """
    with leased(transport):
        board, target = make_ready(transport), recognise(transport, target_id).id
        _require_openvino(target)
        clock = BoardClock(board, target, threads)
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


def _require_openvino(target_id: str) -> None:
    """Refuse a target on which no artifact will ever run in what layers are timed in."""
    try:
        known = [support.id for support in load_target(target_id).backends]
    except TargetError:  # a board that nobody recognised
        return
    if Backend.OPENVINO not in known:
        raise RecipeError(
            f"layers are timed in OpenVINO, which {target_id} does not run",
            hint=f"its latency is predicted from its profile ({', '.join(backend.value for backend in known)})",
        )


def _pack(models: Sequence[Timed], packed: Path, scratch: Path) -> None:
    """Write the models as IR with what the runtime must know of them."""
    import openvino

    listed = []
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for number, timed in enumerate(models):
            openvino.save_model(timed.model, scratch / "snippet.xml", compress_to_fp16=False)
            contents = {name: (scratch / name).read_bytes() for name in ("snippet.xml", "snippet.bin")}
            for name, content in contents.items():
                archive.writestr(f"{number}/{name}", content)
            entry = _entry(timed, {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()})
            listed.append({"artifact": entry.to_json(), "caches": "cold" if timed.cold else "warm"})
        archive.writestr(LIST_NAME, json.dumps({"snippets": listed}))


def _entry(timed: Timed, files: dict[str, str]) -> ArtifactEntry:
    io = ComponentSpec("snippet", tuple(map(_port, timed.model.inputs)), tuple(map(_port, timed.model.outputs)))
    settings = {"inference_precision": timed.arithmetic}
    return ArtifactEntry(Backend.OPENVINO.value, Precision.F32.value, "snippet.xml", files, io, settings)


def _port(port: Any) -> TensorSpec:
    shape = tuple(int(size) for size in port.shape)[1:]
    return TensorSpec("value", Kind.NOISE, shape, Layout.CHW if len(shape) == 3 else Layout.D)
