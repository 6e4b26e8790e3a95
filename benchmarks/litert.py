"""LiteRT candidates of whole generators on one thread: time, picture loss, what XNNPACK runs, and what the gate chooses.

    python benchmarks/litert.py unet resnet srgan dcgan style
    python benchmarks/litert.py unet --tries 0 --calibration 4     # for a busy machine: no search for single ranges

`unet` (pix2pix, 54 M parameters, 256x256) and `resnet` (CycleGAN, 9 blocks, 128x128) have seeded random weights with settled
norms: no trained ones are at hand. `style` runs at 128x128. Latency is processor time of one thread, the candidates of a
generator in turn, median of 30 or more. PSNR is against torch on four inputs that no range was set by. What was measured stays in
--out; the table of all of it goes to docs/results/litert.md.
"""

from __future__ import annotations

import argparse
import collections
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from headline import SHARED
from machine import write_result
from torch import nn

from edgegen.artifact import Artifact
from edgegen.candidates import torch_call
from edgegen.data import open_inputs
from edgegen.export.litert_convert import muted
from edgegen.export.litert_graph import read_operations
from edgegen.export.tflite import Int8Form, LitertSettings, export_litert
from edgegen.generator import Generator
from edgegen.graph import example_inputs, trace
from edgegen.load import load
from edgegen.load.families.resnet import ResnetGenerator
from edgegen.load.families.unet import UnetGenerator
from edgegen.openvino_form import time_artifacts
from edgegen.pictures import adapt, unit_picture
from edgegen.quality.metrics import compare
from edgegen.quantize.gate import Candidate, Floors, decide
from edgegen.rewrite import lower
from edgegen.runtime.runners import open_runner
from edgegen.spec import Backend, ComponentSpec, Kind, Layout, Precision, TensorSpec

ROOT = Path(__file__).resolve().parents[1]
FILES = {
    "style": "style_rain_princess/rain_princess.pt",
    "srgan": "srgan_x4/netG_epoch_4_100.pth",
    "dcgan": "dcgan_faces32/generator_2.pth",
}
SIDES = {"style": (128, 128), "srgan": (64, 64), "dcgan": None}
NAMES = ("unet", "resnet", *FILES)
READING = (
    "The gate here drops what loses more than 0.01 SSIM, floats below 40 dB, and what is slower than a higher precision. "
    '"Q/DQ" is int8 made by the converter from Q/DQ nodes, "int8" by ai-edge-quantizer; "runtime filters" counts convolutions '
    "whose weights are computed. Files with InstanceNorm have no int8-full form; where every layer "
    "lies in front of a norm or gives the picture, none is static, and there is no Q/DQ form either (resnet, style)."
)
ALL = (Precision.F32, Precision.F16, Precision.INT8_DYNAMIC, Precision.INT8, Precision.INT8_FULL)


def seeded(net: nn.Module, side: int) -> Generator:
    """Return `net` with settled BatchNorms and a head that makes tanh use its range; pictures in [-1, 1]."""
    image = TensorSpec("image", Kind.IMAGE, (3, side, side), Layout.CHW, low=-1.0, high=1.0)
    spec = ComponentSpec("generator", (image,), (image,))
    heads: list[torch.Tensor] = []
    last_tanh = [m for m in net.modules() if isinstance(m, nn.Tanh)][-1]
    hook = last_tanh.register_forward_pre_hook(lambda _, values: heads.append(values[0]))
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the plain mean over all batches
    with torch.no_grad():
        for seed in range(3 if norms else 1):
            net.train()(*example_inputs(spec, batch=2, seed=seed))
        net.eval()(*example_inputs(spec))
        head = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)][-1]
        head.weight *= 0.6 / heads[-1].std()
    hook.remove()
    return Generator(trace(net), spec, "seeded", {}, {})


