"""`edgegen calibrate --check`: are these pictures fit to calibrate with? Decodes all of them, changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgegen.cli import console

if TYPE_CHECKING:
    from edgegen.data.check import DataCheck
    from edgegen.quantize.coverage import Coverage

_HELD_OUT = 16


def calibrate(
    check: Annotated[Path, typer.Option("--check", help="The folder of pictures that would calibrate.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="The generator they are for: its layers' ranges are covered, or not.")
    ] = None,
    evaluation: Annotated[
        Path | None, typer.Option(help="A folder of pictures that results are judged on: none may leak.")
    ] = None,
    calibration: Annotated[str, typer.Option(help="A set of calibration/, or a path to one.")] = "auto",
    target: Annotated[
        str, typer.Option(help="The device they calibrate for: layers are judged in the form they have there.")
    ] = "host",
    resolution: Annotated[str | None, typer.Option(help="Input size, WIDTHxHEIGHT in pixels.")] = None,
    arch: Annotated[str | None, typer.Option(help="Your own class for an unknown family: file.py:Net. Needs --trust.")] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Allow the code named by --arch to run.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what is wrong with calibration data, and with a checkpoint whether it covers all ranges. Exit code 7: unfit."""
    from edgegen.data.check import check_pictures, require_usable
    from edgegen.target import load_target

    backend = load_target(target).backend
    spec, generator = None, None
    if checkpoint is not None:
        from edgegen.load import load
        from edgegen.spec import parse_resolution

        generator = load(checkpoint, resolution=parse_resolution(resolution) if resolution else None, arch=arch, trust=trust)
        spec = generator.spec
    found = check_pictures(check, held_out=_HELD_OUT, evaluation=evaluation, **_kind_of(spec))
    covered = None
    if generator is not None and found.is_usable:
        from edgegen.data import open_inputs
        from edgegen.pictures import adapt
        from edgegen.quantize.coverage import coverage
        from edgegen.rewrite import lower

        inputs = open_inputs(generator.spec, check, calibration=calibration, seed=0, held_out=_HELD_OUT)
        lowered = lower(generator, backend)
        covered = coverage(lowered, [adapt(item, generator.spec, lowered.spec) for item in inputs.calibration()])
    if as_json:
        console.json(
            {"folder": check.name, "target": target, **found.to_json(), "coverage": covered.to_json() if covered else None}
        )
    else:
        _show(check, found, covered)
    require_usable(found, check)


def _kind_of(spec: Any) -> dict[str, int]:
    """Return what pictures the generator takes: channels of photos, or classes of label maps. Photos in colour without one."""
    from edgegen.spec import Kind

    for tensor in spec.inputs if spec else ():
        if tensor.kind is Kind.LABEL_MAP:
            return {"classes": tensor.channels}
        if tensor.kind is Kind.IMAGE:
            return {"channels": tensor.channels}
    return {}


def _show(folder: Path, found: DataCheck, covered: Coverage | None) -> None:
    rows = [("pictures", found.count), ("SHA-256", f"{found.sha256[:16]}...")]
    groups = {"refused": found.refused, "leaks": found.leaks, "copies": found.copies, "outliers": found.outliers}
    rows += [(name, len(sentences)) for name, sentences in groups.items()]
    if covered:
        rows += [("layers covered", f"{sum(one.outside == 0 for one in covered.layers)} of {len(covered.layers)} entirely")]
        rows += [("coverage", "enough" if covered.is_enough else "too little")]
    console.table(f"Calibration data in {folder.name}", ("what", "found"), rows)
    for name, sentences in groups.items():
        for sentence in sentences:
            console.note(f"{name}: {sentence}")
    if covered:
        console.note(f"coverage: {covered.sentence}")
        for sentence in covered.alone:
            console.note(f"coverage: {sentence}")
