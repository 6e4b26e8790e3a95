"""`edgegen bench --layers`: the layers of a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from edgegen.cli import console

if TYPE_CHECKING:
    from edgegen.bench.layers import LayerProfile

_LONGEST = 10


def show_layers(profile: LayerProfile, threads: int, target_id: str, out: Path | None, *, shown: bool) -> None:
    """Print the longest layers, and write all of them and the roofline of the target beside `out`."""
    from edgegen.bench.layers import layer_facts
    from edgegen.workspace import storage_errors

    if profile.reason:
        console.warning(f"layers: {profile.reason}")
        return
    if shown:
        _print(profile)
    if out is None:
        return
    found = layer_facts(profile, threads, target_id)
    with storage_errors(out):
        out.with_suffix(".layers.json").write_text(json.dumps(found, indent=1, allow_nan=False))
        svg = _roofline(found)
        if svg is not None:
            out.with_suffix(".roofline.svg").write_text(svg, encoding="utf-8")


def _print(profile: LayerProfile) -> None:
    total = profile.total_ns or 1
    rows = [
        (layer.name, layer.kind, layer.type, f"{layer.ns / 1e6:.3f} ms", f"{layer.ns / total:.1%}")
        for layer in profile.longest(_LONGEST)
    ]
    console.table(f"Longest of {len(profile.layers)} layers", ("layer", "kind", "runs in", "time", "share"), rows)
    shares = [(name, count, f"{part:.1%}") for name, (count, part) in profile.shares().items() if count]
    console.table("Types", ("runs in", "layers", "share of the time"), shares)


def _roofline(found: dict) -> str | None:
    from edgegen.report_data import layers_section

    section = layers_section(found)
    if section is None or section.roofline is None:
        return None
    from edgegen.report.roofline import roofline_svg

    svg = roofline_svg(section.roofline)
    return None if svg is None else svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
