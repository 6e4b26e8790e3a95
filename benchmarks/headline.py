"""The headline figures: what `edgegen compress` makes of real trained generators, timed interleaved in one run.

    python benchmarks/headline.py style            # rain princess, 256x256: speed against eager and NNCF, SSIM on unseen photos
    python benchmarks/headline.py srgan            # SRResNet x4, 64x64 -> 256x256: PSNR against the true photos
    python benchmarks/headline.py dcgan vae        # 1,000 fixed latents
    python benchmarks/headline.py style --times-int8 8.5 --seed 1   # as a budget: this many times faster than NNCF int8
    python benchmarks/headline.py style --steps 1800     # trains less than its recipe says: what a busy machine has time for
    python benchmarks/headline.py style --resume   # measure again without training again

Checkpoints and photos are read from ../shared beside the repository. Each run prints a table, and writes JSON and a grid of
pictures (teacher | student | artifact) into --out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

SHARED = Path(__file__).resolve().parents[2] / "shared"
JOBS = {
    "style": ("style_rain_princess/rain_princess.pt", "256x256", "benchmarks/style.toml", "street"),
    "srgan": ("srgan_x4/netG_epoch_4_100.pth", "64x64", "benchmarks/srgan.toml", "street"),
    "dcgan": ("dcgan_faces32/generator_2.pth", None, "benchmarks/latent.toml", None),
    "vae": ("vae_celeba64/model.pt", None, "benchmarks/latent.toml", None),
}

_ROUNDS = 30  # of teacher and artifact in turn
_PRESETS, _LOADS = ("performance", "mixed"), 4


def main() -> None:
    """Run the jobs that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", choices=[*JOBS, []], default=list(JOBS))
    parser.add_argument("--out", type=Path, default=Path("edgegen-out/headline"))
    parser.add_argument("--effort", default="balanced")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--target", default="host", help="host, or benchmarks/one-thread.toml on a machine with other work")
    parser.add_argument("--latency", help="a budget such as 2.2ms, instead of the recipe's own goal")
    parser.add_argument(
        "--times-int8", type=float, help="a budget: the faster NNCF int8 of the untouched teacher, over this number"
    )
    parser.add_argument("--steps", type=int, default=0, help="of the training, instead of the recipe's")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for job in args.jobs:
        asked = [
            args.latency or "",
            f"times{args.times_int8:g}" if args.times_int8 else "",
            f"steps{args.steps}" if args.steps else "",
            f"seed{args.seed}" if args.seed else "",
        ]
        run = "-".join([job, *filter(None, asked)])
        figures = measure(job, args.out / run, args)
        (args.out / f"{run}.json").write_text(json.dumps(figures, indent=1))
        print(json.dumps(figures, indent=1))


def measure(job: str, out: Path, args: argparse.Namespace) -> dict:
    """Compress the generator of `job` and return its figures."""
    from edgegen.cli import console
    from edgegen.pipeline import compress
    from edgegen.recipe import Effort
    from edgegen.request import make_request

    checkpoint, resolution, recipe, photos = JOBS[job]
    latency = f"{_int8_ms(job, args.target) / args.times_int8:.4f}ms" if args.times_int8 else args.latency
    request = make_request(
        SHARED / "checkpoints" / checkpoint, target=args.target, recipe=str(_beside(recipe)), out=out, resolution=resolution,
        latency=latency, fps=None, max_size=None, max_memory=None, min_ssim=None,
        data=SHARED / "images/street_train" if photos else None,
        effort=Effort(args.effort), seed=args.seed, resume=args.resume, start=None, until=None, arch=None, trust=False,
        discriminator=None, log_dir=None,
    )  # fmt: skip
    if args.steps:
        distill = dataclasses.replace(request.recipe.distill, steps=args.steps)
        request = dataclasses.replace(request, recipe=dataclasses.replace(request.recipe, distill=distill))
    started, used = time.perf_counter(), time.process_time()
    with console.progress() as progress:
        outcome = compress(request, progress)
    seconds, processor_s = time.perf_counter() - started, time.process_time() - used
    return {
        "job": job,
        "compress_seconds": round(seconds, 1),
        "processor_seconds": round(processor_s, 1),
        "steps": request.recipe.distill.steps,
        "verdict": outcome.summary["verdict"],
        **_figures(job, request, out),
    }


