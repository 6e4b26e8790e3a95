import torch
from tiny import SmoothImages, painter

from edgegen.distill.hardware import Arithmetic, open_hardware
from edgegen.distill.networks import build_networks, trusted_arithmetic
from edgegen.distill.taps import with_taps
from edgegen.graph import trace
from edgegen.layers import Scale
from edgegen.recipe import AugmentConfig

BATCH = SmoothImages().train(0, 2, AugmentConfig())


def test_arithmetic_that_the_teachers_images_survive_is_kept():
    teacher, hardware = painter(8, seed=2), open_hardware(Arithmetic.BF16, batch=2)
    kept = trusted_arithmetic(with_taps(teacher.module, ()), BATCH, hardware, teacher.spec.outputs[0])
    assert kept.arithmetic is Arithmetic.BF16


def test_arithmetic_that_shows_in_the_teachers_images_is_given_up():
    teacher, hardware = painter(8, seed=2), open_hardware(Arithmetic.BF16, batch=2)
    shifted = torch.nn.Conv2d(3, 3, 1)
    torch.nn.init.constant_(shifted.bias, 100.0)  # bfloat16 has no values between 100 and 100.5
    steep = trace(torch.nn.Sequential(shifted, Scale(1.0, -100.0)))
    kept = trusted_arithmetic(with_taps(steep, ()), BATCH, hardware, teacher.spec.outputs[0])
    assert kept.arithmetic is Arithmetic.F32


def test_the_taps_of_the_first_batch_start_close_to_the_teachers():
    student, teacher = painter(8, seed=2), painter(8, seed=2)
    networks = build_networks(student, teacher, BATCH, open_hardware(Arithmetic.F32, batch=2), features=True)
    _, *ours = networks.student(*BATCH)
    _, *theirs = networks.teacher(*BATCH)
    for adapter, mine, guide, scale in zip(networks.adapters, ours, theirs, networks.tap_scales, strict=True):
        assert (adapter(mine) - guide).abs().mean() < 0.1 * scale
