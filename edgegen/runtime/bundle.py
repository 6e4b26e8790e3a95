"""An open bundle: one artifact loaded, called with pictures or a seed. Python >= 3.8, numpy and one back end."""

from __future__ import annotations

import io
import os
import time
from types import TracebackType
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Type, Union

import numpy as np

from edgegen.runtime.errors import InputError, RuntimeBundleError
from edgegen.runtime.files import BundleFiles, Opened, read_verified
from edgegen.runtime.latents import draw
from edgegen.runtime.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest, StoredCase, StoredFile, read_manifest
from edgegen.runtime.pictures import to_given, to_tensor
from edgegen.runtime.runners import Runner, read_artifact, start_runner
from edgegen.runtime.tensors import Kind

_MAX_CASE_BYTES = 256 << 20
_PICTURES = (Kind.IMAGE, Kind.LABEL_MAP)


def open_manifest(bundle: Union[str, os.PathLike[str]]) -> Manifest:
    """Return the manifest of the bundle at `bundle`; no artifact is read."""
    with Opened(os.fspath(bundle)) as files:
        return read_manifest(files.read(MANIFEST_NAME, MAX_MANIFEST_BYTES))


def open_bundle(bundle: Union[str, os.PathLike[str]], backend: Optional[str] = None, threads: int = 0) -> OpenBundle:
    """What `edgegen.runtime.open` does."""
    path = os.fspath(bundle)
    begin = time.perf_counter_ns()
    with Opened(path) as files:
        manifest = read_manifest(files.read(MANIFEST_NAME, MAX_MANIFEST_BYTES))
        entry = manifest.artifact(backend)
        contents = read_artifact(files, entry, entry.folder + "/")
    folder = os.path.join(path, *entry.folder.split("/")) if os.path.isdir(path) else None
    runner = start_runner(contents, entry, threads, folder)
    opened = OpenBundle(path, manifest, runner, entry.name)
    opened.load_ns = time.perf_counter_ns() - begin
    return opened


class OpenBundle:
    """A bundle with one artifact loaded. A context manager; not safe for two threads at once.

    `manifest` says what the bundle holds, `artifact` which of its artifacts runs, `load_ns` what opening it took: reading,
    hashing and compiling, the import of the back end included.
    """

    def __init__(self, path: str, manifest: Manifest, runner: Runner, artifact: str) -> None:
        self.path = path
        self.manifest = manifest
        self.artifact = manifest.artifact(artifact)
        self.load_ns = 0
        self._runner = runner

    def __call__(self, *given: Any, seed: Optional[int] = None) -> np.ndarray:
        """Return the picture, uint8 (H, W, C), that the generator makes of `given`; other outputs come as float arrays.

        `given` has one value per input: a picture uint8 (H, W, C), a label map of class ids (H, W), or the numbers of a latent.
        `seed` draws the inputs that are no pictures (latents, classes, noise); then only pictures are given.
        """
        outputs = self.run(self.tensors(*given, seed=seed))
        return to_given(outputs[0], self.artifact.io.outputs[0])

    def tensors(self, *given: Any, seed: Optional[int] = None) -> List[np.ndarray]:
        """Return what `run` takes for `given` and `seed`; InputError says which input is missing or wrong."""
        specs = self.artifact.io.inputs
        drawn = [seed is not None and spec.kind not in _PICTURES for spec in specs]
        if len(given) != len(specs) - sum(drawn):
            wanted = ", ".join(f"'{s.name}' ({s.kind.value})" for s, d in zip(specs, drawn) if not d) or "none"
            raise InputError(f"{len(given)} inputs given; the generator takes {wanted}", hint=self._hint(seed))
        left = iter(given)
        return [
            draw(spec, int(seed or 0), index) if by_seed else to_tensor(next(left), spec)
            for index, (spec, by_seed) in enumerate(zip(specs, drawn))
        ]

    def run(self, tensors: List[np.ndarray]) -> List[np.ndarray]:
        """Return the raw outputs for raw inputs: arrays with batch axis 1 as the artifact's `io` describes them."""
        return self._runner.run(tensors)

    def describe(self) -> Dict[str, Any]:
        """Return what runs the artifact: backend, version, device, threads, types."""
        return self._runner.describe()

    def cases(self) -> Iterator[Tuple[StoredCase, List[np.ndarray], List[np.ndarray]]]:
        """Yield every stored case with its inputs, as an application gives them, and its expected outputs."""
        with Opened(self.path) as files:
            for case in self.manifest.cases:
                yield case, _arrays(files, case.inputs), _arrays(files, case.expected)

    def close(self) -> None:
        """Give the back end's memory back."""
        self._runner.close()

    def __enter__(self) -> OpenBundle:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def _hint(self, seed: Optional[int]) -> str:
        kinds = [spec.kind for spec in self.artifact.io.inputs]
        if seed is None and any(kind not in _PICTURES for kind in kinds):
            return "give seed=7 to draw what is not a picture"
        return "give one value per input, in this order"


def _arrays(files: BundleFiles, stored: Sequence[StoredFile]) -> List[np.ndarray]:
    return [read_array(read_verified(files, item.path, item.sha256, _MAX_CASE_BYTES), item.path) for item in stored]


def read_array(content: bytes, where: str) -> np.ndarray:
    """Return the array of a .npy file; objects, and so pickles, are refused. `where` names it in errors."""
    try:
        return np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as problem:  # numpy raises ValueError, EOFError, SyntaxError, MemoryError, ... for a bad header
        raise RuntimeBundleError(f"{where} is not a readable .npy file: {problem}") from problem
