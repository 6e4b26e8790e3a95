"""Where the results of a sweep lie: a finished unit has a folder of its name, and that name is the proof that it is whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgegen.errors import BudgetError, RecipeError
from edgegen.sweep.units import Unit
from edgegen.sweep.work import RESULT
from edgegen.workspace import storage_errors, sync

Result = Mapping[str, Any]


class Store:
    """The folder OUT/units. `resume` goes on with what lies there; without it there must be no unit yet."""

    def __init__(self, out: Path, *, resume: bool) -> None:
        self.root = out / "units"
        if not resume and self.root.exists() and any(self.root.iterdir()):
            raise RecipeError(f"{out} already holds a sweep", hint="--resume continues it; --out DIR starts elsewhere")
        with storage_errors(out):
            self.root.mkdir(parents=True, exist_ok=True)

    def folder(self, unit: Unit) -> Path:
        """Return where the finished unit lies, or will."""
        return self.root / unit.name

    def part(self, unit: Unit) -> Path:
        """Return the folder in which the unit is worked on, without the result of an earlier try."""
        folder = self.part_path(unit)
        with storage_errors(self.root):
            folder.mkdir(exist_ok=True)
            (folder / RESULT).unlink(missing_ok=True)
        return folder

    def part_path(self, unit: Unit) -> Path:
        """Return that folder as it is."""
        return self.root / (unit.name + ".part")

    def read(self, unit: Unit) -> Result | None:
        """Return the result of a finished unit; None when it is not finished."""
        path = self.folder(unit) / RESULT
        return json.loads(path.read_text()) if path.exists() else None

    def finish(self, unit: Unit) -> Result:
        """Take the result out of the unit's working folder and give that its final name.

        A failure stays a working folder, to be tried again by --resume; but a budget that nothing can meet is a finding.
        """
        part = self.part_path(unit)
        result: Result = json.loads((part / RESULT).read_text())
        if result["status"] == "done" or result["exit_code"] == BudgetError.exit_code:
            with storage_errors(self.root):
                shutil.rmtree(part / "run", ignore_errors=True)
                for path in part.rglob("*"):
                    sync(path)
                part.rename(self.folder(unit))
                sync(self.root)
        return result
