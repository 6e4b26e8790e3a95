"""Measure one bundle on several devices at once: each gives a record or an error, and none stops the others."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edgegen.bench import BenchPlan, Record, measure_bundle
from edgegen.device import UNKNOWN, Member, Transport, open_transport
from edgegen.errors import DeviceError, EdgegenError, LinkLostError
from edgegen.progress import Progress
from edgegen.report.boards import BoardRow, render_boards
from edgegen.workspace import storage_errors

PAGE_NAME = "devices.html"
Opener = Callable[..., Transport]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one device gave: a record, a failure, or both where the link was lost half-way. `record_path` is where it lies."""

    member: Member
    record: Record | None = None
    failure: EdgegenError | None = None
    record_path: Path | None = None

    @property
    def good(self) -> bool:
        """Whether there are timings of an artifact that passes its cases."""
        return self.failure is None and self.record is not None and self.record.latency_ms is not None


def measure_fleet(
    bundle: Path,
    plan: BenchPlan,
    members: Sequence[Member],
    *,
    out: Path | None = None,
    progress: Mapping[str, Progress] | None = None,
    opener: Opener = open_transport,
) -> tuple[Outcome, ...]:
    """Measure the bundle on all `members` at the same time and return what each gave, in their order.

    With the folder `out`, records go to NAME.json in it and a page that compares them to devices.html. `progress` has one
    entry per name. Ctrl-C ends what runs on every device before it goes on its way.
    """
    stop = threading.Event()

    def measure(member: Member) -> Outcome:
        path = None if out is None else out / f"{file_name(member.name)}.json"
        transport = opener(member.address, stop=stop)
        shown = None if progress is None else progress[member.name]
        try:
            record = measure_bundle(bundle, plan, transport=transport, target_id=member.target, out=path, progress=shown)
        except EdgegenError as failure:
            return Outcome(member, failure=failure)
        finally:
            transport.close()
        return Outcome(member, record, _shortfall(record), path)

    with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, len(members))) as pool:
        running = [pool.submit(measure, member) for member in members]
        try:
            outcomes = tuple(future.result() for future in running)
        except BaseException:
            stop.set()
            raise
    if out is not None:
        _write_page(out / PAGE_NAME, render_boards(bundle.name, board_rows(outcomes)))
    return outcomes


def board_rows(outcomes: Sequence[Outcome]) -> tuple[BoardRow, ...]:
    """Return the rows of the comparison, fastest first, those without times last."""
    rows = [_row(outcome) for outcome in outcomes]
    return tuple(sorted(rows, key=lambda row: (row.p50_ms is None, row.p50_ms or 0.0)))


def failed(outcomes: Sequence[Outcome]) -> EdgegenError | None:
    """Return the error that says which devices gave no times; None if all did."""
    bad = [outcome for outcome in outcomes if not outcome.good]
    if not bad:
        return None
    if len(outcomes) == 1 and bad[0].failure is not None:
        return bad[0].failure
    names = ", ".join(outcome.member.name for outcome in bad)
    first = bad[0].failure
    hint = "" if first is None else first.hint
    if any(outcome.record is not None and outcome.record.is_partial for outcome in bad):
        return DeviceError(f"{len(bad)} of {len(outcomes)} devices were not measured to the end: {names}", hint=hint)
    return DeviceError(f"{len(bad)} of {len(outcomes)} devices gave no times: {names}", hint=hint)


def file_name(name: str) -> str:
    """Return `name` as the stem of a file: "ssh://pi@kitchen" becomes "pi-kitchen"."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", name.removeprefix("ssh://").removeprefix("adb://")).strip("-.") or "device"


def _write_page(path: Path, page: str) -> None:
    part = path.with_name(f".{path.name}.part")
    with storage_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(page, encoding="utf-8")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _shortfall(record: Record) -> EdgegenError | None:
    """A partial record keeps its times, and its device has not been measured all the same."""
    if record.is_partial:
        return LinkLostError(record.validity.reasons[0], hint="the record holds what was measured before")
    if record.latency_ms is not None:
        return None
    return DeviceError(record.validity.reasons[0] if record.validity.reasons else "no times", hint="")


def _row(outcome: Outcome) -> BoardRow:
    record, name = outcome.record, outcome.member.name
    if record is None:
        problem = "" if outcome.failure is None else outcome.failure.message
        return BoardRow(name, outcome.member.target, problem=problem)
    times, sustained = record.latency_ms, None if record.latency_ms is None else record.latency_ms.sustained
    return BoardRow(
        name, None if record.target.id == UNKNOWN else record.target.id,
        board=record.target.board or record.target.cpu,
        runtime=f"{record.target.runtime.name} {record.target.runtime.version.partition('-')[0]}",
        worst_case_db=record.quality.psnr_db_min if record.quality.passed else None,
        p50_ms=None if sustained is None else sustained.p50,
        predicted_ms=None if record.prediction is None else record.prediction.predicted_ms,
        p90_ms=None if sustained is None else sustained.p90,
        p99_ms=None if sustained is None else sustained.p99,
        burst_ms=None if times is None else times.burst.p50,
        first_ms=None if record.cold is None else max(record.cold.first_inference_ms, default=None),
        memory_bytes=record.memory.vm_hwm_bytes,
        valid=record.validity.valid, partial=record.is_partial,
        problem="; ".join(record.validity.reasons),
        warnings=record.validity.warnings,
    )  # fmt: skip
