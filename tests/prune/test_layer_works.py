"""Every operation of a generator goes with a layer, and loses channels with it."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgegen import layers
from edgegen.graph import LAYERS, layer_costs, trace
from edgegen.latency import LayerWork, MeasuredTable, Pass
from edgegen.prune.allocate import Allocation
from edgegen.prune.cut import remove_units
from edgegen.prune.groups import channel_groups
from edgegen.prune.work import layer_works, uncounted, with_fewer_channels
from edgegen.spec import Precision


class Styled(nn.Module):
    """Reflection padding, instance norms, a residual block, a shuffle."""

    def __init__(self):
        super().__init__()
        self.pad, self.stem, self.norm = nn.ReflectionPad2d(1), nn.Conv2d(3, 16, 3), nn.InstanceNorm2d(16, affine=True)
        self.a, self.b, self.norm_b = nn.Conv2d(16, 16, 3, 1, 1), nn.Conv2d(16, 16, 3, 1, 1), nn.InstanceNorm2d(16, affine=True)
        self.up, self.shuffle, self.act = nn.Conv2d(16, 32, 3, 1, 1), nn.PixelShuffle(2), nn.PReLU(8)
        self.zeros, self.out = nn.ZeroPad2d(1), nn.Conv2d(8, 3, 3)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(self.pad(x))))
        x = x + self.norm_b(self.b(torch.relu(self.a(x))))
        return torch.tanh(self.out(self.zeros(self.act(self.shuffle(self.up(x))))))


class Skip(nn.Module):
    """A fork that is activated in two ways, and joined again."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 4, 2, 1), nn.Conv2d(8, 16, 4, 2, 1)
        self.c, self.d = nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.ConvTranspose2d(16, 3, 4, 2, 1)

    def forward(self, x):
        a = self.a(x)
        return self.d(torch.relu(torch.cat([a, self.c(torch.relu(self.b(F.leaky_relu(a, 0.2))))], 1)))


class Dense(nn.Module):
    """A latent to a picture."""

    def __init__(self):
        super().__init__()
        self.stem, self.fold = nn.Linear(10, 64), layers.Reshape((16, 2, 2))
        self.up, self.out = nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.ConvTranspose2d(8, 3, 4, 2, 1)

    def forward(self, z):
        return self.out(torch.relu(self.up(torch.relu(self.fold(self.stem(z))))))


def works_of(module: nn.Module, x: torch.Tensor) -> dict[str, LayerWork]:
    return layer_works(trace(module), (x,))


def styled() -> dict[str, LayerWork]:
    return works_of(Styled(), torch.rand(1, 3, 16, 16))


def test_a_norm_and_what_is_computed_with_it_is_a_pass_that_reads_float_and_stores_int8() -> None:
    assert styled()["stem"].passes == (Pass(("norm", "relu"), 16, 16, to_int8=True),)


def test_a_residual_addition_goes_with_the_layer_that_was_computed_last() -> None:
    works = styled()
    assert [item.ops for item in works["b"].passes] == [("norm",), ("add",)]
    assert works["b"].passes[1].from_int8 and works["b"].passes[1].to_int8


def test_an_activation_runs_in_its_convolution() -> None:
    works = styled()
    assert works["a"].fused == ("relu",) and works["a"].passes == () and works["a"].to_int8
    assert works["out"].fused == ("tanh",) and not works["out"].to_int8


def test_a_shuffle_has_a_fourth_of_the_channels_behind_it() -> None:
    assert styled()["up"].passes == (Pass(("shuffle 2 2", "prelu"), 16, 16, to_int8=True),)


def test_a_border_of_zeros_is_free_and_a_mirrored_one_is_not() -> None:
    works = styled()
    assert [item.ops for item in works["x"].passes] == [("pad reflect 1 1 1 1",)]
    assert not any("pad" in op for item in works["up"].passes for op in item.ops)


def test_inputs_and_outputs_are_handed_over() -> None:
    works = styled()
    assert (works["x"].kind, works["x"].inputs) == ("input", 3)
    assert (works["output 0"].kind, works["output 0"].outputs, works["output 0"].height) == ("output", 3, 32)


def test_each_branch_of_a_fork_and_each_part_of_a_join_is_a_pass_of_its_layer() -> None:
    works = works_of(Skip(), torch.rand(1, 3, 16, 16))
    assert [item.ops for item in works["a"].passes] == [("prelu",), ("concat",), ("relu",)]
    assert [item.ops for item in works["c"].passes] == [("concat",), ("relu",)]


def test_a_transposed_convolution_knows_whether_it_reads_below_zero() -> None:
    works = works_of(Skip(), torch.rand(1, 3, 16, 16))
    assert not works["c"].signed and not works["d"].signed
    assert works_of(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 3, 4, 2, 1)), torch.rand(1, 3, 8, 8))["1"].signed


