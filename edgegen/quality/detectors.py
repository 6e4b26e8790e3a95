"""Faults that eyes see at once and means hide: tints, grids, bands, black pictures. Each is judged against a reference.

A reference is the teacher's picture of the same input. A teacher may have a grid or burnt-out whites of its own, so only what
the produced pictures add counts. Pictures are float arrays (H, W, C), C = 1 or 3, 0 = black, 1 = white.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgegen.quality.metrics import check_pairs


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one detector measured. `failed` means `value` is above `threshold`; `sentence` says it for people."""

    name: str
    value: float
    threshold: float
    failed: bool
    sentence: str


@dataclasses.dataclass(frozen=True)
class _Detector:
    name: str
    threshold: float
    measure: Callable[[Sequence[NDArray], Sequence[NDArray]], float]
    sentence: str  # {value} and {threshold} are filled in


def detect(produced: Sequence[NDArray], reference: Sequence[NDArray]) -> list[Finding]:
    """Run every detector on pairs of pictures and return one finding each, failed or not, always in the same order.

    Raises DataError when the pictures cannot be paired. NaN and Inf are reported as such and are black to the others.
    """
    check_pairs(produced, reference)
    shown = [np.clip(np.where(np.isfinite(p), p, 0.0), 0.0, 1.0).astype(np.float64) for p in produced]
    truth = [np.clip(r, 0.0, 1.0).astype(np.float64) for r in reference]
    findings = [_finding(_NONFINITE, _nonfinite_share(produced, reference))]
    return findings + [_finding(detector, detector.measure(shown, truth)) for detector in _DETECTORS]


def _finding(detector: _Detector, value: float) -> Finding:
    sentence = detector.sentence.format(value=value, threshold=detector.threshold)
    return Finding(detector.name, value, detector.threshold, value > detector.threshold, sentence)


# --- colour -------------------------------------------------------------------------------------------------------


def colour_shift(produced: Sequence[NDArray], reference: Sequence[NDArray]) -> float:
    """Return the CIE Lab distance (delta E 1976) that the local means of a picture share, averaged over the pictures.

    The differences of an 8x8 grid of local means are averaged before their length is taken: a style student that moves
    strokes differs by 8.6 in a typical cell and by 1.1 in all of them together, and shows no tint.
    """
    shifts = [(_local_lab(a) - _local_lab(b)).reshape(-1, 3).mean(axis=0) for a, b in zip(produced, reference, strict=True)]
    return float(np.linalg.norm(shifts, axis=1).mean())


def _local_lab(picture: NDArray, cells: int = 8) -> NDArray:
    """Return CIE Lab (D65) of the means of cells x cells areas, each (cells, cells, 3); an uneven rest is left out."""
    rows, cols = max(1, picture.shape[0] // cells), max(1, picture.shape[1] // cells)
    fitting = picture[: picture.shape[0] // rows * rows, : picture.shape[1] // cols * cols]
    means = fitting.reshape(fitting.shape[0] // rows, rows, fitting.shape[1] // cols, cols, -1).mean(axis=(1, 3))
    return _lab(np.broadcast_to(means, (*means.shape[:2], 3)))


def _lab(srgb: NDArray) -> NDArray:
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratio = linear @ to_xyz.T / to_xyz.sum(axis=1)
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


# --- grids --------------------------------------------------------------------------------------------------------

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


# --- bands --------------------------------------------------------------------------------------------------------


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


def _windows(picture: NDArray, side: int = 16) -> NDArray:
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


# --- lost pixels --------------------------------------------------------------------------------------------------


def black_share(produced: Sequence[NDArray], reference: Sequence[NDArray]) -> float:
    """Return the share of pixels that turned black, in the worst picture: all channels at most one level, reference 16 above."""
    return max(float(_lost(a, b).mean()) for a, b in zip(produced, reference, strict=True))


def saturated_share(produced: Sequence[NDArray], reference: Sequence[NDArray]) -> float:
    """Return the share of pixels that burnt out, in the worst picture: a channel within a level of white, reference 16 below."""
    burnt = ((a >= 254 / 255) & (b <= a - 16 / 255) for a, b in zip(produced, reference, strict=True))
    return max(float(share.any(axis=2).mean()) for share in burnt)


def _lost(produced: NDArray, reference: NDArray) -> NDArray:
    return (produced.max(axis=2) <= 1 / 255) & (reference.max(axis=2) >= 17 / 255)


def _nonfinite_share(produced: Sequence[NDArray], reference: Sequence[NDArray]) -> float:
    return max(float(1.0 - np.isfinite(a).mean()) for a in produced)


# Thresholds lie between what good pictures and planted faults measured on street photos and on style_rain_princess:
#   colour shift 1.1 for a student of SSIM 0.67, 2.2 for 2 % more red (which eyes miss), 4.4 for 4 %
#   grid in 0.4 % of the areas of that student, in 0.6 % of a sharpened photo; in 14 % after 60 steps, when green dots show
#   banding 0.12 for 8 % noise, 0.32 for 128 levels (which eyes miss); 0.55 to 0.73 for 64 to 16 levels
#   black and saturated 0.01 for that student
_NONFINITE = _Detector("nonfinite", 0.0, _nonfinite_share, "{value:.2%} of the values of the worst picture are NaN or Inf")
_DETECTORS = (
    _Detector("colour_shift", 3.0, colour_shift, "colours are off by {value:.1f} delta E on average (limit {threshold:.1f})"),
    _Detector(
        "checkerboard",
        0.02,
        checkerboard,
        "a grid at the stride frequencies covers {value:.1%} of the area (limit {threshold:.0%})",
    ),
    _Detector("banding", 0.4, banding, "{value:.0%} of the levels are missing in smooth areas (limit {threshold:.0%})"),
    _Detector("black", 0.1, black_share, "{value:.1%} of the worst picture turned black (limit {threshold:.0%})"),
    _Detector("saturated", 0.1, saturated_share, "{value:.1%} of the worst picture burnt out (limit {threshold:.0%})"),
)
