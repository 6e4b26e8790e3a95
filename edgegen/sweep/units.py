"""The units of a sweep and what they hash to: equal keys mean equal work, whoever does it and wherever.

Units form a graph of two ranks. A *shared* unit does what no latency budget has a say in: its stages are handed to the *finish*
units of all targets that want the same of them, which go on from there, each to one target and one budget. `shared_stage`
is the one place that says where the shared part ends. With shared training it is a *nest* unit instead, which also trains the
students of all those budgets at once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgegen import __version__
from edgegen.errors import RecipeError
from edgegen.recipe import Effort, Recipe
from edgegen.request import Request, Training, make_request
from edgegen.resources import looks_like_path

FILE_OPTIONS = ("checkpoint", "target", "recipe", "arch", "discriminator", "perceptual")
"""Options of a job that may name a file, which a worker on another machine is sent along with it."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a user asks of a sweep, as on the command line: `targets` x `latencies`, and the options of `edgegen compress`."""

    checkpoint: Path
    targets: tuple[str, ...]
    latencies: tuple[str, ...]
    out: Path
    resume: bool = False
    recipe: str = "balanced"
    effort: Effort = Effort.BALANCED
    seed: int = 0
    data: Path | None = None
    resolution: str | None = None
    max_size: str | None = None
    max_memory: str | None = None
    min_ssim: float | None = None
    arch: str | None = None
    trust: bool = False
    discriminator: Path | None = None
    perceptual: Path | None = None
    training: Training = Training.SEPARATE


@dataclasses.dataclass(frozen=True)
class _Point:
    """One target and latency of a sweep, as they were written, and the request that they make."""

    target: str
    latency: str
    request: Request = dataclasses.field(compare=False)


@dataclasses.dataclass(frozen=True)
class Unit:
    """One piece of work. `after` is the key of the unit whose stages it goes on from; `budget_s` is None for a shared unit.

    `alone`: it measures latency on the machine that it runs on, so nothing else may run beside it. `job` holds plain JSON.
    """

    key: str
    kind: str  # "shared", "nest" or "finish"
    target: str
    budget_s: float | None
    after: str | None
    alone: bool
    job: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name of its folder."""
        what = self.kind if self.budget_s is None else f"{self.target}-{self.budget_s * 1e3:g}ms"
        return f"{what}-{self.key[:16]}"


def make_units(asked: Asked) -> list[Unit]:
    """Return all units, shared ones first, no key twice. Raises the error of the first option that is not right."""
    if not asked.targets or not asked.latencies:
        raise RecipeError("a sweep needs targets and latencies", hint="as in --targets host,jetson --latencies 10ms,33ms")
    known = {
        "version": __version__,
        "checkpoint": file_sha256(asked.checkpoint) if asked.checkpoint.is_file() else "",
        "data": _folder_sha256(asked.data),
        "arch": asked.arch and [file_sha256(Path(asked.arch.partition(":")[0])), asked.arch.partition(":")[2], asked.trust],
        "discriminator": asked.discriminator and file_sha256(asked.discriminator),
        "perceptual": asked.perceptual and file_sha256(asked.perceptual),
        "seed": asked.seed,
    }
    points = [
        _Point(target, latency, _request(asked, target, latency)) for target in asked.targets for latency in asked.latencies
    ]
    before, finish = _before(asked, points, known), dict[str, Unit]()
    for point in points:
        unit = _finish_unit(asked, point, before.get(point), known)
        finish.setdefault(unit.key, unit)
    shared = {unit.key: unit for unit in before.values()}
    return [*shared.values(), *sorted(finish.values(), key=lambda unit: unit.alone)]


def _before(asked: Asked, points: Sequence[_Point], known: Mapping[str, Any]) -> dict[_Point, Unit]:
    """Return, for each point, the unit that it goes on from; nothing for recipes whose stages all depend on the budget."""
    alike: dict[str, list[_Point]] = {}
    units: dict[_Point, Unit] = {}
    for point in points:
        unit = _shared_unit(asked, point, known)
        if unit is not None:
            units[point] = unit
            alike.setdefault(unit.key, []).append(point)
    recipe = points[0].request.recipe
    if asked.training is Training.SEPARATE or not {"prune", "distill"} <= set(recipe.stages):
        return units
    return {point: unit for together in alike.values() for unit in [_nest_unit(asked, together, known)] for point in together}


def shared_stage(recipe: Recipe) -> str | None:
    """Return the last stage that no latency budget has a say in; None when the recipe has none but loading."""
    return "rewrite" if "rewrite" in recipe.stages else None


def requests_of(job: Mapping[str, Any], out: Path) -> list[Request]:
    """Return the requests whose students a nest unit trains together, in `out`."""
    return [request_of({**job, "target": target, "latency": latency}, out) for target, latency in job["points"]]


def request_of(job: Mapping[str, Any], out: Path, nest: Path | None = None) -> Request:
    """Return the request that a unit's `job` stands for; it runs in `out` and goes on with what lies there, and in `nest`."""
    options = {
        name: job[name] for name in ("latency", "resolution", "max_size", "max_memory", "min_ssim", "seed", "arch", "trust")
    }
    paths = {name: job[name] and Path(job[name]) for name in ("data", "discriminator", "perceptual")}
    return make_request(
        Path(job["checkpoint"]), target=job["target"], recipe=job["recipe"], out=out, effort=Effort(job["effort"]), fps=None,
        resume=True, start=None, until=job["until"], log_dir=None, rank=0, training=Training(job["training"]), nest=nest,
        **options, **paths,
    )  # fmt: skip


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _request(asked: Asked, target: str, latency: str) -> Request:
    return make_request(
        asked.checkpoint, target=target, recipe=asked.recipe, out=asked.out, latency=latency, fps=None, data=asked.data,
        resolution=asked.resolution, max_size=asked.max_size, max_memory=asked.max_memory, min_ssim=asked.min_ssim,
        effort=asked.effort, seed=asked.seed, start=None, until=None, arch=asked.arch, trust=asked.trust,
        discriminator=asked.discriminator, perceptual=asked.perceptual,
    )  # fmt: skip


