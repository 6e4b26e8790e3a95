"""What int8 was calibrated on is looked at in every run, and the bundle says what was found."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import pipeline_runs
import pytest
from pipeline_runs import ask

from edgegen.calibrated import calibration_record, read_record, write_record
from edgegen.data import open_inputs
from edgegen.load import load


def record_of(folder: Path, data: Path):
    request = ask(folder, recipe="export-only", data=data)
    generator = load(folder / "photos.pt", arch=f"{folder / 'net.py'}:Net", trust=True, resolution=(32, 32))
    inputs = open_inputs(generator.spec, data, calibration="auto", seed=0, held_out=4)
    return calibration_record(request, inputs, generator)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pipeline_runs.write_picture_checkpoint(tmp_path)
    pipeline_runs.write_latent_checkpoint(tmp_path)
    pipeline_runs.write_photos(tmp_path / "photos", 12)
    return tmp_path


def test_the_record_tells_coverage_and_faults_and_hashes_the_result(folder: Path) -> None:
    shutil.copy(folder / "photos" / "00.png", folder / "photos" / "copy.png")
    record = record_of(folder, folder / "photos")
    facts = dict(record.facts)
    assert (record.stage, facts["pictures"], facts["copies_count"], facts["leaks_count"]) == ("calibrate", 13, 1, 0)
    assert facts["copies"] == ["copy.png is the same file as 00.png"]
    assert "of what" in facts["coverage"] and isinstance(facts["covers"], bool)
    told = facts.pop("sha256")
    assert told == hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def test_other_pictures_have_another_hash_and_the_record_survives_its_file(folder: Path, tmp_path: Path) -> None:
    before = record_of(folder, folder / "photos")
    write_record(before, tmp_path)
    assert read_record(tmp_path) == dataclasses.replace(before)
    (folder / "photos" / "00.png").unlink()
    assert record_of(folder, folder / "photos").facts["sha256"] != before.facts["sha256"]