def _int8_ms(job: str, target: str) -> float:
    """Return what NNCF int8 makes of the untouched teacher, in ms: with the faster of its presets, of the fastest load."""
    import tempfile

    from edgegen.export.openvino import save_nncf_int8
    from edgegen.load import load
    from edgegen.openvino_form import time_artifacts
    from edgegen.target import load_target

    checkpoint, resolution, _, _ = JOBS[job]
    teacher = load(SHARED / "checkpoints" / checkpoint, resolution=resolution and tuple(int(v) for v in resolution.split("x")))
    inputs = [(x,) for x in _test_inputs(job, teacher)[0][:16]]
    with tempfile.TemporaryDirectory() as folder:
        made = [save_nncf_int8(teacher, inputs, Path(folder) / preset, preset) for preset in _PRESETS] * _LOADS
        return min(time_artifacts(made, [inputs[0]] * len(made), load_target(target).threads)) * 1e3


def _beside(recipe: str) -> Path | str:
    path = Path(__file__).resolve().parents[1] / recipe
    return path if path.suffix == ".toml" else recipe


def _figures(job: str, request, out: Path) -> dict:
    from edgegen.artifact import load_artifacts
    from edgegen.candidates import torch_call
    from edgegen.generator import load_generator
    from edgegen.graph import count_macs, count_params
    from edgegen.load import load
    from edgegen.runtime.runners import open_runner

    teacher = load(request.checkpoint, resolution=request.resolution)
    student = load_generator(_stage(out, "distill"))
    inputs, truth = _test_inputs(job, teacher)
    chosen = next(c for c in json.loads((out / "summary.json").read_text())["candidates"] if c["chosen"])
    artifact = next(a for a in load_artifacts(_stage(out, "export")) if a.name == chosen["name"])
    runner = open_runner(artifact.folder, artifact.entry, request.target.threads)
    pictures = {
        "teacher": [_picture(torch_call(teacher)(x), teacher.spec) for x in inputs],
        "student": [_picture(torch_call(student)(x), teacher.spec) for x in inputs],
        "artifact": [_picture(runner.run(_adapt(x, teacher, artifact))[0], artifact.entry.io) for x in inputs],
    }
    runner.close()
    _grid(out / "grid.png", pictures, truth)
    macs = {name: count_macs(g.module, g.spec) for name, g in (("teacher", teacher), ("student", student))}
    return {
        "artifact": artifact.name,
        "macs": macs | {"ratio": round(macs["teacher"] / macs["student"], 2)},
        "params": {"teacher": count_params(teacher.module), "student": count_params(student.module)},
        "quality_to_teacher": {name: _scores(pictures[name], pictures["teacher"]) for name in ("student", "artifact")},
        "quality_to_truth": {n: _scores(p, truth) for n, p in pictures.items()} if truth else None,
        "latency": _latency(teacher, artifact, inputs, out, request.target.threads),
    }


def _stage(out: Path, name: str) -> Path:
    return next(p for p in sorted((out / "stages").iterdir(), reverse=True) if f"-{name}-" in p.name and p.suffix != ".part")


def _picture(array: np.ndarray, spec) -> np.ndarray:
    from edgegen.pictures import unit_picture

    return unit_picture(array, spec.outputs[0])


def _adapt(array: np.ndarray, teacher, artifact) -> list[np.ndarray]:
    from edgegen.pictures import adapt

    return list(adapt((array,), teacher.spec, artifact.entry.io))


