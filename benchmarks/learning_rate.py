"""How large the steps of distillation should be, by how near to the teacher the student starts.

    python benchmarks/learning_rate.py --families style srgan --share 0.4 --out edgegen-out/learning-rate    # what is missing
    python benchmarks/learning_rate.py --table                                     # only docs/results/learning_rate.md

Students with a given part of the teacher's multiply-accumulates, cut without moves, or of a given latency, cut with them, learn
with several peak rates from the same start. Quality is that of the float student to the teacher, on inputs that no training saw.
Finished runs are not repeated.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
from pathlib import Path

import torch
from fronts import ROOT, _distill_config, _render, _request, _steps, families, test_inputs
from headline import _picture, _scores, _stage
from machine import write_result

_NOTES = """With `--share 0.02` to `3.6`, `--fewer 2.5` or `4`, seed 0. PSNR in dB / SSIM for each peak rate, best PSNR in bold.
`rule` is what edgegen takes where the recipe gives no rate (`edgegen.distill.schedule.peak_rate`): 2e-3, and less in proportion
to the root mean square error of starts above 34 dB, at least 5e-4. 4e-3 gains 0.2 to 0.4 dB on four students; on style students
whose norms pruning froze (1.59x with all of them frozen, 4.25x that of benchmarks/headline.py, both cut with moves) it loses 0.7
to 1.7 dB, so no start gets more than 2e-3. With 100 steps and all norms frozen 1e-3 is 1.1 dB better still: no rule for that."""


def main() -> None:
    """Run what was asked for and is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="*", default=["style", "srgan", "dcgan", "vae", "street"])
    parser.add_argument("--fewer", nargs="*", type=float, default=[4.0], help="times fewer multiply-accumulates")
    parser.add_argument("--latency", help="such as 4ms: cut to it with moves, instead of --fewer")
    parser.add_argument("--rates", nargs="*", type=float, default=[1e-3, 2e-3, 4e-3])
    parser.add_argument("--share", nargs="*", type=float, default=[0.4], help="of the training of benchmarks/fronts.py")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("edgegen-out/learning-rate"))
    parser.add_argument("--table", action="store_true", help="only write the table from what is there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cuts = [args.latency] if args.latency else [f"{fewer:g}x" for fewer in args.fewer]
    for name, cut, share in [] if args.table else itertools.product(args.families, cuts, args.share):
        run(name, cut, share, args.rates, args.seed, args.out)
    _table(args.out)


def run(name: str, cut: str, share: float, rates: list[float], seed: int, out: Path) -> None:
    """Cut one generator ("4x" fewer operations, or to "4ms") and train it with every rate."""
    from edgegen.candidates import torch_call
    from edgegen.data import open_inputs
    from edgegen.distill import distill
    from edgegen.generator import load_generator
    from edgegen.load import load
    from edgegen.pipeline import compress
    from edgegen.progress import Silent
    from edgegen.recipe import PruneGoal

    if name == "street":
        _render(out / "scenes")
    known = families(out)[name]
    family = dataclasses.replace(known, macs=known.macs * share)
    folder = out / name / cut
    goal_s = float(cut.removesuffix("ms")) * 1e-3 if cut.endswith("ms") else None
    request = _request(family, goal_s, folder, seed, until="prune")
    if goal_s is None:
        prune = dataclasses.replace(request.recipe.prune, goal=PruneGoal.MACS, speedup=float(cut.removesuffix("x")), moves=False)
        request = dataclasses.replace(request, recipe=dataclasses.replace(request.recipe, prune=prune))
    compress(request, Silent())
    pruned, teacher = load_generator(_stage(folder, "prune")), load(family.checkpoint, resolution=request.resolution)
    inputs = test_inputs(name, teacher, out)
    reference = [_picture(torch_call(teacher)(x), teacher.spec) for x in inputs]
    start = _scores([_picture(torch_call(pruned)(x), teacher.spec) for x in inputs], reference)
    steps = _steps(family, teacher, pruned)
    for rate in rates:
        kept = folder / f"{steps}-steps-{rate:g}-seed-{seed}.json"
        if kept.exists():
            continue
        config = dataclasses.replace(_distill_config(family), learning_rate=rate)
        data = open_inputs(teacher.spec, family.data, calibration="auto", seed=seed, held_out=16)
        student = distill(pruned.copy(), config, teacher=teacher, inputs=data, steps=steps, seed=seed,
                          work_dir=kept.with_suffix(""), progress=Silent())  # fmt: skip
        end = _scores([_picture(torch_call(student)(x), teacher.spec) for x in inputs], reference)
        kept.write_text(json.dumps({"steps": steps, "rate": rate, "start": start, "end": end}, indent=1))
        print(name, cut, steps, rate, start, end, flush=True)


def _table(out: Path) -> None:
    from edgegen.distill.schedule import peak_rate

    found = [(*p.parts[-3:-1], json.loads(p.read_text())) for p in sorted(out.glob("*/*/*-seed-*.json"))]
    runs = [(name, cut, row["steps"], row) for name, cut, row in found]
    rates = sorted({row["rate"] for *_, row in runs})
    lines = ["| family | cut to | steps | start dB | rule | " + " | ".join(f"{r:g}" for r in rates) + " |"]
    lines += ["|" + "---|" * (5 + len(rates))]
    for (name, cut, steps), group in itertools.groupby(sorted(runs, key=lambda r: r[:3]), key=lambda r: r[:3]):
        rows = [row for *_, row in group]
        ends = {row["rate"]: row["end"] for row in rows}
        best, start = max(end["psnr_db"] for end in ends.values()), rows[0]["start"]["psnr_db"]
        cells = [f"{ends[r]['psnr_db']:.2f} / {ends[r]['ssim']:.3f}" if r in ends else "" for r in rates]
        cells = [f"**{c}**" if r in ends and ends[r]["psnr_db"] == best else c for c, r in zip(cells, rates, strict=True)]
        lines.append(f"| {name} | {cut} | {steps} | {start:.2f} | {peak_rate(start):.1e} | {' | '.join(cells)} |")
    text = "\n".join([_NOTES, "", *lines])
    write_result(ROOT / "docs/results/learning_rate.md", "Learning rate by where the student starts",
                 "python benchmarks/learning_rate.py",
                 text)  # fmt: skip
    print(text)


if __name__ == "__main__":
    main()
