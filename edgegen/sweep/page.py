"""The table and the plots of a sweep as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgegen.report import numbers

if TYPE_CHECKING:
    from edgegen.sweep.plot import Front
    from edgegen.sweep.run import SweepOutcome


def render_page(outcome: SweepOutcome, fronts: Sequence[Front]) -> str:
    """Return the page; it links to the reports of the bundles below the same folder."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    loaders = [PackageLoader("edgegen.sweep", "templates"), PackageLoader("edgegen.report", "templates")]
    environment = Environment(
        loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    names = ("milliseconds", "seconds", "size", "amount", "score")
    environment.filters.update({name: getattr(numbers, name) for name in names})
    reports = {row.key: f"{row.bundle}/report.html" for row in outcome.rows if row.bundle}
    return environment.get_template("sweep.html.j2").render(
        outcome=outcome,
        fronts=[{"target": front.target, "svg": Markup(front.svg), "left_out": front.left_out} for front in fronts],
        reports={key: path for key, path in reports.items() if (outcome.out / path).exists()},
        met=sum(row.exit_code == 0 for row in outcome.rows),
        style=Markup(environment.get_template("style.css").render()),
    )
