import pytest
import torch
from torch import nn

from edgegen.distill.adversary import Adversary
from edgegen.distill.discriminator import Discriminator
from edgegen.errors import CheckpointError


def critic(in_channels: int) -> Discriminator:
    return Discriminator([nn.Conv2d(in_channels, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(256, 1)], in_channels)


def images(value: float) -> torch.Tensor:
    return torch.full((2, 3, 16, 16), value) + 0.01 * torch.randn((2, 3, 16, 16), generator=torch.Generator().manual_seed(0))


def test_the_adversary_learns_to_tell_teacher_from_student_and_leaves_the_given_one_alone():
    given = critic(3)
    kept = {name: tensor.clone() for name, tensor in given.state_dict().items()}
    adversary = Adversary(given, torch.device("cpu"))
    for step in range(1, 40):
        adversary.gradients(step, (images(0.0),), real=images(0.5), fake=images(-0.5))
        adversary.learn(1e-2)
    assert adversary.module(images(0.5)).min() > 0.5 > -0.5 > adversary.module(images(-0.5)).max()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in given.state_dict().items())


def test_the_students_loss_reaches_the_image_and_not_the_discriminator():
    adversary = Adversary(critic(3), torch.device("cpu"))
    fake = images(0.0).requires_grad_(True)
    adversary.generator_loss((images(0.0),), fake).backward()
    assert fake.grad is not None and fake.grad.abs().max() > 0
    assert all(parameter.grad is None and parameter.requires_grad for parameter in adversary.module.parameters())


def test_every_sixteenth_step_also_flattens_the_discriminator_around_teacher_images():
    adversary = Adversary(critic(3), torch.device("cpu"))
    with_penalty = [g.clone() for g in adversary.gradients(16, (images(0.0),), real=images(0.5), fake=images(0.5))]
    without = adversary.gradients(17, (images(0.0),), real=images(0.5), fake=images(0.5))
    assert (with_penalty[0] - without[0]).abs().max() > 1e-3


def test_a_conditional_discriminator_sees_the_input_picture_too():
    adversary = Adversary(critic(6), torch.device("cpu"))
    assert adversary.generator_loss((images(0.0),), images(0.5)).isfinite()


def test_a_discriminator_of_other_channels_is_refused():
    adversary = Adversary(critic(5), torch.device("cpu"))
    with pytest.raises(CheckpointError, match="takes 5 channels, the image has 3"):
        adversary.generator_loss((images(0.0),), images(0.5))
