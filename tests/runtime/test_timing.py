"""Timing: warm-up until stable, both minima reached, nothing of the warm-up in the samples."""

import gc
import time

import pytest

from edgegen.runtime.timing import Clock, Moment, clock_jumps, measure, measure_paced, variation


def test_both_the_runs_and_the_seconds_are_reached() -> None:
    many = measure(lambda i: None, min_runs=500, min_seconds=0, warmup_runs=0)
    long = measure(lambda i: None, min_runs=1, min_seconds=0.05, warmup_runs=0)
    assert len(many.samples_ns) == 500
    assert long.duration_ns >= 50_000_000 and len(long.samples_ns) > 500


def test_the_call_gets_rising_numbers_through_warm_up_and_runs() -> None:
    seen: list[int] = []
    measure(seen.append, min_runs=5, min_seconds=0, warmup_runs=3)
    assert seen == list(range(8))


def test_slow_first_runs_are_in_no_sample() -> None:
    def call(index: int) -> None:
        time.sleep(0.02 if index < 2 else 0.001)

    samples = measure(call, min_runs=10, min_seconds=0, warmup_runs=2)
    assert samples.warmup_runs == 2 and samples.warmup_ns >= 40_000_000 and samples.warmup_stable is None
    assert sorted(samples.samples_ns)[5] < 15_000_000


def test_a_steady_call_is_warm_after_twenty_runs() -> None:
    def call(index: int) -> None:
        end = time.perf_counter_ns() + 2_000_000
        while time.perf_counter_ns() < end:
            pass

    samples = measure(call, min_runs=1, min_seconds=0)
    assert 20 <= samples.warmup_runs <= 60


def test_an_unsteady_call_ends_its_warm_up_after_sixty_runs_and_says_so() -> None:
    samples = measure(lambda i: time.sleep(0.004 if i % 2 else 0.0001), min_runs=1, min_seconds=0)
    assert samples.warmup_runs == 60 and samples.warmup_stable is False


def test_samples_are_whole_nanoseconds() -> None:
    samples = measure(lambda i: None, min_runs=3, min_seconds=0, warmup_runs=0)
    assert all(isinstance(ns, int) and ns >= 0 for ns in samples.samples_ns)


def test_the_garbage_collector_rests_meanwhile_and_works_again_after_an_error() -> None:
    def call(index: int) -> None:
        assert not gc.isenabled()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure(call, min_runs=1, min_seconds=0, warmup_runs=0)
    assert gc.isenabled()


def test_no_runs_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="min_runs is 0"):
        measure(lambda i: None, min_runs=0, min_seconds=1)


def test_variation_is_the_deviation_over_the_mean() -> None:
    assert variation([8, 12]) == pytest.approx(8**0.5 / 10)
    assert variation([5]) == 0.0 and variation([0, 0]) == 0.0


class Hands:
    """A clock that moves when somebody sleeps or works, and a little at every look."""

    def __init__(self) -> None:
        self.now = 0

    def now_ns(self) -> int:
        self.now += 10
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)

    def clock(self) -> Clock:
        return Clock(self.now_ns, self.sleep)


MS = 1_000_000


def test_paced_runs_begin_when_they_are_due() -> None:
    hands = Hands()
    found = measure_paced(lambda i: hands.sleep(0.010), min_runs=5, min_seconds=0, period_s=0.0333, clock=hands.clock())
    assert len(found.samples_ns) == 5 and found.dropped == 0 and found.period_ns == 33_300_000
    assert all(ns < MS for ns in found.begun_late_ns) and all(abs(ns - 10 * MS) < MS for ns in found.samples_ns)
    assert found.duration_ns >= 4 * found.period_ns


def test_a_run_that_takes_too_long_drops_the_periods_it_covers() -> None:
    hands, takes = Hands(), [0.010, 0.075, 0.010, 0.010]
    found = measure_paced(lambda i: hands.sleep(takes[i]), min_runs=4, min_seconds=0, period_s=0.030, clock=hands.clock())
    assert found.dropped == 1
    assert [round(ns / MS) for ns in found.begun_late_ns] == [0, 0, 15, 0]
    assert [round(ns / MS) for ns in found.done_after_ns] == [10, 75, 25, 10]


def test_a_period_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="period_s is 0"):
        measure_paced(lambda i: None, min_runs=1, min_seconds=0, period_s=0)


def test_a_clock_that_was_set_and_a_machine_that_slept_are_noticed() -> None:
    start = Moment(monotonic_ns=0, wall_ns=1000, boot_ns=0)
    assert clock_jumps(start, Moment(50, 1050, 50)) == (0, 0)
    assert clock_jumps(start, Moment(50, 1050 + 3600, 50)) == (3600, 0)
    assert clock_jumps(start, Moment(50, 1050 + 700, 750)) == (0, 700)
    assert clock_jumps(Moment(0, 1000, None), Moment(50, 950, None)) == (-100, 0)
