"""A bundle is there whole or not at all."""

import errno
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import small_bundles

from edgegen.bundle import bundle_manifest, host_errors, open_bundle, pack_bundle, write_bundle
from edgegen.errors import BundleError, DataError, MissingExtraError, StorageError
from edgegen.runtime.check import check
from edgegen.runtime.errors import InputError, MissingBackendError, RuntimeBundleError


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> small_bundles.Small:
    return small_bundles.style(tmp_path_factory.mktemp("style"))


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_bundle_holds_manifest_artifact_cases_and_report(small: small_bundles.Small, tmp_path: Path) -> None:
    out = write_bundle(
        tmp_path / "out" / "bundle",
        manifest=small.manifest(),
        artifacts=[small.artifact],
        cases=small.cases(2),
        report="<p>é</p>",
    )
    assert set(content(out)) == {
        "manifest.json", "report.html", "artifacts/openvino/f32/generator.xml", "artifacts/openvino/f32/generator.bin",
        "cases/00-input-0.npy", "cases/00-expected-0.npy", "cases/01-input-0.npy", "cases/01-expected-0.npy",
    }  # fmt: skip
    assert (out / "report.html").read_text(encoding="utf-8") == "<p>é</p>"
    assert [p.name for p in out.parent.iterdir()] == ["bundle"]


def test_what_is_written_passes_its_own_cases(small: small_bundles.Small, tmp_path: Path) -> None:
    with open_bundle(small.write(tmp_path / "bundle")) as opened:
        assert check(opened).passed


def test_cases_are_stored_as_an_application_sees_them(small: small_bundles.Small, tmp_path: Path) -> None:
    out = small.write(tmp_path / "bundle", count=1)
    for name in ("input", "expected"):
        array = np.load(out / "cases" / f"00-{name}-0.npy")
        assert array.dtype == np.uint8 and array.shape == (small_bundles.HEIGHT, small_bundles.WIDTH, 3)


def test_the_same_work_gives_the_same_bytes(small: small_bundles.Small, tmp_path: Path) -> None:
    first, second = small.write(tmp_path / "a"), small.write(tmp_path / "b")
    assert content(first) == content(second)
    os.utime(second / "manifest.json", (1, 1))
    archives = [pack_bundle(folder, tmp_path / f"{folder.name}.zip").read_bytes() for folder in (first, second)]
    assert archives[0] == archives[1]


def test_numbers_that_json_cannot_say_become_null(small: small_bundles.Small, tmp_path: Path) -> None:
    facts = {"loss": float("nan"), "psnr_db": np.float32(31.5), "widths": (16, 24), "path": Path("a/b")}
    stage = {"stage": "distill", "config": {}, "seconds": float("inf"), "facts": facts}
    out = small.write(tmp_path / "bundle", lineage=(stage,))
    (read,) = bundle_manifest(out).lineage
    assert read["facts"] == {"loss": None, "psnr_db": 31.5, "widths": [16, 24], "path": "a/b"} and read["seconds"] is None


class StopError(Exception):
    """A fault in the middle of writing."""


def _stop(folder: Path) -> None:
    assert (folder / "manifest.json").exists()  # everything else was written
    raise StopError


def test_a_fault_in_the_middle_leaves_nothing(small: small_bundles.Small, tmp_path: Path) -> None:
    with pytest.raises(StopError):
        write_bundle(tmp_path / "bundle", manifest=small.manifest(), artifacts=[small.artifact], cases=small.cases(1), fill=_stop)
    assert list(tmp_path.iterdir()) == []


def test_a_fault_in_the_middle_leaves_the_older_bundle_as_it_was(small: small_bundles.Small, tmp_path: Path) -> None:
    out = small.write(tmp_path / "bundle", name="older")
    before = content(out)
    with pytest.raises(StopError):
        write_bundle(out, manifest=small.manifest(), artifacts=[small.artifact], cases=small.cases(1), fill=_stop)
    assert content(out) == before and list(tmp_path.iterdir()) == [out]


def test_an_older_bundle_is_replaced_whole(small: small_bundles.Small, tmp_path: Path) -> None:
    out = small.write(tmp_path / "bundle", name="older", count=3)
    small.write(out, name="newer", count=1)
    assert bundle_manifest(out).name == "newer"
    assert sorted(p.name for p in (out / "cases").iterdir()) == ["00-expected-0.npy", "00-input-0.npy"]
    assert list(tmp_path.iterdir()) == [out]


def test_what_a_killed_process_left_is_cleared(small: small_bundles.Small, tmp_path: Path) -> None:
    (tmp_path / ".bundle.abc123.part" / "cases").mkdir(parents=True)
    small.write(tmp_path / "bundle")
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_a_folder_that_is_no_bundle_is_never_replaced(small: small_bundles.Small, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").write_bytes(b"dear")
    with pytest.raises(BundleError, match="exists and is not a bundle"):
        small.write(tmp_path / "photos")
    assert (tmp_path / "photos" / "mine.jpg").read_bytes() == b"dear"


def test_an_empty_folder_is_taken(small: small_bundles.Small, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    assert bundle_manifest(small.write(tmp_path / "bundle")).name == "small"


def test_a_full_disk_is_a_storage_error_and_leaves_nothing(small: small_bundles.Small, tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "report.html"))

    with pytest.raises(StorageError, match="is full") as caught:
        write_bundle(tmp_path / "bundle", manifest=small.manifest(), artifacts=[small.artifact], cases=[], fill=fill)
    assert caught.value.exit_code == 12 and list(tmp_path.iterdir()) == []


def test_an_artifact_that_changed_since_its_export_is_refused(small: small_bundles.Small, tmp_path: Path) -> None:
    artifact = small_bundles.openvino_artifact(small.module, small.spec, tmp_path / "artifact")
    (artifact.folder / "generator.bin").write_bytes(b"other weights")
    with pytest.raises(BundleError, match=r"generator\.bin changed since it was exported"):
        write_bundle(tmp_path / "bundle", manifest=small.manifest(), artifacts=[artifact], cases=[])
    assert not (tmp_path / "bundle").exists()


def test_a_manifest_that_no_device_could_read_is_never_shipped(small: small_bundles.Small, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="preferred 'litert/int8'"):
        small.write(tmp_path / "bundle", preferred="litert/int8")
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_was_altered_is_an_error_of_the_host(small: small_bundles.Small, tmp_path: Path) -> None:
    out = small.write(tmp_path / "bundle")
    document = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps({**document, "format": "edgegen.bundle/9"}))
    with pytest.raises(BundleError, match=re.escape("edgegen.bundle/9")) as caught:
        open_bundle(out)
    assert caught.value.exit_code == 10 and "newer edgegen" in caught.value.hint


@pytest.mark.parametrize(
    ("inner", "outer"), [(RuntimeBundleError, BundleError), (InputError, DataError), (MissingBackendError, MissingExtraError)]
)
def test_errors_of_the_runtime_become_those_of_the_host(inner: type[RuntimeBundleError], outer: type[Exception]) -> None:
    with pytest.raises(outer, match="the fact"), host_errors():
        raise inner("the fact", hint="the fix")
