"""The only training loop: a student learns to give the teacher's images.

Step `s` is a function of the state before it and of `inputs.train(s, ...)`, and all state is in the checkpoint, the number of
threads and whatever else decides how sums are rounded included: a run that was killed and resumed gives the same bits as one
that was not. Under `accelerate launch` every process computes an equal part
of each batch, gradients are averaged, and so the result is the one of a single process up to float rounding.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from edgegen.distill.adversary import check_adversary, open_adversary, width_share
from edgegen.distill.checkpoint import History, read_checkpoint, run_key, write_checkpoint
from edgegen.distill.evaluate import HeldOut, hold_out
from edgegen.distill.feed import Fed, Feed
from edgegen.distill.hardware import Arithmetic, Hardware, asked_arithmetic, device_type, open_hardware, pinned_threads
from edgegen.distill.networks import build_networks, compile_networks, faster_format, trusted_arithmetic
from edgegen.distill.objective import Objective, Shown, check_objective, needs_taps
from edgegen.distill.perceptual import PerceptualNetwork
from edgegen.distill.plateau import has_stopped_improving, outlook, outlook_facts
from edgegen.distill.schedule import learning_rate_at, peak_rate
from edgegen.distill.teacher_cache import TeacherCache, open_cache
from edgegen.distill.tensorboard import Board, open_board
from edgegen.distill.trainee import Learner, Trainee
from edgegen.errors import DivergedError, RecipeError
from edgegen.generator import Generator, StageRecord
from edgegen.progress import Progress
from edgegen.recipe import DistillConfig, MemoryFormat
from edgegen.spec import TensorSpec

if TYPE_CHECKING:
    from edgegen.data import Inputs

CHECKPOINT = "distill.training"
_SHOWN_PAIRS = 4
_SCALARS_EVERY = 10
_WORSE_DB = 0.1


Build = Callable[[tuple[torch.Tensor, ...], Hardware], Trainee]
"""Makes what is trained from the first batch of inputs and the hardware."""


@dataclasses.dataclass
class Run:
    """One training run: what it was asked for, what it trains, and where it stands (`step` steps are done).

    `peak` is the learning rate behind the warm-up: the one asked for, or the one that fits where the student starts.
    """

    config: DistillConfig
    steps: int
    inputs: Inputs
    output: TensorSpec
    hardware: Hardware
    networks: Trainee
    objective: Objective
    optimizer: Any
    held_out: HeldOut
    path: Path
    key: str
    history: History
    feed: Feed
    cache: TeacherCache | None
    peak: float = 0.0
    has_stopped: bool = False
    step: int = 0
    seconds_before: float = 0.0
    started: float = dataclasses.field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Time spent training, that of earlier, interrupted runs included."""
        return self.seconds_before + time.perf_counter() - self.started


def distill(
    student: Generator,
    config: DistillConfig,
    *,
    teacher: Generator,
    inputs: Inputs,
    steps: int,
    seed: int,
    work_dir: Path,
    progress: Progress,
    log_dir: Path | None = None,
    discriminator: nn.Module | None = None,
    perceptual: PerceptualNetwork | None = None,
    arithmetic: Arithmetic | None = None,
) -> Generator:
    """Return a copy of `student`, trained for `steps` steps on the teacher's images, with the moving average of its weights.

    The state goes to `work_dir` every `config.checkpoint_every` steps; a call with the same arguments continues from there.
    `seed` is the one that `inputs` draw with: here it only tells runs apart. `log_dir`: TensorBoard files. `arithmetic` None:
    the fastest of the device, if the teacher's images stay the same in it. Raises DivergedError when the loss or the gradient
    is no longer finite, RecipeError for settings that contradict the arguments.
    """
    check_arguments(student, config, steps, discriminator)
    check_objective(config, student.spec, perceptual)

    def build(first_batch: tuple[torch.Tensor, ...], hardware: Hardware) -> Trainee:
        features = needs_taps(config.losses, judged=perceptual is not None)
        return build_networks(student, teacher, first_batch, hardware, features=features)

    run = train(build, {"student": student.module}, config, output=student.spec.outputs[0], teacher=teacher, inputs=inputs,
                steps=steps, seed=seed, work_dir=work_dir, progress=progress, log_dir=log_dir, discriminator=discriminator,
                perceptual=perceptual, arithmetic=arithmetic)  # fmt: skip
    result = student.copy()
    (average,) = run.networks.averages()
    result.module.load_state_dict(average.state_dict())
    settings = dataclasses.asdict(config) | {"steps": steps, "seed": seed}
    return result.with_record(StageRecord("distill", settings, run.seconds, training_facts(run)))


