"""A device made ready: `edgegen.runtime` is there with a Python that runs it, and bundles get a place.

What is copied is named by its hash, so it is copied once.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from edgegen.device.local import LocalTransport
from edgegen.device.probe import answer, shell
from edgegen.device.runtime_archive import package_root, runtime_archive, runtime_digest
from edgegen.device.text import escape
from edgegen.device.transport import Ended, Limits, Transport
from edgegen.errors import DeviceError

_PYTHONS = "python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 python3.8 python"
_LEAST_PYTHON = (3, 8)
_HASH_DIGITS = 16
_COPY = Limits(seconds=600.0)
_IMPORTS = Limits(seconds=300.0)  # the first import of numpy from a slow memory card, by each Python that there is
_FIND_PYTHON = """
for p in $1; do
  command -v "$p" >/dev/null || continue
  "$p" -c 'import sys
try:
    import numpy
    has = 1
except Exception:
    has = 0
print("python %d %d %d %s" % (sys.version_info[0], sys.version_info[1], has, sys.executable))' 2>/dev/null
done
:
"""
_UNPACK = """
set -e
rm -rf "$3.part"
"$1" -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2])' "$2" "$3.part"
rm -rf "$3"
mv "$3.part" "$3"
rm -f "$2"
"""
_KEEP_NEWEST = """
touch "$2" && cd "$1" && ls -t | tail -n +4 | while read -r old; do rm -rf "./$old"; done
"""


@dataclasses.dataclass(frozen=True)
class Board:
    """A device that can run `launch` plus a command of `python -m edgegen.runtime`, started in `folder`.

    A runner that is no Python takes the place of `launch` and nothing else changes.
    """

    transport: Transport
    launch: tuple[str, ...]
    folder: str

    @property
    def name(self) -> str:
        """The device as users write it."""
        return self.transport.name


@dataclasses.dataclass(frozen=True)
class _Python:
    path: str
    version: tuple[int, int]
    has_numpy: bool


def make_ready(transport: Transport) -> Board:
    """Bring `edgegen.runtime` to the device, unless it is there, and return what runs it.

    Raises DeviceError for a device without Python >= 3.8 and numpy, with what to install.
    """
    if isinstance(transport, LocalTransport):
        return Board(transport, (str(transport.python), "-m", "edgegen.runtime"), str(package_root()))
    python = _find_python(transport)
    folder = f"{transport.folder()}/runtime/{runtime_digest()[:_HASH_DIGITS]}"
    if not _exists(transport, f"{folder}/edgegen/runtime/__main__.py"):
        with tempfile.TemporaryDirectory() as scratch:
            archive = Path(scratch, "runtime.zip")
            archive.write_bytes(runtime_archive())
            transport.push(archive, f"{folder}.zip")
        answer(transport, _UNPACK, python.path, f"{folder}.zip", folder, doing="unpacking the runtime")
    return Board(transport, (python.path, "-m", "edgegen.runtime"), folder)


def place_bundle(board: Board, bundle: Path, digest: str) -> str:
    """Bring the bundle folder or .zip to the device, unless it is there, and return its path on the device.

    `digest` is the SHA-256 of its manifest, which holds those of all its files; the runtime compares them before it runs any.
    """
    if isinstance(board.transport, LocalTransport):
        return str(bundle.resolve())
    parent = f"{board.transport.folder()}/bundles"
    goal = f"{parent}/{digest[:_HASH_DIGITS]}" + (".zip" if bundle.is_file() else "")
    if not _exists(board.transport, goal):
        board.transport.push(bundle, goal)
        shell(board.transport, _KEEP_NEWEST, parent, goal)
    return goal


def _exists(transport: Transport, path: str) -> bool:
    done = shell(transport, '[ -e "$1" ] && touch "$1"', path)
    return done.ended is Ended.EXITED and done.exit_code == 0


def _find_python(transport: Transport) -> _Python:
    wanted = transport.python or _PYTHONS
    said = answer(transport, _FIND_PYTHON, wanted, doing="looking for Python", limits=_IMPORTS)
    found = [python for line in said if (python := _parse(line))]
    new_enough = [python for python in found if python.version >= _LEAST_PYTHON]
    name = f"?python=/path/to/python after {transport.name} names another one"
    if not new_enough:
        seen = ", ".join(f"{p.path} is {p.version[0]}.{p.version[1]}" for p in found) or f"tried {wanted}"
        raise DeviceError(f"{transport.name} has no Python >= 3.8 ({seen})", hint=f"install python3 there; {name}")
    best = next((python for python in new_enough if python.has_numpy), None)
    if best is None:
        first = new_enough[0]
        hint = f"there: {first.path} -m pip install numpy and a back end (openvino, ai-edge-litert or onnxruntime); {name}"
        raise DeviceError(f"{transport.name}: {first.path} ({first.version[0]}.{first.version[1]}) has no numpy", hint=hint)
    return best


def _parse(line: str) -> _Python | None:
    words = line.strip().split(" ", 4)
    if len(words) != 5 or words[0] != "python" or not all(word.isdigit() and len(word) < 4 for word in words[1:4]):
        return None
    return _Python(escape(words[4]), (int(words[1]), int(words[2])), words[3] == "1")
