"""Opening and running bundles: real artifacts, folders and archives, and everything that was altered on the way."""

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import small_bundles
import torch

import edgegen.runtime
from edgegen.bundle import pack_bundle
from edgegen.runtime.errors import InputError, RuntimeBundleError
from edgegen.runtime.latents import latent
from edgegen.runtime.pictures import to_picture, to_tensor

PHOTO = np.random.default_rng(5).integers(0, 256, (small_bundles.HEIGHT, small_bundles.WIDTH, 3), np.uint8)


def torch_picture(small: small_bundles.Small, tensor: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return to_picture(small.module(torch.from_numpy(tensor)).numpy(), small.spec.outputs[0])


def test_a_photo_becomes_what_torch_makes_of_it(style: small_bundles.Small, style_bundle: Path) -> None:
    with edgegen.runtime.open(style_bundle) as generator:
        picture = generator(PHOTO)
    expected = torch_picture(style, to_tensor(PHOTO, style.spec.inputs[0]))
    assert picture.shape == PHOTO.shape and picture.dtype == np.uint8
    assert (
        np.abs(picture.astype(int) - expected).max() <= 1
    )  # both round to 8 bits; sums in another order differ in the last float bit


def test_a_seed_gives_the_latent_that_the_documentation_describes(from_latent: small_bundles.Small, tmp_path: Path) -> None:
    bundle = from_latent.write(tmp_path / "bundle")
    with edgegen.runtime.open(bundle) as generator:
        drawn = generator(seed=7)
        given = generator(latent(from_latent.spec.inputs[0], 7)[0])
        other = generator(seed=8)
    assert np.array_equal(drawn, given) and not np.array_equal(drawn, other)


def test_a_label_map_of_class_ids_is_taken(from_labels: small_bundles.Small, tmp_path: Path) -> None:
    ids = (np.arange(small_bundles.HEIGHT * small_bundles.WIDTH) % 4).astype(np.uint8)
    ids = ids.reshape(small_bundles.HEIGHT, small_bundles.WIDTH)
    with edgegen.runtime.open(from_labels.write(tmp_path / "bundle")) as generator:
        picture = generator(ids)
    expected = torch_picture(from_labels, to_tensor(ids, from_labels.spec.inputs[0]))
    assert np.abs(picture.astype(int) - expected).max() <= 1


def test_the_description_says_what_ran_in_which_type(style_bundle: Path) -> None:
    with edgegen.runtime.open(style_bundle, threads=1) as generator:
        facts = generator.describe()
    assert facts["backend"] == "openvino" and facts["threads"] == 1
    assert facts["shares"] == {"f32": 1.0}


def test_too_few_inputs_are_refused_with_what_is_taken(style_bundle: Path) -> None:
    with (
        edgegen.runtime.open(style_bundle) as generator,
        pytest.raises(InputError, match=r"0 inputs given; .* 'photo' \(image\)"),
    ):
        generator(seed=7)


def test_a_missing_latent_gets_the_hint_to_give_a_seed(from_latent: small_bundles.Small, tmp_path: Path) -> None:
    with edgegen.runtime.open(from_latent.write(tmp_path / "bundle")) as generator, pytest.raises(InputError) as caught:
        generator()
    assert "seed=7" in caught.value.hint


def test_raw_inputs_of_the_wrong_type_never_reach_the_back_end(style_bundle: Path) -> None:
    with edgegen.runtime.open(style_bundle) as generator, pytest.raises(InputError, match=r"float64 .* takes float32"):
        generator.run([np.zeros((1, 3, small_bundles.HEIGHT, small_bundles.WIDTH))])


def test_a_closed_bundle_says_so(style_bundle: Path) -> None:
    generator = edgegen.runtime.open(style_bundle)
    generator.close()
    with pytest.raises(RuntimeBundleError, match="was closed"):
        generator(PHOTO)


def test_negative_threads_are_refused(style_bundle: Path) -> None:
    with pytest.raises(InputError, match="threads is -1"):
        edgegen.runtime.open(style_bundle, threads=-1)


def test_an_artifact_that_the_bundle_lacks_is_refused_with_those_it_has(style_bundle: Path) -> None:
    with pytest.raises(RuntimeBundleError, match="no artifact 'litert'") as caught:
        edgegen.runtime.open(style_bundle, backend="litert")
    assert "openvino/f32" in caught.value.hint


def test_an_archive_gives_the_same_picture_as_its_folder(style_bundle: Path, tmp_path: Path) -> None:
    archive = pack_bundle(style_bundle, tmp_path / "bundle.zip")
    with edgegen.runtime.open(style_bundle) as folder, edgegen.runtime.open(archive) as packed:
        assert np.array_equal(folder(PHOTO), packed(PHOTO))


def test_an_archive_may_hold_the_bundle_in_its_only_folder(style_bundle: Path) -> None:
    made = shutil.make_archive(str(style_bundle.parent / "zipped"), "zip", style_bundle.parent, "bundle")
    with edgegen.runtime.open(made) as generator:
        assert generator(PHOTO).shape == PHOTO.shape


def _artifact(bundle: Path) -> Path:
    return bundle / "artifacts" / "openvino" / "f32"


def _flip_a_bit(bundle: Path) -> None:
    path = _artifact(bundle) / "generator.bin"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


def _cut(bundle: Path) -> None:
    os.truncate(_artifact(bundle) / "generator.xml", 50)


def _link(bundle: Path) -> None:
    path = _artifact(bundle) / "generator.bin"
    path.rename(bundle.parent / "elsewhere.bin")
    path.symlink_to(bundle.parent / "elsewhere.bin")


def _link_folder(bundle: Path) -> None:
    (bundle / "artifacts").rename(bundle.parent / "elsewhere")
    (bundle / "artifacts").symlink_to(bundle.parent / "elsewhere")


def _pipe(bundle: Path) -> None:
    (_artifact(bundle) / "generator.bin").unlink()
    os.mkfifo(_artifact(bundle) / "generator.bin")


def _extra_key(bundle: Path) -> None:
    document = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**document, "signature": "none"}))


