"""`edgegen targets`: the devices that edgegen knows, or everything it knows about one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from edgegen.cli import console
from edgegen.errors import TargetError, nearest
from edgegen.target import TargetProfile, list_exports, list_targets, resolve_target

_EVIDENCE = {"S": "seen", "D": "derived", "K": "unverified", "M": "measured here"}


def targets(
    name: Annotated[str | None, typer.Argument(help="A target, an alias such as 'ar', or a path to a TOML file.")] = None,
    scene: Annotated[str | None, typer.Option(help="Only targets of this scene, such as automotive.")] = None,
    exports: Annotated[bool, typer.Option("--exports", help="Every back end and precision, and how far each was seen.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the targets, or show one with the evidence of every number."""
    if exports:
        chosen = _of_scene(list_targets(), scene) if name is None else [resolve_target(name)[0]]
        _list_exports(chosen, as_json=as_json)
        return
    if name is None:
        _list(_of_scene(list_targets(), scene), as_json=as_json)
        return
    if scene is not None:
        raise TargetError(f"'{name}' and --scene {scene} contradict each other", hint="give one of the two")
    profile, budget_s = resolve_target(name)
    if as_json:
        console.json(profile.to_json())
        return
    console.table(f"{profile.id}: {profile.title}", ("key", "value", "evidence", "source or note"), list(_rows(profile)))
    if budget_s is not None:
        console.note(f"'{name}' also asks for a frame budget of {budget_s * 1e3:.3g} ms")


def _of_scene(profiles: list[TargetProfile], scene: str | None) -> list[TargetProfile]:
    if scene is None:
        return profiles
    scenes = sorted({profile.scene for profile in profiles})
    if scene not in scenes:
        raise TargetError(f"scene '{scene}' is unknown", hint=nearest(scene, scenes))
    return [profile for profile in profiles if profile.scene == scene]


def _list(profiles: list[TargetProfile], *, as_json: bool) -> None:
    if as_json:
        console.json([profile.to_json() for profile in profiles])
        return
    columns = ("target", "back end", "latency", "budget", "what it is")  # what 80 columns hold; NAME shows the rest
    console.table("Targets", columns, [_summary(profile) for profile in profiles])
    console.note("edgegen targets NAME shows one; edgegen cp targets/NAME . copies one to edit")


def _list_exports(profiles: list[TargetProfile], *, as_json: bool) -> None:
    columns = ("target", "back end", "precision", "status", "what is written")
    rows = [(p.id, e.backend.value, e.precision.value, status.value, e.holds) for p, e, status in list_exports(profiles)]
    if as_json:
        console.json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    console.table("Exports", columns, rows)


def _summary(profile: TargetProfile) -> tuple[str, ...]:
    budget = f"{profile.frame_budget_s * 1e3:.3g} ms" if profile.frame_budget_s else "-"
    known = all(profile.macs_per_s(precision) for precision in profile.precisions)
    latency = "measured" if profile.local else "predicted" if known else "unknown"
    title = profile.title + (f"; also called {', '.join(profile.aliases)}" if profile.aliases else "")
    return (profile.id, profile.backend.value, latency, budget, title)


def _rows(profile: TargetProfile) -> Iterator[tuple[str, str, str, str]]:
    """Yield key, value, evidence and source of everything the profile says."""
    for key, value in _flatten(profile.to_json(), ""):
        if isinstance(value, dict):
            origin = " - ".join(text for text in (value.get("source"), value.get("note")) if text)
            yield key, f"{value['value']:.12g}", _EVIDENCE[value["evidence"]], origin
        else:
            yield key, _shown(key, value), "", ""
    for precision in profile.precisions:
        rate = profile.macs_per_s(precision)
        if rate is not None:
            yield f"reachable {precision.value}", f"{rate / 1e9:.4g} GMAC/s", "predicted", "peak / 2 x utilisation"


def _shown(key: str, value: Any) -> str:
    if isinstance(value, list):
        return ("\n" if key == "notes" else ", ").join(str(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _flatten(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield dotted keys with their values; a figure, and a list of plain values, stay whole."""
    if isinstance(value, dict) and not {"value", "evidence"} <= set(value):
        for name, item in value.items():
            yield from _flatten(item, f"{key}.{name}" if key else name)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from _flatten(item, f"{key}[{index}]")
    else:
        yield key, value
