"""The command line: registers the commands and turns errors into one sentence, a hint and an exit code.

Exit codes: 0 done, 1 bug, 2 usage, 3 checkpoint, 4 budget or quality missed, 5 target, 6 recipe or settings, 7 data,
8 missing extra, 9 export, 10 bundle, 11 training diverged, 12 storage, 13 stage invariant, 14 device,
15 measurements that cannot be compared, 16 regression, 130 interrupted.
docs/errors.md explains them.
"""

from __future__ import annotations

import errno
import sys
from typing import Annotated

import typer
from typer.core import TyperGroup

from edgegen import __version__
from edgegen.cli import console
from edgegen.cli.bench import bench
from edgegen.cli.calibrate import calibrate
from edgegen.cli.compare import compare
from edgegen.cli.compress import compress
from edgegen.cli.cp import cp
from edgegen.cli.doctor import doctor
from edgegen.cli.inspect import inspect
from edgegen.cli.plan import plan
from edgegen.cli.preflight import preflight
from edgegen.cli.report import report
from edgegen.cli.run import run
from edgegen.cli.sweep import sweep
from edgegen.cli.targets import targets
from edgegen.errors import EdgegenError, StorageError

_INTERRUPTED = 130  # 128 + SIGINT, as shells count


class _Commands(TyperGroup):
    """The commands; Ctrl-C ends any of them with one sentence. Typer would see it before `main` does, and say nothing of use."""

    def invoke(self, ctx: typer.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            goes_on = ctx.invoked_subcommand in ("compress", "sweep")
            console.note("interrupted; run the same command with --resume to continue" if goes_on else "interrupted")
            raise typer.Exit(_INTERRUPTED) from None


app = typer.Typer(
    name="edgegen", cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False,
    help="Trained image generators in real time on small devices.",
)  # fmt: skip
for command in (plan, compress, sweep, inspect, preflight, calibrate, run, bench, compare, doctor, report, targets, cp):
    app.command()(command)


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    if version:
        console.result(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        app()
    except EdgegenError as failure:
        console.error(failure)
        sys.exit(failure.exit_code)
    except KeyboardInterrupt:
        console.note("interrupted")
        sys.exit(_INTERRUPTED)
    except OSError as failure:
        if failure.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        error = StorageError(f"writing failed: {failure.strerror}", hint="free some space or choose another --out, then --resume")
        console.error(error)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
