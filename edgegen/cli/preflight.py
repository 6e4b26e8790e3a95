"""`edgegen preflight`: what a target does with every node of a checkpoint or a bundle, before anything long runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgegen.cli import console
from edgegen.spec import Precision

if TYPE_CHECKING:
    from edgegen.export.preflight import Finding
    from edgegen.op_table import OpTable
    from edgegen.target import TargetProfile

_EVIDENCE = {"S": "seen", "D": "derived", "K": "unverified", "M": "measured here"}


def preflight(
    source: Annotated[Path, typer.Argument(help="A checkpoint, or a bundle folder or .zip.")],
    target: Annotated[str, typer.Option(help="The device: a target, an alias, or a path to a TOML file.")] = "host",
    precision: Annotated[Precision | None, typer.Option(help="Judge this precision; without it the target's lowest.")] = None,
    table: Annotated[
        str | None, typer.Option(help="Judge by this op table, such as ethos-u65, and not the target's own.")
    ] = None,
    resolution: Annotated[str | None, typer.Option(help="Input size, WIDTHxHEIGHT in pixels.")] = None,
    arch: Annotated[str | None, typer.Option(help="Your own class for an unknown family: file.py:Net. Needs --trust.")] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Allow the code named by --arch to run.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell for each node whether it runs natively, is rewritten, stays in float or is refused, and why. Exit code 9: refused."""
    from edgegen.export.preflight import Action, lowest_precision, refusal, tables_of
    from edgegen.op_table import load_op_table
    from edgegen.target import load_target

    profile = load_target(target)
    tables = (load_op_table(table),) if table else tables_of(profile)
    asked = precision or lowest_precision(profile)
    if is_bundle(source):
        asked, findings = _of_bundle(source, profile, precision, tables)
    else:
        findings = _of_checkpoint(source, profile, asked, tables, resolution=resolution, arch=arch, trust=trust)
    if as_json:
        console.json(_document(source, profile, asked, tables, findings))
    else:
        _show(source, profile, asked, tables, findings)
    refused = [finding for finding in findings if finding.action is Action.REFUSED]
    if refused:
        raise refusal(refused[0], table or profile.id)


def is_bundle(path: Path) -> bool:
    """Whether `path` is a bundle and not a checkpoint: a folder, or an archive with a manifest."""
    import zipfile

    from edgegen.runtime.manifest import MANIFEST_NAME

    if path.is_dir():
        return True
    if path.suffix != ".zip" or not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return MANIFEST_NAME in archive.namelist()


def _of_checkpoint(
    source: Path, profile: TargetProfile, precision: Precision, tables: tuple[OpTable, ...], *,
    resolution: str | None, arch: str | None, trust: bool,
) -> list[Finding]:  # fmt: skip
    from edgegen.export.preflight import preflight_all
    from edgegen.load import load
    from edgegen.spec import parse_resolution

    size = parse_resolution(resolution) if resolution else None
    return preflight_all(load(source, resolution=size, arch=arch, trust=trust), profile, precision, tables)


def _of_bundle(
    source: Path, profile: TargetProfile, precision: Precision | None, tables: tuple[OpTable, ...]
) -> tuple[Precision, list[Finding]]:
    """Judge the artifact for the target's best back end, of the precision asked for or the first there is."""
    from edgegen.bundle import bundle_manifest, host_errors
    from edgegen.errors import BundleError
    from edgegen.export.artifact_nodes import judge_artifact
    from edgegen.runtime.files import Opened
    from edgegen.runtime.runners import read_artifact

    entries = [entry for entry in bundle_manifest(source).artifacts if entry.backend == profile.backend.value]
    entry = next((e for e in entries if precision is None or e.precision == precision.value), None)
    if entry is None:
        wanted = profile.backend.value if precision is None else f"{profile.backend.value}/{precision.value}"
        there = ", ".join(artifact.name for artifact in bundle_manifest(source).artifacts)
        raise BundleError(f"the bundle has no artifact '{wanted}'", hint=f"it has: {there}")
    with host_errors(), Opened(str(source)) as files:
        content = read_artifact(files, entry, entry.folder + "/")
    kept = Precision(entry.precision)
    return kept, judge_artifact(profile.backend, kept, content, tables)


def _document(
    source: Path, profile: TargetProfile, precision: Precision, tables: tuple[OpTable, ...], findings: list[Finding]
) -> dict[str, object]:
    counts: dict[str, int] = {}
    for finding in findings:
        counts[finding.action.value] = counts.get(finding.action.value, 0) + 1
    return {
        "source": source.name, "target": profile.id, "backend": profile.backend.value, "precision": precision.value,
        "tables": [table.id for table in tables], "counts": counts, "nodes": [finding.to_json() for finding in findings],
        "accelerators": [{"unit": a.unit, "name": a.name, "table": a.op_table} for a in profile.accelerators],
    }  # fmt: skip


def _show(
    source: Path, profile: TargetProfile, precision: Precision, tables: tuple[OpTable, ...], findings: list[Finding]
) -> None:
    names = ", ".join(table.id for table in tables)
    title = f"{source.name} on {profile.id}, {precision.value} ({names})"
    console.table(title, ("node", "operation", "what happens", "why", "source"), [_row(finding) for finding in findings])
    console.note(f"{sum(finding.simply_runs for finding in findings)} of {len(findings)} nodes simply run")
    for accelerator in profile.accelerators:
        told = f"; --table {accelerator.op_table} tells what it would refuse" if accelerator.op_table else ""
        console.note(f"edgegen has no back end for the {accelerator.unit} ({accelerator.name}){told}")


def _row(finding: Finding) -> tuple[str, ...]:
    action = f"rewritten: {finding.rewrite}" if finding.rewrite else finding.action.value
    evidence = _EVIDENCE.get(finding.evidence, "")
    source = f"{finding.source} ({evidence})" if finding.source else evidence
    why = "; ".join(text for text in (finding.limit, finding.reason) if text)
    return (finding.node, finding.kind, action, why, source)
