"""The bundle's manifest.json: the one place that knows its shape. Read on the device, written by the host.

Python >= 3.8, standard library only.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Dict, Optional, Tuple

from edgegen.runtime.errors import RuntimeBundleError
from edgegen.runtime.strict_json import Reader, parse
from edgegen.runtime.tensors import ComponentSpec, Kind, Layout, TensorSpec

SUPPORTED_FORMAT = "edgegen.bundle/1"
MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 4 << 20
_DTYPES = ("float32", "float16", "uint8", "int8", "int32", "int64")
_VERDICTS = ("met", "met-with-warnings", "quality-missed", "budget-missed")


@dataclasses.dataclass(frozen=True)
class ArtifactEntry:
    """The files of one back end. `io` says what the artifact itself takes and gives (layout, dtype, range), batch axis left out.

    `files` maps paths relative to the artifact's folder to SHA-256; `entry` is the one the back end opens.
    `settings` are back-end options that belong to the artifact, such as {"inference_precision": "f32"}.
    """

    backend: str
    precision: str
    entry: str
    files: Dict[str, str]
    io: ComponentSpec
    settings: Dict[str, Any]

    @property
    def name(self) -> str:
        """Back end and precision: "openvino/int8"."""
        return self.backend + "/" + self.precision

    @property
    def folder(self) -> str:
        """Where its files lie in a bundle, relative to the bundle."""
        return "artifacts/" + self.name

    def to_json(self) -> Dict[str, Any]:
        """Return the plain JSON object; `from_json` reads it back."""
        return {
            "backend": self.backend, "precision": self.precision, "entry": self.entry, "files": dict(self.files),
            "io": self.io.to_json(), "settings": dict(self.settings),
        }  # fmt: skip

    @staticmethod
    def from_json(value: Dict[str, Any]) -> ArtifactEntry:
        """Read what `to_json` wrote. Raises RuntimeBundleError for anything else."""
        return _artifact(Reader(value, "artifact"))


@dataclasses.dataclass(frozen=True)
class StoredFile:
    """A file of the bundle: its path relative to the bundle's root and its SHA-256 in hexadecimal."""

    path: str
    sha256: str

    def to_json(self) -> Dict[str, Any]:
        """Return the plain JSON object."""
        return {"path": self.path, "sha256": self.sha256}


