"""What a worker does: one unit, in a folder. Started as `python -m edgegen.sweep.work FOLDER`, or called on a Ray worker.

FOLDER/job.json      what to do
FOLDER/run/          the run under way; a unit that was killed goes on from its finished stages
FOLDER/result.json   how it ended, written last; beside it what the unit is for: stages/ (and nest/ with students that were
                     trained together), or bundle/, student/, summary.json
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgegen import __version__
from edgegen.errors import EdgegenError, RecipeError
from edgegen.progress import Silent
from edgegen.sweep.units import file_sha256, request_of, requests_of

RESULT = "result.json"
_GENERATOR = ("generator.json", "weights.safetensors")


def do_unit(job: Mapping[str, Any], folder: Path, *, shared: Path | None, threads: int) -> None:
    """Do the work of `job` in `folder` and leave its result there. `shared` holds the stages to go on from.

    What a user can mend ends in the result; only a bug raises.
    """
    started = time.perf_counter()
    run = folder / "run"
    try:
        found = _compress(job, run, shared=shared, threads=threads)
    except EdgegenError as failure:
        found = {"status": "failed", "error": failure.message, "hint": failure.hint, "exit_code": failure.exit_code}
    for name in ("stages", "nest", "bundle", "student", "summary.json"):
        _remove(folder / name)
    if found["status"] == "done":
        found |= _deliver_nest(found.pop("nest"), run, folder) if job["points"] else _deliver(job, run, folder)
    found["seconds"] = round(time.perf_counter() - started, 3)
    temporary = folder / (RESULT + ".part")
    temporary.write_text(json.dumps(found, indent=1))
    temporary.replace(folder / RESULT)


def _compress(job: Mapping[str, Any], run: Path, *, shared: Path | None, threads: int) -> dict[str, Any]:
    if job["version"] != __version__:
        raise RecipeError(
            f"the worker has edgegen {__version__}, the sweep was started by {job['version']}",
            hint="install the same version on every machine of the cluster",
        )
    import torch

    from edgegen.pipeline import compress
    from edgegen.together import train_together

    torch.set_num_threads(min(threads, torch.get_num_threads()))  # the result of a sum depends on how it is split
    if shared is not None and (shared / "stages").is_dir():
        for stage in (shared / "stages").iterdir():
            if not (run / "stages" / stage.name).exists():
                shutil.copytree(stage, run / "stages" / stage.name)
    if job["points"]:
        return {"status": "done", "exit_code": 0, "nest": train_together(requests_of(job, run), Silent())}
    nest = shared / "nest" if shared is not None and (shared / "nest").is_dir() else None
    outcome = compress(request_of(job, run, nest), Silent())
    return {"status": "done", "exit_code": outcome.exit_code}


def _deliver_nest(nest: Path, run: Path, folder: Path) -> dict[str, Any]:
    """Move the students that were trained together out of `run`, with the rewritten teacher, from which each goes on."""
    shutil.copytree(nest, folder / "nest", ignore=shutil.ignore_patterns("distill.training*"))
    (folder / "stages").mkdir()
    for stage in (run / "stages").iterdir():
        if stage.name.split("-")[1] == "rewrite":
            shutil.copytree(stage, folder / "stages" / stage.name)
    return {}


def _deliver(job: Mapping[str, Any], run: Path, folder: Path) -> dict[str, Any]:
    """Move what the unit is for out of `run`, and return the figures that tables show."""
    if job["until"] is not None:
        shutil.copytree(run / "stages", folder / "stages")
        return {}
    (run / "bundle").rename(folder / "bundle")
    summary = json.loads((run / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary, indent=1))
    chosen = next(c for c in summary["candidates"] if c["chosen"])
    figures = {name: chosen[name] for name in ("name", "latency_ms", "latency_label", "ssim", "size_bytes")}
    facts = [stage["facts"] for stage in summary["stages"] if "macs" in stage["facts"]]
    figures |= {name: facts[-1][name] if facts else None for name in ("macs", "params")}
    student = _student(run / "stages")
    if student is not None:
        (folder / "student").mkdir()
        for name in _GENERATOR:
            shutil.copy2(student / name, folder / "student" / name)
        figures["student_sha256"] = file_sha256(student / "weights.safetensors")
    return {"verdict": summary["verdict"], "reasons": summary["reasons"], "artifact": figures.pop("name"), **figures}


def _student(stages: Path) -> Path | None:
    """Return the folder of the last stage that made a generator: the one that most was done to."""
    made = [path for path in stages.iterdir() if path.suffix != ".part" and (path / "weights.safetensors").exists()]
    return max(made, key=lambda path: len(json.loads((path / _GENERATOR[0]).read_text())["lineage"]), default=None)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _die_with_the_parent() -> None:
    """End this process when the one that started it is gone: it holds the other end of standard input."""

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)  # and not sys.stdin.read(), whose lock Python wants when it ends
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Do the unit of the folder that the command line names."""
    _die_with_the_parent()
    folder = Path(sys.argv[1])
    told = json.loads((folder / "job.json").read_text())
    do_unit(told["job"], folder, shared=told["shared"] and Path(told["shared"]), threads=told["threads"])


if __name__ == "__main__":
    main()
