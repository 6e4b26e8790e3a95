"""What the curve of held-out quality says: whether training still helps, and what more of it would give."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_BETTER_DB, _BETTER_SSIM = 0.02, 5e-4  # less is the noise of the averaged weights between two evaluations
_TAIL = 8  # the fit leaves out the first eighth: warm-up, and an average that still holds the untrained weights
_LEAST_POINTS = 5
_EXPONENTS = np.linspace(0.0, 4.0, 81)
_OWN_ERROR = 0.5  # of the gain: in eight pairs of runs of n and 2 n steps (DCGAN, VAE decoder) it came 0.8 to 1.5 times

Point = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Outlook:
    """What twice the steps would add to the held-out PSNR, in dB, and how far from it that may be."""

    gain_db: float
    uncertainty_db: float
    points: int

    @property
    def text(self) -> str:
        """The same in a phrase."""
        if self.gain_db < _BETTER_DB:
            return "more steps would give nothing that can be seen in the curve"
        return f"twice the steps would give about {self.gain_db:+.1f} dB (+-{self.uncertainty_db:.1f})"


def has_stopped_improving(points: Sequence[Point], patience: int) -> bool:
    """Whether none of the last `patience` points is better than the best before them, by 0.02 dB or 0.0005 in SSIM; 0: never.

    `points` are evaluations in the order of steps, each with psnr_db and ssim.
    """
    if not patience or len(points) <= patience:
        return False
    before, last = points[:-patience], points[-patience:]
    for name, least in (("psnr_db", _BETTER_DB), ("ssim", _BETTER_SSIM)):
        if max(point[name] for point in last) >= max(point[name] for point in before) + least:
            return False
    return True


def outlook(points: Sequence[Point]) -> Outlook | None:
    """Return what the tail of the curve says of a run of twice the steps; None: there are too few points.

    Two answers, and their mean: the power law of learning curves (Hestness et al. 2017), psnr_db = a - b step^-c, by least
    squares in a and b for each c in [0, 4], where 0 is a logarithm; and the gain of the last doubling, as if the next gave as
    much. Alone the first is low, because within a run the falling learning rate flattens the end, and the second is high. The
    uncertainty is the largest of their distance, of what all c which fit nearly as well say, and of half the gain.
    """
    if not points:
        return None
    last = points[-1]["step"]
    tail = [point for point in points if point["step"] > 0 and point["step"] >= last / _TAIL]
    if len(tail) < _LEAST_POINTS:
        return None
    steps = np.array([point["step"] for point in tail], np.float64) / last
    quality = np.array([point["psnr_db"] for point in tail], np.float64)
    fits = [_fit(steps, quality, exponent) for exponent in _EXPONENTS]
    least, gain = min(fits)
    noise = least / max(1, len(tail) - 3)
    near = [other for error, other in fits if error <= least + 4.0 * noise]  # about two standard deviations
    doubling = float(quality[-1] - np.interp(0.5, steps, quality))
    gain, spread = (gain + doubling) / 2, max(abs(doubling - gain) / 2, max(near) - gain, gain - min(near))
    return Outlook(round(gain, 3), round(max(spread, _OWN_ERROR * abs(gain)), 3), len(tail))


def _fit(steps: np.ndarray, quality: np.ndarray, exponent: float) -> tuple[float, float]:
    """Return the squared error of the best a and b for one exponent, and the gain from step 1 to step 2 that they say."""
    shape = _shape(steps, exponent)
    design = np.stack([np.ones_like(shape), shape], axis=1)
    factors = np.linalg.lstsq(design, quality, rcond=None)[0]
    return float(((quality - design @ factors) ** 2).sum()), float(factors[1] * _shape(np.array(2.0), exponent))


def _shape(steps: np.ndarray, exponent: float) -> np.ndarray:
    """Return (1 - step^-exponent) / exponent, which is the logarithm in the limit of 0."""
    return np.log(steps) if exponent == 0.0 else (1.0 - steps**-exponent) / exponent


def outlook_facts(points: Sequence[Point]) -> dict[str, Any]:
    """Return the outlook as plain values for a record: `text` is always there."""
    found = outlook(points)
    if found is None:
        return {"text": f"too few evaluations to say what more steps would give ({len(points)}, at least {_LEAST_POINTS + 1})"}
    return dataclasses.asdict(found) | {"text": found.text}
