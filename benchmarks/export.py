"""Exports against what each back end's own tool makes by default: latency and picture loss, family by family.

    python benchmarks/export.py --families dcgan vae --backends openvino onnxruntime --out edgegen-out/export
    python benchmarks/export.py --table                # only docs/results/export.md, from what --out holds

Both sides start from the same untouched generator and calibrate on inputs of one set. All artifacts of a family and back end run
in one child process on one thread, in turn, timed by the processor time of that thread; the median of three such processes
counts. PSNR is that of the pictures to the generator in torch, on inputs that no calibration saw. "ours" of a precision is the
fastest of its candidates that is at most 0.3 dB below the tool's default; a row misses if it is slower by more than 3 % or if no
candidate looks as good. Random-weight families have settled BatchNorm statistics. What is in --out is not measured again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import torch
from headline import SHARED
from judged import judge
from machine import write_result
from tool_defaults import defaults

ROOT = Path(__file__).resolve().parents[1]
BACKENDS = ("openvino", "tflite", "onnxruntime")
_NAMES = {"openvino": "openvino", "tflite": "litert", "onnxruntime": "onnxruntime"}
_CASES, _CALIBRATION = 4, 16
_SLOWER, _WORSE_DB = 1.03, 0.3  # the most that ours may lose
_MUCH_FASTER, _MUCH_BETTER_DB = 1.3, 2.0

_CAUSES = """Why ours is much better where it is:

- OpenVINO: a transposed convolution as sub-pixel convolution (autoencoder), InstanceNorm of few channels laid out by rows
  (style), operations left in float that int8 hurts and ranges of activations chosen by the picture (int8), and f16 that computes
  in f16 or f32 where the tool's file computes in bf16.
- LiteRT: transposed convolutions as convolutions with depth-to-space. The stock converter fails on those with output padding,
  its static int8 of the others does not load (scales per channel on the wrong axis), its dynamic int8 of them runs outside of
  XNNPACK. Whole models in NHWC, norms as operations that XNNPACK takes, ranges chosen by the picture.
- onnxruntime: unsigned activations, transposed convolutions as sub-pixel ones (there is no int8 kernel for them), norms in
  float, ranges chosen by the picture.

Below 1 ms the figures scatter by more than 3 %."""


@dataclasses.dataclass(frozen=True)
class Family:
    """A generator: its checkpoint below shared/checkpoints or in the repository, or how to build one with random weights."""

    checkpoint: str = ""
    resolution: tuple[int, int] | None = None
    family: str = ""
    hyperparameters: dict[str, Any] | None = None


_RESNET = {"in_channels": 3, "out_channels": 3, "widths": [32, 64, 128], "blocks": 6, "norm": "instance", "padding": "reflect",
           "block_padding": "reflect", "kernels": [7, 3, 7], "up": "transposed", "up_kernel": 3, "bias": True, "up_bias": True,
           "head_bias": True, "dropout": False}  # fmt: skip
_KERNELS = [9, 3, 3, 3, 3, 9]
FAMILIES = {
    "dcgan": Family("dcgan_faces32/generator_2.pth"),
    "vae": Family("vae_celeba64/model.pt"),
    "autoencoder": Family("cifar10_autoencoder/autoencoder.pkl"),
    "lowlight": Family("lowlight_sci/medium.pt", (128, 128)),
    "street": Family("examples/automotive/street_unet.safetensors"),
    "srgan": Family("srgan_x4/netG_epoch_4_100.pth", (32, 32)),
    "style": Family("style_rain_princess/rain_princess.pt", (128, 128)),
    "resnet": Family(resolution=(64, 64), family="resnet", hyperparameters=_RESNET),
    "unet": Family(resolution=(128, 128), family="unet", hyperparameters={
        "in_channels": 3, "out_channels": 3, "widths": [32, 64, 128, 256, 256, 256, 256], "norm": "batch", "bias": False,
        "first_bias": False, "last_bias": True}),
    "johnson": Family(resolution=(64, 64), family="johnson", hyperparameters={
        "in_channels": 3, "out_channels": 3, "widths": [32, 64, 128], "kernels": _KERNELS, "blocks": 5, "affine": True}),
    "johnson-tf": Family(resolution=(64, 64), family="johnson-tf", hyperparameters={
        "in_channels": 3, "out_channels": 3, "widths": [32, 64, 128], "kernels": _KERNELS, "blocks": 5}),
    "msrresnet": Family(resolution=(32, 32), family="msrresnet", hyperparameters={
        "in_channels": 3, "out_channels": 3, "width": 64, "blocks": 4, "factors": [2, 2]}),
    "srresnet-leaky": Family(resolution=(32, 32), family="srresnet-leaky", hyperparameters={
        "in_channels": 3, "out_channels": 3, "width": 64, "blocks": 4, "kernels": [9, 9], "norm": "instance-affine",
        "bias": False, "factors": [2, 2]}),
    "dcgan-dense": Family(family="dcgan-dense", hyperparameters={
        "latent": 100, "base": 4, "widths": [256, 128, 64, 3], "kernels": [4, 4, 4], "norms": ["batch", "batch", "none"],
        "biases": [False, False, False], "stem_bias": True}),
}  # fmt: skip


def main() -> None:
    """Measure what is asked for and missing, then write the table of everything in --out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="*", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--backends", nargs="*", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument("--out", type=Path, default=Path("edgegen-out/export"))
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for backend in () if args.table else args.backends:
        for family in args.families:
            path = args.out / f"{family}-{backend}.json"
            if not path.exists():
                found = measure(family, backend)
                path.write_text(json.dumps(found, indent=1))
                print(family, backend, json.dumps(found), flush=True)
    write_table(args.out)


