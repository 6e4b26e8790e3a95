"""Between tensors and pictures: values keep their meaning through every layout and range."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgegen.pictures import adapt, unit_picture
from edgegen.spec import ComponentSpec, Kind, Layout, TensorSpec

RANGES = [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-0.5, 0.5)]
PICTURES = arrays.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3])))


def spec_of(
    shape: tuple[int, ...], low: float, high: float, layout: Layout = Layout.CHW, dtype: str = "float32"
) -> ComponentSpec:
    tensor = TensorSpec("image", Kind.IMAGE, shape, layout, dtype, low, high)
    return ComponentSpec("generator", (tensor,), (tensor,))


@given(picture=PICTURES, bounds=st.sampled_from(RANGES))
def test_a_picture_survives_the_way_into_a_tensor_and_back(picture: np.ndarray, bounds: tuple[float, float]) -> None:
    low, high = bounds
    tensor = (picture.transpose(2, 0, 1)[None] / np.float32(255) * np.float32(high - low) + np.float32(low)).astype(np.float32)
    back = unit_picture(tensor, spec_of(tensor.shape[1:], low, high).outputs[0])
    assert np.array_equal(np.rint(back * 255).astype(np.uint8), picture)


@given(picture=PICTURES, bounds=st.sampled_from(RANGES))
def test_an_input_becomes_the_pixels_that_it_stands_for(picture: np.ndarray, bounds: tuple[float, float]) -> None:
    low, high = bounds
    tensor = (picture.transpose(2, 0, 1)[None] / np.float32(255) * np.float32(high - low) + np.float32(low)).astype(np.float32)
    takes_pixels = spec_of(picture.shape, 0.0, 255.0, Layout.HWC, "uint8")
    (pixels,) = adapt((tensor,), spec_of(tensor.shape[1:], low, high), takes_pixels)
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels[0], picture)


def test_an_artifact_that_moved_its_channels_gets_them_last() -> None:
    tensor = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    (moved,) = adapt((tensor,), spec_of((2, 3, 4), 0.0, 1.0), spec_of((3, 4, 2), 0.0, 1.0, Layout.HWC))
    assert moved.shape == (1, 3, 4, 2)
    assert moved.flags.c_contiguous
    assert np.array_equal(moved.transpose(0, 3, 1, 2), tensor)


def test_inputs_in_the_artifacts_own_layout_pass_unchanged() -> None:
    tensor = np.random.default_rng(0).random((1, 3, 4, 4), dtype=np.float32)
    spec = spec_of((3, 4, 4), 0.0, 1.0)
    assert np.array_equal(adapt((tensor,), spec, spec)[0], tensor)


def test_values_outside_the_range_are_limited_and_nan_is_black() -> None:
    tensor = np.array([np.nan, -3.0, 0.0, 3.0], dtype=np.float32).reshape(1, 1, 2, 2)
    assert unit_picture(tensor, spec_of((1, 2, 2), -1.0, 1.0).outputs[0]).ravel().tolist() == [0.0, 0.0, 0.5, 1.0]


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_black_and_white_are_zero_and_one_in_every_range(low: float, high: float) -> None:
    tensor = np.array([low, high], dtype=np.float32).reshape(1, 1, 1, 2)
    assert unit_picture(tensor, spec_of((1, 1, 2), low, high).outputs[0]).ravel().tolist() == [0.0, 1.0]
