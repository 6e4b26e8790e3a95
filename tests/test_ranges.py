"""Range estimators against what can be worked out by hand, and the choice among them by the picture."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen.ranges import BINS, Estimator, estimate_range, histogram, merged, percentile_range, picture_driven, weight_digest


def seen(values):
    return histogram(values, float(values.min()), float(values.max()))


def error(values, low, high, levels=255):
    step = (high - low) / levels
    zero = round(-low / step)
    return float(np.square((np.clip(np.round(values / step) + zero, 0, levels) - zero) * step - values).mean())


def test_min_max_is_what_was_seen_and_contains_zero():
    assert estimate_range(seen(np.array([-1.0, 3.0])), Estimator.MIN_MAX) == (-1.0, 3.0)
    assert estimate_range(seen(np.array([2.0, 3.0])), Estimator.MIN_MAX) == (0.0, 3.0)


def test_a_percentile_cuts_off_what_is_rare_at_both_ends():
    values = np.concatenate([np.linspace(-1, 1, 99_980), np.full(10, 50.0), np.full(10, -40.0)])
    low, high = percentile_range(seen(values), 99.97)
    assert (low, high) == (pytest.approx(-1, abs=2 * 90 / BINS), pytest.approx(1, abs=2 * 90 / BINS))


def test_a_percentile_of_positive_values_cuts_off_the_top_only():
    low, high = percentile_range(seen(np.concatenate([np.linspace(0, 1, 99_990), np.full(10, 50.0)])), 99.99)
    assert low == 0 and high == pytest.approx(1, abs=2 * 50 / BINS)


@pytest.mark.parametrize(
    "values", [np.random.default_rng(0).standard_normal(100_000), np.random.default_rng(1).laplace(0.5, 1, 100_000)]
)
def test_the_least_error_range_is_as_good_as_the_best_of_a_grid_tried_by_hand(values):
    low, high = estimate_range(seen(values), Estimator.LEAST_ERROR)
    tried = [error(values, a, b) for a in np.linspace(values.min(), -0.5, 12) for b in np.linspace(0.5, values.max(), 12)]
    assert error(values, low, high) < 1.02 * min(tried)


def test_entropy_keeps_a_flat_distribution_whole_and_cuts_a_lonely_outlier_off():
    flat = np.linspace(-1, 1, 50_000)
    low, high = estimate_range(seen(flat), Estimator.ENTROPY)
    assert (low, high) == (pytest.approx(-1, abs=0.05), pytest.approx(1, abs=0.05))
    tailed = np.concatenate([np.random.default_rng(0).standard_normal(100_000), [9.0, -9.0]])
    low, high = estimate_range(seen(tailed), Estimator.ENTROPY)
    assert -7 < low < -2.5 and 2.5 < high < 7


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=50), st.sampled_from(list(Estimator)))
def test_every_range_contains_zero_lies_within_what_was_seen_and_is_finite(values, estimator):
    found = seen(np.array(values))
    low, high = estimate_range(found, estimator)
    assert found.low - 1e-6 <= low <= 0 <= high <= found.high + 1e-6
    assert np.isfinite([low, high]).all()


def test_histograms_of_parts_add_up():
    values = np.random.default_rng(0).standard_normal(1000)
    low, high = values.min(), values.max()
    parts = merged([histogram(values[:300], low, high), histogram(values[300:], low, high)])
    assert np.array_equal(parts.counts, histogram(values, low, high).counts) and parts.counts.sum() == 1000


def test_the_picture_chooses_per_tensor_and_stops_at_the_limit():
    wanted = {"a": (-1.0, 1.0), "b": (-2.0, 2.0), "c": (-4.0, 4.0)}
    options = [dict.fromkeys(wanted, (-size, size)) for size in (1.0, 2.0, 4.0)]

    def judge(ranges):
        return -sum(abs(ranges[name][1] - wanted[name][1]) for name in wanted)

    chosen, score, tries = picture_driven(options, judge, most_tries=50, worth=0.02)
    assert (chosen, score) == (wanted, 0.0) and tries == 3 + 3 * 2
    assert picture_driven(options, judge, most_tries=4, worth=0.02)[2] == 4


def test_a_layer_is_known_by_its_weights_wherever_the_exporter_put_them():
    weight = np.random.default_rng(0).standard_normal((8, 4, 3, 3)).astype(np.float32)
    moved = np.ascontiguousarray(np.pad(weight, ((0, 0), (0, 0), (0, 2), (0, 0))).transpose(0, 2, 3, 1))
    assert weight_digest(weight) == weight_digest(moved) != weight_digest(weight * 1.001)