def generator_of(name: str) -> Any:
    """Return the generator of a family, real or with random weights and statistics that have seen data."""
    from edgegen.generator import Generator
    from edgegen.graph import trace
    from edgegen.load import load
    from edgegen.load.families import FAMILIES as KNOWN
    from edgegen.load.family import Match

    family = FAMILIES[name]
    if family.checkpoint:
        path = (
            ROOT / family.checkpoint if family.checkpoint.startswith("examples") else SHARED / "checkpoints" / family.checkpoint
        )
        return load(path, resolution=family.resolution)
    torch.manual_seed(0)
    known = next(k for k in KNOWN if k.name == family.family)
    match = Match(family.hyperparameters or {})
    module, spec = _net(known)(**match.hyperparameters), known.spec(match, family.resolution)
    with torch.no_grad():
        for _ in range(20):
            module.train()(*(_random(t, 4) for t in spec.inputs))
    return Generator(trace(module.eval()), spec, name, {}, {})


def _net(family: Any) -> Any:
    """Return the class of the networks that a family builds: the one module of its file that takes its hyperparameters."""
    import inspect
    import sys

    module = sys.modules[type(family).__module__]
    names = ("ResnetGenerator", "UnetGenerator", "TransformerNet", "StyleNet", "MsrGenerator", "LeakyGenerator", "DenseGenerator")
    return next(c for n, c in inspect.getmembers(module, inspect.isclass) if n in names)


def _random(tensor: Any, count: int) -> torch.Tensor:
    noise = torch.randn(count, *tensor.shape)
    return noise if tensor.low is None else (torch.sigmoid(noise) * (tensor.high - tensor.low) + tensor.low)