def train(
    build: Build,
    students: Mapping[str, nn.Module],
    config: DistillConfig,
    *,
    output: TensorSpec,
    teacher: Generator,
    inputs: Inputs,
    steps: int,
    seed: int,
    work_dir: Path,
    progress: Progress,
    log_dir: Path | None,
    discriminator: nn.Module | None,
    arithmetic: Arithmetic | None,
    settings: Mapping[str, Any] | None = None,
    perceptual: PerceptualNetwork | None = None,
) -> Run:
    """Train what `build` makes, to the last step, and return the run.

    `students` are the weights that it starts from and `settings` (JSON values) what else `build` goes by: with the other
    arguments they tell one run from another.
    """
    others = {"teacher": teacher.module, "discriminator": discriminator, "perceptual": perceptual}
    told = {"config": dataclasses.asdict(dataclasses.replace(config, workers=0)), "steps": steps, "seed": seed,
            "inputs": inputs.digest, "device": device_type(), "arithmetic": arithmetic, **(settings or {})}  # fmt: skip
    key = run_key({**students, **others}, told)
    state = read_checkpoint(work_dir / CHECKPOINT, key)
    with pinned_threads(state["numerics"]["threads"] if state else torch.get_num_threads()):
        run = _start(build, students, config, output=output, teacher=teacher, inputs=inputs, steps=steps, work_dir=work_dir,
                     arithmetic=arithmetic, discriminator=discriminator, perceptual=perceptual, seed=seed, key=key,
                     state=state)  # fmt: skip
        with open_board(log_dir if run.hardware.is_first else None, first_step=run.step) as board, run.feed:
            _train(run, progress if run.hardware.is_first else None, board)
        run.hardware.wait()
    return run


def check_arguments(student: Generator, config: DistillConfig, steps: int, discriminator: nn.Module | None) -> None:
    """Raise RecipeError when `config` contradicts the other arguments of a training."""
    output = student.spec.outputs[0]
    if steps < 1:
        raise RecipeError(f"distillation of {steps} steps is none", hint="give at least one step, or leave the stage out")
    check_adversary(config, discriminator)
    if output.dtype != "float32":
        raise RecipeError(
            f"the student gives {output.dtype} pictures, which have no gradient", hint="rewrite to pixels after distill"
        )


def _start(
    build: Build,
    students: Mapping[str, nn.Module],
    config: DistillConfig,
    *,
    output: TensorSpec,
    teacher: Generator,
    inputs: Inputs,
    steps: int,
    work_dir: Path,
    arithmetic: Arithmetic | None,
    discriminator: nn.Module | None,
    perceptual: PerceptualNetwork | None,
    seed: int,
    key: str,
    state: dict[str, Any] | None,
) -> Run:
    """Build everything that trains, and take it to `state`, where an earlier, interrupted run of the same key had come."""
    kept = state["numerics"] if state else None
    asked = Arithmetic(kept["arithmetic"]) if kept else arithmetic or asked_arithmetic(config)
    hardware = open_hardware(asked, batch=config.batch)
    first_batch = inputs.train(0, config.batch, config.augment)
    networks = build(first_batch, hardware)
    if asked is None:
        hardware = trusted_arithmetic(networks.teacher, first_batch, hardware, output)
    layout = MemoryFormat(kept["memory_format"]) if kept else faster_format(networks.teacher, first_batch, hardware, config)
    hardware = dataclasses.replace(hardware, memory_format=layout)
    hardware.arrange([*networks.teacher.parameters(), *networks.parameters()])
    share = width_share(students.values(), teacher.module)
    networks.adversary = open_adversary(config, discriminator, output, hardware.device, share=share, seed=seed)
    objective = Objective(config, teacher.spec, hardware, perceptual)
    optimizer = hardware.accelerator.prepare(torch.optim.Adam(networks.parameters(), lr=config.learning_rate))
    held_out = hold_out(networks.teacher, inputs.held_out(config.held_out), output, device=hardware.device, batch=config.batch)
    feed = Feed(inputs, config, first_step=state["step"] if state else 0, steps=steps)
    cache = open_cache(work_dir, config, networks, teacher, inputs, hardware, output)
    run = Run(config, steps, inputs, output, hardware, networks, objective, optimizer, held_out, work_dir / CHECKPOINT, key,
              History(), feed, cache)  # fmt: skip
    if state is not None:
        _restore(run, state)
    if config.compile:
        compile_networks(networks)
    hardware.wait()
    return run


