"""Pixels in, pixels out: the artifact takes and gives uint8 NHWC pictures and computes the same."""

import numpy as np
import pytest
import torch
from torch import nn

from edgegen.generator import Generator
from edgegen.graph import trace
from edgegen.rewrite.pixels import takes_and_gives_pixels
from edgegen.spec import ComponentSpec, Kind, Layout, TensorSpec


def generator(module, low, high, out_low, out_high):
    image = TensorSpec("image", Kind.IMAGE, (3, 8, 10), Layout.CHW, low=low, high=high)
    picture = TensorSpec("picture", Kind.IMAGE, (3, 8, 10), Layout.CHW, low=out_low, high=out_high)
    return Generator(trace(module), ComponentSpec("generator", (image,), (picture,)), "test", {}, {})


RANGES = {
    "tanh on [-1, 1]": (nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.ReLU(), nn.Conv2d(4, 3, 3, 1, 1), nn.Tanh()), -1, 1, -1, 1),
    "0..255 in, 0..1 out": (nn.Sequential(nn.Conv2d(3, 3, 3, 1, 1), nn.Sigmoid()), 0, 255, 0, 1),
    "0..1 in, 0..255 out": (nn.Sequential(nn.Conv2d(3, 3, 3, 1, 1), nn.Sigmoid()), 0, 1, 0, 1),
    "tanh behind a pixel shuffle": (
        nn.Sequential(nn.Conv2d(3, 12, 2, 2), nn.PixelShuffle(2), nn.Tanh()), -1, 1, -1, 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RANGES)
def test_the_pixels_are_those_of_the_float_generator_rounded(name):
    module, *ranges = RANGES[name]
    before = generator(module, *map(float, ranges))
    after = takes_and_gives_pixels(before)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 8, 10, 3), dtype=np.uint8)
    low, high, out_low, out_high = ranges
    image = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 * (high - low) + low
    with torch.no_grad():
        wanted = (before.module(image) - out_low) / (out_high - out_low) * 255
        got = after.module(torch.from_numpy(pixels))
    assert got.dtype == torch.uint8 and tuple(got.shape[1:]) == after.spec.outputs[0].shape == (8, 10, 3)
    assert (got.permute(0, 3, 1, 2).float() - wanted).abs().max() <= 0.5 + 1e-3  # rounding, and float32 sums in another order


def test_the_tanh_head_is_folded_away():
    after = takes_and_gives_pixels(generator(*RANGES["tanh on [-1, 1]"]))
    assert not any(isinstance(m, nn.Tanh) for m in after.module.modules())


def test_the_generator_itself_is_left_alone():
    before = generator(*RANGES["tanh on [-1, 1]"])
    weights = {k: v.clone() for k, v in before.module.state_dict().items()}
    takes_and_gives_pixels(before)
    assert all(torch.equal(v, weights[k]) for k, v in before.module.state_dict().items())
