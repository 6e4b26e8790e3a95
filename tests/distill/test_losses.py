"""Every loss against numbers worked out by hand, or against a second implementation."""

import math

import numpy as np
import pytest
import torch

from edgegen.distill import losses
from edgegen.quality import metrics
from edgegen.spec import Kind, Layout, TensorSpec

ROW_A = torch.tensor([0.0, 0.5, 1.0, 0.0]).view(1, 1, 2, 2)  # 0   0.5
ROW_B = torch.tensor([0.0, 0.0, 0.5, 1.0]).view(1, 1, 2, 2)  # 1   0    against 0 0 / 0.5 1


def picture_spec(low: float, high: float) -> TensorSpec:
    return TensorSpec("picture", Kind.IMAGE, (1, 2, 2), Layout.CHW, low=low, high=high)


def test_l1_is_the_mean_absolute_difference():
    assert losses.l1_loss(ROW_A, ROW_B).item() == pytest.approx((0 + 0.5 + 0.5 + 1) / 4)


def test_charbonnier_is_epsilon_at_equality_and_l1_far_away():
    assert losses.charbonnier_loss(ROW_A, ROW_A).item() == pytest.approx(1e-3)
    assert losses.charbonnier_loss(ROW_A, ROW_A + 3.0, epsilon=4.0).item() == pytest.approx(5.0)


def test_gradient_loss_compares_slopes_and_forgives_an_offset():
    assert losses.gradient_loss(ROW_A, ROW_A + 0.25).item() == pytest.approx(0.0, abs=1e-7)
    # d = 0 .5 / .5 -1: across |.5|, |-1.5| -> 1.0; down |.5|, |-1.5| -> 1.0; the next halving is one pixel: left out
    assert losses.gradient_loss(ROW_A, ROW_B).item() == pytest.approx(1.0)


@pytest.mark.parametrize("size", [(48, 40), (11, 11), (16, 7)])
def test_ssim_gives_the_numbers_of_the_quality_metric(size):
    random = torch.Generator().manual_seed(1)
    a = torch.rand((2, 3, *size), generator=random)
    b = (a + 0.1 * torch.randn(a.shape, generator=random)).clamp(0, 1)
    expected = [metrics.ssim(np.moveaxis(x.numpy(), 0, 2), np.moveaxis(y.numpy(), 0, 2)) for x, y in zip(a, b, strict=True)]
    assert losses.ssim(a, b).tolist() == pytest.approx(expected, abs=1e-5)  # float32 against float64


def test_ssim_loss_is_zero_for_equal_images_and_its_slope_points_towards_the_teacher():
    teacher = torch.rand((1, 1, 16, 16), generator=torch.Generator().manual_seed(2))
    assert losses.ssim_loss(teacher, teacher).item() == pytest.approx(0.0, abs=1e-6)
    student = (teacher + 0.1 * torch.randn(teacher.shape, generator=torch.Generator().manual_seed(3))).requires_grad_(True)
    before = losses.ssim_loss(student, teacher)
    (slope,) = torch.autograd.grad(before, student)
    assert losses.ssim_loss(student - 0.5 * slope, teacher) < before


def test_ssim_works_on_images_smaller_than_its_window():
    tiny = torch.rand((1, 3, 2, 3), generator=torch.Generator().manual_seed(2))
    assert losses.ssim(tiny, tiny).item() == pytest.approx(1.0)


def test_feature_loss_is_in_units_of_the_teachers_magnitude():
    assert losses.feature_loss(ROW_A, ROW_B, torch.tensor(0.25)).item() == pytest.approx(0.5 / 0.25)


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


def test_psnr_of_a_tenth_everywhere_is_twenty_and_of_equal_images_the_cap():
    assert losses.psnr_db(ROW_A, ROW_A + 0.1).item() == pytest.approx(20.0, abs=1e-3)
    assert losses.psnr_db(ROW_A, ROW_A).item() == pytest.approx(100.0, abs=1e-3)


def test_visible_maps_black_and_white_to_zero_and_one_and_cuts_off_what_no_display_shows():
    shown = losses.visible(torch.tensor([-1.0, 0.0, 1.0, 3.0]), picture_spec(-1.0, 1.0))
    assert shown.tolist() == pytest.approx([0.0, 0.5, 1.0, 1.0])


def test_a_student_beyond_white_is_pulled_back_only_where_the_teacher_is_not_white():
    student = torch.tensor([300.0, 300.0], requires_grad=True)
    spec = picture_spec(0.0, 255.0)
    losses.l1_loss(losses.visible(student, spec), losses.visible(torch.tensor([280.0, 100.0]), spec)).backward()
    assert student.grad[0] == 0.0
    assert student.grad[1] > 0.0
