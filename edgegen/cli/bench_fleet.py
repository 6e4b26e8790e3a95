"""How `edgegen bench --device ...` reaches devices, and what it prints when there are several."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgegen.cli import console

if TYPE_CHECKING:
    from edgegen.bench import BenchPlan
    from edgegen.device import Member, Transport
    from edgegen.fleet import Outcome


@contextlib.contextmanager
def way_to(member: Member) -> Iterator[tuple[Transport, str | None]]:
    """Give the transport to a device and the id of its target, None if nobody names it; what is held is given back at the end."""
    from edgegen.device import open_transport

    transport = open_transport(member.address)
    try:
        yield transport, target_of(member)
    finally:
        transport.close()


def target_of(member: Member) -> str | None:
    """Return the id of the target that the inventory names, checked; None if it names none."""
    from edgegen.errors import DeviceError, TargetError
    from edgegen.target import load_target

    if member.target is None:
        return None
    try:
        return load_target(member.target).id
    except TargetError as problem:
        raise DeviceError(f"{member.name}: {problem.message}", hint=problem.hint) from problem


def bench_fleet(bundle: Path, plan: BenchPlan, members: Sequence[Member], *, out: Path | None, as_json: bool) -> None:
    """Measure on all `members` at once, print one table, and end with an error if one of them gave no times."""
    import dataclasses

    from edgegen.fleet import PAGE_NAME, failed, measure_fleet

    checked = [dataclasses.replace(member, target=target_of(member)) for member in members]
    with console.progress_by_name([member.name for member in checked]) as progress:
        outcomes = measure_fleet(bundle, plan, checked, out=out, progress=progress)
    if as_json:
        console.json([_plain(outcome) for outcome in outcomes])
    else:
        _show(bundle, outcomes)
    if out is not None:
        console.note(f"records and {PAGE_NAME}: {out}")
    failure = failed(outcomes)
    if failure is not None:
        raise failure


def _plain(outcome: Outcome) -> dict[str, object]:
    failure = outcome.failure
    return {
        "device": outcome.member.name,
        "record": None if outcome.record is None else outcome.record.to_json(),
        "error": None if failure is None else {"message": failure.message, "hint": failure.hint, "exit_code": failure.exit_code},
    }


def _show(bundle: Path, outcomes: Sequence[Outcome]) -> None:
    from edgegen.fleet import board_rows
    from edgegen.report import numbers

    columns = ("device", "target", "cases", "median", "p90", "first run", "memory", "valid")
    rows = board_rows(outcomes)
    console.table(
        f"{bundle.name} on {len(rows)} devices",
        columns,
        [
            (
                row.name, f"{row.target or '–'}\n{row.runtime or '–'}",
                None if row.runtime is None else "FAIL" if row.worst_case_db is None else numbers.decibel(row.worst_case_db),
                numbers.milliseconds(row.p50_ms), numbers.milliseconds(row.p90_ms), numbers.milliseconds(row.first_ms),
                numbers.size(row.memory_bytes), "yes" if row.valid else "no",
            )
            for row in rows
        ],
    )  # fmt: skip
    for row in rows:
        name = row.name.rstrip(":")
        if row.problem:
            console.warning(f"{name}: {row.problem}")
        if row.p50_ms is not None and row.predicted_ms is not None:
            told = f"{numbers.milliseconds(row.predicted_ms)} foretold, {numbers.milliseconds(row.p50_ms)} measured"
            console.note(f"{name}: {told} ({numbers.deviation(row.predicted_ms / row.p50_ms - 1)})")
        for text in row.warnings:
            console.note(f"{name}: {text}")
    for outcome in outcomes:
        if outcome.failure is not None and outcome.failure.hint:
            console.note(f"{outcome.member.name}: {outcome.failure.hint}")
