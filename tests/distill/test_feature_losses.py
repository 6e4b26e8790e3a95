"""Every loss between feature maps against numbers worked out by hand."""

import math

import pytest
import torch

from edgegen.distill import feature_losses as losses

OURS = torch.tensor([0.0, 0.5, 1.0, 0.0]).view(1, 1, 2, 2)
THEIRS = torch.tensor([0.0, 0.0, 0.5, 1.0]).view(1, 1, 2, 2)


def maps(seed: int, channels: int = 3) -> torch.Tensor:
    return torch.randn((4, channels, 5, 5), generator=torch.Generator().manual_seed(seed))


def test_feature_loss_is_in_units_of_the_teachers_magnitude():
    assert losses.feature_loss(OURS, THEIRS, torch.tensor(0.25)).item() == pytest.approx(0.5 / 0.25)


def test_channel_mean_loss_forgives_where_and_counts_how_much():
    assert losses.channel_mean_loss(OURS, OURS.flip(3), torch.tensor(0.25)).item() == pytest.approx(0.0)
    assert losses.channel_mean_loss(OURS, OURS + 0.5, torch.tensor(0.25)).item() == pytest.approx(0.25 / 0.0625)


def test_kernel_alignment_of_rows_that_relate_alike_is_one_whatever_their_channels():
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert losses.kernel_alignment(x, 3 * x[:, [1, 0]]).item() == pytest.approx(1.0)
    # XX' = identity (length sqrt 2), YY' = all ones (length 2), their product 2
    assert losses.kernel_alignment(x, torch.ones(2, 1)).item() == pytest.approx(2 / (2 * math.sqrt(2)))


def test_alignment_loss_needs_no_equal_channels_and_ignores_size():
    ours = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(1, 2, 1, 2)  # two channels, two positions
    assert losses.alignment_loss(ours, torch.ones(1, 1, 1, 2)).item() == pytest.approx(1 - 1 / math.sqrt(2), abs=1e-6)
    assert losses.alignment_loss(1e4 * ours, 1e-3 * ours).item() == pytest.approx(0.0, abs=1e-4)


def test_gram_matrix_is_the_mean_product_of_two_channels():
    pair = torch.tensor([[1.0, 3.0], [2.0, 0.0]]).view(1, 2, 1, 2)
    assert losses.gram_matrix(pair)[0].tolist() == [[5.0, 1.0], [1.0, 2.0]]


def test_gram_loss_is_relative_and_forgives_where():
    pair = torch.tensor([[1.0, 3.0], [2.0, 0.0]]).view(1, 2, 1, 2)
    assert losses.gram_loss(pair.flip(3), pair).item() == pytest.approx(0.0, abs=1e-6)
    assert losses.gram_loss(2 * pair, pair).item() == pytest.approx(3.0)  # four times every product
    assert losses.gram_loss(20 * pair, 10 * pair).item() == pytest.approx(3.0)


def test_perceptual_loss_is_the_mean_of_the_levels_relative_to_the_teachers_maps():
    # |d| 0.5 of 0.375; then a level of equal maps
    assert losses.perceptual_loss([OURS, OURS], [THEIRS, OURS]).item() == pytest.approx((0.5 / 0.375 + 0) / 2)


def test_lpips_weighs_squared_differences_of_unit_vectors():
    ours, theirs = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1), torch.tensor([0.0, 7.0]).view(1, 2, 1, 1)
    # (0.6, 0.8) against (0, 1): 0.36 and 0.04
    assert losses.lpips_loss([ours], [theirs], [torch.tensor([2.0, 5.0])]).item() == pytest.approx(2 * 0.36 + 5 * 0.04)


@pytest.mark.parametrize("loss", [
    losses.alignment_loss, losses.gram_loss, lambda a, b: losses.perceptual_loss([a], [b]),
    lambda a, b: losses.lpips_loss([a], [b], [torch.ones(3)]), lambda a, b: losses.channel_mean_loss(a, b, torch.tensor(0.5)),
], ids=["alignment", "gram", "perceptual", "lpips", "channel_mean"])  # fmt: skip
def test_the_mean_over_equal_shards_is_that_of_the_batch(loss):
    a, b = maps(1), maps(2)
    shards = (loss(a[:2], b[:2]) + loss(a[2:], b[2:])) / 2
    assert loss(a, b).item() == pytest.approx(shards.item(), rel=1e-5)


@pytest.mark.parametrize("loss", [
    losses.alignment_loss, losses.gram_loss, lambda a, b: losses.lpips_loss([a], [b], [torch.ones(3)]),
], ids=["alignment", "gram", "lpips"])  # fmt: skip
def test_a_layer_that_died_has_a_finite_slope(loss):
    dead = torch.zeros((2, 3, 4, 4), requires_grad=True)
    loss(dead, maps(1)[:2, :, :4, :4]).backward()
    assert dead.grad.isfinite().all()
