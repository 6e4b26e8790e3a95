"""Every approximate move starts nearer to the teacher than cut-out or random weights do, on activations of real generators."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgegen.generator import Generator
from edgegen.graph import example_inputs
from edgegen.load import load_generator_from
from edgegen.prune.moves import MOVES
from edgegen.prune.moves.activations import activations
from edgegen.prune.moves.bottleneck import split
from edgegen.prune.moves.separable import separated
from edgegen.prune.moves.site import calls
from edgegen.prune.sensitivity import picture_loss

BY_NAME = {move.name: move for move in MOVES}


def with_random_weights(student: Generator, teacher: Generator) -> Generator:
    """The same graph, with He-initialised weights where they are not the teacher's."""
    made, known = student.copy(), dict(teacher.module.named_parameters())
    torch.manual_seed(0)
    for name, parameter in made.module.named_parameters():
        if name not in known or known[name].shape != parameter.shape or not torch.equal(known[name], parameter):
            with torch.no_grad():
                nn.init.kaiming_normal_(parameter) if parameter.dim() > 1 else parameter.zero_()
    return made


def latents(count: int, size: int, seed: int) -> list[tuple[torch.Tensor, ...]]:
    drawn = torch.Generator().manual_seed(seed)
    return [(torch.randn(1, size, generator=drawn),) for _ in range(count)]


def street(folder: Path, count: int, side: int, *, scale: float) -> list[tuple[torch.Tensor, ...]]:
    """The middle of real photos, (1, 3, side, side), 0 to `scale`."""
    from PIL import Image

    made = []
    for path in sorted(folder.glob("*.png"))[:count]:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").reduce(2), np.float32)
        top, left = ((n - side) // 2 for n in pixels.shape[:2])
        made.append(torch.from_numpy(pixels[top : top + side, left : left + side].transpose(2, 0, 1).copy()))
    return [(picture[None] * (scale / 255),) for picture in made]


def test_upsampling_moves_of_a_real_decoder_start_nearer_than_random_ones(shared_checkpoints):
    teacher = load_generator_from(shared_checkpoints / "vae_celeba64/model.pt")
    fitted, tested = latents(16, 10, seed=0), latents(8, 10, seed=1)
    for site in BY_NAME["upsampling"].find(teacher.module, example_inputs(teacher.spec)):
        student = BY_NAME["upsampling"].apply(teacher, site, samples=fitted)
        start = picture_loss(student, teacher, tested)
        assert start < 0.2 * picture_loss(with_random_weights(student, teacher), teacher, tested), site.label


@pytest.fixture(scope="module")
def style(shared_checkpoints) -> Generator:
    return load_generator_from(shared_checkpoints / "style_rain_princess/rain_princess.pt", resolution=(128, 128))


@pytest.fixture(scope="module")
def photos(shared_images) -> tuple[list[tuple[torch.Tensor, ...]], list[tuple[torch.Tensor, ...]]]:
    return street(shared_images / "street_train", 4, 128, scale=255.0), street(shared_images / "street_test", 2, 128, scale=255.0)


@torch.no_grad()
def test_split_convolutions_of_a_real_style_network_come_nearer_by_activations_than_by_weights(style, photos):
    node = calls(style.module)["l.3.c1.conv"]
    conv = style.module.get_submodule("l.3.c1.conv")
    fitted, tested = (activations(style.module, [node.all_input_nodes[0], node], samples) for samples in photos)
    by_weights = separated(conv, fitted, alike=True, rounds=0)
    u, s, v = torch.linalg.svd(conv.weight.detach().flatten(1), full_matrices=False)
    narrow, wide = copy.deepcopy(conv), nn.Conv2d(32, 128, 1, bias=False)
    narrow.weight = nn.Parameter((s[:32, None] * v[:32]).reshape(32, 128, 3, 3))
    wide.weight = nn.Parameter(u[:, :32, None, None].contiguous())
    for found, naive in (
        (separated(conv, fitted, alike=True), by_weights),
        (split(conv, [y for _, y in fitted], 32, alike=True), (narrow, wide)),
    ):
        near, far = (sum(float((pair[1](pair[0](x)) - y).square().mean()) for x, y in tested) for pair in (found, naive))
        assert near < 0.85 * far


@pytest.mark.slow
@pytest.mark.parametrize("name", ["half_stem", "half_head", "smaller_kernel"])
def test_moves_at_full_resolution_of_a_real_style_network_start_near_it(name, style, photos):
    fitted, tested = photos
    for site in BY_NAME[name].find(style.module, example_inputs(style.spec)):
        student = BY_NAME[name].apply(style, site, samples=fitted)
        loss = picture_loss(student, style, tested)
        assert loss < 0.02, site.label  # 17 dB; strokes stay, and random weights give 9 to 13 dB
        assert loss < 0.3 * picture_loss(with_random_weights(student, style), style, tested), site.label


@pytest.mark.slow
def test_both_ends_at_half_resolution_keep_the_picture_before_any_training(style, photos):
    student = style
    for name in ("half_stem", "half_head"):
        site = next(s for s in BY_NAME[name].find(student.module, example_inputs(student.spec)) if "hidden" in s.form)
        student = BY_NAME[name].apply(student, site, samples=photos[0])
    assert picture_loss(student, style, photos[1]) < 10**-2.4  # 28.7 dB at 256x256, 8 crops


@pytest.mark.slow
def test_a_super_resolver_can_end_at_the_size_of_its_input(shared_checkpoints, shared_images):
    teacher = load_generator_from(shared_checkpoints / "srgan_x4/netG_epoch_4_100.pth", resolution=(32, 32))
    photos = street(shared_images / "street_train", 6, 128, scale=1.0)
    samples = [(nn.functional.avg_pool2d(x, 4),) for (x,) in photos]
    student = teacher
    for _ in range(2):
        site = next(s for s in BY_NAME["half_head"].find(student.module, example_inputs(student.spec)) if s.form == "5x5")
        student = BY_NAME["half_head"].apply(student, site, samples=samples[:4])
    assert [m.upscale_factor for m in student.module.modules() if isinstance(m, nn.PixelShuffle)] == [4]
    assert picture_loss(student, teacher, samples[4:]) < 10**-2.4
