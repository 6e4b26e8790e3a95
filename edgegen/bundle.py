"""Write a bundle so that it is there whole or not at all, and open one on the host.

The format belongs to `edgegen.runtime`; here are only the files: a temporary folder beside the goal, everything synced to
disk, one rename.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import glob
import hashlib
import io
import json
import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgegen.artifact import Artifact
from edgegen.errors import BundleError, DataError, MissingExtraError
from edgegen.runtime.bundle import OpenBundle, open_manifest
from edgegen.runtime.bundle import open_bundle as _open_bundle
from edgegen.runtime.errors import InputError, MissingBackendError, RuntimeBundleError
from edgegen.runtime.files import Opened
from edgegen.runtime.manifest import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    ArtifactEntry,
    Manifest,
    StoredCase,
    StoredFile,
    checked_path,
    read_manifest,
)  # fmt: skip
from edgegen.runtime.pictures import to_given
from edgegen.runtime.runners import read_artifact
from edgegen.spec import ComponentSpec, TensorSpec
from edgegen.workspace import storage_errors, sync

REPORT_NAME = "report.html"
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the same bundle gives the same archive, whenever it is packed


@dataclasses.dataclass(frozen=True)
class BundleCase:
    """A case before it is stored: inputs and the float student's outputs for them, as the component's spec says, batch axis 1.

    Outputs of images are stored as pictures of 8 bits: a device compares what it shows.
    """

    name: str
    inputs: tuple[NDArray[Any], ...]
    outputs: tuple[NDArray[Any], ...]
    min_psnr_db: float


def write_bundle(
    out: Path,
    *,
    manifest: Manifest,
    artifacts: Sequence[Artifact],
    cases: Sequence[BundleCase],
    report: str | None = None,
    fill: Callable[[Path], None] | None = None,
) -> Path:
    """Write the bundle folder `out` and return it: whole or not at all. An older bundle there is replaced in one step.

    `artifacts` and `cases` become those of `manifest`. `report` is the text of report.html; `fill(folder)` may add further
    files before the bundle appears. Raises BundleError if `out` is something else than a bundle, StorageError if the disk is
    full; after any exception `out` is what it was before.
    """
    if out.exists() and not (out / MANIFEST_NAME).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise BundleError(f"{out} exists and is not a bundle", hint="choose another folder, or remove it yourself")
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        for left_by_a_kill in out.parent.glob(f".{glob.escape(out.name)}.*.part"):
            shutil.rmtree(left_by_a_kill)
        part = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".part"))
        try:
            part.chmod(0o755)
            with host_errors():
                _write_files(part, manifest, artifacts, cases)
            if report is not None:
                (part / REPORT_NAME).write_text(report, encoding="utf-8")
            if fill is not None:
                fill(part)
            _sync_tree(part)
            _put_in_place(part, out)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return out


def open_bundle(path: Path, backend: str | None = None, threads: int = 0) -> OpenBundle:
    """Open the bundle folder or .zip at `path` with the very runtime that runs on devices.

    `backend` picks an artifact by back end or name, None the preferred one. Raises BundleError and MissingExtraError; wrap calls
    of what it returns in `host_errors` to get the same from them.
    """
    with host_errors():
        return _open_bundle(path, backend, threads)


def bundle_manifest(path: Path) -> Manifest:
    """Return the manifest of the bundle at `path`; BundleError if it is not exactly as edgegen writes it."""
    with host_errors():
        return open_manifest(path)


def bundle_digest(path: Path) -> str:
    """Return the SHA-256 of the manifest of the bundle at `path`; it holds the digests of everything that runs."""
    with host_errors(), Opened(str(path)) as files:
        return hashlib.sha256(files.read(MANIFEST_NAME, MAX_MANIFEST_BYTES)).hexdigest()


def artifact_size(path: Path, entry: ArtifactEntry) -> int:
    """Return the bytes of all files of one artifact in the bundle at `path`, after comparing their digests."""
    with host_errors(), Opened(str(path)) as files:
        return sum(len(content) for content in read_artifact(files, entry, entry.folder + "/").values())


@contextlib.contextmanager
def host_errors() -> Iterator[None]:
    """Turn the runtime's errors, which know no exit codes, into those of the host."""
    try:
        yield
    except MissingBackendError as problem:
        raise MissingExtraError(problem.message, hint=problem.hint) from problem
    except InputError as problem:
        raise DataError(problem.message, hint=problem.hint) from problem
    except RuntimeBundleError as problem:
        raise BundleError(problem.message, hint=problem.hint) from problem


