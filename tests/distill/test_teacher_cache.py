"""Teacher images on the disk: computed once, never wrong."""

import dataclasses

import numpy as np
import pytest
import torch
from test_loop import run
from tiny import CONFIG, SIDE, painter, same_weights

from edgegen.distill.teacher_cache import TeacherCache
from edgegen.errors import StorageError
from edgegen.recipe import LossConfig
from edgegen.spec import Kind, Layout, TensorSpec

PICTURE = TensorSpec("y", Kind.IMAGE, (3, 4, 4), Layout.CHW, "float32", -1.0, 1.0)
BOUNDLESS = TensorSpec("y", Kind.IMAGE, (3, 4, 4), Layout.CHW, "float32", None, None)
PLAIN = dataclasses.replace(CONFIG, losses=LossConfig(feature=0.0), augment=dataclasses.replace(CONFIG.augment, views=2))


def opened(folder, output=PICTURE, count=6):
    return TeacherCache(folder, "0123456789abcdef", count=count, shape=output.shape, output=output)


def image(seed):
    return torch.rand((1, 3, 4, 4), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def never(index):
    raise AssertionError(f"image {index} was computed again")


@pytest.mark.parametrize(("output", "step"), [(PICTURE, 1 / 255), (BOUNDLESS, 1e-3)], ids=["uint8", "float16"])
def test_an_image_is_computed_once_and_read_back_as_it_was_first_given(tmp_path, output, step):
    first = opened(tmp_path, output).images([4, 1], lambda index: image((4, 1)[index]))
    again = opened(tmp_path, output).images([1, 4], never)
    assert torch.equal(first, again.flip(0))
    assert (first[0] - image(4)[0]).abs().max() <= step


def test_a_torn_image_is_computed_again(tmp_path):
    cache = opened(tmp_path)
    whole = cache.images([2], lambda _: image(2))
    (file,) = tmp_path.glob("*.images.npy")
    with open(file, "r+b") as handle:
        handle.seek(-(3 * 3 * 16 + 5), 2)  # three images from the end, five bytes before
        byte = handle.read(1)
        handle.seek(-1, 1)
        handle.write(bytes([byte[0] ^ 255]))
    repaired = opened(tmp_path)
    assert torch.equal(repaired.images([2], lambda _: image(2)), whole)
    assert (repaired.computed, repaired.read) == (1, 0)


@pytest.mark.parametrize("suffix", ["images", "sums"])
def test_a_file_that_was_cut_short_or_has_another_size_is_made_anew(tmp_path, suffix):
    opened(tmp_path).images([2], lambda _: image(2))
    (file,) = tmp_path.glob(f"*.{suffix}.npy")
    file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(opened(tmp_path).images([2], lambda _: image(3)), opened(tmp_path).images([2], never))
    assert not list(tmp_path.glob("*.part"))


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="the teacher's images cannot be stored"):
        opened(tmp_path / "file")


def test_a_student_is_the_same_whether_the_images_were_there_or_not(tmp_path):
    cold = run(tmp_path, config=PLAIN)
    stored = {path.name for path in tmp_path.glob("teacher-*")}
    (tmp_path / "distill.training").unlink()
    assert same_weights(cold, run(tmp_path, config=PLAIN))
    assert {path.name for path in tmp_path.glob("teacher-*")} == stored and len(stored) == 2
    (images,) = tmp_path.glob("*.images.npy")
    assert np.load(images).shape == (12, 3, SIDE, SIDE) and np.load(images).dtype == np.uint8
    assert cold.lineage[-1].facts["teacher_images"] == "12 stored"


def test_several_students_share_the_images_and_another_teacher_has_its_own(tmp_path):
    run(tmp_path, config=PLAIN)
    run(tmp_path, config=PLAIN, student=painter(6, seed=5))
    assert len(list(tmp_path.glob("*.images.npy"))) == 1
    run(tmp_path, config=PLAIN, teacher=painter(8, seed=9))
    assert len(list(tmp_path.glob("*.images.npy"))) == 2


def test_stored_images_train_as_well_as_fresh_ones(tmp_path):
    compares = dataclasses.replace(PLAIN, losses=LossConfig(feature=1e-12))
    stored = run(tmp_path / "stored", config=PLAIN, steps=40).lineage[-1].facts
    fresh = run(tmp_path / "fresh", config=compares, steps=40).lineage[-1].facts
    assert fresh["teacher_images"] == "computed in every step"  # a loss that compares layers needs the teacher itself
    assert stored["psnr_db"] == pytest.approx(fresh["psnr_db"], abs=0.2)
