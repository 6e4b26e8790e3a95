import dataclasses

import pytest
import torch
import torch._inductor.config
from tiny import SmoothImages, painter

from edgegen.distill.hardware import Arithmetic, open_hardware
from edgegen.distill.networks import build_networks, compile_networks, faster_format, timed_format, trusted_arithmetic
from edgegen.distill.taps import with_taps
from edgegen.errors import RecipeError
from edgegen.graph import trace
from edgegen.layers import Scale
from edgegen.recipe import AugmentConfig, DistillConfig, MemoryFormat

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


@pytest.mark.parametrize(
    ("norm", "expected"),
    [(torch.nn.BatchNorm2d, MemoryFormat.CHANNELS_LAST), (torch.nn.InstanceNorm2d, MemoryFormat.CONTIGUOUS)],
    ids=["BatchNorm", "InstanceNorm"],
)
def test_the_layout_on_the_cpu_follows_from_the_layers_unless_the_recipe_names_one(norm, expected):
    teacher, hardware = painter(8, seed=2, norm=norm).module, open_hardware(Arithmetic.F32, batch=2)
    assert faster_format(teacher, BATCH, hardware, DistillConfig()) is expected
    for named in (MemoryFormat.CONTIGUOUS, MemoryFormat.CHANNELS_LAST):
        assert faster_format(teacher, BATCH, hardware, DistillConfig(memory_format=named)) is named


def test_the_timed_layout_is_one_of_the_two_and_the_teachers_images_stay():
    teacher, hardware = painter(8, seed=2).module, open_hardware(Arithmetic.F32, batch=2)
    before = teacher(*BATCH)
    assert timed_format(teacher, BATCH, hardware) in (MemoryFormat.CONTIGUOUS, MemoryFormat.CHANNELS_LAST)
    assert (teacher(*BATCH) - before).abs().max() < 1e-4


def test_arranged_weights_and_batches_lie_as_asked():
    hardware = dataclasses.replace(open_hardware(Arithmetic.F32, batch=2), memory_format=MemoryFormat.CHANNELS_LAST)
    layer = torch.nn.Conv2d(3, 4, 3)
    hardware.arrange(layer.parameters())
    (batch,) = hardware.shard(BATCH)
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)
    assert batch.is_contiguous(memory_format=torch.channels_last) and torch.equal(batch, BATCH[0])


def test_a_machine_that_cannot_compile_is_refused(monkeypatch):
    monkeypatch.setenv("CXX", "/nonexistent/compiler")
    torch.compiler.reset()
    teacher = painter(8, seed=2)
    networks = build_networks(painter(4, seed=1), teacher, BATCH, open_hardware(Arithmetic.F32, batch=2), features=False)
    with monkeypatch.context() as patch, torch._inductor.config.patch({"cpp.cxx": ("/nonexistent/compiler",)}):
        patch.setenv("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
        with pytest.raises(RecipeError, match="distill.compile is set, but torch.compile fails here"):
            compile_networks(networks)
