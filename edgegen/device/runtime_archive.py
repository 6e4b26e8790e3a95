"""`edgegen.runtime` as one small archive: all that a device needs besides Python, numpy and a back end."""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
from pathlib import Path

import edgegen

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the same source gives the same bytes, and so the same name on the device


@functools.lru_cache(maxsize=1)
def runtime_archive() -> bytes:
    """Return a .zip with edgegen/__init__.py and edgegen/runtime; the same source gives the same bytes."""
    root = package_root()
    files = [root / "edgegen" / "__init__.py", *sorted((root / "edgegen" / "runtime").rglob("*"))]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in files:
            if path.is_file() and path.suffix != ".pyc":
                info = zipfile.ZipInfo(path.relative_to(root).as_posix(), _ZIP_TIME)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = 0o100644 << 16
                packed.writestr(info, path.read_bytes())
    return buffer.getvalue()


def runtime_digest() -> str:
    """Return the SHA-256 of `runtime_archive`."""
    return hashlib.sha256(runtime_archive()).hexdigest()


def package_root() -> Path:
    """Return the folder in which the package `edgegen` lies here."""
    return Path(edgegen.__file__).resolve().parents[1]
