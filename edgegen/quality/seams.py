"""Tiling seams: straight lines along which the error jumps. Pictures are float arrays (H, W, C) in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_PIECE = 16  # pixels of a line that are averaged: grain and strokes average out, a seam does not
_NEAR = 3  # lines on both sides whose steepness hides a jump
_BORDER = 8  # pixels along the picture's border are left out: another padding shows there, not a tile
_SMALLEST = 48  # pixels; below it a picture is no tiles
_FEWEST = 10  # pieces of a line, over all pictures: fewer may all jump by chance
_VISIBLE_LEVELS = 1.5  # of 255, on a flat ground


def seams(produced: Sequence[NDArray], reference: Sequence[NDArray]) -> float:
    """Return along which share of its length the worst straight line shows a jump of the error, over all pictures.

    A network that runs tile by tile pads at the borders of its tiles, so its error changes there at once. A piece of 16 pixels
    shows a jump that exceeds 1.5 levels, three times the usual jump (grain) and what the reference's own steepness nearby
    hides (an edge that moved or softened). Lines of pictures of equal size lie at the same places, and edges of the scene do
    not. Pictures below 48 pixels a side, and fewer than 10 pieces, count as clean.
    """
    found: dict[tuple[int, int], list[NDArray]] = {}
    for a, b in zip(produced, reference, strict=True):
        if min(a.shape[:2]) >= _SMALLEST:
            for axis in (0, 1):
                found.setdefault((axis, a.shape[axis]), []).append(_jumps(a, b, axis) > 0)
    lines = [np.concatenate(pieces, axis=1) for pieces in found.values()]
    return max((float(line.mean(axis=1).max()) for line in lines if line.shape[1] >= _FEWEST), default=0.0)


def seam_map(produced: NDArray, reference: NDArray) -> NDArray[np.float32]:
    """Return by how many 8-bit levels the error jumps visibly, (H, W), along lines at which it does so for half their length."""
    made = np.zeros(produced.shape[:2], np.float32)
    if min(made.shape) < _SMALLEST:
        return made
    for axis in (0, 1):
        jumps = _jumps(produced, reference, axis)
        lines = np.where((jumps > 0).mean(axis=1) > 0.5, jumps.mean(axis=1), 0.0)
        drawn = np.zeros(made.shape[axis], np.float32)
        for near in (0, 1):  # two pixels wide: one on each side of the jump
            part = drawn[_BORDER + near : _BORDER + near + len(lines)]
            np.maximum(part, lines, out=part)
        made = np.maximum(made, drawn[:, None] if axis == 0 else drawn[None, :])
    return made


def _jumps(produced: NDArray, reference: NDArray, axis: int) -> NDArray:
    """Return by how many levels the error's mean step behind each line is more than can hide, (lines, pieces), worst channel."""
    from scipy.ndimage import uniform_filter1d

    step = np.abs(_steps(_pieces(produced - reference, axis)))
    hidden = uniform_filter1d(np.abs(_steps(_pieces(reference, axis))), 2 * _NEAR + 1, axis=0, mode="nearest")
    usual = 3 * np.median(step, axis=(0, 1))
    return np.maximum(step - _VISIBLE_LEVELS - usual - hidden, 0.0).max(axis=2)[_BORDER:-_BORDER]


def _pieces(picture: NDArray, axis: int) -> NDArray:
    """Return the means over pieces of 16 pixels of every line across `axis`, in levels: (lines, pieces, C)."""
    lines = (picture if axis == 0 else picture.transpose(1, 0, 2))[:, _BORDER:-_BORDER] * 255
    count = lines.shape[1] // _PIECE
    return lines[:, : count * _PIECE].reshape(len(lines), count, _PIECE, -1).mean(axis=2)


def _steps(pieces: NDArray) -> NDArray:
    return np.diff(pieces, axis=0)