def _test_inputs(job: str, teacher) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """Return inputs that no stage has seen (street_test photos, or latents), and the true pictures of a super-resolver."""
    from edgegen.runtime.latents import latent

    spec = teacher.spec.inputs[0]
    if job in ("dcgan", "vae"):
        return [latent(spec, 1_000_000 + i) for i in range(1000)], None
    photos = [_centre(path, 256) for path in sorted((SHARED / "images/street_test").glob("*.png"))]
    scale = 256 // spec.height
    small = [np.asarray(p.resize((256 // scale, 256 // scale), Image.Resampling.BICUBIC)) for p in photos]
    arrays = [(s.astype(np.float32) / 255 * (spec.high - spec.low) + spec.low).transpose(2, 0, 1)[None] for s in small]
    return arrays, [np.asarray(p, np.float32) / 255 for p in photos] if scale > 1 else None


def _centre(path: Path, side: int) -> Image.Image:
    photo = Image.open(path).convert("RGB")
    scale = side / min(photo.size)
    photo = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.LANCZOS)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    return photo.crop((left, top, left + side, top + side))


def _scores(produced: list[np.ndarray], reference: list[np.ndarray]) -> dict:
    from edgegen.quality.metrics import psnr_db, ssim

    return {
        "ssim": round(float(np.mean([ssim(a, b) for a, b in zip(produced, reference)])), 4),
        "psnr_db": round(float(np.mean([psnr_db(a, b) for a, b in zip(produced, reference)])), 2),
        "count": len(produced),
    }


def _latency(teacher, artifact, inputs: list[np.ndarray], out: Path, threads: int) -> dict:
    """Median ms, in turn: teacher eager, the untouched teacher in OpenVINO (f32, NNCF int8 with both presets), the artifact.

    Of NNCF's files the fastest of several loads counts: a norm of 3 channels before a tanh takes the plug-in 1.8 or 17 ms,
    by what was in memory when it was compiled. Exports by edgegen avoid that form (`with_planar_norms`); "planar" is what NNCF's
    files would take in it.
    """
    from edgegen.bench import clock_of, time_interleaved
    from edgegen.candidates import torch_call
    from edgegen.export.openvino import export_openvino, save_nncf_int8
    from edgegen.runtime.runners import open_runner
    from edgegen.spec import Precision

    (plain,) = export_openvino(teacher, (Precision.F32,), [], out / "teacher")
    samples = [(x,) for x in inputs[:16]]
    int8 = {f"teacher NNCF int8, {p}": save_nncf_int8(teacher, samples, out / "teacher" / p, p) for p in _PRESETS}
    int8 |= {f"{name}, planar": _planar(made, made.folder.with_name(f"{made.folder.name}-planar")) for name, made in int8.items()}
    torch.set_num_threads(threads or torch.get_num_threads())
    eager = torch_call(teacher)
    runners = {"teacher openvino f32": plain, **int8, "artifact": artifact}
    calls = {"teacher eager 0": lambda: eager(inputs[0])}
    for name, made in runners.items():
        fed = _adapt(inputs[0], teacher, made)
        for load in range(_LOADS if "NNCF" in name else 1):
            runner = open_runner(made.folder, made.entry, threads)
            calls[f"{name} {load}"] = lambda r=runner, x=fed: r.run(x)
    taken = time_interleaved(calls, rounds=_ROUNDS, clock=clock_of(threads))
    ms: dict[str, float] = {}
    for call, ns in taken.items():
        name, _, _ = call.rpartition(" ")
        ms[name] = min(ms.get(name, np.inf), round(float(np.median(ns)) * 1e-6, 3))
    ratios = {name: round(value / ms["artifact"], 2) for name, value in ms.items() if name != "artifact"}
    return {"median_ms": ms, "times_faster_than": ratios}


def _planar(artifact, folder: Path):
    """Return NNCF's file once more, with norms over few channels in the form that edgegen gives them."""
    import openvino as ov

    from edgegen.artifact import describe_artifact
    from edgegen.latency.openvino_norms import with_planar_norms

    entry = artifact.entry
    folder.mkdir(parents=True, exist_ok=True)
    graph = ov.Core().read_model(artifact.folder / entry.entry)
    ov.save_model(with_planar_norms(graph), str(folder / entry.entry), compress_to_fp16=False)
    return describe_artifact(folder, backend=entry.backend, precision=entry.precision, entry=entry.entry, io=entry.io,
                             settings=entry.settings, facts={}, form=f"{artifact.form}, planar")  # fmt: skip


def _grid(path: Path, pictures: dict[str, list[np.ndarray]], truth: list[np.ndarray] | None) -> None:
    columns = [*pictures.values(), *([truth] if truth else [])]
    rows = [np.concatenate([column[i] for column in columns], 1) for i in range(min(8, len(columns[0])))]
    Image.fromarray(np.rint(np.concatenate(rows, 0) * 255).astype(np.uint8)).save(path)


if __name__ == "__main__":
    main()
