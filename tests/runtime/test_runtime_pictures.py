"""Pictures become tensors and come back; what does not fit is refused."""

import numpy as np
import pytest

from edgegen.runtime.errors import InputError, RuntimeBundleError
from edgegen.runtime.pictures import to_given, to_picture, to_tensor
from edgegen.runtime.ppm import read_ppm, write_ppm
from edgegen.runtime.tensors import Kind, Layout, TensorSpec

FLOAT = TensorSpec("photo", Kind.IMAGE, (3, 16, 17), Layout.CHW, low=-1.0, high=1.0)
PIXELS = TensorSpec("photo", Kind.IMAGE, (16, 17, 3), Layout.HWC, dtype="uint8", low=0.0, high=255.0)
LABELS = TensorSpec("labels", Kind.LABEL_MAP, (5, 16, 17), Layout.CHW)
PICTURE = np.arange(16 * 17 * 3, dtype=np.uint8).reshape(16, 17, 3)  # holds every level


@pytest.mark.parametrize("spec", [FLOAT, PIXELS], ids=["float CHW", "uint8 HWC"])
def test_every_level_survives_the_way_there_and_back(spec: TensorSpec) -> None:
    assert np.array_equal(to_picture(to_tensor(PICTURE, spec), spec), PICTURE)


def test_black_and_white_become_low_and_high() -> None:
    picture = np.zeros((16, 17, 3), np.uint8)
    picture[0, 0] = 255
    tensor = to_tensor(picture, FLOAT)
    assert tensor.shape == (1, 3, 16, 17) and tensor[0, 0, 0, 0] == 1.0 and tensor[0, 0, 0, 1] == -1.0


def test_values_outside_the_range_are_clipped() -> None:
    tensor = np.full((1, 3, 16, 17), 7.5, np.float32)
    assert (to_picture(tensor, FLOAT) == 255).all() and (to_picture(-tensor, FLOAT) == 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_broken_output_is_an_error_and_not_a_black_picture(bad: float) -> None:
    tensor = np.zeros((1, 3, 16, 17), np.float32)
    tensor[0, 1, 2, 3] = bad
    with pytest.raises(RuntimeBundleError, match="'photo' holds NaN"):
        to_picture(tensor, FLOAT)


def test_a_picture_of_the_wrong_size_is_refused_with_both_sizes() -> None:
    with pytest.raises(InputError, match="is 16x17 pixels, the generator takes 17x16"):
        to_tensor(np.zeros((17, 16, 3), np.uint8), FLOAT)


@pytest.mark.parametrize(
    "picture", [np.zeros((16, 17, 3), np.float32), np.zeros((1, 16, 17, 3), np.uint8), np.zeros(9, np.uint8)],
    ids=["float", "batch axis", "flat"],
)  # fmt: skip
def test_what_is_no_picture_is_refused(picture: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"not uint8 \(H, W, C\)"):
        to_tensor(picture, FLOAT)


def test_an_alpha_channel_is_refused() -> None:
    with pytest.raises(InputError, match="has 4 channels, the generator takes 3"):
        to_tensor(np.zeros((16, 17, 4), np.uint8), FLOAT)


def test_a_grey_picture_needs_no_channel_axis() -> None:
    spec = TensorSpec("photo", Kind.IMAGE, (1, 16, 17), Layout.CHW, low=0.0, high=1.0)
    assert to_tensor(PICTURE[:, :, 0], spec).shape == (1, 1, 16, 17)


def test_class_ids_become_one_hot_channels_and_come_back() -> None:
    ids = (np.arange(16 * 17) % 5).astype(np.uint8).reshape(16, 17)
    tensor = to_tensor(ids, LABELS)
    assert tensor.shape == (1, 5, 16, 17) and (tensor.sum(axis=1) == 1).all()
    assert np.array_equal(to_given(tensor, LABELS), ids)


def test_an_unknown_class_id_is_named() -> None:
    ids = np.zeros((16, 17), np.uint8)
    ids[3, 4] = 255
    with pytest.raises(InputError, match="class id 255, the generator knows 5 classes"):
        to_tensor(ids, LABELS)


def test_a_latent_with_nan_is_refused() -> None:
    with pytest.raises(InputError, match="NaN"):
        to_tensor(np.array([1.0, np.nan]), TensorSpec("latent", Kind.LATENT, (2,), Layout.D))


@pytest.mark.parametrize("picture", [PICTURE, PICTURE[:, :, 0]], ids=["colour", "grey"])
def test_ppm_files_come_back_as_they_were(picture: np.ndarray) -> None:
    assert np.array_equal(read_ppm(write_ppm(picture), "x.ppm"), picture)


def test_a_ppm_with_comments_is_read() -> None:
    assert read_ppm(b"P6 # made by hand\n# twice\n2 1\n255\n" + bytes(6), "x.ppm").shape == (1, 2, 3)


@pytest.mark.parametrize(
    "content", [b"", b"P3\n1 1\n255\n0 0 0", b"P6\n9999 9999\n255\n" + bytes(9), b"P6\n1 1\n65535\n" + bytes(6)]
)
def test_a_broken_ppm_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match=r"x\.ppm"):
        read_ppm(content, "x.ppm")
