"""Calibration data is looked at before it calibrates: every fault is named, and nothing good is refused."""

from __future__ import annotations

import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgegen.data.check import check_pictures, require_usable
from edgegen.errors import DataError


def bomb(width: int, height: int) -> bytes:
    """Return a PNG that claims width x height pixels in a few bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.fixture
def photos(tmp_path: Path, shared_images: Path) -> Path:
    """Twelve street photos of 96 pixels."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in sorted((shared_images / "street_train").glob("*.png"))[:12]:
        Image.open(path).convert("RGB").resize((96, 96)).save(folder / path.name)
    return folder


def test_good_photos_are_usable_and_their_hash_changes_with_a_byte_and_with_a_name(photos: Path) -> None:
    found = check_pictures(photos, held_out=4)
    assert (found.count, found.is_usable) == (12, True)
    assert found.refused == found.leaks == found.copies == found.outliers == ()
    first = min(photos.iterdir())
    first.rename(photos / "renamed.png")
    renamed = check_pictures(photos, held_out=4)
    with open(photos / "renamed.png", "ab") as file:
        file.write(b"\0")
    assert len({found.sha256, renamed.sha256, check_pictures(photos, held_out=4).sha256}) == 3


def test_every_bad_file_is_named_with_its_own_sentence_and_the_others_are_still_read(photos: Path) -> None:
    (photos / "bomb.png").write_bytes(bomb(50_000, 50_000))
    (photos / "corrupt.jpg").write_bytes(b"\xff\xd8\xff" + b"not a picture" * 50)
    (photos / "empty.png").write_bytes(b"")
    (photos / "cut.png").write_bytes(min(photos.glob("0*.png")).read_bytes()[:2000])
    holes = np.full((96, 96, 4), 200, np.uint8)
    holes[:40, :40, 3] = 0
    Image.fromarray(holes).save(photos / "holes.png")
    found = check_pictures(photos, held_out=4)
    assert not found.is_usable
    assert found.count == 12
    told = "\n".join(found.refused)
    for name, fact in (("bomb.png", "pixels"), ("corrupt.jpg", "not a readable picture"), ("empty.png", "not a readable picture"),
                       ("cut.png", "not a readable picture"), ("holes.png", "transparent")):  # fmt: skip
        assert any(name in sentence and fact in sentence for sentence in found.refused), (name, told)
    with pytest.raises(DataError, match=r"and 4 more") as caught:
        require_usable(found, photos)
    assert caught.value.hint


def test_an_identical_file_and_a_smaller_jpeg_of_it_are_found(photos: Path) -> None:
    first = min(photos.iterdir())
    shutil.copy(first, photos / "zz-copy.png")
    found = check_pictures(photos, held_out=4)
    assert found.copies == (f"zz-copy.png is the same file as {first.name}",)
    assert found.is_usable


def test_a_held_out_picture_that_is_calibrated_on_in_another_format_is_a_leak(photos: Path) -> None:
    for path in sorted(photos.iterdir()):
        Image.open(path).resize((80, 80)).save(photos / f"{path.stem}.jpg", quality=90)
    found = check_pictures(photos, held_out=4)
    assert len(found.leaks) >= 3
    assert ".jpg" in found.leaks[0] and "held out" in found.leaks[0]


def test_a_picture_of_the_evaluation_data_among_those_that_calibrate_is_a_leak(photos: Path, tmp_path: Path) -> None:
    evaluation = tmp_path / "evaluation"
    evaluation.mkdir()
    first = min(photos.iterdir())
    Image.open(first).save(evaluation / "judge.bmp")
    found = check_pictures(photos, held_out=4, evaluation=evaluation)
    assert found.leaks == (f"{first.name} is also in the evaluation data, as judge.bmp",)


def test_the_frames_of_the_street_video_do_not_leak_into_each_other(shared_images: Path) -> None:
    found = check_pictures(shared_images / "street_test", held_out=6, evaluation=None)
    assert found.is_usable and found.outliers == ()


def test_a_picture_unlike_all_others_stands_out(photos: Path) -> None:
    Image.new("RGB", (96, 96), (250, 20, 20)).save(photos / "red.png")
    found = check_pictures(photos, held_out=4)
    assert len(found.outliers) == 1
    assert found.outliers[0].startswith("red.png stands out: saturation 230 of 255")
    assert found.is_usable


def test_flat_pictures_and_too_few_pictures_are_refused(tmp_path: Path) -> None:
    for level in range(9):
        Image.new("RGB", (32, 32), (level * 20,) * 3).save(tmp_path / f"{level}.png")
    assert any("one flat colour" in sentence for sentence in check_pictures(tmp_path, held_out=2).refused)
    for level in range(2, 9):
        (tmp_path / f"{level}.png").unlink()
    assert any("at least 8 are needed" in sentence for sentence in check_pictures(tmp_path, held_out=2).refused)


def test_colours_where_class_ids_belong_and_unknown_ids_are_refused(tmp_path: Path) -> None:
    for index in range(9):
        Image.fromarray(np.random.default_rng(index).integers(0, 5, (32, 32), np.uint8)).save(tmp_path / f"{index}.png")
    assert check_pictures(tmp_path, held_out=2, classes=5).is_usable
    Image.new("RGB", (32, 32), (9, 9, 9)).save(tmp_path / "colour.png")
    Image.fromarray(np.full((32, 32), 7, np.uint8)).save(tmp_path / "unknown.png")
    told = check_pictures(tmp_path, held_out=2, classes=5).refused
    assert "colour.png is a colour picture" in told[0] and "unknown.png has class id 7" in told[1]


def test_a_missing_folder_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        check_pictures(tmp_path / "none", held_out=4)
