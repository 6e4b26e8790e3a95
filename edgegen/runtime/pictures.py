"""Pictures, label maps and tensors: what an application holds, and what an artifact takes and gives.

A picture is uint8 (H, W, C), RGB, or (H, W) for grey. A label map is uint8 (H, W) of class ids. Nothing is resized here: a
picture of the wrong size is refused, because how to crop or scale is the application's decision.
Python >= 3.8, numpy only.
"""

from __future__ import annotations

import numpy as np

from edgegen.runtime.errors import InputError, RuntimeBundleError
from edgegen.runtime.tensors import Kind, Layout, TensorSpec


def to_tensor(given: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """Return what an application gave as the tensor that `spec` describes, batch axis 1 in front.

    Images: uint8 picture, black becomes `low` and white `high`. Label maps: ids become one-hot channels. Everything else:
    numbers of exactly the shape of `spec`. Raises InputError for what does not fit.
    """
    array = np.asarray(given)
    if spec.kind is Kind.IMAGE:
        return _in_layout(_scaled(_picture(array, spec), spec), spec)
    if spec.kind is Kind.LABEL_MAP:
        return _in_layout(_one_hot(array, spec), spec)
    if array.shape != spec.shape:
        raise InputError(f"input '{spec.name}' has shape {array.shape}, the generator takes {spec.shape}")
    if array.dtype.kind not in "fiu":
        raise InputError(f"input '{spec.name}' has type {array.dtype}, the generator takes {spec.dtype}")
    if not np.isfinite(array).all():
        raise InputError(f"input '{spec.name}' holds NaN or infinite values")
    return np.ascontiguousarray(array[None].astype(spec.dtype))


def to_picture(tensor: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """Return an image tensor of `spec`, batch axis 1, as a picture uint8 (H, W, C).

    Values are scaled so that `low` is 0 and `high` 255, rounded to the nearest level and clipped. Raises RuntimeBundleError
    for NaN and infinity: a broken frame is an error, not a black picture.
    """
    picture = tensor[0].transpose(1, 2, 0) if spec.layout is Layout.CHW else tensor[0]
    if spec.dtype == "uint8":
        return np.ascontiguousarray(picture)
    if not np.isfinite(picture).all():
        raise RuntimeBundleError(
            f"output '{spec.name}' holds NaN or infinite values", hint="run `python -m edgegen.runtime check`"
        )
    low, high = _bounds(spec)
    levels = (picture.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.ascontiguousarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))


def to_given(tensor: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """Return the tensor of `spec`, batch axis 1, as an application would hold it: the inverse of `to_tensor`."""
    if spec.kind is Kind.IMAGE:
        return to_picture(tensor, spec)
    if spec.kind is Kind.LABEL_MAP:
        channels = tensor[0].argmax(axis=spec.layout.value.index("C"))
        return np.ascontiguousarray(channels.astype(np.uint8 if spec.channels <= 256 else np.uint16))
    return np.ascontiguousarray(tensor[0])


def _bounds(spec: TensorSpec) -> tuple:
    return (0.0 if spec.low is None else spec.low, 1.0 if spec.high is None else spec.high)


def _picture(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.dtype != np.uint8 or array.ndim != 3:
        fact = f"has type {array.dtype} and shape {array.shape}"
        raise InputError(f"input '{spec.name}' {fact}, not uint8 (H, W, C)", hint="give a picture of 8 bits per channel")
    _same_size(array, spec)
    if array.shape[2] != spec.channels:
        raise InputError(f"input '{spec.name}' has {array.shape[2]} channels, the generator takes {spec.channels}")
    return array


def _scaled(picture: np.ndarray, spec: TensorSpec) -> np.ndarray:
    if spec.dtype == "uint8":
        return picture
    low, high = _bounds(spec)
    return (picture.astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)).astype(spec.dtype)


def _one_hot(ids: np.ndarray, spec: TensorSpec) -> np.ndarray:
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        fact = f"has type {ids.dtype} and shape {ids.shape}"
        raise InputError(f"input '{spec.name}' {fact}, not whole numbers (H, W)", hint="give a label map of class ids")
    _same_size(ids, spec)
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= spec.channels:
        fact = f"has class id {low if low < 0 else high}"
        raise InputError(f"input '{spec.name}' {fact}, the generator knows {spec.channels} classes (0 to {spec.channels - 1})")
    return np.eye(spec.channels, dtype=spec.dtype)[ids]


def _same_size(array: np.ndarray, spec: TensorSpec) -> None:
    height, width = array.shape[:2]
    if (height, width) != (spec.height, spec.width):
        fact = f"is {width}x{height} pixels, the generator takes {spec.width}x{spec.height}"
        raise InputError(f"input '{spec.name}' {fact}", hint="crop or resize it first; the runtime does not")


def _in_layout(values: np.ndarray, spec: TensorSpec) -> np.ndarray:
    if spec.layout is Layout.CHW:
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values[None])
