"""What one run of `compress` is asked to do, checked before anything long starts."""

from __future__ import annotations

import dataclasses
import enum
import math
from pathlib import Path
from typing import Any

from edgegen.errors import CheckpointError, RecipeError, nearest
from edgegen.recipe import STAGES, Effort, Opponent, PruneGoal, Recipe, load_recipe
from edgegen.spec import Budget, Precision, parse_bytes, parse_resolution, parse_seconds
from edgegen.support import require_offered
from edgegen.target import TargetProfile, resolve_target, with_backend

_SEEDS = 2**63  # what torch and numpy both take


class Training(str, enum.Enum):
    """Whether the students of a sweep train each on its own, or all at once on weights that they share."""

    SEPARATE = "separate"
    SHARED = "shared"


@dataclasses.dataclass(frozen=True)
class Request:
    """One run: the checkpoint, where it shall run, what it may cost, and how. `rank` counts processes that train together.

    `goal_s` is what pruning aims at instead of the latency budget: an option of a plan. The verdict is told by the budget.
    `tables` is a folder of layers that were measured: on this machine, which runs add to, or on devices. None: every run measures
    for itself.
    `nest` is a folder of students that were trained together (edgegen.nested); this run takes its own from there.
    """

    checkpoint: Path
    target: TargetProfile
    budget: Budget
    recipe: Recipe
    out: Path
    data: Path | None = None
    resolution: tuple[int, int] | None = None
    effort: Effort = Effort.BALANCED
    seed: int = 0
    resume: bool = False
    start: str | None = None
    until: str | None = None
    arch: str | None = None
    trust: bool = False
    discriminator: Path | None = None
    perceptual: Path | None = None
    log_dir: Path | None = None
    rank: int = 0
    goal_s: float | None = None
    tables: Path | None = None
    training: Training = Training.SEPARATE
    nest: Path | None = None

    @property
    def prune_to_s(self) -> float | None:
        """The latency in seconds that pruning aims at; None: what the recipe says."""
        return self.budget.latency_s if self.goal_s is None else self.goal_s

    def goes_to(self, stage: str) -> bool:
        """Whether the run reaches `stage`, as far as --until lets it."""
        return self.until is None or STAGES.index(self.until) >= STAGES.index(stage)


def make_request(checkpoint: Path, *, target: str, recipe: str, out: Path | None, **options: Any) -> Request:
    """Read the strings of a command line into a Request. Raises the error of the first value that is not one."""
    for path in (checkpoint, options.get("discriminator"), options.get("perceptual")):
        if path is not None and not path.exists():
            raise CheckpointError(f"{path} does not exist", hint=_neighbour(path))
    seed = options.get("seed", 0)
    if not 0 <= seed < _SEEDS:
        raise RecipeError(f"--seed {seed} is out of range", hint=f"give a number from 0 to {_SEEDS - 1}")
    profile, frame_budget_s = resolve_target(target)
    backend = options.pop("backend", None)
    if backend is not None:
        profile = with_backend(profile, backend)
    latency = _latency(options.pop("latency"), options.pop("fps"), frame_budget_s)
    floor = options.pop("min_ssim")
    if floor is not None and not 0 <= floor <= 1:
        raise RecipeError(f"--min-ssim {floor:g} is not a similarity", hint="give a number from 0 to 1, as in --min-ssim 0.9")
    size, memory, resolution = options.pop("max_size"), options.pop("max_memory"), options.pop("resolution")
    budget = Budget(
        latency_s=latency,
        size_bytes=parse_bytes(size) if size else None,
        memory_bytes=parse_bytes(memory) if memory else None,
        min_ssim=floor,
    )
    for name in ("start", "until"):
        if options[name] is not None and options[name] not in STAGES:
            raise RecipeError(f"'{options[name]}' is not a stage", hint=nearest(options[name], STAGES))
    read, until = load_recipe(recipe), options["until"]
    for option, stage in (("--from", options["start"]), ("--until", until)):
        if stage is not None and stage not in read.stages:
            raise RecipeError(
                f"{option} {stage}: the recipe '{read.name}' has no such stage", hint="it has " + ", ".join(read.stages)
            )
    require_offered(profile.backend, tuple(Precision(precision) for precision in read.export.precisions))
    return Request(
        checkpoint=checkpoint,
        target=profile,
        budget=budget,
        recipe=read,
        out=out or Path("edgegen-out") / "-".join(word for word in (checkpoint.stem, profile.id, backend) if word),
        resolution=parse_resolution(resolution) if resolution else None,
        **options,
    )


def require_loss_files(request: Request) -> None:
    """Raise RecipeError when the run will distill with a loss whose network the recipe wants and no file brings, or with a
    network that no loss of the recipe uses."""
    distill = request.recipe.distill
    if "distill" not in request.recipe.stages or not request.goes_to("distill"):
        return
    if distill.losses.adversarial and request.discriminator is None and distill.adversary.discriminator is not Opponent.NEW:
        raise RecipeError("losses.adversarial is set but there is no discriminator", hint="give its checkpoint, or set it to 0")
    if distill.losses.perceptual and request.perceptual is None:
        raise RecipeError("losses.perceptual is set but there is no network", hint="give its weights: --perceptual FILE")
    if request.discriminator is not None and not distill.losses.adversarial:
        raise RecipeError(
            f"a discriminator is given but the recipe '{request.recipe.name}' has no adversarial loss",
            hint="set [distill.losses] adversarial, as in 0.05, in a recipe of your own (`edgegen cp recipes/balanced .`)",
        )
    if request.perceptual is not None and not (distill.losses.perceptual or distill.losses.gram):
        raise RecipeError("a perceptual network is given but no loss uses it", hint="set losses.perceptual or losses.gram")


def require_one_goal(request: Request) -> None:
    """Raise RecipeError when pruning would have two goals: a latency, and the multiply-accumulates of the recipe."""
    if "prune" in request.recipe.stages and request.recipe.prune.goal is PruneGoal.MACS and request.prune_to_s is not None:
        raise RecipeError(
            f"the recipe '{request.recipe.name}' prunes to a number of multiply-accumulates, "
            f"and a latency of {request.prune_to_s * 1e3:.3g} ms is asked for",
            hint='leave the latency out (--latency, --fps, a target that brings one), or set prune.goal to "latency"',
        )


def _neighbour(checkpoint: Path) -> str:
    """Return a hint that names the files beside a checkpoint that does not exist."""
    siblings = sorted(p.name for p in checkpoint.parent.iterdir() if p.is_file()) if checkpoint.parent.is_dir() else []
    return nearest(checkpoint.name, siblings[:50]) if siblings else "give the path of a checkpoint file"


def _latency(latency: str | None, fps: float | None, frame_budget_s: float | None) -> float | None:
    if latency is not None and fps is not None:
        raise RecipeError("both --latency and --fps are given", hint="keep one of the two")
    if fps is not None:
        if not 0 < fps < math.inf:
            raise RecipeError(f"--fps {fps:g} is not a frame rate", hint="give a positive number, as in --fps 30")
        return 1 / fps
    return parse_seconds(latency) if latency is not None else frame_budget_s
