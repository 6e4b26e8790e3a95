"""The files of a bundle, in a folder or a .zip: read by the names that the manifest gives, within limits, and never unpacked.

Content is hashed in memory and those same bytes go to the back end, so a file that changes in between changes nothing.
Python >= 3.8, standard library only.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
import zlib
from types import TracebackType
from typing import Dict, List, Optional, Protocol, Type

from edgegen.runtime.errors import RuntimeBundleError
from edgegen.runtime.manifest import MANIFEST_NAME

MAX_FILE_BYTES = 2 << 30
_MAX_MEMBERS = 4096
_ALTERED = "copy the bundle again; if that does not help, build it again"


class BundleFiles(Protocol):
    """Reads files by their path relative to the bundle."""

    name: str

    def read(self, path: str, limit: int) -> bytes:
        """Return the content of the file at `path`; RuntimeBundleError if it is absent, no plain file or larger than `limit`."""
        ...

    def close(self) -> None:
        """Give back what is held open."""
        ...


class FolderFiles:
    """A bundle that is a folder. Symbolic links are refused wherever they are below it, and so is all that is no plain file."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.name = folder

    def read(self, path: str, limit: int) -> bytes:
        """Return the content of the file at `path`, relative to the folder."""
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            step = os.path.join(self._folder, *parts[:count])
            if os.path.islink(step):
                raise RuntimeBundleError(f"{step} is a symbolic link", hint="a bundle holds plain files only")
        full = os.path.join(self._folder, *parts)
        # not blocking: opening a named pipe would wait for ever
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        try:
            handle = os.open(full, flags)
            with os.fdopen(handle, "rb") as file:
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    raise RuntimeBundleError(f"{full} is not a plain file", hint="a bundle holds plain files only")
                content = file.read(limit + 1)
        except FileNotFoundError as problem:
            raise RuntimeBundleError(f"{full} is missing", hint=_ALTERED) from problem
        except OSError as problem:
            raise RuntimeBundleError(f"{full} cannot be read: {problem.strerror}", hint=_ALTERED) from problem
        return _within(content, limit, full)

    def close(self) -> None:
        """Nothing is held open."""


class ZipFiles:
    """A bundle that is a .zip; the bundle may be at its top or in its only folder."""

    def __init__(self, path: str) -> None:
        self.name = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as problem:
            raise RuntimeBundleError(f"{path} is not a readable .zip: {problem}", hint=_ALTERED) from problem
        try:
            self._members = _members(self._zip.infolist(), path)
        except RuntimeBundleError:
            self._zip.close()
            raise
        tops = {name.split("/")[0] for name in self._members}
        nested = MANIFEST_NAME not in self._members and len(tops) == 1
        self._prefix = tops.pop() + "/" if nested else ""

    def read(self, path: str, limit: int) -> bytes:
        """Return the content of the member `path`."""
        where = f"{self.name}: {path}"
        member = self._members.get(self._prefix + path)
        if member is None:
            raise RuntimeBundleError(f"{where} is missing", hint=_ALTERED)
        if member.file_size > limit:
            raise RuntimeBundleError(f"{where} is larger than {limit} bytes")
        try:
            with self._zip.open(member) as file:
                content = file.read(limit + 1)  # a false size in the directory cannot make this longer
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as problem:
            raise RuntimeBundleError(f"{where} cannot be read: {problem}", hint=_ALTERED) from problem
        if len(content) != member.file_size:
            raise RuntimeBundleError(f"{where} has {len(content)} bytes, the archive claims {member.file_size}", hint=_ALTERED)
        return _within(content, limit, where)

    def close(self) -> None:
        """Close the archive."""
        self._zip.close()


class Opened:
    """Context manager around the files at `path`: a folder or a .zip."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._files: Optional[BundleFiles] = None

    def __enter__(self) -> BundleFiles:
        if os.path.isdir(self._path):
            self._files = FolderFiles(self._path)
        elif os.path.isfile(self._path):
            self._files = ZipFiles(self._path)
        else:
            raise RuntimeBundleError(f"{self._path} does not exist", hint="give a bundle folder or its .zip")
        return self._files

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._files is not None:
            self._files.close()


def read_verified(files: BundleFiles, path: str, sha256: str, limit: int = MAX_FILE_BYTES) -> bytes:
    """Return the content of the file at `path` after comparing its SHA-256."""
    content = files.read(path, limit)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise RuntimeBundleError(f"{files.name}: {path} was altered (SHA-256 {found[:12]}, not {sha256[:12]})", hint=_ALTERED)
    return content


def _members(infos: List[zipfile.ZipInfo], path: str) -> Dict[str, zipfile.ZipInfo]:
    if len(infos) > _MAX_MEMBERS:
        raise RuntimeBundleError(f"{path} has more than {_MAX_MEMBERS} entries")
    members: Dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        if info.filename.endswith("/"):
            continue
        if info.filename in members:
            raise RuntimeBundleError(f"{path}: {info.filename!r} appears twice")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise RuntimeBundleError(f"{path}: {info.filename!r} is a symbolic link", hint="a bundle holds plain files only")
        if not info.filename or info.filename.startswith("/") or "\\" in info.filename or ".." in info.filename.split("/"):
            raise RuntimeBundleError(f"{path}: {info.filename!r} is not a plain relative path")
        members[info.filename] = info
    return members


def _within(content: bytes, limit: int, where: str) -> bytes:
    if len(content) > limit:
        raise RuntimeBundleError(f"{where} is larger than {limit} bytes")
    return content
