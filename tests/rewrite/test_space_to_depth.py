"""Ends at full resolution move to half resolution: exact for convolutions, activations and folded norms."""

import pytest
import torch
from torch import nn

from edgegen.graph import count_macs, graph_from_json, graph_to_json, node_shapes, trace
from edgegen.layers import Crop2d
from edgegen.rewrite.space_to_depth import move_to_half_resolution
from edgegen.spec import ComponentSpec, Kind, Layout, TensorSpec


def stem(first, second, *pads):
    return nn.Sequential(*pads, first, nn.ReLU(), second, nn.ReLU(), nn.Conv2d(8, 3, 3, 1, 1))


STEMS = {
    "zero padding 9x9 then 3x3": stem(nn.Conv2d(3, 4, 9, 1, 4), nn.Conv2d(4, 8, 3, 2, 1)),
    "reflection padding 7x7": stem(nn.Conv2d(3, 4, 7), nn.Conv2d(4, 8, 3, 2, 1), nn.ReflectionPad2d(3)),
    "then 4x4": stem(nn.Conv2d(1, 4, 5, 1, 2), nn.Conv2d(4, 8, 4, 2, 1)),
    "TensorFlow's SAME": nn.Sequential(
        nn.Conv2d(3, 4, 9, 1, 4, bias=False), nn.PReLU(4), nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(4, 8, 3, 2), nn.Conv2d(8, 3, 1)
    ),
}
HEADS = {
    "transposed with output padding": (nn.ConvTranspose2d(8, 4, 3, 2, 1, output_padding=1), nn.ReLU(), nn.Conv2d(4, 3, 9, 1, 4)),
    "transposed 4x4": (nn.ConvTranspose2d(8, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 3, 7, 1, 3)),
    "transposed with a crop": (nn.ConvTranspose2d(8, 4, 3, 2), Crop2d(0, 1, 0, 1), nn.ReLU(), nn.Conv2d(4, 3, 5, 1, 2)),
    "sub-pixel": (nn.Conv2d(8, 16, 3, 1, 1), nn.PixelShuffle(2), nn.PReLU(), nn.ZeroPad2d(4), nn.Conv2d(4, 3, 9)),
}


@pytest.mark.parametrize("name", STEMS)
def test_a_stem_at_half_resolution_gives_the_same_pictures(name):
    module = trace(STEMS[name]).double()
    x = torch.randn(2, next(m for m in module.modules() if isinstance(m, nn.Conv2d)).in_channels, 12, 16, dtype=torch.float64)
    expected = module(x)
    assert move_to_half_resolution(module, node_shapes(module, (x,)), approximate=False) == ["stem"]
    assert (module(x) - expected).abs().max() < 1e-10
    assert max(s[2] for s in node_shapes(module, (x,)).values() if len(s) == 4 and s[1] > 3) < 12  # full resolution has 12 rows


@pytest.mark.parametrize("name", HEADS)
def test_a_head_at_half_resolution_gives_the_same_pictures(name):
    module = trace(nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), *HEADS[name], nn.Tanh())).double()
    x = torch.randn(2, 3, 12, 16, dtype=torch.float64)
    expected = module(x)
    assert move_to_half_resolution(module, node_shapes(module, (x,)), approximate=False) == ["head"]
    assert (module(x) - expected).abs().max() < 1e-10
    rebuilt = graph_from_json(graph_to_json(module)).double()
    rebuilt.load_state_dict(module.state_dict())
    assert torch.equal(rebuilt(x), module(x))


def test_instance_norm_ends_move_only_when_approximation_is_allowed():
    made = stem(nn.Conv2d(3, 4, 9, 1, 4), nn.Conv2d(4, 8, 3, 2, 1))
    made[1] = nn.InstanceNorm2d(4, affine=True)
    module = trace(made)
    x = torch.nn.functional.interpolate(torch.randn(1, 3, 8, 8), (64, 64), mode="bilinear")  # pictures are smooth
    expected, shapes = module(x), node_shapes(module, (x,))
    assert move_to_half_resolution(module, shapes, approximate=False) == []
    assert move_to_half_resolution(module, shapes, approximate=True) == ["stem"]
    relative = (module(x) - expected).pow(2).mean() / expected.var()
    assert relative < 0.05  # statistics of one phase out of four


def test_a_small_kernel_stays_where_it_is():
    module = trace(stem(nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 8, 3, 2, 1)))
    x = torch.randn(1, 3, 8, 8)
    assert move_to_half_resolution(module, node_shapes(module, (x,)), approximate=True) == []


def test_multiply_accumulates_do_not_grow_much():
    module = trace(STEMS["zero padding 9x9 then 3x3"]).float()
    image = TensorSpec("image", Kind.IMAGE, (3, 32, 32), Layout.CHW, low=0, high=1)
    spec = ComponentSpec("generator", (image,), (image,))
    before = count_macs(module, spec)
    move_to_half_resolution(module, node_shapes(module, (torch.zeros(1, 3, 32, 32),)), approximate=False)
    assert count_macs(module, spec) < 1.4 * before  # 25 * 4 * 4 against 81 * 4 taps per half-resolution pixel