def test_behind_a_dense_stem_an_activation_has_the_channels_of_the_picture() -> None:
    works = works_of(Dense(), torch.randn(1, 10))
    (relu,) = works["stem"].passes
    assert (relu.ops, relu.height, relu.channels(64)) == (("relu",), 2, 16)


@pytest.mark.parametrize(("module", "x"), [(Styled(), (3, 16, 16)), (Skip(), (3, 16, 16)), (Dense(), (10,))])
def test_works_hold_all_multiply_accumulates(module: nn.Module, x: tuple[int, ...]) -> None:
    traced, inputs = trace(module), (torch.rand(1, *x),)
    assert sum(work.macs for work in layer_works(traced, inputs).values()) == sum(c.macs for c in layer_costs(traced, inputs))


@pytest.mark.parametrize(("module", "x"), [(Styled(), (3, 16, 16)), (Skip(), (3, 16, 16)), (Dense(), (10,))])
def test_works_with_fewer_channels_are_those_of_the_module_that_was_cut(module: nn.Module, x: tuple[int, ...]) -> None:
    traced, inputs = trace(module), (torch.rand(1, *x),)
    works, groups = layer_works(traced, inputs), channel_groups(traced, inputs)
    removed = {group.root: tuple(range(group.unit_count // 2)) for group in groups}
    expected = {}
    for name, work in works.items():
        lost = {"in": 0, "out": 0}
        for group in groups:
            for member in group.members:
                if member.layer == name:
                    lost[member.side] += sum(len(member.channels[unit]) for unit in removed[group.root])
        expected[name] = with_fewer_channels(work, lost["in"], lost["out"])
    remove_units(traced, groups, Allocation(removed, 0.0, 0.0, True), inputs)
    assert layer_works(traced, inputs) == expected


def test_a_depthwise_convolution_keeps_one_group_per_channel() -> None:
    work = LayerWork("conv", 32, 32, (3, 3), (1, 1), 32, 8, 8)
    assert with_fewer_channels(work, 0, 8) == dataclasses.replace(work, inputs=24, outputs=24, groups=24)


def test_what_no_work_stands_for_is_named() -> None:
    assert uncounted(trace(Styled()), (torch.rand(1, 3, 16, 16),)) == {}
    assert uncounted(trace(Dense()), (torch.randn(1, 10),)) == {"Reshape": 1}


VOCABULARY = [
    nn.BatchNorm2d(4), nn.InstanceNorm2d(4), nn.PReLU(4), nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(), nn.ELU(), nn.SiLU(), nn.GELU(),
    nn.Tanh(), nn.Sigmoid(), nn.Softplus(), nn.Hardtanh(), nn.PixelShuffle(2), nn.PixelUnshuffle(2), nn.ReflectionPad2d(1),
    nn.ReplicationPad2d(1), nn.ZeroPad2d(1), nn.ConstantPad2d(1, 0.5), nn.Upsample(scale_factor=2), nn.MaxPool2d(2),
    nn.Upsample(scale_factor=2, mode="bilinear"), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d((2, 2)), layers.DepthToSpace(2, 1),
    layers.Crop2d(0, 1, 0, 1), layers.Scale(0.5, 0.5), layers.Clamp(0, 1),
]  # fmt: skip


@pytest.mark.parametrize("layer", VOCABULARY, ids=lambda layer: type(layer).__name__)
def test_every_layer_of_the_vocabulary_is_counted(layer: nn.Module) -> None:
    plain = works_of(nn.Sequential(nn.Conv2d(3, 4, 1)), torch.rand(1, 3, 8, 8))["0"]
    module, x = trace(nn.Sequential(nn.Conv2d(3, 4, 1), layer)), torch.rand(1, 3, 8, 8)
    assert layer_works(module, (x,))["0"] != plain and uncounted(module, (x,)) == {}


def test_every_layer_of_the_vocabulary_can_be_measured(tmp_path) -> None:
    x = torch.rand(1, 3, 8, 8)
    works = [works_of(nn.Sequential(nn.Conv2d(3, 4, 1), layer), x)["0"] for layer in VOCABULARY]
    made = MeasuredTable(tmp_path / "table.json", Precision.INT8, threads=1)
    made.measure(works)
    assert all(made.seconds(work) > 0 for work in works)


def test_the_vocabulary_above_is_whole_but_for_what_moves_nothing() -> None:
    weighted = {nn.Conv2d, nn.ConvTranspose2d, nn.Linear}
    without = {nn.Flatten, nn.Identity, nn.BatchNorm1d, layers.Reshape, layers.PixelsIn, layers.PixelsOut}
    assert set(LAYERS) - weighted - without == {type(layer) for layer in VOCABULARY}
