"""Comparison: refused under other conditions, an interval otherwise, and "no difference shown" as an outcome."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgegen.bench import BenchPlan, Measured, Record, measure_bundle, read_measured, read_record, write_record
from edgegen.bench.compare import Outcome, compare, differing, refuse_regression
from edgegen.bench.record import Validity
from edgegen.bench.statistics import summarise
from edgegen.errors import BundleError, MeasurementError, RegressionError

VALID = Validity(True)


@pytest.fixture(scope="module")
def record(bundle: Path) -> Record:
    plan = BenchPlan(threads=1, min_runs=64, min_seconds=0.05, processes=2, cold_processes=0, sensor_hz=0)
    return dataclasses.replace(measure_bundle(bundle, plan), validity=VALID)


def measured(record: Record, *centres_ms: float, spread: float = 0.02, runs: int = 300, seed: int = 0) -> Measured:
    rng = np.random.default_rng(seed)
    processes = [(1e6 * centre * (1 + spread * rng.standard_normal(runs))).astype(np.int64) for centre in centres_ms]
    return Measured("r.json", record, tuple(processes))


def test_a_real_difference_is_shown_with_its_interval(record: Record) -> None:
    found = compare(measured(record, 10.0, 10.1, 9.9), measured(record, 12.0, 12.1, 11.9, seed=1))
    assert found.outcome is Outcome.SLOWER and found.low < found.relative < found.high
    assert found.relative == pytest.approx(0.2, abs=0.01) and found.caveats == ()
    back = compare(measured(record, 12.0, 12.1, 11.9), measured(record, 10.0, 10.1, 9.9, seed=1))
    assert back.outcome is Outcome.FASTER and back.relative == pytest.approx(-1 / 6, abs=0.01)


def test_two_measurements_of_the_same_thing_show_no_difference(record: Record) -> None:
    rng = np.random.default_rng(5)
    shown = 0
    for trial in range(40):
        one, two = (measured(record, *(10 + 0.1 * rng.standard_normal(3)), seed=10 * trial + side) for side in (0, 1))
        shown += compare(one, two).outcome is not Outcome.NO_DIFFERENCE
    assert shown <= 3  # of 40, at 5 %


def test_processes_that_overlap_show_no_difference_however_many_runs_they_have(record: Record) -> None:
    found = compare(measured(record, 10.0, 11.0, runs=5000), measured(record, 10.5, 11.5, runs=5000, seed=1))
    assert found.outcome is Outcome.NO_DIFFERENCE


def test_single_processes_are_compared_with_a_caveat(record: Record) -> None:
    found = compare(measured(record, 10.0), measured(record, 10.5, seed=1))
    assert found.outcome is Outcome.SLOWER and "one process on a side" in found.caveats[0]


def changed(record: Record, part: str, **values: Any) -> Record:
    return dataclasses.replace(record, **{part: dataclasses.replace(getattr(record, part), **values)})


@pytest.mark.parametrize(
    ("part", "values", "said"),
    [
        ("state", {"threads": 2}, "state.threads: 1 and 2"),
        ("state", {"power_mode": "MAXN"}, "state.power_mode: unknown and MAXN"),
        ("target", {"cpu": "another"}, "and another"),
        (
            "method",
            {"mode": "paced", "period_ms": 33.3},
            "method.mode: back-to-back and paced; method.period_ms: unknown and 33.3",
        ),
    ],
)
def test_other_conditions_are_refused_by_name(record: Record, part: str, values: dict[str, Any], said: str) -> None:
    other = changed(record, part, **values)
    with pytest.raises(MeasurementError, match=r"cannot be compared") as caught:
        compare(measured(record, 10.0), measured(other, 10.0))
    assert said in caught.value.message and caught.value.exit_code == 15


def test_equal_keys_mean_equal_conditions(record: Record) -> None:
    assert differing(record, changed(record, "state", load_1min=9.0)) == []
    assert differing(record, changed(record, "state", cpu_affinity=(7,))) != []


def test_records_that_are_not_valid_are_compared_only_on_request(record: Record) -> None:
    bad = dataclasses.replace(record, validity=Validity(False, ("throttled: oc2 rose by 3",)))
    with pytest.raises(MeasurementError, match="oc2 rose by 3"):
        compare(measured(record, 10.0), measured(bad, 10.0))
    assert "oc2" in compare(measured(record, 10.0), measured(bad, 10.0), even_invalid=True).caveats[0]


def test_a_record_without_timings_has_no_speed(record: Record) -> None:
    with pytest.raises(MeasurementError, match="has no timings"):
        compare(measured(record, 10.0), measured(dataclasses.replace(record, latency_ms=None), 10.0))


def test_a_regression_is_an_error_only_beyond_what_is_allowed_and_only_if_it_is_shown(record: Record) -> None:
    slower = compare(measured(record, 10.0, 10.1), measured(record, 10.8, 10.9, seed=1))
    with pytest.raises(RegressionError, match=r"\+8") as caught:
        refuse_regression(slower, 0.05)
    assert caught.value.exit_code == 16
    refuse_regression(slower, 0.10)
    refuse_regression(dataclasses.replace(slower, outcome=Outcome.NO_DIFFERENCE), 0.05)


SAMPLES = {"burst": [1_000_000], "sustained": [1_000_000, 2_000_000, 3_000_000], "sustained_counts": [1, 2]}


@pytest.fixture
def stored(record: Record, tmp_path: Path) -> Path:
    assert record.latency_ms is not None
    latency = dataclasses.replace(record.latency_ms, sustained=summarise(SAMPLES["sustained"]))
    write_record(dataclasses.replace(record, latency_ms=latency), tmp_path / "r.json", SAMPLES)
    return tmp_path / "r.json"


def test_a_record_is_read_with_the_samples_of_each_process(stored: Path) -> None:
    assert [samples.tolist() for samples in read_measured(stored).processes] == [[1_000_000], [2_000_000, 3_000_000]]


def test_samples_of_another_record_are_refused(stored: Path) -> None:
    np.savez(stored.with_name("r.samples.npz"), sustained=np.array([5, 6]), sustained_counts=np.array([2]))
    with pytest.raises(BundleError, match="does not hold the samples"):
        read_measured(stored)
    stored.with_name("r.samples.npz").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(BundleError, match="cannot be read"):
        read_measured(stored)
    stored.with_name("r.samples.npz").unlink()
    with pytest.raises(BundleError, match="is missing"):
        read_measured(stored)


def test_a_record_keeps_its_key_when_it_is_read(record: Record, tmp_path: Path) -> None:
    write_record(record, tmp_path / "r.json")
    assert differing(record, read_record(tmp_path / "r.json")) == []
