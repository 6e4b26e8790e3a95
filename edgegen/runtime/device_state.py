"""Change how a device runs, on request, so that every change can be undone: power mode, governor, clocks.

What is needed to undo is known before anything is changed. All paths and programs lie under a root that tests can fake.
Python >= 3.8, standard library only.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import subprocess
from typing import Any, Dict, List, Optional, Sequence, Tuple

from edgegen.runtime.errors import StateError
from edgegen.runtime.nvpmodel import parse_current, parse_modes
from edgegen.runtime.sensors.clocks import CPU_FOLDER
from edgegen.runtime.sensors.reading import folders, text_of, under
from edgegen.runtime.sensors.sources import output_of, program_path

_NVPMODEL_CONF = "/etc/nvpmodel.conf"
_PROGRAM_S = 30.0


@dataclasses.dataclass(frozen=True)
class Wanted:
    """How the device is to run; None and False leave it as it is."""

    power_mode: Optional[str] = None
    governor: Optional[str] = None
    fix_clocks: bool = False


@dataclasses.dataclass(frozen=True)
class Undo:
    """How it ran before: `files` with their old texts, in the order to write them, the old power mode, stored clocks."""

    files: Tuple[Tuple[str, str], ...] = ()
    power_mode: Optional[str] = None
    clocks_file: Optional[str] = None

    def to_json(self) -> Dict[str, Any]:
        """Return the plain JSON object."""
        return dataclasses.asdict(self)


def undo_from_json(value: Dict[str, Any]) -> Undo:
    """Return what `to_json` gave. Raises KeyError, TypeError or ValueError for anything else."""
    files = tuple((str(path), str(text)) for path, text in value["files"])
    return Undo(files, value["power_mode"], value["clocks_file"])


def power_mode(root: str) -> Optional[str]:
    """Return the name of the present power mode; None where there are none."""
    program = program_path(root, "nvpmodel")
    return parse_current(output_of([program, "-q"])) if program else None


def how_to_undo(root: str, wanted: Wanted, clocks_file: str) -> Undo:
    """Return what brings the device back to how it runs now. Raises StateError for what it cannot do; nothing is changed."""
    files = [*(_governor_files(root) if wanted.governor else []), *(_clock_files(root) if wanted.fix_clocks else [])]
    mode = None
    if wanted.power_mode is not None:
        _mode_number(root, wanted.power_mode)
        mode = power_mode(root)
        if mode is None:
            raise StateError("nvpmodel does not tell the present power mode", hint="see what `nvpmodel -q` prints, as root")
    stored = clocks_file if wanted.fix_clocks and program_path(root, "jetson_clocks") else None
    return Undo(tuple(files), mode, stored)


def apply(root: str, wanted: Wanted, undo: Undo) -> None:
    """Change the device. The power mode comes first: it moves the limits that clocks are fixed at."""
    if undo.clocks_file is not None:
        _run(root, "jetson_clocks", "--store", undo.clocks_file)
    if wanted.power_mode is not None:
        set_power_mode(root, wanted.power_mode)
    if wanted.governor is not None:
        for path, _ in _governor_files(root):
            _write(path, wanted.governor, "--governor")
    if wanted.fix_clocks:
        if undo.clocks_file is not None:
            _run(root, "jetson_clocks")
        else:
            for path, _ in _clock_files(root):
                _write(path, text_of(os.path.join(os.path.dirname(path), "scaling_max_freq")) or "", "--fix-clocks")


def restore(root: str, undo: Undo) -> Undo:
    """Bring back what `undo` says and return what could not be brought back: an empty Undo when all is well."""
    left: List[Tuple[str, str]] = []
    clocks_file, mode = undo.clocks_file, undo.power_mode
    if mode is not None and _tried(lambda: set_power_mode(root, str(undo.power_mode))):
        mode = None
    if clocks_file is not None:
        path = clocks_file
        if not os.path.exists(path) or _tried(lambda: _run(root, "jetson_clocks", "--restore", path)):
            clocks_file = None
    for path, text in undo.files:
        if not _tried(lambda path=path, text=text: _write(path, text, "restoring")):
            left.append((path, text))
    return Undo(tuple(left), mode, clocks_file)


def set_power_mode(root: str, name: str) -> None:
    """Change to the power mode `name` and make sure that the board says so."""
    if power_mode(root) == name:
        return
    _run(root, "nvpmodel", "-m", str(_mode_number(root, name)))
    now = power_mode(root)
    if now != name:
        raise StateError(
            f"the power mode is '{now}' after nvpmodel was asked for '{name}'", hint="some modes need a restart: set it by hand"
        )


def _mode_number(root: str, name: str) -> int:
    modes = parse_modes(text_of(under(root, _NVPMODEL_CONF)) or "")
    if not modes:
        raise StateError(f"{_NVPMODEL_CONF} has no power modes", hint="--power-mode is for Jetson boards: leave it out")
    if name not in modes:
        near = difflib.get_close_matches(name, list(modes), n=1)
        hint = f"did you mean '{near[0]}'?" if near else "known: " + ", ".join(modes)
        raise StateError(f"this board has no power mode '{name}'", hint=hint)
    return modes[name]


def _governor_files(root: str) -> List[Tuple[str, str]]:
    return _core_files(root, "scaling_governor", "--governor")


def _clock_files(root: str) -> List[Tuple[str, str]]:
    return [] if program_path(root, "jetson_clocks") else _core_files(root, "scaling_min_freq", "--fix-clocks")


def _core_files(root: str, name: str, option: str) -> List[Tuple[str, str]]:
    paths = [os.path.join(core, "cpufreq", name) for core in folders(under(root, CPU_FOLDER), r"cpu[0-9]+")]
    found = [(path, text_of(path)) for path in paths]
    known = [(path, text) for path, text in found if text is not None]
    if not known:
        raise StateError(f"{option}: this machine has no {name} that can be read", hint=f"a virtual machine? leave {option} out")
    return known


def _write(path: str, text: str, option: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as problem:
        raise StateError(
            f"{option}: {path} cannot be written: {problem.strerror}", hint="it takes root, or leave it out"
        ) from problem


def _run(root: str, name: str, *arguments: str) -> None:
    program = program_path(root, name)
    if program is None:
        raise StateError(f"{name} is not on this device", hint="it comes with JetPack")
    line: Sequence[str] = [program, *arguments]
    try:
        done = subprocess.run(
            line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_PROGRAM_S
        )
    except (OSError, subprocess.SubprocessError) as problem:
        raise StateError(f"{name} {' '.join(arguments)} failed: {problem}", hint="it takes root") from problem
    if done.returncode:
        said = done.stdout[-200:].decode("utf-8", "replace").strip().splitlines()
        raise StateError(f"{name} {' '.join(arguments)} failed: {said[-1] if said else 'no word'}", hint="it takes root")


def _tried(action: Any) -> bool:
    try:
        action()
    except StateError:
        return False
    return True
