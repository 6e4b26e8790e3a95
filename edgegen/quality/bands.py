"""Banding: grey levels that went missing where the reference runs smoothly. Pictures are float arrays (H, W, C) in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgegen.quality.areas import spread

_SIDE = 16  # pixels of a window


def banding(produced: Sequence[NDArray], reference: Sequence[NDArray]) -> float:
    """Return the share of 8-bit levels that went missing in smooth areas: 0 none, 1 all.

    A smooth area is a 16x16 window in which the reference spans 8 to 96 levels. Used levels over spanned levels, each in its
    own picture, so that blur (which spans less) is no fault; a picture that uses more levels than its reference gives 0.
    """
    missing = []
    for a, b in zip(produced, reference, strict=True):
        found, wanted = _windows(a), _windows(b)
        span = np.ptp(wanted, axis=1)
        smooth = (span >= 8) & (span <= 96)
        missing.append(_used_share(wanted[smooth]) - _used_share(found[smooth]))
    every = np.concatenate(missing)
    return max(0.0, float(every.mean())) if every.size else 0.0


def band_map(produced: NDArray, reference: NDArray) -> NDArray[np.float32]:
    """Return the missing share per smooth 16x16 window, mean over the channels, (H, W); 0 elsewhere."""
    size, channels = (produced.shape[0], produced.shape[1]), produced.shape[2]
    found, wanted = _windows(produced), _windows(reference)
    span = np.ptp(wanted, axis=1)
    missing = np.where((span >= 8) & (span <= 96), np.maximum(_used_share(wanted) - _used_share(found), 0.0), 0.0)
    rows, cols = min(_SIDE, size[0]), min(_SIDE, size[1])
    return spread(missing.reshape(size[0] // rows, size[1] // cols, channels).mean(axis=2), (rows, cols), size)


def _windows(picture: NDArray, side: int = _SIDE) -> NDArray:
    """Return 8-bit levels of side x side windows of every channel, (count, side * side); an uneven rest is left out."""
    rows, cols = min(side, picture.shape[0]), min(side, picture.shape[1])
    levels = np.round(picture * 255).astype(np.int16)
    fitting = levels[: levels.shape[0] // rows * rows, : levels.shape[1] // cols * cols]
    tiles = fitting.reshape(fitting.shape[0] // rows, rows, fitting.shape[1] // cols, cols, -1)
    return tiles.transpose(0, 2, 4, 1, 3).reshape(-1, rows * cols)


def _used_share(windows: NDArray) -> NDArray:
    """Return distinct levels over spanned levels (at most half as many as pixels, which no window can fill) per window."""
    distinct = 1 + (np.diff(np.sort(windows, axis=1), axis=1) > 0).sum(axis=1)
    return np.minimum(1.0, distinct / np.minimum(np.ptp(windows, axis=1) + 1, windows.shape[1] // 2))
