"""Cut once and train, against cutting and training in turns, at the same final size and the same arithmetic.

    python benchmarks/turns.py --families dcgan vae --out edgegen-out/turns    # what is missing is run
    python benchmarks/turns.py --table                                         # only docs/results/turns.md

Every run is `edgegen compress` up to the trained student, pruned to a fourth and a sixteenth of the multiply-accumulates without
moves; only `[prune] turns` changes. A step before the last cut trains a wider student and costs more, so runs with turns get
fewer steps: all spend the same multiply-accumulates on teacher and student passes. Quality is that of the float student to the
teacher, on inputs that no training saw.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
from pathlib import Path

import numpy as np
import torch
from fronts import ROOT, Family, _distill_config, _request, families, test_inputs
from headline import _picture, _scores
from machine import write_result

FEWER = (4.0, 16.0)


def main() -> None:
    """Run what was asked for and is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="*", default=["dcgan", "vae"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--macs", type=float, help="budget of each run, instead of the family's own")
    parser.add_argument("--turns", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--out", type=Path, default=Path("edgegen-out/turns"))
    parser.add_argument("--table", action="store_true", help="only write the table from what is there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    known = families(args.out)
    for name in [] if args.table else args.families:
        family = dataclasses.replace(known[name], macs=args.macs or known[name].macs)
        for seed in args.seeds:
            for fewer in FEWER:
                for turns in args.turns:
                    _run(name, family, turns, fewer, seed, args.out)
    _table(args.out, shlex.join(["python", "benchmarks/turns.py", *sys.argv[1:]]))


def _run(name: str, family: Family, turns: int, fewer: float, seed: int, out: Path) -> None:
    from edgegen.candidates import torch_call
    from edgegen.load import load
    from edgegen.pipeline import compress
    from edgegen.progress import Silent
    from edgegen.recipe import PruneGoal

    folder = out / name / f"macs-{family.macs:.2g}" / f"seed-{seed}" / f"{fewer:g}-fewer-{turns}-turns"
    if (folder / "figures.json").exists():
        return
    request = dataclasses.replace(_request(family, None, folder, seed, until="distill"), tables=out / "tables")
    teacher = load(family.checkpoint, resolution=request.resolution)
    steps = _steps(family, teacher, turns, fewer)
    distill = dataclasses.replace(_distill_config(family), steps=steps)
    prune = dataclasses.replace(request.recipe.prune, goal=PruneGoal.MACS, speedup=fewer, moves=False, turns=turns)
    recipe = dataclasses.replace(request.recipe, prune=prune, distill=distill)
    compress(dataclasses.replace(request, recipe=recipe), Silent())
    student = _last(folder / "stages")
    inputs = test_inputs(name, teacher, out)
    reference, given = ([_picture(torch_call(g)(x), teacher.spec) for x in inputs] for g in (teacher, student))
    cuts = [record.facts["macs"] for record in student.lineage if record.stage == "prune"]
    figures = {"family": name, "fewer": fewer, "turns": turns, "steps": steps, "cuts": cuts, "budget": family.macs,
               **_scores(given, reference)}  # fmt: skip
    (folder / "figures.json").write_text(json.dumps(figures, indent=1))
    print(figures, flush=True)


def _steps(family: Family, teacher, turns: int, fewer: float) -> int:
    """Return the steps that `family.macs` pays for when students shrink in even steps of log size."""
    from edgegen.graph import count_macs
    from edgegen.pipeline import turns_of

    whole = count_macs(teacher.module, teacher.spec)
    height, width = teacher.spec.inputs[0].shape[-2:] if family.crop else (1, 1)
    share = family.crop**2 / (height * width) if family.crop else 1.0
    plan = turns_of(turns)
    sizes = [whole / fewer ** ((number + 1) / turns) for number in range(turns)]
    cost = whole + 3 * sum(turn.training * size for turn, size in zip(plan, sizes, strict=True))
    return max(100, int(family.macs / (cost * share * family.batch)))


def _last(stages: Path):
    """Return the student that most was done to."""
    from edgegen.generator import load_generator

    made = [load_generator(path) for path in stages.iterdir() if (path / "generator.json").exists()]
    return max(made, key=lambda generator: len(generator.lineage))


def _table(out: Path, command: str) -> None:
    rows = ["| family | GMAC spent | fewer MACs | turns | steps | seeds | PSNR dB | SSIM |", "|---" * 8 + "|"]
    runs: dict[tuple, list[dict]] = {}
    for path in sorted(out.glob("*/macs-*/seed-*/*/figures.json")):
        found = json.loads(path.read_text())
        runs.setdefault((found["family"], found["budget"], found["fewer"], found["turns"]), []).append(found)
    for (family, budget, fewer, turns), found in sorted(runs.items()):
        psnr, ssim = (np.mean([f[key] for f in found]) for key in ("psnr_db", "ssim"))
        steps = found[0]["steps"]
        rows.append(f"| {family} | {budget / 1e9:.0f} | {fewer:g} | {turns} | {steps} | {len(found)} | {psnr:.2f} | {ssim:.4f} |")
    write_result(ROOT / "docs/results/turns.md", "Cutting once against cutting and training in turns", command,
                 "Float students to the teacher, on inputs that no training saw.\n\n" + "\n".join(rows))  # fmt: skip


if __name__ == "__main__":
    main()
