"""The only training loop: a student learns to give the teacher's images.

Step `s` is a function of the state before it and of `inputs.train(s, ...)`, and all state is in the checkpoint: a run that
was killed and resumed gives the same bits as one that was not. Under `accelerate launch` every process computes an equal part
of each batch, gradients are averaged, and so the result is the one of a single process up to float rounding.
"""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from edgegen.distill.adversary import Adversary
from edgegen.distill.checkpoint import History, read_checkpoint, run_key, write_checkpoint
from edgegen.distill.evaluate import HeldOut, hold_out
from edgegen.distill.hardware import Arithmetic, Hardware, open_hardware
from edgegen.distill.losses import charbonnier_loss, feature_loss, gradient_loss, l1_loss, ssim_loss, visible
from edgegen.distill.networks import Networks, build_networks, trusted_arithmetic
from edgegen.distill.schedule import learning_rate_at
from edgegen.distill.tensorboard import Board, open_board
from edgegen.errors import DivergedError, RecipeError
from edgegen.generator import Generator, StageRecord
from edgegen.progress import Progress
from edgegen.recipe import DistillConfig
from edgegen.spec import TensorSpec

if TYPE_CHECKING:
    from edgegen.data import Inputs

CHECKPOINT = "distill.training"
_SHOWN_PAIRS = 4
_SCALARS_EVERY = 10


@dataclasses.dataclass
class _Run:
    """One training run: what it was asked for, what it trains, and where it stands (`step` steps are done)."""

    config: DistillConfig
    steps: int
    inputs: Inputs
    output: TensorSpec
    hardware: Hardware
    networks: Networks
    optimizer: Any
    held_out: HeldOut
    path: Path
    key: str
    history: History
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
    arithmetic: Arithmetic | None = None,
) -> Generator:
    """Return a copy of `student`, trained for `steps` steps on the teacher's images, with the moving average of its weights.

    The state goes to `work_dir` every `config.checkpoint_every` steps; a call with the same arguments continues from there.
    `seed` is the one that `inputs` draw with: here it only tells runs apart. `log_dir`: TensorBoard files. `arithmetic` None:
    the fastest of the device, if the teacher's images stay the same in it. Raises DivergedError when the loss or the gradient
    is no longer finite, RecipeError for settings that contradict the arguments.
    """
    _check_arguments(student, config, steps, discriminator)
    run = _start(student, config, teacher=teacher, inputs=inputs, steps=steps, work_dir=work_dir, arithmetic=arithmetic,
                 discriminator=discriminator, seed=seed)  # fmt: skip
    with open_board(log_dir if run.hardware.is_first else None, first_step=run.step) as board:
        _train(run, progress if run.hardware.is_first else None, board)
    run.hardware.wait()
    result = student.copy()
    result.module.load_state_dict(run.networks.average.state_dict())
    settings = dataclasses.asdict(config) | {"steps": steps, "seed": seed}
    return result.with_record(StageRecord("distill", settings, run.seconds, _facts(run)))


def _check_arguments(student: Generator, config: DistillConfig, steps: int, discriminator: nn.Module | None) -> None:
    output = student.spec.outputs[0]
    if steps < 1:
        raise RecipeError(f"distillation of {steps} steps is none", hint="give at least one step, or leave the stage out")
    if config.losses.adversarial and discriminator is None:
        raise RecipeError("losses.adversarial is set but there is no discriminator", hint="give its checkpoint, or set it to 0")
    if output.dtype != "float32":
        raise RecipeError(
            f"the student gives {output.dtype} pictures, which have no gradient", hint="rewrite to pixels after distill"
        )


