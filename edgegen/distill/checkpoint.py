"""The state of a training run on disk: written whole or not at all, read back only by the run that wrote it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgegen.errors import StorageError

_FORMAT = "edgegen.training/1"


def run_key(modules: Mapping[str, nn.Module | None], settings: Mapping[str, Any]) -> str:
    """Return the SHA-256 over `settings` (plain JSON values) and the weights of `modules`: equal keys, equal results."""
    digest = hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode())
    for name, module in modules.items():
        digest.update(f"\0{name}\0".encode())
        for key, tensor in sorted(module.state_dict().items()) if module is not None else ():
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def write_checkpoint(path: Path, key: str, state: Mapping[str, Any]) -> None:
    """Store `state` (tensors and plain values) under `key`. A kill at any moment leaves the old file or the new one."""
    buffer = io.BytesIO()
    torch.save({"format": _FORMAT, "key": key, "state": dict(state)}, buffer)
    unfinished = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(unfinished, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise StorageError(
            f"{path}: the training state cannot be written ({error.strerror})", hint="free some space, then resume"
        ) from error


def read_checkpoint(path: Path, key: str) -> dict[str, Any] | None:
    """Return the state stored under `key`; None if there is no file or another run wrote it.

    Raises StorageError for a file that is damaged. Nothing in the file can run code.
    """
    if not path.exists():
        return None
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
        known = document["format"] == _FORMAT and document["key"] == key
        return document["state"] if known else None
    except Exception as error:  # zip, unpickler and torch each raise their own kind for damaged files
        raise StorageError(f"{path}: the training state is damaged", hint="delete the file to train from the start") from error


@dataclasses.dataclass
class History:
    """What was seen so far: one point per evaluation, and the sum of the losses since the last one."""

    points: list[dict[str, float]] = dataclasses.field(default_factory=list)
    loss_sum: float = 0.0
    loss_count: int = 0

    def add_loss(self, loss: float) -> None:
        """Note the loss of one step."""
        self.loss_sum += loss
        self.loss_count += 1

    def add_point(self, step: int, psnr_db: float, ssim: float) -> None:
        """Close the stretch since the last point with what the held-out inputs say after `step` steps."""
        point: dict[str, float] = {"step": step, "psnr_db": psnr_db, "ssim": ssim}
        if self.loss_count:
            point["loss"] = self.loss_sum / self.loss_count
        self.points.append(point)
        self.loss_sum, self.loss_count = 0.0, 0
