"""Artifacts built in a child process: a converter or quantiser that dies takes the candidate it was at with it, and no other.

All candidates share a child, because what they are made of is converted once; when it dies, a new one builds those that are left.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgegen import errors
from edgegen.artifact import Artifact, load_artifacts
from edgegen.child_process import run_child
from edgegen.errors import EdgegenError, ExportError
from edgegen.generator import Generator, save_generator
from edgegen.openvino_form import OpenForm
from edgegen.pictures import Arrays
from edgegen.ranges import LearnedRange
from edgegen.spec import Backend, Precision

_CHILD = "edgegen.building_child"


@dataclasses.dataclass(frozen=True)
class Building:
    """What candidates are built of: the student as it is stored, inputs in its layout, and what is asked for.

    `settings` are plain values of the fields of the back end's settings (`OpenVinoSettings`, `LitertSettings`); `form` is what is
    left to choose for OpenVINO.
    """

    student: Generator
    backend: Backend
    precisions: tuple[Precision, ...]
    calibration: tuple[Arrays, ...]
    learned: tuple[LearnedRange, ...] = ()
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    form: OpenForm | None = None


def build(what: Building, out_dir: Path, begin: Callable[[str], None] = lambda name: None) -> list[Artifact]:
    """Return the artifacts, which are all that is in `out_dir` then. A candidate whose builder dies is `lost`, and no other.

    `begin` is told the name of each before it is built. Raises what the export raises: an error of the child is the same error
    here. Raises ExportError if a child dies before it gets to a candidate.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, lost = Path(name), dict[str, str]()
        _write(folder, what, out_dir)
        while True:
            shutil.rmtree(out_dir, ignore_errors=True)
            out_dir.mkdir(parents=True)
            events, death = run_child(_CHILD, folder, {"lost": lost}, lambda e: begin(e["name"]) if e["event"] == "at" else None)
            refused = next((e for e in events if e["event"] == "failed"), None)
            if refused is not None:
                raise _error(refused["kind"])(refused["why"], hint=refused["hint"])
            if any(e["event"] == "done" for e in events):  # what dies after that has no candidate to lose
                made = load_artifacts(out_dir)
                (out_dir / "artifacts.json").unlink()  # the child's answer; whoever keeps artifacts writes their own list
                return made
            at = next((e["name"] for e in reversed(events) if e["event"] == "at"), None)
            if at is None:
                raise ExportError(
                    f"the export for {what.backend.value} {death} before any candidate was built",
                    hint="another back end may take the generator: --backend",
                )
            lost[at] = f"{death} while it was built"


def _write(folder: Path, what: Building, out_dir: Path) -> None:
    (folder / "student").mkdir()
    save_generator(what.student, folder / "student")
    np.savez(folder / "inputs.npz", *[array for given in what.calibration for array in given])
    told = {
        "out": str(out_dir.resolve()),
        "backend": what.backend.value,
        "precisions": [p.value for p in what.precisions],
        "inputs": len(what.calibration),
        "learned": [dataclasses.asdict(one) for one in what.learned],
        "settings": what.settings,
        "form": what.form and dataclasses.asdict(what.form),
    }
    (folder / "job.json").write_text(json.dumps(told))


def _error(kind: str) -> type[EdgegenError]:
    """Return the class of `edgegen.errors` of that name."""
    found = getattr(errors, kind)
    assert issubclass(found, EdgegenError)
    return found