def generator_of(name: str) -> Generator:
    torch.manual_seed(0)
    if name == "unet":
        widths = [64, 128, 256, 512, 512, 512, 512, 512]
        settings: dict[str, Any] = {"in_channels": 3, "out_channels": 3, "widths": widths, "norm": "batch"}
        return seeded(UnetGenerator(**settings, bias=False, first_bias=True, last_bias=True), 256)
    if name == "resnet":
        return seeded(resnet(), 128)
    return load(SHARED / "checkpoints" / FILES[name], resolution=SIDES[name])


def measure(name: str, folder: Path, calibration: int, tries: int) -> dict[str, Any]:
    """Export every candidate of a generator into `folder` and return its rows, and what the stock converter makes of it."""
    generator = generator_of(name)
    inputs = open_inputs(generator.spec, SHARED / "images/street_train", calibration="auto", seed=0, held_out=4)
    precisions = tuple(p for p in ALL if p is not Precision.INT8_FULL or name not in ("style", "resnet"))
    artifacts = export_litert(
        lower(generator, Backend.LITERT), precisions, inputs.calibration(calibration), folder,
        settings=LitertSettings(tuple(Int8Form), most_tries=tries),
    )  # fmt: skip
    held_out = inputs.held_out(4)
    wanted = [unit_picture(torch_call(generator)(*item), generator.spec.outputs[0]) for item in held_out]
    built = [a for a in artifacts if not a.lost]
    fed = [adapt(held_out[0], generator.spec, a.entry.io) for a in built]
    times = dict(zip([a.name for a in built], time_artifacts(built, fed, 1), strict=True))
    candidates = [_candidate(a, times.get(a.name), generator, held_out, wanted) for a in artifacts]
    decided = decide(candidates, Floors(1.0, 0.01, 40.0))
    rows = [
        {"name": a.name.partition("/")[2], "latency_s": c.latency_s, "psnr_db": c.parity_db, "facts": dict(a.facts),
         "runtime_filters": _runtime_filters(a),
         "verdict": "chosen" if d.chosen else "kept" if d.kept else d.reason}
        for a, c, d in zip(artifacts, candidates, decided, strict=True)
    ]  # fmt: skip
    return {"generator": name, "rows": rows, "stock": stock(generator), "calibration": calibration, "tries": tries}


def _candidate(
    artifact: Artifact, seconds: float | None, generator: Generator, inputs: list[Any], wanted: list[np.ndarray]
) -> Candidate:
    precision = artifact.entry.precision
    if artifact.lost:
        return Candidate(artifact.name, precision, None, 0.0, 0.0, 0, (), 0, artifact.lost)
    runner = open_runner(artifact.folder, artifact.entry, 1)
    raw = [runner.run(list(adapt(item, generator.spec, artifact.entry.io)))[0] for item in inputs]
    runner.close()
    quality = compare([unit_picture(r, artifact.entry.io.outputs[0]) for r in raw], wanted, 0)
    broken = sum(int(np.count_nonzero(~np.isfinite(r))) for r in raw)
    return Candidate(
        artifact.name, precision, seconds, quality.psnr_db.mean, quality.ssim.mean, broken, (), artifact.size_bytes
    )  # fmt: skip


def _runtime_filters(artifact: Artifact) -> int:
    """Return how many convolutions of the file read a weight that is computed, which XNNPACK does not take."""
    if artifact.lost:
        return 0
    operations = read_operations((artifact.folder / artifact.entry.entry).read_bytes())
    constants = {t for o in operations if o.kind == "DEQUANTIZE" and not o.inputs for t in o.outputs}  # float16 weights
    layers = [o for o in operations if o.kind in ("CONV_2D", "TRANSPOSE_CONV", "DEPTHWISE_CONV_2D")]
    return sum(len(set(layer.inputs) - constants) > 1 for layer in layers)


