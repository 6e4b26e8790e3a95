"""Checkpoint in, generator out: read safely, recognise the family, rebuild it, describe its inputs and outputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from edgegen.generator import Generator
    from edgegen.load.family import State
    from edgegen.spec import ComponentSpec

__all__ = ["load", "load_generator_from"]


def load_generator_from(
    path: Path, *, resolution: tuple[int, int] | None = None, arch: str | None = None, trust: bool = False
) -> Generator:
    """Return the generator in the checkpoint at `path`, float32, in eval mode, traced to a graph.

    `resolution` is (height, width) of the input for families that take pictures. `arch` ("file.py:Net") uses the user's own
    class instead of a family; that runs their code, so it needs `trust`, and the generator's source says so.
    Raises CheckpointError.
    """
    from edgegen.errors import CheckpointError
    from edgegen.generator import Generator
    from edgegen.graph import trace
    from edgegen.load.detect import find_family
    from edgegen.load.families import all_families
    from edgegen.load.readers import read_checkpoint
    from edgegen.load.trusted import build_trusted, trusted_spec

    if arch is not None and not trust:
        raise CheckpointError(f"--arch {arch} would run the code in that file", hint="add --trust if you know what it does")
    checkpoint = read_checkpoint(Path(path))
    source = {"file": checkpoint.path.name, "sha256": checkpoint.sha256, "trusted": arch is not None}
    if arch is not None:
        module, view = build_trusted(checkpoint.path, checkpoint.content, arch)
        _check_finite(checkpoint.path, view.state)
        spec = trusted_spec(module, resolution)
        family, hyperparameters, assumed = f"custom:{arch.rpartition(':')[2]}", {}, ("value ranges, unless the class says them",)
    else:
        found = find_family(checkpoint.path, checkpoint.content, all_families())
        view = found.view
        _check_finite(checkpoint.path, view.state)
        spec = found.family.spec(found.match, resolution)
        module = found.family.build(view.state, found.match)
        family, hyperparameters, assumed = found.family.name, dict(found.match.hyperparameters), found.match.assumed
    graph = trace(module)
    _check_shapes(graph, spec)
    return Generator(graph, spec, family, hyperparameters, {**source, "place": view.place, "assumed": list(assumed)})


load = load_generator_from


def _check_finite(path: Path, state: State) -> None:
    """Raise CheckpointError naming the first tensor that holds NaN or Inf, or that is not a plain real tensor."""
    import torch

    from edgegen.errors import CheckpointError

    for key, value in state.items():
        if value.layout != torch.strided or value.is_quantized or value.is_complex():
            kind = f"{value.dtype} tensor in {value.layout} layout"
            raise CheckpointError(f"{path}: '{key}' is a {kind}", hint="save plain float tensors")
        if value.is_floating_point() and not bool(torch.isfinite(value.float()).all()):
            raise CheckpointError(f"{path}: '{key}' holds NaN or Inf", hint="its training diverged: use an earlier checkpoint")


def _check_shapes(module: nn.Module, spec: ComponentSpec) -> None:
    """Raise CheckpointError if the generator cannot run at the sizes of `spec`; computes shapes only, not values."""
    import copy

    import torch

    from edgegen.errors import CheckpointError

    sizes = " and ".join("x".join(str(n) for n in tensor.shape) for tensor in spec.inputs)
    try:
        with torch.no_grad():
            given = copy.deepcopy(module).to("meta")(*(torch.empty(1, *tensor.shape, device="meta") for tensor in spec.inputs))
        shape = tuple(given.shape[1:])
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"the generator cannot run on inputs of {sizes}: {error}", hint="choose a larger --resolution"
        ) from error
    if shape != spec.outputs[0].shape:
        raise CheckpointError(f"the generator gives {shape} for inputs of {sizes}, not {spec.outputs[0].shape}")
