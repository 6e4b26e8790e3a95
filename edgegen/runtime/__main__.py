"""The runtime's own command line, for devices: `python -m edgegen.runtime check|run|time BUNDLE`.

Exit codes: 0 done, 1 a case failed, 2 usage, 7 wrong input, 8 back end not installed, 10 bundle.
Python >= 3.8, numpy and one back end.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from typing import Any, List, Optional

import numpy as np

from edgegen.runtime.bundle import open_bundle, read_array
from edgegen.runtime.check import CheckResult, check
from edgegen.runtime.errors import InputError, MissingBackendError, RuntimeBundleError
from edgegen.runtime.ppm import read_ppm, write_ppm
from edgegen.runtime.process_facts import machine_facts

_MAX_INPUT_BYTES = 256 << 20


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except RuntimeBundleError as failure:
        sys.stderr.write(f"error: {failure.message}\n" + (f"hint: {failure.hint}\n" if failure.hint else ""))
        return 7 if isinstance(failure, InputError) else 8 if isinstance(failure, MissingBackendError) else 10
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
    three.add_argument("--seed", type=int, default=0)
    three.set_defaults(command=_time)
    for command in (one, two, three):
        command.add_argument("bundle", help="a bundle folder or its .zip")
        command.add_argument("--backend", help="another artifact than the preferred one: openvino, or openvino/f32")
        command.add_argument("--threads", type=int, default=0, help="0: the back end decides")
    return parser


def _check(options: Any) -> int:
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
    with open(path, "rb") as file:
        content = file.read(_MAX_INPUT_BYTES + 1)
    if len(content) > _MAX_INPUT_BYTES:
        raise InputError(f"{path} is larger than {_MAX_INPUT_BYTES >> 20} MiB")
    return read_array(content, path) if path.endswith(".npy") else read_ppm(content, path)


def _time(options: Any) -> int:
    from edgegen.runtime.time_bundle import time_cold, time_warm

    common = (options.bundle, options.backend, options.threads, options.seed)
    if options.cold:
        found = time_cold(*common)
    else:
        found = time_warm(
            *common, min_runs=options.min_runs, min_seconds=options.min_seconds, burst_seconds=options.burst_seconds
        )
    sys.stdout.write(json.dumps(found, allow_nan=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
