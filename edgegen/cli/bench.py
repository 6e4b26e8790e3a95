"""`edgegen bench`: measure a bundle."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgegen.cli import console
from edgegen.cli.bench_fleet import bench_fleet, way_to
from edgegen.cli.bench_grid import measure_table
from edgegen.cli.bench_layers import show_layers
from edgegen.cli.bench_tables import show_record
from edgegen.cli.compare import EvenInvalid, show_comparison
from edgegen.cli.every_export import bench_every_export
from edgegen.cli.options import DeviceOption, Devices

if TYPE_CHECKING:
    from edgegen.bench import BenchPlan, Measured, Record

_TIMINGS = "Timings"
_STATE = "State of the device, brought back afterwards"


def bench(
    bundle: Annotated[
        Path | None, typer.Argument(help="A bundle folder or its .zip; with --all a checkpoint; none with --table.")
    ] = None,
    device: DeviceOption = None,
    devices: Devices = Path("devices.toml"),
    backend: Annotated[
        str | None, typer.Option(help="Another artifact than the preferred one: openvino, or openvino/f32.")
    ] = None,
    threads: Annotated[int, typer.Option(help="0: the back end decides.", min=0)] = 0,
    profile: Annotated[
        str, typer.Option(help="quick (10 s, 64 runs), standard (60 s, 1024) or full (600 s).", rich_help_panel=_TIMINGS)
    ] = "quick",
    min_runs: Annotated[
        int | None, typer.Option(help="Run at least so often altogether ...", min=1, rich_help_panel=_TIMINGS)
    ] = None,
    min_seconds: Annotated[float | None, typer.Option(help="... and so long.", min=0, rich_help_panel=_TIMINGS)] = None,
    processes: Annotated[
        int | None, typer.Option(help="Share the runs out to so many fresh processes.", min=1, rich_help_panel=_TIMINGS)
    ] = None,
    period: Annotated[
        str | None, typer.Option(help="Run once per period, as a camera asks: 33.3ms.", rich_help_panel=_TIMINGS)
    ] = None,
    beside: Annotated[
        Path | None, typer.Option(help="Measure this bundle too, in turn with the first, and compare.", rich_help_panel=_TIMINGS)
    ] = None,
    affinity: Annotated[str | None, typer.Option(help="Stay on these cores: 2,3.", rich_help_panel=_STATE)] = None,
    power_mode: Annotated[str | None, typer.Option(help="Of a Jetson, by name: MAXN_SUPER.", rich_help_panel=_STATE)] = None,
    governor: Annotated[str | None, typer.Option(help="Of the cores: performance.", rich_help_panel=_STATE)] = None,
    fix_clocks: Annotated[bool, typer.Option("--fix-clocks", help="Clocks at their highest.", rich_help_panel=_STATE)] = False,
    ambient: Annotated[float | None, typer.Option(help="Temperature of the room in C, for the record.", min=-60, max=100)] = None,
    against: Annotated[Path | None, typer.Option(help="Compare with this record of an earlier measurement.")] = None,
    max_regression: Annotated[str | None, typer.Option(help="With --against: fail if it is slower by more, as 5%.")] = None,
    even_invalid: EvenInvalid = False,
    layers: Annotated[
        bool, typer.Option("--layers", help="Also time every layer, beside --out as .layers.json and .svg.")
    ] = False,
    table: Annotated[
        Path | None, typer.Option(help="Measure the layers that pruning and plan use into this folder instead of a bundle.")
    ] = None,
    precision: Annotated[str, typer.Option(help="With --table: f32 or int8.")] = "int8",
    out: Annotated[Path | None, typer.Option(help="Write the record (JSON) here; for several devices, a folder.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Of a checkpoint: every back end and precision that runs here, timed in turn.")
    ] = False,
    resolution: Annotated[str | None, typer.Option(help="With --all: input size, WIDTHxHEIGHT in pixels.")] = None,
    data: Annotated[Path | None, typer.Option(help="With --all: folder of photos or label maps.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Check a bundle and measure its latency, cold start, memory, power and heat; say whether the numbers can be trusted."""
    if device and every:
        raise typer.BadParameter("--all measures this machine only", param_hint="--device")
    if table is not None:
        measure_table(bundle, table, precision=precision, threads=threads, device=device or (), devices=devices, backend=backend)
        return
    if bundle is None:
        raise typer.BadParameter("a bundle is missing", param_hint="BUNDLE")
    if every:
        bench_every_export(bundle, resolution=resolution, data=data, threads=threads, json=json)
        return
    from edgegen.bench import measure_in_turn, read_measured
    from edgegen.bench.layers import profile_layers
    from edgegen.device import choose_members
    from edgegen.errors import RecipeError
    from edgegen.runtime.device_state import Wanted
    from edgegen.spec import parse_seconds

    limit = None if max_regression is None else _share(max_regression)
    if limit is not None and against is None:
        raise RecipeError("--max-regression needs a record to compare with", hint="add --against FILE")
    earlier = None if against is None else read_measured(against)
    plan = dataclasses.replace(
        _plan(profile, min_runs, min_seconds, processes), backend=backend, threads=threads, cores=_cores(affinity),
        period_s=None if period is None else parse_seconds(period), wanted=Wanted(power_mode, governor, fix_clocks),
        ambient_c=ambient,
    )  # fmt: skip
    members = choose_members(device or ["local:"], devices)
    console.note(f"at least {plan.min_runs} runs and {plan.min_seconds:g} s in {plan.processes} process(es)")
    if len(members) > 1:
        if beside is not None or earlier is not None or layers:
            raise RecipeError("--beside, --against and --layers are for one device", hint="give one --device, or leave them out")
        bench_fleet(bundle, plan, members, out=out, as_json=json)
        return
    bundles = [bundle] if beside is None else [bundle, beside]
    with way_to(next(iter(members))) as (transport, target_id), console.progress() as progress:
        measured = measure_in_turn(
            bundles, plan, transport=transport, target_id=target_id, outs=_outs(out, len(bundles)), progress=progress
        )
        taken = profile_layers(bundle, plan, transport=transport) if layers and _is_whole(measured[0].record) else None
    _show(measured, json=json)
    if taken is not None:
        show_layers(taken, plan.threads, measured[0].record.target.id, out, shown=not json)
    if out is not None:
        console.note(f"record: {out}")
    if beside is not None:
        _compare(measured[0], measured[1], None, even_invalid=even_invalid, shown=not json)
    if earlier is not None:
        _compare(earlier, measured[0], limit, even_invalid=even_invalid, shown=not json)


