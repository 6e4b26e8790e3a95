"""Recipes: the built-in ones, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgegen.errors import RecipeError
from edgegen.recipe import STAGES, Recipe, load_recipe
from edgegen.resources import resource_folder, resource_names

STAGES_LINE = 'stages = ["load", "rewrite", "prune", "distill", "export", "verify", "qat", "bundle", "bench", "report"]'


def edited(folder: Path, *replacements: tuple[str, str]) -> str:
    """Write the balanced recipe with replacements and return its path."""
    text = (resource_folder("recipes") / "balanced.toml").read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def test_balanced_writes_out_the_defaults_of_the_code() -> None:
    recipe = load_recipe("balanced")
    assert recipe == Recipe("balanced", recipe.title, STAGES)


@pytest.mark.parametrize("name", resource_names("recipes"))
def test_a_built_in_recipe_loads_under_its_own_name(name: str) -> None:
    assert load_recipe(name).name == name


def test_export_only_trains_nothing_and_distill_only_prunes_nothing() -> None:
    assert not {"prune", "distill"} & set(load_recipe("export-only").stages)
    assert "prune" not in load_recipe("distill-only").stages


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="'balancd' is unknown") as caught:
        load_recipe("balancd")
    assert "balanced" in caught.value.hint


def test_a_missing_file_is_named() -> None:
    with pytest.raises(RecipeError, match="none.toml is missing"):
        load_recipe("./none.toml")


def test_an_edited_copy_is_read(tmp_path: Path) -> None:
    recipe = load_recipe(edited(tmp_path, ("batch = 0", "batch = 8"), ("crop = 128", "crop = 0")))
    assert (recipe.distill.batch, recipe.distill.augment.crop) == (8, 0)
    assert (
        dataclasses.replace(recipe.distill, batch=0, augment=Recipe("a", "b", ()).distill.augment) == Recipe("a", "b", ()).distill
    )


@pytest.mark.parametrize(
    ("old", "new", "fact", "hint"),
    [
        (STAGES_LINE, 'stages = ["load", "export", "prune", "bundle"]', "out of order", "load, prune, export, bundle"),
        (STAGES_LINE, 'stages = ["load", "load", "export", "bundle"]', "twice", "load, export, bundle"),
        (STAGES_LINE, 'stages = ["load", "distil", "export", "bundle"]', "'distil' is not a stage", "'distill'"),
        (STAGES_LINE, 'stages = ["load", "rewrite", "prune", "distill", "export", "verify", "bench"]', "lacks bundle", "bundle"),
        ("batch = 0", "batchh = 0", "distill.batchh is not a key", "'batch'"),
        ("speedup = 6.0", "speedup = 0.5", "prune.speedup is 0.5", "from 1.0 to 1000.0"),
        ("crop = 128", "crop = 130", "distill.augment.crop is 130", "multiple of 4"),
        ("l1 = 1.0", "l1 = -1.0", "distill.losses.l1 is -1.0", "at least 0"),
        ("precisions = []", 'precisions = ["int9"]', "'int9' is not a precision", "'int8'"),
        ("precisions = []", 'precisions = ["int8", "int8"]', "twice", "once"),
        ("steps = 0  ", "steps = 50  ", "warmup_steps is 50 but distill.steps is 50", "warm-up"),
        ('pixels = "auto"', 'pixels = "maybe"', "rewrite.pixels is 'maybe'", "yes, no, auto"),
        ('balance = "none"', 'balance = "even"', "distill.balance is 'even'", "none, gradient"),
        ('discriminator = "given"', 'discriminator = "big"', "distill.adversary.discriminator is 'big'", "given, shrunk, new"),
        ("r1_every = 16", "r1_every = 0", "distill.adversary.r1_every is 0", "at least 1"),
    ],
)  # fmt: skip
def test_a_bad_setting_is_refused_with_the_way_out(tmp_path: Path, old: str, new: str, fact: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(edited(tmp_path, (old, new)))
    assert fact in caught.value.message
    assert hint in caught.value.hint


def test_settings_of_a_stage_that_does_not_run_are_a_contradiction(tmp_path: Path) -> None:
    stages = 'stages = ["load", "export", "bundle"]'
    with pytest.raises(RecipeError, match=r"\[distill\] is set but the stage distill is not listed"):
        load_recipe(edited(tmp_path, (STAGES_LINE, stages), ("batch = 0", "batch = 8")))


def test_a_distillation_without_losses_is_a_contradiction(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="nothing to learn from"):
        load_recipe(edited(tmp_path, ("l1 = 1.0", "l1 = 0"), ("ssim = 0.3", "ssim = 0"), ("feature = 0.02", "feature = 0")))


def test_a_student_that_only_has_to_be_smooth_has_nothing_to_learn_from(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="nothing to learn from"):
        load_recipe(edited(tmp_path, ("l1 = 1.0", "l1 = 0"), ("ssim = 0.3", "ssim = 0"), ("feature = 0.02", "feature = 0"),
                           ("total_variation = 0.0", "total_variation = 1")))  # fmt: skip


def test_the_readme_lists_every_key_with_its_default() -> None:
    readme = (resource_folder("recipes") / "README.md").read_text()
    recipe = Recipe("a", "b", ())
    for section in (recipe.rewrite, recipe.prune, recipe.distill, recipe.distill.losses, recipe.distill.adversary,
                    recipe.distill.augment, recipe.export,
                    recipe.verify, recipe.bench):  # fmt: skip
        for field in dataclasses.fields(section):
            if not dataclasses.is_dataclass(getattr(section, field.name)):
                assert f"{field.name}`" in readme, field.name
