"""The pictures of one input, decoded once, kept in memory as far as a limit allows, and split into train and held-out."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgegen.data.calibration import CalibrationSet, Origin
from edgegen.data.pictures import decode_label_map, decode_photo, list_pictures, read_file
from edgegen.data.synthetic import draw_label_map, draw_photo
from edgegen.errors import DataError
from edgegen.spec import Kind, TensorSpec

if TYPE_CHECKING:
    from PIL.Image import Image

_LEAST_PICTURES = 8
_LEAST_FOR_TRAINING = 4
_CACHE_BYTES = 512 << 20


class Gallery:
    """Pictures by index, as PIL images ("RGB" or "L"; label maps hold class ids).

    Every file is decoded on opening, so a bad one stops the run before the long stages. What exceeds the cache is decoded
    again when it is asked for.
    """

    def __init__(self, names: list[str], read: Callable[[int], tuple[bytes, Image]]) -> None:
        self._read = read
        self._cache: dict[int, Image] = {}
        room = _CACHE_BYTES
        kept: dict[str, int] = {}
        flat = True
        for index in range(len(names)):
            content, image = read(index)
            digest = hashlib.sha256(content).hexdigest()
            if digest in kept:  # a copy could be trained on and held out at the same time
                continue
            kept[digest] = index
            flat = flat and _is_flat(image)
            room -= image.width * image.height * len(image.getbands())
            if room >= 0:
                self._cache[index] = image
        if flat:
            raise DataError("every picture is one flat colour", hint="calibration needs pictures as the generator will see them")
        self._indices = list(kept.values())
        self.files = [(names[index], digest) for digest, index in kept.items()]
        self.duplicate_count = len(names) - len(kept)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> Image:
        index = self._indices[position]
        return self._cache[index] if index in self._cache else self._read(index)[1]


@dataclasses.dataclass(frozen=True)
class Split:
    """Positions in a gallery: `train` also calibrates; `held_out`, in a fixed random order, is never trained or calibrated on."""

    train: tuple[int, ...]
    held_out: tuple[int, ...]


def split(count: int, held_out: int) -> Split:
    """Hold out every k-th of `count` pictures: `held_out` of them, but at most half, and at least 4 remain for training."""
    wanted = max(1, min(held_out, count // 2, count - _LEAST_FOR_TRAINING))
    chosen = [int((i + 0.5) * count / wanted) for i in range(wanted)]
    train = tuple(i for i in range(count) if i not in set(chosen))
    random.Random("held-out").shuffle(chosen)  # so that the first few are not from one corner of a sorted sequence
    return Split(train, tuple(chosen))


def open_gallery(tensor: TensorSpec, folder: Path | None, calibration: CalibrationSet, *, smallest_side: int) -> Gallery:
    """Return the pictures for the input `tensor`; photos are kept with a shorter side of at most `smallest_side` pixels."""
    if calibration.source is Origin.SYNTHETIC:
        return _synthetic(tensor, calibration)
    if folder is None:
        what = "label maps" if tensor.kind is Kind.LABEL_MAP else "photos"
        hint = f"give --data DIR with {what} as the generator will see them"
        raise DataError(f"the generator takes pictures ('{tensor.name}') and no folder was given", hint=hint)
    paths = list_pictures(folder)

    def read(index: int) -> tuple[bytes, Image]:
        path = paths[index]
        content = read_file(path)
        if tensor.kind is Kind.LABEL_MAP:
            return content, decode_label_map(content, path, classes=tensor.channels)
        return content, decode_photo(content, path, mode=_mode(tensor), smallest_side=smallest_side)

    gallery = Gallery([path.relative_to(folder).as_posix() for path in paths], read)
    if len(gallery) < _LEAST_PICTURES:
        copies = f" ({gallery.duplicate_count} more are copies)" if gallery.duplicate_count else ""
        fact = f"{folder} holds {len(gallery)} different pictures{copies}, at least {_LEAST_PICTURES} are needed"
        raise DataError(fact, hint="add pictures; a few dozen make a good calibration set")
    return gallery


def _synthetic(tensor: TensorSpec, calibration: CalibrationSet) -> Gallery:
    size = (tensor.height, tensor.width)

    def read(index: int) -> tuple[bytes, Image]:
        seed = calibration.seed + index
        if tensor.kind is Kind.LABEL_MAP:
            image = draw_label_map(size, classes=tensor.channels, seed=seed)
        else:
            image = draw_photo(size, seed=seed).convert(_mode(tensor))
        return image.tobytes(), image

    count = max(_LEAST_PICTURES, calibration.count)
    return Gallery([f"synthetic-{index}" for index in range(count)], read)


def _mode(tensor: TensorSpec) -> str:
    if tensor.channels not in (1, 3):
        fact = f"input '{tensor.name}' has {tensor.channels} channels: no photo has that"
        raise DataError(fact, hint="inputs of 1 (grey) or 3 (RGB) channels can be read from files")
    return "L" if tensor.channels == 1 else "RGB"


def _is_flat(image: Image) -> bool:
    return all(low == high for low, high in (band.getextrema() for band in image.split()))
