"""Fuzz every parser of what others write, for as long as you like.

    python benchmarks/fuzz.py --minutes 10

Minutes are of the processor and shared by all parsers, in turns: other work on the machine does not shorten them. What came of it
goes to docs/results/fuzz.md.

Inputs are the golden files of the tests, the TOML of this repository and tiny files of each kind, with bytes flipped, cut,
doubled and swapped, and plain noise. Whatever a parser is given, it may answer or raise its own error; anything else is a crash:
it is printed with its input, and the exit code is 1.
Seeds are printed, so that a crash can be had again.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import random
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from fuzz_files import Target, foreign_targets
from machine import write_result

import edgegen.runtime
from edgegen.bench import BenchPlan, measure_bundle
from edgegen.bench.compare import compare
from edgegen.bench.layers import read_trtexec_profile
from edgegen.bench.record_file import read_measured, read_record
from edgegen.device.address import parse_address
from edgegen.device.fake_script import open_fake
from edgegen.device.inventory import read_inventory
from edgegen.device.streams import Stream
from edgegen.errors import EdgegenError
from edgegen.latency import Roofline, find_device_table
from edgegen.runtime.bundle import read_array
from edgegen.runtime.errors import RuntimeBundleError
from edgegen.runtime.layer_times import read_onnxruntime_profile
from edgegen.runtime.manifest import read_manifest
from edgegen.runtime.nvpmodel import parse_current, parse_modes
from edgegen.runtime.process_facts import core_times
from edgegen.runtime.sensors import android, process_memory, tegrastats, vcgencmd
from edgegen.runtime.sensors.reading import Quantity, Reading
from edgegen.runtime.sensors.sources import Sources
from edgegen.runtime.state_journal import read_journal
from edgegen.runtime.strict_json import parse
from edgegen.spec import Backend, Precision

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "runtime" / "golden"
TINY = Path(edgegen.runtime.__file__).with_name("tiny_bundle.zip")
_TURN_S = 0.5
OWN_ERRORS = (EdgegenError, RuntimeBundleError)
TREE = (
    "sys/class/thermal/thermal_zone0/type", "sys/class/thermal/thermal_zone0/temp", "sys/class/hwmon/hwmon0/name",
    "sys/class/thermal/thermal_zone0/trip_point_0_temp", "sys/class/hwmon/hwmon0/in1_label", "sys/class/hwmon/hwmon0/in1_input",
    "sys/class/hwmon/hwmon0/curr1_input", "sys/class/hwmon/hwmon0/oc1_event_cnt", "sys/class/hwmon/hwmon0/power1_input",
    "sys/class/powercap/intel-rapl:0/energy_uj", "sys/class/powercap/intel-rapl:0/max_energy_range_uj",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_cur_freq", "sys/class/devfreq/1.gpu/cur_freq",
)  # fmt: skip
VALUES = (
    b"45123\n",
    b"-256000\n",
    b"ina3221\n",
    b"ina238\n",
    b"soctherm_oc\n",
    b"VDD_IN\n",
    b"18446744073709551616\n",
    b"",
    b"nan\n",
)


def main() -> int:
    """Fuzz in turn until the time is over; return 1 after a crash."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/results/fuzz.md"))
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # numpy remarks on headers that it reads all the same
    rng, end = random.Random(options.seed), time.process_time() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as scratch:
        targets = {**text_targets(), **file_targets(Path(scratch)), **foreign_targets(Path(scratch))}
        counts = dict.fromkeys(targets, 0)
        refused = dict.fromkeys(targets, 0)
        taken = dict.fromkeys(targets, 0.0)
        while time.process_time() < end:
            for name, (seeds, call) in targets.items():
                begin = time.process_time()
                while time.process_time() < begin + _TURN_S:
                    data = mutated(rng, rng.choice(seeds))
                    counts[name] += 1
                    try:
                        call(data)
                    except OWN_ERRORS:
                        refused[name] += 1
                    except Exception:
                        print(f"CRASH in {name} (seed {options.seed}): {data[:2000]!r}", file=sys.stderr)
                        traceback.print_exc()
                        return 1
                taken[name] += time.process_time() - begin
    body = ["| parser | processor time | inputs | refused with a sentence |", "|---|---|---|---|"]
    body += [f"| {name} | {taken[name]:.0f} s | {count} | {refused[name]} |" for name, count in counts.items()]
    body += ["", f"No crash. Seed {options.seed}; whatever is not refused was answered, and the answer checked to be possible."]
    command = f"python benchmarks/fuzz.py --minutes {options.minutes:g} --seed {options.seed}"
    write_result(options.out, "Fuzzing the parsers", command, "\n".join(body))
    return 0


