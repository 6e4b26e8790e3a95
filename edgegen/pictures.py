"""Between tensors and pictures: one place that knows how a TensorSpec lays out and scales its values. Needs numpy only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgegen.spec import ComponentSpec, Layout, TensorSpec

if TYPE_CHECKING:
    import torch

Arrays = tuple[NDArray[Any], ...]


def unit_picture(array: NDArray[Any], spec: TensorSpec) -> NDArray[np.float32]:
    """Return the first of a batch as a picture (H, W, C), float32 in [0, 1]; NaN becomes black."""
    picture = array[0].astype(np.float32)
    if spec.layout is Layout.CHW:
        picture = picture.transpose(1, 2, 0)
    low, high = spec.low or 0.0, 1.0 if spec.high is None else spec.high
    return np.ascontiguousarray(np.clip(np.nan_to_num((picture - low) / (high - low)), 0.0, 1.0))


def visible(image: torch.Tensor, spec: TensorSpec) -> torch.Tensor:
    """Map `image` from `spec`'s value range to [0, 1], cut off as a display does; the gradient passes as if it were not cut.

    A student that is brighter than white where the teacher is white makes no error; where the teacher is grey it is pulled
    back. A plain clamp has no gradient there, no clamp at all would teach values that nobody sees. Without a range in `spec`
    the values stay as they are.
    """
    if spec.low is None or spec.high is None:
        return image.float()
    scaled = (image.float() - spec.low) / (spec.high - spec.low)
    return scaled + (scaled.clamp(0.0, 1.0) - scaled).detach()


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
