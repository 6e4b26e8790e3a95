"""Where the time goes: the section on layers and its plot."""

import dataclasses

from edgegen.report.model import LayerRow, Layers, ReportData, Roofline
from edgegen.report.render import render_report
from edgegen.report.roofline import roofline_svg
from edgegen.report_data import layers_section

ROOFLINE = Roofline((("int8", 40.0, 2e11), ("f32", 0.5, 4e9)), {"int8": 6e11, "f32": 1e11}, 1.2e10, "measured")
LAYERS = Layers((LayerRow("conv<1>", "Convolution", "int8", 1.25, 0.61),), 7, {"int8": (6, 0.9), "f32": (1, 0.1)}, ROOFLINE)


def test_the_report_shows_the_longest_layers_their_types_and_the_roofline(data: ReportData) -> None:
    page = render_report(dataclasses.replace(data, layers=LAYERS))
    assert "conv&lt;1&gt;" in page and "7 layers as the back end counts them" in page and "int8: 6 layers, 90" in page
    assert 'id="roofline-' in page and "int8 roof" in page


def test_what_is_not_told_is_said_and_without_layers_there_is_no_section(data: ReportData) -> None:
    page = render_report(dataclasses.replace(data, layers=Layers(reason="the package does not tell")))
    assert "Not told: the package does not tell." in page
    assert 'id="layers"' not in render_report(dataclasses.replace(data, layers=None))


def test_a_roofline_without_layers_is_not_drawn() -> None:
    assert roofline_svg(dataclasses.replace(ROOFLINE, points=())) is None
    assert roofline_svg(ROOFLINE) == roofline_svg(ROOFLINE)


def test_the_section_is_made_of_what_the_bench_found() -> None:
    layers = [{"name": f"l{i}", "kind": "Conv", "type": "f32", "ns": 1000 * i, "macs": 8, "bytes": 4} for i in range(1, 16)]
    profile = {"layers": layers, "total_ns": 120_000, "shares": {"f32": {"layers": 15, "time": 1.0}}, "reason": ""}
    peaks = {"macs_per_s": {"f32": 1e11}, "bytes_per_s": 1e10, "source": "measured"}
    found = layers_section({"profile": profile, "points": [["l1", "f32", 2.0, 8e9]], "peaks": peaks})
    assert found is not None and len(found.rows) == 12 and found.rows[0].name == "l15" and found.rows[0].share == 0.125
    assert found.roofline is not None and found.roofline.points == (("f32", 2.0, 8e9),) and layers_section(None) is None
