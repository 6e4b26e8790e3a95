import pytest
import torch
from tiny import SIDE, SmoothImages, painter

from edgegen.distill.evaluate import hold_out
from edgegen.distill.taps import with_taps

CPU = torch.device("cpu")


def test_the_teacher_is_perfectly_near_to_itself_and_another_generator_is_not():
    teacher, other = painter(8, seed=2), painter(4, seed=1)
    output = teacher.spec.outputs[0]
    held_out = hold_out(with_taps(teacher.module, ()), SmoothImages().held_out(5), output, device=CPU, batch=2)
    same, far = held_out.fidelity(teacher.module, CPU), held_out.fidelity(other.module, CPU)
    assert (same.psnr_db, same.ssim) == pytest.approx((100.0, 1.0), abs=1e-3)
    assert far.psnr_db < 40.0 and far.ssim < 0.9


def test_the_grid_has_a_row_of_teacher_and_student_per_input():
    teacher, other = painter(8, seed=2), painter(4, seed=1)
    held_out = hold_out(with_taps(teacher.module, ()), SmoothImages().held_out(5), teacher.spec.outputs[0], device=CPU, batch=4)
    grid = held_out.pairs(other.module, CPU, 3)
    assert grid.shape == (3 * SIDE, 2 * SIDE, 3) and grid.dtype.name == "uint8"
    assert abs(grid[:SIDE, :SIDE].astype(float) / 255 - held_out.images[0][0].permute(1, 2, 0).numpy()).max() < 0.003
