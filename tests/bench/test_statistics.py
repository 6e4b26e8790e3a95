"""Percentiles that the runs allow; MLPerf's early-stopping rule against its published table and brute force."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgegen.bench.statistics import allowed_overruns, early_stopping_estimate, least_count, percentile, summarise


@pytest.mark.parametrize(
    ("queries", "overruns"), [(63, 0), (64, 1), (100, 3), (300, 18), (1000, 78), (1024, 80), (5000, 450), (24_576, 2348)]
)
def test_the_golden_table_of_the_early_stopping_rule(queries: int, overruns: int) -> None:
    assert allowed_overruns(queries) == overruns


@pytest.mark.parametrize(("p", "count"), [(0.5, 1), (0.9, 64), (0.95, 130), (0.99, 662), (0.999, 6636)])
def test_the_golden_table_of_least_counts(p: float, count: int) -> None:
    assert least_count(p) == count
    if p > 0.5:
        assert allowed_overruns(count - 1, p) == 0 and allowed_overruns(count, p) == 1


def test_a_percentile_that_is_in_no_table_follows_the_same_rule() -> None:
    count = least_count(0.97)
    assert allowed_overruns(count - 1, 0.97) == 0 and allowed_overruns(count, 0.97) == 1


def test_the_rule_agrees_with_exact_arithmetic_for_1_to_500_queries() -> None:
    overrun, bound = Fraction(1, 10), Fraction(1, 100)
    for queries in range(1, 501):
        total, largest = Fraction(0), 0
        for t in range(queries + 1):
            total += math.comb(queries, t) * overrun**t * (1 - overrun) ** (queries - t)
            if total > bound:
                break
            largest = t
        assert allowed_overruns(queries) == largest, queries


@given(st.lists(st.integers(1, 10**9), min_size=64, max_size=400))
def test_the_early_stopping_estimate_is_never_below_the_percentile(samples: list[int]) -> None:
    estimate, p90 = early_stopping_estimate(samples), percentile(samples, 0.9)
    assert estimate is not None and p90 is not None and estimate >= p90


@given(st.lists(st.integers(0, 100), min_size=64, max_size=200))
def test_a_percentile_is_the_smallest_sample_that_enough_others_do_not_exceed(samples: list[int]) -> None:
    found = percentile(samples, 0.9)
    assert found in samples
    assert sum(s <= found for s in samples) * 10 >= 9 * len(samples)
    below = [s for s in samples if s < found]
    assert not below or sum(s <= max(below) for s in samples) * 10 < 9 * len(samples)


def test_nearest_rank_of_round_numbers() -> None:
    samples = list(range(1, 101))
    assert percentile(samples, 0.5) == 50 and percentile(samples, 0.9) == 90
    assert percentile([3, 1, 2], 0.5) == 2 and percentile([4], 0.5) == 4


@pytest.mark.parametrize(("p", "count"), [(0.9, 64), (0.95, 130), (0.99, 662), (0.999, 6636)])
def test_one_run_too_few_gives_no_percentile(p: float, count: int) -> None:
    assert percentile([1] * (count - 1), p) is None
    assert percentile([1] * count, p) == 1


def test_no_samples_give_no_percentile() -> None:
    assert percentile([], 0.5) is None


def test_a_summary_is_in_milliseconds_and_leaves_out_what_the_runs_do_not_allow() -> None:
    summary = summarise([1_000_000, 2_000_000, 3_000_000])
    assert (summary.n, summary.mean, summary.min, summary.p50, summary.max) == (3, 2.0, 1.0, 2.0, 3.0)
    assert summary.std == 1.0 and summary.cov == 0.5
    assert summary.p90 is None and summary.p90_early_stop is None and summary.jitter_p99_minus_p50 is None
