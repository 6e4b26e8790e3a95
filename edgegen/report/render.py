"""ReportData -> one HTML file that needs nothing else: no network, no second file, the same bytes for the same data."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from pathlib import Path

from edgegen.errors import StorageError
from edgegen.quality.metrics import psnr_db, ssim
from edgegen.report import numbers
from edgegen.report.model import Evidence, FaultRow, GeneratorSummary, PictureRow, ReportData
from edgegen.report.pictures import DIFFERENCE_GAIN, difference, overlay, png_uri, to_unit
from edgegen.report.plot import latency_quality_svg, plottable
from edgegen.report.roofline import roofline_svg
from edgegen.spec import Verdict

_VERDICTS = {
    Verdict.MET: ("good", "✓", "Budget met"),
    Verdict.MET_WITH_WARNINGS: ("fair", "!", "Budget met, with warnings"),
    Verdict.QUALITY_MISSED: ("bad", "✕", "Quality missed"),
    Verdict.BUDGET_MISSED: ("bad", "✕", "Budget missed"),
}
_PIXELATED_BELOW = 128  # smaller pictures are enlarged with hard pixels: smoothing would hide what the reader looks for


@dataclasses.dataclass(frozen=True)
class Shown:
    """A picture of the grid."""

    title: str
    alt: str
    uri: str
    height: int
    width: int

    @property
    def pixelated(self) -> bool:
        """Whether to enlarge it with hard pixels."""
        return min(self.height, self.width) < _PIXELATED_BELOW


@dataclasses.dataclass(frozen=True)
class ShownRow:
    """A row of the grid: its pictures, and what the artifact scores against the teacher here."""

    name: str
    score: str
    pictures: tuple[Shown, ...]


@dataclasses.dataclass(frozen=True)
class Limit:
    """A line of the budget: what was asked for and what was found. `met` is None when nothing was asked for or found."""

    name: str
    asked: str
    found: str
    met: bool | None


@dataclasses.dataclass(frozen=True)
class Tile:
    """A headline number."""

    value: str
    name: str
    detail: str


def render_report(data: ReportData) -> str:
    """Return the report as one HTML document."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("edgegen.report", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    names = ("milliseconds", "seconds", "size", "amount", "decibel", "score", "percent", "times", "deviation")
    environment.filters.update({name: getattr(numbers, name) for name in names})
    plot = latency_quality_svg(data)
    roofline = None if data.layers is None or data.layers.roofline is None else roofline_svg(data.layers.roofline)
    tone, sign, title = _VERDICTS[data.verdict]
    return environment.get_template("report.html.j2").render(
        data=data,
        verdict={"tone": tone, "sign": sign, "title": title},
        tiles=_tiles(data),
        limits=_limits(data),
        rows=[_show_row(row) for row in data.rows],
        heats=[shown for shown in map(_show_heat, data.faults) if shown],
        gain=DIFFERENCE_GAIN,
        plot=Markup(plot) if plot else None,  # made by matplotlib, which escapes text
        roofline=Markup(roofline) if roofline else None,
        unplotted=len(data.candidates) - len(plottable(data.candidates)),
        slowest_ms=max((row.latency_p50_ms or 0.0 for row in data.bench), default=0.0),
        ratio=numbers.ratio,
        predicted=Evidence.PREDICTED,
        style=Markup(environment.get_template("style.css").render()),
        script=Markup(environment.get_template("zoom.js").render()),
    )


def write_report(path: Path, data: ReportData) -> None:
    """Write the report to `path`, completely or not at all. Raises StorageError when the file cannot be written."""
    text = render_report(data)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).chmod(0o644)  # mkstemp gives 0600; a report is there to be shared
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror}", hint="free some space or choose another folder"
        ) from error


