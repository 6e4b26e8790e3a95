"""Checkerboards: grids at the frequencies of the upsampling strides. Pictures are float arrays (H, W, C) in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgegen.quality.areas import spread

_AREA = 32  # pixels; a grid often shows in a few flat places only
_VISIBLE_LEVELS = 3.0  # 8-bit levels of a period 2 or 4 that a flat area shows; 98 % of a sharpened photo stays below 2.2
_VISIBLE_BLOCKS = 0.4  # of the mean steepness; pixels repeated 2 or 4 times give 0.6 to 0.9, good pictures at most 0.2


def checkerboard(produced: Sequence[NDArray], reference: Sequence[NDArray]) -> float:
    """Return the share of 32x32 areas in which a grid at the stride frequencies (periods 2 and 4) stands out of the reference's.

    Two kinds: an added pattern, in any channel (uneven overlap of transposed convolutions), and blocks of repeated pixels,
    whose own spectrum is zero exactly at the stride and which show in the steepness along rows and columns. Pictures below
    16 pixels have too few periods to tell and count as clean.
    """
    found = [_grid_areas(a, b) for a, b in zip(produced, reference, strict=True) if min(a.shape[:2]) >= _AREA // 2]
    return float(np.concatenate(found).mean()) if found else 0.0


def grid_map(produced: NDArray, reference: NDArray) -> NDArray[np.float32]:
    """Return 1 in the 32x32 areas in which an added grid shows, (H, W)."""
    size = (produced.shape[0], produced.shape[1])
    if min(size) < _AREA // 2:
        return np.zeros(size, np.float32)
    rows, cols = (min(_AREA, side // 4 * 4) for side in size)
    return spread(_grid_areas(produced, reference).reshape(size[0] // rows, size[1] // cols), (rows, cols), size)


def _grid_areas(produced: NDArray, reference: NDArray) -> NDArray:
    """Return for every area whether a grid shows in it, flat."""
    added = _added_pattern(produced) - _added_pattern(reference)
    blocks = _block_edges(produced) - _block_edges(reference)
    return ((added > _VISIBLE_LEVELS) | (blocks > _VISIBLE_BLOCKS)).ravel()


def _added_pattern(picture: NDArray) -> NDArray:
    """Return the strongest amplitude of a period of 2 or 4 per area, in 8-bit levels, of the worst channel."""
    from scipy.ndimage import uniform_filter1d

    detail = picture - uniform_filter1d(uniform_filter1d(picture, 4, axis=0, mode="mirror"), 4, axis=1, mode="mirror")
    return _stride_amplitude(_fold(detail * 255)).max(axis=2)


def _block_edges(picture: NDArray) -> NDArray:
    """Return the strongest amplitude of a period of 2 or 4 in the steepness, over its mean, per area; the worse of both axes."""
    luma = picture.mean(axis=2, keepdims=True) * 255
    down = np.abs(np.diff(luma, axis=0, append=luma[-1:]))
    across = np.abs(np.diff(luma, axis=1, append=luma[:, -1:]))
    folded = _fold(np.concatenate([down, across], axis=2))
    return (_stride_amplitude(folded) / (folded.mean(axis=(-2, -1)) + 1)).max(axis=2)  # 1 level: flat areas have no blocks


def _fold(signal: NDArray) -> NDArray:
    """Average all 4x4 tiles of every area: (H, W, C) to (rows, columns, C, 4, 4). Strides 2 and 4 survive, pictures do not."""
    rows, cols = (min(_AREA, side // 4 * 4) for side in signal.shape[:2])
    down, across = signal.shape[0] // rows, signal.shape[1] // cols
    fitting = signal[: down * rows, : across * cols]
    tiles = fitting.reshape(down, rows // 4, 4, across, cols // 4, 4, -1)
    return np.mean(tiles, axis=(1, 4)).transpose(0, 2, 4, 1, 3)


def _stride_amplitude(folded: NDArray) -> NDArray:
    """Return the largest Fourier coefficient of 4x4 tiles, the constant left out: exactly those of the whole area."""
    spectrum = np.abs(np.fft.fft2(folded)) / 16
    spectrum[..., 0, 0] = 0.0
    return spectrum.max(axis=(-2, -1))