def _start(
    student: Generator,
    config: DistillConfig,
    *,
    teacher: Generator,
    inputs: Inputs,
    steps: int,
    work_dir: Path,
    arithmetic: Arithmetic | None,
    discriminator: nn.Module | None,
    seed: int,
) -> _Run:
    """Build everything that trains, and take it to where an earlier, interrupted run of the same key had come."""
    hardware, output = open_hardware(arithmetic, batch=config.batch), student.spec.outputs[0]
    first_batch = inputs.train(0, config.batch, config.augment)
    networks = build_networks(student, teacher, first_batch, hardware, features=config.losses.feature > 0)
    hardware = trusted_arithmetic(networks.teacher, first_batch, hardware, output)
    if config.losses.adversarial and discriminator is not None:
        networks.adversary = Adversary(discriminator, hardware.device)
    optimizer = hardware.accelerator.prepare(torch.optim.Adam(networks.parameters(), lr=config.learning_rate))
    settings = {"config": dataclasses.asdict(config), "steps": steps, "seed": seed, "inputs": inputs.digest,
                "arithmetic": hardware.arithmetic.value}  # fmt: skip
    key = run_key({"student": student.module, "teacher": teacher.module, "discriminator": discriminator}, settings)
    held_out = hold_out(networks.teacher, inputs.held_out(config.held_out), output, device=hardware.device, batch=config.batch)
    run = _Run(config, steps, inputs, output, hardware, networks, optimizer, held_out, work_dir / CHECKPOINT, key, History())
    state = read_checkpoint(run.path, key)
    if state is not None:
        _restore(run, state)
    hardware.wait()
    return run


def _train(run: _Run, progress: Progress | None, board: Board) -> None:
    if progress is not None:
        progress.start("distill", run.steps)
        progress.advance(run.step, **_latest(run))
    if run.step == 0:
        _evaluate(run, board)
        _store(run)  # a disk that cannot be written is found now, not after the first few hundred steps
    while run.step < run.steps:
        terms = _take_step(run)
        run.history.add_loss(terms["loss"])
        if run.step % _SCALARS_EVERY == 0:
            board.scalars(run.step, {f"train/{name}": value for name, value in terms.items()})
        if run.step % run.config.evaluate_every == 0 or run.step == run.steps:
            _evaluate(run, board)
        if run.step % run.config.checkpoint_every == 0 or run.step == run.steps:
            _store(run)
        if progress is not None:
            progress.advance(1, loss=terms["loss"], **_latest(run))
    if progress is not None:
        progress.finish()


def _take_step(run: _Run) -> dict[str, float]:
    """Move the weights by one step and return the loss and its weighted terms, averaged over processes."""
    networks, hardware, step = run.networks, run.hardware, run.step
    rate = learning_rate_at(step, steps=run.steps, peak=run.config.learning_rate, warmup_steps=run.config.warmup_steps)
    batch = hardware.shard(run.inputs.train(step, run.config.batch, run.config.augment))
    with torch.no_grad(), hardware.autocast():
        real, *guides = networks.teacher(*batch)
    with hardware.autocast():
        fake, *taps = networks.student(*batch)
        adapted = [adapter(tap) for adapter, tap in zip(networks.adapters, taps, strict=True)]
    if networks.adversary is not None:
        hardware.average(networks.adversary.gradients(step, batch, real.float(), fake.float()))
        networks.adversary.learn(rate)
    terms = _loss_terms(run, batch, (fake, adapted), (real, guides))
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    run.optimizer.zero_grad()
    loss = torch.stack(list(terms.values())).sum()
    hardware.accelerator.backward(loss)
    values = _step_optimizer(run, loss, terms)
    networks.follow(step, run.config.ema)
    run.step += 1
    return values | {"learning_rate": rate}


