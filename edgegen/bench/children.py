"""Child processes that check and time: `python -m edgegen.runtime`, its JSON, and its failures as errors of the host."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import edgegen
from edgegen.errors import BundleError, DataError, EdgegenError, MissingExtraError

_CASE_FAILED = 1
_ERRORS: dict[int, type[EdgegenError]] = {7: DataError, 8: MissingExtraError, 10: BundleError}
_TAIL = 300


def call_runtime(command: str, bundle: Path, *options: str) -> dict[str, Any]:
    """Return the JSON that `python -m edgegen.runtime <command> <options> <bundle>` prints, run in a fresh process.

    A failed case is a result like any other. Raises the error that the child names, and BundleError if it dies.
    """
    root = Path(edgegen.__file__).resolve().parents[1]  # -m finds the package in the working directory, installed or not
    line = [sys.executable, "-m", "edgegen.runtime", command, *options, str(bundle.resolve())]
    done = subprocess.run(line, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if done.returncode not in (0, _CASE_FAILED) or not done.stdout.strip():
        raise _failure(done.returncode, done.stderr, bundle)
    return json.loads(done.stdout.strip().splitlines()[-1])


def _failure(code: int, stderr: str, bundle: Path) -> EdgegenError:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    message = next((line[len("error: ") :] for line in lines if line.startswith("error: ")), None)
    if message is not None:
        hint = next((line[len("hint: ") :] for line in lines if line.startswith("hint: ")), "")
        return _ERRORS.get(code, BundleError)(message, hint=hint)
    if code < 0:
        died = f"the back end died on {bundle} ({_signal_name(-code)})"
        return BundleError(died, hint="is there enough memory? another back end of the bundle: --backend NAME")
    last = lines[-1][:_TAIL] if lines else f"exit code {code}, no output"
    return BundleError(f"the runtime failed on {bundle}: {last}", hint="python -m edgegen.runtime check shows more")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
