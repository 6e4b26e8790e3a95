"""`edgegen compare`: is one measurement faster than another?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgegen.cli import console

if TYPE_CHECKING:
    from edgegen.bench.compare import Comparison

EvenInvalid = Annotated[bool, typer.Option("--even-invalid", help="Compare also what is not valid; the reasons are shown.")]


def compare(
    before: Annotated[Path, typer.Argument(help="A record that `edgegen bench --out` wrote.")],
    after: Annotated[Path, typer.Argument(help="Another one, of the same device in the same state.")],
    even_invalid: EvenInvalid = False,
    json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Compare two records: the difference with its interval, or that none is shown."""
    from edgegen.bench import read_measured
    from edgegen.bench.compare import compare as compare_records

    found = compare_records(read_measured(before), read_measured(after), even_invalid=even_invalid)
    if json:
        console.json(found.to_json())
    else:
        show_comparison(found, str(before), str(after))


def show_comparison(found: Comparison, before: str, after: str) -> None:
    """Print a comparison as a table, with its caveats."""
    rows = [
        (before, f"{found.before_ms:.3f} ms"),
        (after, f"{found.after_ms:.3f} ms"),
        ("difference", f"{found.relative:+.2%} (95 % interval {found.low:+.2%} to {found.high:+.2%})"),
        ("outcome", found.outcome.value),
    ]
    console.table("Sustained medians", ("record", "value"), rows)
    for caveat in found.caveats:
        console.warning(caveat)
