"""The record: one meaning in dataclasses and JSON Schema, strict when read, whole when written."""

import dataclasses
import json
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from edgegen.bench import BenchPlan, Record, measure_bundle, read_record, write_record
from edgegen.bench.record import Prediction, canonical_digest
from edgegen.bench.record_schema import record_schema
from edgegen.errors import BundleError, StorageError

SAMPLES = {"burst": [1, 2], "sustained": [3, 4, 5]}


@pytest.fixture(scope="module")
def record(bundle: Path) -> Record:
    return measure_bundle(bundle, BenchPlan(threads=1, min_runs=64, min_seconds=0.05, cold_processes=1))


def stored_schema() -> dict[str, Any]:
    return json.loads(resources.files("edgegen.bench").joinpath("record.schema.json").read_text())


def test_the_schema_file_says_what_the_dataclasses_say() -> None:
    assert stored_schema() == record_schema()


def test_a_written_record_satisfies_the_schema(record: Record, tmp_path: Path) -> None:
    write_record(record, tmp_path / "r.json", SAMPLES)
    jsonschema.Draft202012Validator.check_schema(stored_schema())
    jsonschema.validate(json.loads((tmp_path / "r.json").read_text()), stored_schema())


def test_a_record_of_the_first_version_is_read_and_satisfies_the_schema(record: Record, tmp_path: Path) -> None:
    """Without what was added since, which is left out where there is nothing to say."""
    first = dataclasses.replace(
        record,
        artifact=dataclasses.replace(record.artifact, signature=None),
        target=dataclasses.replace(record.target, l4t=None, driver=None),
        state=dataclasses.replace(record.state, background_load_pct=None, uptime_s=None, fan_pct=None),
        method=dataclasses.replace(record.method, sampler_cost_pct=None),
    )
    document = first.to_json()
    added = {"prediction", "background_load_pct", "cool_start", "signature", "driver", "uptime_s", "sampler_cost_pct"}
    assert not added & {*document, *(key for part in ("artifact", "target", "state", "method") for key in document[part])}
    jsonschema.validate(document, stored_schema())
    write_record(first, tmp_path / "r.json", SAMPLES)
    assert read_record(tmp_path / "r.json").prediction is None
    foretold = dataclasses.replace(record, prediction=Prediction(4.0, 5.0, -0.2, "predicted"))
    jsonschema.validate(foretold.to_json(), stored_schema())


@pytest.mark.parametrize("place", [(), ("latency_ms", "sustained"), ("artifact",)])
def test_the_schema_allows_no_other_keys(record: Record, place: tuple[str, ...]) -> None:
    document = record.to_json()
    at = document
    for key in place:
        at = at[key]
    at["surprise"] = 1
    with pytest.raises(jsonschema.ValidationError, match="surprise"):
        jsonschema.validate(document, stored_schema())


def test_a_record_is_read_back_as_it_was_written(record: Record, tmp_path: Path) -> None:
    written = write_record(record, tmp_path / "r.json", SAMPLES)
    assert read_record(tmp_path / "r.json") == written
    raw = np.load(tmp_path / written.latency_ms.raw)
    assert raw["sustained"].tolist() == [3, 4, 5] and raw["sustained"].dtype == np.int64
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.json", "r.samples.npz"]


def test_the_id_is_the_digest_of_the_canonical_record(record: Record) -> None:
    document = record.to_json()
    claimed = document.pop("record_id")
    reordered = json.loads(json.dumps(dict(reversed(document.items()))))
    assert canonical_digest(reordered) == claimed


def _rewrite(path: Path, **changes: Any) -> None:
    document = {**json.loads(path.read_text()), **changes}
    document.pop("record_id")
    path.write_text(json.dumps({**document, "record_id": canonical_digest(document)}))


def test_an_altered_record_is_refused(record: Record, tmp_path: Path) -> None:
    write_record(record, tmp_path / "r.json")
    text = (tmp_path / "r.json").read_text()
    (tmp_path / "r.json").write_text(text.replace('"duration_s": ', '"duration_s": 9'))
    with pytest.raises(BundleError, match="was altered"):
        read_record(tmp_path / "r.json")


@pytest.mark.parametrize(("value", "why"), [("1e999", "is too large for a number"), ('"\\ud800"', "was altered")])
def test_what_no_record_can_hold_is_refused(value: str, why: str, record: Record, tmp_path: Path) -> None:
    write_record(record, tmp_path / "r.json")
    text = (tmp_path / "r.json").read_text()
    (tmp_path / "r.json").write_text(text.replace('"duration_s": ', f'"ambient_c": {value}, "duration_s": '))
    with pytest.raises(BundleError, match=why):
        read_record(tmp_path / "r.json")


def test_another_schema_is_refused(record: Record, tmp_path: Path) -> None:
    write_record(record, tmp_path / "r.json")
    _rewrite(tmp_path / "r.json", schema="edgegen.bench/2")
    with pytest.raises(BundleError, match=r"edgegen\.bench/2"):
        read_record(tmp_path / "r.json")


def test_an_unknown_key_is_refused_with_the_nearest(record: Record, tmp_path: Path) -> None:
    write_record(record, tmp_path / "r.json")
    _rewrite(tmp_path / "r.json", validty={})
    with pytest.raises(BundleError, match="validty is not a key") as caught:
        read_record(tmp_path / "r.json")
    assert "validity" in caught.value.hint


def test_percentiles_that_do_not_rise_are_refused(record: Record, tmp_path: Path) -> None:
    assert record.latency_ms is not None
    wrong = dataclasses.replace(record.latency_ms.sustained, p50=1e9)
    spoiled = dataclasses.replace(record, latency_ms=dataclasses.replace(record.latency_ms, sustained=wrong))
    write_record(spoiled, tmp_path / "r.json")
    with pytest.raises(BundleError, match="do not rise"):
        read_record(tmp_path / "r.json")


@pytest.mark.parametrize("content", ["", "[]", '{"a": NaN}', '{"a": 1, "a": 1}', "[" * 50_000])
def test_what_is_no_record_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(BundleError, match=r"r\.json"):
        read_record(tmp_path / "r.json")


def test_a_record_that_cannot_be_written_is_a_storage_error(record: Record, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="is a file"):
        write_record(record, tmp_path / "file" / "r.json")
