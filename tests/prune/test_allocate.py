import pytest

from edgegen.prune.allocate import Allocation, corrected

WIDTHS = range(64, 0, -8)


def _cuts(measured):
    """Return what cuts to an estimate of one second per channel, and the list of the students that it measures."""
    seen = []

    def cut_to(goal_s):
        width = next((w for w in WIDTHS if w <= goal_s), WIDTHS[-1])
        seen.append(width)
        return Allocation({"stem": tuple(range(width, 64))}, 64.0, float(width), True), measured(width)

    return cut_to, seen


@pytest.mark.parametrize(
    "measured, width",
    [
        (lambda w: w, 40),  # as estimated
        (lambda w: 2.0 * w, 16),  # twice as slow
        (lambda w: 10.0 + 0.5 * w, 56),  # a part that no channel saves
        (lambda w: 0.4 * w if w < 40 else 2.0 * w, 32),  # the widest are far slower than the rest
    ],
)
def test_a_budget_is_used_up_as_far_as_the_student_itself_allows(measured, width):
    cut_to, seen = _cuts(measured)
    allocation, seconds = corrected(cut_to, 40.0)
    assert (allocation.after_s, seconds) == (width, measured(width))
    assert len(seen) <= 4


def test_when_no_student_meets_the_budget_the_fastest_is_taken():
    cut_to, _ = _cuts(lambda w: 100.0 + w)
    allocation, _ = corrected(cut_to, 40.0)
    assert allocation.after_s == WIDTHS[-1]
