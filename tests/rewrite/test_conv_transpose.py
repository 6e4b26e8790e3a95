"""ConvTranspose2d -> Conv2d + depth-to-space is exact for every configuration, and stays in the vocabulary."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgegen.graph import graph_from_json, graph_to_json, layer_of, node_shapes, trace
from edgegen.layers import Crop2d
from edgegen.rewrite.conv_transpose import as_subpixel, replace_conv_transpose


@st.composite
def transposed_convolutions(draw):
    stride = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    kernel = (draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    output_padding = tuple(draw(st.integers(0, s - 1)) for s in stride)
    size = (draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    padding = tuple(
        draw(st.integers(0, max(0, min(k + 1, ((n - 1) * s + k + extra - 1) // 2))))
        for k, n, s, extra in zip(kernel, size, stride, output_padding, strict=True)
    )
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    layer = nn.ConvTranspose2d(
        groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3)), kernel, stride, padding,
        output_padding=output_padding, groups=groups, bias=draw(st.booleans()), dtype=torch.float64,
    )  # fmt: skip
    return layer, size


@given(transposed_convolutions(), st.integers(0, 2**31))
@settings(max_examples=300, deadline=None)
def test_the_subpixel_form_equals_the_transposed_convolution(case, seed):
    layer, size = case
    torch.manual_seed(seed)
    nn.init.normal_(layer.weight)
    x = torch.randn(2, layer.in_channels, *size, dtype=torch.float64)
    expected = layer(x)
    module = trace(nn.Sequential(layer))
    assert replace_conv_transpose(module, node_shapes(module, (x,))) == 1
    assert not any(isinstance(m, nn.ConvTranspose2d) for m in module.modules())
    assert module(x).shape == expected.shape
    assert (module(x) - expected).abs().max() < 1e-10
    rebuilt = graph_from_json(graph_to_json(module)).double()
    rebuilt.load_state_dict(module.state_dict())
    assert torch.equal(rebuilt(x), module(x))


def test_a_dcgan_stem_becomes_a_linear_layer():
    module = trace(nn.Sequential(nn.ConvTranspose2d(100, 16, 4, 1, 0, bias=False), nn.ReLU()))
    x = torch.randn(3, 100, 1, 1)
    expected = module(x)
    replace_conv_transpose(module, node_shapes(module, (x,)))
    assert any(isinstance(m, nn.Linear) for m in module.modules())
    assert torch.allclose(module(x), expected, atol=1e-5)  # float32 sums in another order


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.2), nn.ReLU6()], ids=lambda a: type(a).__name__)
def test_a_relu_behind_the_layer_goes_right_behind_the_convolution(activation):
    layer = nn.ConvTranspose2d(3, 5, 3, 2, 1, dtype=torch.float64)
    module = trace(nn.Sequential(layer, activation, nn.Conv2d(5, 2, 1, dtype=torch.float64)))
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    expected = module(x)
    replace_conv_transpose(module, node_shapes(module, (x,)))
    kinds = [type(layer_of(module, node)) for node in module.graph.nodes if layer_of(module, node) is not None]
    assert kinds[kinds.index(nn.Conv2d) + 1] is type(activation) and kinds.count(type(activation)) == 1
    assert (module(x) - expected).abs().max() < 1e-12


def test_layers_one_behind_the_other_are_all_replaced():
    layers = (nn.ConvTranspose2d(3, 4, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(4, 5, 3, 2), nn.ConvTranspose2d(5, 2, 2, 2))
    module, x = trace(nn.Sequential(*layers)), torch.randn(2, 3, 4, 5)
    expected = module(x)
    assert replace_conv_transpose(module, node_shapes(module, (x,))) == 3
    assert torch.allclose(module(x), expected, atol=1e-5)  # float32 sums in another order


def test_a_relu_stays_where_something_else_reads_the_layer_too():
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.relu = nn.ConvTranspose2d(3, 5, 4, 2, 1), nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            up = self.up(x)
            return self.relu(up) + up

    module, x = trace(Skips()), torch.randn(2, 3, 6, 5)
    expected = module(x)
    replace_conv_transpose(module, node_shapes(module, (x,)))
    assert torch.allclose(module(x), expected, atol=1e-5)  # float32 sums in another order


def test_a_crop_behind_the_layer_is_absorbed_and_costs_nothing():
    layer = nn.ConvTranspose2d(3, 5, 3, 2, 0, dtype=torch.float64)  # TensorFlow's SAME: one row and column too many
    module = trace(nn.Sequential(layer, Crop2d(0, 1, 0, 1)))
    x = torch.randn(1, 3, 6, 7, dtype=torch.float64)
    expected = module(x)
    replace_conv_transpose(module, node_shapes(module, (x,)))
    assert not any(isinstance(m, Crop2d) for m in module.modules())
    assert (module(x) - expected).abs().max() < 1e-10


@given(transposed_convolutions())
@settings(max_examples=60, deadline=None)
def test_the_aligned_form_never_crops_in_front(case):
    layer, size = case
    x = torch.randn(1, layer.in_channels, *size, dtype=torch.float64)
    chain = as_subpixel(layer, size, aligned=True)
    assert (nn.Sequential(*chain)(x) - layer(x)).abs().max() < 1e-10
    assert not isinstance(chain[-1], Crop2d) or (chain[-1].top, chain[-1].left) == (0, 0)
