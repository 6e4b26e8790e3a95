"""`edgegen report`: where a bundle's report is, and a browser that shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgegen.cli import console
from edgegen.errors import BundleError


def report(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder, as `edgegen compress` names it.")],
    show: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False,
) -> None:
    """Say where the report of a bundle is; it is one HTML file that needs no network."""
    path = find_report(bundle)
    console.result(f"{path}")
    if show:
        import webbrowser

        if not webbrowser.open(path.as_uri()):
            console.warning("no browser was found on this machine; copy the file to one that has a browser")


def find_report(bundle: Path) -> Path:
    """Return the absolute path of the bundle's report.html. Raises BundleError when there is no bundle or it has no report."""
    if not (bundle / "manifest.json").is_file():
        raise BundleError(
            f"{bundle} is not a bundle: it has no manifest.json", hint="give the folder that `edgegen compress` wrote"
        )
    path = bundle / "report.html"
    if not path.is_file():
        raise BundleError(f"{bundle} has no report.html", hint="`edgegen compress ... --resume --from report` writes it")
    return path.resolve()
