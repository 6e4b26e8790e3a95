"""Reading picture files that nobody vouches for."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgegen.data.pictures import decode_label_map, decode_photo, list_pictures, read_file
from edgegen.errors import DataError


def photo(path: Path, mode: str = "RGB", size: int = 256) -> Image.Image:
    return decode_photo(path.read_bytes(), path, mode=mode, smallest_side=size)


def bomb(width: int, height: int) -> bytes:
    """Return a PNG that claims width x height pixels in a few bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def test_pictures_are_found_in_subfolders_and_sorted_by_name(tmp_path: Path) -> None:
    for name in (
        "b.png",
        "sub/a.JPG",
        "a.webp",
        "notes.txt",
        ".hidden.png",
        "._a.png",
        ".trash/c.png",
        "c.ppm",
        "d.bmp",
        "e.jpeg",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    names = [path.relative_to(tmp_path).as_posix() for path in list_pictures(tmp_path)]
    assert names == ["a.webp", "b.png", "c.ppm", "d.bmp", "e.jpeg", "sub/a.JPG"]


def test_a_pipe_called_png_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match="no pictures"):
        list_pictures(tmp_path)


def test_a_missing_folder_a_file_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "file.png").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    for name, fact in (("none", "does not exist"), ("file.png", "is a file, not a folder"), ("empty", "holds no pictures")):
        with pytest.raises(DataError, match=fact) as caught:
            list_pictures(tmp_path / name)
        assert name in caught.value.message
        assert caught.value.hint


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "ppm"])
def test_every_format_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (40, 30), (200, 100, 50)).save(path)
    image = photo(path)
    assert (image.size, image.mode) == ((40, 30), "RGB")
    assert np.abs(np.asarray(image).astype(int) - (200, 100, 50)).max() <= 4  # JPEG and WebP lose a little


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1", "I;16"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    source = (
        Image.fromarray(np.full((8, 8), 65535 // 2, np.uint16))
        if mode == "I;16"
        else Image.new("RGB", (8, 8), "white").convert(mode)
    )
    source.save(path)
    values = np.asarray(photo(path))
    assert values.shape == (8, 8, 3)
    assert abs(int(values.mean()) - (127 if mode == "I;16" else 255)) <= 1


def test_a_picture_turned_by_its_camera_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to show
    Image.new("RGB", (40, 20), "red").save(tmp_path / "a.jpg", exif=exif)
    assert photo(tmp_path / "a.jpg").size == (20, 40)


def test_a_large_photo_is_kept_no_larger_than_needed(tmp_path: Path) -> None:
    Image.new("RGB", (1200, 800)).save(tmp_path / "a.jpg")
    assert photo(tmp_path / "a.jpg", size=200).size == (300, 200)


def test_real_photos_are_read(shared_images: Path) -> None:
    paths = list_pictures(shared_images / "street_test")
    assert len(paths) == 20
    assert photo(paths[0], size=512).size == (480, 360)


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"", "not a readable picture"),
        (b"no picture at all", "not a readable picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a readable picture"),
        (bomb(50_000, 50_000), "too many pixels"),
        (bomb(10_000, 10_000), "10000x10000, more than 64 megapixels"),
        (bomb(64, 64), "not a readable picture"),
    ],
    ids=["empty", "text", "postscript", "bomb", "large", "too little data"],
)
def test_a_file_that_is_no_picture_is_refused_by_name(tmp_path: Path, content: bytes, fact: str) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=fact) as caught:
        photo(path)
    assert "bad.png" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp"])
def test_a_truncated_picture_is_refused_at_any_length(tmp_path: Path, shared_images: Path, suffix: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    Image.open(sorted((shared_images / "street_test").glob("*.png"))[0]).resize((64, 48)).save(path)
    whole = path.read_bytes()
    for part in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(DataError, match=r"cut\."):
            photo(path)


def test_a_file_beyond_the_size_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(300 << 20)  # sparse: takes no room
    with pytest.raises(DataError, match="larger than 256 MiB"):
        read_file(path)


def test_class_ids_are_read_from_grey_and_palette_pictures(tmp_path: Path) -> None:
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(ids).save(tmp_path / "grey.png")
    palette = Image.fromarray(ids).convert("P")
    palette = Image.fromarray(ids, "P") if palette.mode != "P" else palette
    palette.putdata(list(range(12)))
    palette.save(tmp_path / "palette.png")
    for name in ("grey.png", "palette.png"):
        path = tmp_path / name
        assert (np.asarray(decode_label_map(path.read_bytes(), path, classes=12)) == ids).all()


def test_a_class_id_the_generator_does_not_know_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.full((4, 4), 255, np.uint8)).save(path)
    with pytest.raises(DataError, match="class id 255, the generator knows 12") as caught:
        decode_label_map(path.read_bytes(), path, classes=12)
    assert "ignore" in caught.value.hint


def test_a_colour_picture_is_no_label_map(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path)
    with pytest.raises(DataError, match="not a label map"):
        decode_label_map(path.read_bytes(), path, classes=12)
