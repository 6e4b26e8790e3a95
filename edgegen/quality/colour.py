"""Colour shifts: a tint that a whole picture shares, in CIEDE2000, and the bias of each channel in 8-bit levels.

Pictures are float arrays (H, W, C) in [0, 1], sRGB; grey ones have C = 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgegen.quality.areas import spread

_CELLS = 8  # a side


def colour_shift(produced: Sequence[NDArray], reference: Sequence[NDArray]) -> float:
    """Return the mean CIEDE2000 of the colour shift that all of a picture shares, averaged over the pictures.

    The Lab differences of an 8x8 grid of local means are averaged, and each cell of the reference is compared with itself so
    shifted: a style student that moves strokes differs by 8 in a typical cell and by 1 in all of them together, and shows no
    tint.
    """
    return float(np.mean([_shared_shift(a, b).mean() for a, b in zip(produced, reference, strict=True)]))


def channel_bias(produced: Sequence[NDArray], reference: Sequence[NDArray]) -> float:
    """Return by how many 8-bit levels the most biased channel is off on average, over all pictures."""
    return float(np.abs(channel_biases(produced, reference)).max())


def channel_biases(produced: Sequence[NDArray], reference: Sequence[NDArray]) -> NDArray:
    """Return the mean difference of each channel (C,) over all pictures, in 8-bit levels; positive where produced is brighter."""
    per_picture = [(a - b).mean(axis=(0, 1)) for a, b in zip(produced, reference, strict=True)]
    return np.mean(per_picture, axis=0) * 255


def colour_map(produced: NDArray, reference: NDArray) -> NDArray[np.float32]:
    """Return the CIEDE2000 of the shared shift where it is seen, (H, W): the tint as each cell of the picture shows it."""
    size = (produced.shape[0], produced.shape[1])
    return spread(_shared_shift(produced, reference), _cell(size), size)


def bias_map(produced: NDArray, reference: NDArray) -> NDArray[np.float32]:
    """Return the largest difference of the local means over the channels, (H, W), in 8-bit levels."""
    size = (produced.shape[0], produced.shape[1])
    return spread(np.abs(_means(produced) - _means(reference)).max(axis=2) * 255, _cell(size), size)


def _shared_shift(produced: NDArray, reference: NDArray) -> NDArray:
    theirs = _lab(_means(reference))
    shift = (_lab(_means(produced)) - theirs).mean(axis=(0, 1))
    return ciede2000(theirs + shift, theirs)


def _cell(size: tuple[int, int]) -> tuple[int, int]:
    return max(1, size[0] // _CELLS), max(1, size[1] // _CELLS)


def _means(picture: NDArray) -> NDArray:
    """Return the mean colours of 8x8 areas, (8, 8, C); an uneven rest is left out."""
    rows, cols = _cell((picture.shape[0], picture.shape[1]))
    fitting = picture[: picture.shape[0] // rows * rows, : picture.shape[1] // cols * cols]
    return fitting.reshape(fitting.shape[0] // rows, rows, fitting.shape[1] // cols, cols, -1).mean(axis=(1, 3))


def _lab(srgb: NDArray) -> NDArray:
    """Return CIE Lab (D65, 2 degrees) of colours (..., 1) or (..., 3)."""
    srgb = np.broadcast_to(srgb, (*srgb.shape[:-1], 3))
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratio = linear @ to_xyz.T / to_xyz.sum(axis=1)
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def ciede2000(one: NDArray, other: NDArray) -> NDArray:
    """Return the CIEDE2000 difference of CIE Lab colours (..., 3), with all parametric factors 1.

    After Sharma, Wu and Dalal, "The CIEDE2000 color-difference formula", Color Research and Application 30 (2005), whose 34
    test pairs it reproduces to their four decimals.
    """
    light, a, b = (np.stack([one[..., i], other[..., i]]) for i in range(3))
    chroma_7 = np.hypot(a, b).mean(axis=0) ** 7
    a = a * (1.5 - 0.5 * np.sqrt(chroma_7 / (chroma_7 + 25.0**7)))
    chroma, hue = np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360
    grey = chroma.prod(axis=0) == 0  # the hue of grey is none: that of the other colour counts
    apart = hue[1] - hue[0]
    turn = np.where(grey, 0.0, apart - 360 * (apart > 180) + 360 * (apart < -180))
    mean_hue = hue.mean(axis=0) + np.where(np.abs(apart) > 180, np.where(hue.sum(axis=0) < 360, 180, -180), 0)
    mean_hue = np.where(grey, hue.sum(axis=0), mean_hue)
    mean_light, mean_chroma = light.mean(axis=0), chroma.mean(axis=0)
    by_light = (light[1] - light[0]) / (1 + 0.015 * (mean_light - 50) ** 2 / np.sqrt(20 + (mean_light - 50) ** 2))
    by_chroma = (chroma[1] - chroma[0]) / (1 + 0.045 * mean_chroma)
    by_hue = 2 * np.sqrt(chroma.prod(axis=0)) * _sin(turn / 2) / (1 + 0.015 * mean_chroma * _hue_weight(mean_hue))
    rotation = _rotation(mean_chroma, mean_hue)
    squares = by_light**2 + by_chroma**2 + by_hue**2 + rotation * by_chroma * by_hue
    return np.sqrt(np.maximum(squares, 0.0))


def _hue_weight(hue: NDArray) -> NDArray:
    """Return T of the formula: how much eyes mind a change of hue there."""
    return 1 - 0.17 * _cos(hue - 30) + 0.24 * _cos(2 * hue) + 0.32 * _cos(3 * hue + 6) - 0.20 * _cos(4 * hue - 63)


def _rotation(chroma: NDArray, hue: NDArray) -> NDArray:
    """Return R_T of the formula, which ties chroma to hue in the blues."""
    return -2 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7)) * _sin(60 * np.exp(-(((hue - 275) / 25) ** 2)))


def _sin(degrees: NDArray) -> NDArray:
    return np.sin(np.radians(degrees))


def _cos(degrees: NDArray) -> NDArray:
    return np.cos(np.radians(degrees))
