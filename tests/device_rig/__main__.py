"""Boards by hand: one command, a shell, or SSH servers until Ctrl-C. See docs/device_rig.md."""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from device_rig.apt import RigError
from device_rig.boards import MODELS, running


def main() -> int:
    """Return the exit code of the command, 0 after serving, 1 if a board cannot be made."""
    parser = argparse.ArgumentParser("python -m device_rig", description="Virtual ARM boards behind a real SSH server.")
    parser.add_argument("--serve", action="store_true", help="run the SSH servers of the boards until Ctrl-C")
    parser.add_argument("board", choices=MODELS, nargs="?", default="debian12")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="a command (none: a shell), or more boards to serve")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    try:
        return _serve([options.board, *options.rest]) if options.serve else _run(options.board, options.rest)
    except RigError as problem:
        sys.stderr.write(f"error: {problem}\n")
        return 1
    except KeyboardInterrupt:
        return 0


def _run(name: str, command: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="device-rig-") as folder, running(MODELS[name], Path(folder, name)) as board:
        terminal = ["-t"] if not command and sys.stdin.isatty() else []
        line = ["ssh", *terminal, "-p", str(board.port), f"{board.user}@127.0.0.1", *command]
        return subprocess.run(line, env=board.environment).returncode


def _serve(names: list[str]) -> int:
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        raise RigError(f"'{unknown[0]}' is not a board: {', '.join(MODELS)}")
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="device-rig-")))
        boards = [held.enter_context(running(MODELS[name], folder / name)) for name in names]
        for board in boards:
            sys.stdout.write(f"{board.model.name}: edgegen bench BUNDLE --device {board.url!r}\n")
        sys.stdout.flush()
        signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
