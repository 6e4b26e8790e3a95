"""What holds after every stage that gives a generator, whatever the stage did."""

from __future__ import annotations

from edgegen.errors import StageError
from edgegen.generator import Generator


def check_invariants(before: Generator, after: Generator, stage: str) -> None:
    """Raise StageError naming `stage` unless `after` is in eval mode, keeps the spec and gives finite values on fixed probes."""
    import torch

    from edgegen.graph import example_inputs

    if after.module.training:
        raise StageError(f"{stage} left the generator in training mode", hint="this is a bug: please report it")
    if after.spec != before.spec:
        raise StageError(f"{stage} changed the inputs or outputs of the generator", hint="this is a bug: please report it")
    with torch.no_grad():
        output = after.module(*example_inputs(after.spec))
    if tuple(output.shape[1:]) != after.spec.outputs[0].shape:
        raise StageError(
            f"{stage} gives outputs of shape {tuple(output.shape[1:])}, not {after.spec.outputs[0].shape}",
            hint="the checkpoint may need another --resolution",
        )
    if not torch.isfinite(output).all():
        raise StageError(f"{stage} gives NaN or infinite values on a fixed input", hint="check the weights of the checkpoint")
