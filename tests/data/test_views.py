"""Views of a picture, and what augmentation may do to them."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgegen.data.calibration import Darken, Fit, Preprocess, Resample
from edgegen.data.views import Frame, darken, jitter, random_view, whole_view
from edgegen.recipe import AugmentConfig


def ramp(width: int, height: int) -> Image.Image:
    """Return a picture whose red is the column and whose green is the row, over 255."""
    values = np.zeros((height, width, 3), np.float32)
    values[..., 0] = np.linspace(0, 255, width)[None, :]
    values[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(values.astype(np.uint8))


def test_the_whole_view_covers_the_frame_and_cuts_around_the_centre() -> None:
    values = np.asarray(whole_view(ramp(480, 360), Frame(256, 256, Preprocess())))
    assert values.shape == (256, 256, 3)
    assert abs(int(values[:, 0, 0].mean()) - 255 * 60 / 480) <= 2
    assert abs(int(values[:, -1, 0].mean()) - 255 * 420 / 480) <= 2
    assert (values[0, 0, 1], values[-1, 0, 1]) == (0, 255) or values[-1, 0, 1] >= 253


def test_stretching_keeps_all_edges() -> None:
    values = np.asarray(whole_view(ramp(480, 360), Frame(64, 64, Preprocess(fit=Fit.STRETCH))))
    assert values[0, 0, 0] <= 5
    assert values[0, -1, 0] >= 250


def test_shrinking_does_not_alias() -> None:
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (256, 128))).convert("RGB")
    values = np.asarray(whole_view(stripes, Frame(32, 32, Preprocess())))
    assert np.abs(values[:, 1:-1].astype(int) - 128).max() <= 8


@settings(max_examples=50, deadline=None)
@given(
    size=st.tuples(st.integers(8, 300), st.integers(8, 300)),
    frame=st.tuples(st.sampled_from([32, 64, 128]), st.sampled_from([32, 64, 128])),
    crop=st.sampled_from([0, 16, 64, 256]),
    rotate=st.sampled_from([0.0, 10.0, 180.0]),
    seed=st.integers(0, 1000),
)
def test_a_random_view_has_the_size_asked_for_and_never_shows_what_lies_outside(
    size: tuple[int, int], frame: tuple[int, int], crop: int, rotate: float, seed: int
) -> None:
    image = Image.new("RGB", size, (200, 100, 50))
    augment = AugmentConfig(crop=crop, rotate_degrees=rotate)
    view = random_view(image, Frame(*frame, Preprocess(), (0.5, 2.0)), augment, random.Random(seed))
    side = min(crop, *frame)
    assert view.size == ((side, side) if side else (frame[1], frame[0]))
    assert np.abs(np.asarray(view).astype(int) - (200, 100, 50)).max() <= 1


def test_random_views_show_things_at_the_scale_of_run_time() -> None:
    frame = Frame(256, 256, Preprocess(), (1.0, 1.0))
    augment = AugmentConfig(crop=128, flip=False)
    steps = [np.asarray(random_view(ramp(480, 360), frame, augment, random.Random(i))).astype(float) for i in range(8)]
    slope = 255 / 479 * 360 / 256  # red per output pixel when 360 source rows fill 256
    for values in steps:
        assert (values[0, -1, 0] - values[0, 0, 0]) / 127 == pytest.approx(slope, rel=0.05)


def test_a_flip_mirrors_left_and_right_only() -> None:
    frame = Frame(64, 64, Preprocess(), (1.0, 1.0))
    seen = set()
    for seed in range(20):
        values = np.asarray(random_view(ramp(64, 64), frame, AugmentConfig(crop=0), random.Random(seed)))
        seen.add(bool(values[0, 0, 0] < values[0, -1, 0]))
        assert values[0, 0, 1] < values[-1, 0, 1]
    assert seen == {True, False}


def test_nearest_views_invent_no_class_ids() -> None:
    ids = Image.fromarray(np.random.default_rng(0).choice([0, 7], (90, 120)).astype(np.uint8))
    frame = Frame(64, 64, Preprocess(resample=Resample.NEAREST), (0.8, 1.25))
    for seed in range(10):
        view = random_view(ids, frame, AugmentConfig(crop=32, rotate_degrees=15), random.Random(seed))
        assert set(np.unique(np.asarray(view))) <= {0, 7}


def test_jitter_stays_within_its_strength_and_darkening_darkens() -> None:
    picture = np.full((8, 8, 3), 100, np.uint8)
    for seed in range(10):
        assert 79 <= jitter(picture, 0.2, random.Random(seed)).mean() <= 121
    dark = darken(picture, Darken(gamma=(2.0, 2.0), gain=(0.5, 0.5), noise=(0.0, 0.0)), random.Random(0))
    assert (dark == round(255 * 0.5 * (100 / 255) ** 2)).all()
    noisy = darken(picture, Darken(noise=(0.02, 0.02)), random.Random(0))
    assert noisy.std() == pytest.approx(0.02 * 255, rel=0.3)