def text_targets() -> Mapping[str, Target]:
    """Return the parsers of text, each with what it is made for."""
    golden = {path.name: path.read_bytes() for path in sorted(GOLDEN.iterdir())}
    everything = list(golden.values())
    lines = [text for name, text in golden.items() if name.startswith("tegrastats")]
    events = json.dumps(
        [{"cat": "Node", "name": "a_kernel_time", "dur": 3, "args": {"op_name": "Conv", "input_type_shape": [{"float": [1]}]}}]
        * 3
    ).encode()
    return {
        "tegrastats": (lines, lambda data: sane(tegrastats.parse_line(text(data)))),
        "vcgencmd": ([b"throttled=0x50005", b"temp=48.3'C", b"frequency(0)=2400033792"], _vcgencmd),
        "thermalservice": ([golden["thermalservice.txt"]], lambda data: sane(android.parse_thermalservice(text(data)))),
        "battery": ([golden["battery.txt"]], lambda data: android.parse_charging(text(data))),
        "nvpmodel": ([golden["nvpmodel.conf"], b"NV Power Mode: MAXN\n0\n"], _nvpmodel),
        "memory": ([golden["status.txt"], golden["meminfo.txt"]], _memory),
        "address": (
            [b"ssh://pi@kitchen:22?python=/a/b&folder=/c", b"adb://R5CT10", b"local:", b"ssh://[fe80::1]:22"],
            lambda data: parse_address(text(data)),
        ),
        "output of a device": ([b"hello\nedgegen:0f:begin\nline\nedgegen:0f:exit:3\n"], _stream),
        "manifest": ([tiny_manifest()], read_manifest),
        ".npy": ([npy()], lambda data: read_array(data, "fuzz")),
        "any text": ([*everything, b""], lambda data: sane(tegrastats.parse_line(text(data)))),
        "strict json": ([events, b'{"a": [1, 2.5, null, true, "x"]}'], lambda data: parse(data, "fuzz")),
        "onnxruntime profile": ([events], _onnxruntime),
    }


def file_targets(scratch: Path) -> Mapping[str, Target]:
    """Return the parsers of files, which read them from `scratch`."""
    profile = b'[{"count": 10}, {"name": "conv1", "timeMs": 1.5, "averageMs": 0.15, "medianMs": 0.14, "percentage": 60.0}]'
    journal = b'{"token": "a", "root": "/", "deadline_s": 1.0, "boot": "x", "client": null, "undo": {"files": [["/sys/a", "b"]], "power_mode": null, "clocks_file": null}}'  # noqa: E501

    def through(name: str, call: Callable[[Path], object]) -> Callable[[bytes], object]:
        path = scratch / name
        path.parent.mkdir(exist_ok=True)

        def run(data: bytes) -> object:
            path.write_bytes(data)
            return call(path)

        return run

    inventory = b'schema = "edgegen.devices/1"\n[[devices]]\nname = "a"\nurl = "ssh://pi@a"\ntarget = "raspberry-pi-5"\n'
    script = b'{"answers": [{"when": "uname", "stdout": "Linux", "exit_code": 0, "delay_s": 0.0, "link_lost": false}]}'
    table = b'{"format": "edgegen.latency-table/3", "made_on": {"target": "a", "backend": "openvino"}, "seconds": {"float source 4 1x1": 1e-5}}'  # noqa: E501
    targets: dict[str, Target] = {
        "inventory": ([inventory], through("devices.toml", read_inventory)),
        "script of a fake": ([script], through("script.json", lambda path: open_fake(str(path)))),
        "table of layers": ([table], through("tables/latency-0.json", lambda path: _layers(path.parent))),
        "system files": ([*VALUES, b"100 0 50 800 10 0 5 5 0 0\n"], lambda data: _tree(scratch / "root", data)),
        "trtexec profile": ([profile], through("profile.json", read_trtexec_profile)),
        "journal": ([journal], through("journal.json", lambda path: read_journal(str(path)))),
    }
    record = scratch / "r.json"
    measure_bundle(TINY, BenchPlan(threads=1, min_runs=64, min_seconds=0.0, processes=2, cold_processes=0), out=record)
    targets["record"] = ([record.read_bytes()], through("mutated.json", read_record))
    raw = str(json.loads(record.read_text())["latency_ms"]["raw"])
    targets["samples"] = ([(scratch / raw).read_bytes()], through(raw, lambda _: _compared(record)))
    return targets


