"""Work in a child process of this Python: it tells events, each a line of JSON, and when it dies, its parent learns how.

A child ends with its parent, also where that is killed: it would go on writing into a folder that another run has taken up.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import edgegen

_TAIL = 300
_HINTS = {signal.SIGKILL: ", as the system does when memory runs out"}


def run_child(
    module: str, folder: Path, task: Mapping[str, Any], heard: Callable[[dict[str, Any]], None]
) -> tuple[list[dict[str, Any]], str | None]:
    """Run `python -m module FOLDER TASK`; return the events that it told, each after `heard` got it, and how it died if it did:
    "crashed (SIGSEGV)". Raises KeyboardInterrupt where that is what ended it; no exception leaves the child running.
    """
    root = Path(edgegen.__file__).resolve().parents[1]  # -m finds the package in the working directory, installed or not
    line = [sys.executable, "-m", module, str(folder), json.dumps(task)]
    events: list[dict[str, Any]] = []
    with (
        (folder / "stderr").open("w+") as errors,
        subprocess.Popen(line, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True) as child,
    ):
        assert child.stdout is not None
        try:
            for text in child.stdout:
                if text.startswith('{"event"'):  # run-times print what they like
                    events.append(json.loads(text))
                    heard(events[-1])
        except BaseException:
            child.kill()
            raise
        code = child.wait()
        errors.seek(0)
        told = [row.strip() for row in errors.read().splitlines() if row.strip()]
    return events, _death(code, told[-1] if told else "no message")


def _death(code: int, last_words: str) -> str | None:
    if code == 0:
        return None
    if code == -signal.SIGINT:
        raise KeyboardInterrupt
    if code > 0:
        return f"stopped with exit code {code} ({last_words[:_TAIL]})"
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"crashed (signal {-code})"
    return f"crashed ({number.name}{_HINTS.get(number, '')})"


def end_with_parent() -> None:
    """End this process as soon as its standard input does, which the parent holds open. For children of `run_child`."""

    def wait() -> None:
        while os.read(0, 4096):  # not sys.stdin, whose lock an ordinary end of the process would wait for
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def tell(event: str, **facts: Any) -> None:
    """Tell the parent of this process an event."""
    sys.stdout.write("\n" + json.dumps({"event": event, **facts}) + "\n")  # behind whatever a run-time left on the line
    sys.stdout.flush()
