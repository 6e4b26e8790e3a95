"""LiteRT candidates of whole generators on one thread: time, picture loss, what XNNPACK runs, and what the gate chooses.

    python benchmarks/litert.py --checkpoints DIR --images DIR unet resnet style srgan dcgan

`unet` (pix2pix, 54 M parameters, 256x256) and `resnet` (9 blocks, 128x128) have seeded random weights with settled norms: no
trained ones are at hand. PSNR is against torch on inputs that no range was set by. Prints one Markdown table.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgegen.candidates import time_artifacts, torch_call
from edgegen.data import open_inputs
from edgegen.export.tflite import export_litert
from edgegen.generator import Generator
from edgegen.graph import example_inputs, trace
from edgegen.load import load
from edgegen.load.families.resnet import ResnetGenerator
from edgegen.load.families.unet import UnetGenerator
from edgegen.pictures import adapt, unit_picture
from edgegen.quality.metrics import compare
from edgegen.quantize.gate import Candidate, Floors, decide
from edgegen.rewrite import lower
from edgegen.runtime.runners import open_runner
from edgegen.spec import Backend, ComponentSpec, Kind, Layout, Precision, TensorSpec

FILES = {
    "style": "style_rain_princess/rain_princess.pt",
    "srgan": "srgan_x4/netG_epoch_4_100.pth",
    "dcgan": "dcgan_faces32/generator_2.pth",
}
SIDES = {"style": (256, 256), "srgan": (64, 64), "dcgan": None}
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


def generator_of(name: str, checkpoints: Path) -> Generator:
    torch.manual_seed(0)
    if name == "unet":
        widths = [64, 128, 256, 512, 512, 512, 512, 512]
        settings: dict[str, Any] = {"in_channels": 3, "out_channels": 3, "widths": widths, "norm": "batch"}
        return seeded(UnetGenerator(**settings, bias=False, first_bias=True, last_bias=True), 256)
    if name == "resnet":
        return seeded(resnet(), 128)
    return load(checkpoints / FILES[name], resolution=SIDES[name])


def rows(name: str, generator: Generator, data: Path, folder: Path) -> list[str]:
    """Return one Markdown row per candidate."""
    inputs = open_inputs(generator.spec, data, calibration="auto", seed=0, held_out=4)
    calibration, held_out = inputs.calibration(8), inputs.held_out(4)
    precisions = tuple(p for p in ALL if p is not Precision.INT8_FULL or name not in ("style", "resnet"))
    artifacts = export_litert(lower(generator, Backend.LITERT), precisions, calibration, folder / name)
    wanted = [unit_picture(torch_call(generator)(*item), generator.spec.outputs[0]) for item in held_out]
    fed = [adapt(held_out[0], generator.spec, a.entry.io) for a in artifacts]
    times = time_artifacts(artifacts, fed, 1)
    candidates, losses = [], []
    for artifact, seconds in zip(artifacts, times, strict=True):
        runner = open_runner(artifact.folder, artifact.entry, 1)
        raw = [runner.run(list(adapt(item, generator.spec, artifact.entry.io)))[0] for item in held_out]
        runner.close()
        quality = compare([unit_picture(r, artifact.entry.io.outputs[0]) for r in raw], wanted, 0)
        losses.append(quality.psnr_db.mean)
        broken = sum(int(np.count_nonzero(~np.isfinite(r))) for r in raw)
        candidates.append(
            Candidate(
                artifact.name, artifact.entry.precision, seconds, losses[-1], quality.ssim.mean, broken, (), artifact.size_bytes
            )  # fmt: skip
        )
    decided = decide(candidates, Floors(1.0, 0.01, 40.0))
    found = []
    for artifact, seconds, loss, decision in zip(artifacts, times, losses, decided, strict=True):
        facts = artifact.facts
        left = ", ".join(f"{count} {kind}" for kind, count in facts["left_out"].items()) or "none"
        verdict = "chosen" if decision.chosen else "kept" if decision.kept else decision.reason
        found.append(
            f"| {name} | {artifact.entry.precision} | {seconds * 1e3:.2f} | {times[0] / seconds:.1f}x | {loss:.1f} "
            f"| {facts['delegated_share']:.0%}, {facts['partitions']} | {left} | {facts['transposes']} | {verdict} |"
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=["unet", "resnet", *FILES])
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| generator | precision | ms | against f32 | PSNR to torch, dB | delegated, delegates | left out | TRANSPOSE | gate |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in given.names:
            for row in rows(name, generator_of(name, given.checkpoints), given.images, Path(folder)):
                print(row, flush=True)


def resnet() -> nn.Module:
    """Return the CycleGAN generator of nine blocks."""
    return ResnetGenerator(
        in_channels=3, out_channels=3, widths=[64, 128, 256], blocks=9, norm="instance", padding="reflect",
        block_padding="reflect", kernels=[7, 3, 7], up="transposed", up_kernel=3, bias=True, up_bias=True, head_bias=True,
        dropout=False,
    )  # fmt: skip


if __name__ == "__main__":
    main()
