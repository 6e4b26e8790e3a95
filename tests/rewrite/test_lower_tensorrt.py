"""Lowering for TensorRT computes what torch computes and leaves its input alone."""

import copy

import pytest
import torch
from torch import nn

from edgegen.generator import Generator
from edgegen.graph import trace
from edgegen.rewrite.tensorrt import lower_for_tensorrt
from edgegen.spec import ComponentSpec, Kind, Layout, TensorSpec

TOLERANCE = 1e-10  # float64 sums in another order; values are of order 1


@torch.no_grad()
def lowered_layers(net: nn.Module) -> list[nn.Module]:
    """Assert that lowering keeps what `net` computes, in float64; return the layers of the lowered graph in order."""
    torch.manual_seed(0)
    net = net.double()
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, dtype=torch.float64) + 0.1)
    spec = TensorSpec("x", Kind.IMAGE, (3, 8, 8), Layout.CHW)
    generator = Generator(trace(net), ComponentSpec("generator", (spec,), (spec,)), "test", {}, {})
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    before = generator.module(x)
    lowered = lower_for_tensorrt(generator).module
    after = lowered(x)
    assert (after - before).abs().max() <= TOLERANCE * max(1.0, float(before.abs().max()))
    assert torch.equal(generator.module(x), before), "lowering changed its input"
    return [lowered.get_submodule(str(n.target)) for n in lowered.graph.nodes if n.op == "call_module"]


def test_batch_norm_disappears_into_the_convolution() -> None:
    assert [type(layer) for layer in lowered_layers(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))] == [nn.Conv2d]


def test_instance_norm_with_running_statistics_disappears_too() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, affine=True, track_running_stats=True))
    assert [type(layer) for layer in lowered_layers(net)] == [nn.Conv2d]
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, track_running_stats=True))
    assert [type(layer) for layer in lowered_layers(net)] == [nn.Conv2d]


def test_instance_norm_of_the_picture_itself_stays() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, affine=True))
    assert [type(layer) for layer in lowered_layers(net)] == [nn.Conv2d, nn.InstanceNorm2d]


@pytest.mark.parametrize(("slopes", "becomes"), [(1, nn.LeakyReLU), (3, nn.PReLU)])
def test_a_prelu_with_one_slope_becomes_leaky_relu(slopes: int, becomes: type[nn.Module]) -> None:
    (layer,) = lowered_layers(nn.Sequential(nn.PReLU(slopes)))
    assert type(layer) is becomes


def test_a_convolution_that_is_called_twice_is_folded_for_one_caller_only() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.norm(self.conv(x)))

    layers = lowered_layers(Twice())
    assert [type(layer) for layer in layers] == [nn.Conv2d, nn.Conv2d]
    assert not torch.equal(layers[0].weight, layers[1].weight)


def test_padding_transposed_convolutions_and_shuffles_stay_as_they_are() -> None:
    net = nn.Sequential(
        nn.ReflectionPad2d(1),
        nn.Conv2d(3, 8, 3),
        nn.PixelShuffle(2),
        nn.ConvTranspose2d(2, 3, 4, 2, 1),
        nn.Upsample(scale_factor=2),
    )
    kinds = [type(layer) for layer in copy.deepcopy(net)]
    assert [type(layer) for layer in lowered_layers(net)] == kinds