def stock(generator: Generator) -> str:
    """Return what litert_torch.convert alone, without edgegen's rewrites, makes of a generator: operations, or its error."""
    with muted():
        import litert_torch

        try:
            inputs = example_inputs(generator.spec)
            content = bytes(litert_torch.convert(generator.module.eval(), inputs, lightweight_conversion=True).model_content())
        except Exception as error:  # whatever its passes raise: that it fails is the result
            told = [line for line in str(error).splitlines() if "error:" in line] or [str(error)]
            return "fails: " + (told[0].partition("error:")[2] or told[0]).partition(" that was")[0].strip()[:100]
    kinds = collections.Counter(operation.kind for operation in read_operations(content))
    named = {kind: kinds[kind] for kind in ("TRANSPOSE", "MIRROR_PAD", "GATHER_ND", "RESIZE_NEAREST_NEIGHBOR") if kinds[kind]}
    return f"converts, {sum(kinds.values())} operations" + "".join(f", {count} {kind}" for kind, count in named.items())


def table(found: list[dict[str, Any]]) -> str:
    """Return the page: one row per candidate, then what the stock converter makes of each generator."""
    lines = ["| generator | candidate | ms | against f32 | PSNR to torch, dB | delegated, delegates | left out | MIRROR_PAD "
             "| runtime filters | TRANSPOSE | ranges | gate |", "|---" * 12 + "|"]  # fmt: skip
    for one in found:
        f32 = next(row["latency_s"] for row in one["rows"] if row["name"] == "f32")
        for row in one["rows"]:
            facts, seconds = row["facts"], row["latency_s"]
            if seconds is None:
                lines.append(f"| {one['generator']} | {row['name']} |" + " |" * 9 + f" {row['verdict']} |")
                continue
            left = ", ".join(f"{count} {kind}" for kind, count in facts["left_out"].items()) or "none"
            lines.append(
                f"| {one['generator']} | {row['name']} | {seconds * 1e3:.2f} | {f32 / seconds:.1f}x | {row['psnr_db']:.1f} "
                f"| {facts['delegated_share']:.0%}, {facts['partitions']} | {left} | {facts['operations'].get('MIRROR_PAD', 0)} "
                f"| {row['runtime_filters']} | {facts['transposes']} | {facts.get('ranges', '')} | {row['verdict']} |"
            )
    lines += ["", "The stock converter, `litert_torch.convert` on the same generators without edgegen's rewrites:", ""]
    lines += [f"- {one['generator']}: {one['stock']}" for one in found]
    settings = sorted({(one["calibration"], one["tries"]) for one in found})
    told = " or ".join(f"{calibration} calibration inputs and {tries} single ranges tried" for calibration, tries in settings)
    return "\n".join([__doc__.split("\n\n")[2], "", f"Made with {told}. {READING}", "", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []])
    parser.add_argument("--out", type=Path, default=Path("edgegen-out/litert"))
    parser.add_argument("--calibration", type=int, default=8, help="inputs that ranges are set by")
    parser.add_argument("--tries", type=int, default=8, help="single ranges that are changed in search of better pictures")
    parser.add_argument("--table", action="store_true", help="only the page, from what --out holds")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in () if given.table else given.names or NAMES:
        found = measure(name, given.out / name, given.calibration, given.tries)
        (given.out / f"{name}.json").write_text(json.dumps(found, indent=1))
        print(table([found]), flush=True)
    stored = [json.loads(path.read_text()) for path in (given.out / f"{name}.json" for name in NAMES) if path.exists()]
    write_result(
        ROOT / "docs/results/litert.md", "LiteRT candidates of whole generators", "python benchmarks/litert.py", table(stored)
    )


def resnet() -> nn.Module:
    """Return the CycleGAN generator of nine blocks."""
    return ResnetGenerator(
        in_channels=3, out_channels=3, widths=[64, 128, 256], blocks=9, norm="instance", padding="reflect",
        block_padding="reflect", kernels=[7, 3, 7], up="transposed", up_kernel=3, bias=True, up_bias=True, head_bias=True,
        dropout=False,
    )  # fmt: skip


if __name__ == "__main__":
    main()
