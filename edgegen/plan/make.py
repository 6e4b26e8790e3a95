"""Make a plan: the same first steps as a run (load, rewrite, the front of pruning), a second of training, and arithmetic."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edgegen.candidates import fastest
from edgegen.effort import fitted, steps_for
from edgegen.errors import RecipeError
from edgegen.generator import Generator
from edgegen.graph import count_macs, count_params
from edgegen.plan.front_options import Choice, Point, choose
from edgegen.plan.machine import Probe, busy_sentence, probe_training, reference_macs_per_s
from edgegen.plan.memory import device_memory_bytes
from edgegen.plan.model import FrontRow, Option, Plan, plan_key, read_plan, save_plan
from edgegen.plan.past_runs import Expected, PastRuns, expected_finish_s, expected_ssim, load_past_runs
from edgegen.plan.size import artifact_bytes
from edgegen.recipe import DistillConfig
from edgegen.runtime.process_facts import machine_facts, peak_memory_bytes
from edgegen.spec import Budget, Precision

if TYPE_CHECKING:
    from edgegen.data import Inputs
    from edgegen.latency import LatencyModel
    from edgegen.progress import Progress
    from edgegen.prune import FrontPoint
    from edgegen.request import Request

_JUDGED_ON = 4  # calibration inputs that the picture loss of the front is taken on: every point runs them all

ModelFor = Callable[["Request"], "LatencyModel"]


@dataclasses.dataclass(frozen=True)
class _Case:
    """What is known before options are made."""

    request: Request
    teacher: Generator
    rewritten: Generator
    inputs: Inputs
    config: DistillConfig
    runs: PastRuns
    precision: Precision


@dataclasses.dataclass(frozen=True)
class _Spent:
    """What this machine took for the first steps, in seconds, and how fast it is on a typical convolution."""

    seconds: float
    macs_per_s: float


def find_option(request: Request, number: int, *, model_for: ModelFor, progress: Progress) -> Option:
    """Return option `number` of the plan in `request.out`; of a new plan, which is then written there, if that is for another
    request or missing. Raises RecipeError when there is no such option."""
    plan = read_plan(request.out)
    if plan is None or plan.key != plan_key(request):
        plan = make_plan(request, model_for=model_for, progress=progress)
        save_plan(plan, request.out)
    for option in plan.options:
        if option.number == number:
            return option
    known = ", ".join(str(option.number) for option in plan.options)
    raise RecipeError(f"the plan has no option {number}", hint=f"it has {known}: `edgegen plan` shows them")


def make_plan(request: Request, *, model_for: ModelFor, progress: Progress) -> Plan:
    """Return the options for `request`. `model_for(request)` gives what estimates latency on its target; a table of
    measured layers is kept in `request.out`. Nothing is trained but for the second that the machine's speed is measured in."""
    started, busy = time.perf_counter(), busy_sentence(machine_facts())
    case = _open(request, progress)
    points = _front(case, model_for, progress)
    quality = [_expected(case, point) for point in points]
    loss_and_time = [
        Point(point.seconds, point.picture_loss, None if q is None else q.ssim) for point, q in zip(points, quality, strict=True)
    ]
    chosen: Sequence[Choice] = choose(loss_and_time, budget_s=request.budget.latency_s, min_ssim=request.budget.min_ssim)
    if "prune" not in request.recipe.stages:
        chosen = [Choice("as it is", 0, f"the recipe '{request.recipe.name}' removes no channels")]
    first_steps_s = time.perf_counter() - started
    progress.note("plan: a second of training for each option, to see how fast this machine is")
    spent = _Spent(first_steps_s, reference_macs_per_s())
    probes = {choice.index: _probed(case, points[choice.index]) for choice in chosen}  # options may be the same student
    options = tuple(
        _option(case, number, choice, points[choice.index], quality[choice.index], spent, probes[choice.index])
        for number, choice in enumerate(chosen, start=1)
    )
    rows = (
        FrontRow(p.seconds, p.macs, p.params, _psnr_db(p.picture_loss), q and q.ssim)
        for p, q in zip(points, quality, strict=True)
    )
    return Plan(
        plan_key(request), request.checkpoint.name, request.target.id, case.teacher.family, spent.macs_per_s, options,
        front=tuple(rows), warnings=() if busy is None else (busy,),
    )  # fmt: skip


