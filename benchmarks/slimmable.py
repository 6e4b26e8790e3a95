"""One training for all widths against one training per width, at equal arithmetic.

    python benchmarks/slimmable.py --families dcgan vae style srgan --out edgegen-out/slimmable    # train what is missing
    python benchmarks/slimmable.py --families dcgan --macs 1e12 --seeds 0 1 2
    python benchmarks/slimmable.py --table                                                  # only docs/results/slimmable.md

For every family, three students with 1/2, 1/4 and 1/8 of the multiply-accumulates of the teacher, cut on one path and
refitted in closed form onto the teacher's layers (of a nest the widest one, of which the others are parts):

    separate   each trained alone with a third of the budget
    nest       the three on shared weights, all trained in every step, with the whole budget
    polished   the same with 60 % of the budget, then each alone with a third of the rest
    wide nest  nine widths on shared weights, of which the three are part; the ends and two random ones in every step

The budget counts multiply-accumulates of teacher and student passes together (a student's step is three passes), so the nest's
shared teacher pass is part of what it gains. All see the same inputs and train on the same losses. Quality is that of the float
student to the teacher, on inputs that no training saw. Finished runs are kept in --out and not repeated.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fronts import ROOT, Family, _distill_config, _exact, families, test_inputs
from headline import _picture, _scores
from machine import write_result

RATIOS = (2.0, 4.0, 8.0)
BETWEEN = (2.0, 2.4, 2.8, 3.4, 4.0, 4.8, 5.7, 6.7, 8.0)  # the wide nest: RATIOS and what lies between
METHODS = ("separate", "nest", "polished", "wide nest")
_POLISH = 0.4  # of the budget
_POLISH_RATE = 0.5  # of the usual learning rate
_SAMPLES = 32


@dataclasses.dataclass(frozen=True)
class Case:
    """One family and seed: the generators, what they are trained on, and what a run may cost in multiply-accumulates."""

    teacher: Any
    family: Family
    inputs: Any
    samples: list[tuple[torch.Tensor, ...]]  # calibration inputs, batch axis 1
    points: dict[float, Any]  # allocations by MAC ratio
    seed: int
    folder: Path


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="*", default=["dcgan", "vae", "style", "srgan"])
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--macs", type=float, help="budget of each family and method, instead of the family's own")
    parser.add_argument("--out", type=Path, default=Path("edgegen-out/slimmable"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="only write the table from what is there")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    known = families(args.out)
    if not args.table:
        for name in args.families:
            family = dataclasses.replace(known[name], macs=args.macs or known[name].macs)
            for seed in args.seeds:
                run_family(name, family, args.out, args.methods, seed)
    write_table(args.out, ROOT / "docs/results/slimmable.md")


def run_family(name: str, family: Family, out: Path, methods: Sequence[str], seed: int) -> None:
    """Train the students of one family and seed that are not there yet, and score all of them."""
    from edgegen.graph import count_macs

    case = _case(family, out / name / f"macs-{family.macs:.2g}" / f"seed-{seed}", seed)
    train: dict[str, Callable[[Case, Path], tuple[dict, list[int]]]] = {
        "separate": _separate, "nest": _nest, "polished": _polished, "wide nest": _wide,
    }  # fmt: skip
    inputs = test_inputs(name, case.teacher, out)
    reference = _pictures(case.teacher, inputs)
    found = {"none": {"students": {str(r): _score(s, inputs, reference) for r, s in _cut(case).items()}}}
    for method in methods:
        kept = case.folder / f"{method}.json"
        if not kept.exists():
            started = time.process_time()
            students, steps = train[method](case, case.folder / method)
            seconds = time.process_time() - started
            scores = {str(ratio): _score(student, inputs, reference) for ratio, student in students.items()}
            case.folder.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps({"students": scores, "steps": steps, "seconds": seconds}, indent=1))
            print(f"{name} seed {seed} {method}: {steps} steps, {seconds:.0f} s, {scores}", flush=True)
        found[method] = json.loads(kept.read_text())
    command = shlex.join(["python", "benchmarks/slimmable.py", *sys.argv[1:]])
    figures = {
        "command": command,
        "macs": family.macs,
        "teacher_macs": count_macs(case.teacher.module, case.teacher.spec),
        "methods": found,
    }
    (case.folder / "figures.json").write_text(json.dumps(figures, indent=1))


def _case(family: Family, folder: Path, seed: int) -> Case:
    from edgegen.data import open_inputs
    from edgegen.load import load
    from edgegen.spec import parse_resolution

    resolution = parse_resolution(family.resolution) if family.resolution else None
    teacher = _exact(load(family.checkpoint, resolution=resolution))
    inputs = open_inputs(teacher.spec, family.data, calibration="auto", seed=seed, held_out=16)
    samples = [tuple(torch.from_numpy(array) for array in arrays) for arrays in inputs.calibration(_SAMPLES)]
    return Case(teacher, family, inputs, samples, _points(teacher, samples), seed, folder)


def _points(teacher, samples: list[tuple[torch.Tensor, ...]]) -> dict[float, Any]:
    """Return the allocation of each MAC ratio on the greedy path; arithmetic stands for latency."""
    from edgegen.graph import example_inputs
    from edgegen.latency import Roofline
    from edgegen.prune.allocate import Goal, trajectory
    from edgegen.prune.groups import channel_groups
    from edgegen.prune.importance import loss_curves
    from edgegen.prune.work import layer_works
    from edgegen.recipe import PruneConfig
    from edgegen.spec import Precision

    inputs = example_inputs(teacher.spec)
    groups = channel_groups(teacher.module, inputs)
    curves = loss_curves(teacher, groups, PruneConfig().importance, samples)
    only_macs = Roofline(1e9, 1e18, Precision.F32, 1)
    path = list(trajectory(groups, curves, layer_works(teacher.module, inputs), only_macs, Goal(0.0, 4, 4)))
    return {ratio: next(a for a in path if a.after_s <= a.before_s / ratio) for ratio in BETWEEN}


def _nested(case: Case, ratios: Sequence[float]):
    from edgegen.prune.nested import build_nested

    return build_nested(case.teacher, [case.points[ratio] for ratio in ratios], samples=case.samples, seed=case.seed)


def _cut(case: Case) -> dict:
    return {ratio: _nested(case, [ratio]).student(0) for ratio in RATIOS}


def _separate(case: Case, folder: Path):
    made, steps = {}, []
    for ratio, student in _cut(case).items():
        made[ratio], count = _alone(case, student, case.family.macs / len(RATIOS), folder / str(ratio))
        steps.append(count)
    return made, steps


def _nest(case: Case, folder: Path):
    made, steps = _together(case, RATIOS, case.family.macs, folder)
    return made, [steps]


def _polished(case: Case, folder: Path):
    made, together = _together(case, RATIOS, (1 - _POLISH) * case.family.macs, folder)
    steps = [together]
    for ratio, student in made.items():
        share = _POLISH * case.family.macs / len(RATIOS)
        made[ratio], count = _alone(case, student, share, folder / str(ratio), _POLISH_RATE)
        steps.append(count)
    return made, steps


def _wide(case: Case, folder: Path):
    made, steps = _together(case, BETWEEN, case.family.macs, folder)
    return {ratio: made[ratio] for ratio in RATIOS}, [steps]


def _alone(case: Case, student, macs: float, folder: Path, share: float | None = None):
    from edgegen.distill import distill
    from edgegen.effort import continued_rate
    from edgegen.graph import count_macs
    from edgegen.progress import Silent

    config = _distill_config(case.family)
    if share is not None:
        config = dataclasses.replace(config, learning_rate=continued_rate(config, share))
    steps = int(macs / _step_macs(case, [count_macs(student.module, student.spec)]))
    trained = distill(student, config, teacher=case.teacher, inputs=case.inputs, steps=steps, seed=case.seed, work_dir=folder,
                      progress=Silent())  # fmt: skip
    return trained, steps


def _together(case: Case, ratios: Sequence[float], macs: float, folder: Path):
    """Train a nest of `ratios` for as many steps as `macs` pays for, and return its students and the steps."""
    from edgegen.distill.slimmable import Sandwich, distill_nested
    from edgegen.progress import Silent

    nested, sandwich = _nested(case, ratios), Sandwich()
    widths, steps, spent = [width.macs for width in nested.widths], 0, 0.0
    while spent < macs:
        spent += _step_macs(case, [widths[i] for i in sandwich.shares(steps, count=len(widths), seed=case.seed)])
        steps += 1
    result = distill_nested(nested, _distill_config(case.family), teacher=case.teacher, inputs=case.inputs, steps=steps,
                            seed=case.seed, work_dir=folder, progress=Silent(), sandwich=sandwich)  # fmt: skip
    return {ratio: result.student(index) for index, ratio in enumerate(ratios)}, steps


def _step_macs(case: Case, students: Sequence[int]) -> float:
    """Multiply-accumulates of one step: a teacher pass and three passes of each student per sample."""
    from edgegen.graph import count_macs

    family, spec = case.family, case.teacher.spec
    height, width = spec.inputs[0].shape[-2:] if family.crop else (1, 1)
    share = family.crop**2 / (height * width) if family.crop else 1.0
    return family.batch * share * (count_macs(case.teacher.module, spec) + 3 * sum(students))


def _pictures(generator, inputs: list[np.ndarray]) -> list[np.ndarray]:
    from edgegen.candidates import torch_call

    call = torch_call(generator)
    return [_picture(call(x), generator.spec) for x in inputs]


def _score(student, inputs: list[np.ndarray], reference: list[np.ndarray]) -> dict:
    from edgegen.graph import count_macs

    return {"macs": count_macs(student.module, student.spec), **_scores(_pictures(student, inputs), reference)}


def write_table(out: Path, path: Path) -> None:
    """Write one row per family, budget and method: PSNR and SSIM of the three students, means over the seeds that are there."""
    columns = ["family", "GMAC spent", "seeds", "method", "steps", "CPU s", *(f"1/{ratio:g} of the MACs" for ratio in RATIOS)]
    rows = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    commands: set[str] = set()
    for budget in sorted({file.parents[1] for file in out.glob("*/macs-*/seed-*/figures.json")}):
        runs = [json.loads(file.read_text()) for file in sorted(budget.glob("seed-*/figures.json"))]
        commands.update(run["command"] for run in runs)
        for method in ("none", *METHODS):
            found = [run["methods"][method] for run in runs if method in run["methods"]]
            if found:
                rows.append(_row(budget.parent.name, runs[0]["macs"], method, found))
    notes = (
        "PSNR in dB / SSIM of the float students to the teacher, on inputs that no training saw. `none`: cut and refitted alone, "
        "not trained. Every method spends the same multiply-accumulates, teacher passes included; the steps are those of each of "
        "its trainings. CPU seconds also hold what is not counted: losses, the optimiser, evaluations of the averages."
    )
    write_result(
        path,
        "One training for all widths against one per width",
        "` and `".join(sorted(commands)),
        notes + "\n\n" + "\n".join(rows),
    )


def _row(family: str, macs: float, method: str, found: list[dict]) -> str:
    cells = []
    for ratio in map(str, RATIOS):
        psnr, ssim = (float(np.mean([f["students"][ratio][key] for f in found])) for key in ("psnr_db", "ssim"))
        cells.append(f"{psnr:.2f} / {ssim:.3f}")
    spent = f"{macs / 1e9:.0f}" if method != "none" else "0"
    seconds = f"{np.mean([f['seconds'] for f in found]):.0f}" if method != "none" else ""
    steps = ", ".join(map(str, found[0].get("steps", [])))
    return f"| {family} | {spent} | {len(found)} | {method} | {steps} | {seconds} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