def _train(run: Run, progress: Progress | None, board: Board) -> None:
    if progress is not None:
        progress.start("distill", run.steps)
        progress.advance(run.step, **_latest(run))
    if run.step == 0:
        _evaluate(run, board)
        _store(run)  # a disk that cannot be written is found now, not after the first few hundred steps
    run.peak = run.config.learning_rate or run.hardware.agree(_fitting_rate(run))
    while run.step < run.steps and not run.has_stopped:
        terms = _take_step(run)
        if progress is not None and run.step == 1:
            for text in run.objective.notes():
                progress.note(f"distill: {text}")
        run.history.add_loss(terms["loss"])
        if run.step % _SCALARS_EVERY == 0:
            board.scalars(run.step, {f"train/{name}": value for name, value in terms.items()})
        if run.step % run.config.evaluate_every == 0 or run.step == run.steps:
            _evaluate(run, board)
            run.has_stopped = run.hardware.agree(has_stopped_improving(run.history.points, run.config.patience))
        if run.step % run.config.checkpoint_every == 0 or run.step == run.steps or run.has_stopped:
            _store(run)
        if progress is not None:
            progress.advance(1, loss=terms["loss"], **_latest(run))
    if progress is not None:
        progress.finish()
        for text in _closing_words(run):
            progress.note(f"distill: {text}")


def _fitting_rate(run: Run) -> float:
    """The rate for where the student starts; beside a discriminator, which learns at the same rate, the usual one."""
    points = [] if run.config.losses.adversarial else run.history.points
    return peak_rate(points[0]["psnr_db"] if points else None)


def _closing_words(run: Run) -> list[str]:
    """Return what the curve says when the training is over, as sentences."""
    found = outlook(run.history.points)
    early = f"stopped after {run.step} of {run.steps} steps: {run.config.patience} evaluations brought nothing better"
    lost = run.history.points[0]["psnr_db"] - run.history.points[-1]["psnr_db"]
    worse = (
        f"the student was {lost:.1f} dB nearer to the teacher before it was trained: lower distill.learning_rate, or train longer"
    )
    return ([early] if run.has_stopped else []) + ([worse] if lost > _WORSE_DB else []) + ([found.text] if found else [])


def _take_step(run: Run) -> dict[str, float]:
    """Move the weights by one step and return the loss and its weighted terms, averaged over processes."""
    networks, hardware, step = run.networks, run.hardware, run.step
    rate = learning_rate_at(step, steps=run.steps, peak=run.peak, warmup_steps=run.config.warmup_steps)
    fed = run.feed.take(step)
    batch = hardware.shard(fed.inputs)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    run.optimizer.zero_grad()
    theirs = _teach(run, fed, batch)
    learned = [_learn(run, learner, batch, theirs, rate) for learner in networks.learners(step)]
    terms = {name: torch.stack([found[name] for found in learned]).sum() for name in learned[0]}
    values = _step_optimizer(run, torch.stack(list(terms.values())).sum(), terms)
    networks.follow(step, run.config.ema)
    run.step += 1
    return values | {"learning_rate": rate}


def _teach(run: Run, fed: Fed, batch: tuple[torch.Tensor, ...]) -> Shown:
    """Return what the teacher shows of this process's part of a batch; images that are stored are read back."""
    teacher, hardware = run.networks.teacher, run.hardware
    with torch.no_grad(), hardware.autocast():
        if run.cache is None or fed.positions is None:
            real, *guides = teacher(*batch)
            return Shown(real, guides)
        positions = fed.positions[hardware.part(len(fed.positions))]
        images = run.cache.images(positions, lambda index: teacher(*(tensor[index : index + 1] for tensor in batch))[0])
        return Shown(images.to(hardware.device))


def _learn(run: Run, learner: Learner, batch: tuple[torch.Tensor, ...], theirs: Shown, rate: float) -> dict[str, torch.Tensor]:
    """Add the gradients of one student to those that are there and return its loss terms, times its share, without gradient."""
    hardware, adversary = run.hardware, run.networks.adversary
    with hardware.autocast():
        fake, *taps = learner.module(*batch)
        adapted = [adapter(tap) for adapter, tap in zip(learner.adapters, taps, strict=True)]
    if adversary is not None:
        hardware.average(adversary.gradients(run.step, batch, theirs.image.float(), fake.float()))
        adversary.learn(rate)
    adapting = set(learner.adapters.parameters())
    terms = run.objective.terms(
        batch, Shown(fake, taps, adapted), theirs, tap_scales=learner.tap_scales,
        parameters=[weight for weight in run.networks.parameters() if weight not in adapting],
        adversary=adversary, truth=run.objective.truth(run.feed, run.step),
    )  # fmt: skip
    weighted = {name: learner.share * term for name, term in terms.items()}
    hardware.accelerator.backward(torch.stack(list(weighted.values())).sum())
    return {name: term.detach() for name, term in weighted.items()}