def _open(request: Request, progress: Progress) -> _Case:
    """Load and rewrite as a run does."""
    from edgegen.data import open_inputs
    from edgegen.export.preflight import require_exportable
    from edgegen.load import load
    from edgegen.rewrite import rewrite

    recipe = request.recipe
    progress.note(f"plan: load and rewrite {request.checkpoint.name}")
    teacher = load(request.checkpoint, resolution=request.resolution, arch=request.arch, trust=request.trust)
    require_exportable(teacher, request.target)
    held_out = max(recipe.verify.held_out, recipe.distill.held_out)
    calibration = recipe.export.calibration
    inputs = open_inputs(teacher.spec, request.data, calibration=calibration, seed=request.seed, held_out=held_out)
    rewritten = teacher
    if "rewrite" in recipe.stages:
        approximate = "distill" in recipe.stages
        rewritten = rewrite(teacher, recipe.rewrite, pays=request.target.rewrites, approximate=approximate)
    config, _ = fitted(recipe.distill, teacher)
    wanted = tuple(Precision(p) for p in recipe.export.precisions) or request.target.precisions
    return _Case(request, teacher, rewritten, inputs, config, load_past_runs(), fastest(wanted))


def _front(case: _Case, model_for: ModelFor, progress: Progress) -> list[FrontPoint]:
    """Return the front of pruning; without a prune stage only its uncut end is used."""
    import torch

    from edgegen.latency import MeasuredTable
    from edgegen.prune import front

    request = case.request
    progress.note(f"plan: the front of {request.target.id}")
    request.out.mkdir(parents=True, exist_ok=True)
    model = model_for(request)
    judged_on = [tuple(torch.from_numpy(array) for array in item) for item in case.inputs.calibration(_JUDGED_ON)]
    points = front(
        case.rewritten, request.recipe.prune, model=model, inputs=judged_on, channel_multiple=request.target.channel_multiple
    )
    if isinstance(model, MeasuredTable):
        model.save()
    return points


def _student(rewritten: Generator, point: FrontPoint) -> Generator:
    """Return the student of a point of the front, untrained."""
    from edgegen.graph import example_inputs
    from edgegen.prune import remove_units
    from edgegen.prune.groups import channel_groups

    student, shapes = rewritten.copy(), example_inputs(rewritten.spec)
    remove_units(student.module, channel_groups(student.module, shapes), point.allocation, shapes)
    return student


def _expected(case: _Case, point: FrontPoint) -> Expected | None:
    """Return the expected SSIM of a point; a recipe that does not train promises nothing."""
    if "distill" not in case.request.recipe.stages:
        return None
    ratio = count_macs(case.teacher.module, case.teacher.spec) / max(1, point.macs)
    return expected_ssim(
        case.runs.runs, family=case.teacher.family, effort=case.request.effort, macs_ratio=ratio,
        picture_loss=point.picture_loss, steps=case.config.steps,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Probed:
    """An untrained student of the front, and what training it takes here; None for a recipe that does not train."""

    student: Generator
    probe: Probe | None


def _probed(case: _Case, point: FrontPoint) -> _Probed:
    student = _student(case.rewritten, point)
    trains = "distill" in case.request.recipe.stages
    return _Probed(student, probe_training(case.teacher, student, case.config, case.inputs) if trains else None)


def _option(
    case: _Case, number: int, choice: Choice, point: FrontPoint, expected: Expected | None, spent: _Spent, probed: _Probed
) -> Option:
    request, teacher, student, probe = case.request, case.teacher, probed.student, probed.probe
    steps, train_s, ram_bytes = 0, 0.0, peak_memory_bytes()
    if probe is not None:
        steps = steps_for(request.effort, case.config, teacher, point.macs)
        train_s, ram_bytes = probe.start_s + steps * probe.step_s, probe.memory_bytes
    finish = expected_finish_s(
        case.runs.finishes, backend=request.target.backend, teacher_macs=count_macs(teacher.module, teacher.spec),
        macs_per_s=spent.macs_per_s,
    )  # fmt: skip
    size, memory = (
        artifact_bytes(student, request.target.backend, case.precision),
        device_memory_bytes(student, case.precision),
    )
    return Option(
        number=number, name=choice.name, latency_s=point.seconds, latency_label=point.label, precision=case.precision.value,
        size_bytes=size, memory_bytes=memory, macs=point.macs, params=count_params(student.module),
        picture_psnr_db=_psnr_db(point.picture_loss), expected=expected, steps=steps,
        train_s=train_s, finish_s=None if finish is None else finish + spent.seconds, ram_bytes=ram_bytes,
        note="; ".join([*filter(None, [choice.note]), *_over(request.budget, point.seconds, size, memory)]),
    )  # fmt: skip


def _over(budget: Budget, seconds: float, size_bytes: int | None, memory_bytes: int) -> list[str]:
    """Name the limits that an option is expected to break."""
    found = (("--latency", budget.latency_s, seconds), ("--max-size", budget.size_bytes, size_bytes),
             ("--max-memory", budget.memory_bytes, memory_bytes))  # fmt: skip
    return [f"over {name}" for name, limit, value in found if limit is not None and value is not None and value > limit]


def _psnr_db(mean_square_error: float) -> float | None:
    """Return the level of a mean square error in [0, 1] range; None where there is no error at all."""
    return None if mean_square_error <= 0 else -10.0 * math.log10(mean_square_error)
