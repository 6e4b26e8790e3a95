"""One source per input tensor: pictures from a gallery, or latents and classes drawn from a seed."""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING, Protocol

from edgegen.data.calibration import CalibrationSet, Resample
from edgegen.data.gallery import Gallery, split
from edgegen.data.views import Frame, darken, jitter, random_view, whole_view
from edgegen.errors import DataError
from edgegen.recipe import AugmentConfig
from edgegen.spec import Kind, TensorSpec

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL.Image import Image

_HALF_SEEDS = 1 << 19  # held-out seeds lie below, calibration seeds above: the two never meet


class Source(Protocol):
    """Gives one input of a generator. `limit` is how many held-out inputs there are; None: any number."""

    limit: int | None

    def train(self, step: int, batch: int, augment: AugmentConfig) -> torch.Tensor:
        """Return the batch of training step `step`; the same step gives the same batch."""
        ...

    def pooled(self, position: int, augment: AugmentConfig) -> np.ndarray:
        """Return input `position` of the pool of fixed views, batch axis 1: a function of the position alone."""
        ...

    def held_out(self, position: int) -> np.ndarray:
        """Return a held-out input in the layout of the spec, batch axis 1."""
        ...

    def calibration(self, position: int, count: int) -> np.ndarray:
        """Return input `position` of `count` for calibration, batch axis 1."""
        ...


