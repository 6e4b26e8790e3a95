"""The story of one run, told once, top to bottom: checkpoint -> generator -> student -> artifacts -> bundle -> report.

Every stage is content-addressed (edgegen.workspace): what is finished is never done twice, and a killed run goes on.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.effort import batch_for, steps_for, takes_crops
from edgegen.errors import BudgetError, StageError
from edgegen.generator import Generator, load_generator, save_generator
from edgegen.outcome import Outcome
from edgegen.progress import Progress
from edgegen.recipe import DistillConfig, Effort, PruneConfig
from edgegen.workspace import Workspace

if TYPE_CHECKING:
    from edgegen.data import Inputs
    from edgegen.latency import LatencyModel
    from edgegen.request import Request

_SAMPLED_PIXELS, _MOST_SAMPLES = 1 << 20, 128  # of output pictures, for scores and refits: 16 of 256x256
_HOPELESS = 2.0  # the narrowest student this many times over the budget: distillation cannot help, stop before it


class _Stopped(Exception):  # noqa: N818  not an error: --until was reached
    """--until was reached."""


def compress(request: Request, progress: Progress) -> Outcome:
    """Run the recipe on the checkpoint of `request` and return the outcome. Raises EdgegenError for what a user can mend."""
    run = _Run(request, progress)
    try:
        return run.tell()
    except _Stopped as stop:
        return Outcome(None, {"stopped_after": str(stop), "out": str(request.out)})


class _Run:
    """One run under way: the request, its workspace and the teacher."""

    def __init__(self, request: Request, progress: Progress) -> None:
        self.request, self.progress = request, progress

    def tell(self) -> Outcome:
        """Load, rewrite, prune, distill, export, verify, bundle, bench, report."""
        from edgegen.candidates import require_exporter
        from edgegen.data import open_inputs
        from edgegen.deliver import Delivery, deliver
        from edgegen.export.preflight import require_exportable
        from edgegen.request import require_loss_files, require_one_goal

        request = self.request
        require_loss_files(request)
        require_one_goal(request)
        teacher = self._load()
        require_exportable(teacher, request.target)
        if request.goes_to("export"):
            require_exporter(request.target)
        held_out = max(request.recipe.verify.held_out, request.recipe.distill.held_out)
        self.inputs: Inputs = open_inputs(
            teacher.spec, request.data, calibration=request.recipe.export.calibration, seed=request.seed, held_out=held_out
        )
        self.work = Workspace(request.out, resume=request.resume, redo_from=request.start, rank=request.rank)
        self.work.begin(
            {
                "checkpoint": teacher.source,
                "spec": teacher.spec.to_json(),
                "data": self.inputs.digest,
                "seed": request.seed,
            }
        )
        self._stop_after("load")
        student = self._rewrite(teacher)
        student = self._prune(student, teacher)
        student = self._distill(student, teacher)
        if request.rank:
            raise _Stopped("distill")
        outcome = deliver(Delivery(request, self.work, self.inputs, self.progress, teacher, student))
        if outcome is None:
            raise _Stopped(request.until or "")
        return outcome

    def has(self, stage: str) -> bool:
        """Whether the recipe runs this stage."""
        return stage in self.request.recipe.stages

    def _stop_after(self, stage: str) -> None:
        if self.request.until == stage:
            raise _Stopped(stage)

    def _load(self) -> Generator:
        from edgegen.load import load

        self.progress.note(f"load: {self.request.checkpoint.name}")
        request = self.request
        teacher = load(request.checkpoint, resolution=request.resolution, arch=request.arch, trust=request.trust)
        self.progress.note(f"load: {teacher.family} {dict(teacher.hyperparameters)}")
        check_invariants(teacher, teacher, "load")
        return teacher

    def _rewrite(self, teacher: Generator) -> Generator:
        if not self.has("rewrite"):
            return teacher
        from edgegen.rewrite import rewrite

        config, pays = self.request.recipe.rewrite, dict(self.request.target.rewrites)
        if self.has("prune") and self._prune_config().moves:
            # pruning has moves of its own to half resolution: from the teacher's form they started 0.9 dB nearer (style, 3.7 ms)
            pays["space_to_depth"] = False
        approximate = self.has("distill")
        settings = {"config": dataclasses.asdict(config), "pays": pays, "approximate": approximate}
        return self._generator_stage(
            "rewrite", settings, teacher, lambda _: rewrite(teacher, config, pays=pays, approximate=approximate)
        )

    def _prune(self, generator: Generator, teacher: Generator) -> Generator:
        if not self.has("prune"):
            return generator
        from edgegen.candidates import peaks
        from edgegen.prune import prune

        request = self.request
        settings = {
            "config": dataclasses.asdict(self._prune_config()),
            "target": request.target.id,
            "budget_s": request.prune_to_s,
            "multiple": request.target.channel_multiple,
            **peaks(request),
        }

        def run(_: Path) -> Generator:
            model = latency_model(request)
            student = prune(
                generator, self._prune_config(), model=model, budget_s=request.prune_to_s,
                channel_multiple=request.target.channel_multiple, samples=self._samples(teacher), teacher=teacher,
                seed=request.seed,
            )  # fmt: skip
            facts = student.lineage[-1].facts
            if request.prune_to_s is not None and facts["narrowest_ms"] > _HOPELESS * facts["goal_ms"]:
                raise BudgetError(
                    f"even the narrowest student needs {facts['narrowest_ms']:.3g} ms ({facts['label']}) on {request.target.id}, "
                    f"the budget is {facts['goal_ms']:.3g} ms",
                    hint="raise --latency, lower --resolution or choose a faster target",
                )
            return student

        return self._generator_stage("prune", settings, generator, run)

    def _prune_config(self) -> PruneConfig:
        """Return the recipe's prune settings; at quick effort no moves are tried: that takes longer than such a training."""
        config = self.request.recipe.prune
        return dataclasses.replace(config, moves=config.moves and self.request.effort is not Effort.QUICK)

    def _samples(self, teacher: Generator) -> list[tuple[Any, ...]]:
        """Return calibration inputs that pruning looks at, as tensors with batch axis 1: few large pictures, many small ones."""
        import torch

        picture = teacher.spec.outputs[0]
        count = max(8, min(_MOST_SAMPLES, _SAMPLED_PIXELS // (picture.height * picture.width)))
        return [tuple(torch.from_numpy(array) for array in item) for item in self.inputs.calibration(count)]

    def _distill(self, student: Generator, teacher: Generator) -> Generator:
        if not self.has("distill"):
            return student
        from edgegen.distill import distill

        request, config = self.request, self._fitted(teacher)
        steps = steps_for(request.effort, config, teacher, student)
        adversary = self._discriminator(teacher)
        judge = self._perceptual()
        settings = {"config": dataclasses.asdict(config), "steps": steps, "discriminator": file_digest(request.discriminator),
                    "perceptual": file_digest(request.perceptual)}  # fmt: skip
        return self._generator_stage(
            "distill", settings, student,
            lambda folder: distill(
                student, config, teacher=teacher, inputs=self.inputs, steps=steps, seed=request.seed,
                work_dir=folder, progress=self.progress, log_dir=request.log_dir, discriminator=adversary,
                perceptual=judge,
            ),
        )  # fmt: skip

    def _fitted(self, teacher: Generator) -> DistillConfig:
        """Return the recipe's distill settings with a batch and a crop that fit the generator."""
        config = self.request.recipe.distill
        crop = config.augment.crop
        if crop and not takes_crops(teacher, crop):
            self.progress.note(f"distill: the generator does not take crops of {crop} pixels, training on whole pictures")
            config = dataclasses.replace(config, augment=dataclasses.replace(config.augment, crop=0))
        return config if config.batch else dataclasses.replace(config, batch=batch_for(teacher, config))

    def _discriminator(self, teacher: Generator) -> Any:
        if self.request.discriminator is None:
            return None
        from edgegen.distill import load_discriminator
        from edgegen.load.readers import read_checkpoint

        picture = teacher.spec.outputs[0]
        return load_discriminator(read_checkpoint(self.request.discriminator).content, (picture.height, picture.width))

    def _perceptual(self) -> Any:
        if self.request.perceptual is None:
            return None
        from edgegen.distill import load_perceptual
        from edgegen.load.readers import read_checkpoint

        return load_perceptual(read_checkpoint(self.request.perceptual).content)

    def _generator_stage(
        self, name: str, settings: Mapping[str, Any], before: Generator, make: Callable[[Path], Generator]
    ) -> Generator:
        """Run one Generator -> Generator stage, check its invariants, keep its result."""
        self.progress.note(f"{name}: {self.request.target.id}")

        def store(folder: Path) -> None:
            result = make(folder)
            check_invariants(before, result, name)
            if self.request.rank == 0:
                save_generator(result, folder)

        result = load_generator(self.work.stage(name, settings, store, together=name == "distill"))
        self._stop_after(name)
        return result


def file_digest(path: Path | None) -> str | None:
    """Return the SHA-256 of a file in hexadecimal; None for None."""
    return None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()


def check_invariants(before: Generator, after: Generator, stage: str) -> None:
    """Raise StageError naming `stage` unless `after` is in eval mode, keeps the spec and gives finite values on fixed probes."""
    import torch

    from edgegen.graph import example_inputs

    if after.module.training:
        raise StageError(f"{stage} left the generator in training mode", hint="this is a bug: please report it")
    if after.spec != before.spec:
        raise StageError(f"{stage} changed the inputs or outputs of the generator", hint="this is a bug: please report it")
    with torch.no_grad():
        output = after.module(*example_inputs(after.spec))
    if tuple(output.shape[1:]) != after.spec.outputs[0].shape:
        raise StageError(
            f"{stage} gives outputs of shape {tuple(output.shape[1:])}, not {after.spec.outputs[0].shape}",
            hint="the checkpoint may need another --resolution",
        )
    if not torch.isfinite(output).all():
        raise StageError(f"{stage} gives NaN or infinite values on a fixed input", hint="check the weights of the checkpoint")


def latency_model(request: Request) -> LatencyModel:
    """Return what estimates layers on the target: a table measured here for local targets, kept in OUT, a roofline for others.

    Raises BudgetError when the profile has no peaks: nothing could steer the pruning.
    """
    from edgegen.candidates import fastest, roofline
    from edgegen.latency import MeasuredTable

    target = request.target
    precision = fastest(target.precisions)
    if target.local:
        return MeasuredTable(request.out / "latency-table.json", precision, threads=target.threads, cache=request.tables)
    model = roofline(request, precision)
    if model is None:
        raise BudgetError(
            f"{target.id} has no known peak for {precision.value}, so its latency cannot be predicted",
            hint="choose another target, or fill in the profile (`edgegen cp targets/" + target.id + " .`)",
        )
    return model
