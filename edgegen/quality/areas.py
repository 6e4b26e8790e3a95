"""From values per area to a map of the whole picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def spread(values: NDArray, area: tuple[int, int], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return a map (H, W) of `size` in which every area of (rows, columns) shows its entry of `values` (down, across).

    Rows and columns that no area covers, because the picture has no whole number of areas, stay 0.
    """
    grown = values.repeat(area[0], axis=0).repeat(area[1], axis=1)[: size[0], : size[1]]
    made = np.zeros(size, np.float32)
    made[: grown.shape[0], : grown.shape[1]] = grown
    return made
