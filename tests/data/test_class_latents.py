"""A generator with a class input is calibrated on all of its classes."""

import numpy as np
import pytest

from edgegen.data import open_inputs
from edgegen.spec import ComponentSpec, Kind, Layout, TensorSpec

LATENT = TensorSpec("z", Kind.LATENT, (8,), Layout.D)
PICTURE = TensorSpec("image", Kind.IMAGE, (3, 16, 16), Layout.CHW, low=-1, high=1)
ONE_HOT = TensorSpec("label", Kind.CLASS, (7,), Layout.D)
ID = TensorSpec("label", Kind.CLASS, (1,), Layout.D, dtype="int64", low=2, high=8)


@pytest.mark.parametrize("label", [ONE_HOT, ID], ids=["one-hot", "id"])
def test_every_class_calibrates_equally_often_and_with_another_latent_each_time(label: TensorSpec) -> None:
    spec = ComponentSpec("generator", (LATENT, label), (PICTURE,))
    inputs = open_inputs(spec, None, calibration="auto", seed=0, held_out=4)
    items = inputs.calibration(21)
    classes = [int(item[1].argmax()) if label is ONE_HOT else int(item[1][0, 0]) - 2 for item in items]
    assert [classes.count(c) for c in range(7)] == [3] * 7
    assert len({item[0].tobytes() for item in items}) == 21
    assert items[0][1].dtype == np.dtype(label.dtype) and items[0][1].shape == (1, *label.shape)


def test_plain_latents_may_still_be_asked_for_and_draw_classes() -> None:
    spec = ComponentSpec("generator", (LATENT, ONE_HOT), (PICTURE,))
    drawn = open_inputs(spec, None, calibration="latents", seed=0, held_out=4).calibration(21)
    assert len({int(item[1].argmax()) for item in drawn}) > 1
