"""How near produced pictures are to reference pictures: PSNR, SSIM, MS-SSIM, with intervals that say how sure that is.

Pictures here are float arrays (H, W, C), 0 = black, 1 = white. numpy and scipy only, so the host reads an artifact's
quality with no torch at hand.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgegen.errors import DataError

PSNR_CAP_DB = 100.0
_C1, _C2 = 0.01**2, 0.03**2  # Wang et al. 2004, for a value range of 1
_RADIUS, _SIGMA = 5, 1.5
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003
_RESAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over pictures and its interval; `low` and `high` are None when one picture alone cannot tell the spread."""

    mean: float
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True)
class PictureQuality:
    """One produced picture against its reference. `nonfinite` counts NaN and Inf values, which all metrics see as black."""

    psnr_db: float
    ssim: float
    ms_ssim: float
    max_abs: float
    nonfinite: int


@dataclasses.dataclass(frozen=True)
class Quality:
    """Produced pictures against reference pictures: means with 95 % intervals, and every single value they come from."""

    psnr_db: Estimate
    ssim: Estimate
    ms_ssim: Estimate
    max_abs: float
    nonfinite: int
    per_picture: tuple[PictureQuality, ...]

    @property
    def count(self) -> int:
        """Number of picture pairs."""
        return len(self.per_picture)

    def to_json(self) -> dict[str, Any]:
        """Return the plain JSON object; `from_json` reads it back."""
        return dataclasses.asdict(self) | {"count": self.count, "per_picture": [dataclasses.asdict(p) for p in self.per_picture]}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Quality:
        """Read what `to_json` wrote."""
        return Quality(
            psnr_db=Estimate(**value["psnr_db"]),
            ssim=Estimate(**value["ssim"]),
            ms_ssim=Estimate(**value["ms_ssim"]),
            max_abs=float(value["max_abs"]),
            nonfinite=int(value["nonfinite"]),
            per_picture=tuple(PictureQuality(**p) for p in value["per_picture"]),
        )


def compare(produced: Sequence[NDArray], reference: Sequence[NDArray], seed: int) -> Quality:
    """Compare pictures (H, W, C), float in [0, 1], pair by pair; `seed` draws the bootstrap of the intervals.

    Raises DataError when there is no pair, or a pair differs in shape, or a picture is not a float array.
    """
    check_pairs(produced, reference)
    pictures = tuple(_compare_one(a, b) for a, b in zip(produced, reference, strict=True))
    return Quality(
        psnr_db=_estimate([p.psnr_db for p in pictures], seed),
        ssim=_estimate([p.ssim for p in pictures], seed + 1),
        ms_ssim=_estimate([p.ms_ssim for p in pictures], seed + 2),
        max_abs=max(p.max_abs for p in pictures),
        nonfinite=sum(p.nonfinite for p in pictures),
        per_picture=pictures,
    )


def check_pairs(produced: Sequence[NDArray], reference: Sequence[NDArray]) -> None:
    """Raise DataError naming the first pair of pictures that cannot be compared."""
    if len(produced) != len(reference) or not produced:
        raise DataError(
            f"{len(produced)} produced pictures cannot be compared with {len(reference)} reference pictures",
            hint="give one reference per produced picture, at least one",
        )
    for index, (a, b) in enumerate(zip(produced, reference, strict=True)):
        if a.shape != b.shape or a.ndim != 3:
            raise DataError(f"picture {index} has shape {a.shape}, its reference {b.shape}", hint="both must be (H, W, C)")
        if a.dtype.kind != "f" or b.dtype.kind != "f":
            raise DataError(f"picture {index} is {a.dtype}, its reference {b.dtype}", hint="give float values in [0, 1]")


def psnr_db(produced: NDArray, reference: NDArray) -> float:
    """Return the peak signal-to-noise ratio of pictures in [0, 1], in dB.

    Capped at 100 dB, which identical pictures get: means stay finite, and above it only float rounding differs.
    """
    mse = float(np.mean((produced.astype(np.float64) - reference) ** 2))
    return min(PSNR_CAP_DB, -10.0 * math.log10(mse)) if mse > 0 else PSNR_CAP_DB


