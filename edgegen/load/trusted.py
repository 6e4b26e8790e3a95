"""Load a checkpoint with the user's own class: the one place where code that is not edgegen's runs, on explicit request."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgegen.errors import CheckpointError, nearest
from edgegen.load.detect import View, list_views
from edgegen.load.family import component, latent, picture
from edgegen.spec import ComponentSpec

_DEFAULT_SIZE = (256, 256)


def build_trusted(path: Path, content: Mapping[str, Any], arch: str) -> tuple[nn.Module, View]:
    """Construct `arch` ("file.py:Net") without arguments and load the view of `content` that fits it exactly."""
    module = _construct(arch)
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    views = list_views(path, content)
    for view in views:
        if {key: tuple(value.shape) for key, value in view.state.items()} == wanted:
            module.load_state_dict({key: value.to(module.state_dict()[key].dtype) for key, value in view.state.items()})
            return module.float().eval(), view
    raise CheckpointError(f"{path} does not fit {arch}: {_difference(views[0], wanted)}", hint="check the class and its defaults")


def trusted_spec(module: nn.Module, resolution: tuple[int, int] | None) -> ComponentSpec:
    """Return the spec of a user's module, found from its first layer and one run.

    Value ranges are 0..1 unless the class says `input_range = (low, high)` or `output_range`; a latent is unit normal unless
    it says `input_range`.
    """
    first = next((m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))), None)
    if first is None:
        raise CheckpointError(f"{type(module).__name__} has no convolution and no linear layer, so its input cannot be told")
    told = getattr(module, "input_range", None)
    if isinstance(first, nn.Conv2d):
        taken = picture("image", first.in_channels, resolution or _DEFAULT_SIZE, told or (0.0, 1.0))
    else:
        taken = latent(first.in_features if isinstance(first, nn.Linear) else first.in_channels, told)
    try:
        with torch.no_grad():
            given = module(torch.zeros(1, *taken.shape))
    except Exception as error:  # the user's forward: whatever it raises is the answer
        raise CheckpointError(
            f"{type(module).__name__}.forward fails on an input of {(1, *taken.shape)}: {error}", hint="try another --resolution"
        ) from error
    if not isinstance(given, torch.Tensor) or given.ndim != 4 or given.shape[0] != 1:
        raise CheckpointError(f"{type(module).__name__}.forward does not return one image batch (N, C, H, W)")
    _, channels, height, width = given.shape
    values = getattr(module, "output_range", (0.0, 1.0))
    return component(taken, picture("image" if taken.name != "image" else "output", channels, (height, width), values))


def _construct(arch: str) -> nn.Module:
    """Import the file and construct the class; whatever goes wrong there is reported with its own words."""
    file_name, _, class_name = arch.rpartition(":")
    file = Path(file_name)
    if not file_name or not class_name:
        raise CheckpointError(f"--arch '{arch}' names no class", hint="write --arch file.py:Net")
    if not file.is_file():
        raise CheckpointError(f"{file} does not exist", hint="--arch takes a Python file and a class in it: file.py:Net")
    try:
        with _importable(file.parent):
            spec = importlib.util.spec_from_file_location(f"edgegen_arch_{file.stem}", file)
            assert spec is not None and spec.loader is not None
            namespace = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(namespace)
    except Exception as error:  # user code
        raise CheckpointError(f"{file} cannot be imported: {type(error).__name__}: {error}") from error
    classes = [name for name, value in vars(namespace).items() if isinstance(value, type) and issubclass(value, nn.Module)]
    if class_name not in classes:
        raise CheckpointError(f"{file} has no torch module '{class_name}'", hint=nearest(class_name, classes))
    try:
        return getattr(namespace, class_name)()
    except Exception as error:  # user code
        raise CheckpointError(
            f"{arch}() cannot be constructed: {type(error).__name__}: {error}",
            hint="give its arguments defaults that fit the checkpoint",
        ) from error


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let the user's file import its neighbours while it is being imported, and no longer."""
    sys.path.insert(0, str(folder.resolve()))
    try:
        yield
    finally:
        sys.path.remove(str(folder.resolve()))


def _difference(view: View, wanted: Mapping[str, tuple[int, ...]]) -> str:
    for key, shape in wanted.items():
        if key not in view.state:
            return f"'{key}' is missing in the checkpoint"
        if tuple(view.state[key].shape) != shape:
            return f"'{key}' is {tuple(view.state[key].shape)} in the checkpoint and {shape} in the class"
    extra = next(key for key in view.state if key not in wanted)
    return f"'{extra}' is not in the class"