def _plan(profile: str, min_runs: int | None, min_seconds: float | None, processes: int | None) -> BenchPlan:
    from edgegen.bench import Profile, profile_plan
    from edgegen.errors import RecipeError, nearest

    known = [member.value for member in Profile]
    if profile not in known:
        raise RecipeError(f"--profile {profile} is unknown", hint=nearest(profile, known))
    given = {"min_runs": min_runs, "min_seconds": min_seconds, "processes": processes}
    return dataclasses.replace(profile_plan(Profile(profile)), **{k: v for k, v in given.items() if v is not None})


def _cores(affinity: str | None) -> tuple[int, ...] | None:
    from edgegen.errors import RecipeError

    if affinity is None:
        return None
    parts = affinity.split(",")
    if not all(part.isascii() and part.isdigit() and len(part) < 5 for part in parts):
        raise RecipeError(f"--affinity {affinity} is no list of cores", hint="write their numbers: --affinity 2,3")
    return tuple(sorted({int(part) for part in parts}))


def _share(text: str) -> float:
    """Return 0.05 for "5%"."""
    import re

    from edgegen.errors import RecipeError

    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,4})?%", text):
        raise RecipeError(f"--max-regression {text} is no percentage", hint="write a number and %: --max-regression 5%")
    return float(text[:-1]) / 100


def _outs(out: Path | None, count: int) -> list[Path] | None:
    """Return where the records go: the second one is called like the first, and "-beside"."""
    return None if out is None else [out, out.with_name(f"{out.stem}-beside{out.suffix}")][:count]


def _show(measured: list[Measured], *, json: bool) -> None:
    """Print the records; end here if one has no timings."""
    from edgegen.errors import BundleError, LinkLostError

    records = [one.record for one in measured]
    if json:
        console.json(records[0].to_json() if len(records) == 1 else [record.to_json() for record in records])
    else:
        for record in records:
            show_record(record)
    for one in measured:
        if not one.record.quality.passed:
            raise BundleError(
                f"{one.record.artifact.model_name} fails its stored cases on this device: timings are withheld",
                hint=f"python -m edgegen.runtime check {one.name} shows each case",
            )
        if not _is_whole(one.record):
            raise LinkLostError(one.record.validity.reasons[0], hint="the record holds what was measured before")


def _is_whole(record: Record) -> bool:
    return record.latency_ms is not None and not record.is_partial


def _compare(before: Measured, after: Measured, limit: float | None, *, even_invalid: bool, shown: bool) -> None:
    from edgegen.bench.compare import compare, refuse_regression

    found = compare(before, after, even_invalid=even_invalid)
    if shown:
        show_comparison(found, before.name, after.name)
    if limit is not None:
        refuse_regression(found, limit)
