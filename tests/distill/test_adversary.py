import dataclasses

import pytest
import torch
from torch import nn

from edgegen.distill.adversary import Adversary, open_adversary, width_share
from edgegen.distill.discriminator import Discriminator
from edgegen.errors import CheckpointError, RecipeError
from edgegen.recipe import AdversarialKind, AdversaryConfig, DistillConfig, LossConfig, Opponent
from edgegen.spec import Kind, Layout, TensorSpec

CPU = torch.device("cpu")
PICTURE = TensorSpec("picture", Kind.IMAGE, (3, 32, 32), Layout.CHW, low=0.0, high=255.0)


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


def test_the_penalty_comes_as_often_and_weighs_as_much_as_the_recipe_says():
    def gradients(step: int, **settings: float) -> torch.Tensor:
        adversary = Adversary(given, CPU, AdversaryConfig(**settings))
        return adversary.gradients(step, (images(0.0),), real=images(0.5), fake=images(0.5))[0].clone()

    given = critic(3)
    plain = gradients(1)
    assert torch.equal(gradients(16, r1=0.0), plain)
    assert torch.equal(gradients(16, r1_every=5), plain)
    lone, double = gradients(5, r1_every=5, r1=1.0) - plain, gradients(5, r1_every=5, r1=2.0) - plain
    assert torch.allclose(double, 2 * lone, rtol=1e-3, atol=1e-6) and lone.abs().max() > 1e-3


def test_hinge_stops_pushing_beyond_its_margin():
    given = critic(3)
    with torch.no_grad():
        given.layers[-1].weight.zero_()
        given.layers[-1].bias.fill_(2.0)
    adversary = Adversary(given, CPU, AdversaryConfig(AdversarialKind.HINGE))
    assert adversary.generator_loss((images(0.0),), images(0.5)).item() == pytest.approx(-2.0)
    bias = adversary.gradients(1, (images(0.0),), real=images(0.5), fake=images(0.5))[-1]
    assert bias.item() == pytest.approx(1.0)  # the real logit of 2 is beyond 1; the fake one still costs 1 + 2


def adversarial(opponent: Opponent, weight: float = 1.0) -> DistillConfig:
    return DistillConfig(losses=LossConfig(adversarial=weight), adversary=AdversaryConfig(discriminator=opponent))


def test_a_new_opponent_sees_any_value_range_as_minus_one_to_one():
    adversary = open_adversary(adversarial(Opponent.NEW), None, PICTURE, CPU, share=0.5, seed=0)
    narrow = open_adversary(
        adversarial(Opponent.NEW), None, dataclasses.replace(PICTURE, low=-1.0, high=1.0), CPU, share=0.5, seed=0
    )
    picture = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    wide = adversary.generator_loss((), picture * 255)
    assert wide.item() == pytest.approx(narrow.generator_loss((), picture * 2 - 1).item(), rel=1e-5)


def test_opponents_are_given_shrunk_or_none_at_all():
    whole = Discriminator([nn.Conv2d(3, 32, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(32, 1, 4, 1, 0, bias=False)], 3)
    shrunk = open_adversary(adversarial(Opponent.SHRUNK), whole, PICTURE, CPU, share=0.5, seed=0)
    given = open_adversary(adversarial(Opponent.GIVEN), whole, PICTURE, CPU, share=0.5, seed=0)
    assert [a.module.layers[0].out_channels for a in (shrunk, given)] == [16, 32]
    assert open_adversary(adversarial(Opponent.GIVEN, weight=0.0), whole, PICTURE, CPU, share=0.5, seed=0) is None


@pytest.mark.parametrize(
    ("opponent", "given", "fact"),
    [(Opponent.GIVEN, None, "there is no discriminator"), (Opponent.SHRUNK, None, "there is no discriminator"),
     (Opponent.NEW, critic(3), 'adversary.discriminator is "new"')],
)  # fmt: skip
def test_an_opponent_that_contradicts_the_arguments_is_refused(opponent, given, fact):
    with pytest.raises(RecipeError, match=fact):
        open_adversary(adversarial(opponent), given, PICTURE, CPU, share=0.5, seed=0)


def test_half_the_width_is_a_quarter_of_the_parameters():
    teacher = nn.Conv2d(16, 16, 3, bias=False)
    assert width_share([nn.Conv2d(8, 8, 3, bias=False), nn.Conv2d(4, 4, 3, bias=False)], teacher) == pytest.approx(0.5)
    assert width_share([nn.Conv2d(32, 32, 3, bias=False)], teacher) == 1.0


def test_a_conditional_discriminator_sees_the_input_picture_too():
    adversary = Adversary(critic(6), torch.device("cpu"))
    assert adversary.generator_loss((images(0.0),), images(0.5)).isfinite()


def test_a_discriminator_of_other_channels_is_refused():
    adversary = Adversary(critic(5), torch.device("cpu"))
    with pytest.raises(CheckpointError, match="takes 5 channels, the image has 3"):
        adversary.generator_loss((images(0.0),), images(0.5))