def measure(name: str, backend: str) -> dict[str, Any]:
    """Return ms and PSNR of every artifact of both sides, and what the default tool failed at."""
    from edgegen.candidates import export_candidates
    from edgegen.data import open_inputs
    from edgegen.request import make_request
    from edgegen.spec import Kind

    generator = generator_of(name)
    photos = SHARED / "images/street_train" if generator.spec.inputs[0].kind is Kind.IMAGE else None
    labels = SHARED / "images/street_train_labels" if generator.spec.inputs[0].kind is Kind.LABEL_MAP else None
    inputs = open_inputs(generator.spec, photos or labels, calibration="auto", seed=0, held_out=_CASES)
    request = make_request(
        ROOT / "benchmarks/machine.py", target=str(ROOT / "benchmarks/one-thread.toml"), recipe="export-only", out=None,
        latency=None, fps=None, max_size=None, max_memory=None, min_ssim=None, resolution=None, start=None, until=None,
        backend=_NAMES[backend],
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        theirs, failed = defaults(generator, request.target.backend, inputs.calibration(_CALIBRATION), Path(folder) / "theirs")
        ours = export_candidates(request, generator, inputs, Path(folder) / "ours")
        judged, crashed = judge([*theirs, *ours], generator, inputs.held_out(_CASES), repeats=3)
    rows = [
        {"side": "theirs" if j.artifact in theirs else "ours", "name": j.artifact.name,
         "precision": j.artifact.entry.precision, "ms": j.candidate.latency_s * 1e3, "psnr_db": j.psnr_db, "ssim": j.ssim,
         "findings": list(j.candidate.findings), "bytes": j.candidate.size_bytes,
         "arithmetic": j.artifact.entry.settings.get("inference_precision", "")}
        for j in judged
    ]  # fmt: skip
    failed |= crashed
    return {"family": name, "backend": backend, "rows": rows, "failed": failed}


def write_table(out: Path) -> None:
    """Write docs/results/export.md from every file of `out`."""
    lines = ["| family | back end | precision | default tool: ms | dB | ours: ms | dB | speed | dB more | |",
             "|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    notes, missed = [], []
    for file in sorted(out.glob("*.json")):
        found = json.loads(file.read_text())
        for precision in ("f32", "f16", "int8-dynamic", "int8"):
            line = _line(found, precision)
            if line:
                lines.append(line)
                missed += [f"{found['family']} {found['backend']} {precision}"] if "misses" in line else []
        notes += [
            f"- {found['family']}, {found['backend']}: {what} fails ({_brief(why)})" for what, why in found["failed"].items()
        ]
    body = [__doc__.split("\n\n")[2], "", *lines, ""]
    body += ["Failures:", "", *notes, ""] if notes else []
    body += [_CAUSES, ""]
    body.append("Missed: " + ("; ".join(missed) if missed else "none of the rows") + ".")
    write_result(
        ROOT / "docs/results/export.md", "Exports against the tools' defaults", "python benchmarks/export.py", "\n".join(body)
    )
    print("\n".join(body))


def _brief(why: str) -> str:
    """Return the start of an error's text, without the folders of this machine."""
    return textwrap.shorten(re.sub(r"/\S*/site-packages/", "", why.removeprefix("Crash(reason='")), 150, placeholder=" ...")


def _line(found: dict[str, Any], precision: str) -> str | None:
    rows = [r for r in found["rows"] if r["precision"] == precision]
    theirs = next((r for r in rows if r["side"] == "theirs"), None)
    candidates = [r for r in rows if r["side"] == "ours"]
    if not candidates:
        return None
    head = f"| {found['family']} | {found['backend']} | {precision} "
    if theirs is None:
        best = min(candidates, key=lambda r: r["ms"])
        return head + f"| – | – | {best['ms']:.3f} | {best['psnr_db']:.1f} | – | – | the tool has none |"
    kept = [r for r in candidates if r["psnr_db"] >= theirs["psnr_db"] - _WORSE_DB] or candidates
    ours = min(kept, key=lambda r: r["ms"])
    speed, more = theirs["ms"] / ours["ms"], ours["psnr_db"] - theirs["psnr_db"]
    misses = ours["ms"] > theirs["ms"] * _SLOWER or more < -_WORSE_DB
    word = "misses" if misses else "much better" if speed > _MUCH_FASTER or more > _MUCH_BETTER_DB else "holds"
    return head + (f"| {theirs['ms']:.3f} | {theirs['psnr_db']:.1f} | {ours['ms']:.3f} | {ours['psnr_db']:.1f} "
                   f"| {speed:.2f}x | {more:+.1f} | {word}: {ours['name'].partition('/')[2]} |")  # fmt: skip


if __name__ == "__main__":
    main()