def mutated(rng: random.Random, seed: bytes) -> bytes:
    """Return `seed` after one to eight changes; once in ten times noise instead."""
    if rng.random() < 0.1:
        return rng.randbytes(rng.randrange(200))
    data = bytearray(seed)
    for _ in range(rng.randrange(1, 9)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del data[at : at + rng.randrange(1, 30)]
            case 2:
                data[at:at] = data[at : at + rng.randrange(1, 30)]
            case 3:
                data[at:at] = rng.choice((b"-", b"9" * 25, b"NaN", b"\x00", b"[" * 50, b'"', b"1e999", b"\xff\xfe", "٣".encode()))
            case 4:
                other = rng.randrange(len(data) + 1)
                data[at : at + 8], data[other : other + 8] = data[other : other + 8], data[at : at + 8]
            case _:
                del data[at:]
    return bytes(data)


def text(data: bytes) -> str:
    """Return the bytes as parsers get them."""
    return data.decode("utf-8", "replace")


def sane(readings: list[Reading]) -> None:
    """Fail for a reading that cannot be: no value needs a reason, a value must be possible."""
    for reading in readings:
        if reading.value is None:
            assert reading.problem, reading
        else:
            assert math.isfinite(reading.value), reading
            assert reading.quantity is not Quantity.TEMPERATURE or -40 <= reading.value <= 150, reading
            assert reading.quantity is Quantity.TEMPERATURE or reading.value >= 0, reading


def _vcgencmd(data: bytes) -> None:
    said = text(data)
    sane([*vcgencmd.parse_throttled(said), vcgencmd.parse_temperature(said), vcgencmd.parse_clock(said)])


def _nvpmodel(data: bytes) -> None:
    parse_modes(text(data))
    parse_current(text(data))


def _memory(data: bytes) -> None:
    for found in (process_memory.peak_bytes(text(data)), process_memory.swap_used_bytes(text(data))):
        assert found is None or found >= 0, found


def _onnxruntime(data: bytes) -> None:
    try:
        events = json.loads(data)
    except (ValueError, RecursionError):
        return
    read_onnxruntime_profile(events, 1)


def tiny_manifest() -> bytes:
    """Return the manifest of the bundle that doctor runs."""
    with zipfile.ZipFile(TINY) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("manifest.json")))


def npy() -> bytes:
    """Return a small array as a file."""
    buffer = io.BytesIO()
    np.save(buffer, np.arange(12, dtype=np.uint8).reshape(2, 2, 3), allow_pickle=False)
    return buffer.getvalue()


def _stream(data: bytes) -> None:
    lines: list[str] = []
    stream = Stream("0f", 100, lines.append)
    for start in range(0, len(data), 7):
        stream.feed(data[start : start + 7])
    stream.end()
    assert len(stream.text()) <= 400 and stream.exit_code() in (None, *range(1000)), stream.text()
    assert all(line.isprintable() or "\t" in line for line in lines), lines


def _layers(folder: Path) -> None:
    base = Roofline(1e9, 1e9, Precision.F32, 1)
    assert find_device_table(folder, "a", Backend.OPENVINO, Precision.F32, base=base) is None  # never the lines of a whole layer


def _tree(root: Path, data: bytes) -> None:
    for name in TREE:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if hash((name, data)) % 2 else VALUES[hash((data, name)) % len(VALUES)])
    sane(list(Sources(str(root)).read().values()))
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc" / "stat").write_bytes(b"cpu  " + data)
    found = core_times(str(root))
    assert found is None or 0 <= found[0] <= found[1], found


def _compared(record: Path) -> None:
    one = read_measured(record)
    compare(one, one, even_invalid=True)


if __name__ == "__main__":
    sys.exit(main())