def ssim(produced: NDArray, reference: NDArray) -> float:
    """Return the structural similarity (Wang et al. 2004) of pictures (H, W, C) in [0, 1]: 1 for identical ones.

    11x11 gaussian window of sigma 1.5, mirrored at the borders, mean over all positions and channels.
    """
    return _similarity(produced.astype(np.float64), reference.astype(np.float64))[0]


def ms_ssim(produced: NDArray, reference: NDArray) -> float:
    """Return the multi-scale structural similarity (Wang et al. 2003) of pictures (H, W, C) in [0, 1].

    Five scales need a shorter side of at least 161 pixels (the window must fit into the smallest scale). Smaller pictures
    get as many scales as fit, with the first weights of the five rescaled to sum 1; negative contrasts count as 0.
    """
    a, b = produced.astype(np.float64), reference.astype(np.float64)
    count = scale_count(min(a.shape[:2]))
    weights = np.array(_SCALE_WEIGHTS[:count]) / sum(_SCALE_WEIGHTS[:count])
    product = 1.0
    for index, weight in enumerate(weights):
        whole, contrast = _similarity(a, b)
        product *= max(0.0, whole if index == count - 1 else contrast) ** weight
        a, b = _halve(a), _halve(b)
    return float(product)


def scale_count(side: int) -> int:
    """Return how many scales MS-SSIM uses for pictures whose shorter side has `side` pixels: 5 from 161 on, at least 1."""
    return max(1, sum(side > 2 * _RADIUS * 2**index for index in range(len(_SCALE_WEIGHTS))))


def bootstrap_interval(values: Sequence[float], seed: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval (2,000 resamples) of the mean of `values`; None for fewer than two values."""
    if len(values) < 2:
        return None
    sample = np.asarray(values, np.float64)
    random = np.random.default_rng(seed)
    # one resample at a time: 2,000 x 1,000 values at once would be 16 MB for nothing
    means = np.array([sample[random.integers(0, len(sample), len(sample))].mean() for _ in range(_RESAMPLES)])
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _estimate(values: Sequence[float], seed: int) -> Estimate:
    low, high = bootstrap_interval(values, seed) or (None, None)
    return Estimate(float(np.mean(values)), low, high)


def _compare_one(produced: NDArray, reference: NDArray) -> PictureQuality:
    nonfinite = int(produced.size - np.isfinite(produced).sum())
    shown = np.where(np.isfinite(produced), produced, 0.0)
    return PictureQuality(
        psnr_db=psnr_db(shown, reference),
        ssim=ssim(shown, reference),
        ms_ssim=ms_ssim(shown, reference),
        max_abs=float(np.max(np.abs(shown - reference))),
        nonfinite=nonfinite,
    )


def _similarity(a: NDArray, b: NDArray) -> tuple[float, float]:
    """Return the means of SSIM and of its contrast-structure factor, the latter without the mirrored border."""
    height, width, channels = a.shape
    moments = _blur(np.concatenate([a, b, a * a, b * b, a * b], axis=2)).reshape(height, width, 5, channels)
    mean_a, mean_b, square_a, square_b, product = (moments[:, :, index] for index in range(5))
    variance_a = np.maximum(square_a - mean_a**2, 0.0)
    variance_b = np.maximum(square_b - mean_b**2, 0.0)
    contrast = (2 * (product - mean_a * mean_b) + _C2) / (variance_a + variance_b + _C2)
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    inner = contrast[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]
    return float(np.mean(luminance * contrast)), float(np.mean(inner)) if inner.size else float(np.mean(contrast))


def _blur(values: NDArray) -> NDArray:
    from scipy.ndimage import correlate1d

    taps = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA) ** 2)
    taps /= taps.sum()
    return correlate1d(correlate1d(values, taps, axis=0, mode="mirror"), taps, axis=1, mode="mirror")


def _halve(picture: NDArray) -> NDArray:
    """Average 2x2 pixels; an odd last row or column is left out."""
    height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
    even = picture[:height, :width]
    return (even[0::2, 0::2] + even[1::2, 0::2] + even[0::2, 1::2] + even[1::2, 1::2]) / 4
