"""How well layers measured one by one predict a whole generator: random sub-networks, predicted and timed.

    python benchmarks/latency_prediction.py                                     # all families, int8 and f32
    python benchmarks/latency_prediction.py --families dcgan vae --precisions int8
    python benchmarks/latency_prediction.py --table                             # only docs/results/latency_prediction.md

For every family 20 sub-networks are cut at random: each has a width of its own, and every channel group a width around that, in
the steps that pruning takes on the host. They are exported as `edgegen compress` does (int8 by NNCF, normalisations in float, on
two random inputs: what the values are does not change the time), and so are the untouched network and the narrowest. Estimates:

    anchored    the table of layers, corrected by the untouched and the narrowest network
    table       the table as measured
    roofline    from two numbers: what a large convolution reaches, and the bandwidth of a large norm. The profile of the host
                has no peaks of its own

One thread, so that the processor time of the thread is what a run takes on an idle machine; networks run in turn, in random
order, each once untimed before it is timed; the fifth part of the runs that is fastest counts. Finished families stay in --out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fronts import ROOT, families
from machine import write_result

ESTIMATES = ("anchored", "table", "roofline")
PRECISIONS = ("int8", "f32")
_COUNT = 20
_SPREAD = 0.3  # of the width: how far groups are from that of their network
_ROUNDS = {"style": 10, "srgan": 10}  # networks of many milliseconds; others: _MANY
_MANY = 40


@dataclasses.dataclass(frozen=True)
class Network:
    """A sub-network: its OpenVINO model and its layers, before export took transposed convolutions apart."""

    model: Any
    works: tuple[Any, ...]


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="*", default=["style", "srgan", "dcgan", "vae", "street"])
    parser.add_argument("--precisions", nargs="*", default=list(PRECISIONS), choices=PRECISIONS)
    parser.add_argument("--seed", type=int, default=1, help="of the sub-networks; 0 was looked at while the estimates were built")
    parser.add_argument("--out", type=Path, default=Path("edgegen-out/latency"))
    parser.add_argument("--table", action="store_true", help="only write the table from what is there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in [] if args.table else args.families:
        for precision in args.precisions:
            kept = args.out / f"{name}-{precision}.json"
            if not kept.exists():
                kept.write_text(json.dumps(run_family(name, precision, args.out, args.seed), indent=1))
    write_table(args.out, ROOT / "docs/results/latency_prediction.md")


def run_family(name: str, precision: str, out: Path, seed: int) -> dict:
    """Cut, export, predict and time the sub-networks of one family."""
    from edgegen.latency import Anchor, MeasuredTable, calibrated, estimate
    from edgegen.spec import Precision

    started = time.process_time()
    networks = sub_networks(name, out, precision, seed)
    exported = time.process_time()
    table = MeasuredTable(out / f"table-{name}-{precision}.json", Precision(precision), threads=1)
    table.measure(work for network in networks for work in network.works)
    measured = time.process_time()
    seconds = timed([network.model for network in networks], _ROUNDS.get(name, _MANY), seed)
    anchored = calibrated(table, [Anchor(n.works, s) for n, s in zip(networks[:2], seconds[:2], strict=True)])
    roofline = host_roofline(table, Precision(precision))
    models = {"anchored": anchored, "table": table, "roofline": roofline}
    found = {
        "seconds": seconds[2:],
        "anchors": seconds[:2],
        "estimates": {key: [estimate(model, n.works) for n in networks[2:]] for key, model in models.items()},
        "anchored": anchored.facts(),
        "table": table.facts() | {"cpu_s": measured - exported},
        "export_cpu_s": exported - started,
        "timing_cpu_s": time.process_time() - measured,
    }
    print(name, precision, {k: f"{np.median(e):.1%}" for k, e in errors(found).items()}, found["anchored"], flush=True)
    return found


def sub_networks(name: str, out: Path, precision: str, seed: int) -> list[Network]:
    """Return the untouched network, the narrowest and the random ones; what is predicted is the form that pruning sees.

    Transposed convolutions are exported as they are or taken apart, whatever is faster in the untouched network.
    """
    from edgegen.graph import example_inputs
    from edgegen.load import load
    from edgegen.prune.work import layer_works
    from edgegen.recipe import RewriteConfig
    from edgegen.rewrite import lower_conv_transpose, rewrite
    from edgegen.spec import parse_resolution

    family = families(out)[name]
    teacher = load(family.checkpoint, resolution=family.resolution and parse_resolution(family.resolution))
    whole = rewrite(teacher, RewriteConfig(), pays={}, approximate=False)
    forms = [lambda g: g.copy(), lower_conv_transpose]
    faster = int(np.argmin(timed([_exported(form(whole), precision) for form in forms], 5, seed)))
    students = [whole, cut(whole, 0.0, 0.0, random.Random(seed))]
    for index in range(_COUNT):
        rng = random.Random(seed * 1000 + index)
        students.append(cut(whole, rng.random(), _SPREAD, rng))
    works = [tuple(layer_works(student.module, example_inputs(student.spec)).values()) for student in students]
    return [Network(_exported(forms[faster](s), precision), w) for s, w in zip(students, works, strict=True)]


def cut(whole, width: float, spread: float, rng: random.Random):
    """Return `whole` with every channel group at `width` (0: narrowest, 1: untouched), give or take `spread`; units at random."""
    from edgegen.graph import example_inputs
    from edgegen.prune import remove_units
    from edgegen.prune.allocate import Allocation, Goal, tile_counts
    from edgegen.prune.groups import channel_groups
    from edgegen.recipe import PruneConfig
    from edgegen.target import load_target

    student = whole.copy()
    inputs = example_inputs(student.spec)
    groups, removed = channel_groups(student.module, inputs), {}
    goal = Goal(0.0, load_target("host").channel_multiple, PruneConfig().min_channels)
    for group in groups:
        counts = tile_counts(group, goal)
        share = min(1.0, max(0.0, 1 - width + rng.uniform(-spread, spread)))
        count = counts[round(share * (len(counts) - 1))]
        removed[group.root] = tuple(sorted(rng.sample(range(group.unit_count), count)))
    remove_units(student.module, groups, Allocation(removed, 0.0, 0.0, True), inputs)
    return student


def _exported(student, precision: str) -> Any:
    from edgegen.export.openvino import convert
    from edgegen.export.openvino_int8 import quantise
    from edgegen.graph import example_inputs

    model = convert(student)
    if precision == "int8":
        model = quantise(
            model, [tuple(x.numpy() for x in example_inputs(student.spec, seed=s)) for s in range(2)], float_types=["MVN"]
        )
    return model


def timed(models: Sequence[Any], rounds: int, seed: int) -> list[float]:
    """Return the seconds of each OpenVINO model on one thread; see the module docstring."""
    import openvino as ov

    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1,
              "ENABLE_CPU_PINNING": False}  # fmt: skip
    core, calls, rng = ov.Core(), [], random.Random(seed)
    for model in models:
        compiled = core.compile_model(model, "CPU", config)
        data = [np.random.default_rng(0).random(tuple(port.shape), dtype=np.float32) for port in compiled.inputs]
        calls.append((compiled.create_infer_request(), data))
    samples, order = [list[int]() for _ in models], list(range(len(models)))
    for _ in range(rounds):
        rng.shuffle(order)
        for index in order:
            request, data = calls[index]
            request.infer(data, share_inputs=True)
            begin = time.thread_time_ns()
            request.infer(data, share_inputs=True)
            samples[index].append(time.thread_time_ns() - begin)
    return [sorted(s)[len(s) // 5] * 1e-9 for s in samples]


def host_roofline(table, precision):
    """Return the roofline that two measurements of this machine give."""
    from edgegen.latency import LayerWork, Roofline
    from edgegen.target import load_target

    conv = LayerWork("conv", 128, 128, (3, 3), (1, 1), 1, 64, 64)
    norm = LayerWork("norm", 32, 32, (1, 1), (1, 1), 1, 256, 256)
    moved = 4 * norm.values_moved
    return Roofline(conv.macs / table.seconds(conv), moved / table.seconds(norm), precision, load_target("host").channel_multiple)


def errors(found: dict) -> dict[str, np.ndarray]:
    """Return the relative errors of each estimate, without sign."""
    measured = np.array(found["seconds"])
    return {key: np.abs(np.array(values) / measured - 1) for key, values in found["estimates"].items()}


def write_table(out: Path, path: Path) -> None:
    """Write median and 90th percentile of the relative errors, per family and precision."""
    columns = ["family", "", "networks", "ms, fastest to slowest", *(f"{key}: median / p90" for key in ESTIMATES),
               "lines measured", "CPU s"]  # fmt: skip
    rows, medians = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"], []
    for precision in PRECISIONS:
        for file in sorted(out.glob(f"*-{precision}.json")):
            if file.name.startswith("table-"):
                continue
            found = json.loads(file.read_text())
            off = errors(found)
            cells = [f"{np.median(off[key]):.1%} / {np.quantile(off[key], 0.9):.1%}" for key in ESTIMATES]
            span = f"{min(found['seconds']) * 1e3:.3g} to {max(found['seconds']) * 1e3:.3g}"
            cells += [str(found["table"]["measured_now"]), f"{found['table']['cpu_s']:.0f}"]
            family = file.stem.rsplit("-", 1)[0]
            rows.append(f"| {family} | {precision} | {len(found['seconds'])} | {span} | {' | '.join(cells)} |")
            medians.append(float(np.median(off["anchored"])))
    notes = (
        "Relative errors, without sign, of what is predicted for random sub-networks against what they take on one thread. "
        "`anchored` is the table of measured layers, corrected by two networks measured whole (untouched and narrowest, not "
        "among those predicted), `table` the table as it is, `roofline` what two numbers of the machine give. The last "
        "columns: lines of the table that were measured for it, and the processor time that took."
    )
    goal = f"Largest median of `anchored`: **{max(medians):.1%}** (goal: 10 %)."
    write_result(
        path,
        "Latency: predicted against measured",
        "python benchmarks/latency_prediction.py",
        "\n".join([notes, "", *rows, "", goal]),
    )
    print("\n".join([*rows, goal]))


if __name__ == "__main__":
    main()
