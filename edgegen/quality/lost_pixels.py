"""Pixels that are lost: not finite, turned black, burnt out. Pictures are float arrays (H, W, C) in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def black_share(produced: Sequence[NDArray], reference: Sequence[NDArray]) -> float:
    """Return the share of pixels that turned black, in the worst picture: all channels at most one level, reference 16 above."""
    return max(float(black_map(a, b).mean()) for a, b in zip(produced, reference, strict=True))


def saturated_share(produced: Sequence[NDArray], reference: Sequence[NDArray]) -> float:
    """Return the share of pixels that burnt out, in the worst picture: a channel within a level of white, reference 16 below."""
    return max(float(saturated_map(a, b).mean()) for a, b in zip(produced, reference, strict=True))


def nonfinite_share(produced: Sequence[NDArray], reference: Sequence[NDArray]) -> float:
    """Return the share of values that are NaN or infinite, in the worst picture."""
    return max(float(1.0 - np.isfinite(a).mean()) for a in produced)


def black_map(produced: NDArray, reference: NDArray) -> NDArray[np.float32]:
    """Return 1 where a pixel turned black, (H, W)."""
    return ((produced.max(axis=2) <= 1 / 255) & (reference.max(axis=2) >= 17 / 255)).astype(np.float32)


def saturated_map(produced: NDArray, reference: NDArray) -> NDArray[np.float32]:
    """Return 1 where a pixel burnt out, (H, W)."""
    return np.asarray(((produced >= 254 / 255) & (reference <= produced - 16 / 255)).any(axis=2), np.float32)


def nonfinite_map(produced: NDArray, reference: NDArray) -> NDArray[np.float32]:
    """Return 1 where a pixel has a value that is NaN or infinite, (H, W)."""
    return np.asarray((~np.isfinite(produced)).any(axis=2), np.float32)
