"""Finding and copying the files that come with edgegen."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgegen
from edgegen.errors import RecipeError, StorageError
from edgegen.recipe import load_recipe
from edgegen.resources import KINDS, copy_resource, resource_folder, resource_names


def test_a_checkout_uses_its_own_files() -> None:
    repository = Path(edgegen.__file__).resolve().parents[1]
    assert [resource_folder(kind) for kind in KINDS] == [repository / kind for kind in KINDS]


def test_an_installed_package_uses_the_files_inside_it_even_beside_a_folder_of_the_same_name(tmp_path: Path) -> None:
    package = Path(edgegen.__file__).resolve().parent
    shutil.copytree(package, tmp_path / "edgegen", ignore=shutil.ignore_patterns("__pycache__"))
    for kind in KINDS:
        shutil.copytree(resource_folder(kind), tmp_path / "edgegen" / "_resources" / kind, dirs_exist_ok=True)
    (tmp_path / "targets").mkdir()  # somebody else's top-level package in site-packages
    code = "from edgegen.resources import resource_folder; from edgegen.target import load_target; " + (
        "print(resource_folder('targets')); print(load_target('jetson').id)"
    )
    printed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert printed.split() == [str(tmp_path / "edgegen" / "_resources" / "targets"), "jetson-orin-nano"]


def test_a_copied_recipe_is_one_to_edit(tmp_path: Path) -> None:
    copy = copy_resource("recipes/balanced", tmp_path)
    assert copy == tmp_path / "balanced.toml"
    assert load_recipe(str(copy)) == load_recipe("balanced")


def test_a_copy_may_have_another_name(tmp_path: Path) -> None:
    assert copy_resource("recipes/balanced.toml", tmp_path / "mine.toml").read_text().startswith("# The default.")


def test_copying_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "balanced.toml").write_text("mine")
    with pytest.raises(StorageError, match=r"balanced.toml exists"):
        copy_resource("recipes/balanced", tmp_path)
    assert (tmp_path / "balanced.toml").read_text() == "mine"


@pytest.mark.parametrize("reference", ["recipes/balnced", "balanced", "../edgegen/errors", "recipes/../targets/host"])
def test_what_cannot_be_copied_is_refused_with_the_nearest(tmp_path: Path, reference: str) -> None:
    with pytest.raises(RecipeError) as caught:
        copy_resource(reference, tmp_path)
    assert reference in caught.value.message
    assert caught.value.hint
    assert not list(tmp_path.iterdir())


def test_copying_into_a_missing_folder_names_it(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        copy_resource("recipes/balanced", tmp_path / "none" / "mine.toml")


def test_every_kind_has_files_and_a_readme_that_documents_the_schema() -> None:
    for kind in KINDS:
        assert resource_names(kind)
        assert f"edgegen.{kind.removesuffix('s')}/1" in (resource_folder(kind) / "README.md").read_text()