def _shared_unit(asked: Asked, point: _Point, known: Mapping[str, Any]) -> Unit | None:
    request = point.request
    until = shared_stage(request.recipe)
    if until is None:
        return None
    recipe = request.recipe
    settings = {
        **known,
        "until": until,
        "rewrite": dataclasses.asdict(recipe.rewrite),
        "pays": dict(request.target.rewrites),
        "trains": "distill" in recipe.stages,
        "inputs": [recipe.export.calibration, recipe.verify.held_out, recipe.distill.held_out],
        "resolution": request.resolution,
    }
    job = _job(asked, point.target, latency=None, until=until)
    return Unit(_digest(settings), "shared", request.target.id, None, None, alone=False, job=job)


def _nest_unit(asked: Asked, points: Sequence[_Point], known: Mapping[str, Any]) -> Unit:
    """Return the unit that trains the students of all `points`, whose targets want the same rewrites, together."""
    first = points[0].request
    settings = {
        **known,
        "together": [[p.request.target.to_json(), p.request.budget.latency_s] for p in points],
        "recipe": dataclasses.asdict(first.recipe),
        "effort": first.effort.value,
        "resolution": first.resolution,
    }
    job = _job(asked, points[0].target, latency=points[0].latency, until=None)
    job["points"] = [[_absolute(p.target), p.latency] for p in points]
    is_measured = any(p.request.target.local for p in points)
    return Unit(_digest(settings), "nest", first.target.id, None, None, alone=is_measured, job=job)


def _finish_unit(asked: Asked, point: _Point, before: Unit | None, known: Mapping[str, Any]) -> Unit:
    request = point.request
    settings = {
        **known,
        "after": before and before.key,
        "target": request.target.to_json(),
        "budget": dataclasses.asdict(request.budget),
        "recipe": dataclasses.asdict(request.recipe),
        "effort": request.effort.value,
        "resolution": request.resolution,
    }
    job = _job(asked, point.target, latency=point.latency, until=None)
    return Unit(
        _digest(settings), "finish", request.target.id, request.budget.latency_s, before and before.key,
        alone=request.target.local, job=job,
    )  # fmt: skip


def _job(asked: Asked, target: str, *, latency: str | None, until: str | None) -> dict[str, Any]:
    """Return a unit's options as plain JSON, with absolute paths: a worker has a working directory of its own."""
    file, colon, name = (asked.arch or "").partition(":")
    return {
        "version": __version__,
        "checkpoint": str(asked.checkpoint.resolve()),
        "target": _absolute(target),
        "recipe": _absolute(asked.recipe),
        "latency": latency,
        "until": until,
        "effort": asked.effort.value,
        "seed": asked.seed,
        "data": asked.data and str(asked.data.resolve()),
        "resolution": asked.resolution,
        "max_size": asked.max_size,
        "max_memory": asked.max_memory,
        "min_ssim": asked.min_ssim,
        "arch": asked.arch and f"{Path(file).resolve()}{colon}{name}",
        "trust": asked.trust,
        "discriminator": asked.discriminator and str(asked.discriminator.resolve()),
        "perceptual": asked.perceptual and str(asked.perceptual.resolve()),
        "training": asked.training.value,
        "points": [],
    }


def _absolute(name_or_path: str) -> str:
    return str(Path(name_or_path).resolve()) if looks_like_path(name_or_path) else name_or_path


def _folder_sha256(folder: Path | None) -> str | None:
    """Return a hash of the names and contents of all files below `folder`; None for None and for a folder that is not there."""
    if folder is None or not folder.is_dir():
        return None
    return _digest(
        [[path.relative_to(folder).as_posix(), file_sha256(path)] for path in sorted(folder.rglob("*")) if path.is_file()]
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
