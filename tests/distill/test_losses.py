"""Every loss against numbers worked out by hand, or against a second implementation."""

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


def test_ms_ssim_of_flat_pictures_is_their_luminance_to_the_power_of_the_last_scale():
    # structure is 1 everywhere; luminance (2 * 0.5 * 0.25 + C1) / (0.25 + 0.0625 + C1) counts at the fifth scale: weight 0.1333
    dark, bright = torch.full((1, 3, 176, 176), 0.25), torch.full((1, 3, 176, 176), 0.5)
    luminance = (0.25 + 1e-4) / (0.3125 + 1e-4)
    assert losses.ms_ssim(bright, dark).item() == pytest.approx(luminance**0.1333, abs=1e-4)


def test_ms_ssim_of_smaller_pictures_has_fewer_scales_and_of_one_scale_is_ssim():
    random = torch.Generator().manual_seed(1)
    a = torch.rand((2, 3, 44, 50), generator=random)
    b = (a + 0.1 * torch.randn(a.shape, generator=random)).clamp(0, 1)
    dark, bright = torch.full((1, 1, 44, 50), 0.25), torch.full((1, 1, 44, 50), 0.5)  # scales of 44, 22 and 11 pixels
    expected = ((0.25 + 1e-4) / (0.3125 + 1e-4)) ** (0.3001 / (0.0448 + 0.2856 + 0.3001))
    assert losses.ms_ssim(bright, dark).item() == pytest.approx(expected, abs=1e-4)
    small = a[..., :21, :21], b[..., :21, :21]
    assert torch.equal(losses.ms_ssim(*small), losses.ssim(*small))


def test_ms_ssim_of_a_negative_keeps_a_finite_slope_and_equal_pictures_lose_nothing():
    picture = torch.rand((1, 1, 64, 64), generator=torch.Generator().manual_seed(2))
    student = (1 - picture).requires_grad_(True)
    losses.ms_ssim_loss(student, picture).backward()
    assert student.grad.isfinite().all()
    assert losses.ms_ssim_loss(picture, picture).item() == pytest.approx(0.0, abs=1e-5)


def test_haar_loss_compares_the_three_high_bands_and_forgives_an_offset():
    # d = 0 .5 / .5 -1: across (0 - .5 + .5 + 1) / 2 = .5, down (0 + .5 - .5 + 1) / 2 = .5, diagonal (0 - .5 - .5 - 1) / 2 = -1
    assert losses.haar_loss(ROW_A, ROW_B).item() == pytest.approx((0.5 + 0.5 + 1.0) / 3)
    assert losses.haar_loss(ROW_A, ROW_A + 0.25).item() == pytest.approx(0.0, abs=1e-7)


def test_haar_loss_leaves_an_odd_last_row_and_column_out():
    wider = torch.nn.functional.pad(ROW_A, (0, 1, 0, 1), value=9.0), torch.nn.functional.pad(ROW_B, (0, 1, 0, 1))
    assert losses.haar_loss(*wider).item() == pytest.approx(losses.haar_loss(ROW_A, ROW_B).item())


def test_total_variation_adds_the_mean_slopes_across_and_down():
    # 0 .5 / 1 0: across .5 and 1, down 1 and .5
    assert losses.total_variation_loss(ROW_A).item() == pytest.approx(0.75 + 0.75)
    assert losses.total_variation_loss(ROW_A[..., :1, :1]).item() == 0.0


def test_latent_direction_loss_asks_for_the_same_changes_and_not_for_the_same_pictures():
    teacher = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).view(3, 1, 1, 2)
    assert losses.latent_direction_loss(0.5 * teacher + 0.3, teacher).item() == pytest.approx(0.0, abs=1e-6)
    # the student swaps the two pixels: changes (1,0) (0,1) (1,-1) against (0,1) (1,0) (-1,1): cosines 0, 0, -1
    assert losses.latent_direction_loss(teacher.flip(3), teacher).item() == pytest.approx(1 + 1 / 3)


def test_a_student_that_gives_one_picture_for_all_latents_has_a_finite_slope():
    student = torch.full((3, 1, 2, 2), 0.5, requires_grad=True)
    losses.latent_direction_loss(student, torch.rand((3, 1, 2, 2))).backward()
    assert student.grad.isfinite().all()


PICTURE_LOSSES = [losses.l1_loss, losses.charbonnier_loss, losses.gradient_loss, losses.ssim_loss, losses.ms_ssim_loss,
                  losses.haar_loss]  # fmt: skip


@pytest.mark.parametrize("loss", PICTURE_LOSSES, ids=lambda loss: loss.__name__)
def test_the_mean_over_equal_shards_is_that_of_the_batch(loss):
    a, b = torch.rand((2, 4, 3, 24, 24), generator=torch.Generator().manual_seed(5))
    shards = (loss(a[:2], b[:2]) + loss(a[2:], b[2:])) / 2
    assert loss(a, b).item() == pytest.approx(shards.item(), rel=1e-5)


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
