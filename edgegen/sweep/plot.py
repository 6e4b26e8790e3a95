"""One plot per target: the front of latency against likeness to the teacher that the units of a sweep found."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.report import numbers
from edgegen.report.plot import inline_svg, plot_style

if TYPE_CHECKING:
    from edgegen.sweep.run import Row, SweepOutcome

_COLOUR, _LIMIT_COLOUR, _MISSED_COLOUR = "#2f6fde", "#d0506a", "#d9822b"
_INKED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
_PNG_INK: dict[Any, Any] = dict.fromkeys(_INKED, "#1b1f27") | dict.fromkeys(("figure.facecolor", "savefig.facecolor"), "white")


@dataclasses.dataclass(frozen=True)
class Front:
    """The plot of one target: an <svg> element, the name of the PNG beside the page, and how many units it does not show."""

    target: str
    svg: str
    png: str
    left_out: int


def write_fronts(outcome: SweepOutcome, *, min_ssim: float | None) -> list[Front]:
    """Write front-TARGET.png and .svg beside the table and return the plots; targets of which nothing can be drawn have none."""
    fronts = []
    for target in dict.fromkeys(row.target for row in outcome.rows):
        rows = [row for row in outcome.rows if row.target == target]
        points = sorted((row for row in rows if row.latency_ms is not None and row.ssim is not None), key=_latency)
        if not points:
            continue
        png = f"front-{target}.png"
        svg = _draw(points, outcome.out / png, min_ssim=min_ssim, prefix=f"front-{target}")
        header = '<?xml version="1.0" encoding="utf-8"?>\n'
        plain = svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"', 1)
        (outcome.out / f"front-{target}.svg").write_text(header + plain + "\n", encoding="utf-8")
        fronts.append(Front(target, svg, png, len(rows) - len(points)))
    return fronts


def _latency(row: Row) -> float:
    return row.latency_ms or 0.0


def _draw(points: Sequence[Row], png: Path, *, min_ssim: float | None, prefix: str) -> str:
    import matplotlib

    with plot_style():
        svg = inline_svg(_figure(points, min_ssim=min_ssim), prefix)
        with matplotlib.rc_context(_PNG_INK):
            _figure(points, min_ssim=min_ssim).savefig(png, dpi=130, metadata={"Software": None})
    return svg


def _figure(points: Sequence[Row], *, min_ssim: float | None) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    latencies, scores = [_latency(p) for p in points], [p.ssim or 0.0 for p in points]
    axes.plot(latencies, scores, color=_COLOUR, linewidth=1.2, alpha=0.6)
    for row in points:
        colour = _COLOUR if row.exit_code == 0 else _MISSED_COLOUR
        axes.plot([_latency(row)], [row.ssim or 0.0], "o", markersize=8, markerfacecolor=colour, markeredgecolor=colour)
        where = {"xytext": (9, -13), "textcoords": "offset points", "fontsize": 9}
        label = axes.annotate(f"{numbers.milliseconds(row.budget_ms)} asked", (_latency(row), row.ssim or 0.0), **where)
        label.set_in_layout(False)  # a long name must not squeeze the axes
    axes.set_xlim(0, max(latencies) * 1.2)
    shown = [*scores, *([min_ssim] if min_ssim is not None else [])]
    room = max(0.02, 0.18 * (max(shown) - min(shown)))
    axes.set_ylim(max(0.0, min(shown) - room), min(1.02, max(shown) + room))
    if min_ssim is not None:
        axes.axhline(min_ssim, color=_LIMIT_COLOUR, linestyle="--", linewidth=1.2)
        axes.annotate("quality floor", (0.995, min_ssim), xycoords=("axes fraction", "data"), xytext=(0, 3), ha="right",
                      textcoords="offset points", color=_LIMIT_COLOUR, fontsize=9)  # fmt: skip
    labels = sorted({str(p.latency_label) for p in points})
    axes.set_xlabel(f"latency in ms ({', '.join(labels)}), lower is better")
    axes.set_ylabel("SSIM to the teacher, higher is better")
    return figure
