"""`edgegen inspect`: what a checkpoint is, what it costs, and what each target would do with it. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgegen.cli import console

if TYPE_CHECKING:
    from edgegen.export.preflight import Finding
    from edgegen.load.inspect import Inspection
    from edgegen.spec import TensorSpec
    from edgegen.target import TargetProfile


def inspect(
    checkpoint: Annotated[Path, typer.Argument(help="The trained generator: .safetensors, .pt, .pth, .ckpt or .pkl.")],
    resolution: Annotated[str | None, typer.Option(help="Input size, WIDTHxHEIGHT in pixels.")] = None,
    arch: Annotated[str | None, typer.Option(help="Your own class for an unknown family: file.py:Net. Needs --trust.")] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Allow the code named by --arch to run.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell the family, inputs, outputs and cost of a generator, and what each target would do with its layers."""
    from edgegen.export.preflight import preflight
    from edgegen.load import load
    from edgegen.load.inspect import inspect_generator
    from edgegen.spec import parse_resolution
    from edgegen.target import list_targets

    size = parse_resolution(resolution) if resolution else None
    generator = load(checkpoint, resolution=size, arch=arch, trust=trust)
    inspection = inspect_generator(generator)
    told = [(target, preflight(generator, target)) for target in list_targets()]
    if as_json:
        console.json({**inspection.to_json(), "targets": [_target_json(*entry) for entry in told]})
        return
    _show(inspection)
    console.table("Targets", ("targets", "back end", "layers that do not simply run"), _target_rows(told))


def _show(inspection: Inspection) -> None:
    facts = [("family", inspection.family), *((key, _plain(value)) for key, value in inspection.hyperparameters.items())]
    facts += [(f"input {tensor.name}", _tensor(tensor)) for tensor in inspection.inputs]
    facts += [(f"output {tensor.name}", _tensor(tensor)) for tensor in inspection.outputs]
    facts += [
        ("params", f"{inspection.params:,}"),
        ("MACs", f"{inspection.macs:,}"),
        ("SHA-256", f"{inspection.source['sha256'][:16]}..."),
    ]
    console.table(str(inspection.source["file"]), ("key", "value"), facts)
    layers = [(layer.kind, layer.count, f"{layer.params:,}", f"{layer.macs:,}") for layer in inspection.layers]
    console.table("Layers", ("kind", "count", "params", "MACs"), layers)
    for sentence in inspection.assumed:
        console.note(f"by convention, not in the tensors: {sentence}")
    if inspection.source["trusted"]:
        console.warning("the code named by --arch was run")


def _tensor(tensor: TensorSpec) -> str:
    from edgegen.load.inspect import value_range

    return f"{tensor.kind.value} {'x'.join(str(n) for n in tensor.shape)} ({tensor.layout.value}), {value_range(tensor)}"


def _plain(value: Any) -> str:
    """Return a hyperparameter in a few words; layers of an encoder or decoder become WIDTHkKERNEL."""
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, dict):
        norm = "" if value["norm"] == "none" else f"+{value['norm']}"
        return f"{value['width']}k{value['kernel']}{norm}"
    return str(value)


def _target_rows(told: Sequence[tuple[TargetProfile, Sequence[Finding]]]) -> list[tuple[str, str, str]]:
    """Return one row for all targets of which the same is to be told."""
    alike: dict[tuple[str, str], list[str]] = {}
    for target, findings in told:
        groups = Counter((finding.action.value, finding.kind, finding.reason) for finding in findings)
        lines = [f"{count} {kind}: {action} ({reason})" for (action, kind, reason), count in groups.items()]
        alike.setdefault((target.backend.value, "\n".join(lines) or "none"), []).append(target.id)
    return [(", ".join(names), backend, text) for (backend, text), names in alike.items()]


def _target_json(target: TargetProfile, findings: Sequence[Finding]) -> dict[str, Any]:
    said = [{"node": f.node, "kind": f.kind, "action": f.action.value, "reason": f.reason} for f in findings]
    return {"id": target.id, "backend": target.backend.value, "findings": said}
