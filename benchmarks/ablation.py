"""What each part of the default recipe earns: one switched off, or one that is off switched on, at the same budget and training.

    python benchmarks/ablation.py --families style dcgan --out edgegen-out/ablation    # what is missing is run
    python benchmarks/ablation.py --table                                             # only docs/results/ablation.md

Every row is a run of `edgegen compress` up to the trained student with one setting of its recipe changed. All aim at the same
latency, a sixth of the teacher's estimate; generators of latents, of which a call is all overhead, at a quarter of the
operations, without moves. Quality is that of the float student to the teacher, on inputs that no training saw.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from pathlib import Path

import torch
from fronts import ROOT, _distill_config, _request, _steps, families, test_inputs
from headline import _picture, _scores, _stage
from machine import write_result

CHANGES: dict[str, dict[str, object]] = {
    "default": {},
    "no moves, half resolution by rewriting": {"prune.moves": False},
    "no moves at all": {"prune.moves": False, "rewrite.space_to_depth": "no"},
    "channels ranked by magnitude": {"prune.importance": "magnitude"},
    "channels ranked by norm": {"prune.importance": "norm"},
    "without ssim": {"distill.losses.ssim": 0.0},
    "without feature": {"distill.losses.feature": 0.0},
    "charbonnier for l1": {"distill.losses.l1": 0.0, "distill.losses.charbonnier": 1.0},
    "with gradient 0.5": {"distill.losses.gradient": 0.5},
    "with ms_ssim 0.3 for ssim": {"distill.losses.ssim": 0.0, "distill.losses.ms_ssim": 0.3},
    "with haar 0.5": {"distill.losses.haar": 0.5},
    "with total_variation 0.01": {"distill.losses.total_variation": 0.01},
    "with gram 0.1": {"distill.losses.gram": 0.1},
    "alignment 0.1 for feature": {"distill.losses.feature": 0.0, "distill.losses.alignment": 0.1},
    "channel_mean 0.1 for feature": {"distill.losses.feature": 0.0, "distill.losses.channel_mean": 0.1},
    "with latent_direction 0.1": {"distill.losses.latent_direction": 0.1},
    "balanced by gradient": {"distill.balance": "gradient"},
}
MOVES = (
    "half_stem",
    "half_head",
    "remove_block",
    "separable",
    "bottleneck",
    "smaller_kernel",
    "upsampling",
    "zero_padding",
    "frozen_norm",
)
CHANGES |= {f"without {move}": {"move": move} for move in MOVES}
_FEWER = 4.0  # times the operations of generators whose calls are all overhead: what latency cannot tell
LATENT_ONLY, PICTURES_ONLY = ("with latent_direction 0.1",), ("with haar 0.5",)


def main() -> None:
    """Run what was asked for and is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="*", default=["style", "dcgan"])
    parser.add_argument("--rows", nargs="*", default=list(CHANGES))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--share", type=float, default=0.4, help="of the training of benchmarks/fronts.py")
    parser.add_argument("--goal-ms", nargs="*", default=[], help="family=ms, instead of a sixth of the teacher's estimate")
    parser.add_argument("--out", type=Path, default=Path("edgegen-out/ablation"))
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    goals = dict(pair.split("=") for pair in args.goal_ms)
    known = families(args.out)
    for name in [] if args.table else args.families:
        family = dataclasses.replace(known[name], macs=known[name].macs * args.share)
        for row in args.rows:
            if (name in ("dcgan", "vae") and row in PICTURES_ONLY) or (name not in ("dcgan", "vae") and row in LATENT_ONLY):
                continue
            for seed in args.seeds:
                _run(name, family, row, seed, args.out, goals.get(name))
    _table(args.out)


