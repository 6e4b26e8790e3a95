import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

from edgegen.quality.detectors import describe_bias, detect, heat_map


@functools.cache
def photos(shared_images, side, count=4):
    paths = sorted((shared_images / "street_test").glob("*.png"))[:count]
    return [
        np.asarray(Image.open(p).convert("RGB").resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255 for p in paths
    ]


def failed(produced, reference):
    return [finding.name for finding in detect(produced, reference) if finding.failed]


def repeat_pixels(picture, stride):
    return picture[::stride, ::stride].repeat(stride, 0).repeat(stride, 1)


def add_grid(picture, amplitude):
    rows, cols = np.indices(picture.shape[:2])
    return picture * (1 + amplitude * (1 - 2 * ((rows + cols) % 2)))[..., None]


def add_dots(picture):
    """Put green dots on every fourth pixel of a corner: what an undertrained transposed convolution does to skies."""
    dotted = picture.copy()
    dotted[: len(picture) // 3 : 4, : len(picture) // 3 : 4, 1] += 0.3
    return np.clip(dotted, 0, 1)


def add_tiles(picture):
    """Make every other quarter three levels brighter: what a network does that pads at the borders of its tiles."""
    rows, cols = np.indices(picture.shape[:2]) // (len(picture) // 2)
    return picture + ((rows + cols) % 2 * 3 / 255)[..., None]


def blur_in_tiles(picture):
    """Blur each quarter on its own, as if the others were black."""
    half, made = len(picture) // 2, picture.copy()
    for rows in (slice(None, half), slice(half, None)):
        for cols in (slice(None, half), slice(half, None)):
            made[rows, cols] = gaussian_filter(picture[rows, cols], (0.8, 0.8, 0), mode="constant")
    return made


def add_noise(picture, sigma):
    return np.clip(picture + np.random.default_rng(0).normal(0, sigma, picture.shape), 0, 1)


def move_strokes(picture):
    """Displace pixels by a smooth random field of some 2 pixels and soften: what a style student does to strokes."""
    random = np.random.default_rng(1)
    field = [gaussian_filter(random.normal(0, 1, picture.shape[:2]), 4) * 30 for _ in range(2)]
    rows, cols = np.indices(picture.shape[:2])
    where = [rows + field[0], cols + field[1]]
    moved = np.stack([map_coordinates(picture[..., c], where, order=1, mode="mirror") for c in range(picture.shape[2])], axis=-1)
    return np.clip(gaussian_filter(moved, (0.6, 0.6, 0)) + random.normal(0, 0.02, picture.shape), 0, 1)


@dataclasses.dataclass(frozen=True)
class Fault:
    name: str
    plant: Callable
    finds: str


FAULTS = [
    Fault("5 % more red", lambda p: np.clip(p + np.array([0.05, 0, 0]), 0, 1), "colour_shift"),
    Fault("warmer", lambda p: np.clip(p * np.array([1.1, 1.0, 0.85]), 0, 1), "colour_shift"),
    Fault("darker", lambda p: p * 0.7, "colour_shift"),
    Fault("3 % brighter and more", lambda p: np.clip(p + 0.04, 0, 1), "channel_bias"),
    Fault("blurred by 1.5 pixels", lambda p: gaussian_filter(p, (1.5, 1.5, 0)), "blur"),
    Fault("blurred and darker", lambda p: gaussian_filter(p * 0.8, (2, 2, 0)), "blur"),
    Fault("a quarter 3 levels brighter", add_tiles, "seams"),
    Fault("padded in every tile", blur_in_tiles, "seams"),
    Fault("pixels repeated 2 times", lambda p: repeat_pixels(p, 2), "checkerboard"),
    Fault("pixels repeated 4 times", lambda p: repeat_pixels(p, 4), "checkerboard"),
    Fault("checkerboard that follows brightness", lambda p: add_grid(p, 0.06), "checkerboard"),
    Fault("green dots in a corner", add_dots, "checkerboard"),
    Fault("16 levels", lambda p: np.round(p * 15) / 15, "banding"),
    Fault("32 levels", lambda p: np.round(p * 31) / 31, "banding"),
    Fault("64 levels", lambda p: np.round(p * 63) / 63, "banding"),
    Fault("black", lambda p: p * 0, "black"),
    Fault("burnt out", lambda p: np.clip(p * 2, 0, 1), "saturated"),
    Fault("NaN", lambda p: np.where(np.indices(p.shape)[0] == 3, np.nan, p), "nonfinite"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_found(shared_images, fault):
    reference = photos(shared_images, 256)
    assert fault.finds in failed([fault.plant(p).astype(np.float32) for p in reference], reference)


GOOD = {
    "identical": lambda p: p,
    "slightly noisy": lambda p: add_noise(p, 0.02),
    "noisy": lambda p: add_noise(p, 0.06),
    "slightly blurred": lambda p: gaussian_filter(p, (0.7, 0.7, 0)),
    "1 % more red": lambda p: np.clip(p + np.array([0.01, 0, 0]), 0, 1),
    "a little paler": lambda p: 0.9 * p + 0.05 * p.mean(),
    "sharpened": lambda p: np.clip(2 * p - gaussian_filter(p, (1, 1, 0)), 0, 1),
    "7-bit": lambda p: np.round(p * 127) / 127,
    "8-bit": lambda p: np.round(p * 255) / 255,
    "a style student": move_strokes,
}


@pytest.mark.parametrize("side", [256, 64, 32])
@pytest.mark.parametrize("change", list(GOOD.values()), ids=list(GOOD))
def test_a_good_picture_raises_no_alarm(shared_images, change, side):
    reference = photos(shared_images, side)
    assert failed([change(p).astype(np.float32) for p in reference], reference) == []


def test_a_grid_that_the_reference_has_too_is_no_fault(shared_images):
    gridded = [repeat_pixels(p, 2) for p in photos(shared_images, 256)]
    assert failed([add_noise(p, 0.01).astype(np.float32) for p in gridded], gridded) == []


def test_one_black_picture_among_many_is_found(shared_images):
    reference = photos(shared_images, 64, count=20)
    produced = [*reference[:-1], reference[-1] * 0]
    assert failed(produced, reference) == ["black"]


def test_dark_backgrounds_that_differ_by_a_level_are_not_black_faults():
    reference = np.full((32, 32, 1), 3 / 255, np.float32)
    reference[8:24, 8:24] = 0.8
    produced = np.where(reference < 0.1, 0, reference).astype(np.float32)
    assert failed([produced], [reference]) == []


@pytest.mark.parametrize("side", [1, 4, 8])
def test_tiny_pictures_are_judged_without_falling_over(side):
    picture = np.random.default_rng(0).random((side, side, 1), np.float32)
    assert failed([picture], [picture]) == []


def test_a_finding_says_what_was_measured_and_what_the_limit_is(shared_images):
    reference = photos(shared_images, 64)
    findings = {finding.name: finding for finding in detect([p * 0 for p in reference], reference)}
    assert findings["black"].value > findings["black"].threshold
    assert findings["black"].sentence.endswith("of the worst picture turned black (limit 10%)")
    assert list(findings) == [
        "nonfinite", "colour_shift", "channel_bias", "checkerboard", "banding", "blur", "seams", "black", "saturated"
    ]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_heat_map_is_bright_where_the_fault_was_planted_and_dark_without_it(shared_images, fault):
    reference = photos(shared_images, 256, count=1)[0]
    planted = fault.plant(reference).astype(np.float32)
    hot, cold = heat_map(fault.finds, planted, reference), heat_map(fault.finds, reference, reference)
    assert hot.shape == cold.shape == (256, 256)
    assert cold.max() == 0.0
    assert 0.0 < hot.max() <= 1.0


def test_the_heat_map_of_a_seam_is_a_cross_at_the_borders_of_the_tiles(shared_images):
    reference = photos(shared_images, 256, count=1)[0]
    heat = heat_map("seams", blur_in_tiles(reference).astype(np.float32), reference)
    lines = {int(i) for axis in (0, 1) for i in np.flatnonzero(heat.min(axis=axis) > 0)}
    assert {127, 128} <= lines <= set(range(124, 132))


def test_the_bias_is_told_per_channel():
    reference = np.full((32, 32, 3), 0.5, np.float32)
    produced = reference + np.array([10, -2, 0], np.float32) / 255
    assert describe_bias([produced], [reference]) == "R +10.0, G -2.0, B +0.0"
    assert describe_bias([produced[..., :1]], [reference[..., :1]]) == "+10.0"
