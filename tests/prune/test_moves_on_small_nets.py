"""Moves on small networks: exact where they can be, near where they cannot, and always a generator like the one before."""

import dataclasses

import pytest
import torch
from torch import nn

from edgegen.generator import Generator, load_generator, save_generator
from edgegen.graph import check_vocabulary, count_macs, example_inputs, layer_of, trace
from edgegen.layers import Crop2d
from edgegen.prune.moves import MOVES, Site
from edgegen.prune.moves.equal_conv import equal_conv
from edgegen.prune.sensitivity import picture_loss
from edgegen.spec import ComponentSpec, Kind, Layout, TensorSpec

BY_NAME = {move.name: move for move in MOVES}
IMAGE = TensorSpec("image", Kind.IMAGE, (3, 32, 32), Layout.CHW, low=0.0, high=1.0)


def generator(net: nn.Module, source: TensorSpec = IMAGE) -> Generator:
    module = trace(net)
    with torch.no_grad():
        height, width = module(torch.zeros(1, *source.shape)).shape[2:]
    picture = TensorSpec("picture", Kind.IMAGE, (3, height, width), Layout.CHW, low=0.0, high=1.0)
    return Generator(module, ComponentSpec("generator", (source,), (picture,)), "test", {}, {})


def photos(count: int, seed: int = 0) -> list[tuple[torch.Tensor, ...]]:
    """Smooth random pictures with some grain, as photos are."""
    drawn = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 9, 9, generator=drawn)
    smooth = nn.functional.interpolate(coarse, (32, 32), mode="bicubic", align_corners=False)
    return [((p + 0.05 * torch.randn(p.shape, generator=drawn)).clamp(0, 1)[None],) for p in smooth]


