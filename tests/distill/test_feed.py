"""What a step trains on, whoever prepares it."""

import dataclasses
import multiprocessing
import os
import signal
import time

import pytest
import torch
from tiny import CONFIG, SmoothImages

from edgegen.distill.feed import Feed
from edgegen.errors import DataError

TWO_WORKERS = dataclasses.replace(CONFIG, workers=2)


def batches(config, first, last):
    with Feed(SmoothImages(), config, first_step=first, steps=last) as feed:
        return [feed.take(step).inputs[0] for step in range(first, last)]


def test_workers_prepare_the_very_inputs_that_the_process_itself_would():
    alone, ahead = batches(CONFIG, 0, 7), batches(TWO_WORKERS, 0, 7)
    differing = {step: (a - b).abs().max().item() for step, (a, b) in enumerate(zip(alone, ahead, strict=True)) if not a.equal(b)}
    assert differing == {}


def test_a_feed_that_starts_later_goes_on_with_the_same_inputs():
    assert all(torch.equal(a, b) for a, b in zip(batches(CONFIG, 0, 7)[4:], batches(TWO_WORKERS, 4, 7), strict=True))


def test_workers_leave_the_random_state_of_the_process_alone():
    before = torch.get_rng_state()
    batches(TWO_WORKERS, 0, 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_positions_in_the_pool_come_with_the_inputs():
    config = dataclasses.replace(CONFIG, augment=dataclasses.replace(CONFIG.augment, views=2))
    with Feed(SmoothImages(), config, first_step=0, steps=4) as feed:
        fed = [feed.take(step) for step in range(4)]
    assert [one.positions for one in fed] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11), (0, 1, 2, 3)]
    assert torch.equal(fed[0].inputs[0], fed[3].inputs[0])


def test_an_error_in_a_worker_keeps_its_kind_and_its_hint_and_ends_the_workers():
    class Broken(SmoothImages):
        def train(self, step, batch, augment):
            if step == 1:
                raise DataError("a.png is not a readable picture", hint="replace it")
            return super().train(step, batch, augment)

    with (
        pytest.raises(DataError, match="^a.png is not a readable picture$") as caught,
        Feed(Broken(), TWO_WORKERS, first_step=0, steps=5) as feed,
    ):
        feed.take(0)
        feed.take(1)
    assert caught.value.hint == "replace it"
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_workers_end_when_the_training_is_left_by_an_exception(kind):
    feed = Feed(SmoothImages(), TWO_WORKERS, first_step=0, steps=100)
    with pytest.raises(kind) as caught, feed:
        feed.take(0)
        workers = [child.pid for child in multiprocessing.active_children()]
        raise kind
    assert caught.traceback and len(workers) == 2  # the traceback still holds the frame
    time.sleep(0.1)
    for pid in workers:
        assert pid is not None
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_the_handler_of_ended_children_is_given_back_when_the_workers_have_ended():
    before = signal.getsignal(signal.SIGCHLD)
    with Feed(SmoothImages(), TWO_WORKERS, first_step=0, steps=4) as feed:
        feed.take(0)
        assert signal.getsignal(signal.SIGCHLD) is not before
    assert signal.getsignal(signal.SIGCHLD) is before
