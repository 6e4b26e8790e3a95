"""Between tensors and pictures: one place that knows how a TensorSpec lays out and scales its values. numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgegen.spec import ComponentSpec, Layout, TensorSpec

Arrays = tuple[NDArray[Any], ...]


def unit_picture(array: NDArray[Any], spec: TensorSpec) -> NDArray[np.float32]:
    """Return the first of a batch as a picture (H, W, C), float32 in [0, 1]; NaN becomes black."""
    picture = array[0].astype(np.float32)
    if spec.layout is Layout.CHW:
        picture = picture.transpose(1, 2, 0)
    low, high = spec.low or 0.0, 1.0 if spec.high is None else spec.high
    return np.ascontiguousarray(np.clip(np.nan_to_num((picture - low) / (high - low)), 0.0, 1.0))


def adapt(arrays: Arrays, spec: ComponentSpec, io: ComponentSpec) -> Arrays:
    """Return inputs of the student as the artifact takes them: axes moved, and uint8 pixels where it takes pixels."""
    return tuple(_adapt(a, have, want) for a, have, want in zip(arrays, spec.inputs, io.inputs, strict=True))


def _adapt(array: NDArray[Any], have: TensorSpec, want: TensorSpec) -> NDArray[Any]:
    if want.dtype == "uint8" and have.dtype != "uint8":
        assert have.low is not None and have.high is not None
        array = np.clip(np.rint((array - have.low) * (255 / (have.high - have.low))), 0, 255).astype(np.uint8)
    if have.layout is Layout.CHW and want.layout is Layout.HWC:
        array = array.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(array)
