"""The page that compares one bundle on several devices: one HTML file that needs nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from edgegen.report import numbers


@dataclasses.dataclass(frozen=True)
class BoardRow:
    """One device. Times are None where it gave none, and `problem` says why, or why they are not valid for comparisons.

    `predicted_ms` is what was foretold of the median. `worst_case_db` is the lowest PSNR of the stored cases, None if one of them
    fails. `partial`: the link was lost half-way.
    """

    name: str
    target: str | None
    board: str | None = None
    runtime: str | None = None
    worst_case_db: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    burst_ms: float | None = None
    first_ms: float | None = None
    memory_bytes: int | None = None
    valid: bool = False
    problem: str = ""
    warnings: tuple[str, ...] = ()
    predicted_ms: float | None = None
    partial: bool = False


def render_boards(bundle: str, rows: Sequence[BoardRow]) -> str:
    """Return the page; the same rows give the same bytes. Bars are as long as the median times, against the slowest."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("edgegen.report", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters.update({name: getattr(numbers, name) for name in ("milliseconds", "size", "decibel", "deviation")})
    slowest = max((row.p50_ms for row in rows if row.p50_ms is not None), default=0.0)
    return environment.get_template("boards.html.j2").render(
        bundle=bundle, rows=rows, slowest=slowest, style=Markup(environment.get_template("style.css").render())
    )
