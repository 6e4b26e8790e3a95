"""The front of int8 candidates for a style network that int8 hurts: speed against picture, found by the search of the export.

    python benchmarks/int8_front.py --out edgegen-out/int8_front

style_rain_princess, untouched, 256x256 (InstanceNorm). The yardsticks are what NNCF makes of the plain conversion, with its
default preset ("performance") and with "mixed". Everything runs in one child process on one thread, in turn, timed by the
processor time of that thread; PSNR and SSIM are to the generator in torch on photos of street_test. Float layers compute in f32,
whatever else this processor has. Writes docs/results/int8_front.md, and a grid of pictures (torch | NNCF mixed | the gate's
choice) into --out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
from headline import SHARED, _centre
from judged import decisions, judge
from machine import write_result
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
_PHOTOS, _CALIBRATION = 8, 24


def main() -> None:
    """Make, run, time and judge the candidates, then write the table."""
    from edgegen.candidates import int8_search, torch_call
    from edgegen.data import open_inputs
    from edgegen.export.openvino import OpenVinoSettings, export_openvino, save_nncf_int8
    from edgegen.load import load
    from edgegen.pictures import unit_picture
    from edgegen.recipe import Effort
    from edgegen.spec import Precision

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("edgegen-out/int8_front"))
    parser.add_argument("--effort", type=Effort, default=Effort.BALANCED)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    generator = load(SHARED / "checkpoints/style_rain_princess/rain_princess.pt", resolution=(256, 256))
    data = open_inputs(generator.spec, SHARED / "images/street_train", calibration="auto", seed=0, held_out=4)
    samples = data.calibration(_CALIBRATION)
    settings = OpenVinoSettings(least_int8_share=0.2, search=int8_search(args.effort))
    theirs = [save_nncf_int8(generator, samples, args.out / p, p) for p in ("mixed", "performance")]
    artifacts = [*theirs, *export_openvino(generator, (Precision.F32, Precision.INT8), samples, args.out / "ours", settings)]
    spec = generator.spec.inputs[0]
    assert spec.low is not None and spec.high is not None
    photos = [np.asarray(_centre(path, 256), np.float32) for path in sorted((SHARED / "images/street_test").glob("*.png"))]
    given = [
        ((p / 255 * (spec.high - spec.low) + spec.low).transpose(2, 0, 1)[None].astype(np.float32),) for p in photos[:_PHOTOS]
    ]
    found, failed = judge(artifacts, generator, given)
    assert not failed, failed
    decided = decisions(found[2:])
    mixed_s, default_s = (one.candidate.latency_s for one in found[:2])
    columns = ["artifact", "operations in float", "int8 share", "ms", "speed of NNCF's default", "of its mixed preset", "PSNR dB",
               "SSIM", "the gate"]  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for one, why in zip(found, ["a yardstick", "a yardstick", *(d.reason for d in decided)], strict=True):
        a, c = one.artifact, one.candidate
        kept, share = a.facts.get("kept_float"), a.facts.get("int8_share")
        counted, part = "–" if kept is None else str(len(kept)), "–" if share is None else f"{share:.0%}"
        lines.append(
            f"| {a.name.removeprefix('openvino/')} | {counted} | {part} | {c.latency_s * 1e3:.1f} "
            f"| {default_s / c.latency_s:.2f}x | {mixed_s / c.latency_s:.2f}x | {c.parity_db:.1f} | {c.ssim:.4f} | {why} |"
        )
    goals = []
    for db, speed in ((40.0, 0.95), (43.0, 0.75)):
        reached = [c.latency_s for c in (one.candidate for one in found[2:]) if c.precision == "int8" and c.parity_db >= db]
        best = min(reached, default=float("inf"))
        goals.append(
            f"At least {db:.0f} dB: {default_s / best:.2f}x the speed of NNCF's default, {mixed_s / best:.2f}x that of its mixed "
            f"preset (asked for: {speed:.2f}x)."
        )
    body = "\n".join([__doc__.split("\n\n")[2], "", *lines, "", *goals])
    write_result(ROOT / "docs/results/int8_front.md", "Int8 of an InstanceNorm generator: speed against picture",
                 "python benchmarks/int8_front.py", body)  # fmt: skip
    (args.out / "front.json").write_text(json.dumps([dataclasses.asdict(one.candidate) for one in found], indent=1))
    chosen = next(one for one, d in zip(found[2:], decided, strict=True) if d.chosen)
    wanted = [unit_picture(torch_call(generator)(*x), generator.spec.outputs[0]) for x in given[:3]]
    rows = [np.concatenate([wanted[i], found[0].pictures[i], chosen.pictures[i]], 1) for i in range(3)]
    Image.fromarray(np.rint(np.concatenate(rows) * 255).astype(np.uint8)).save(args.out / "grid.png")
    print(body)


if __name__ == "__main__":
    main()
