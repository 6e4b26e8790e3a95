"""Quantisation-aware training in a run: when it is worth its time, and how what it makes joins the other candidates."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.artifact import Artifact, load_artifacts, save_artifacts
from edgegen.candidates import Judged, export_candidates, judge, keep_judged
from edgegen.effort import continued_rate, fitted, shortened, steps_for
from edgegen.generator import Generator, StageRecord, load_generator, save_generator
from edgegen.graph import count_macs
from edgegen.recipe import Choice, DistillConfig, Effort, QatConfig
from edgegen.spec import Precision

if TYPE_CHECKING:
    from edgegen.deliver import Delivery
    from edgegen.ranges import LearnedRange
    from edgegen.verify import Case

FORM = "QAT"
_TRAINED_FOR = (Precision.INT8, Precision.INT8_FULL)
_SAMPLES = 16
_SHARE, _RATE = 0.1, 0.25  # of distillation: its steps, its rate; at the whole rate a VAE decoder lost 1.7 dB, at a quarter none
_FEWEST_STEPS = 60


@dataclasses.dataclass(frozen=True)
class Retrained:
    """All candidates, those of the trained student among them, as judged side by side; `student` is the trained one."""

    artifacts: list[Artifact]
    judged: list[Mapping[str, Any]]
    student: Generator


def wants_training(run: Delivery, judged: Sequence[Mapping[str, Any]]) -> bool:
    """Whether quantisation-aware training is asked for, or int8 as it is misses the floor of the picture.

    At quick effort it must be asked for. An int8 that is too slow is not mended by better pictures.
    """
    config, request = run.request.recipe.qat, run.request
    tried = [j for j in judged if j["precision"] in [p.value for p in _TRAINED_FOR]]
    if "qat" not in request.recipe.stages or config.when is Choice.NO or not tried:
        return False
    if config.when is Choice.YES or request.effort is Effort.THOROUGH:
        return True
    missed = not any(j["kept"] for j in tried) and not all(j["reason"].startswith("slower") for j in tried)
    return missed and request.effort is not Effort.QUICK


def retrain(run: Delivery, artifacts: Sequence[Artifact], cases: list[Case]) -> Retrained:
    """Train the student under the target's int8, export it, and judge all candidates again, side by side."""
    request, config = run.request, run.request.recipe.qat
    distilled = request.recipe.distill
    settings = {"config": dataclasses.asdict(config), "distill": dataclasses.asdict(distilled), "effort": request.effort.value}
    run.progress.note(f"qat: {request.target.id}")

    def store(folder: Path) -> None:
        student, ranges = _train(run, folder)
        made = _export(run, student, ranges, folder / "made")
        judged = judge(request, [*artifacts, *made], run.student, cases, run.progress)
        (folder / "student").mkdir(exist_ok=True)
        save_generator(_with_comparison(student, judged), folder / "student")
        save_artifacts(made, folder)
        keep_judged(judged, folder)

    folder = run.work.stage("qat", settings, store)
    found = json.loads((folder / "judged.json").read_text())
    return Retrained([*artifacts, *load_artifacts(folder)], found, load_generator(folder / "student"))


def _train(run: Delivery, folder: Path) -> tuple[Generator, tuple[LearnedRange, ...]]:
    """Return the trained student, without fake quantisers, and the ranges it learned; goes on where it was killed."""
    from edgegen.distill import distill
    from edgegen.distill.hardware import Arithmetic
    from edgegen.quantize.qat import finish, prepare, reestimate_statistics, scheme_of
    from edgegen.rewrite.batch_norm import fold_batch_norm

    request = run.request
    samples = run.inputs.calibration(_SAMPLES)
    student = reestimate_statistics(run.student, samples).copy()
    fold_batch_norm(student.module)
    prepared = prepare(student, scheme_of(request.target.backend), samples)
    config = training_config(request.recipe.qat, request.recipe.distill, request.effort, run.teacher, student)
    trained = distill(
        prepared,
        config,
        teacher=run.teacher,
        inputs=run.inputs,
        steps=config.steps,
        seed=request.seed,
        work_dir=folder,
        progress=run.progress,
        arithmetic=Arithmetic.F32,
    )  # fmt: skip  bfloat16 rounds more coarsely than the int8 that is simulated
    plain, ranges = finish(trained, student)
    record = trained.lineage[-1]
    facts = {**record.facts, "batch_norms_folded": len(run.student.module.state_dict()) != len(student.module.state_dict())}
    facts["learned_ranges"] = len(ranges)
    lineage = (*run.student.lineage, StageRecord("qat", record.config, record.seconds, facts))
    return dataclasses.replace(plain, lineage=lineage), ranges


def training_config(
    config: QatConfig, distilled: DistillConfig, effort: Effort, teacher: Generator, student: Generator
) -> DistillConfig:
    """Return the settings of distillation as this training uses them: its losses, a tenth of its steps, a quarter of its rate.

    Without the networks that a run may bring (adversary, perceptual): they came to their end in distillation.
    """
    losses = dataclasses.replace(distilled.losses, adversarial=0.0, perceptual=0.0)
    if not any(dataclasses.astuple(losses)):
        losses = dataclasses.replace(losses, l1=1.0)
    base, _ = fitted(dataclasses.replace(distilled, losses=losses), teacher)
    whole = steps_for(effort, base, teacher, count_macs(student.module, student.spec))
    base, fewer = shortened(base, whole, _SHARE)
    steps = config.steps or max(_FEWEST_STEPS, fewer)
    rate = config.learning_rate or continued_rate(distilled, _RATE)
    return dataclasses.replace(
        base, steps=steps, learning_rate=rate, patience=0, compile=False,
        warmup_steps=min(base.warmup_steps, steps // 4), ema=min(base.ema, 1 - 4 / (steps + 4)),
        evaluate_every=max(1, min(base.evaluate_every, steps // 4)), checkpoint_every=min(base.checkpoint_every, steps),
    )  # fmt: skip


def _export(run: Delivery, student: Generator, ranges: Sequence[LearnedRange], folder: Path) -> list[Artifact]:
    recipe, target = run.request.recipe, run.request.target
    asked = recipe.export.precisions or tuple(p.value for p in target.precisions)
    precisions = tuple(p.value for p in _TRAINED_FOR if p.value in asked)
    request = dataclasses.replace(
        run.request, recipe=dataclasses.replace(recipe, export=dataclasses.replace(recipe.export, precisions=precisions))
    )
    made = export_candidates(
        request, student, run.inputs, folder, learned=ranges, begin=lambda name: run.progress.note(f"qat: {name}")
    )
    return [dataclasses.replace(a, form=", ".join(filter(None, (a.form, FORM)))) for a in made]


def _with_comparison(student: Generator, judged: Sequence[Judged]) -> Generator:
    """Return `student` whose last record tells how near to the teacher int8 came without and with the training, in dB."""
    best: dict[str, float] = {}
    for one in judged:
        if one.verification is not None and one.artifact.entry.precision in [p.value for p in _TRAINED_FOR]:
            key = "qat_psnr_db" if FORM in one.artifact.form else "ptq_psnr_db"
            best[key] = max(best.get(key, 0.0), one.verification.quality.psnr_db.mean)
    *before, last = student.lineage
    told = dataclasses.replace(last, facts={**last.facts, **best})
    return dataclasses.replace(student, lineage=(*before, told))
