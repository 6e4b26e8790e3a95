"""Child processes that check and time: `python -m edgegen.runtime` on a device, its JSON, its failures as errors of the host."""

from __future__ import annotations

import signal
from typing import Any

from edgegen.device import Board, Completed, Ended, Limits
from edgegen.device.text import escape, last_line
from edgegen.errors import BundleError, DataError, DeviceError, EdgegenError, MissingExtraError
from edgegen.runtime.errors import RuntimeBundleError
from edgegen.runtime.strict_json import parse

_CASE_FAILED = 1
_ERRORS: dict[int, type[EdgegenError]] = {7: DataError, 8: MissingExtraError, 10: BundleError, 14: DeviceError}
_MAX_RESULT_BYTES = 256 << 20  # raw samples of hours
_SIGNALLED = 128


def call_runtime(board: Board, command: str, bundle: str | None, *options: str, seconds: float) -> dict[str, Any]:
    """Return the JSON that `python -m edgegen.runtime <command> <options> <bundle>` prints, run in a fresh process of the device.

    `bundle` is its path there, None for commands that need none; the device ends the process after `seconds`. A failed case is
    a result like any other. Raises the error that the child names, BundleError if it dies, DeviceError if it takes too long,
    LinkLostError if the link breaks.
    """
    line = [*board.launch, command, *options, *([] if bundle is None else [bundle])]
    done = board.transport.run(line, Limits(seconds, _MAX_RESULT_BYTES), folder=board.folder)
    if done.ended is Ended.TIMED_OUT:
        raise DeviceError(f"{board.name}: '{command}' took longer than {seconds:g} s and was ended", hint="ask for fewer runs")
    if done.ended is not Ended.EXITED:
        raise DeviceError(f"{board.name}: '{command}' {done.ended.value}")
    if done.exit_code not in (0, _CASE_FAILED) or not done.stdout.strip():
        raise _failure(done, bundle or board.name)
    try:
        return parse(done.stdout.strip().splitlines()[-1].encode(), f"what {board.name} printed")
    except RuntimeBundleError as problem:
        raise DeviceError(escape(problem.message), hint="something on the device writes into the output of programs") from problem


def _failure(done: Completed, bundle: str) -> EdgegenError:
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    message = next((line[len("error: ") :] for line in lines if line.startswith("error: ")), None)
    if message is not None:
        hint = next((line[len("hint: ") :] for line in lines if line.startswith("hint: ")), "")
        return _ERRORS.get(done.exit_code, BundleError)(escape(message), hint=escape(hint))
    if done.exit_code > _SIGNALLED:
        died = f"the back end died on {bundle} ({_signal_name(done.exit_code - _SIGNALLED)})"
        return BundleError(died, hint="is there enough memory? another back end of the bundle: --backend NAME")
    last = last_line(done.stderr) or f"exit code {done.exit_code}, no output"
    return BundleError(f"the runtime failed on {bundle}: {last}", hint="python -m edgegen.runtime check shows more")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
