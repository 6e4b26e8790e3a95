"""Training inputs from a finite pool of views: what makes it worth storing the teacher's images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgegen.data import open_inputs
from edgegen.data.inputs import Inputs
from edgegen.recipe import AugmentConfig
from edgegen.spec import ComponentSpec, Kind, Layout, TensorSpec

TWO = AugmentConfig(crop=16, views=2)
OUT = TensorSpec("y", Kind.IMAGE, (3, 32, 32), Layout.CHW, "float32", -1.0, 1.0)


def opened(folder: Path | None, *inputs: TensorSpec, out: TensorSpec = OUT) -> Inputs:
    return open_inputs(ComponentSpec("generator", inputs, (out,)), folder, calibration="auto", seed=0, held_out=4)


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory, shared_images: Path) -> Path:
    """Ten photos."""
    folder = tmp_path_factory.mktemp("streets")
    for path in sorted((shared_images / "street_train").iterdir())[:10]:
        (folder / path.name).symlink_to(path)
    return folder


def photos(folder: Path) -> Inputs:
    return opened(folder, TensorSpec("x", Kind.IMAGE, (3, 32, 32), Layout.CHW, "float32", -1.0, 1.0))


def seen(inputs: Inputs, augment: AugmentConfig, steps: int, batch: int) -> dict[int, torch.Tensor]:
    """Return the inputs by their place in the pool; the same place must always hold the same input."""
    found: dict[int, torch.Tensor] = {}
    for step in range(steps):
        for place, given in zip(inputs.positions(step, batch, augment), inputs.train(step, batch, augment)[0], strict=True):
            assert torch.equal(found.setdefault(place, given), given)
    return found


def test_every_picture_is_seen_in_as_many_views_as_asked_for_and_then_again(streets: Path) -> None:
    inputs = photos(streets)
    size = inputs.pool_size(TWO)
    assert size == 2 * 6
    pool = seen(inputs, TWO, steps=12, batch=4)
    assert set(pool) == set(range(size))
    assert len({tensor.numpy().tobytes() for tensor in pool.values()}) == size


def test_a_pass_over_the_pictures_shows_one_view_of_each(streets: Path) -> None:
    inputs = photos(streets)
    places = [place for step in range(4) for place in inputs.positions(step, 3, TWO)]
    for one in (places[:6], places[6:]):
        assert sorted(place // 2 for place in one) == list(range(6))
    assert not set(places[:6]) & set(places[6:])


def test_without_views_the_inputs_are_endless(streets: Path) -> None:
    endless = AugmentConfig(crop=16)
    inputs = photos(streets)
    assert inputs.pool_size(endless) == 0
    assert not torch.equal(inputs.train(0, 6, endless)[0], inputs.train(2, 6, endless)[0])


def test_the_truth_of_a_super_resolver_is_that_of_the_same_view(streets: Path) -> None:
    small = TensorSpec("x", Kind.IMAGE, (3, 16, 16), Layout.CHW, "float32", 0.0, 1.0)
    inputs = opened(streets, small, out=TensorSpec("y", Kind.IMAGE, (3, 64, 64), Layout.CHW, "float32", 0.0, 1.0))
    augment = AugmentConfig(crop=0, views=1)
    (given,), truth = inputs.train(1, 4, augment), inputs.train_truth(1, 4, augment)
    assert truth is not None and truth.shape == (4, 3, 64, 64)
    reduced = torch.nn.functional.avg_pool2d(truth, 4)
    assert (reduced - given).abs().mean() < 0.02  # bicubic and box reduction differ by less than two pictures do
    assert (reduced - given.roll(1, 0)).abs().mean() > 0.1


def test_latents_and_classes_of_one_place_go_together_and_repeat() -> None:
    latent = TensorSpec("z", Kind.LATENT, (4,), Layout.D)
    label = TensorSpec("c", Kind.CLASS, (1,), Layout.D, "int64", 0, 9)
    inputs = opened(None, latent, label)
    one = AugmentConfig(views=1)
    assert inputs.pool_size(one) == 1024
    first, again = inputs.train(0, 1024, one), inputs.train(1, 1024, one)
    order = [inputs.positions(step, 1024, one) for step in (0, 1)]
    assert sorted(order[0]) == sorted(order[1]) == list(range(1024)) and order[0] != order[1]
    for here, there in zip(first, again, strict=True):
        assert torch.equal(here[torch.tensor(order[0]).argsort()], there[torch.tensor(order[1]).argsort()])
    assert len({tuple(z) for z in first[0].tolist()}) == 1024
