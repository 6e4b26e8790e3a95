"""The students of the headline in the other back ends: LiteRT and TensorRT's ONNX, on inputs that no stage has seen.

    python benchmarks/headline.py style srgan && python benchmarks/backends.py style srgan
    python benchmarks/backends.py style --run style-times9        # the student of `headline.py style --times-int8 9`

Every precision is exported as `edgegen compress` exports it for such a target, and run in LiteRT, or in onnxruntime for TensorRT.
Float artifacts must give what the student gives in torch: at least 35 dB PSNR. An int8 artifact may lose 3 dB PSNR to the teacher
against the float student. Writes docs/results/backends.md; exit code 1 if one misses.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from headline import JOBS, SHARED, _scores, _stage, _test_inputs
from machine import write_result

ROOT = Path(__file__).resolve().parents[1]
LEAST_PARITY_DB, MOST_LOSS_DB = 35.0, 3.0
_PICTURES = 8


@dataclasses.dataclass(frozen=True)
class Row:
    """One artifact: PSNR in dB to the torch student, to the teacher, and how much less that is than the float student's."""

    artifact: str
    parity_db: float
    to_teacher_db: float
    lost_db: float
    kilobytes: int

    @property
    def passes(self) -> bool:
        """Whether a float artifact is the student, or an int8 one loses little."""
        return self.lost_db <= MOST_LOSS_DB if "int8" in self.artifact else self.parity_db >= LEAST_PARITY_DB


def main() -> None:
    """Measure the jobs that were asked for, keep what was found in --out, write the table of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="+", choices=list(JOBS))
    parser.add_argument("--out", type=Path, default=Path("edgegen-out/headline"), help="where headline.py wrote to")
    parser.add_argument("--run", help="the folder in --out, for one job; default: the job's name")
    args = parser.parse_args()
    if args.run and len(args.jobs) > 1:
        parser.error("--run belongs to one job")
    for job in args.jobs:
        folder = args.out / (args.run or job)
        rows = measure(job, folder)
        (folder / "backends.json").write_text(
            json.dumps({"job": job, "rows": [dataclasses.asdict(row) for row in rows]}, indent=1)
        )
    sys.exit(0 if write_table(args.out) else 1)


def measure(job: str, folder: Path) -> list[Row]:
    """Export the student that headline.py left in `folder` for LiteRT and TensorRT, and compare pictures."""
    from edgegen.candidates import torch_call
    from edgegen.data import open_inputs
    from edgegen.export import export
    from edgegen.generator import load_generator
    from edgegen.load import load
    from edgegen.pictures import adapt
    from edgegen.rewrite import lower
    from edgegen.spec import Backend, Precision, parse_resolution
    from edgegen.verify import make_cases, verify

    checkpoint, resolution, _, photos = JOBS[job]
    teacher = load(SHARED / "checkpoints" / checkpoint, resolution=resolution and parse_resolution(resolution))
    student = load_generator(_stage(folder, "distill"))
    inputs, _ = _test_inputs(job, teacher)
    cases = make_cases([(x,) for x in inputs[:_PICTURES]], teacher.spec, torch_call(teacher), torch_call(student))
    float_db = _scores([c.student for c in cases], [c.teacher for c in cases])["psnr_db"]
    data = SHARED / "images/street_train" if photos else None
    calibration = open_inputs(teacher.spec, data, calibration="auto", seed=0, held_out=16).calibration()
    rows = []
    for backend in (Backend.LITERT, Backend.TENSORRT):
        precisions = [Precision.F32, Precision.F16, Precision.INT8]
        precisions += [Precision.INT8_DYNAMIC] if backend is Backend.LITERT else []
        lowered = lower(student, backend)
        samples = [adapt(item, student.spec, lowered.spec) for item in calibration]
        for artifact in export(lowered, backend, tuple(precisions), samples, folder / backend.value):
            found = verify(artifact, student.spec, cases, seed=0)
            to_teacher = found.quality.psnr_db.mean
            rows.append(
                Row(artifact.name, found.parity.psnr_db.mean, to_teacher, float_db - to_teacher, artifact.size_bytes >> 10)
            )
            print(job, rows[-1], flush=True)
    return rows


def write_table(out: Path) -> bool:
    """Write the table of every run in `out` that was measured; return whether all artifacts pass."""
    lines = ["| student | artifact | KiB | PSNR to the student in torch | PSNR to the teacher | less than the float student | |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    passed = True
    for file in sorted(out.glob("*/backends.json")):
        for row in (Row(**values) for values in json.loads(file.read_text())["rows"]):
            passed = passed and row.passes
            lines.append(
                f"| {file.parent.name} | {row.artifact} | {row.kilobytes} | {row.parity_db:.1f} dB | {row.to_teacher_db:.2f} dB "
                f"| {row.lost_db:+.2f} dB | {'passes' if row.passes else 'misses'} |"
            )
    notes = (
        f"{_PICTURES} photos that no stage has seen. Asked for: at least {LEAST_PARITY_DB:.0f} dB to the student for float "
        f"artifacts, and for int8 ones at most {MOST_LOSS_DB:.0f} dB less to the teacher than the float student has."
    )
    write_result(
        ROOT / "docs/results/backends.md",
        "The same students in LiteRT and as TensorRT's ONNX",
        "python benchmarks/backends.py",
        "\n".join([notes, "", *lines]),
    )
    print("\n".join(lines))
    return passed


if __name__ == "__main__":
    main()
