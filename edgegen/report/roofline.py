"""The roofline plot (Williams et al., 2009): what layers reach, below what the machine can do."""

from __future__ import annotations

from typing import Any

from edgegen.report.model import Roofline
from edgegen.report.plot import inline_svg, plot_style

_COLOURS = {"int8": "#2f6fde", "f16": "#1f9d76", "f32": "#d9822b", "other": "#a05ac8"}
_MARGIN = 2.0  # factor left free around the points, on logarithmic axes


def roofline_svg(roofline: Roofline) -> str | None:
    """Draw every layer, with one roof per type; None without any layer."""
    if not roofline.points:
        return None
    with plot_style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8.0, 4.2), layout="constrained")
        axes = figure.add_subplot()
        axes.set_xscale("log")
        axes.set_yscale("log")
        low = min(x for _, x, _ in roofline.points) / _MARGIN
        high = max(x for _, x, _ in roofline.points) * _MARGIN
        for name, peak in sorted(roofline.macs_per_s.items()):
            _roof(axes, (low, high), peak, roofline.bytes_per_s, name)
        for name in sorted({kind for kind, _, _ in roofline.points}):
            of_type = [(x, y / 1e9) for kind, x, y in roofline.points if kind == name]
            colour = _COLOURS.get(name, _COLOURS["other"])
            axes.plot(*zip(*of_type, strict=True), "o", color=colour, markersize=6, alpha=0.8, label=f"{name} layers")
        axes.set_xlabel("multiply-accumulates per byte")
        axes.set_ylabel("GMAC per second")
        axes.legend(frameon=False, fontsize=9)
        return inline_svg(figure, "roofline")


def _roof(axes: Any, span: tuple[float, float], peak: float, bytes_per_s: float, name: str) -> None:
    """Memory bounds from the left, computing from above; they meet at peak / bandwidth."""
    ridge = min(max(peak / bytes_per_s, span[0]), span[1])
    xs = [span[0], ridge, span[1]]
    ys = [min(peak, x * bytes_per_s) / 1e9 for x in xs]
    axes.plot(xs, ys, "--", color=_COLOURS.get(name, _COLOURS["other"]), linewidth=1.2, label=f"{name} roof")
