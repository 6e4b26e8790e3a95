"""Losses that need a file or a network of their own, from the command line's request to the trained student."""

import json
from pathlib import Path

import pytest
import torch
from pipeline_runs import run, stage, write_latent_checkpoint, write_recipe

from edgegen.errors import RecipeError

FACTS = {"perceptual": "losses.perceptual is set but there is no network", "adversarial": "there is no discriminator"}


def recipe(folder: Path, settings: str) -> Path:
    path = write_recipe(folder)
    path.write_text(path.read_text().replace("[verify]", settings + "\n[verify]"))
    return path


def narrow_vgg16(folder: Path) -> Path:
    """A file as `torch.save(vgg16().state_dict(), ...)` makes it, but 4 channels wide."""
    random, tensors = torch.Generator().manual_seed(0), {}
    for number in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28):
        tensors[f"features.{number}.weight"] = torch.randn((4, 4 if number else 3, 3, 3), generator=random) / 6
        tensors[f"features.{number}.bias"] = torch.zeros(4)
    torch.save(tensors, folder / "vgg16.pth")
    return folder / "vgg16.pth"


@pytest.mark.parametrize("loss", FACTS)
def test_a_loss_without_its_file_stops_the_run_before_anything_is_loaded(tmp_path: Path, loss: str) -> None:
    (tmp_path / "faces.pt").write_bytes(b"not read yet")
    recipe(tmp_path, f"[distill.losses]\n{loss} = 0.1\n")
    with pytest.raises(RecipeError, match=FACTS[loss]):
        run(tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_run_that_stops_before_distill_needs_no_file(tmp_path: Path) -> None:
    write_latent_checkpoint(tmp_path)
    recipe(tmp_path, "[distill.losses]\nperceptual = 0.1\n")
    assert run(tmp_path, until="load").summary["stopped_after"] == "load"


def test_perceptual_weights_and_a_new_discriminator_train_the_student(tmp_path: Path) -> None:
    write_latent_checkpoint(tmp_path)
    path = recipe(tmp_path, "[distill.losses]\nperceptual = 0.1\nadversarial = 0.05\nlatent_direction = 0.1\n"
                            "[distill.adversary]\ndiscriminator = 'new'\n")  # fmt: skip
    path.write_text(path.read_text().replace("[distill]\n", "[distill]\nbalance = 'gradient'\n"))
    run(tmp_path, until="distill", perceptual=narrow_vgg16(tmp_path))
    document = json.loads((stage(tmp_path / "out", "distill") / "generator.json").read_text())
    facts = document["lineage"][-1]["facts"]
    assert facts["loss_balance"].keys() == {"l1", "ssim", "feature", "perceptual", "latent_direction"}
