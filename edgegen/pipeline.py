"""The story of one run, told once, top to bottom: checkpoint -> generator -> student -> artifacts -> bundle -> report.

Every stage is content-addressed (edgegen.workspace): what is finished is never done twice, and a killed run goes on.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.effort import fitted, polished, shortened, steps_for
from edgegen.errors import StageError, require
from edgegen.generator import Generator, load_generator, save_generator
from edgegen.invariants import check_invariants
from edgegen.outcome import Outcome
from edgegen.plan.machine import busy_sentence
from edgegen.progress import Progress
from edgegen.reach import latency_model, require_within_reach
from edgegen.recipe import DistillConfig, Effort, PruneConfig, PruneGoal
from edgegen.request import Training
from edgegen.runtime.process_facts import machine_facts
from edgegen.workspace import Workspace, require_free

if TYPE_CHECKING:
    from edgegen.data import Inputs
    from edgegen.request import Request

_SAMPLED_PIXELS, _MOST_SAMPLES = 1 << 20, 128  # of output pictures, for scores and refits: 16 of 256x256
_EARLY = 0.3  # of all training steps, before the last of several cuts


class _Stopped(Exception):  # noqa: N818  not an error: --until was reached
    """--until was reached."""


def compress(request: Request, progress: Progress) -> Outcome:
    """Run the recipe on the checkpoint of `request` and return the outcome. Raises EdgegenError for what a user can mend."""
    run = Run(request, progress)
    try:
        return run.tell()
    except _Stopped as stop:
        return Outcome(None, {"stopped_after": str(stop), "out": str(request.out)})


@dataclasses.dataclass(frozen=True)
class _Turn:
    """One cut and one training of a student: how far the cut goes on what is left of the way to the goal, in log latency, and
    which share of all training follows it."""

    way: float
    training: float
    is_last: bool


def turns_of(count: int) -> list[_Turn]:
    """Return `count` turns: cuts are even steps, and the training before the last cut takes `_EARLY` of all, in even parts."""
    early = [_Turn(1 / (count - number), _EARLY / (count - 1), is_last=False) for number in range(count - 1)]
    return [*early, _Turn(1.0, 1.0 if count == 1 else 1.0 - _EARLY, is_last=True)]


class Run:
    """One run under way: the request, its workspace and the teacher."""

    def __init__(self, request: Request, progress: Progress) -> None:
        self.request, self.progress = request, progress

    def tell(self) -> Outcome:
        """Load, rewrite, prune, distill, export, verify, bundle, bench, report."""
        from edgegen.deliver import Delivery, deliver

        teacher = self.open()
        self._stop_after("load")
        if self.request.target.local and (busy := busy_sentence(machine_facts())):
            self.progress.note(f"warning: {busy}")
        student = self.rewrite(teacher)
        for turn in self._turns():
            student = self._prune(student, teacher, turn)
            student = self._distill(student, teacher, turn)
        if self.request.rank:
            raise _Stopped("distill")
        outcome = deliver(Delivery(self.request, self.work, self.inputs, self.progress, teacher, student))
        if outcome is None:
            raise _Stopped(self.request.until or "")
        return outcome

    def open(self) -> Generator:
        """Return the teacher; whatever could end the run before its long stages has been checked, and the workspace begun."""
        from edgegen.candidates import require_exporter
        from edgegen.data import open_inputs
        from edgegen.export.preflight import require_exportable
        from edgegen.request import require_loss_files, require_one_goal

        request = self.request
        if request.rank == 0 and not (request.resume or request.start):
            require_free(request.out)  # the workspace would refuse too, after loading
        require_loss_files(request)
        require_one_goal(request)
        if request.log_dir is not None and self.has("distill"):
            require("torch.utils.tensorboard", extra="tensorboard")
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
        return teacher

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

    def _turns(self) -> list[_Turn]:
        """Return the turns of the recipe. A student from a nest is there already: it is polished."""
        together = self.request.nest is not None
        return turns_of(1 if together or not self.has("distill") else self.request.recipe.prune.turns)

    def rewrite(self, teacher: Generator) -> Generator:
        """Return the rewritten teacher, or the teacher as it is where the recipe has no such stage."""
        if not self.has("rewrite"):
            return teacher
        from edgegen.rewrite import rewrite

        config, pays = self.request.recipe.rewrite, dict(self.request.target.rewrites)
        if self.has("prune") and self.prune_config().moves:
            # pruning has moves of its own to half resolution: from the teacher's form they started 0.9 dB nearer (style, 3.7 ms)
            pays["space_to_depth"] = False
        approximate = self.has("distill")
        settings = {"config": dataclasses.asdict(config), "pays": pays, "approximate": approximate}
        return self._generator_stage(
            "rewrite", settings, teacher, lambda _: rewrite(teacher, config, pays=pays, approximate=approximate)
        )

    def _prune(self, generator: Generator, teacher: Generator, turn: _Turn) -> Generator:
        if not self.has("prune"):
            return generator
        if self.request.nest is not None:
            return self._from_nest(self.request.nest, generator)
        from edgegen.candidates import whole_timer
        from edgegen.prediction import prediction_facts
        from edgegen.prune import prune

        request, config, budget_s = self.request, self.prune_config(), self.request.prune_to_s
        earlier = [record.facts for record in generator.lineage if record.stage == "prune"]
        if earlier:
            config, budget_s = _for_a_later_turn(config, earlier)
        settings = {
            "config": dataclasses.asdict(config),
            "target": request.target.id,
            "backend": request.target.backend.value,
            "budget_s": request.prune_to_s,
            "multiple": request.target.channel_multiple,
            "way": turn.way,
            **prediction_facts(request),
        }

        def run(_: Path) -> Generator:
            model = latency_model(request)
            student = prune(
                generator, config, model=model, budget_s=budget_s,
                channel_multiple=request.target.channel_multiple, samples=self.samples(teacher), teacher=teacher,
                seed=request.seed, way=turn.way,
                measure=whole_timer(request, self.inputs, model) if turn.is_last else None,
            )  # fmt: skip
            facts = student.lineage[-1].facts
            if request.prune_to_s is not None:
                require_within_reach(request, facts["narrowest_ms"], facts["label"])
            return student

        return self._generator_stage("prune", settings, generator, run, is_last=turn.is_last)

    def _from_nest(self, nest: Path, generator: Generator) -> Generator:
        """Return this run's student of those that were trained together."""
        from edgegen.nested import find_nested, nest_key

        request = self.request
        assert request.prune_to_s is not None
        settings = {"nest": nest_key(nest), "target": request.target.id, "budget_s": request.prune_to_s}
        entry = find_nested(nest, request.target.id, request.prune_to_s)
        if entry.folder is None:
            require_within_reach(request, entry.narrowest_ms, entry.label)
            raise StageError(f"the nest {nest} lacks the student of {request.target.id}", hint="this is a bug: please report it")
        folder = entry.folder
        return self._generator_stage("prune", settings, generator, lambda _: load_generator(folder))

    def prune_config(self) -> PruneConfig:
        """Return the recipe's prune settings. No moves at quick effort, where trying them takes longer than the training; none
        where students of several budgets train together: they share one set of layers."""
        config = self.request.recipe.prune
        moves = config.moves and self.request.effort is not Effort.QUICK and self.request.training is Training.SEPARATE
        return dataclasses.replace(config, moves=moves)

    def samples(self, teacher: Generator) -> list[tuple[Any, ...]]:
        """Return calibration inputs that pruning looks at, as tensors with batch axis 1: few large pictures, many small ones."""
        import torch

        picture = teacher.spec.outputs[0]
        count = max(8, min(_MOST_SAMPLES, _SAMPLED_PIXELS // (picture.height * picture.width)))
        return [tuple(torch.from_numpy(array) for array in item) for item in self.inputs.calibration(count)]

    def _distill(self, student: Generator, teacher: Generator, turn: _Turn) -> Generator:
        if not self.has("distill"):
            return student
        from edgegen.distill import distill
        from edgegen.graph import count_macs

        request, config = self.request, self.distill_config(teacher)
        steps = steps_for(request.effort, config, teacher, count_macs(student.module, student.spec))
        if request.nest is not None:
            config, steps = polished(config, steps)
        elif not turn.is_last or turn.training < 1.0:
            config, steps = shortened(config, steps, turn.training)
        adversary, judge = self.networks(teacher)
        return self._generator_stage(
            "distill", self.distill_settings(config, steps), student,
            lambda folder: distill(
                student, config, teacher=teacher, inputs=self.inputs, steps=steps, seed=request.seed,
                work_dir=folder, progress=self.progress, log_dir=self._log_dir(student), discriminator=adversary,
                perceptual=judge,
            ),
            is_last=turn.is_last,
        )  # fmt: skip

    def _log_dir(self, student: Generator) -> Path | None:
        """Return where TensorBoard writes; a training after another has a folder of its own, because steps start anew."""
        earlier = sum(record.stage == "distill" for record in student.lineage)
        return self.request.log_dir / f"turn-{earlier + 1}" if self.request.log_dir and earlier else self.request.log_dir

    def distill_settings(self, config: DistillConfig, steps: int) -> dict[str, Any]:
        """Return what a training depends on beside the generators and the inputs."""
        return {
            "config": dataclasses.asdict(config),
            "steps": steps,
            "discriminator": file_digest(self.request.discriminator),
            "perceptual": file_digest(self.request.perceptual),
        }

    def distill_config(self, teacher: Generator) -> DistillConfig:
        """Return the recipe's distill settings with a batch and a crop that fit the generator."""
        config, why = fitted(self.request.recipe.distill, teacher)
        if why:
            self.progress.note(f"distill: {why}")
        return config

    def networks(self, teacher: Generator) -> tuple[Any, Any]:
        """Return the discriminator and the perceptual network that were given; None for each that was not."""
        return self._discriminator(teacher), self._perceptual()

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
        self,
        name: str,
        settings: Mapping[str, Any],
        before: Generator,
        make: Callable[[Path], Generator],
        *,
        is_last: bool = True,
    ) -> Generator:
        """Run one Generator -> Generator stage, check its invariants, keep its result; --until heeds its last turn."""
        self.progress.note(f"{name}: {self.request.target.id}")

        def store(folder: Path) -> None:
            result = make(folder)
            check_invariants(before, result, name)
            if self.request.rank == 0:
                save_generator(result, folder)

        result = load_generator(self.work.stage(name, settings, store, together=name == "distill"))
        if is_last:
            self._stop_after(name)
        return result


def _for_a_later_turn(config: PruneConfig, earlier: Sequence[Mapping[str, Any]]) -> tuple[PruneConfig, float | None]:
    """Return settings and latency of a cut after the `earlier` ones: moves are taken once, and the goal stays what it was."""
    once, first = dataclasses.replace(config, moves=False), earlier[0]
    if config.goal is PruneGoal.MACS:
        return dataclasses.replace(once, speedup=max(1.0, earlier[-1]["macs"] / first["goal_macs"])), None
    return once, first["goal_ms"] / 1e3


def file_digest(path: Path | None) -> str | None:
    """Return the SHA-256 of a file in hexadecimal; None for None."""
    return None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()
