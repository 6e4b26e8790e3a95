import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure, structural_similarity_index_measure

from edgegen.errors import DataError
from edgegen.quality.metrics import Quality, bootstrap_interval, compare, ms_ssim, psnr_db, scale_count, ssim


def photo(shared_images, width, height):
    path = sorted((shared_images / "street_test").glob("*.png"))[0]
    return np.asarray(Image.open(path).convert("RGB").resize((width, height)), np.float32) / 255


def noisy(picture, sigma):
    noise = np.random.default_rng(0).normal(0, sigma, picture.shape)
    return np.clip(picture + noise, 0, 1).astype(np.float32)


def to_torch(picture):
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None]


@pytest.mark.parametrize("sigma", [0.01, 0.1, 0.4])
@pytest.mark.parametrize(("width", "height"), [(256, 250), (33, 32)])
def test_ssim_equals_torchmetrics(shared_images, sigma, width, height):
    reference = photo(shared_images, width, height)
    produced = noisy(reference, sigma)
    expected = structural_similarity_index_measure(to_torch(produced), to_torch(reference), data_range=1.0)
    assert ssim(produced, reference) == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize("sigma", [0.01, 0.1, 0.4])
def test_ms_ssim_equals_torchmetrics(shared_images, sigma):
    reference = photo(shared_images, 201, 190)
    produced = noisy(reference, sigma)
    expected = multiscale_structural_similarity_index_measure(to_torch(produced), to_torch(reference), data_range=1.0)
    assert ms_ssim(produced, reference) == pytest.approx(float(expected), abs=1e-3)


def test_ms_ssim_of_a_small_picture_equals_torchmetrics_with_as_many_rescaled_weights(shared_images):
    reference = photo(shared_images, 64, 64)
    produced = noisy(reference, 0.1)
    betas = tuple(weight / (0.0448 + 0.2856 + 0.3001) for weight in (0.0448, 0.2856, 0.3001))
    expected = multiscale_structural_similarity_index_measure(
        to_torch(produced), to_torch(reference), data_range=1.0, betas=betas
    )
    assert ms_ssim(produced, reference) == pytest.approx(float(expected), abs=1e-3)


@pytest.mark.parametrize(("side", "scales"), [(8, 1), (20, 1), (21, 2), (41, 3), (81, 4), (160, 4), (161, 5), (1000, 5)])
def test_ms_ssim_uses_as_many_scales_as_the_window_fits_into(side, scales):
    assert scale_count(side) == scales


def test_psnr_of_one_level_of_error_everywhere_is_48_db_and_of_identical_pictures_100():
    picture = np.full((8, 8, 3), 0.5, np.float32)
    assert psnr_db(picture + np.float32(1 / 255), picture) == pytest.approx(20 * math.log10(255), abs=1e-3)
    assert psnr_db(picture, picture) == 100.0


@pytest.mark.parametrize("side", [1, 4, 10, 11])
def test_identical_pictures_of_any_size_are_perfect(side):
    picture = np.random.default_rng(1).random((side, side, 1), np.float32)
    quality = compare([picture], [picture], seed=0)
    assert (quality.psnr_db.mean, quality.max_abs, quality.nonfinite) == (100.0, 0.0, 0)
    assert quality.ssim.mean == pytest.approx(1.0)
    assert quality.ms_ssim.mean == pytest.approx(1.0)


def test_interval_holds_the_mean_and_narrows_with_more_values():
    values = np.random.default_rng(2).normal(0.7, 0.05, 400)
    low_few, high_few = bootstrap_interval(values[:10].tolist(), seed=0)
    low, high = bootstrap_interval(values.tolist(), seed=0)
    assert low < values.mean() < high
    # the normal approximation: mean +- 1.96 sigma / sqrt(n); 2,000 resamples give it within a few percent
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert high_few - low_few > high - low


def test_interval_covers_the_true_mean_about_as_often_as_it_promises():
    random = np.random.default_rng(3)
    intervals = [bootstrap_interval(random.normal(0, 1, 30).tolist(), seed=trial) for trial in range(60)]
    assert sum(low <= 0 <= high for low, high in intervals) >= 50  # 57 expected; 49 or fewer happens once in 1,000 runs


def test_one_value_has_no_interval():
    assert bootstrap_interval([0.5], seed=0) is None


def test_same_seed_gives_the_same_quality_and_json_reads_back(shared_images):
    reference = [photo(shared_images, 48, 40), photo(shared_images, 48, 40)[::-1].copy()]
    produced = [noisy(picture, 0.05) for picture in reference]
    quality = compare(produced, reference, seed=7)
    assert quality == compare(produced, reference, seed=7)
    assert Quality.from_json(quality.to_json()) == quality
    assert quality.to_json()["count"] == 2


def test_nan_is_counted_and_the_rest_of_the_metrics_stays_finite(shared_images):
    reference = photo(shared_images, 48, 40)
    produced = reference.copy()
    produced[:2, 0] = [np.nan, np.inf, -np.inf]
    quality = compare([produced], [reference], seed=0)
    assert quality.nonfinite == 6
    assert math.isfinite(quality.psnr_db.mean) and math.isfinite(quality.ssim.mean) and math.isfinite(quality.max_abs)


def test_pictures_that_cannot_be_paired_are_refused_by_name():
    picture = np.zeros((8, 8, 3), np.float32)
    with pytest.raises(DataError, match="1 produced pictures cannot be compared with 2"):
        compare([picture], [picture, picture], seed=0)
    with pytest.raises(DataError, match="0 produced"):
        compare([], [], seed=0)
    with pytest.raises(DataError, match=r"picture 1 has shape \(8, 8, 3\), its reference \(4, 8, 3\)"):
        compare([picture, picture], [picture, picture[:4]], seed=0)
    with pytest.raises(DataError, match="uint8"):
        compare([picture.astype(np.uint8)], [picture], seed=0)