@dataclasses.dataclass(frozen=True)
class StoredCase:
    """An input and what the float student made of it, as .npy files: one per input and output of the component.

    They hold what an application gives and gets: pictures uint8 (H, W, C), label maps uint8 (H, W), everything else as the
    component's spec says, all without batch axis. An artifact passes if every output reaches `min_psnr_db`.
    """

    name: str
    inputs: Tuple[StoredFile, ...]
    expected: Tuple[StoredFile, ...]
    min_psnr_db: float

    def to_json(self) -> Dict[str, Any]:
        """Return the plain JSON object."""
        return {
            "name": self.name, "inputs": [f.to_json() for f in self.inputs], "expected": [f.to_json() for f in self.expected],
            "min_psnr_db": self.min_psnr_db,
        }  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a bundle holds and where it comes from.

    `component` is the generator as an application sees it: layouts and value ranges of the student, before an artifact moved
    axes or folded ranges. `preferred` names the artifact that the gate chose ("openvino/int8"). `lineage` is one object per
    stage. `budget` has the keys latency_s, size_bytes, memory_bytes and min_ssim, null where nothing was asked for.
    `weights_licence` is None when nobody stated it. `data_sha256` is None when no data was used.
    """

    name: str
    component: ComponentSpec
    preferred: str
    target: str
    verdict: str
    teacher: Dict[str, Any]
    budget: Dict[str, Optional[float]]
    tools: Dict[str, str]
    lineage: Tuple[Dict[str, Any], ...] = ()
    data_sha256: Optional[str] = None
    weights_licence: Optional[str] = None
    artifacts: Tuple[ArtifactEntry, ...] = ()
    cases: Tuple[StoredCase, ...] = ()

    def to_json(self) -> Dict[str, Any]:
        """Return the plain JSON object; `manifest_from_json` reads it back."""
        return {
            "format": SUPPORTED_FORMAT, "name": self.name, "target": self.target, "verdict": self.verdict,
            "budget": dict(self.budget), "component": self.component.to_json(), "preferred": self.preferred,
            "artifacts": [a.to_json() for a in self.artifacts], "cases": [c.to_json() for c in self.cases],
            "teacher": dict(self.teacher), "data_sha256": self.data_sha256, "weights_licence": self.weights_licence,
            "lineage": [dict(stage) for stage in self.lineage], "tools": dict(self.tools),
        }  # fmt: skip

    def artifact(self, wanted: Optional[str] = None) -> ArtifactEntry:
        """Return the artifact called `wanted`, or the first of the back end `wanted`; None gives the preferred one."""
        name = wanted or self.preferred
        for entry in self.artifacts:
            if name == entry.name:
                return entry
        for entry in sorted(self.artifacts, key=lambda e: e.name != self.preferred):
            if name == entry.backend:
                return entry
        known = ", ".join(entry.name for entry in self.artifacts)
        raise RuntimeBundleError(f"the bundle has no artifact '{name}'", hint=f"it has: {known}")


def read_manifest(content: bytes) -> Manifest:
    """Return the manifest that `content` holds. Raises RuntimeBundleError naming the first key that is not as it must be."""
    if len(content) > MAX_MANIFEST_BYTES:
        raise RuntimeBundleError(f"{MANIFEST_NAME} is larger than {MAX_MANIFEST_BYTES >> 20} MiB")
    value = parse(content, MANIFEST_NAME)
    found = value.get("format")
    if found != SUPPORTED_FORMAT:
        family = str(found).startswith("edgegen.bundle/")
        hint = "install a newer edgegen" if family else "this is not a bundle of edgegen"
        raise RuntimeBundleError(f"{MANIFEST_NAME} has format {found!r}, this edgegen reads '{SUPPORTED_FORMAT}'", hint=hint)
    return manifest_from_json(value)


def manifest_from_json(value: Dict[str, Any]) -> Manifest:
    """Read what `Manifest.to_json` wrote; strict: a missing, extra or wrong key raises RuntimeBundleError."""
    at = Reader(value, MANIFEST_NAME)
    at.text("format")
    manifest = Manifest(
        name=at.text("name"), target=at.text("target"), verdict=at.word("verdict", _VERDICTS),
        budget=_budget(at.table("budget")), component=_component(at.table("component")), preferred=at.text("preferred"),
        artifacts=tuple(_artifact(item) for item in at.tables("artifacts")),
        cases=tuple(_case(item) for item in at.tables("cases")), teacher=at.plain("teacher"),
        data_sha256=at.optional_text("data_sha256"), weights_licence=at.optional_text("weights_licence"),
        lineage=tuple(item.whole() for item in at.tables("lineage")), tools=_texts(at.table("tools")),
    )  # fmt: skip
    at.done()
    _check(manifest)
    return manifest


def checked_path(path: str, where: str) -> str:
    """Return `path` if it is a plain relative one, such as "cases/00-input.npy". Raises RuntimeBundleError otherwise."""
    parts = path.split("/")
    plain = all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}", part) for part in parts)
    if not plain or len(parts) > 8:
        raise RuntimeBundleError(f"{where}: {path!r} is not a plain relative path", hint="the bundle was not written by edgegen")
    return path


def _check(manifest: Manifest) -> None:
    """Refuse what is well-formed but contradicts itself."""
    names = [entry.name for entry in manifest.artifacts]
    if len(set(names)) != len(names):
        raise RuntimeBundleError(f"{MANIFEST_NAME}: an artifact appears twice", hint="the bundle was not written by edgegen")
    if manifest.preferred not in names:
        raise RuntimeBundleError(f"{MANIFEST_NAME}: preferred '{manifest.preferred}' is not one of the artifacts")
    counts = (len(manifest.component.inputs), len(manifest.component.outputs))
    for entry in manifest.artifacts:
        if (len(entry.io.inputs), len(entry.io.outputs)) != counts:
            raise RuntimeBundleError(f"{MANIFEST_NAME}: {entry.name} has other inputs or outputs than the component")
    for case in manifest.cases:
        if (len(case.inputs), len(case.expected)) != counts:
            raise RuntimeBundleError(f"{MANIFEST_NAME}: case '{case.name}' has other inputs or outputs than the component")


def _artifact(at: Reader) -> ArtifactEntry:
    files = _texts(at.table("files"))
    for path, digest in files.items():
        checked_path(path, at.where + ".files")
        _digest(digest, at.where + ".files." + path)
    made = ArtifactEntry(
        backend=_plain_name(at, "backend"), precision=_plain_name(at, "precision"), entry=at.text("entry"), files=files,
        io=_component(at.table("io")), settings=at.plain("settings"),
    )  # fmt: skip
    at.done()
    if made.entry not in files:
        raise RuntimeBundleError(f"{at.where}.entry: '{made.entry}' is not one of its files")
    return made


def _plain_name(at: Reader, key: str) -> str:
    value = at.text(key)
    if "/" in value:
        raise at.refuse(key, "has a '/'")
    return checked_path(value, at.where + "." + key)


def _case(at: Reader) -> StoredCase:
    made = StoredCase(
        name=at.text("name"), inputs=tuple(_file(item) for item in at.tables("inputs")),
        expected=tuple(_file(item) for item in at.tables("expected")), min_psnr_db=at.number("min_psnr_db"),
    )  # fmt: skip
    at.done()
    return made


def _file(at: Reader) -> StoredFile:
    made = StoredFile(checked_path(at.text("path"), at.where), _digest(at.text("sha256"), at.where + ".sha256"))
    at.done()
    return made


def _digest(text: str, where: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise RuntimeBundleError(f"{where} is not a SHA-256")
    return text


def _budget(at: Reader) -> Dict[str, Optional[float]]:
    made = {key: at.optional_number(key) for key in ("latency_s", "size_bytes", "memory_bytes", "min_ssim")}
    at.done()
    return made


def _texts(at: Reader) -> Dict[str, str]:
    made = {key: at.text(key) for key in list(at.keys)}
    at.done()
    return made


def _component(at: Reader) -> ComponentSpec:
    made = ComponentSpec(
        name=at.text("name"),
        inputs=tuple(_tensor(item) for item in at.tables("inputs")),
        outputs=tuple(_tensor(item) for item in at.tables("outputs")),
    )
    at.done()
    return made


def _tensor(at: Reader) -> TensorSpec:
    layout = Layout(at.word("layout", tuple(x.value for x in Layout)))
    shape = at.sizes("shape")
    made = TensorSpec(
        name=at.text("name"), kind=Kind(at.word("kind", tuple(x.value for x in Kind))), shape=shape, layout=layout,
        dtype=at.word("dtype", _DTYPES), low=at.optional_number("low"), high=at.optional_number("high"),
    )  # fmt: skip
    at.done()
    if layout is not Layout.D and len(shape) != 3:
        raise at.refuse("shape", f"does not fit layout {layout.value}")
    if made.low is not None and made.high is not None and not made.low < made.high:
        raise at.refuse("low", "is not below 'high'")
    return made
