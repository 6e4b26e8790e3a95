"""What a generator trains on: crops and batches that its layers can take and that show it what it sees at run time."""

import pytest
from torch import nn

from edgegen.effort import fitted
from edgegen.generator import Generator
from edgegen.graph import trace
from edgegen.layers import Reshape
from edgegen.recipe import AugmentConfig, DistillConfig
from edgegen.spec import ComponentSpec, Kind, Layout, TensorSpec


def generator(side: int, norm: nn.Module) -> Generator:
    picture = TensorSpec("picture", Kind.IMAGE, (3, side, side), Layout.CHW, low=0.0, high=1.0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), norm, nn.Conv2d(4, 3, 3, padding=1), nn.Sigmoid())
    return Generator(trace(net.eval()), ComponentSpec("small", (picture,), (picture,)), "test", {}, {})


def asked(crop: int = 128, batch: int = 0) -> DistillConfig:
    return DistillConfig(batch=batch, augment=AugmentConfig(crop=crop))


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(4), nn.InstanceNorm2d(4, track_running_stats=True)])
def test_generators_that_see_no_more_than_a_neighbourhood_train_on_the_crops_that_were_asked_for(norm: nn.Module) -> None:
    config, why = fitted(asked(), generator(256, norm))
    assert (config.augment.crop, config.batch, why) == (128, 4, "")


@pytest.mark.parametrize(("side", "crop", "batch"), [(256, 0, 1), (512, 256, 1), (160, 0, 3)])
def test_generators_that_normalise_over_the_picture_train_on_whole_ones_or_on_the_largest_crops(
    side: int, crop: int, batch: int
) -> None:
    config, why = fitted(asked(), generator(side, nn.InstanceNorm2d(4)))
    assert (config.augment.crop, config.batch) == (crop, batch)
    assert "norms see the whole picture" in why


@pytest.mark.parametrize("crop", [0, 256, 384])
def test_whole_pictures_and_large_crops_stay_as_they_were_asked_for(crop: int) -> None:
    config, why = fitted(asked(crop, batch=2), generator(512, nn.InstanceNorm2d(4)))
    assert (config.augment.crop, config.batch, why) == (crop, 2, "")


def test_generators_of_one_size_train_on_whole_pictures() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 16, stride=16), nn.Flatten(), nn.Linear(2 * 4 * 4, 3 * 64 * 64), Reshape((3, 64, 64)))
    picture = TensorSpec("picture", Kind.IMAGE, (3, 64, 64), Layout.CHW, low=0.0, high=1.0)
    made = Generator(trace(net.eval()), ComponentSpec("small", (picture,), (picture,)), "test", {}, {})
    config, why = fitted(asked(32), made)
    assert config.augment.crop == 0 and "does not take crops of 32 pixels" in why
