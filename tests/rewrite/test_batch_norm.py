"""BatchNorm folds into whatever linear layer stands before it, exactly."""

import pytest
import torch
from torch import nn

from edgegen.graph import trace
from edgegen.rewrite.batch_norm import fold_batch_norm


def settled(norm):
    """Give a norm statistics and weights that are not the identity."""
    for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
        nn.init.uniform_(tensor, 0.5, 2.0)
    return norm


CASES = {
    "convolution": (nn.Conv2d(3, 6, 3, groups=3), settled(nn.BatchNorm2d(6)), (2, 3, 8, 8)),
    "convolution without bias": (nn.Conv2d(3, 6, 3, bias=False), settled(nn.BatchNorm2d(6)), (2, 3, 8, 8)),
    "grouped transposed convolution": (nn.ConvTranspose2d(4, 6, 4, 2, 1, groups=2), settled(nn.BatchNorm2d(6)), (2, 4, 5, 5)),
    "linear": (nn.Linear(5, 7), settled(nn.BatchNorm1d(7)), (3, 5)),
    "nothing before it": (nn.ReLU(), settled(nn.BatchNorm2d(4)), (2, 4, 5, 5)),
}


@pytest.mark.parametrize("name", CASES)
def test_folding_keeps_the_output_and_removes_the_norm(name):
    layer, norm, shape = CASES[name]
    module = trace(nn.Sequential(layer, norm, nn.ReLU())).double()
    x = torch.randn(shape, dtype=torch.float64)
    expected = module(x)
    assert fold_batch_norm(module) == 1
    assert not any(isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)) for m in module.modules())
    assert (module(x) - expected).abs().max() < 1e-10


def test_a_layer_that_feeds_something_else_too_keeps_its_own_weights():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), settled(nn.BatchNorm2d(3))

        def forward(self, x):
            y = self.conv(x)
            return y + self.norm(y)

    module = trace(Shared()).double()
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    expected = module(x)
    fold_batch_norm(module)
    assert (module(x) - expected).abs().max() < 1e-10


def test_a_block_that_is_called_twice_computes_the_same_both_times():
    conv, norm = nn.Conv2d(3, 3, 3, 1, 1), settled(nn.BatchNorm2d(3))
    module = trace(nn.Sequential(conv, norm, conv, norm)).double()
    x = torch.randn(1, 3, 5, 5, dtype=torch.float64)
    expected = module(x)
    fold_batch_norm(module)
    assert (module(x) - expected).abs().max() < 1e-10
