"""Find the TOML files that come with edgegen: next to the package in a checkout, inside the package when installed."""

from __future__ import annotations

import importlib.resources
import re
from pathlib import Path

from edgegen.errors import EdgegenError, RecipeError, StorageError, nearest

KINDS = ("targets", "ops", "calibration", "recipes")
"""The folders of TOML files; `edgegen cp KIND/NAME` copies from them."""


def resource_folder(kind: str) -> Path:
    """Return the folder of `kind` (one of KINDS): the repository's own when running from a checkout, else the packaged copy."""
    checkout = Path(__file__).resolve().parents[1]
    candidates = [Path(str(importlib.resources.files("edgegen"))) / "_resources" / kind]
    if (checkout / "pyproject.toml").is_file() or (checkout / ".git").exists():  # site-packages has neither
        candidates.insert(0, checkout / kind)
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise StorageError(f"the folder {kind}/ of edgegen is missing", hint="the installation is incomplete: pip install it again")


def resource_names(kind: str) -> tuple[str, ...]:
    """Return the names of all files of `kind`, sorted, without ".toml"."""
    return tuple(sorted(path.stem for path in resource_folder(kind).glob("*.toml")))


def resource_path(kind: str, name: str, *, error: type[EdgegenError]) -> Path:
    """Return the file of the built-in `name`; raise `error` with the nearest names if there is none."""
    names = resource_names(kind)
    if name not in names:
        raise error(f"{_singular(kind)} '{name}' is unknown", hint=nearest(name, names))
    return resource_folder(kind) / f"{name}.toml"


def find_file(kind: str, name_or_path: str, *, error: type[EdgegenError]) -> Path:
    """Return the file that a user means: a built-in name such as "balanced", or a path, which holds a "/" or ends in ".toml"."""
    if looks_like_path(name_or_path):
        return Path(name_or_path)
    return resource_path(kind, name_or_path, error=error)


def looks_like_path(text: str) -> bool:
    """Return whether `text` is a path to a TOML file and not a built-in name."""
    return text.endswith(".toml") or bool(re.search(r"[/\\]", text))


def copy_resource(reference: str, destination: Path) -> Path:
    """Copy the built-in file `reference`, such as "recipes/balanced", into a folder or to a new file; return where it went.

    Refuses to overwrite: StorageError. An unknown reference is a RecipeError that names the nearest.
    """
    reference = reference.removesuffix(".toml")
    known = tuple(f"{kind}/{name}" for kind in KINDS for name in resource_names(kind))
    if reference not in known:
        raise RecipeError(f"'{reference}' is nothing that edgegen can copy", hint=nearest(reference, known))
    kind, name = reference.split("/")
    goal = destination / f"{name}.toml" if destination.is_dir() else destination
    content = resource_path(kind, name, error=RecipeError).read_bytes()
    try:
        with goal.open("xb") as file:  # "x" also loses the race against another process
            file.write(content)
    except FileExistsError as problem:
        raise StorageError(f"{goal} exists", hint="name another file, or delete this one first") from problem
    except OSError as problem:
        raise StorageError(f"{goal} cannot be written: {problem.strerror}") from problem
    return goal


def _singular(kind: str) -> str:
    return kind.removesuffix("s")