def _loss_terms(
    run: _Run,
    batch: tuple[torch.Tensor, ...],
    ours: tuple[torch.Tensor, list[torch.Tensor]],
    theirs: tuple[torch.Tensor, list[torch.Tensor]],
) -> dict[str, torch.Tensor]:
    """Return the weighted losses that are switched on by name; `ours` and `theirs` are (image, taps)."""
    weights = run.config.losses
    fake, real = visible(ours[0], run.output), visible(theirs[0], run.output)
    plain = {"l1": l1_loss, "charbonnier": charbonnier_loss, "ssim": ssim_loss, "gradient": gradient_loss}
    terms = {name: getattr(weights, name) * loss(fake, real) for name, loss in plain.items() if getattr(weights, name)}
    if ours[1]:
        pairs = zip(ours[1], theirs[1], run.networks.tap_scales, strict=True)
        terms["feature"] = weights.feature * torch.stack([feature_loss(*pair) for pair in pairs]).mean()
    if weights.truth:
        terms["truth"] = weights.truth * l1_loss(fake, _truth(run))
    if run.networks.adversary is not None:
        terms["adversarial"] = weights.adversarial * run.networks.adversary.generator_loss(batch, ours[0].float())
    return terms


def _truth(run: _Run) -> torch.Tensor:
    truth = run.inputs.train_truth(run.step, run.config.batch, run.config.augment)
    if truth is None:
        raise RecipeError(
            "distill.losses.truth is set, but the inputs have no truth", hint="only super-resolvers have; set it to 0"
        )
    return run.hardware.shard((truth,))[0]


def _step_optimizer(run: _Run, loss: torch.Tensor, terms: dict[str, torch.Tensor]) -> dict[str, float]:
    """Average gradients and losses over processes, stop if they are not finite, clip, and step; return the values."""
    parameters, accelerator = run.networks.parameters(), run.hardware.accelerator
    named = {"loss": loss.detach()} | {name: term.detach() for name, term in terms.items()}
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
            hint=f"lower distill.learning_rate (it is {run.config.learning_rate:g}), for example to a quarter",
        )
    if run.config.clip_norm:
        nn.utils.clip_grads_with_norm_(parameters, run.config.clip_norm, norm)
    run.optimizer.step()
    return values


def _evaluate(run: _Run, board: Board) -> None:
    """Note how near the averaged student is to the teacher on the held-out inputs."""
    if not run.hardware.is_first or not run.held_out.inputs:
        return
    found = run.held_out.fidelity(run.networks.average, run.hardware.device)
    run.history.add_point(run.step, found.psnr_db, found.ssim)
    board.scalars(run.step, {"held_out/psnr_db": found.psnr_db, "held_out/ssim": found.ssim})
    if board.is_open:
        board.picture(run.step, "teacher | student", run.held_out.pairs(run.networks.average, run.hardware.device, _SHOWN_PAIRS))


def _store(run: _Run) -> None:
    if not run.hardware.is_first:
        return
    scaler = run.hardware.accelerator.scaler
    state = run.networks.state_dict() | {
        "step": run.step,
        "seconds": run.seconds,
        "optimizer": run.optimizer.state_dict(),
        "scaler": scaler.state_dict() if scaler is not None else None,
        "history": dataclasses.asdict(run.history),
    }
    write_checkpoint(run.path, run.key, state)


def _restore(run: _Run, state: dict[str, Any]) -> None:
    run.networks.load_state_dict(state)
    run.optimizer.load_state_dict(state["optimizer"])
    if run.hardware.accelerator.scaler is not None and state["scaler"] is not None:
        run.hardware.accelerator.scaler.load_state_dict(state["scaler"])
    run.history = History(**state["history"])
    run.step, run.seconds_before = state["step"], state["seconds"]


def _latest(run: _Run) -> dict[str, float]:
    return {name: run.history.points[-1][name] for name in ("psnr_db", "ssim")} if run.history.points else {}


def _facts(run: _Run) -> dict[str, Any]:
    return {
        "steps": run.steps,
        **(run.history.points[-1] if run.history.points else {}),
        "curve": run.history.points,
        "taps": list(run.networks.tap_names),
        "arithmetic": run.hardware.arithmetic.value,
        "device": run.hardware.device.type,
        "processes": run.hardware.process_count,
        "inputs": run.inputs.digest,
    }