def pack_bundle(bundle: Path, archive: Path) -> Path:
    """Write the bundle folder as the .zip `archive`, atomically; the same bundle gives the same bytes."""
    bundle_manifest(bundle)
    part = archive.with_name(f".{archive.name}.part")
    with storage_errors(archive):
        try:
            with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as packed:
                for path in sorted(p for p in bundle.rglob("*") if p.is_file() and not p.is_symlink()):
                    info = zipfile.ZipInfo(path.relative_to(bundle).as_posix(), _ZIP_TIME)
                    info.compress_type = zipfile.ZIP_DEFLATED
                    info.external_attr = 0o100644 << 16
                    packed.writestr(info, path.read_bytes())
            sync(part)
            part.replace(archive)
            sync(archive.parent)
        finally:
            part.unlink(missing_ok=True)
    return archive


def _write_files(part: Path, manifest: Manifest, artifacts: Sequence[Artifact], cases: Sequence[BundleCase]) -> None:
    """Write artifacts, cases and, last, the manifest, which is read back as a device would."""
    for artifact in artifacts:
        for name, digest in artifact.entry.files.items():
            goal = part / artifact.entry.folder / checked_path(name, artifact.name)
            goal.parent.mkdir(parents=True, exist_ok=True)
            content = (artifact.folder / name).read_bytes()
            if hashlib.sha256(content).hexdigest() != digest:
                raise BundleError(f"{artifact.folder / name} changed since it was exported", hint="export again: --from export")
            goal.write_bytes(content)
    (part / "cases").mkdir()
    stored = tuple(_store_case(part, case, manifest.component) for case in cases)
    made = dataclasses.replace(manifest, artifacts=tuple(a.entry for a in artifacts), cases=stored)
    text = json.dumps(plain(made.to_json()), indent=1, allow_nan=False)
    read_manifest(text.encode())
    (part / MANIFEST_NAME).write_text(text, encoding="utf-8")


def _store_case(part: Path, case: BundleCase, spec: ComponentSpec) -> StoredCase:
    def store(role: str, arrays: Sequence[NDArray[Any]], tensors: Sequence[TensorSpec]) -> tuple[StoredFile, ...]:
        given = [to_given(array, tensor) for array, tensor in zip(arrays, tensors, strict=True)]
        return tuple(_store_array(part, f"cases/{case.name}-{role}-{i}.npy", array) for i, array in enumerate(given))

    inputs, expected = store("input", case.inputs, spec.inputs), store("expected", case.outputs, spec.outputs)
    return StoredCase(case.name, inputs, expected, case.min_psnr_db)


def _store_array(part: Path, path: str, array: NDArray[Any]) -> StoredFile:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    content = buffer.getvalue()
    (part / checked_path(path, "case")).write_bytes(content)
    return StoredFile(path, hashlib.sha256(content).hexdigest())


def plain(value: Any) -> Any:
    """Return `value` as JSON can say it: numpy scalars and paths unwrapped, NaN and infinity as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _put_in_place(part: Path, out: Path) -> None:
    """Make `part` appear as `out`; what was there ends up as `part`. One step where the system can exchange two names."""
    if not out.exists():
        part.rename(out)
    elif not _exchange(part, out):
        old = part.with_name(part.name + ".old.part")
        out.rename(old)
        try:
            part.rename(out)
        except OSError:
            old.rename(out)
            raise
        shutil.rmtree(old)
    sync(out.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step (Linux renameat2); False where the system or the file system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    at_cwd, exchange = -100, 2
    return renameat2(at_cwd, os.fsencode(one.absolute()), at_cwd, os.fsencode(other.absolute()), exchange) == 0


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)