def _tiles(data: ReportData) -> list[Tile]:
    """Return the numbers that people came for; what is unknown is left out."""
    chosen, tiles = data.chosen, []
    if chosen and chosen.latency_p50_ms is not None:
        tail = f"p90 {numbers.milliseconds(chosen.latency_p90_ms)}, " if chosen.latency_p90_ms is not None else ""
        tiles.append(Tile(numbers.milliseconds(chosen.latency_p50_ms), "latency p50", f"{tail}{chosen.evidence.value}"))
    in_turns = [row for row in data.bench if row.interleaved]
    faster = numbers.ratio(in_turns[0].latency_p50_ms, in_turns[-1].latency_p50_ms) if len(in_turns) > 1 else None
    if faster is not None:
        tiles.append(Tile(numbers.times(faster), "speed-up", f"against {in_turns[0].name}"))
    if chosen and chosen.quality:
        found = chosen.quality.ssim
        sure = "" if found.low is None else f"{numbers.score(found.low)} to {numbers.score(found.high)}, "
        tiles.append(Tile(numbers.score(found.mean), "SSIM to the teacher", f"{sure}{chosen.quality.count} pictures"))
    if chosen and chosen.size_bytes is not None:
        tiles.append(Tile(numbers.size(chosen.size_bytes), "artifact size", chosen.name))
    fewer = numbers.ratio(data.teacher.macs, data.student.macs)
    if fewer is not None:
        tiles.append(Tile(numbers.times(fewer), "fewer MACs", _before_after(data.teacher, data.student)))
    return tiles


def _before_after(teacher: GeneratorSummary, student: GeneratorSummary) -> str:
    return f"{numbers.amount(teacher.macs, 'MAC')} to {numbers.amount(student.macs, 'MAC')}"


def _limits(data: ReportData) -> list[Limit]:
    """Return every limit of the budget with what the chosen artifact needs."""
    budget, chosen = data.budget, data.chosen
    budget_ms = None if budget.latency_s is None else budget.latency_s * 1e3
    latency = chosen.latency_p50_ms if chosen else None
    size, memory = (chosen.size_bytes, chosen.memory_bytes) if chosen else (None, None)
    similarity = chosen.quality.ssim.mean if chosen and chosen.quality else None
    return [
        Limit("latency p50", *_at_most(budget_ms, latency, numbers.milliseconds)),
        Limit("size", *_at_most(budget.size_bytes, size, numbers.size)),
        Limit("peak memory", *_at_most(budget.memory_bytes, memory, numbers.size)),
        Limit("SSIM to the teacher", *_at_least(budget.min_ssim, similarity)),
    ]


def _at_most(limit, found, shown) -> tuple[str, str, bool | None]:
    met = None if limit is None or found is None else found <= limit
    return ("no limit" if limit is None else f"≤ {shown(limit)}"), shown(found), met


def _at_least(limit: float | None, found: float | None) -> tuple[str, str, bool | None]:
    met = None if limit is None or found is None else found >= limit
    return ("no floor" if limit is None else f"≥ {numbers.score(limit)}"), numbers.score(found), met


def _show_row(row: PictureRow) -> ShownRow:
    artifact, teacher = to_unit(row.artifact), to_unit(row.teacher)
    named = [("input", row.input), ("teacher", row.teacher), ("student, float", row.student), ("artifact", row.artifact)]
    pictures = [_show(title, f"{title} of {row.name}", picture) for title, picture in named if picture is not None]
    apart = difference(row.artifact, row.teacher)
    pictures.append(_show(f"difference ×{DIFFERENCE_GAIN}", f"difference between artifact and teacher of {row.name}", apart))
    score = f"SSIM {numbers.score(ssim(artifact, teacher))}, {numbers.decibel(psnr_db(artifact, teacher))}"
    return ShownRow(row.name, score, tuple(pictures))


def _show_heat(row: FaultRow) -> Shown | None:
    if row.heat is None or row.picture is None:
        return None
    name = row.finding.name.replace("_", " ")
    return _show(f"{name}, {row.where}", f"where {name} shows in {row.where}", overlay(row.picture, row.heat))


def _show(title: str, alt: str, picture) -> Shown:
    return Shown(title, alt, png_uri(picture), *picture.shape[:2])
