"""`edgegen calibrate --check` tells what is wrong with calibration data, and ends with 7 if it may not be used."""

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from edgegen.cli.main import app
from edgegen.errors import DataError


@pytest.fixture
def photos(tmp_path: Path, shared_images: Path) -> Path:
    """Ten street photos of 64 pixels."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in sorted((shared_images / "street_train").glob("*.png"))[:10]:
        Image.open(path).convert("RGB").resize((64, 64)).save(folder / path.name)
    return folder


def run(*words: object):
    return CliRunner().invoke(app, ["calibrate", *map(str, words)])


def test_good_data_is_told_as_such_with_the_coverage_of_a_real_generator(photos: Path, shared_checkpoints: Path) -> None:
    checkpoint = shared_checkpoints / "lowlight_sci" / "medium.pt"
    result = run("--check", photos, "--checkpoint", checkpoint, "--resolution", "64x64", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["count"], told["usable"], told["refused"]) == (10, True, [])
    assert told["coverage"]["count"] >= 4 and "sentence" in told["coverage"]


def test_a_corrupt_file_ends_with_its_name_and_code_7_after_the_table(photos: Path) -> None:
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    result = run("--check", photos)
    assert isinstance(result.exception, DataError) and result.exception.exit_code == 7
    assert "broken.png is not a readable picture" in result.exception.message
    assert "refused" in result.stdout


def test_latents_need_no_folder_but_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    result = run("--check", tmp_path / "none")
    assert "does not exist" in result.exception.message
