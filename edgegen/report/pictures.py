"""Pictures of the report: PNG inside data URIs, so that the page needs no second file."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray

DIFFERENCE_GAIN = 8


def png_uri(picture: NDArray) -> str:
    """Return a uint8 picture (H, W, C), C = 1 or 3, as a `data:image/png;base64,` URI."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def difference(produced: NDArray, reference: NDArray) -> NDArray:
    """Return |produced - reference| of two uint8 pictures, 8 times enlarged and clipped to white: black means equal."""
    distance = np.abs(produced.astype(np.int16) - reference.astype(np.int16))
    return np.minimum(distance * DIFFERENCE_GAIN, 255).astype(np.uint8)


def overlay(picture: NDArray, heat: NDArray) -> NDArray:
    """Return a uint8 picture (H, W, C) in dim grey under a heat map (H, W) in [0, 1]: red where it is hot, yellow at 1."""
    grey = np.repeat(picture.mean(axis=2, keepdims=True) * 0.5 + 32, 3, axis=2)
    colour = np.stack([np.full_like(heat, 255.0), 220 * heat**2, np.zeros_like(heat)], axis=-1)
    strength = (np.sqrt(heat) * 0.85)[..., None]
    return np.rint(grey * (1 - strength) + colour * strength).astype(np.uint8)


def to_unit(picture: NDArray) -> NDArray:
    """Return a uint8 picture as float32 in [0, 1]."""
    return picture.astype(np.float32) / 255
