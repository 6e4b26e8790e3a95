"""The only module that prints. Results go to stdout, everything else to stderr, so that `--json | jq` works."""

from __future__ import annotations

import json as _json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgegen.errors import EdgegenError
    from edgegen.progress import Progress


_WIDEST_NAME = 32  # characters of a first column that stays whole


def _out() -> Any:
    from rich.console import Console

    return Console()


def _err() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def result(text: str) -> None:
    """Print a result to stdout."""
    _out().print(text, markup=False, highlight=False, soft_wrap=True)


def json(value: Any) -> None:
    """Print a JSON document to stdout, and nothing else there."""
    print(_json.dumps(value, indent=2, default=str))


def note(text: str) -> None:
    """Print a remark to stderr."""
    _err().print(text, style="dim", markup=False, highlight=False, soft_wrap=True)


def warning(text: str) -> None:
    """Print a warning to stderr."""
    _err().print(f"warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def error(failure: EdgegenError) -> None:
    """Print what went wrong and how to mend it, to stderr."""
    _err().print(f"error: {failure.message}", style="bold red", markup=False, highlight=False, soft_wrap=True)
    if failure.hint:
        _err().print(f"hint: {failure.hint}", markup=False, highlight=False, soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table to stdout; None becomes a dash. Cells wrap where the terminal is narrow; names in the first column do not."""
    from rich import box
    from rich.table import Table

    made = Table(
        title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    widest = max((len(str(row[0])) for row in rows), default=0)
    for number, name in enumerate(columns):
        made.add_column(name, overflow="fold", no_wrap=number == 0 and widest <= _WIDEST_NAME)
    for row in rows:
        made.add_row(*("–" if cell is None else str(cell) for cell in row))
    _out().print(made)


@contextmanager
def progress() -> Iterator[Progress]:
    """Show progress bars on stderr while the block runs."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[facts]}"),
    )
    bars = Bars(*columns, console=_err())
    try:
        yield _RichProgress(bars)
    finally:
        if bars.tasks:
            bars.stop()


@contextmanager
def progress_by_name(names: Sequence[str]) -> Iterator[dict[str, Progress]]:
    """Show one line of progress per name on stderr while the block runs; several threads may report at once."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, TextColumn("{task.fields[facts]}"), console=_err()) as bars:
        yield {name: _RichProgress(bars, f"{name}: ") for name in names}


class _RichProgress:
    """`edgegen.progress.Progress` on rich bars; facts keep their last value until the task ends."""

    def __init__(self, bars: Any, prefix: str = "") -> None:
        self._bars = bars
        self._prefix = prefix
        self._task: Any = None
        self._facts: dict[str, float] = {}

    def start(self, title: str, total: int) -> None:
        self._facts = {}
        self._bars.start()  # not before: an empty display leaves an empty line, above an error for example
        self._task = self._bars.add_task(self._prefix + title, total=total, facts="")

    def advance(self, count: int = 1, **facts: float) -> None:
        self._facts |= facts
        text = "  ".join(f"{name} {value:.4g}" for name, value in self._facts.items())
        self._bars.update(self._task, advance=count, facts=text)

    def finish(self) -> None:
        self._bars.stop_task(self._task)

    def note(self, text: str) -> None:
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
