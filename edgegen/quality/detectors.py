"""Faults that eyes see at once and means hide: tints, grids, bands, black pictures. Each is judged against a reference.

A reference is the teacher's picture of the same input. A teacher may have a grid or burnt-out whites of its own, so only what
the produced pictures add counts. Pictures are float arrays (H, W, C), C = 1 or 3, 0 = black, 1 = white.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgegen.quality.bands import band_map, banding
from edgegen.quality.blur import blur, blur_map
from edgegen.quality.colour import bias_map, channel_bias, channel_biases, colour_map, colour_shift
from edgegen.quality.grids import checkerboard, grid_map
from edgegen.quality.lost_pixels import black_map, black_share, nonfinite_map, nonfinite_share, saturated_map, saturated_share
from edgegen.quality.metrics import check_pairs
from edgegen.quality.seams import seam_map, seams

Pictures = Sequence[NDArray]


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
    measure: Callable[[Pictures, Pictures], float]
    locate: Callable[[NDArray, NDArray], NDArray]  # (H, W) in the units of `hot`
    hot: float  # what the brightest place of a heat map stands for
    sentence: str  # {value} and {threshold} are filled in


def detect(produced: Pictures, reference: Pictures) -> list[Finding]:
    """Run every detector on pairs of pictures and return one finding each, failed or not, always in the same order.

    Raises DataError when the pictures cannot be paired. NaN and Inf are reported as such and are black to the others.
    """
    check_pairs(produced, reference)
    shown, truth = [_shown(p) for p in produced], [_shown(r) for r in reference]
    return [_finding(d, d.measure(*((produced, reference) if d is _NONFINITE else (shown, truth)))) for d in _DETECTORS]


def describe_bias(produced: Pictures, reference: Pictures) -> str:
    """Return by how many 8-bit levels each channel is off on average: "R +1.0, G -0.3, B +4.2", or "+1.0" for grey pictures."""
    biases = channel_biases([_shown(p) for p in produced], [_shown(r) for r in reference])
    names = ("R ", "G ", "B ") if len(biases) == 3 else ("",) * len(biases)
    return ", ".join(f"{name}{bias:+.1f}" for name, bias in zip(names, biases, strict=True))


def heat_map(name: str, produced: NDArray, reference: NDArray) -> NDArray[np.float32]:
    """Return where the detector called `name` (of a Finding) sees its fault in one picture: (H, W), 0 nothing, 1 plainly."""
    detector = next(d for d in _DETECTORS if d.name == name)
    pair = (produced, reference) if detector is _NONFINITE else (_shown(produced), _shown(reference))
    return np.clip(detector.locate(*pair) / detector.hot, 0.0, 1.0).astype(np.float32)


def _shown(picture: NDArray) -> NDArray:
    return np.clip(np.where(np.isfinite(picture), picture, 0.0), 0.0, 1.0).astype(np.float64)


def _finding(detector: _Detector, value: float) -> Finding:
    sentence = detector.sentence.format(value=value, threshold=detector.threshold)
    return Finding(detector.name, value, detector.threshold, value > detector.threshold, sentence)


# Thresholds lie between what good pictures and planted faults measured on street photos and on style_rain_princess:
#   colour shift, CIEDE2000: 2.8 for 2 % more red (which eyes miss), 5.7 for a warmer picture, 5.9 for 4 % more red
#   channel bias: 5 levels for those 2 %, 10 for 4 %; 6 for a style student of 32 pixels, 0.2 to 3 for larger ones
#   grid in 0.4 % of the areas of a style student, in 0.6 % of a sharpened photo; in 14 % after 60 steps, when green dots show
#   banding 0.12 for 8 % noise, 0.32 for 128 levels (which eyes miss); 0.55 to 0.73 for 64 to 16 levels
#   blur 0.45 for displaced strokes, 0.6 for a gaussian of 0.7 pixels; 0.78 to 0.87 for 1.5 pixels, 0.9 for 2
#   seams along 0.33 of a line in noise and moved strokes; 0.67 for tiles that differ by 3 levels, 0.9 for zero padding in tiles
#   black and saturated 0.01 for a style student
_NONFINITE = _Detector(
    "nonfinite", 0.0, nonfinite_share, nonfinite_map, 1.0, "{value:.2%} of the values of the worst picture are NaN or Inf"
)
_DETECTORS = (
    _NONFINITE,
    _Detector("colour_shift", 4.0, colour_shift, colour_map, 10.0,
              "colours are off by {value:.1f} CIEDE2000 on average (limit {threshold:.1f})"),
    _Detector("channel_bias", 8.0, channel_bias, bias_map, 24.0,
              "a channel is off by {value:.1f} of 255 levels on average (limit {threshold:.0f})"),
    _Detector("checkerboard", 0.02, checkerboard, grid_map, 1.0,
              "a grid at the stride frequencies covers {value:.1%} of the area (limit {threshold:.0%})"),
    _Detector("banding", 0.4, banding, band_map, 1.0,
              "{value:.0%} of the levels are missing in smooth areas (limit {threshold:.0%})"),
    _Detector("blur", 0.75, blur, blur_map, 1.0, "{value:.0%} of the gradient energy is lost (limit {threshold:.0%})"),
    _Detector("seams", 0.55, seams, seam_map, 4.0,
              "along {value:.0%} of a straight line the error jumps, as at a seam of tiles (limit {threshold:.0%})"),
    _Detector("black", 0.1, black_share, black_map, 1.0,
              "{value:.1%} of the worst picture turned black (limit {threshold:.0%})"),
    _Detector("saturated", 0.1, saturated_share, saturated_map, 1.0,
              "{value:.1%} of the worst picture burnt out (limit {threshold:.0%})"),
)  # fmt: skip