class PictureSource:
    """Photos or label maps from a gallery. `scale` above 1 is a super-resolver's: inputs are pictures reduced by it."""

    def __init__(
        self, gallery: Gallery, tensor: TensorSpec, settings: CalibrationSet, *, scale: int, seed: int, held_out: int
    ) -> None:
        self._gallery, self._tensor, self._settings, self._scale = gallery, tensor, settings, scale
        self._seed = seed
        self._split = split(len(gallery), held_out)
        preprocess = settings.preprocess
        if tensor.kind is Kind.LABEL_MAP:
            preprocess = dataclasses.replace(preprocess, resample=Resample.NEAREST)  # ids do not mix
        self._frame = Frame(tensor.height, tensor.width, preprocess, settings.augment.zoom)
        self.limit: int | None = len(self._split.held_out)
        self.training_count = len(self._split.train)
        self.reduces = scale > 1

    def train(self, step: int, batch: int, augment: AugmentConfig) -> torch.Tensor:
        """Return random windows (N, C, H, W), or (N, H, W, C) if the spec says so; each picture once per pass."""
        import numpy as np
        import torch

        views = [self._training_view(step * batch + i, augment) for i in range(batch)]
        return torch.from_numpy(np.concatenate([self._training_input(*view, augment) for view in views]))

    def train_truth(self, step: int, batch: int, augment: AugmentConfig) -> torch.Tensor:
        """Return the pictures (N, C, H, W), float in [0, 1] at the output size, that the inputs of `step` were reduced from."""
        return _as_truth([self._training_view(step * batch + i, augment)[0] for i in range(batch)])

    def pooled(self, position: int, augment: AugmentConfig) -> np.ndarray:
        """Return fixed view `position` % views of training picture `position` // views."""
        return self._training_input(*self._pooled_view(position, augment), augment)

    def pooled_truth(self, positions: list[int], augment: AugmentConfig) -> torch.Tensor:
        """Return the pictures (N, C, H, W), float in [0, 1], that the pooled inputs at `positions` were reduced from."""
        return _as_truth([self._pooled_view(position, augment)[0] for position in positions])

    def held_out(self, position: int) -> np.ndarray:
        """Return a held-out picture as at run time."""
        return self._as_seen(self._reduced(self._split.held_out[position]), f"held-out:{position}")

    def calibration(self, position: int, count: int) -> np.ndarray:
        """Return a training picture as at run time; the `count` are spread over all of them."""
        train = self._split.train
        return self._as_seen(self._reduced(train[position * len(train) // count]), f"calibration:{position}")

    def truth(self, position: int) -> np.ndarray:
        """Return the held-out picture (H, W, 3), uint8, at the output size, of which the held-out input is the reduction."""
        import numpy as np

        return np.asarray(self._large(self._split.held_out[position]))

    def _training_view(self, index: int, augment: AugmentConfig) -> tuple[Image, random.Random]:
        """Return a random window at the output size, and the generator of what is still to be drawn for it."""
        passes, within_pass = divmod(index, self.training_count)
        order = list(self._split.train)
        random.Random(f"{self._seed}:pass:{passes}").shuffle(order)
        return self._view(order[within_pass], augment, random.Random(f"{self._seed}:view:{index}"))

    def _pooled_view(self, position: int, augment: AugmentConfig) -> tuple[Image, random.Random]:
        rng = random.Random(f"{self._seed}:pooled:{position}")
        return self._view(self._split.train[position // augment.views], augment, rng)

    def _view(self, picture: int, augment: AugmentConfig, rng: random.Random) -> tuple[Image, random.Random]:
        large = dataclasses.replace(augment, crop=augment.crop * self._scale)
        return random_view(self._gallery[picture], self._large_frame(), large, rng), rng

    def _training_input(self, view: Image, rng: random.Random, augment: AugmentConfig) -> np.ndarray:
        import numpy as np

        if self._scale > 1:
            size = dataclasses.replace(self._frame, height=view.height // self._scale, width=view.width // self._scale)
            view = whole_view(view, size)
        if self._tensor.kind is Kind.LABEL_MAP:
            return as_input(np.asarray(view), self._tensor)
        picture = _as_picture(view)
        if augment.jitter:
            picture = jitter(picture, augment.jitter, rng)
        return self._finish(picture, rng)

    def _large(self, position: int) -> Image:
        return whole_view(self._gallery[position], self._large_frame())

    def _large_frame(self) -> Frame:
        return dataclasses.replace(self._frame, height=self._frame.height * self._scale, width=self._frame.width * self._scale)

    def _reduced(self, position: int) -> Image:
        """Return the picture at the input size; for a super-resolver by way of the output size, as its truth is."""
        if self._scale == 1:
            return whole_view(self._gallery[position], self._frame)
        return whole_view(self._large(position), self._frame)

    def _as_seen(self, view: Image, what: str) -> np.ndarray:
        import numpy as np

        if self._tensor.kind is Kind.LABEL_MAP:
            return as_input(np.asarray(view), self._tensor)
        return self._finish(_as_picture(view), random.Random(f"{self._seed}:{what}"))

    def _finish(self, picture: np.ndarray, rng: random.Random) -> np.ndarray:
        if self._settings.darken:
            picture = darken(picture, self._settings.darken, rng)
        return as_input(picture, self._tensor)


class DrawnSource:
    """Latents, noise and class ids: drawn from seeds, no data needed. `in_turn`: the classes calibrate one by one."""

    limit: int | None = None

    def __init__(self, tensor: TensorSpec, *, seed: int, index: int, in_turn: bool = False) -> None:
        self._tensor, self._seed, self._index, self._in_turn = tensor, seed, index, in_turn
        if tensor.kind is Kind.CLASS and not _is_one_hot(tensor) and tensor.high is None:
            fact = f"input '{tensor.name}' takes a class id but does not say how many classes there are"
            raise DataError(fact, hint="the spec's 'high' is the largest id")

    def train(self, step: int, batch: int, augment: AugmentConfig) -> torch.Tensor:
        """Return (N, ...) of the distribution of the spec."""
        import torch

        rng = random.Random(f"{self._seed}:train:{self._index}:{step}")
        if self._tensor.kind is Kind.CLASS:
            import numpy as np

            from edgegen.runtime.latents import draw

            return torch.from_numpy(np.concatenate([draw(self._tensor, rng.getrandbits(63)) for _ in range(batch)]))
        generator = torch.Generator().manual_seed(rng.getrandbits(63))
        shape = (batch, *self._tensor.shape)
        if self._tensor.low is None or self._tensor.high is None:
            return torch.randn(shape, generator=generator)
        return torch.rand(shape, generator=generator) * (self._tensor.high - self._tensor.low) + self._tensor.low

    def pooled(self, position: int, augment: AugmentConfig) -> np.ndarray:
        """Return the input of a seed of 63 random bits: one that is held out is as unlikely as in endless training."""
        from edgegen.runtime.latents import draw

        return draw(self._tensor, random.Random(f"{self._seed}:pooled:{self._index}:{position}").getrandbits(63))

    def held_out(self, position: int) -> np.ndarray:
        """Return the input of the seed that belongs to `position`; the runtime draws the same from it."""
        return self._draw(position)

    def calibration(self, position: int, count: int) -> np.ndarray:
        """Return an input from seeds that are never held out."""
        if self._in_turn and self._tensor.kind is Kind.CLASS:
            return self._class(position)
        return self._draw(_HALF_SEEDS + position)

    def _class(self, position: int) -> np.ndarray:
        """Return class number `position`, counted round and round, batch axis 1."""
        import numpy as np

        tensor = self._tensor
        if _is_one_hot(tensor):
            return np.eye(tensor.shape[0], dtype=tensor.dtype)[[position % tensor.shape[0]]]
        low, high = int(tensor.low or 0), int(tensor.high or 0)
        return np.full((1, *tensor.shape), low + position % (high - low + 1), dtype=tensor.dtype)

    def _draw(self, position: int) -> np.ndarray:
        from edgegen.runtime.latents import draw

        return draw(self._tensor, (self._seed << 20) + position, self._index)


def as_input(given: np.ndarray, tensor: TensorSpec) -> np.ndarray:
    """Return a picture (H, W, C) or class ids (H, W), uint8, of any size, as the input `tensor`, batch axis 1."""
    from edgegen.runtime.pictures import to_tensor

    size = {"H": given.shape[0], "W": given.shape[1], "C": tensor.channels}
    return to_tensor(given, dataclasses.replace(tensor, shape=tuple(size[axis] for axis in tensor.layout.value)))


def _as_truth(views: list[Image]) -> torch.Tensor:
    import numpy as np
    import torch

    return torch.from_numpy(np.stack([_as_picture(view) for view in views])).permute(0, 3, 1, 2).float() / 255


def _as_picture(view: Image) -> np.ndarray:
    """Return (H, W, C), uint8; C is 1 for a grey view."""
    import numpy as np

    values = np.asarray(view)
    return values if values.ndim == 3 else values[:, :, None]


def _is_one_hot(tensor: TensorSpec) -> bool:
    return tensor.dtype.startswith("float") and len(tensor.shape) == 1 and tensor.shape[0] > 1