def _step_optimizer(run: Run, loss: torch.Tensor, terms: dict[str, torch.Tensor]) -> dict[str, float]:
    """Average gradients and losses over processes, stop if they are not finite, clip, and step; return the values."""
    parameters, accelerator = run.networks.parameters(), run.hardware.accelerator
    named = {"loss": loss, **terms}
    seen = torch.stack(list(named.values()))
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    run.hardware.average([*gradients, seen, *run.networks.batch_statistics()])
    accelerator.unscale_gradients()
    norm = nn.utils.get_total_norm(gradients)
    values = dict(zip(named, seen.tolist(), strict=True))
    overflowed = accelerator.scaler is not None and math.isfinite(values["loss"])  # the scaler skips such a step, and scales less
    if not (math.isfinite(values["loss"]) and (overflowed or math.isfinite(float(norm)))):
        broken = "gradient" if math.isfinite(values["loss"]) else "loss"
        raise DivergedError(
            f"the {broken} is no longer finite at step {run.step + 1} of {run.steps}",
            hint=f"lower distill.learning_rate (it is {run.peak:g}), for example to a quarter",
        )
    if run.config.clip_norm:
        nn.utils.clip_grads_with_norm_(parameters, run.config.clip_norm, norm)
    run.optimizer.step()
    return values


def _evaluate(run: Run, board: Board) -> None:
    """Note how near the averaged students are to the teacher on the held-out inputs: the mean over students."""
    if not run.hardware.is_first or not run.held_out.inputs:
        return
    averages = run.networks.averages()
    found = [run.held_out.fidelity(average, run.hardware.device) for average in averages]
    psnr_db, ssim = (sum(values) / len(found) for values in zip(*map(dataclasses.astuple, found), strict=True))
    run.history.add_point(run.step, psnr_db, ssim)
    board.scalars(run.step, {"held_out/psnr_db": psnr_db, "held_out/ssim": ssim})
    if board.is_open:
        board.picture(run.step, "teacher | student", run.held_out.pairs(averages[-1], run.hardware.device, _SHOWN_PAIRS))


def _store(run: Run) -> None:
    if not run.hardware.is_first:
        return
    scaler = run.hardware.accelerator.scaler
    state = run.networks.state_dict() | {
        "step": run.step,
        "seconds": run.seconds,
        "optimizer": run.optimizer.state_dict(),
        "scaler": scaler.state_dict() if scaler is not None else None,
        "history": dataclasses.asdict(run.history),
        "objective": run.objective.state_dict(),
        "numerics": run.hardware.numerics(),
    }
    write_checkpoint(run.path, run.key, state)


def _restore(run: Run, state: dict[str, Any]) -> None:
    run.networks.load_state_dict(state)
    run.optimizer.load_state_dict(state["optimizer"])
    if run.hardware.accelerator.scaler is not None and state["scaler"] is not None:
        run.hardware.accelerator.scaler.load_state_dict(state["scaler"])
    run.history = History(**state["history"])
    run.has_stopped = has_stopped_improving(run.history.points, run.config.patience)
    run.objective.load_state_dict(state["objective"])
    run.step, run.seconds_before = state["step"], state["seconds"]


def _latest(run: Run) -> dict[str, float]:
    return {name: run.history.points[-1][name] for name in ("psnr_db", "ssim")} if run.history.points else {}


def training_facts(run: Run) -> dict[str, Any]:
    """Return what a record tells about a training."""
    return {
        "steps": run.step,
        **({"planned_steps": run.steps} if run.has_stopped else {}),
        "learning_rate": run.peak,
        **(run.history.points[-1] if run.history.points else {}),
        "curve": run.history.points,
        "more_time": outlook_facts(run.history.points),
        "taps": list(run.networks.tap_names),
        **run.hardware.numerics(),
        "teacher_images": f"{run.cache.count} stored" if run.cache else "computed in every step",
        "device": run.hardware.device.type,
        "processes": run.hardware.process_count,
        "inputs": run.inputs.digest,
        **run.objective.facts(),
    }
