"""Callables timed in turn."""

import gc
import time

import numpy as np
import pytest

from edgegen.bench import clock_of, time_interleaved


def test_every_callable_gets_its_rounds_and_its_own_time() -> None:
    calls = {"slow": lambda: time.sleep(0.004), "fast": lambda: time.sleep(0.001)}
    taken = time_interleaved(calls, rounds=8)
    assert {name: len(ns) for name, ns in taken.items()} == {"slow": 8, "fast": 8}
    assert np.median(taken["slow"]) > 1.5 * np.median(taken["fast"])
    assert taken["slow"].dtype == np.int64


def test_the_order_changes_from_round_to_round_and_a_seed_repeats_it() -> None:
    def order(seed: int) -> list[str]:
        seen: list[str] = []
        time_interleaved({n: (lambda n=n: seen.append(n)) for n in "abc"}, rounds=10, warmup_rounds=0, settle=0, seed=seed)
        return seen

    first = order(1)
    rounds = {tuple(first[i : i + 3]) for i in range(0, 30, 3)}
    assert all(sorted(r) == ["a", "b", "c"] for r in rounds) and len(rounds) > 1
    assert order(1) == first != order(2)


def test_warm_up_and_settling_calls_are_not_counted() -> None:
    count = 0

    def call() -> None:
        nonlocal count
        count += 1

    taken = time_interleaved({"a": call}, rounds=3, warmup_rounds=2, settle=1)
    assert len(taken["a"]) == 3 and count == (3 + 2) * 2


def test_the_garbage_collector_works_again_after_an_error() -> None:
    def call() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        time_interleaved({"a": call}, rounds=1)
    assert gc.isenabled()


def test_on_one_thread_only_its_own_processor_time_counts() -> None:
    sleeps = {"sleeps": lambda: time.sleep(0.02)}
    on_the_wall, of_the_thread = (time_interleaved(sleeps, rounds=3, clock=clock_of(threads)) for threads in (0, 1))
    assert on_the_wall["sleeps"].min() >= 20_000_000 > 10_000_000 > np.median(of_the_thread["sleeps"])
