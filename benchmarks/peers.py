"""Our median beside those of the back ends' own tools, interleaved, on this machine.

    python benchmarks/peers.py CHECKPOINT --data PHOTOS --out docs/results/peers.md

The checkpoint is exported unchanged, in float32, for OpenVINO, onnxruntime and LiteRT. Each is then timed in turn, in fresh
processes: by `python -m edgegen.runtime time`, and by a peer. For OpenVINO that is its `benchmark_app` on the same IR; for the
others a plain loop of a dozen lines around their Python API, which shares no code with edgegen.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from machine import machine

TARGETS = {"openvino": "host", "onnxruntime": "jetson-nano", "litert": "raspberry-pi-4"}
PEERS = {"openvino": "benchmark_app", "onnxruntime": "plain loop", "litert": "plain loop"}
RECIPE = """schema = "edgegen.recipe/1"
name = "peers"
title = "Export in float32"
stages = ["load", "rewrite", "export", "verify", "bundle"]

[export]
precisions = ["f32"]

[verify]
held_out = 4
"""
ONNXRUNTIME_LOOP = """
import json, sys, time, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
rng = numpy.random.default_rng(0)
feed = {port.name: rng.random(port.shape, dtype=numpy.float32) for port in session.get_inputs()}
def run():
    session.run(None, feed)
"""
LITERT_LOOP = """
import json, sys, time, numpy
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
rng = numpy.random.default_rng(0)
inputs = [(d["index"], rng.random(d["shape"]).astype(d["dtype"])) for d in interpreter.get_input_details()]
outputs = [d["index"] for d in interpreter.get_output_details()]
def run():
    for index, value in inputs:
        interpreter.set_tensor(index, value)
    interpreter.invoke()
    [interpreter.get_tensor(index) for index in outputs]
"""
TIMING = """
for _ in range(20):
    run()
taken, end = [], time.perf_counter() + float(sys.argv[2])
while time.perf_counter() < end or len(taken) < 20:
    begin = time.perf_counter_ns()
    run()
    taken.append(time.perf_counter_ns() - begin)
print(json.dumps(sorted(taken)[len(taken) // 2]))
"""


def main() -> None:
    """Export, time in turn, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--resolution", default="256x256")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for backend, target in TARGETS.items():
            bundle = exported(options, target, Path(scratch, backend))
            rows.append(
                (backend, *in_turn(ours(bundle, options.seconds), peer(backend, bundle, options.seconds), options.rounds))
            )
    text = report(options, rows)
    print(text)
    if options.out:
        options.out.write_text(text)


def exported(options: argparse.Namespace, target: str, out: Path) -> Path:
    """Return the bundle of the checkpoint for `target`, in float32."""
    out.mkdir()
    recipe = out / "peers.toml"
    recipe.write_text(RECIPE)
    line = [sys.executable, "-m", "edgegen.cli.main", "compress", str(options.checkpoint), "--target", target]
    line += ["--recipe", str(recipe), "--out", str(out / "run"), "--resolution", options.resolution]
    line += ["--data", str(options.data)] if options.data else []
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if not (out / "run" / "bundle" / "manifest.json").exists():
        raise SystemExit(f"no bundle for {target}:\n{done.stdout[-1000:]}\n{done.stderr[-1000:]}")
    return out / "run" / "bundle"


def ours(bundle: Path, seconds: float) -> Callable[[], float]:
    """Return what times the bundle once with edgegen, in ms."""
    line = [sys.executable, "-m", "edgegen.runtime", "time", str(bundle), "--threads", "1", "--min-runs", "20"]
    line += ["--min-seconds", str(seconds), "--burst-seconds", "0.5", "--hz", "0"]
    return lambda: statistics.median(json.loads(_printed(line))["sustained"]["samples_ns"]) / 1e6


def peer(backend: str, bundle: Path, seconds: float) -> Callable[[], float]:
    """Return what times the bundle's artifact once with the back end's own means, in ms."""
    (artifact,) = (bundle / "artifacts" / backend).iterdir()
    if backend == "openvino":
        (model,) = artifact.glob("*.xml")
        line = [
            "benchmark_app",
            "-m",
            str(model),
            "-d",
            "CPU",
            "-api",
            "sync",
            "-hint",
            "none",
            "-nstreams",
            "1",
            "-nthreads",
            "1",
        ]
        line += ["-t", str(max(1, round(seconds))), "-infer_precision", "f32"]
        line[0] = str(Path(sys.executable).with_name("benchmark_app"))
        return lambda: float(re.search(r"Median:\s+([0-9.]+) ms", _printed(line)).group(1))
    pattern, loop = ("*.onnx", ONNXRUNTIME_LOOP) if backend == "onnxruntime" else ("*.tflite", LITERT_LOOP)
    (model,) = artifact.glob(pattern)
    line = [sys.executable, "-c", loop + TIMING, str(model), str(seconds)]
    return lambda: json.loads(_printed(line).strip().splitlines()[-1]) / 1e6


def in_turn(one: Callable[[], float], two: Callable[[], float], rounds: int) -> tuple[list[float], list[float]]:
    """Return the medians of each round, in ms; who begins alternates."""
    mine: list[float] = []
    theirs: list[float] = []
    for index in range(rounds):
        for call, kept in ((one, mine), (two, theirs)) if index % 2 == 0 else ((two, theirs), (one, mine)):
            kept.append(call())
    return mine, theirs


def report(options: argparse.Namespace, rows: list[tuple[str, list[float], list[float]]]) -> str:
    """Return the page of results."""
    command = f"python benchmarks/peers.py {options.checkpoint.name} --resolution {options.resolution} --rounds {options.rounds}"
    lines = [
        "# Our medians beside those of the back ends' own tools", "",
        f"Made with `{command} --seconds {options.seconds:g} ...`", f"on {machine()};",
        "one thread, float32, on a machine that others use too: only the ratio of neighbours in time means anything.",
        "A figure is the median over rounds of the median of one process.", "",
        "| back end | peer | edgegen | peer's | ours / theirs, median of rounds | half of the rounds |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for backend, mine, theirs in rows:
        ratios = sorted(a / b for a, b in zip(mine, theirs, strict=True))
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        cells = (f"{statistics.median(mine):.3f} ms", f"{statistics.median(theirs):.3f} ms", f"{statistics.median(ratios):.3f}")
        lines.append(f"| {backend} | {PEERS[backend]} | {' | '.join(cells)} | {low:.3f} to {high:.3f} |")
    return "\n".join(lines) + "\n"


def _printed(line: list[str]) -> str:
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{line[0]} failed: {done.stdout[-500:]}{done.stderr[-500:]}")
    return done.stdout


if __name__ == "__main__":
    main()
