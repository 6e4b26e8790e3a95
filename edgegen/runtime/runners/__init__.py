"""Back ends behind one small protocol. A runner gets verified bytes, never a path that could change under it.

Python >= 3.8, numpy; each back end is imported only when an artifact needs it.
"""

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional, Protocol, Sequence, Union

import numpy as np

from edgegen.runtime.errors import InputError, RuntimeBundleError
from edgegen.runtime.files import BundleFiles, FolderFiles, read_verified
from edgegen.runtime.manifest import ArtifactEntry
from edgegen.runtime.tensors import TensorSpec

_BACKENDS = ("openvino", "litert", "onnxruntime", "tensorrt")


class Runner(Protocol):
    """One artifact, loaded. Not safe for two threads at once: open one per thread."""

    def run(self, inputs: List[np.ndarray]) -> List[np.ndarray]:
        """Return the outputs for `inputs`, arrays with batch axis 1 in the layout and dtype of the artifact's `io`."""
        ...

    def describe(self) -> Dict[str, Any]:
        """Return what runs it: backend, version, device, threads, and how many layers run in which type where it can be told."""
        ...

    def close(self) -> None:
        """Give the memory back; no `run` afterwards."""
        ...


def open_runner(folder: Union[str, os.PathLike[str]], entry: ArtifactEntry, threads: int = 0) -> Runner:
    """Verify the files of the artifact in `folder` and load it. `threads` 0 leaves the number to the back end.

    Raises RuntimeBundleError for altered files and MissingBackendError with the pip command for an absent back end.
    """
    return start_runner(read_artifact(FolderFiles(os.fspath(folder)), entry, ""), entry, threads, os.fspath(folder))


def read_artifact(files: BundleFiles, entry: ArtifactEntry, folder: str) -> Dict[str, bytes]:
    """Return the verified content of every file of the artifact that lies in `folder` of `files`."""
    return {path: read_verified(files, folder + path, digest) for path, digest in entry.files.items()}


def start_runner(contents: Dict[str, bytes], entry: ArtifactEntry, threads: int, folder: Optional[str]) -> Runner:
    """Load an artifact from the verified `contents` of its files. `folder` is where they lie, None inside a .zip."""
    if threads < 0:
        raise InputError(f"threads is {threads}", hint="0 leaves the number to the back end")
    try:
        return CheckedRunner(_start(contents, entry, threads, folder), entry)
    except RuntimeBundleError:
        raise
    except Exception as problem:  # back ends raise what they like; all of it means that this file does not load here
        raise RuntimeBundleError(
            f"{entry.name}: the back end cannot load {entry.entry}: {_first_line(problem)}",
            hint="is the installed back end older than the bundle? manifest.json lists the versions that made it",
        ) from problem


def _start(contents: Dict[str, bytes], entry: ArtifactEntry, threads: int, folder: Optional[str]) -> Runner:
    if entry.backend == "openvino":
        from edgegen.runtime.runners.openvino import OpenVinoRunner

        return OpenVinoRunner(contents, entry, threads)
    if entry.backend == "litert":
        from edgegen.runtime.runners.litert import LiteRtRunner

        return LiteRtRunner(contents, entry, threads)
    if entry.backend == "onnxruntime":
        from edgegen.runtime.runners.onnxruntime import OnnxRunner

        return OnnxRunner(contents, entry, threads)
    if entry.backend == "tensorrt":
        from edgegen.runtime.runners.tensorrt import open_tensorrt

        return open_tensorrt(contents, entry, threads, folder)
    raise RuntimeBundleError(f"back end '{entry.backend}' is unknown", hint="known: " + ", ".join(_BACKENDS))


class CheckedRunner:
    """Refuses inputs that do not fit before the back end sees them: some back ends read past the end of a short array."""

    def __init__(self, inner: Runner, entry: ArtifactEntry) -> None:
        self._inner: Optional[Runner] = inner
        self._entry = entry

    def run(self, inputs: List[np.ndarray]) -> List[np.ndarray]:
        if self._inner is None:
            raise RuntimeBundleError(f"{self._entry.name} was closed", hint="open the bundle again")
        _check_inputs(inputs, self._entry.io.inputs)
        outputs = self._inner.run([np.ascontiguousarray(array) for array in inputs])
        for array, spec in zip(outputs, self._entry.io.outputs):
            if array.shape != (1,) + tuple(spec.shape):
                fact = f"gives '{spec.name}' of shape {array.shape}, the manifest says {(1,) + tuple(spec.shape)}"
                raise RuntimeBundleError(f"{self._entry.name} {fact}", hint="the artifact does not belong to this manifest")
        return outputs

    def describe(self) -> Dict[str, Any]:
        if self._inner is None:
            raise RuntimeBundleError(f"{self._entry.name} was closed", hint="open the bundle again")
        return self._inner.describe()

    def close(self) -> None:
        if self._inner is not None:
            self._inner.close()
        self._inner = None


def _check_inputs(inputs: Sequence[np.ndarray], specs: Sequence[TensorSpec]) -> None:
    if len(inputs) != len(specs):
        raise InputError(f"{len(inputs)} inputs given, the generator takes {len(specs)}: {', '.join(s.name for s in specs)}")
    for array, spec in zip(inputs, specs):
        wanted = (1,) + tuple(spec.shape)
        if array.shape != wanted or array.dtype != np.dtype(spec.dtype):
            raise InputError(
                f"input '{spec.name}' is {array.dtype} {array.shape}, the artifact takes {spec.dtype} {wanted}",
                hint="edgegen.runtime.open(bundle)(picture) converts pictures",
            )


def _first_line(problem: Exception) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return (lines[-1] if lines else type(problem).__name__)[:300]
