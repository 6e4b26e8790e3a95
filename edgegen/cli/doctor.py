"""`edgegen doctor`: what is ready on this machine or on a board, and how to mend the rest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgegen.cli import console
from edgegen.cli.options import DeviceOption, Devices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgegen.runtime.finding import Finding


def doctor(
    device: DeviceOption = None,
    devices: Devices = Path("devices.toml"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Try the way to a device, its Python, and each back end with a tiny generator; print ok or the reason and the fix."""
    import dataclasses

    from edgegen.device import choose_members, open_transport
    from edgegen.doctor import examine, programs_here
    from edgegen.errors import DeviceError

    diagnoses = []
    for member in choose_members(device or ["local:"], devices):
        transport = open_transport(member.address)
        try:
            diagnoses.append(examine(transport, note=lambda text, name=member.name: console.note(f"{name} {text}")))
        finally:
            transport.close()
    if as_json:
        console.json([{**dataclasses.asdict(diagnosis), "usable": diagnosis.usable} for diagnosis in diagnoses])
    else:
        for diagnosis in diagnoses:
            _show(diagnosis.name + ("" if diagnosis.machine is None else f"  {diagnosis.machine}"), diagnosis.findings)
        if not device:
            _show("programs that lead to devices", programs_here())
    bad = [diagnosis.name for diagnosis in diagnoses if not diagnosis.usable]
    if bad:
        raise DeviceError(f"nothing can be measured on {', '.join(bad)}", hint="mend what the list above says, then again")


def _show(title: str, findings: Sequence[Finding]) -> None:
    console.result(title)
    for finding in findings:
        console.result(f"  {finding.health:<7} {finding.name}: {finding.reason}")
        if finding.fix:
            console.result(f"          fix: {finding.fix}")
