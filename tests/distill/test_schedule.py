import pytest
import torch
from torch import nn

from edgegen.distill.schedule import average_decay_at, learning_rate_at, peak_rate, update_average
from edgegen.recipe import USUAL_LEARNING_RATE


def test_the_learning_rate_rises_in_a_line_and_falls_like_a_cosine():
    rates = [learning_rate_at(step, steps=10, peak=1.0, warmup_steps=2) for step in range(10)]
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert rates[6] == pytest.approx(0.5)  # half-way between step 2 and step 10
    assert 0.0 < rates[9] < 0.05
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_a_run_shorter_than_its_warmup_still_falls():
    rates = [learning_rate_at(step, steps=4, peak=1.0, warmup_steps=50) for step in range(4)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.5])


def test_the_average_starts_warm_and_then_decays_as_asked():
    assert average_decay_at(0, decay=0.99) == pytest.approx(0.1)
    assert average_decay_at(10_000, decay=0.99) == 0.99


def test_the_average_moves_weights_and_statistics_and_copies_counters():
    average, current = nn.BatchNorm2d(1), nn.BatchNorm2d(1)
    with torch.no_grad():
        current.weight.fill_(2.0)
        current.running_mean.fill_(4.0)
        current.num_batches_tracked.fill_(7)
    update_average(average, current, 0.75)
    assert average.weight.item() == pytest.approx(0.75 * 1 + 0.25 * 2)
    assert average.running_mean.item() == pytest.approx(1.0)
    assert average.num_batches_tracked.item() == 7


def test_a_student_that_starts_near_the_teacher_takes_smaller_steps():
    rates = [peak_rate(db) for db in (10.0, 34.0, 40.0, 60.0, float("inf"))]
    assert rates == pytest.approx([2e-3, 2e-3, 1e-3, 5e-4, 5e-4], rel=3e-3)
    assert peak_rate(None) == USUAL_LEARNING_RATE
