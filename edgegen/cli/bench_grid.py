"""`edgegen bench --table`: the layers that all generators are made of, here or on a device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgegen.cli import console
from edgegen.cli.bench_fleet import way_to

if TYPE_CHECKING:
    from edgegen.device import Member
    from edgegen.latency import MeasuredTable
    from edgegen.spec import Backend, Precision


def measure_table(
    bundle: Path | None, folder: Path, *, precision: str, threads: int, device: Sequence[str], devices: Path, backend: str | None
) -> None:
    """Measure the grid of layers on this machine or a device into `folder`; what it has already is not measured again."""
    from edgegen.device import UNKNOWN, Scheme, choose_members
    from edgegen.errors import RecipeError
    from edgegen.spec import Backend, Precision
    from edgegen.support import parse_backend
    from edgegen.workspace import storage_errors

    if bundle is not None:
        raise RecipeError("--table measures no bundle", hint="leave the bundle or --table out")
    if precision not in (Precision.F32.value, Precision.INT8.value):
        raise RecipeError(f"--precision {precision} is not measured layer by layer", hint="f32 or int8")
    members = choose_members(device or ["local:"], devices)
    if len(members) > 1:
        raise RecipeError("--table measures on one device at a time", hint="give one --device")
    member, kind = next(iter(members)), Precision(precision)
    chosen = None if backend is None else parse_backend(backend)
    here = member.address.scheme is Scheme.LOCAL
    if here and chosen not in (None, Backend.OPENVINO):
        raise RecipeError(
            f"layers of this machine are timed in openvino, not {backend}", hint="leave --backend out, or give --device"
        )
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        table = _here(folder, kind, threads) if here else _there(member, folder, kind, threads, chosen)
    facts = table.facts()
    rows = [(key.replace("_", " "), value) for key, value in facts.items()]
    console.table(f"Layers in {folder}", ("table", "value"), rows)
    if facts.get("emulated"):
        console.warning("the processor is emulated: its times mean nothing, and no plan takes them")
    if facts.get("target") == UNKNOWN:
        console.warning("what target this is nobody says and no file of it tells: no plan takes its times")
    told = _other_backend(str(facts.get("target", "host")), str(facts.get("backend", "openvino")))
    if told:
        console.note(told)
    console.note(f"used by: edgegen compress ... --tables {folder}")


def _other_backend(target_id: str, timed_in: str) -> str:
    """Return what somebody should know whose target runs another back end by default than the one that layers were timed in."""
    from edgegen.errors import TargetError
    from edgegen.target import load_target

    try:
        preferred = load_target(target_id).backend.value
    except TargetError:
        return ""
    if preferred == timed_in:
        return ""
    return f"timed in {timed_in}: {target_id} runs {preferred} by default, so only --backend {timed_in} takes this table"


def _here(folder: Path, precision: Precision, threads: int) -> MeasuredTable:
    from edgegen.latency import MeasuredTable
    from edgegen.latency.grid import Grid, measure_grid

    table = MeasuredTable(folder / f"grid-{precision.value}-{threads}.json", precision, threads=threads, cache=folder)
    with console.progress() as progress:
        measure_grid(table, Grid(), progress)
    return table


def _there(member: Member, folder: Path, precision: Precision, threads: int, backend: Backend | None) -> MeasuredTable:
    from edgegen.bench.board_table import measure_board_grid

    with way_to(member) as (transport, target_id), console.progress() as progress:
        return measure_board_grid(
            transport, target_id, folder, precision=precision, threads=threads, progress=progress, backend=backend
        )
