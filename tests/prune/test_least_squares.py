"""Closed-form fits: what a layer can represent is found again, and what it cannot is approached."""

import pytest
import torch
from torch import nn

from edgegen.prune.least_squares import fit_layer

LAYERS = {
    "plain 3x3": nn.Conv2d(3, 5, 3, padding=1),
    "stride 2, no bias": nn.Conv2d(3, 4, 4, stride=2, padding=1, bias=False),
    "mirrored 5x3": nn.Conv2d(2, 3, (5, 3), padding=(2, 1), padding_mode="reflect"),
    "grouped": nn.Conv2d(4, 8, 3, padding=1, groups=2),
    "depthwise": nn.Conv2d(4, 4, 3, padding=1, groups=4),
    "linear": nn.Linear(7, 3),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_finds_the_weights_that_made_the_targets(name: str):
    true = LAYERS[name]
    torch.manual_seed(0)
    found = type(true)(**{k: getattr(true, k) for k in _settings(true)}, bias=true.bias is not None)
    shape = (200, 7) if isinstance(true, nn.Linear) else (2, true.in_channels, 16, 16)
    sources = [torch.randn(shape) for _ in range(3)]
    missed = fit_layer(found, [(x, true(x)) for x in sources], ridge=0.0)
    assert missed < 1e-9
    assert torch.allclose(found.weight, true.weight, atol=1e-4)


def test_a_smaller_kernel_misses_less_than_the_same_kernel_cut_out():
    torch.manual_seed(0)
    wide, small = nn.Conv2d(3, 6, 5, padding=2), nn.Conv2d(3, 6, 3, padding=1)
    x = nn.functional.avg_pool2d(torch.randn(2, 3, 64, 64), 7, 1)
    y = wide(x).detach()
    with torch.no_grad():
        small.weight.copy_(wide.weight[:, :, 1:4, 1:4])
        small.bias.copy_(wide.bias)
        before = (small(x) - y).square().mean()
        fit_layer(small, [(x, y)])
        assert (small(x) - y).square().mean() < 0.5 * before


def test_a_strong_ridge_keeps_the_weights_that_the_layer_has():
    layer = nn.Linear(4, 2)
    before = layer.weight.detach().clone()
    fit_layer(layer, [(torch.randn(50, 4), torch.randn(50, 2))], ridge=1e9)
    assert torch.allclose(layer.weight, before, atol=1e-4)


def _settings(layer: nn.Module) -> tuple[str, ...]:
    if isinstance(layer, nn.Linear):
        return ("in_features", "out_features")
    return ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
