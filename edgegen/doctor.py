"""What is ready on a device and what is not: the way there, Python, each back end with a tiny generator, rights, clocks, swap."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgegen.device import Board, Ended, Identity, Limits, Transport, leased, make_ready
from edgegen.device.probe import refusal
from edgegen.device.text import escape
from edgegen.errors import DeviceError, EdgegenError
from edgegen.runtime.backend_trial import BACKENDS
from edgegen.runtime.errors import RuntimeBundleError
from edgegen.runtime.finding import Finding, Health, absent, fails, ok
from edgegen.runtime.strict_json import parse

_EXAMINE = Limits(seconds=900.0)
_NOTHING_WORKS = 1
_STEPS = ("link", "copying", "python", "runtime")
_PROGRAMS = (
    ("ssh", "ssh:// devices", "install OpenSSH's client"),
    ("rsync", "fast copies to ssh:// devices; scp, tar or cat take its place", "install rsync"),
    ("adb", "adb:// devices", "install Android's platform tools"),
)


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """Everything that was looked at on one device. `machine` is None where nothing could be asked."""

    name: str
    findings: tuple[Finding, ...]
    identity: Identity | None = None
    machine: str | None = None

    @property
    def usable(self) -> bool:
        """Whether a bundle can be measured there: the way is open and at least one back end works."""
        reached = all(
            finding.health != Health.FAILS.value for finding in self.findings if finding.name in ("link", "copying", "python")
        )
        return reached and any(f.health == Health.OK.value for f in self.findings if f.name in BACKENDS)


def examine(transport: Transport, *, note: Callable[[str], None] = lambda text: None) -> Diagnosis:
    """Look at everything on the device behind `transport`; what fails becomes a finding. `note` hears what goes on."""
    found: list[Finding] = []
    identity: Identity | None = None
    step = "link"
    try:
        note("connecting")
        identity = transport.identify()
        found.append(ok("link", f"{identity.system} {identity.machine}, {identity.board or identity.node}"))
        with leased(transport):
            step = "copying"
            note("copying a file there and back")
            _copy_and_compare(transport)
            found.append(ok("copying", "a file went there and came back the same"))
            step = "python"
            note("looking for Python")
            board = make_ready(transport)
            found.append(ok("python", f"{board.launch[0]} has numpy"))
            step = "runtime"
            note("trying each back end")
            machine, rest = _ask(board)
            return Diagnosis(transport.name, (*found, *rest), identity, machine)
    except EdgegenError as failure:
        found.append(fails(step, failure.message, failure.hint))
        return Diagnosis(transport.name, tuple(found), identity)


def programs_here() -> tuple[Finding, ...]:
    """Return which programs of this machine that lead to devices are there."""
    return tuple(
        ok(name, f"here, for {purpose}") if shutil.which(name) else absent(name, f"needed for {purpose}", fix)
        for name, purpose, fix in _PROGRAMS
    )


def _copy_and_compare(transport: Transport) -> None:
    content = bytes(range(256)) * 64
    with tempfile.TemporaryDirectory() as scratch:
        there, back = Path(scratch, "there"), Path(scratch, "back")
        there.write_bytes(content)
        transport.push(there, "doctor.bin")
        transport.pull("doctor.bin", back)
        if back.read_bytes() != content:
            raise DeviceError(f"{transport.name}: a file comes back altered", hint="is the memory card of the device failing?")
    transport.run(["rm", "-f", f"{transport.folder()}/doctor.bin"], Limits(60.0))


def _ask(board: Board) -> tuple[str, tuple[Finding, ...]]:
    command = [*board.launch[:-1], "edgegen.runtime.doctor", "--json"]
    done = board.transport.run(command, _EXAMINE, folder=board.folder)
    if done.ended is not Ended.EXITED or done.exit_code not in (0, _NOTHING_WORKS) or not done.stdout.strip():
        raise refusal(board.name, "examining it", done)
    try:
        answer = parse(done.stdout.strip().splitlines()[-1].encode(), f"what {board.name} printed")
        return _machine(answer), tuple(_finding(raw) for raw in answer["findings"])
    except (RuntimeBundleError, KeyError, TypeError, ValueError) as problem:
        raise DeviceError(f"{board.name} gives no answer that makes sense", hint="is another edgegen in its folder?") from problem


def _finding(raw: Any) -> Finding:
    words = {key: escape(str(raw[key]), 400) for key in ("name", "health", "reason", "fix")}
    return Finding(words["name"], Health(words["health"]).value, words["reason"], words["fix"])


def _machine(answer: dict[str, Any]) -> str:
    facts = answer["machine"]
    known = [facts["os"], facts["cpu"], f"Python {facts['python']}", f"glibc {answer['libc']}"]
    return escape(", ".join(str(fact) for fact in known if fact), 300)
