"""The runtime's own command line, for devices: `python -m edgegen.runtime check|run|time|layers BUNDLE`.

Exit codes: 0 done, 1 a case failed, 2 usage, 7 wrong input, 8 back end not installed, 10 bundle, 14 the state of the device.
Python >= 3.8, numpy and one back end; sensing and holding the state need neither.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from typing import TYPE_CHECKING, Any, List, Optional

from edgegen.runtime.errors import InputError, MissingBackendError, RuntimeBundleError, StateError

if TYPE_CHECKING:
    import numpy as np

    from edgegen.runtime.check import CheckResult

_MAX_INPUT_BYTES = 256 << 20
_JOURNAL = "~/.local/state/edgegen/device-state.json"
_CODES = ((InputError, 7), (MissingBackendError, 8), (StateError, 14))


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except RuntimeBundleError as failure:
        sys.stderr.write(f"error: {failure.message}\n" + (f"hint: {failure.hint}\n" if failure.hint else ""))
        return next((code for kind, code in _CODES if isinstance(failure, kind)), 10)
    except OSError as failure:
        sys.stderr.write(f"error: {failure.filename}: {failure.strerror}\n")
        return 7


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m edgegen.runtime", description="Check, run or time a bundle on this device.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("check", help="run the stored cases and compare")
    one.add_argument("--json", action="store_true", help="print the result as JSON")
    one.set_defaults(command=_check)
    two = commands.add_parser("run", help="make one picture")
    two.add_argument("--input", action="append", default=[], help="a .ppm, .pgm or .npy file; once per input")
    two.add_argument("--seed", type=int, help="draw latents and classes from this seed")
    two.add_argument("--output", required=True, help="a .ppm, .pgm or .npy file")
    two.set_defaults(command=_run)
    three = commands.add_parser("time", help="time it and print JSON; `edgegen bench` reads this")
    three.add_argument("--cold", action="store_true", help="load and first inference only")
    three.add_argument("--min-runs", type=int, default=1024)
    three.add_argument("--min-seconds", type=float, default=60.0)
    three.add_argument("--burst-seconds", type=float, default=10.0)
    three.add_argument("--period-s", type=float, help="one run per period, as a camera asks for them")
    three.add_argument("--affinity", help="cores to stay on, such as 2,3")
    three.add_argument("--seed", type=int, default=0)
    three.add_argument("--idle-seconds", type=float, default=1.0, help="watch the power at rest for so long first")
    three.add_argument("--cost-seconds", type=float, default=0.0, help="find what sampling costs, for so long")
    three.set_defaults(command=_time)
    four = commands.add_parser("layers", help="time every layer and print JSON; `edgegen bench --layers` reads this")
    four.add_argument("--runs", type=int, default=20)
    four.set_defaults(command=_layers)
    for command in (one, two, three, four):
        command.add_argument("bundle", help="a bundle folder or its .zip")
        command.add_argument("--backend", help="another artifact than the preferred one: openvino, or openvino/f32")
        command.add_argument("--threads", type=int, default=0, help="0: the back end decides")
    snippets = commands.add_parser("snippets", help="time tiny models and print JSON; `edgegen bench --table` reads this")
    snippets.add_argument("bundle", help="a .zip of them")
    snippets.add_argument("--threads", type=int, default=0, help="0: the back end decides")
    snippets.set_defaults(command=_snippets)
    five = commands.add_parser("sense", help="sample the sensors; phases come on standard input, one a line")
    five.add_argument("--cpu", type=int, help="a core to stay on")
    five.set_defaults(command=_sense)
    six = commands.add_parser("cool", help="print the temperatures at rest, or wait until they are near those given")
    six.add_argument("--rest", help='temperatures at rest as JSON: {"cpu-thermal": 41.5}')
    six.add_argument("--seconds", type=float, default=0.0, help="wait for so long at most")
    six.set_defaults(command=_cool)
    for command in (three, five, six):
        command.add_argument("--sensor-root", default="/", help="where /sys and /proc are")
        command.add_argument("--hz", type=float, default=10.0, help="samples a second; 0: none")
    _add_state_commands(commands)
    return parser


def _add_state_commands(commands: Any) -> None:
    hold = commands.add_parser("hold", help="change power mode or clocks for a while")
    hold.add_argument("--seconds", type=float, required=True, help="they are brought back after so long, unless renewed")
    hold.add_argument("--client", type=int, help="... or when this process is gone")
    hold.add_argument("--power-mode", help="by name, such as MAXN_SUPER")
    hold.add_argument("--governor", help="such as performance")
    hold.add_argument("--fix-clocks", action="store_true", help="keep the clocks at their highest")
    hold.set_defaults(command=_hold)
    release = commands.add_parser("release", help="bring power mode and clocks back")
    release.set_defaults(command=_release)
    watch = commands.add_parser("watch", help="what `hold` leaves running")
    watch.set_defaults(command=_watch)
    for command in (hold, release, watch):
        command.add_argument("--journal", default=_JOURNAL, help="where it is written how to undo the changes")
        command.add_argument("--token", required=command is not release, help="who holds the state")
    hold.add_argument("--root", default="/", help="where /sys and /etc are")


def _check(options: Any) -> int:
    from edgegen.runtime.bundle import open_bundle
    from edgegen.runtime.check import check
    from edgegen.runtime.process_facts import machine_facts

    with open_bundle(options.bundle, options.backend, options.threads) as bundle:
        result = check(bundle)
    facts = {**result.to_json(), "machine": machine_facts()}
    sys.stdout.write((json.dumps(facts, allow_nan=False) if options.json else _lines(result)) + "\n")
    return 0 if result.passed else 1


def _lines(result: CheckResult) -> str:
    lines = []
    for case in result.cases:
        found = "not finite" if case.psnr_db is None else f"{case.psnr_db:6.2f} dB, largest difference {case.max_abs:g}"
        lines.append(f"{'ok  ' if case.passed else 'FAIL'} {case.name}: {found} (at least {case.min_psnr_db:g} dB)")
    good = sum(case.passed for case in result.cases)
    ran = f"{result.ran['backend']} {result.ran['version']}"
    if result.ran.get("stands_in_for"):
        ran += f" in place of {result.ran['stands_in_for']}"
    return "\n".join([*lines, f"{result.artifact} with {ran}: {good} of {len(result.cases)} cases pass"])


def _run(options: Any) -> int:
    import numpy as np

    from edgegen.runtime.bundle import open_bundle
    from edgegen.runtime.ppm import write_ppm

    if not options.output.endswith((".npy", ".ppm", ".pgm")):
        raise InputError(f"{options.output}: only .npy, .ppm and .pgm can be written here", hint="`edgegen run` writes .png")
    given = [_read(path) for path in options.input]
    with open_bundle(options.bundle, options.backend, options.threads) as bundle:
        picture = bundle(*given, seed=options.seed)
    if options.output.endswith(".npy"):
        buffer = io.BytesIO()
        np.save(buffer, picture, allow_pickle=False)
        content = buffer.getvalue()
    else:
        content = write_ppm(picture)
    with open(options.output, "wb") as file:
        file.write(content)
    return 0


def _read(path: str) -> np.ndarray:
    from edgegen.runtime.bundle import read_array
    from edgegen.runtime.ppm import read_ppm

    with open(path, "rb") as file:
        content = file.read(_MAX_INPUT_BYTES + 1)
    if len(content) > _MAX_INPUT_BYTES:
        raise InputError(f"{path} is larger than {_MAX_INPUT_BYTES >> 20} MiB")
    return read_array(content, path) if path.endswith(".npy") else read_ppm(content, path)


def _time(options: Any) -> int:
    from edgegen.runtime.time_bundle import Timing, time_cold, time_warm

    timing = Timing(
        options.seed, options.min_runs, options.min_seconds, options.burst_seconds, options.period_s,
        cores=_cores(options.affinity), sensor_root=options.sensor_root, sensor_hz=options.hz, idle_seconds=options.idle_seconds,
        cost_seconds=options.cost_seconds,
    )  # fmt: skip
    found = (time_cold if options.cold else time_warm)(options.bundle, options.backend, options.threads, timing)
    sys.stdout.write(json.dumps(found, allow_nan=False) + "\n")
    return 0


def _cores(text: Optional[str]) -> Any:
    if text is None:
        return None
    try:
        cores = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        cores = ()
    if not cores or cores[0] < 0:
        raise InputError(f"--affinity {text} is no list of cores", hint="such as --affinity 2,3")
    return cores


def _layers(options: Any) -> int:
    from edgegen.runtime.layer_times import layer_times

    found = layer_times(options.bundle, options.backend, options.threads, options.runs)
    sys.stdout.write(json.dumps(found, allow_nan=False) + "\n")
    return 0


def _snippets(options: Any) -> int:
    from edgegen.runtime.snippets import snippet_times

    sys.stdout.write(json.dumps(snippet_times(options.bundle, options.threads), allow_nan=False) + "\n")
    return 0


def _sense(options: Any) -> int:
    from edgegen.runtime.sensors.sense import sense

    if options.hz <= 0:
        raise InputError(f"--hz is {options.hz:g}", hint="it must be above 0")
    if options.cpu is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [options.cpu])
    sense(options.sensor_root, options.hz, sys.stdin.fileno(), sys.stdout)
    return 0


def _cool(options: Any) -> int:
    from edgegen.runtime.cooling import wait_until_cool, zones_c
    from edgegen.runtime.strict_json import Reader, parse

    if options.rest is None:
        found: Any = {"zones_c": zones_c(options.sensor_root)}
    else:
        rest = Reader(parse(options.rest.encode("utf-8", "replace"), "--rest"), "--rest")
        found = wait_until_cool(options.sensor_root, {name: rest.number(name) for name in rest.keys}, options.seconds)
    sys.stdout.write(json.dumps(found, allow_nan=False) + "\n")
    return 0


def _hold(options: Any) -> int:
    from edgegen.runtime.device_state import Wanted
    from edgegen.runtime.state_journal import Lease, hold

    wanted = Wanted(options.power_mode, options.governor, options.fix_clocks)
    lease = Lease(options.token, options.seconds, options.client)
    found = hold(os.path.expanduser(options.journal), options.root, wanted, lease)
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


def _release(options: Any) -> int:
    from edgegen.runtime.state_journal import release

    found = release(os.path.expanduser(options.journal), options.token)
    sys.stdout.write(json.dumps({"brought_back": found}) + "\n")
    return 0


def _watch(options: Any) -> int:
    from edgegen.runtime.state_journal import watch

    watch(os.path.expanduser(options.journal), options.token)
    return 0


if __name__ == "__main__":
    sys.exit(main())
