"""Lowering for LiteRT computes what torch computes, in float64, whatever the settings of the layers."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgegen.generator import Generator
from edgegen.graph import example_inputs, trace
from edgegen.layers import Clamp, Crop2d, DepthToSpace, PixelsIn, PixelsOut, Reshape
from edgegen.litert_layers import (
    BlocksToSpace,
    ChannelAffine,
    EdgePad,
    ExponentialUnit,
    FeaturesToMap,
    MeanVarianceNorm,
    PixelsInLast,
    PixelsOutLast,
    RepeatPixels,
    SpaceToBlocks,
    UnitClamp,
    ValidConvTranspose,
)
from edgegen.rewrite.litert import lower_for_litert
from edgegen.spec import ComponentSpec, Kind, Layout, TensorSpec

TOLERANCE = 1e-10  # float64 sums in another order; values are of order 1


def generator_of(net: nn.Module, shape: tuple[int, ...], seed: int = 0) -> Generator:
    """Return `net` in float64 with random weights and statistics, as a generator on inputs of `shape` without batch."""
    torch.manual_seed(seed)
    net = net.double()
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, dtype=torch.float64) + 0.1)
    layout = Layout.CHW if len(shape) == 3 else Layout.D
    inputs = (TensorSpec("x", Kind.IMAGE if len(shape) == 3 else Kind.LATENT, shape, layout),)
    return Generator(trace(net), ComponentSpec("generator", inputs, inputs), "test", {}, {})


def lowered_layers(net: nn.Module, shape: tuple[int, ...], seed: int = 0) -> list[nn.Module]:
    """Assert that lowering keeps what `net` computes; return the leaf layers of the lowered module in graph order."""
    generator = generator_of(net, shape, seed)
    x = torch.randn(2, *shape, dtype=torch.float64)
    before = generator.module(x)
    lowered = lower_for_litert(generator).module
    after = lowered(x)
    assert after.shape == before.shape
    assert (after - before).abs().max() <= TOLERANCE * max(1.0, before.abs().max())
    assert torch.equal(generator.module(x), before), "lowering changed its input"
    return [lowered.get_submodule(n.target) for n in lowered.graph.nodes if n.op == "call_module"]


def kinds(layers: list[nn.Module]) -> list[type]:
    return [type(layer) for layer in layers]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_reflection_and_replication_pads_become_slices_and_concatenations(data):
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    reflects = data.draw(st.booleans())
    most = (width - 1, width - 1, height - 1, height - 1) if reflects else (7, 7, 7, 7)
    padding = tuple(data.draw(st.integers(0, m)) for m in most)
    layer = nn.ReflectionPad2d(padding) if reflects else nn.ReplicationPad2d(padding)
    assert kinds(lowered_layers(nn.Sequential(layer), (2, height, width))) == [EdgePad]


@given(st.sampled_from(["reflect", "replicate", "circular"]), st.integers(0, 4), st.integers(0, 4), st.integers(1, 2))
@settings(max_examples=30, deadline=None)
def test_a_convolution_that_pads_by_itself_gets_its_padding_in_front(mode, rows, cols, stride):
    net = nn.Sequential(nn.Conv2d(2, 3, 3, stride, (rows, cols), padding_mode=mode))
    assert kinds(lowered_layers(net, (2, 6, 7))) == [EdgePad, nn.Conv2d]


def test_no_concatenation_of_a_wide_pad_has_more_inputs_than_xnnpack_takes():
    traced = torch.export.export(nn.Sequential(EdgePad((10, 10, 10, 10), "reflect")), (torch.randn(1, 3, 16, 16),))
    cats = [node for node in traced.graph.nodes if "cat" in node.name]
    assert cats and all(len(node.args[0]) <= 5 for node in cats)
    axes = [node.args[1] for node in cats]
    assert all(a != b for a, b in zip(axes, axes[1:], strict=False)), "the converter merges neighbours on one axis"


@st.composite
def transposed_convolutions(draw):
    stride, kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4))), (draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (2, 3)]))
    output_padding = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    size = (draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    reach = [(n - 1) * s + d * (k - 1) + o for n, s, d, k, o in zip(size, stride, dilation, kernel, output_padding, strict=True)]
    padding = tuple(draw(st.integers(0, r // 2)) for r in reach)
    groups = draw(st.sampled_from([1, 1, 2]))
    return size, nn.ConvTranspose2d(
        2 * groups,
        3 * groups,
        kernel,
        stride,
        padding,
        output_padding,
        groups=groups,
        bias=draw(st.booleans()),
        dilation=dilation,
    )


@given(transposed_convolutions())
@settings(max_examples=200, deadline=None)
def test_every_transposed_convolution_stays_exact(case):
    size, layer = case
    lowered_layers(nn.Sequential(layer), (layer.in_channels, *size))


@pytest.mark.parametrize("settings_", [(4, 2, 1), (2, 2, 0), (4, 4, 0), (6, 2, 2), (4, 1, 0)], ids=str)
def test_transposed_convolutions_that_tflite_knows_stay(settings_):
    assert kinds(lowered_layers(nn.Sequential(nn.ConvTranspose2d(3, 4, *settings_)), (3, 5, 5))) == [nn.ConvTranspose2d]


@pytest.mark.parametrize("settings_", [(3, 2, 1, 1), (3, 2, 1, 0), (5, 2, 2, 1), (1, 2, 0, 1)], ids=str)
def test_transposed_convolutions_that_tflite_lacks_become_valid_ones(settings_):
    assert kinds(lowered_layers(nn.Sequential(nn.ConvTranspose2d(3, 4, *settings_)), (3, 5, 5))) == [ValidConvTranspose]


def test_a_grouped_transposed_convolution_becomes_a_grouped_convolution():
    found = kinds(lowered_layers(nn.Sequential(nn.ConvTranspose2d(4, 4, 4, 2, 1, groups=4)), (4, 5, 5)))
    assert nn.Conv2d in found and nn.ConvTranspose2d not in found and ValidConvTranspose not in found


@pytest.mark.parametrize("affine", [True, False])
def test_instance_norm_becomes_mean_and_variance(affine):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, affine=affine), nn.ReLU())
    assert kinds(lowered_layers(net, (3, 6, 7))) == [nn.Conv2d, MeanVarianceNorm, nn.ReLU]


@pytest.mark.parametrize("affine", [True, False])
def test_instance_norm_with_running_statistics_folds_like_batch_norm(affine):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, affine=affine, track_running_stats=True))
    assert kinds(lowered_layers(net, (3, 6, 7))) == [nn.Conv2d]


def test_batch_norm_that_is_left_folds_and_one_without_a_convolution_becomes_an_affine():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.ConvTranspose2d(3, 4, 4, 2, 1), nn.BatchNorm2d(4))
    assert kinds(lowered_layers(net, (3, 5, 5))) == [ChannelAffine, nn.ReLU, nn.ConvTranspose2d]


class SharedConvolution(nn.Module):
    """One convolution called twice, before two different norms: folding must not hit both calls."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.two = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x):
        return self.shuffle(self.two(self.conv(self.one(self.conv(x)))))


