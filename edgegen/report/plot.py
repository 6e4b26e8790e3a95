"""Plots of the report as inline SVG: same data, same bytes; text stays text and follows the page's light or dark colours."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

from edgegen.report.model import CandidateRow, Evidence, ReportData

_LIMIT_COLOUR = "#d0506a"  # readable on white and on black
_INK = "#010203"  # replaced by currentColor, which no plotting library can draw with
_BACKEND_COLOURS = ("#2f6fde", "#d9822b", "#1f9d76", "#a05ac8", "#c8465c")
_PRECISION_MARKERS = {"f32": "s", "f16": "D", "int8": "o", "int8-dynamic": "^"}


def plottable(candidates: Sequence[CandidateRow]) -> list[CandidateRow]:
    """Return the candidates of which both latency and quality are known."""
    return [c for c in candidates if c.latency_p50_ms is not None and c.quality is not None]


def latency_quality_svg(data: ReportData) -> str | None:
    """Draw every candidate's p50 latency against its SSIM to the teacher, with budget and floor; None if nothing can be drawn."""
    points = plottable(data.candidates)
    if not points:
        return None
    with plot_style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8.0, 4.2), layout="constrained")
        axes = figure.add_subplot()
        _draw_limits(axes, data)
        backends = sorted({c.backend for c in points})
        for candidate in points:
            _draw_candidate(axes, candidate, _BACKEND_COLOURS[backends.index(candidate.backend) % len(_BACKEND_COLOURS)])
        _scale(axes, data, points)
        _label(axes, points)
        axes.set_xlabel("latency p50 in ms, lower is better")
        axes.set_ylabel("SSIM to the teacher, higher is better")
        return inline_svg(figure, "latency-quality")


def _draw_candidate(axes: Any, candidate: CandidateRow, colour: str) -> None:
    assert candidate.quality is not None
    ssim, latency = candidate.quality.ssim, candidate.latency_p50_ms
    if ssim.low is not None and ssim.high is not None:
        axes.plot([latency, latency], [ssim.low, ssim.high], color=colour, linewidth=1.2, alpha=0.7)
    marker = _PRECISION_MARKERS.get(candidate.precision, "o")
    fill = colour if candidate.kept else "none"
    if candidate.chosen:
        axes.plot(
            [latency], [ssim.mean], marker, markersize=17, markerfacecolor="none", markeredgecolor=_INK, markeredgewidth=1.2
        )
    axes.plot([latency], [ssim.mean], marker, markersize=9, markerfacecolor=fill, markeredgecolor=colour, markeredgewidth=1.6)


def _label(axes: Any, points: Sequence[CandidateRow]) -> None:
    """Name the points, each label moved up until it covers no earlier one: f32 and f16 often lie on top of each other."""
    placed: list[tuple[float, float]] = []
    to_pixels = axes.transData.transform
    for candidate in sorted(points, key=lambda c: (not c.chosen, c.name)):
        assert candidate.quality is not None
        x, y = to_pixels((candidate.latency_p50_ms, candidate.quality.ssim.mean))
        up = 0
        while any(abs(x - other_x) < 120 and abs(y + up - other_y) < 18 for other_x, other_y in placed):
            up += 5
        placed.append((x, y + up))
        text = candidate.name + (" (predicted)" if candidate.evidence is Evidence.PREDICTED else "")
        label = axes.annotate(
            text, (candidate.latency_p50_ms, candidate.quality.ssim.mean), xytext=(13, -3 + up * 0.72),
            textcoords="offset points", color=_INK, fontsize=9, fontweight="bold" if candidate.chosen else "normal",
        )  # fmt: skip
        label.set_in_layout(False)  # a long name must not squeeze the axes


def _draw_limits(axes: Any, data: ReportData) -> None:
    """Draw budget and floor as dashed lines; one that lies outside the plot is left to the budget table."""
    style = {"color": _LIMIT_COLOUR, "fontsize": 9, "ha": "right", "textcoords": "offset points", "annotation_clip": True}
    labels = []
    if data.budget.latency_s is not None:
        budget_ms = data.budget.latency_s * 1e3
        axes.axvline(budget_ms, color=_LIMIT_COLOUR, linestyle="--", linewidth=1.2)
        where = {"xycoords": ("data", "axes fraction"), "xytext": (-4, 0), "rotation": 90}
        labels.append(axes.annotate("latency budget", (budget_ms, 0.02), **where, **style))
    if data.budget.min_ssim is not None:
        axes.axhline(data.budget.min_ssim, color=_LIMIT_COLOUR, linestyle="--", linewidth=1.2)
        where = {"xycoords": ("axes fraction", "data"), "xytext": (0, 3)}
        labels.append(axes.annotate("quality floor", (0.995, data.budget.min_ssim), **where, **style))
    for label in labels:
        label.set_in_layout(False)


def _scale(axes: Any, data: ReportData, points: Sequence[CandidateRow]) -> None:
    """Start latency at 0, so that distances are speed, and leave room for labels; SSIM spans what the points need."""
    latencies = [c.latency_p50_ms for c in points if c.latency_p50_ms is not None]
    if data.budget.latency_s is not None and data.budget.latency_s * 1e3 < 3 * max(latencies):
        latencies.append(data.budget.latency_s * 1e3)
    axes.set_xlim(0, max(latencies) * 1.25)
    values = [
        v for c in points if c.quality for v in (c.quality.ssim.mean, c.quality.ssim.low, c.quality.ssim.high) if v is not None
    ]
    if data.budget.min_ssim is not None:
        values.append(data.budget.min_ssim)
    room = max(0.02, 0.18 * (max(values) - min(values)))
    axes.set_ylim(max(0.0, min(values) - room), min(1.02, max(values) + room))


def plot_style() -> Any:
    """Return the context in which figures have the look of the report."""
    import matplotlib

    return matplotlib.rc_context(
        {
            "svg.hashsalt": "edgegen", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10,
            "text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
            "axes.facecolor": "none", "figure.facecolor": "none", "savefig.facecolor": "none",
            "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6, "axes.grid": True, "grid.color": _INK,
            "grid.alpha": 0.12, "grid.linewidth": 0.6, "axes.axisbelow": True,
        }
    )  # fmt: skip


def inline_svg(figure: Any, prefix: str) -> str:
    """Return the figure as one <svg> element without links, dates or fixed sizes; its ids start with `prefix`."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    stream = io.StringIO()
    FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = stream.getvalue()
    svg = re.sub(r"\A.*?(?=<svg\b)", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # inside HTML the parser supplies the name spaces; without them the page holds no address at all
    svg = re.sub(r'\sxmlns(?::\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'(<svg\b[^>]*?)\swidth="[^"]*"', r"\1", svg)
    svg = re.sub(r'(<svg\b[^>]*?)\sheight="[^"]*"', r"\1", svg)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}-", svg)
    svg = re.sub(r'href="#', f'href="#{prefix}-', svg)
    return svg.replace(_INK, "currentColor").strip()
