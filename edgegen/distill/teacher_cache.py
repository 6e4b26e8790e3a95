"""The teacher's images of a finite pool of inputs, on the disk: computed once, whichever run or student asks first.

    teacher-KEY.images.npy   one image per position, uint8 where the value range is known, float16 otherwise; memory-mapped
    teacher-KEY.sums.npy     one uint64 per position: 0 while the image is not there, else 2^32 + its CRC-32

KEY hashes the teacher's weights, the inputs, the augmentation and the arithmetic. An image is written before its sum, and the
sum is checked on reading: what a kill or a power cut left torn is computed again. Every image is computed alone and rounded as
it is stored, so that it is the same whether it was there or not, and in whatever batch it is asked for.
"""

from __future__ import annotations

import dataclasses
import math
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from edgegen.distill.checkpoint import run_key
from edgegen.distill.hardware import Hardware
from edgegen.distill.trainee import Trainee
from edgegen.errors import StorageError
from edgegen.generator import Generator
from edgegen.recipe import DistillConfig
from edgegen.spec import TensorSpec

if TYPE_CHECKING:
    from edgegen.data import Inputs

MOST_BYTES = 4 << 30
"""A larger pool is not stored: training would then wait for the disk instead of for the teacher."""

_THERE = 1 << 32


class TeacherCache:
    """Images of one teacher by position in the pool. Several processes may use the same files at the same time."""

    def __init__(self, folder: Path, key: str, *, count: int, shape: tuple[int, ...], output: TensorSpec) -> None:
        """Open or make the files for `count` images of `shape` (C, H, W). Raises StorageError if they do not fit on the disk."""
        self.count = count
        self._output = output
        stem = folder / f"teacher-{key[:16]}"
        self._images = _open(stem.with_suffix(".images.npy"), (count, *shape), stored_dtype(output))
        self._sums = _open(stem.with_suffix(".sums.npy"), (count,), np.dtype(np.uint64))
        self.computed = 0
        self.read = 0

    def images(self, positions: Sequence[int], compute: Callable[[int], torch.Tensor]) -> torch.Tensor:
        """Return the images (N, C, H, W), float32 in the teacher's range, at `positions`.

        `compute(i)` returns that of `positions[i]`, batch axis 1, if it is not there yet.
        """
        found = [self._image(position, i, compute) for i, position in enumerate(positions)]
        return _restored(torch.from_numpy(np.stack(found)), self._output)

    def _image(self, position: int, index: int, compute: Callable[[int], torch.Tensor]) -> np.ndarray:
        image = np.array(self._images[position])
        if int(self._sums[position]) == _sum(image):
            self.read += 1
            return image
        image = _stored(compute(index), self._output)[0]
        self._images[position] = image
        self._sums[position] = _sum(image)
        self.computed += 1
        return image


def open_cache(
    folder: Path,
    config: DistillConfig,
    networks: Trainee,
    teacher: Generator,
    inputs: Inputs,
    hardware: Hardware,
    output: TensorSpec,
) -> TeacherCache | None:
    """Return the cache of this training in `folder`; None where it would not help.

    That is: the inputs never repeat (`augment.views` is 0), a loss compares layers, whose maps are many times as large as the
    image, or the images of all views would take more than 4 GiB.
    """
    if not config.augment.views or networks.tap_names:
        return None
    first = hardware.shard(inputs.train(0, config.batch, config.augment))
    with torch.no_grad(), hardware.autocast():
        shape = tuple(networks.teacher(*(tensor[:1] for tensor in first))[0].shape[1:])
    count = inputs.pool_size(config.augment)
    if count * math.prod(shape) * stored_dtype(output).itemsize > MOST_BYTES:
        return None
    settings = {"inputs": inputs.digest, "augment": dataclasses.asdict(config.augment), "device": hardware.device.type}
    key = run_key({"teacher": teacher.module}, settings | hardware.numerics())
    if not hardware.is_first:  # the first process makes the files
        hardware.wait()
    cache = TeacherCache(folder, key, count=count, shape=shape, output=output)
    if hardware.is_first:
        hardware.wait()
    return cache


def stored_dtype(output: TensorSpec) -> np.dtype:
    """Return what images of `output` are stored as: a picture of 256 levels is known to 59 dB, more than students reach."""
    return np.dtype(np.float16 if output.low is None or output.high is None else np.uint8)


def _stored(image: torch.Tensor, output: TensorSpec) -> np.ndarray:
    image = image.float().cpu()
    if output.low is None or output.high is None:
        return image.numpy().astype(np.float16)
    scaled = (image - output.low) * (255.0 / (output.high - output.low))
    return scaled.round().clamp(0.0, 255.0).byte().numpy()


def _restored(image: torch.Tensor, output: TensorSpec) -> torch.Tensor:
    if output.low is None or output.high is None:
        return image.float()
    return image.float() * ((output.high - output.low) / 255.0) + output.low


def _sum(image: np.ndarray) -> int:
    return _THERE | zlib.crc32(image.tobytes())


def _open(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.memmap:
    """Return the array in the file at `path`, made of zeros and given its room on the disk if it is not there as it should be."""
    try:
        if not _fits(path, shape, dtype):
            _make(path, shape, dtype)
        return np.load(path, mmap_mode="r+")
    except OSError as error:
        fact = f"{path}: the teacher's images cannot be stored ({error.strerror or error})"
        raise StorageError(fact, hint="free some space, then resume, or set distill.augment.views to 0") from error


def _fits(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> bool:
    try:
        there = np.load(path, mmap_mode="r")
    except (FileNotFoundError, ValueError, EOFError):  # ValueError: cut short or no array
        return False
    return there.shape == shape and there.dtype == dtype


def _make(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        np.lib.format.open_memmap(unfinished, mode="w+", dtype=dtype, shape=shape).flush()
        with open(unfinished, "r+b") as file:
            if hasattr(os, "posix_fallocate"):  # a full disk is an error now, not a bus error in the middle of a step
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
            os.fsync(file.fileno())
        if _fits(path, shape, dtype):  # another process was first; images of its file may be in use already
            return
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
