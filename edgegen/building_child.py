"""The child of `edgegen.building`: `python -m edgegen.building_child FOLDER TASK`. It says what it is at before it begins."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edgegen.artifact import Artifact, Watch, lost_artifact, save_artifacts
from edgegen.child_process import end_with_parent, tell
from edgegen.errors import EdgegenError
from edgegen.generator import Generator, load_generator
from edgegen.openvino_form import OpenForm, choose_form
from edgegen.pictures import Arrays, adapt
from edgegen.ranges import LearnedRange
from edgegen.spec import Backend, Precision


def main(folder: Path, task: dict[str, Any]) -> None:
    """Build the candidates of job.json that are not in `task["lost"]`, and write artifacts.json beside them."""
    end_with_parent()
    job = json.loads((folder / "job.json").read_text())
    try:
        made = _built(folder, job, Watch(lambda name: tell("at", name=name), task["lost"]))
    except EdgegenError as problem:
        tell("failed", kind=type(problem).__name__, why=problem.message, hint=problem.hint)
        return
    save_artifacts(made, Path(job["out"]))
    tell("done")


def _built(folder: Path, job: dict[str, Any], watch: Watch) -> list[Artifact]:
    from edgegen.rewrite import lower

    student, given, backend = load_generator(folder / "student"), _inputs(folder, job["inputs"]), Backend(job["backend"])
    lowered = lower(student, backend)
    facts: dict[str, Any] = {}
    if job["form"]:
        left = OpenForm(**{**job["form"], "precision": Precision(job["form"]["precision"])})
        lowered, facts = choose_form(lowered, left, given, folder / "trial", watch)
    samples = [adapt(item, student.spec, lowered.spec) for item in given]
    made = _exported(lowered, backend, samples, job, watch)
    return [dataclasses.replace(a, facts={**a.facts, **facts}) for a in made]


def _exported(lowered: Generator, backend: Backend, samples: list[Arrays], job: dict[str, Any], watch: Watch) -> list[Artifact]:
    out, precisions = Path(job["out"]), tuple(Precision(p) for p in job["precisions"])
    settings, learned = job["settings"], [LearnedRange(**one) for one in job["learned"]]
    match backend:
        case Backend.OPENVINO:
            from edgegen.export.openvino import OpenVinoSettings, export_openvino
            from edgegen.export.openvino_int8 import Int8Search

            search: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings["search"].items()}
            asked = OpenVinoSettings(**{**settings, "search": Int8Search(**search)})
            return export_openvino(lowered, precisions, samples, out, asked, watch)
        case Backend.LITERT:
            from edgegen.export.tflite import Int8Form, LitertSettings, export_litert

            asked = LitertSettings(**{**settings, "forms": tuple(Int8Form(form) for form in settings["forms"])})
            return export_litert(lowered, precisions, samples, out, learned, asked, watch)
        case Backend.TENSORRT:
            from edgegen.export.tensorrt import export_tensorrt

            return export_tensorrt(lowered, precisions, samples, out, learned, watch)
        case Backend.ONNXRUNTIME:
            return _for_onnxruntime(lowered, precisions, samples, job, watch)


def _for_onnxruntime(
    lowered: Generator, precisions: tuple[Precision, ...], samples: list[Arrays], job: dict[str, Any], watch: Watch
) -> list[Artifact]:
    from edgegen.export.onnxruntime import export_onnxruntime
    from edgegen.rewrite import lower_for_int8

    backend, out, learned = Backend.ONNXRUNTIME, Path(job["out"]), [LearnedRange(**one) for one in job["learned"]]
    transposes = any(type(layer).__name__ == "ConvTranspose2d" for layer in lowered.module.modules())
    made = list[Artifact]()
    for precision in precisions:
        lost = watch.lets(lost_artifact(out / precision.value, backend, precision, lowered.spec, ""))
        sub_pixel = lower_for_int8(lowered, backend) if transposes and precision is Precision.INT8 else None
        made += [lost] if lost else export_onnxruntime(lowered, (precision,), samples, out, learned, sub_pixel)
    return made


def _inputs(folder: Path, count: int) -> list[Arrays]:
    with np.load(folder / "inputs.npz", allow_pickle=False) as stored:
        arrays = [stored[name] for name in stored.files]
    each = len(arrays) // max(1, count)
    return [tuple(arrays[i * each : (i + 1) * each]) for i in range(count)]


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
