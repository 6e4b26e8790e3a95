"""`edgegen cp`: copy a recipe, a target or a calibration set that comes with edgegen, to edit it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgegen.cli import console
from edgegen.resources import copy_resource


def cp(
    reference: Annotated[str, typer.Argument(help="recipes/NAME, targets/NAME or calibration/NAME.")],
    destination: Annotated[Path, typer.Argument(help="A folder, or the new file's name.")] = Path(),
) -> None:
    """Copy a built-in TOML file; nothing is ever overwritten."""
    console.result(f"{copy_resource(reference, destination)}")
