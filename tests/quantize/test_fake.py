"""Fake quantisers round as int8 does and teach their ranges."""

import numpy as np
import pytest
import torch
from torch import nn

from edgegen.quantize.fake import FakeActivation, FakeWeight, Scheme

LEARNED = Scheme("test", symmetric=False, learned=True, sums=False, results=False)
SYMMETRIC = Scheme("test", symmetric=True, learned=True, sums=False, results=False)
OBSERVED = Scheme("test", symmetric=False, learned=False, sums=False, results=False)


@pytest.mark.parametrize("scheme", [LEARNED, SYMMETRIC, OBSERVED], ids=["asymmetric", "symmetric", "observed"])
def test_a_tensor_takes_at_most_256_values_zero_among_them_within_half_a_step_of_its_own(scheme: Scheme) -> None:
    x = torch.linspace(-1, 3, 4001)
    with torch.no_grad():
        made = FakeActivation(-1.0, 3.0, scheme)(x)
    step = (6 if scheme.symmetric else 4) / (254 if scheme.symmetric else 255)
    assert len(made.unique()) <= 256 and (made == 0).any()
    assert float((made - x).abs().max()) <= step * 1.01  # half a step, and another half where zero moved the grid


def test_gradients_pass_inside_of_the_range_and_stop_outside() -> None:
    x = torch.tensor([-2.0, 0.3, 5.0], requires_grad=True)
    FakeActivation(-1.0, 3.0, LEARNED)(x).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 0.0]


def test_a_range_that_cuts_off_what_matters_grows_and_one_that_wastes_steps_shrinks() -> None:
    torch.manual_seed(0)
    for start, better in ((0.5, np.greater), (50.0, np.less)):
        fake = FakeActivation(-start, start, LEARNED)
        optimizer = torch.optim.Adam(fake.parameters(), lr=2e-3)
        for _ in range(60):
            x = torch.randn(4096)
            optimizer.zero_grad()
            (fake(x) - x).square().mean().backward()
            optimizer.step()
        low, high = (float(end.detach()) for end in fake.span())
        assert better(high, start * (1.1 if better is np.greater else 0.9)) and better(-low, start * 1.0)


def test_a_range_that_the_back_end_finds_follows_what_passes_in_training_and_rests_in_evaluation() -> None:
    fake = FakeActivation(-1.0, 1.0, OBSERVED)
    assert list(fake.parameters()) == []
    with torch.no_grad():
        fake(torch.tensor([-4.0, 9.0]))
    assert [float(end.detach()) for end in fake.span()] == [-1.0, 1.0]
    fake(torch.tensor([-4.0, 9.0]))
    assert [float(end.detach()) for end in fake.span()] == [-4.0, 9.0]


@pytest.mark.parametrize(
    ("layer", "axis"), [(nn.Conv2d(4, 6, 3), 0), (nn.ConvTranspose2d(4, 6, 3), 1)], ids=["conv", "transposed"]
)
def test_weights_are_rounded_per_output_channel(layer: nn.Module, axis: int) -> None:
    weight = layer.weight.detach().transpose(0, axis).contiguous()
    weight[2] *= 50  # one loud channel must not coarsen the others
    made = FakeWeight(0)(weight)
    scale = weight.abs().amax(dim=(1, 2, 3), keepdim=True) / 127
    assert torch.allclose(made / scale, (made / scale).round(), atol=1e-3)
    assert float(((made - weight).abs() / scale).max()) <= 0.501