def test_a_layer_with_two_callers_is_changed_for_each_alone():
    assert kinds(lowered_layers(SharedConvolution(), (4, 5, 5))) == [nn.Conv2d, nn.Conv2d, BlocksToSpace]


def test_prelu_with_one_slope_becomes_leaky_relu_and_with_many_stays():
    assert kinds(lowered_layers(nn.Sequential(nn.PReLU(), nn.PReLU(3)), (3, 4, 4))) == [nn.LeakyReLU, nn.PReLU]


@pytest.mark.parametrize(
    "between",
    [
        [],
        [nn.ReLU()],
        [nn.PReLU()],
        [nn.PReLU(12)],
        [nn.InstanceNorm2d(12, affine=True), nn.Tanh()],
        [Crop2d(1, 0, 0, 1)],
        [nn.ReflectionPad2d(1)],
    ],
    ids=lambda layers: "+".join(type(layer).__name__ for layer in layers) or "nothing",
)
def test_pixel_shuffle_takes_reordered_channels_from_the_convolution_before_it(between):
    found = lowered_layers(nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), *between, nn.PixelShuffle(2), nn.ReLU()), (3, 4, 5))
    assert isinstance(found[-2], BlocksToSpace) and found[-2].ordered


class ShuffleOfTwo(nn.Module):
    """The convolution before the shuffle is read twice: its channels must stay."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.shuffle = nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2)

    def forward(self, x):
        y = self.conv(x)
        return self.shuffle(y) + self.shuffle(y)


def test_pixel_shuffle_without_a_convolution_of_its_own_reorders_by_itself():
    plain = lowered_layers(nn.Sequential(nn.PixelShuffle(2)), (12, 4, 5))
    twice = [layer for layer in lowered_layers(ShuffleOfTwo(), (3, 4, 5)) if isinstance(layer, BlocksToSpace)]
    grouped = lowered_layers(nn.Sequential(nn.Conv2d(4, 12, 3, groups=2), DepthToSpace(3, 2)), (4, 5, 6))
    assert [layer.ordered for layer in (*plain, *twice, grouped[-1])] == [False] * 4


@pytest.mark.parametrize("factor", [2, 3])
def test_pixel_unshuffle_gives_reordered_channels_to_the_convolution_behind_it(factor):
    net = nn.Sequential(nn.PixelUnshuffle(factor), nn.ReflectionPad2d(1), nn.Conv2d(2 * factor**2, 5, 3))
    found = lowered_layers(net, (2, 4 * factor, 3 * factor))
    assert isinstance(found[0], SpaceToBlocks) and found[0].ordered
    (alone,) = lowered_layers(nn.Sequential(nn.PixelUnshuffle(factor)), (2, 4 * factor, 3 * factor))
    assert not alone.ordered


def test_a_dense_stem_gives_its_features_channels_last():
    net = nn.Sequential(nn.Linear(5, 24), nn.BatchNorm1d(24), nn.ReLU(), Reshape((4, 2, 3)), nn.Conv2d(4, 2, 1))
    assert kinds(lowered_layers(net, (5,))) == [nn.Linear, nn.ReLU, FeaturesToMap, nn.Conv2d]


@pytest.mark.parametrize(
    ("upsample", "expected"),
    [
        (nn.Upsample(scale_factor=2), [RepeatPixels]),
        (nn.Upsample(scale_factor=(1, 3), mode="nearest-exact"), [RepeatPixels]),
        (nn.Upsample(size=(8, 20)), [RepeatPixels]),
        (nn.Upsample(scale_factor=8), [RepeatPixels, RepeatPixels]),
        (nn.Upsample(scale_factor=7), [nn.Upsample]),
        (nn.Upsample(size=(6, 9)), [nn.Upsample]),
        (nn.Upsample(scale_factor=2, mode="bilinear"), [nn.Upsample]),
    ],
    ids=str,
)
def test_nearest_upsampling_by_whole_factors_repeats_pixels(upsample, expected):
    assert kinds(lowered_layers(nn.Sequential(upsample), (3, 4, 5))) == expected


def test_clamps_to_the_unit_range_and_elu_become_relus():
    net = nn.Sequential(nn.ELU(0.7), Clamp(-1.0, 1.0), Clamp(0.0, 1.0), nn.Hardtanh(), nn.Hardtanh(0.0, 1.0))
    assert kinds(lowered_layers(net, (3, 4, 5))) == [ExponentialUnit, Clamp, UnitClamp, nn.Hardtanh, UnitClamp]


def test_pixels_in_and_out_stay_channels_last_and_exact():
    pixels = TensorSpec("picture", Kind.IMAGE, (6, 5, 3), Layout.HWC, "uint8", 0.0, 255.0)
    net = nn.Sequential(PixelsIn(), nn.Conv2d(3, 3, 1), PixelsOut(0.7, 3.0))
    generator = Generator(trace(net), ComponentSpec("generator", (pixels,), (pixels,)), "test", {}, {})
    (picture,) = example_inputs(generator.spec)
    lowered = lower_for_litert(generator).module
    assert torch.equal(lowered(picture), generator.module(picture))
    assert kinds(list(lowered.children())) == [nn.Conv2d, PixelsInLast, PixelsOutLast]


class Calls(nn.Module):
    """Functional forms, as checkpoints' own code has them, between two readers of one tensor."""

    def forward(self, x):
        y = F.pad(x, (1, 2, 3, 0), mode="reflect")
        y = torch.clamp(F.pixel_shuffle(y, 2), 0, 1)
        return (F.interpolate(y, scale_factor=2) + F.interpolate(y, None, 2.0, "nearest")).clamp(min=0.0, max=1.0)


def test_functional_forms_are_lowered_like_layers():
    assert kinds(lowered_layers(Calls(), (8, 5, 6))) == [EdgePad, BlocksToSpace, UnitClamp, RepeatPixels, RepeatPixels, UnitClamp]