def _newer_format(bundle: Path) -> None:
    document = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**document, "format": "edgegen.bundle/2"}))


SPOILED: dict[str, tuple[Callable[[Path], None], str]] = {
    "altered weights": (_flip_a_bit, r"generator\.bin was altered"),
    "cut graph": (_cut, r"generator\.xml was altered"),
    "missing weights": (lambda b: (_artifact(b) / "generator.bin").unlink(), r"generator\.bin is missing"),
    "linked file": (_link, "is a symbolic link"),
    "linked folder": (_link_folder, "is a symbolic link"),
    "named pipe": (_pipe, "is not a plain file"),
    "no manifest": (lambda b: (b / "manifest.json").unlink(), r"manifest\.json is missing"),
    "empty manifest": (lambda b: (b / "manifest.json").write_bytes(b""), "not valid JSON"),
    "extra key": (_extra_key, "'signature' is not a known key"),
    "newer format": (_newer_format, "edgegen.bundle/2"),
    "no bundle": (shutil.rmtree, "does not exist"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_folder_is_refused_for(style_bundle: Path, name: str) -> None:
    spoil, reason = SPOILED[name]
    spoil(style_bundle)
    with pytest.raises(RuntimeBundleError, match=reason):
        edgegen.runtime.open(style_bundle)


def test_an_altered_case_is_refused_when_the_cases_run(style_bundle: Path) -> None:
    path = style_bundle / "cases" / "01-expected-0.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with (
        edgegen.runtime.open(style_bundle) as generator,
        pytest.raises(RuntimeBundleError, match="01-expected-0.npy was altered"),
    ):
        list(generator.cases())


def _rezip(bundle: Path, change: Callable[[zipfile.ZipFile], None], skip: str = "") -> Path:
    archive = bundle.parent / "changed.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(p for p in bundle.rglob("*") if p.is_file()):
            name = path.relative_to(bundle).as_posix()
            if name != skip:
                packed.write(path, name)
        change(packed)
    return archive


def _linked_member(packed: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    packed.writestr(info, "/etc/passwd")


def _nameless(packed: zipfile.ZipFile) -> None:
    packed.writestr("a", "x")
    packed.getinfo("a").filename = ""  # as a damaged central directory has it


def _twice(packed: zipfile.ZipFile) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        packed.writestr("manifest.json", "{}")


ARCHIVES: dict[str, tuple[Callable[[zipfile.ZipFile], None], str, str]] = {
    "member above the bundle": (lambda z: z.writestr("../evil", "x"), "", "not a plain relative path"),
    "absolute member": (lambda z: z.writestr("/evil", "x"), "", "not a plain relative path"),
    "backslash": (lambda z: z.writestr("..\\evil", "x"), "", "not a plain relative path"),
    "nameless": (_nameless, "", "not a plain relative path"),
    "link": (_linked_member, "", "is a symbolic link"),
    "two manifests": (_twice, "", "appears twice"),
    "missing member": (lambda z: None, "artifacts/openvino/f32/generator.bin", "is missing"),
    "bomb": (lambda z: [z.writestr(f"n{i}", "") for i in range(5000)], "", "more than 4096 entries"),
    "huge manifest": (
        lambda z: z.writestr("manifest.json", b" " * (5 << 20), zipfile.ZIP_DEFLATED), "manifest.json", "larger than"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_is_refused_for(style_bundle: Path, name: str) -> None:
    change, skip, reason = ARCHIVES[name]
    archive = _rezip(style_bundle, change, skip)
    with pytest.raises(RuntimeBundleError, match=reason):
        edgegen.runtime.open(archive)
    assert not (style_bundle.parent / "evil").exists()


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.7, 0.99])
def test_a_cut_archive_is_refused(style_bundle: Path, kept: float) -> None:
    archive = pack_bundle(style_bundle, style_bundle.parent / "bundle.zip")
    os.truncate(archive, int(archive.stat().st_size * kept))
    with pytest.raises(RuntimeBundleError, match=r"not a readable \.zip"):
        edgegen.runtime.open(archive)


@pytest.mark.parametrize("step", range(10))
def test_an_archive_with_one_altered_byte_is_refused_or_gives_the_same_picture(style_bundle: Path, step: int) -> None:
    archive = pack_bundle(style_bundle, style_bundle.parent / "bundle.zip")
    with edgegen.runtime.open(archive) as generator:
        expected = generator(PHOTO)
    content = bytearray(archive.read_bytes())
    content[len(content) * step // 10 + 5] ^= 0xFF
    archive.write_bytes(content)
    try:
        with edgegen.runtime.open(archive) as generator:
            assert np.array_equal(generator(PHOTO), expected)
    except RuntimeBundleError:
        pass
