"""What export gives and everything right of it takes: files for one back end, and how to open them. No torch from here on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgegen.runtime.manifest import ArtifactEntry
from edgegen.spec import Backend, ComponentSpec, Precision


@dataclasses.dataclass(frozen=True)
class Artifact:
    """The files of one candidate: `folder` holds what `entry.files` lists. `facts` are worth reporting (int8 share).

    `form` tells candidates of one back end and precision apart ("16 float"); a bundle holds one of them and has no use for it.
    `lost` says why a candidate could not be built; then it has no files, and no gate takes it.
    """

    folder: Path
    entry: ArtifactEntry
    facts: Mapping[str, Any]
    form: str = ""
    lost: str = ""

    @property
    def name(self) -> str:
        """Back end, precision and form, as candidates are called in tables: "openvino/int8", "openvino/int8 (16 float)"."""
        return self.entry.name + (f" ({self.form})" if self.form else "")

    @property
    def size_bytes(self) -> int:
        """Sum of all file sizes."""
        return sum((self.folder / name).stat().st_size for name in self.entry.files)


@dataclasses.dataclass(frozen=True)
class Watch:
    """Whoever watches an export: `begin` is told each candidate's name before it is built; those in `lost` are not built, the
    reason stands there."""

    begin: Callable[[str], None] = lambda name: None
    lost: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def lets(self, candidate: Artifact) -> Artifact | None:
        """Return `candidate` as lost, or None where it may be built now, which is told."""
        if candidate.name in self.lost:
            return dataclasses.replace(candidate, lost=self.lost[candidate.name])
        self.begin(candidate.name)
        return None


UNWATCHED = Watch()


def describe_artifact(
    folder: Path,
    *,
    backend: Backend,
    precision: Precision,
    entry: str,
    io: ComponentSpec,
    settings: Mapping[str, Any],
    facts: Mapping[str, Any],
    form: str = "",
) -> Artifact:
    """Hash every file of `folder` and return the artifact; `entry` is the file that the back end opens."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    made = ArtifactEntry(backend.value, precision.value, entry, files, io, dict(settings))
    return Artifact(folder, made, dict(facts), form)


def lost_artifact(folder: Path, backend: Backend, precision: Precision, io: ComponentSpec, why: str, form: str = "") -> Artifact:
    """Return a candidate that could not be built, without files."""
    return Artifact(folder, ArtifactEntry(backend.value, precision.value, "", {}, io, {}), {}, form, why)


def save_artifacts(artifacts: Sequence[Artifact], folder: Path) -> None:
    """Write artifacts.json beside the artifacts that lie in `folder`."""
    rows = [
        {
            "folder": a.folder.relative_to(folder).as_posix(),
            "entry": a.entry.to_json(),
            "facts": dict(a.facts),
            "form": a.form,
            "lost": a.lost,
        }
        for a in artifacts
    ]
    (folder / "artifacts.json").write_text(json.dumps(rows, indent=1))


def load_artifacts(folder: Path) -> list[Artifact]:
    """Read what `save_artifacts` wrote."""
    rows: list[Mapping[str, Any]] = json.loads((folder / "artifacts.json").read_text())
    return [_loaded(folder / row["folder"], row) for row in rows]


def _loaded(folder: Path, row: Mapping[str, Any]) -> Artifact:
    if row["lost"]:  # its entry names no file, which no bundle may have
        entry = row["entry"]
        io = ComponentSpec.from_json(entry["io"])
        return lost_artifact(folder, Backend(entry["backend"]), Precision(entry["precision"]), io, row["lost"], row["form"])
    return Artifact(folder, ArtifactEntry.from_json(row["entry"]), row["facts"], row["form"])
