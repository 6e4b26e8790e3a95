"""What int8 was calibrated on, as a record that goes into the bundle: what was found in the data, and how far it reaches."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.generator import Generator, StageRecord
from edgegen.spec import Kind

if TYPE_CHECKING:
    from edgegen.data import Inputs
    from edgegen.request import Request

NAME = "calibration.json"
_LOOKED_AT = 16  # inputs that run through the student: its layers' ranges settle earlier than scales do
_TOLD = 5


def calibration_record(request: Request, inputs: Inputs, student: Generator) -> StageRecord:
    """Return the record of stage "calibrate": the checks of `edgegen calibrate`, and the SHA-256 of their result."""
    from edgegen.quantize.coverage import coverage

    started = time.perf_counter()
    covered = coverage(student, inputs.calibration(_LOOKED_AT))
    facts: dict[str, Any] = {"inputs": inputs.digest, "described": inputs.description}
    if covered is not None:
        facts |= {"coverage": covered.sentence, "covers": covered.is_enough, "alone": list(covered.alone[:_TOLD])}
    facts |= _of_pictures(request, student)
    facts["sha256"] = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    settings = {"calibration": request.recipe.export.calibration}
    return StageRecord("calibrate", settings, time.perf_counter() - started, facts)


def write_record(record: StageRecord, folder: Path) -> None:
    """Keep the record in the folder of a stage."""
    (folder / NAME).write_text(json.dumps(record.to_json(), indent=1))


def read_record(folder: Path) -> StageRecord:
    """Return what `write_record` kept there."""
    return StageRecord(**json.loads((folder / NAME).read_text()))


def _of_pictures(request: Request, student: Generator) -> dict[str, Any]:
    """Return what is worth telling of the pictures of the data folder; nothing where the generator takes none."""
    from edgegen.data.check import check_pictures

    tensor = next((t for t in student.spec.inputs if t.kind in (Kind.IMAGE, Kind.LABEL_MAP)), None)
    if tensor is None or request.data is None or not request.data.is_dir():
        return {}
    held_out = max(request.recipe.verify.held_out, request.recipe.distill.held_out)
    classes = tensor.channels if tensor.kind is Kind.LABEL_MAP else None
    found = dataclasses.asdict(check_pictures(request.data, held_out=held_out, channels=tensor.channels, classes=classes))
    lists = ("refused", "leaks", "copies", "outliers")
    return {"pictures": found["count"], **{f"{name}_count": len(found[name]) for name in lists},
            **{name: list(found[name][:_TOLD]) for name in lists if found[name]}}  # fmt: skip