def _run(name: str, family, row: str, seed: int, out: Path, goal_ms: str | None) -> None:
    from edgegen.candidates import torch_call
    from edgegen.generator import load_generator
    from edgegen.load import load
    from edgegen.pipeline import compress
    from edgegen.progress import Silent
    from edgegen.recipe import PruneGoal

    folder = out / name / f"seed-{seed}" / row.replace(" ", "-").replace(",", "")
    if (folder / "figures.json").exists():
        return
    default = folder.parent / "default" / "stages"
    known = default.parent / "figures.json"
    if "move" in CHANGES[row] and known.exists() and CHANGES[row]["move"] not in json.loads(known.read_text())["moves"]:
        print(name, row, seed, "is what the default did: it took no such move", flush=True)
        return
    if default.exists() and all(key.startswith("distill.") for key in CHANGES[row]) and not folder.exists():
        shutil.copytree(default, folder / "stages", ignore=shutil.ignore_patterns("*-distill-*"))  # the same cut
    request = _request(family, float(goal_ms) * 1e-3 if goal_ms else None, folder, seed, until="prune")
    recipe = dataclasses.replace(request.recipe, distill=dataclasses.replace(_distill_config(family)))
    if family.aim == "macs":
        prune = dataclasses.replace(recipe.prune, goal=PruneGoal.MACS, speedup=_FEWER, moves=False)
        recipe = dataclasses.replace(recipe, prune=prune)
    change = dict(CHANGES[row])
    with _without(change.pop("move", None)):
        for key, value in change.items():
            recipe = _changed(recipe, key.split("."), value)
        request = dataclasses.replace(request, recipe=recipe)
        compress(request, Silent())
    pruned = load_generator(_stage(folder, "prune"))
    teacher = load(family.checkpoint, resolution=request.resolution)
    recipe = dataclasses.replace(recipe, distill=dataclasses.replace(recipe.distill, steps=_steps(family, teacher, pruned)))
    compress(dataclasses.replace(request, recipe=recipe, until="distill", resume=True), Silent())
    student = load_generator(_stage(folder, "distill"))
    facts = next(record.facts for record in student.lineage if record.stage == "prune")
    inputs = test_inputs(name, teacher, out)
    reference, given = ([_picture(torch_call(g)(x), teacher.spec) for x in inputs] for g in (teacher, student))
    start = [_picture(torch_call(pruned)(x), teacher.spec) for x in inputs]
    figures = {
        "estimate_ms": facts["estimate_ms"],
        "macs": facts["macs"],
        "moves": sorted({move["move"].split()[0] for move in facts["moves"]}),  # without form and layers
        "start": _scores(start, reference),
        "end": _scores(given, reference),
    }
    (folder / "figures.json").write_text(json.dumps(figures, indent=1))
    print(name, row, seed, figures["start"], figures["end"], flush=True)


def _changed(value, path: list[str], to):
    """Return the frozen `value` with the field at `path` set to `to`, read as the field's enum where it is one."""
    if len(path) > 1:
        return dataclasses.replace(value, **{path[0]: _changed(getattr(value, path[0]), path[1:], to)})
    return dataclasses.replace(value, **{path[0]: type(getattr(value, path[0]))(to)})


class _without:  # noqa: N801  used like a function
    """Leave one move out of those that pruning tries."""

    def __init__(self, move: object) -> None:
        self._move = move

    def __enter__(self) -> None:
        from edgegen.prune import moves
        from edgegen.prune.moves import take

        self._defaults = take.take_moves.__kwdefaults__
        left = tuple(m for m in moves.MOVES if m.name != self._move)
        take.take_moves.__kwdefaults__ = {**self._defaults, "moves": left}

    def __exit__(self, *_: object) -> None:
        from edgegen.prune.moves import take

        take.take_moves.__kwdefaults__ = self._defaults


def _table(out: Path) -> None:
    rows = ["| family | seed | changed | estimate ms | GMAC | start dB | end dB | end SSIM | against default |", "|" + "---|" * 9]
    for path in sorted(out.glob("*/seed-*/*/figures.json")):
        found = json.loads(path.read_text())
        family, seed, row = path.parts[-4:-1]
        default = path.parents[1] / "default/figures.json"
        base = json.loads(default.read_text())["end"]["psnr_db"] if default.exists() else float("nan")
        name = next(n for n in CHANGES if n.replace(" ", "-").replace(",", "") == row)
        rows.append(
            f"| {family} | {seed.removeprefix('seed-')} | {name} | {found['estimate_ms']:.3f} | {found['macs'] / 1e9:.3f} "
            f"| {found['start']['psnr_db']:.2f} | {found['end']['psnr_db']:.2f} | {found['end']['ssim']:.4f} "
            f"| {found['end']['psnr_db'] - base:+.2f} dB |"
        )
    write_result(
        ROOT / "docs/results/ablation.md", "Ablation of the default recipe", "python benchmarks/ablation.py", "\n".join(rows)
    )
    print("\n".join(rows))


if __name__ == "__main__":
    main()
