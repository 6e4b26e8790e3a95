"""What stages get to train, calibrate and verify with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgegen.data import open_inputs
from edgegen.data.gallery import split
from edgegen.data.inputs import Inputs
from edgegen.errors import DataError, EdgegenError, RecipeError
from edgegen.recipe import AugmentConfig
from edgegen.resources import resource_folder, resource_names
from edgegen.spec import ComponentSpec, Kind, Layout, TensorSpec


def image(side: int, *, channels: int = 3, low: float = -1.0, high: float = 1.0, name: str = "x") -> TensorSpec:
    return TensorSpec(name, Kind.IMAGE, (channels, side, side), Layout.CHW, "float32", low, high)


def component(*inputs: TensorSpec, out: int = 32) -> ComponentSpec:
    return ComponentSpec("generator", inputs, (image(out, name="y"),))


PHOTO = component(image(32))
LABELS = component(TensorSpec("labels", Kind.LABEL_MAP, (12, 32, 32), Layout.CHW))
LATENT = component(TensorSpec("z", Kind.LATENT, (16,), Layout.D))


def opened(
    spec: ComponentSpec, folder: Path | None = None, *, calibration: str = "auto", seed: int = 0, held_out: int = 4
) -> Inputs:
    return open_inputs(spec, folder, calibration=calibration, seed=seed, held_out=held_out)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve pictures, each of one grey level 20 * i with a white dot, so that an input tells which picture it is from."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(12):
        values = np.full((48, 64, 3), 20 * i, np.uint8)
        values[0, 0] = 255
        Image.fromarray(values).save(folder / f"{i:02}.png")
    return folder


def shades(arrays: list[tuple[np.ndarray, ...]]) -> set[int]:
    """Return which of the grey pictures the inputs are from."""
    return {round((float(np.median(array[0])) + 1) * 127.5 / 20) for array in arrays}


def test_held_out_pictures_are_never_trained_or_calibrated_on(photos: Path) -> None:
    inputs = opened(PHOTO, photos)
    held_out, calibration = shades(inputs.held_out(100)), shades(inputs.calibration())
    trained = {shade for step in range(20) for x in inputs.train(step, 2, AugmentConfig())[0] for shade in shades([(x.numpy(),)])}
    assert len(held_out) == 4
    assert trained == calibration == set(range(12)) - held_out


def test_a_pass_over_the_training_pictures_shows_each_once(photos: Path) -> None:
    inputs = opened(PHOTO, photos)
    first = [shades([(x.numpy(),)]) for step in range(4) for x in inputs.train(step, 2, AugmentConfig())[0]]
    assert len({tuple(shade) for shade in first}) == 8


@given(count=st.integers(8, 500), held_out=st.integers(1, 600))
def test_a_split_is_disjoint_complete_and_leaves_enough_to_train(count: int, held_out: int) -> None:
    parts = split(count, held_out)
    assert sorted(parts.train + parts.held_out) == list(range(count))
    assert len(parts.train) >= max(4, count // 2)
    assert len(parts.held_out) == min(held_out, count // 2)
    gaps = np.diff(sorted(parts.held_out))
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_arrays_follow_the_spec(photos: Path) -> None:
    array = opened(PHOTO, photos).held_out(1)[0][0]
    assert (array.shape, array.dtype) == ((1, 3, 32, 32), np.float32)
    assert array.min() >= -1
    assert array.max() <= 1
    pixels = TensorSpec("x", Kind.IMAGE, (32, 32, 3), Layout.HWC, "uint8", 0.0, 255.0)
    array = opened(component(pixels), photos).held_out(1)[0][0]
    assert (array.shape, array.dtype) == ((1, 32, 32, 3), np.uint8)
    grey = opened(component(image(32, channels=1)), photos).held_out(1)[0][0]
    assert grey.shape == (1, 1, 32, 32)


def test_black_and_white_map_to_low_and_high(tmp_path: Path) -> None:
    for i in range(8):
        values = np.zeros((32, 32, 3), np.uint8)
        values[:, 16:] = 255
        values[i] = 1
        Image.fromarray(values).save(tmp_path / f"{i}.png")
    array = opened(component(image(32, low=0.0, high=255.0)), tmp_path).held_out(1)[0][0]
    assert (array.min(), array.max()) == (0.0, 255.0)


def test_the_same_seed_and_step_give_the_same_batch_and_others_do_not(photos: Path) -> None:
    augment = AugmentConfig(crop=16, rotate_degrees=10, jitter=0.2)
    first, again, other = opened(PHOTO, photos), opened(PHOTO, photos), opened(PHOTO, photos, seed=1)
    batch = first.train(7, 4, augment)[0]
    assert (batch.shape, batch.dtype) == ((4, 3, 16, 16), torch.float32)
    assert torch.equal(batch, again.train(7, 4, augment)[0])
    assert not torch.equal(batch, again.train(8, 4, augment)[0])
    assert not torch.equal(batch, other.train(7, 4, augment)[0])


def test_the_digest_changes_with_files_seed_and_settings_and_with_nothing_else(photos: Path) -> None:
    digest = opened(PHOTO, photos).digest
    assert opened(PHOTO, photos).digest == digest
    renamed = photos.rename(photos.with_name("elsewhere"))
    assert opened(PHOTO, renamed).digest == digest
    changed = {opened(PHOTO, renamed, seed=1).digest, opened(PHOTO, renamed, held_out=3).digest}
    changed.add(opened(PHOTO, renamed, calibration="low-light").digest)
    Image.new("RGB", (40, 40), "red").save(renamed / "00.png")
    changed.add(opened(PHOTO, renamed).digest)
    assert len(changed | {digest}) == 5


def test_a_copy_of_a_picture_cannot_be_trained_on_and_held_out(photos: Path) -> None:
    for path in sorted(photos.glob("*.png")):
        (photos / f"copy-{path.name}").write_bytes(path.read_bytes())
    inputs = opened(PHOTO, photos)
    assert "12 copies left out" in inputs.description
    assert not shades(inputs.held_out(100)) & shades(inputs.calibration())


def test_a_super_resolver_gets_reduced_photos_and_their_truth(shared_images: Path) -> None:
    inputs = opened(component(image(64, low=0.0, high=1.0), out=256), shared_images / "street_test", held_out=3)
    truth = inputs.truth(3)
    assert truth is not None
    for (array,), picture in zip(inputs.held_out(3), truth, strict=True):
        assert (array.shape, picture.shape) == ((1, 3, 64, 64), (256, 256, 3))
        reduced = np.asarray(Image.fromarray(picture).resize((64, 64), Image.Resampling.BICUBIC)) / 255
        assert np.abs(array[0].transpose(1, 2, 0) - reduced).max() < 1e-6
    assert inputs.train(0, 2, AugmentConfig(crop=128))[0].shape == (2, 3, 64, 64)


def test_other_generators_have_no_truth(photos: Path) -> None:
    assert opened(PHOTO, photos).truth(2) is None


def test_real_label_maps_become_one_hot(shared_images: Path) -> None:
    inputs = opened(LABELS, shared_images / "street_test_labels")
    for array in (inputs.held_out(1)[0][0], inputs.train(0, 2, AugmentConfig(crop=16, rotate_degrees=5))[0].numpy()):
        assert array.shape[1] == 12
        assert set(np.unique(array)) == {0.0, 1.0}
        assert (array.sum(axis=1) == 1).all()


def test_low_light_inputs_are_dark(shared_images: Path) -> None:
    spec = component(image(64, low=0.0, high=1.0), out=64)
    folder = shared_images / "street_test"
    light, dark = opened(spec, folder), opened(spec, folder, calibration="low-light")
    for (bright,), (dim,) in zip(light.held_out(4), dark.held_out(4), strict=True):
        assert dim.mean() < 0.6 * bright.mean()
    assert dark.train(0, 4, AugmentConfig())[0].mean() < 0.4


def test_drawn_pictures_need_no_folder_and_say_so() -> None:
    inputs = opened(PHOTO, calibration="synthetic-photos")
    assert "drawn by edgegen, not photographed" in inputs.description
    assert inputs.held_out(1)[0][0].std() > 0.05


def test_pictures_are_never_made_up_silently() -> None:
    with pytest.raises(DataError, match="takes pictures") as caught:
        opened(PHOTO)
    assert "--data DIR" in caught.value.hint


def test_a_folder_that_cannot_serve_is_refused(tmp_path: Path, photos: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(photos.glob("*.png"))[:7]:
        (few / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="holds 7 different pictures, at least 8"):
        opened(PHOTO, few)
    flat = tmp_path / "flat"
    flat.mkdir()
    for i in range(9):
        Image.new("RGB", (32, 32), (i, i, i)).save(flat / f"{i}.png")
    with pytest.raises(DataError, match="flat colour"):
        opened(PHOTO, flat)
    (photos / "05.png").write_bytes((photos / "05.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"05\.png is not a readable picture"):
        opened(PHOTO, photos)


def test_inputs_without_a_source_are_refused_by_name(photos: Path) -> None:
    with pytest.raises(DataError, match="'x' has 4 channels"):
        opened(component(image(32, channels=4)), photos)
    with pytest.raises(DataError, match=r"takes prompts \('t'\) and no folder"):
        opened(component(TensorSpec("t", Kind.TOKENS, (77,), Layout.D, "int64")))
    with pytest.raises(DataError, match="several pictures"):
        opened(component(image(32), image(32, name="x2")), photos)
    with pytest.raises(DataError, match="how many classes"):
        opened(component(TensorSpec("c", Kind.CLASS, (1,), Layout.D, "int64")))


def test_latents_follow_the_distribution_of_the_spec() -> None:
    normal = opened(LATENT).train(0, 4096, AugmentConfig())[0]
    assert abs(float(normal.mean())) < 0.02
    assert float(normal.std()) == pytest.approx(1.0, abs=0.02)
    uniform = TensorSpec("z", Kind.LATENT, (16,), Layout.D, "float32", -1.0, 1.0)
    drawn = opened(component(uniform)).train(0, 4096, AugmentConfig())[0]
    assert drawn.min() >= -1
    assert drawn.max() <= 1
    assert float(drawn.std()) == pytest.approx(1 / 3**0.5, abs=0.02)


def test_latents_of_steps_and_seeds_differ_and_repeat() -> None:
    first, again = opened(LATENT), opened(LATENT)
    batches = [first.train(step, 2, AugmentConfig())[0] for step in (0, 1)] + [
        opened(LATENT, seed=1).train(0, 2, AugmentConfig())[0]
    ]
    assert torch.equal(batches[0], again.train(0, 2, AugmentConfig())[0])
    assert not torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])


def test_held_out_latents_are_those_of_the_runtime_and_not_for_calibration() -> None:
    from edgegen.runtime.latents import latent

    inputs = opened(LATENT, seed=3)
    held_out, calibration = inputs.held_out(1000), inputs.calibration(64)
    assert len(held_out) == 1000
    assert np.array_equal(held_out[5][0], latent(LATENT.inputs[0], (3 << 20) + 5))
    assert not {array.tobytes() for (array,) in held_out} & {array.tobytes() for (array,) in calibration}


def test_classes_are_drawn_as_ids_or_one_hot() -> None:
    ids = TensorSpec("c", Kind.CLASS, (1,), Layout.D, "int64", 0, 9)
    one_hot = TensorSpec("c", Kind.CLASS, (10,), Layout.D, "float32")
    spec = component(TensorSpec("z", Kind.LATENT, (4,), Layout.D), ids, one_hot)
    latents, drawn, hot = opened(spec).train(0, 64, AugmentConfig())
    assert latents.shape == (64, 4)
    assert set(drawn.flatten().tolist()) <= set(range(10))
    assert len(set(drawn.flatten().tolist())) > 5
    assert (hot.sum(1) == 1).all()


@pytest.mark.parametrize("name", resource_names("calibration"))
def test_a_built_in_calibration_set_works_for_its_kind(name: str, photos: Path, shared_images: Path, prompt_folder: Path) -> None:
    spec, folder = {
        "latents": (component(TensorSpec("c", Kind.CLASS, (4,), Layout.D)), None),
        "class-latents": (component(LATENT.inputs[0], TensorSpec("c", Kind.CLASS, (4,), Layout.D)), None),
        "prompts": (component(TensorSpec("t", Kind.TOKENS, (6,), Layout.D, "int64")), prompt_folder),
        "label-maps": (LABELS, shared_images / "street_test_labels"),
        "synthetic-photos": (PHOTO, None),
    }.get(name, (PHOTO, photos))
    assert opened(spec, folder, calibration=name).calibration(4)


@pytest.mark.parametrize(
    ("name", "old", "new", "fact"),
    [
        ("photos", 'kind = "image"', 'kind = "latent"', "is for latent inputs, the generator takes image"),
        ("photos", 'source = "folder"', 'source = "random"', "source 'random' does not give image inputs"),
        ("photos", "zoom = [0.8, 1.25]", "zoom = [1.25, 0.8]", "augment.zoom is [1.25, 0.8]"),
        ("photos", "count = 128", "cuont = 128", "cuont is not a key"),
        ("low-light", "gain = [0.3, 0.8]", "gain = [0.3, 1.8]", "darken.gain[1] is 1.8"),
    ],
)
def test_a_calibration_file_that_does_not_fit_is_refused(
    tmp_path: Path, photos: Path, name: str, old: str, new: str, fact: str
) -> None:
    text = (resource_folder("calibration") / f"{name}.toml").read_text()
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(RecipeError) as caught:
        opened(PHOTO, photos, calibration=str(path))
    assert fact in caught.value.message


def test_an_unknown_calibration_names_the_nearest() -> None:
    with pytest.raises(EdgegenError, match="calibration 'photo' is unknown") as caught:
        opened(PHOTO, calibration="photo")
    assert "photos" in caught.value.hint
