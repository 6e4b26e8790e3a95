"""Views of a picture: the whole of it as at run time, and random windows of it for training. One resize per view."""

from __future__ import annotations

import dataclasses
import math
import random
from typing import TYPE_CHECKING

from edgegen.data.calibration import Darken, Fit, Preprocess, Resample
from edgegen.recipe import AugmentConfig

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image


@dataclasses.dataclass(frozen=True)
class Frame:
    """How pictures come to the size (height, width) that a generator sees at run time."""

    height: int
    width: int
    preprocess: Preprocess
    zoom: tuple[float, float] = (1.0, 1.0)


def whole_view(image: Image, frame: Frame) -> Image:
    """Return the picture as at run time: scaled to cover the frame and cut around its centre, or stretched."""
    width, height = _window(image, frame)
    left, top = (image.width - width) / 2, (image.height - height) / 2
    return _cut(image, (left, top, left + width, top + height), (frame.width, frame.height), frame)


def random_view(image: Image, frame: Frame, augment: AugmentConfig, rng: random.Random) -> Image:
    """Return a random window at about the scale of run time, flipped and rotated as `augment` says.

    It is a square of `augment.crop` pixels, but no larger than the frame; with a crop of 0 it has the size of the frame.
    """
    from PIL import ImageOps

    side = min(augment.crop, frame.width, frame.height)
    out_width, out_height = (side, side) if side else (frame.width, frame.height)
    zoom = math.exp(rng.uniform(math.log(frame.zoom[0]), math.log(frame.zoom[1])))
    angle = rng.uniform(-augment.rotate_degrees, augment.rotate_degrees) if augment.rotate_degrees else 0.0
    grown_width, grown_height = _grown(out_width, out_height, angle) if angle else (out_width, out_height)

    base_width, base_height = _window(image, frame)
    width = base_width * grown_width / frame.width / zoom
    height = base_height * grown_height / frame.height / zoom
    shrink = min(1.0, image.width / width, image.height / height)  # a window cannot leave the picture
    width, height = width * shrink, height * shrink
    left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)

    view = _cut(image, (left, top, left + width, top + height), (grown_width, grown_height), frame)
    if angle:
        view = _rotate(view, angle, (out_width, out_height), frame)
    if augment.flip and rng.random() < 0.5:
        view = ImageOps.mirror(view)
    return view


def jitter(picture: np.ndarray, strength: float, rng: random.Random) -> np.ndarray:
    """Vary brightness, contrast and saturation of a picture (H, W, C), uint8, by factors in [1 - strength, 1 + strength]."""
    import numpy as np

    brightness, contrast, saturation = (rng.uniform(1 - strength, 1 + strength) for _ in range(3))
    values = picture.astype(np.float32) * brightness
    values = (values - values.mean()) * contrast + values.mean()
    grey = values.mean(axis=2, keepdims=True)
    return _to_uint8(grey + (values - grey) * saturation)


def darken(picture: np.ndarray, settings: Darken, rng: random.Random) -> np.ndarray:
    """Darken a picture (H, W, C), uint8, as a camera at night would: gamma, gain, then normal noise."""
    import numpy as np

    gamma, gain, deviation = (rng.uniform(*interval) for interval in (settings.gamma, settings.gain, settings.noise))
    noise = np.random.default_rng(rng.getrandbits(64)).standard_normal(picture.shape, np.float32)
    dark = gain * (picture.astype(np.float32) / 255) ** gamma + deviation * noise
    return _to_uint8(dark * 255)


def _to_uint8(values: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _window(image: Image, frame: Frame) -> tuple[float, float]:
    """Return width and height, in pixels of the picture, of what fills the frame at run time."""
    if frame.preprocess.fit is Fit.STRETCH:
        return image.width, image.height
    scale = max(frame.width / image.width, frame.height / image.height)
    return min(image.width, frame.width / scale), min(image.height, frame.height / scale)


def _cut(image: Image, box: tuple[float, float, float, float], size: tuple[int, int], frame: Frame) -> Image:
    left, top, right, bottom = box
    inside = (max(0.0, left), max(0.0, top), min(image.width, right), min(image.height, bottom))  # rounding may step outside
    return image.resize(size, _filter(frame), box=inside)


def _grown(width: int, height: int, angle: float) -> tuple[int, int]:
    """Return width and height of a view from which, rotated by `angle` degrees, width x height can be cut without a corner."""
    sine, cosine = abs(math.sin(math.radians(angle))), abs(math.cos(math.radians(angle)))
    margin = 4  # interpolation blends the outermost pixels with the emptiness around them
    return math.ceil(width * cosine + height * sine) + margin, math.ceil(width * sine + height * cosine) + margin


def _rotate(view: Image, angle: float, size: tuple[int, int], frame: Frame) -> Image:
    """Rotate around the centre and cut out `size`, which the caller made small enough to hold no corner."""
    from PIL import Image

    nearest = frame.preprocess.resample is Resample.NEAREST
    view = view.rotate(angle, Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR, expand=True)
    left, top = (view.width - size[0]) // 2, (view.height - size[1]) // 2
    return view.crop((left, top, left + size[0], top + size[1]))


def _filter(frame: Frame) -> int:
    from PIL import Image

    return Image.Resampling[frame.preprocess.resample.name]