class Residual(nn.Module):
    """Stem, two residual blocks, head: a style network in small."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 9, 1, 4), nn.InstanceNorm2d(8, affine=True), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(8, 24, 3, 2, 1), nn.InstanceNorm2d(24, affine=True), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(24, 24, 3), nn.ReLU(), nn.Conv2d(24, 24, 3, 1, 1)) for _ in range(2)
        )
        self.up = nn.Sequential(nn.ConvTranspose2d(24, 8, 3, 2), Crop2d(0, 1, 0, 1), nn.InstanceNorm2d(8), nn.PReLU(8))
        self.out = nn.Conv2d(8, 3, 9, 1, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.down(self.stem(x))
        for block in self.blocks:
            x = x + block(x)
        return torch.sigmoid(self.out(self.up(x)))


def residual() -> Generator:
    torch.manual_seed(0)
    return generator(Residual())


def sites(made: Generator, move: str) -> list[Site]:
    return BY_NAME[move].find(made.module, example_inputs(made.spec))


ALL = [(site, move) for move in MOVES for site in sites(residual(), move.name)]


@pytest.mark.parametrize(("site", "move"), ALL, ids=[site.label for site, _ in ALL])
def test_a_move_gives_a_generator_that_can_be_stored_and_leaves_the_one_it_had_alone(site, move, tmp_path):
    teacher = residual()
    before = {k: v.clone() for k, v in teacher.module.state_dict().items()}
    graph = str(teacher.module.graph)
    student = move.apply(teacher, site, samples=photos(3))
    assert str(teacher.module.graph) == graph
    assert all(torch.equal(v, before[k]) for k, v in teacher.module.state_dict().items())
    assert student.spec == teacher.spec and not any(layer.training for layer in student.module.modules())
    check_vocabulary(student.module)
    x = photos(1, seed=9)[0]
    assert student.module(*x).shape == teacher.module(*x).shape
    save_generator(student, tmp_path)
    again = load_generator(tmp_path)
    assert torch.equal(again.module(*x), student.module(*x))
    assert picture_loss(student, teacher, photos(2, seed=5)) < 0.02


def test_every_move_finds_its_place_in_a_small_style_network():
    assert {site.move for site, _ in ALL} == {move.name for move in MOVES}


def test_the_same_samples_give_the_same_weights():
    for name in ("separable", "half_stem", "half_head"):
        site = sites(residual(), name)[-1]
        first, second = (BY_NAME[name].apply(residual(), site, samples=photos(3)).module.state_dict() for _ in range(2))
        assert all(torch.equal(first[key], second[key]) for key in first), name


def test_what_a_move_leaves_keeps_its_name_so_that_taps_still_pair():
    teacher = residual()
    for name, form in (("half_stem", "5x5"), ("separable", "depthwise + 1x1"), ("bottleneck", "8 channels")):
        site = next(s for s in sites(teacher, name) if s.form == form and s.layers[-1] != "stem.0")
        student = BY_NAME[name].apply(teacher, site, samples=photos(2))
        assert site.layers[-1] in dict(student.module.named_modules())


# --- exact moves --------------------------------------------------------------------------------------------------------

ENLARGERS = {
    "nearest, zero padding": (nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(8, 6, 3, 1, 1)),
    "nearest, mirrored": (nn.Upsample(scale_factor=2, mode="nearest"), nn.ReflectionPad2d(1), nn.Conv2d(8, 6, 3)),
    "nearest x3, 5x5": (nn.Upsample(scale_factor=3, mode="nearest"), nn.Conv2d(8, 6, 5, 1, 2)),
}


@pytest.mark.parametrize("name", ENLARGERS)
def test_upsampling_and_convolution_equal_a_sub_pixel_convolution(name):
    torch.manual_seed(0)
    teacher = generator(nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), *ENLARGERS[name], nn.ReLU(), nn.Conv2d(6, 3, 1)))
    site = next(s for s in sites(teacher, "upsampling") if s.form == "sub-pixel")
    student = BY_NAME["upsampling"].apply(teacher, site, samples=photos(1))
    x = photos(1, seed=3)[0]
    assert not any(isinstance(layer, nn.Upsample) for layer in student.module.modules())
    assert (student.module(*x) - teacher.module(*x)).abs().max() < 1e-5


def test_a_transposed_convolution_of_2x2_equals_its_one_tap_sub_pixel_form():
    torch.manual_seed(0)
    teacher = generator(nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 3, 2, 2)))
    student = BY_NAME["upsampling"].apply(teacher, sites(teacher, "upsampling")[0], samples=photos(1))
    x = photos(1, seed=3)[0]
    assert (student.module(*x) - teacher.module(*x)).abs().max() < 1e-5


def test_a_bilinear_upsampling_behind_a_convolution_is_found_from_a_transposed_one_that_does_the_same():
    torch.manual_seed(0)
    transposed = nn.ConvTranspose2d(8, 3, 4, 2, 1)
    tent, mix = torch.tensor([0.25, 0.75, 0.75, 0.25]), torch.randn(8, 3)
    transposed.weight = nn.Parameter(mix[:, :, None, None] * (tent[:, None] * tent[None]))
    teacher = generator(nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), transposed))
    site = next(s for s in sites(teacher, "upsampling") if s.form.startswith("resize"))
    student = BY_NAME["upsampling"].apply(teacher, site, samples=photos(6))
    x = photos(1, seed=3)[0]
    inside = (student.module(*x) - teacher.module(*x))[:, :, 2:-2, 2:-2]
    assert inside.square().mean().sqrt() < 0.05 * teacher.module(*x).std()  # the border differs: zeros there, repeats here


def test_zero_padding_changes_the_border_only():
    torch.manual_seed(0)
    teacher = generator(nn.Sequential(nn.ReflectionPad2d(2), nn.Conv2d(3, 3, 5)))
    student = BY_NAME["zero_padding"].apply(teacher, sites(teacher, "zero_padding")[0], samples=photos(1))
    x = photos(1, seed=3)[0]
    difference = (student.module(*x) - teacher.module(*x)).abs()
    assert difference[:, :, 2:-2, 2:-2].max() < 1e-6 < difference.max()
    assert [layer_of(student.module, n) is None for n in student.module.graph.nodes] == [True, False, True]  # no pad node is left


def test_a_frozen_norm_equals_the_norm_on_the_picture_that_its_statistics_come_from():
    for middle in ([], [nn.PixelShuffle(2)], [nn.Sigmoid()]):  # folded, folded through a shuffle, a depthwise convolution
        torch.manual_seed(0)
        width = 3 if middle and isinstance(middle[0], nn.PixelShuffle) else 12
        norm = nn.InstanceNorm2d(width, affine=True)
        nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
        teacher = generator(nn.Sequential(nn.Conv2d(3, 12, 3, 1, 1), *middle, norm, nn.ReLU(), nn.Conv2d(width, 3, 1)))
        x = photos(1)
        student = BY_NAME["frozen_norm"].apply(teacher, sites(teacher, "frozen_norm")[0], samples=x)
        assert not any(isinstance(layer, nn.InstanceNorm2d) for layer in student.module.modules())
        assert (student.module(*x[0]) - teacher.module(*x[0])).abs().max() < 1e-4


def test_a_block_whose_branch_is_linear_in_each_pixel_is_replaced_by_a_1x1_exactly():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.mix, self.last = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.first(x))
            return self.last(x + self.mix(x))

    torch.manual_seed(0)
    teacher = generator(Block())
    for site in sites(teacher, "remove_block"):  # with nothing in its place, the convolution behind it can take the block in
        student = BY_NAME["remove_block"].apply(teacher, site, samples=photos(4))
        x = photos(1, seed=3)[0]
        assert (student.module(*x) - teacher.module(*x)).abs().max() < 1e-2, site.form


def test_a_convolution_of_rank_one_kernels_and_of_low_rank_is_split_exactly():
    torch.manual_seed(0)
    depthwise, pointwise = nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=False), nn.Conv2d(16, 16, 1)
    dense = nn.Conv2d(16, 16, 3, 1, 1)
    with torch.no_grad():
        dense.weight.copy_(pointwise.weight[:, :, 0, 0, None, None] * depthwise.weight[None, :, 0])
        dense.weight[8:] = dense.weight[:8]  # only eight different outputs: the bottleneck of eight channels is exact, too
        dense.bias[8:] = dense.bias[:8]
    teacher = generator(nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU(), dense, nn.ReLU(), nn.Conv2d(16, 3, 1)))
    x = photos(1, seed=3)[0]
    for name in ("separable", "bottleneck"):
        site = next(s for s in sites(teacher, name) if s.layers == ("2",))
        student = BY_NAME[name].apply(teacher, site, samples=photos(4))
        assert (student.module(*x) - teacher.module(*x)).abs().max() < 1e-3, name


def test_the_convolution_of_a_chain_is_read_off_its_answers_to_impulses():
    torch.manual_seed(0)
    chain = nn.Sequential(nn.PixelShuffle(2), nn.Conv2d(3, 5, 9, 1, 4), nn.PixelUnshuffle(2))
    conv, missing = equal_conv(chain, 12, 5)
    x = torch.randn(2, 12, 8, 8)
    assert missing < 1e-6 and (conv(x) - chain(x)).abs().max() < 1e-4
    assert equal_conv(chain, 12, 3)[1] > 0.1  # three taps at half resolution cannot hold nine


# --- where moves do not apply -------------------------------------------------------------------------------------------


def test_a_layer_that_is_called_twice_is_left_alone():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pad = nn.Conv2d(16, 16, 9), nn.ReflectionPad2d(4)
            self.first, self.last = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.conv(self.pad(self.conv(self.pad(self.first(x))))))

    teacher = generator(Twice())
    assert [site for move in MOVES for site in sites(teacher, move.name) if {"conv", "pad"} & set(site.layers)] == []


def test_a_long_skip_is_no_block():
    class Long(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(3, 3, 3, 1, 1) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(x)
            return y + self.c(y + self.b(y))

    assert {site.layers for site in sites(generator(Long()), "remove_block")} == {("b",)}


def test_a_stem_that_others_read_stays():
    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.down, self.up = nn.Conv2d(3, 8, 9, 1, 4), nn.Conv2d(8, 8, 3, 2, 1), nn.ConvTranspose2d(8, 8, 2, 2)
            self.out = nn.Conv2d(8, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            full = self.stem(x)
            return self.out(full + self.up(self.down(full)))

    assert sites(generator(Read()), "half_stem") == []


def test_an_odd_picture_has_no_half():
    odd = dataclasses.replace(IMAGE, shape=(3, 33, 33))
    teacher = generator(nn.Sequential(nn.Conv2d(3, 8, 9, 1, 4), nn.ReLU(), nn.Conv2d(8, 3, 3, 2, 1)), odd)
    assert sites(teacher, "half_stem") == []


def test_moves_at_half_resolution_save_multiplications():
    teacher = residual()
    macs = count_macs(teacher.module, teacher.spec)
    for name in ("half_stem", "half_head"):
        for site in sites(teacher, name):
            student = BY_NAME[name].apply(teacher, site, samples=photos(2))
            assert count_macs(student.module, student.spec) < macs, site.label
