"""The procedure of `edgegen bench`: check, cold numbers in fresh processes, warm-up, burst, sustained runs, validity.

Every number comes from a process on the device that runs the code that runs there anyway, so this process with all its libraries
disturbs neither time nor memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgegen.bench.assemble import Found, Subject, assemble
from edgegen.bench.children import call_runtime
from edgegen.bench.plan import STANDARD_RUNS, STANDARD_SECONDS, BenchPlan
from edgegen.bench.record import Record
from edgegen.bench.record_file import Measured, write_record
from edgegen.bundle import bundle_digest, bundle_manifest, host_errors
from edgegen.device import Board, LocalTransport, Recognised, Transport, leased, make_ready, place_bundle, recognise
from edgegen.errors import DeviceError, LinkLostError
from edgegen.progress import Progress, Silent
from edgegen.runtime.device_state import Wanted

_STATE_S = 120.0  # nvpmodel and jetson_clocks take seconds


def bench(
    bundle: Path,
    *,
    backend: str | None = None,
    threads: int = 0,
    min_runs: int = STANDARD_RUNS,
    min_seconds: float = STANDARD_SECONDS,
) -> dict[str, Any]:
    """Measure the bundle and return the record as plain JSON (edgegen.bench/1); `measure_bundle` has all the settings."""
    plan = BenchPlan(backend=backend, threads=threads, min_runs=min_runs, min_seconds=min_seconds)
    return measure_bundle(bundle, plan).to_json()


def measure_bundle(
    bundle: Path,
    plan: BenchPlan,
    *,
    transport: Transport | None = None,
    target_id: str | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> Record:
    """Measure the bundle folder or .zip on a device and return the record; write it and the raw samples if `out` is given.

    `transport` leads to the device, None is this machine; `target_id` says what it is, None: its own files tell. A failing case
    withholds the timings: `latency_ms` is None and the record invalid. So is one that a lost link ended; it holds what was there
    by then. Raises BundleError for a bundle that cannot be opened, MissingExtraError without its back end, DeviceError for a
    device that cannot run it.
    """
    outs = None if out is None else [out]
    return measure_in_turn([bundle], plan, transport=transport, target_id=target_id, outs=outs, progress=progress)[0].record


def measure_in_turn(
    bundles: Sequence[Path],
    plan: BenchPlan,
    *,
    transport: Transport | None = None,
    target_id: str | None = None,
    outs: Sequence[Path] | None = None,
    progress: Progress | None = None,
) -> list[Measured]:
    """Do what `measure_bundle` does for several bundles, process by process in turn: A, B, A, B, so that a slow minute of the
    device hits all of them alike. Return the records with the run times of each process."""
    started, begin = datetime.datetime.now(datetime.timezone.utc), time.perf_counter()
    plan, subjects = plan.seeded(), [_subject(bundle, plan.backend) for bundle in bundles]
    device = transport or LocalTransport()
    with leased(device):
        board = make_ready(device)
        target = recognise(device, target_id, subjects[0].manifest.target)
        found = _measure(board, subjects, plan, progress or Silent())
    measured = []
    for index, (subject, one) in enumerate(zip(subjects, found, strict=True)):
        record = dataclasses.replace(
            _assembled(subject, plan, one, target),
            started_utc=started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            duration_s=round(time.perf_counter() - begin, 3),
        )
        if outs is not None:
            record = write_record(record, outs[index], one.samples() if one.warm else None)
        processes = tuple(np.asarray(run["sustained"]["samples_ns"], dtype=np.int64) for run in one.warm)
        measured.append(Measured(str(subject.path), record, processes))
    return measured


def _subject(bundle: Path, backend: str | None) -> Subject:
    manifest = bundle_manifest(bundle)
    with host_errors():
        return Subject(bundle, manifest, manifest.artifact(backend))


def _assembled(subject: Subject, plan: BenchPlan, found: Found, target: Recognised) -> Record:
    try:
        return assemble(subject, plan, found, target)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, ZeroDivisionError) as problem:
        fact = f"what {target.id} printed is no measurement ({type(problem).__name__}: {problem})"
        raise DeviceError(fact, hint="is another edgegen installed there?") from problem


def _measure(board: Board, subjects: Sequence[Subject], plan: BenchPlan, progress: Progress) -> list[Found]:
    places = [place_bundle(board, subject.path, bundle_digest(subject.path)) for subject in subjects]

    def call(index: int, command: str, *options: str) -> dict[str, Any]:
        common = plan.common_options(subjects[index].entry.name)
        return call_runtime(board, command, places[index], *common, *options, seconds=plan.child_limit_s)

    with _state(board, plan, progress) as renew:
        cool = _Cooling(board, plan)
        found = [Found(call(index, "check", "--json")) for index in range(len(subjects))]
        timed = [index for index, one in enumerate(found) if one.checked["passed"]]
        progress.start(
            "bench " + ", ".join(subject.entry.name for subject in subjects), len(timed) * (plan.cold_processes + plan.processes)
        )
        rounds = [("cold", ("--cold", *plan.cold_options()))] * plan.cold_processes
        rounds += [("warm", plan.warm_options())] * plan.processes
        try:
            for kind, options in rounds:
                for index in timed:
                    renew()
                    found[index].waits.extend(cool.wait())
                    getattr(found[index], kind).append(call(index, "time", *options))
                    progress.advance()
        except LinkLostError as failure:
            for one in found:
                one.lost = failure.message
        progress.finish()
    return found


class _Cooling:
    """What the zones of the device said at rest, before anything ran, and the wait until they do so again."""

    def __init__(self, board: Board, plan: BenchPlan) -> None:
        self._board, self._plan = board, plan
        self._rest_c = self._call() if plan.cool_wait_s > 0 else {}

    def wait(self) -> Iterator[dict[str, Any]]:
        """Yield how long the device took to cool down; nothing where no zone tells."""
        if self._rest_c:
            yield self._call("--rest", json.dumps(self._rest_c), "--seconds", str(self._plan.cool_wait_s))

    def _call(self, *options: str) -> dict[str, Any]:
        limit_s = self._plan.cool_wait_s + _STATE_S
        found = call_runtime(self._board, "cool", None, "--sensor-root", self._plan.sensor_root, *options, seconds=limit_s)
        return found if options else found.get("zones_c", {})


@contextlib.contextmanager
def _state(board: Board, plan: BenchPlan, progress: Progress) -> Iterator[Any]:
    """Change the state of the device as the plan wants it and bring it back afterwards, also after Ctrl-C.

    Should this process be killed, a watchdog on the device does it: at once on this machine, elsewhere when the lease ends. A
    state that an earlier measurement left is brought back first, in any case. Yields what renews the lease.
    """
    journal = () if plan.journal is None else ("--journal", plan.journal)
    if plan.wanted == Wanted():
        call_runtime(board, "release", None, *journal, "--token", secrets.token_hex(8), seconds=_STATE_S)
        yield lambda: None
        return
    token = secrets.token_hex(8)
    options = [*journal, "--token", token, "--seconds", str(plan.lease_s), "--root", plan.sensor_root]
    options += [] if plan.wanted.power_mode is None else ["--power-mode", plan.wanted.power_mode]
    options += [] if plan.wanted.governor is None else ["--governor", plan.wanted.governor]
    options += ["--fix-clocks"] if plan.wanted.fix_clocks else []
    if isinstance(board.transport, LocalTransport):
        options += ["--client", str(os.getpid())]
    call_runtime(board, "hold", None, *options, seconds=_STATE_S)
    try:
        yield lambda: call_runtime(board, "hold", None, *options, seconds=_STATE_S)
    finally:
        try:
            call_runtime(board, "release", None, *journal, "--token", token, seconds=_STATE_S)
        except LinkLostError:
            progress.note(f"{board.name} brings its state back by itself within {plan.lease_s:g} s")
