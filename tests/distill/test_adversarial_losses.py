"""The losses on a discriminator's logits against numbers worked out by hand."""

import math

import pytest
import torch

from edgegen.distill import adversarial_losses as losses


def test_adversarial_losses_at_a_logit_of_zero_and_of_one():
    zero, one = torch.zeros(2, 1), torch.ones(2, 1)
    assert losses.adversarial_generator_loss(zero).item() == pytest.approx(math.log(2))
    assert losses.adversarial_discriminator_loss(zero, zero).item() == pytest.approx(2 * math.log(2))
    assert losses.hinge_generator_loss(one).item() == pytest.approx(-1.0)
    assert losses.hinge_discriminator_loss(one, one).item() == pytest.approx(0.0 + 2.0)


def test_r1_of_a_linear_discriminator_is_the_square_of_its_weights():
    images = torch.rand((3, 1, 1, 2), requires_grad=True)
    logits = (images * torch.tensor([3.0, 4.0])).sum(dim=(1, 2, 3))
    assert losses.r1_penalty(logits, images).item() == pytest.approx(25.0)
