"""Drawn pictures, for trials without data: shapes on gradients, never noise, and only when a calibration file asks for them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

_SHAPES = 12


def draw_photo(size: tuple[int, int], *, seed: int) -> Image:
    """Return an RGB picture of `size` (height, width), at least 64 pixels a side: shaded background, ellipses and boxes."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFilter

    rng = random.Random(f"photo:{seed}")
    height, width = max(64, size[0]), max(64, size[1])
    corners = np.array([[[rng.uniform(0, 255) for _ in range(3)] for _ in range(2)] for _ in range(2)])
    down, across = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    top = corners[0, 0] * (1 - across) + corners[0, 1] * across
    bottom = corners[1, 0] * (1 - across) + corners[1, 1] * across
    image = Image.fromarray((top * (1 - down) + bottom * down).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(_SHAPES):
        colour = tuple(rng.randrange(256) for _ in range(3))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape(_box(rng, height, width), fill=colour)
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.0, 1.5)))


def draw_label_map(size: tuple[int, int], *, classes: int, seed: int) -> Image:
    """Return a label map of `size` (height, width), mode "L": bands and boxes of the class ids 0..classes-1."""
    from PIL import Image, ImageDraw

    rng = random.Random(f"labels:{seed}")
    height, width = size
    image = Image.new("L", (width, height), rng.randrange(classes))
    draw = ImageDraw.Draw(image)
    horizon = rng.randrange(height)
    draw.rectangle((0, horizon, width, height), fill=rng.randrange(classes))
    for _ in range(_SHAPES):
        draw.rectangle(_box(rng, height, width), fill=rng.randrange(classes))
    return image


def _box(rng: random.Random, height: int, width: int) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom of a box of a twentieth to a half of each side."""
    across, down = width * rng.uniform(0.05, 0.5), height * rng.uniform(0.05, 0.5)
    left, top = rng.uniform(0, width - across), rng.uniform(0, height - down)
    return (left, top, left + across, top + down)
