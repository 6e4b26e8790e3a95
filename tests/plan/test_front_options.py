"""Which three points of a front become options."""

from edgegen.plan.front_options import Point, choose

# Ever slower and nearer to the teacher; the third is worse than the second in everything.
FRONT = (
    Point(0.001, 0.08, 0.60), Point(0.002, 0.04, 0.70), Point(0.003, 0.05, 0.65), Point(0.004, 0.02, 0.80),
    Point(0.008, 0.01, 0.90), Point(0.016, 0.0, 1.0),
)  # fmt: skip


def indices(points=FRONT, *, budget_s: float | None, min_ssim: float | None) -> list[int]:
    return [choice.index for choice in choose(points, budget_s=budget_s, min_ssim=min_ssim)]


def test_cheapest_meets_the_floor_best_is_within_the_budget_and_balanced_is_halfway_in_log_latency() -> None:
    assert indices(budget_s=0.010, min_ssim=0.68) == [1, 3, 4]


def test_a_point_that_another_beats_in_everything_is_no_option() -> None:
    assert 2 not in indices(budget_s=0.0035, min_ssim=0.62)


def test_without_limits_the_ends_of_the_front_are_named_as_what_they_are() -> None:
    cheapest, balanced, best = choose(FRONT, budget_s=None, min_ssim=None)
    assert (cheapest.index, balanced.index, best.index) == (0, 3, 5)
    assert "no quality floor" in cheapest.note and "no latency budget" in best.note


def test_a_floor_that_nothing_reaches_gives_the_least_cut_and_says_so() -> None:
    cheapest, *_ = choose(FRONT[:5], budget_s=None, min_ssim=0.99)
    assert cheapest.index == 4 and "nothing is expected to reach SSIM 0.99" in cheapest.note


def test_a_floor_is_not_claimed_to_be_met_when_nothing_is_known_of_quality() -> None:
    unknown = [Point(p.seconds, p.picture_loss) for p in FRONT]
    cheapest, *_ = choose(unknown, budget_s=None, min_ssim=0.9)
    assert cheapest.index == 0 and "cannot be checked" in cheapest.note


def test_a_budget_that_nothing_meets_gives_the_fastest_and_says_so() -> None:
    *_, best = choose(FRONT, budget_s=0.0001, min_ssim=None)
    assert best.index == 0 and "no student is within" in best.note


def test_a_front_of_one_point_gives_it_three_times() -> None:
    assert indices(FRONT[:1], budget_s=None, min_ssim=None) == [0, 0, 0]
