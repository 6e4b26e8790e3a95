"""Blur: steepness that the reference has and the produced picture lost. Pictures are float arrays (H, W, C) in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgegen.quality.areas import spread

_AREA = 16  # pixels


def blur(produced: Sequence[NDArray], reference: Sequence[NDArray]) -> float:
    """Return the share of the gradient energy, relative to the contrast, that is lost: 0 none, 1 all; the mean over pictures.

    The energy is the mean squared difference of neighbouring pixels, the contrast the variance: a darker or paler picture is not
    blurred. Noise and grids add energy and are the business of others; a flat picture has no gradient to lose.
    """
    ratios = [_sharpness(a) / (_sharpness(b) or 1.0) if _sharpness(b) and a.var() else 1.0 for a, b in zip(produced, reference)]
    return max(0.0, 1.0 - float(np.mean(ratios)))


def blur_map(produced: NDArray, reference: NDArray) -> NDArray[np.float32]:
    """Return the lost share per 16x16 area, (H, W), 0 where the reference itself is nearly flat (below 1 level a pixel)."""
    ours, theirs = (_areas(_energy(picture)) for picture in (produced, reference))
    flat = theirs < (1 / 255) ** 2
    lost = np.where(flat, 0.0, np.clip(1 - ours / np.maximum(theirs, 1e-12), 0, 1))
    size = (produced.shape[0], produced.shape[1])
    return spread(lost, _area(size), size)


def _sharpness(picture: NDArray) -> float:
    """Return the gradient energy over the variance of the mean over the channels; 0 for a flat picture."""
    variance = float(picture.mean(axis=2).var())
    return float(_energy(picture).mean()) / variance if variance > 1e-9 else 0.0


def _energy(picture: NDArray) -> NDArray:
    """Return the squared length of the gradient of the mean over the channels, (H, W); the last row and column repeat."""
    grey = picture.mean(axis=2)
    return np.diff(grey, axis=0, append=grey[-1:]) ** 2 + np.diff(grey, axis=1, append=grey[:, -1:]) ** 2


def _area(size: tuple[int, int]) -> tuple[int, int]:
    return min(_AREA, size[0]), min(_AREA, size[1])


def _areas(values: NDArray) -> NDArray:
    rows, cols = _area((values.shape[0], values.shape[1]))
    down, across = values.shape[0] // rows, values.shape[1] // cols
    return values[: down * rows, : across * cols].reshape(down, rows, across, cols).mean(axis=(1, 3))
