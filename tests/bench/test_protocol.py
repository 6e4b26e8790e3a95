"""The procedure: gate first, cold numbers from fresh processes, validity computed."""

import dataclasses
import hashlib
import os
import shutil
from pathlib import Path

import pytest
import small_bundles

from edgegen.bench import BenchPlan, bench, measure_bundle
from edgegen.bench.record_sensors import CoolStart
from edgegen.bundle import pack_bundle, write_bundle
from edgegen.errors import BundleError
from edgegen.resources import resource_path
from edgegen.spec import Backend

SHORT = BenchPlan(threads=1, min_runs=64, min_seconds=0.05, cold_processes=1)


def test_a_measurement_tells_what_ran_where_and_how_long(small: small_bundles.Small, bundle: Path) -> None:
    record = measure_bundle(bundle, SHORT)
    assert record.quality.passed and record.quality.n == 3
    assert record.artifact.model_name == "small" and record.artifact.size_bytes == small.artifact.size_bytes
    assert record.target.id == "host" and record.target.runtime.name == "openvino" and record.state.threads == 1
    assert record.artifact.built_for is not None and record.artifact.built_for.target == "host"
    assert record.cold is not None and len(record.cold.load_ms) == 2
    assert record.latency_ms is not None and record.latency_ms.sustained.n >= 64
    assert record.latency_ms.sustained.p90 is not None and record.latency_ms.burst.n >= 1
    assert record.memory.vm_hwm_bytes > record.memory.vm_hwm_at_start_bytes > 0
    assert record.deadline is not None and record.deadline.budget_ms == 33.0
    assert record.method.profile == "short"


def test_the_record_tells_what_the_numbers_hang_on(small: small_bundles.Small, tmp_path: Path) -> None:
    told = [
        {"stage": "rewrite", "facts": {"params": 9, "macs": 90}},
        {"stage": "distill", "facts": {"params": 7}},
        {"stage": "x"},
    ]
    manifest = dataclasses.replace(small.manifest(), lineage=tuple(told))
    bundle = write_bundle(tmp_path / "b", manifest=manifest, artifacts=[small.artifact], cases=small.cases(1, min_psnr_db=45.0))
    record = measure_bundle(bundle, dataclasses.replace(SHORT, min_seconds=1.0, ambient_c=21.5))
    assert (record.artifact.params, record.artifact.macs) == (7, 90)
    assert record.artifact.signature is not None and not record.artifact.signature.verified
    assert (
        record.target.profile_sha256
        == hashlib.sha256(resource_path("targets", "host", error=BundleError).read_bytes()).hexdigest()
    )
    assert record.tool.git is not None and len(record.tool.git.rstrip("+")) == 12
    assert record.state.ambient_c == 21.5 and (record.state.uptime_s or 0) > 0
    assert record.method.sampler_cost_pct is not None and record.method.includes == ("compute",)
    assert (record.method.clock, record.method.resolution_ns, record.method.sync) == ("CLOCK_MONOTONIC", 1, None)
    assert record.cold is not None and record.cold.cache == "warm"


def test_inputs_are_drawn_from_a_seed_of_the_moment_which_the_record_tells(bundle: Path) -> None:
    plan = dataclasses.replace(SHORT, min_runs=1, min_seconds=0.0, cold_processes=0)
    seeds = [measure_bundle(bundle, one).method.inputs for one in (plan, plan, dataclasses.replace(plan, seed=5))]
    assert len({one.seed for one in seeds if one is not None}) == 3
    assert seeds[2] is not None and seeds[2].seed == 5


def test_each_process_waits_for_a_cool_device_and_the_record_says_how_long(bundle: Path, tmp_path: Path) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("soc\n")
    (zone / "temp").write_text("41500\n")
    plan = dataclasses.replace(SHORT, min_runs=2, min_seconds=0.0, processes=2, cold_processes=0, cool_wait_s=1.0)
    found = measure_bundle(bundle, dataclasses.replace(plan, sensor_root=str(tmp_path))).method.cool_start
    assert found == CoolStart(waited_s=(0.0, 0.0), above_rest_c=0.0, reached=True)
    assert measure_bundle(bundle, plan).method.cool_start is None or Path("/sys/class/thermal/thermal_zone0").exists()


def test_the_record_is_plain_json_for_the_pipeline(bundle: Path) -> None:
    record = bench(bundle, threads=1, min_runs=5, min_seconds=0)
    assert record["schema"] == "edgegen.bench/1" and record["memory"]["vm_hwm_bytes"] > 0
    assert record["latency_ms"]["sustained"]["p90"] is None
    assert record["validity"]["valid"] is False and "too few for a p90" in record["validity"]["reasons"][0]


def test_a_failing_case_withholds_the_timings(small: small_bundles.Small, tmp_path: Path) -> None:
    case = small.case(0, 45.0)
    wrong = small_bundles.BundleCase("00", case.inputs, (-case.outputs[0],), 45.0)
    out = write_bundle(tmp_path / "b", manifest=small.manifest(), artifacts=[small.artifact], cases=[wrong])
    record = measure_bundle(out, SHORT, out=tmp_path / "r.json")
    assert not record.quality.passed and record.latency_ms is None and record.cold is None
    assert not record.validity.valid and "withheld" in record.validity.reasons[0]
    assert [p.name for p in tmp_path.glob("r.*")] == ["r.json"]


def test_a_bundle_without_cases_is_not_timed(small: small_bundles.Small, tmp_path: Path) -> None:
    record = measure_bundle(small.write(tmp_path / "b", count=0), SHORT)
    assert record.latency_ms is None and record.validity.reasons == ("no stored cases to check it with",)


def test_several_processes_are_reported_one_by_one(bundle: Path) -> None:
    record = measure_bundle(bundle, dataclasses.replace(SHORT, processes=2, cold_processes=0))
    assert record.latency_ms is not None and len(record.latency_ms.per_process_p50) == 2


def test_an_archive_is_measured_like_its_folder(bundle: Path, tmp_path: Path) -> None:
    archive = pack_bundle(bundle, tmp_path / "b.zip")
    record = measure_bundle(archive, SHORT)
    assert record.quality.passed and record.latency_ms is not None


def test_times_of_a_stand_in_are_invalid(small: small_bundles.Small, tmp_path: Path) -> None:
    artifact = small_bundles.onnx_artifact(small.module, small.spec, tmp_path / "a", Backend.TENSORRT)
    manifest = small.manifest(preferred=artifact.name, target="jetson-orin-nano")
    out = write_bundle(tmp_path / "b", manifest=manifest, artifacts=[artifact], cases=small.cases(1))
    record = measure_bundle(out, SHORT)
    assert not record.validity.valid and any("stands in for tensorrt" in r for r in record.validity.reasons)
    assert record.target.id == "host" and record.artifact.built_for.target == "jetson-orin-nano"


def test_an_altered_artifact_ends_the_measurement(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    (copy / "artifacts" / "openvino" / "f32" / "generator.bin").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"generator\.bin was altered"):
        measure_bundle(copy, SHORT)


@pytest.mark.slow
def test_comparable_measurements_have_the_same_key(bundle: Path) -> None:
    one, two = (measure_bundle(bundle, dataclasses.replace(SHORT, threads=1, min_runs=n, cold_processes=0)) for n in (64, 70))
    both = measure_bundle(bundle, dataclasses.replace(SHORT, threads=2, cold_processes=0))
    assert one.comparable_key == two.comparable_key
    assert (one.comparable_key != both.comparable_key) == (len(os.sched_getaffinity(0)) > 1)
